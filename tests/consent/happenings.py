"""What can happen to people, as it is said of a programme: plain values that Hypothesis draws and prints.

How each is carried out is the town's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

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

    of: str  # "any", "write", "fault", "archived": what counts
    number: int = 0

    def counts(self, exchange: Exchange) -> bool:
        match self.of:
            case "write":
                return exchange.method not in READS
            case "fault":
                return exchange.fault is not None
            case "archived":
                return ("status", "archived") in exchange.query
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A webhook that was sent, and the word that it tells of."""

    destination: str
    body: bytes
    word: Word | None
