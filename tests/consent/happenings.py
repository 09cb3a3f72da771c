"""What can happen to people, as it is said of a programme: plain values that Hypothesis draws and prints.

How each is carried out is the town's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from segue.connectors.faults import FaultKind
from segue.connectors.traffic import READS, Exchange

from .truth import Word

HERE, ELSEWHERE = "here", "elsewhere"  # where a run is, and at the other account


class Act(StrEnum):
    """What somebody does at an account, or a marketer to them."""

    JOIN = "join"
    LEAVE = "leave"
    BOUNCE = "bounce"
    COMPLAIN = "complain"
    ERASE = "erase"
    ARCHIVE = "archive"
    EDIT = "edit"
    MOVE = "move"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When in a run something happens: at the so-manyth request of a kind, after the account has carried it out."""

    of: str  # "any", "write", "fault", "look": what counts
    number: int = 0

    def counts(self, exchange: Exchange) -> bool:
        match self.of:
            case "write":
                return not is_read(exchange)
            case "fault":
                return exchange.fault is not None
            case "look":
                return _is_look(exchange)
            case _:
                return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """Somebody does something at an account; `told` says that its webhook is there at once."""

    person: str
    destination: str
    act: Act
    told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Meanwhile:
    """What people do at a moment of a run; their destinations are HERE or ELSEWHERE."""

    moment: Moment
    doings: tuple[Doing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is new when a run begins, in this order; `edited` says that a marketer edited everybody there."""

    refused: tuple[str, Mapping[str, str]] | None
    edited: bool
    bought: Sequence[float]
    moved: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A run dies at its so-manyth request, before it is sent or after it was carried out."""

    number: int
    sent: bool


class Batch(StrEnum):
    """Which requests fail."""

    WRITE = "write"  # of many contacts, or of those who are made
    MOVE = "move"  # to another address


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """So many requests of a run fail, one after the other."""

    kind: FaultKind
    count: int
    batch: Batch = Batch.WRITE


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A webhook that was sent, and the word that it tells of."""

    destination: str
    body: bytes
    word: Word | None


def is_read(exchange: Exchange) -> bool:
    """Say whether a request changes nothing: HubSpot searches and reads by POST."""
    return exchange.method in READS or exchange.path.endswith(("/search", "/batch/read"))


def _is_look(exchange: Exchange) -> bool:
    """Say whether a request reads contacts, where a pull ends with it: Mailchimp's with the archived ones."""
    if "/lists/" in exchange.path:
        return ("status", "archived") in exchange.query
    return is_read(exchange) and exchange.path.endswith(("/contacts", "/contacts/search", "/profiles"))
