"""What the emulated Klaviyo may mail to an address, and every time an API write made that more.

No HTTP, and no profiles: consent and suppressions are kept by address. Settled by the specification: subscribing removes
UNSUBSCRIBE, SPAM_COMPLAINT and USER_SUPPRESSED, and unsuppressing USER_SUPPRESSED alone. Unsettled, and decided here for
the worst: an address that was never asked is mailed as soon as somebody has it; whoever moves to a new address leaves a
refusal behind; an erased address comes back as if nothing had been; subscribing forgets the refusals of single lists too.
The permissive mode removes every suppression.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from ...emulator import Raise
from .timeline import Timeline

NEVER, SUBSCRIBED, UNSUBSCRIBED = "NEVER_SUBSCRIBED", "SUBSCRIBED", "UNSUBSCRIBED"
UNSUBSCRIBE, COMPLAINT, SUPPRESSED, BOUNCE = "UNSUBSCRIBE", "SPAM_COMPLAINT", "USER_SUPPRESSED", "HARD_BOUNCE"
_ENDED_BY_SUBSCRIBING = (UNSUBSCRIBE, COMPLAINT, SUPPRESSED)


@dataclass(slots=True)
class Standing:
    """What one address has agreed to and refused. `refused` is how the person last said no, None when they did not.

    `pending` are the lists whose confirmation mail was sent, "" for none in particular, each with the request's own source.
    """

    address: str
    consent: str = NEVER
    consented_at: datetime | None = None
    changed_at: datetime | None = None
    method: str | None = None
    source: str | None = None
    double_optin: bool | None = None
    suppressions: dict[str, datetime] = field(default_factory=dict)
    list_suppressions: dict[str, datetime] = field(default_factory=dict)
    refused: str | None = None
    pending: dict[str, str | None] = field(default_factory=dict)
    held: bool = False  # gets nothing until confirmed: so kind is the permissive mode alone
    confirmation_mails: int = 0

    @property
    def mailable(self) -> bool:
        """Whether mailings reach the address."""
        return self.consent != UNSUBSCRIBED and not self.suppressions and not self.held

    @property
    def word(self) -> str:
        """Klaviyo's word for it: the suppression that weighs, or the consent."""
        others = [reason for reason in self.suppressions if reason != UNSUBSCRIBE]
        return others[0] if others else self.consent


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How somebody is subscribed: when and through what they agreed; `request` is None for their own form."""

    at: datetime
    now: datetime
    method: str = "API"
    source: str | None = None
    double_optin: bool = False
    request: int | None = None


class Standings:
    """The standings of all addresses, also of those that nobody has any more; keys are lower case."""

    def __init__(self) -> None:
        self._book: dict[str, Standing] = {}
        self._erased: set[str] = set()
        self.asked: Counter[str] = Counter()  # subscriptions accepted and not yet carried out
        self.raises: list[Raise] = []
        self.suppressed = Timeline()
        self.list_suppressed = Timeline()

    def of(self, address: str) -> Standing | None:
        """Find an address's standing."""
        return self._book.get(address)

    @property
    def erased(self) -> int:
        """How many addresses were erased and have not come back by themselves."""
        return len(self._erased)

    def join(
        self, address: str, *, request: int | None, before: Standing | None = None, held: bool = False
    ) -> Standing:
        """Give a profile's new address its standing; `before` is that of the address which it leaves."""
        known = self._book.get(address)
        standing = known or Standing(address, held=held)
        self._book[address] = standing
        if request is not None and self._erased and _digest(address) in self._erased:
            self.note(standing, "ERASED", standing.word, "erase", request)
        elif request is not None and standing.mailable:
            if before is not None and before.refused is not None and not before.mailable:
                self.note(standing, before.word, standing.word, before.refused, request)
            elif before is None and standing.consent == NEVER and not self.asked[address]:
                self.note(standing, "ABSENT", standing.word, None, request)
        return standing

    def note(self, standing: Standing, before: str, after: str, refused: str | None, request: int) -> None:
        """Remember that a write made somebody mailable who had said no, or whom nobody had asked for."""
        self.raises.append(
            Raise(address=standing.address, before=before, after=after, refused=refused, request=request)
        )

    def subscribe(self, standing: Standing, agreement: Agreement, *, everything: bool = False) -> None:
        """Make an address subscribed; `everything` removes bounces too, as a form or the permissive mode does."""
        before = (standing.mailable, standing.word, standing.refused)
        by_person = agreement.request is None
        for reason in list(standing.suppressions):
            if everything or by_person or reason in _ENDED_BY_SUBSCRIBING:
                del standing.suppressions[reason]
        left = bool(standing.list_suppressions)
        standing.list_suppressions.clear()
        standing.consent, standing.held = SUBSCRIBED, False
        standing.consented_at, standing.changed_at = agreement.at, agreement.now
        standing.method, standing.source = agreement.method, agreement.source
        standing.double_optin = agreement.double_optin
        standing.pending.clear()
        self._index(standing)
        if agreement.request is not None:
            mailable, word, refused = before
            if standing.mailable and not mailable and refused is not None:
                self.note(standing, word, standing.word, refused, agreement.request)
            elif left:
                self.note(standing, "LIST_UNSUBSCRIBED", standing.word, "list", agreement.request)
        if standing.mailable:
            standing.refused = None
            self._erased.discard(_digest(standing.address))

    def ask(self, standing: Standing, where: str, source: str | None, request: int) -> None:
        """Send a confirmation mail; to somebody who said no that is a raise. Repeating it sends another."""
        if standing.refused is not None and not standing.mailable:
            self.note(standing, standing.word, "PENDING", standing.refused, request)
        standing.pending[where] = source
        standing.confirmation_mails += 1

    def unsubscribe(self, standing: Standing, now: datetime, *, how: str) -> None:
        """Take somebody off everything; `how` is their act, or "api"."""
        standing.consent, standing.consented_at, standing.changed_at = UNSUBSCRIBED, now, now
        standing.method = "API" if how == "api" else "UNSUBSCRIBE_LINK"
        standing.pending.clear()
        self.suppress(standing, UNSUBSCRIBE, now, how=how)

    def leave_list(self, standing: Standing, list_id: str, now: datetime) -> None:
        """Take somebody off one list for good, and off nothing else."""
        standing.list_suppressions[list_id] = now
        standing.changed_at = now
        standing.pending.pop(list_id, None)
        self._index(standing)

    def suppress(self, standing: Standing, reason: str, now: datetime, *, how: str) -> None:
        """Mail nothing more to an address, whatever it agreed to."""
        standing.suppressions.setdefault(reason, now)
        standing.changed_at = now
        standing.refused = standing.refused if standing.refused not in {None, "api"} else how
        self._index(standing)

    def unsuppress(self, standing: Standing, now: datetime, *, request: int, everything: bool) -> bool:
        """Remove what was suppressed by hand, in the permissive mode all refusals; say whether that was anything."""
        mailable, word = standing.mailable, standing.word
        gone = set(standing.suppressions) & ({*standing.suppressions} if everything else {SUPPRESSED})
        for reason in gone:
            del standing.suppressions[reason]
        if everything and standing.consent == UNSUBSCRIBED:
            standing.consent = NEVER
        if not gone:
            return False
        standing.changed_at = now
        self._index(standing)
        if standing.mailable and not mailable and standing.refused is not None:
            self.note(standing, word, standing.word, standing.refused, request)
            standing.refused = None
        return True

    def blend(self, kept: Standing, source: Standing, *, now: datetime, request: int | None) -> None:
        """Give a merged profile's address what the other one could be mailed for; refusals of the other are lost."""
        if kept.mailable or not source.mailable:
            return
        before, refused = kept.word, kept.refused
        kept.suppressions.clear()
        kept.consent, kept.consented_at, kept.changed_at = source.consent, source.consented_at, now
        kept.refused, kept.held = None, False
        self._index(kept)
        if request is not None and refused is not None:
            self.note(kept, before, kept.word, refused, request)

    def erase(self, address: str) -> None:
        """Forget an address; only a digest stays, to know it by should it come back."""
        self._book.pop(address, None)
        self.suppressed.drop(address)
        self.list_suppressed.drop(address)
        self._erased.add(_digest(address))

    def _index(self, standing: Standing) -> None:
        for timeline, instants in (
            (self.suppressed, standing.suppressions.values()),
            (self.list_suppressed, standing.list_suppressions.values()),
        ):
            if instants:
                newest = max(instants)
                if standing.address not in timeline or timeline.at(standing.address) != newest:
                    timeline.put(standing.address, newest)
            else:
                timeline.drop(standing.address)


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()
