"""Who may be mailed in the emulated HubSpot: opt-outs, statuses, bounces and erasures, all by address.

HubSpot ties every refusal to the address, not to the record: whoever left is mailable again as soon as their record has
another address. No records and no HTTP here; `records.py` notices what a write does to people.

Unsettled, and worst in the adversarial mode:

* SUBSCRIBED written for one type over an opt-out from all e-mail ends that opt-out for every type; permissive: for this
  type alone;
* SUBSCRIBED written for an address that bounced or was erased is answered as done, and changes nothing of that;
  permissive: ends it, so that every raise of consent succeeds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ....core.consent import ConsentState
from .settings import Settings


class Status(StrEnum):
    """What was chosen for a subscription type."""

    SUBSCRIBED = "SUBSCRIBED"
    UNSUBSCRIBED = "UNSUBSCRIBED"
    NOT_SPECIFIED = "NOT_SPECIFIED"


class Reason(StrEnum):
    """What came of writing a status."""

    UNCHANGED = "NO_STATUS_CHANGE"
    CHANGED = "REQUESTED_CHANGE_OCCURRED"
    RESUBSCRIBED = "RESUBSCRIBE_OCCURRED"
    LEFT_ALL = "UNSUBSCRIBE_FROM_ALL_OCCURRED"


BY_API = "api"  # how a write refuses, in the place of a person

LEGAL_BASES = frozenset(
    {
        "LEGITIMATE_INTEREST_PQL",
        "LEGITIMATE_INTEREST_CLIENT",
        "LEGITIMATE_INTEREST_OTHER",
        "PERFORMANCE_OF_CONTRACT",
        "CONSENT_WITH_NOTICE",
        "NON_GDPR",
        "PROCESS_AND_STORE",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionType:
    """A kind of e-mail that people can leave by itself. An internal one is mail between two people, not marketing."""

    id: int
    name: str
    description: str
    purpose: str
    internal: bool = False


TYPES: Mapping[int, SubscriptionType] = {
    each.id: each
    for each in (
        SubscriptionType(
            id=2001001, name="Marketing Information", description="Offers and news.", purpose="Marketing"
        ),
        SubscriptionType(
            id=2001002, name="Newsletter", description="Our monthly letter.", purpose="Newsletter"
        ),
        SubscriptionType(
            id=2001003, name="One to One", description="One to one e-mails.", purpose="Sales", internal=True
        ),
    )
}
_MARKETING = frozenset(each.id for each in TYPES.values() if not each.internal)
_NOBODY: frozenset[int] = frozenset()


@dataclass(slots=True, kw_only=True)
class Choice:
    """The status of one type. `how` says how it was refused, None when it was not."""

    status: Status
    at: datetime
    how: str | None = None
    legal_basis: str | None = None
    explanation: str | None = None


@dataclass(slots=True)
class Standing:
    """All that is known of one address. Each refusal is kept as the way in which it was said."""

    left: str | None = None  # all e-mail
    left_at: datetime | None = None
    bounced: str | None = None
    erased: str | None = None
    choices: dict[int, Choice] = field(default_factory=dict)


class Consent:
    """Every address of which something is known; of all others nothing was ever said."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self.addresses: dict[str, Standing] = {}

    def mailable(self, address: str) -> frozenset[int]:
        """Give the types of marketing mail that would go to an address."""
        privacy = self._settings().data_privacy
        standing = self.addresses.get(address)
        if not address:
            return _NOBODY
        if standing is None:
            return _NOBODY if privacy else _MARKETING
        if standing.left or standing.bounced or standing.erased:
            return _NOBODY
        return frozenset(each for each in _MARKETING if _goes(_status(standing, each), privacy=privacy))

    def refusals(self, address: str, *, of_address: bool = False) -> dict[int, str]:
        """Say how each type was refused. What the address alone is at fault for counts only on request."""
        standing = self.addresses.get(address)
        if standing is None:
            return {}
        refused = {number: each.how for number, each in standing.choices.items() if each.how is not None}
        everything = standing.left
        if of_address:
            everything = standing.erased or everything or standing.bounced
        return together(refused, dict.fromkeys(_MARKETING, everything)) if everything else refused

    def state(self, address: str) -> ConsentState:
        """Say what HubSpot does with an address."""
        if self.mailable(address):
            return ConsentState.SUBSCRIBED
        standing = self.addresses.get(address)
        if standing is not None and (standing.bounced or standing.erased):
            return ConsentState.SUPPRESSED
        return ConsentState.UNSUBSCRIBED if self.refusals(address) else ConsentState.UNKNOWN

    def word(self, address: str) -> str:
        """Say in HubSpot's words how an address stands."""
        standing = self.addresses.get(address)
        if standing is None:
            return "NOT_SPECIFIED"
        if standing.erased:
            return "blocked"
        if standing.bounced:
            return "bounced"
        if standing.left:
            return "unsubscribed from all"
        return "/".join(sorted({each.status for each in standing.choices.values()})) or "NOT_SPECIFIED"

    def mirrors(self, address: str) -> dict[str, str]:
        """Give the properties in which a record shows how its address stands."""
        standing = self.addresses.get(address)
        if standing is None:
            return {}
        shown = {"hs_email_optout": "true" if standing.left else "false"}
        for number, choice in standing.choices.items():
            shown[mirror_of(number)] = "true" if choice.status is Status.UNSUBSCRIBED else "false"
        if standing.bounced:
            shown |= {
                "hs_email_bounce": "1",
                "hs_email_hard_bounce_reason_enum": standing.bounced,
                "hs_email_quarantined": "true",
            }
        return shown

    def blocked(self, address: str) -> bool:
        """Whether an address was erased, and may not be used again."""
        standing = self.addresses.get(address)
        return standing is not None and standing.erased is not None

    def choose(self, address: str, number: int, choice: Choice) -> Reason:
        """Write the status of one type, and say what came of it."""
        standing = self._standing(address)
        before = standing.choices.get(number)
        if choice.status is Status.SUBSCRIBED:
            return self._subscribe(standing, number, choice)
        was = Status.NOT_SPECIFIED if before is None else before.status
        if choice.status is Status.UNSUBSCRIBED and before is not None:
            choice.how = _weightier(before.how, choice.how)
        standing.choices[number] = choice
        return Reason.UNCHANGED if was is choice.status else Reason.CHANGED

    def _subscribe(self, standing: Standing, number: int, choice: Choice) -> Reason:
        before = standing.choices.get(number)
        refused = standing.left is not None or (before is not None and before.status is Status.UNSUBSCRIBED)
        if self._settings().permissive:
            if standing.left is not None:
                for other in TYPES.keys() - standing.choices.keys():
                    standing.choices[other] = Choice(
                        status=Status.UNSUBSCRIBED, at=choice.at, how=standing.left
                    )
            standing.bounced = standing.erased = None
        standing.left = standing.left_at = None
        standing.choices[number] = choice
        if refused:
            return Reason.RESUBSCRIBED
        unchanged = before is not None and before.status is Status.SUBSCRIBED
        return Reason.UNCHANGED if unchanged else Reason.CHANGED

    def leave(self, address: str, how: str, now: datetime) -> None:
        """Opt an address out of all e-mail."""
        standing = self._standing(address)
        standing.left = _weightier(standing.left, how)
        standing.left_at = standing.left_at or now

    def bounce(self, address: str) -> None:
        """Let mail to an address come back for good."""
        self._standing(address).bounced = "UNKNOWN_USER"

    def erase(self, address: str) -> None:
        """Forget what was said, and block the address."""
        self.addresses[address] = Standing(erased="erase")

    def join(self, address: str, now: datetime) -> None:
        """Let the person sign up by a form: ends every refusal."""
        chosen = {number: Choice(status=Status.SUBSCRIBED, at=now) for number in _MARKETING}
        self.addresses[address] = Standing(choices=chosen)

    def unblock(self, address: str) -> None:
        """Let an erased address be used again."""
        self._standing(address).erased = None

    def _standing(self, address: str) -> Standing:
        return self.addresses.setdefault(address, Standing())


def _status(standing: Standing, number: int) -> Status:
    choice = standing.choices.get(number)
    return Status.NOT_SPECIFIED if choice is None else choice.status


def _goes(status: Status, *, privacy: bool) -> bool:
    return status is Status.SUBSCRIBED or (status is Status.NOT_SPECIFIED and not privacy)


def _weightier(one: str | None, other: str | None) -> str | None:
    return other or one if one in {None, BY_API} else one


def together(some: Mapping[int, str], others: Mapping[int, str]) -> dict[int, str]:
    """Put refusals together: what a person said counts before what a write said for them, and then the first."""
    kept = {number: how for number, how in some.items() if how != BY_API or number not in others}
    return {**others, **kept}


def mirror_of(number: int) -> str:
    """Name the property that shows whether a type was left."""
    return f"hs_email_optout_{number}"
