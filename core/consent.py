"""Who may be mailed: states, evidence, and the one function that merges what different places know.

A `ConsentRecord` is instants, the latest of each kind of act, and `merge` takes the later of each. That makes
merging associative, commutative and idempotent: order of arrival, repetition and grouping cannot change the answer.
`effective` then reads the state off the record, by the law that holds for the contact (`Regime`). Records of a person
and of an address merge like any other two, because a withdrawal belongs to both.

The loser was a state machine fed in order of arrival: it needs every source's clock to agree, and webhooks do not
arrive in order.
"""

import re
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
    RESIDENCE = (
        "residence"  # known to live where silence is no consent: no opt-out law counts for them any more
    )
    BASIS = "basis"  # written under an opt-out law without a grant: says so for the record, and counts for nothing


class Regime(StrEnum):
    """What the law asks for before a contact may be mailed. All three obey whoever says no."""

    OPT_IN = "opt_in"  # a grant with evidence; GDPR
    DOUBLE_OPT_IN = "double_opt_in"  # a grant whose evidence says that it was confirmed
    OPT_OUT = "opt_out"  # nothing, as long as nobody ever said anything; CAN-SPAM, CCPA


CONFIRMATION = "confirmed_at"
"""The name in a grant's evidence that says when the contact confirmed it, by the link in a mail."""

_DAY_OF_A_MAIL = re.compile(r"(?<!\d)(199\d|20\d\d)")
"""What any way to write such a day has in it: its year. `N/A`, `false` and 0000-00-00 have not."""


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
    """The latest instant of each kind of act, None where there was none. `confirmed_at` is that of a confirmed grant."""

    granted_at: datetime | None = None
    requested_at: datetime | None = None
    withdrawn_at: datetime | None = None
    suppressed_at: datetime | None = None
    released_at: datetime | None = None
    confirmed_at: datetime | None = None
    resident_at: datetime | None = None


REGIME_INSTANTS = ("confirmed_at", "resident_at")
"""The instants of a record that count only where a project knows more than opt-in."""

NOTHING_RECORDED = ConsentRecord()

_INSTANT = {
    ConsentAct.GRANT: "granted_at",
    ConsentAct.REQUEST: "requested_at",
    ConsentAct.WITHDRAWAL: "withdrawn_at",
    ConsentAct.SUPPRESSION: "suppressed_at",
    ConsentAct.RELEASE: "released_at",
    ConsentAct.RESIDENCE: "resident_at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A state, and the kind and the instant of the act that decides it: None where it is decided by silence."""

    state: ConsentState
    act: ConsentAct | None = None
    at: datetime | None = None


def record(entry: ConsentEntry) -> ConsentRecord:
    """Read one ledger entry. A grant without evidence, or with only empty values as evidence, records nothing.

    It is a confirmed one if its evidence says when: a text without a year says nothing.
    """
    if entry.act is ConsentAct.BASIS:
        return NOTHING_RECORDED
    if entry.act is ConsentAct.GRANT:
        if not any(value.strip() for value in entry.evidence.values()):
            return NOTHING_RECORDED
        if _DAY_OF_A_MAIL.search(entry.evidence.get(CONFIRMATION, "")):
            return ConsentRecord(granted_at=entry.occurred_at, confirmed_at=entry.occurred_at)
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


def effective(known: ConsentRecord, regime: Regime = Regime.OPT_IN) -> ConsentState:
    """Decide. On a tie the side that mails less wins.

    >>> from datetime import UTC, datetime
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> effective(ConsentRecord(granted_at=noon, withdrawn_at=noon)).value
    'unsubscribed'
    """
    return verdict(known, regime).state


def verdict(known: ConsentRecord, regime: Regime = Regime.OPT_IN) -> Verdict:
    """Decide, and say which act decided."""
    if known.suppressed_at is not None and not _after(known.released_at, known.suppressed_at):
        return Verdict(state=ConsentState.SUPPRESSED, act=ConsentAct.SUPPRESSION, at=known.suppressed_at)
    # A suppression that was released leaves its trace: a grant older than it does not come back to life.
    stopped_at = _later(known.withdrawn_at, known.suppressed_at)
    granted_at, asked_at = known.granted_at, known.requested_at
    if regime is Regime.DOUBLE_OPT_IN:  # a yes that nobody confirmed is a question still
        granted_at, asked_at = known.confirmed_at, _later(asked_at, granted_at)
    if _after(granted_at, stopped_at):
        return Verdict(state=ConsentState.SUBSCRIBED, act=ConsentAct.GRANT, at=granted_at)
    if _after(asked_at, stopped_at):
        act = ConsentAct.REQUEST if asked_at == known.requested_at else ConsentAct.GRANT
        return Verdict(state=ConsentState.PENDING, act=act, at=asked_at)
    if stopped_at is not None:
        act = ConsentAct.WITHDRAWAL if stopped_at == known.withdrawn_at else ConsentAct.SUPPRESSION
        return Verdict(state=ConsentState.UNSUBSCRIBED, act=act, at=stopped_at)
    if regime is Regime.OPT_OUT and known.resident_at is None:
        return Verdict(state=ConsentState.SUBSCRIBED)
    return Verdict(state=ConsentState.UNKNOWN)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)


def _after(instant: datetime | None, limit: datetime | None) -> bool:
    return instant is not None and (limit is None or instant > limit)
