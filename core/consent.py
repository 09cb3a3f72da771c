"""Who may be mailed: states, evidence, and the one function that merges what different places know.

A `ConsentRecord` is five instants, the latest of each kind of act, and `merge` takes the later of each. That makes
merging associative, commutative and idempotent: order of arrival, repetition and grouping cannot change the answer.
`effective` then reads the state off the record. Records of a person and of an address merge like any other two,
because a withdrawal belongs to both.

The loser was a state machine fed in order of arrival: it needs every source's clock to agree, and webhooks do not
arrive in order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import reduce


class ConsentState(StrEnum):
    """Whether a contact may be mailed; the order of severity is that of `effective`."""

    SUBSCRIBED = "subscribed"
    PENDING = "pending"  # asked to confirm, has not yet
    UNSUBSCRIBED = "unsubscribed"
    SUPPRESSED = "suppressed"  # bounced, complained, erased: only a person's explicit act ends it
    UNKNOWN = "unknown"


MAILABLE = frozenset({ConsentState.SUBSCRIBED, ConsentState.PENDING})
LEFT = frozenset({ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED})


class ConsentAct(StrEnum):
    """What somebody did, or the mail system on their behalf."""

    GRANT = "grant"
    REQUEST = "request"  # a confirmation mail is out
    WITHDRAWAL = "withdrawal"
    SUPPRESSION = "suppression"
    RELEASE = "release"  # a human act that ends a suppression; it grants nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEntry:
    """One line of the ledger. `occurred_at` is when the person acted, aware UTC.

    `evidence` says how the act can be proved: text version, form, IP or reference. A grant without any is kept in
    the ledger and counts for nothing.
    """

    act: ConsentAct
    occurred_at: datetime
    source: str
    channel: str = "email"
    purpose: str = "marketing"
    evidence: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRecord:
    """The latest instant of each kind of act, None where there was none."""

    granted_at: datetime | None = None
    requested_at: datetime | None = None
    withdrawn_at: datetime | None = None
    suppressed_at: datetime | None = None
    released_at: datetime | None = None


NOTHING_RECORDED = ConsentRecord()

_INSTANT = {
    ConsentAct.GRANT: "granted_at",
    ConsentAct.REQUEST: "requested_at",
    ConsentAct.WITHDRAWAL: "withdrawn_at",
    ConsentAct.SUPPRESSION: "suppressed_at",
    ConsentAct.RELEASE: "released_at",
}


def record(entry: ConsentEntry) -> ConsentRecord:
    """Read one ledger entry. A grant without evidence, or with only empty values as evidence, records nothing."""
    if entry.act is ConsentAct.GRANT and not any(value.strip() for value in entry.evidence.values()):
        return NOTHING_RECORDED
    return ConsentRecord(**{_INSTANT[entry.act]: entry.occurred_at})


def merge(one: ConsentRecord, other: ConsentRecord) -> ConsentRecord:
    """Join what two places know: the later instant of each kind of act."""
    if one is NOTHING_RECORDED:  # as it mostly is: of an address alone little is known
        return other
    if other is NOTHING_RECORDED:
        return one
    return ConsentRecord(
        **{
            slot.name: _later(getattr(one, slot.name), getattr(other, slot.name))
            for slot in fields(ConsentRecord)
        }
    )


def merge_all(records: Iterable[ConsentRecord]) -> ConsentRecord:
    """Merge any number of records; none at all is a contact of whom nothing is known."""
    return reduce(merge, records, NOTHING_RECORDED)


def effective(known: ConsentRecord) -> ConsentState:
    """Decide. On a tie the side that mails less wins.

    >>> from datetime import UTC, datetime
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> effective(ConsentRecord(granted_at=noon, withdrawn_at=noon)).value
    'unsubscribed'
    """
    if known.suppressed_at is not None and not _after(known.released_at, known.suppressed_at):
        return ConsentState.SUPPRESSED
    # A suppression that was released leaves its trace: a grant older than it does not come back to life.
    stopped_at = _later(known.withdrawn_at, known.suppressed_at)
    if _after(known.granted_at, stopped_at):
        return ConsentState.SUBSCRIBED
    if _after(known.requested_at, stopped_at):
        return ConsentState.PENDING
    if stopped_at is not None:
        return ConsentState.UNSUBSCRIBED
    return ConsentState.UNKNOWN


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)


def _after(instant: datetime | None, limit: datetime | None) -> bool:
    return instant is not None and (limit is None or instant > limit)
