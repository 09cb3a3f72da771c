"""The endpoints that subscribe and unsubscribe the emulated Klaviyo's people: accepted with 202, without a job to ask about.

What it does to a person is in `consent.py`. Unsettled, and at the worst: an unsubscription takes effect at once while a
subscription waits, and so overtakes it; one wrong address refuses the whole request.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from ...emulator import Answer, Call, Handler
from .account import Account, refused_profile
from .answers import invalid
from .consent import Consent, Terms
from .profiles import ProfileError, checked

_SUBSCRIBED, _UNSUBSCRIBED = 1000, 100
_AT = "/data/attributes/profiles/data"


class ConsentEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, path template and handler of each."""
        return [
            ("POST", "/api/profile-subscription-bulk-create-jobs", self._subscribe),
            ("POST", "/api/profile-subscription-bulk-delete-jobs", self._unsubscribe),
        ]

    def _subscribe(self, call: Call) -> Answer:
        account, data = self._account, self._account.body_of(call)
        now = account.clock.now()
        historical = data["attributes"].get("historical_import") is True
        people = []
        for number, item in enumerate(_items(data, _SUBSCRIBED)):
            at = f"{_AT}/{number}/attributes"
            who = _who(item, at)
            consented = _consented_at(item["attributes"]["subscriptions"], at, now, historical=historical)
            people.append((who, consented))
        terms = Terms(
            request=call.number,
            list_id=self._list(data),
            source=data["attributes"].get("custom_source"),
            historical=historical,
        )
        asked = [who["email"] for who, _ in people if "email" in who]
        account.standings.asked.update(asked)
        account.errands.send(self._due(), partial(_subscribed, account, people, terms, asked))
        return Answer(status=202)

    def _unsubscribe(self, call: Call) -> Answer:
        account, data = self._account, self._account.body_of(call)
        people = []
        for number, item in enumerate(_items(data, _UNSUBSCRIBED)):
            at = f"{_AT}/{number}/attributes"
            _only_email(item["attributes"]["subscriptions"], at)
            people.append(_who(item, at))
        list_id = self._list(data)
        due = account.clock.now() if account.worst else self._due()
        account.errands.send(due, partial(_unsubscribed, account, people, list_id))
        account.tick()
        return Answer(status=202)

    def _due(self) -> datetime:
        return self._account.clock.now() + timedelta(seconds=self._account.settings.consent_seconds)

    def _list(self, data: Mapping[str, Any]) -> str | None:
        found = data.get("relationships", {}).get("list", {}).get("data")
        return None if found is None else self._account.list_of(found["id"]).id


def _subscribed(
    account: Account,
    people: Sequence[tuple[Mapping[str, Any], datetime | None]],
    terms: Terms,
    asked: Sequence[str],
    now: datetime,
) -> None:
    consent = Consent(account)
    for who, consented in people:
        consent.subscribe(who, terms, consented, now)
    account.standings.asked.subtract(asked)


def _unsubscribed(
    account: Account, people: Sequence[Mapping[str, Any]], list_id: str | None, now: datetime
) -> None:
    consent = Consent(account)
    for who in people:
        consent.unsubscribe(who, list_id, now)


def _items(data: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = data["attributes"]["profiles"]["data"]
    if not 1 <= len(items) <= most:
        raise invalid(f"Between 1 and {most} profiles are taken at once.", pointer=_AT)
    return items


def _who(item: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Give the identifiers of one profile, the id alone if there is one; or refuse."""
    if item.get("id"):
        return {"id": item["id"]}
    attributes = item["attributes"]
    who = {name: attributes[name] for name in ("email", "phone_number") if attributes.get(name)}
    if not who:
        raise invalid("An id, an email or a phone_number is required.", pointer=at)
    try:
        return checked(who)
    except ProfileError as error:
        raise refused_profile(error, at.removesuffix("/attributes")) from None


def _only_email(subscriptions: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    """Give what is said of marketing by e-mail; the sandbox account has no other channel."""
    marketing = (subscriptions.get("email") or {}).get("marketing")
    others = [name for name in subscriptions if name != "email"]
    if others or marketing is None or "open_tracking" in subscriptions["email"]:
        raise invalid("The sandbox has e-mail marketing alone.", pointer=f"{at}/subscriptions")
    found: Mapping[str, Any] = marketing
    return found


def _consented_at(
    subscriptions: Mapping[str, Any], at: str, now: datetime, *, historical: bool
) -> datetime | None:
    """Read when somebody agreed: needed for a historical import, and for nothing else; or refuse."""
    text = _only_email(subscriptions, at).get("consented_at")
    pointer = f"{at}/subscriptions/email/marketing/consented_at"
    if not historical:
        if text is not None:
            raise invalid("consented_at is for a historical_import alone.", pointer=pointer)
        return None
    if text is None:
        raise invalid("A historical_import needs consented_at.", pointer=pointer)
    instant = datetime.fromisoformat(text)
    if instant >= now:
        raise invalid("consented_at must be in the past.", pointer=pointer)
    return instant
