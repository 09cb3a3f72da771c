"""The communication preferences of the emulated HubSpot: statuses of an address, in the forms v3, v4 and dated.

What a status does to people is in `consent.py` and `records.py`. Settled by sources: v3 does not subscribe whoever opted
out, v4 and `resubscribe` do; batches need the scopes of Marketing Hub Enterprise; with data privacy switched on, each
write needs a legal basis and its explanation. Unsettled, and worst in the adversarial mode:

* v4 shows the types of which something was said, and an opt-out from all e-mail is not to be seen among them;
  permissive: all types, and the opt-out in each;
* NOT_SPECIFIED written over an opt-out from a type is taken, in both modes: without data privacy it is mailed again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...emulator import Answer, Call
from .account import Account
from .answers import (
    Json,
    answered,
    batch,
    body_of,
    flag,
    inputs_of,
    invalid,
    item_error,
    stamp,
    text_in,
    texts,
    unscoped,
)
from .consent import BY_API, LEGAL_BASES, TYPES, Choice, Reason, Standing, Status, SubscriptionType
from .definitions import is_address
from .paths import PREFERENCES, PREFERENCES_RESUBSCRIBE, PREFERENCES_V3, Endpoint, under
from .settings import Tier

_CHANNEL = "EMAIL"
_SCOPES = "communication_preferences.statuses.batch"
_MOST = 100


class PreferenceEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[Endpoint]:
        """Give method, path template and handler of each, the paths of single addresses last."""
        acts = [
            ("GET", "/definitions", self._definitions),
            ("POST", "/statuses/batch/read", self._read_batch),
            ("POST", "/statuses/batch/write", self._write_batch),
            ("POST", "/statuses/batch/unsubscribe-all", self._leave_batch),
            ("POST", "/statuses/batch/unsubscribe-all/read", self._left_batch),
            ("GET", "/statuses/{address}", self._read),
            ("POST", "/statuses/{address}", self._write),
            ("GET", "/statuses/{address}/unsubscribe-all", self._left),
            ("POST", "/statuses/{address}/unsubscribe-all", self._leave),
        ]
        return [
            *(each for method, rest, act in acts for each in under(PREFERENCES, method, rest, act)),
            *under(PREFERENCES_V3, "GET", "/definitions", self._definitions_v3),
            *under(PREFERENCES_V3, "GET", "/status/email/{address}", self._read_v3),
            *under(PREFERENCES_V3, "POST", "/subscribe", self._subscribe_v3),
            *under(PREFERENCES_V3, "POST", "/unsubscribe", self._unsubscribe_v3),
            *under(PREFERENCES_RESUBSCRIBE, "POST", "/resubscribe", self._resubscribe),
        ]

    # v4 and dated

    def _definitions(self, _: Call) -> Answer:
        return batch([self._definition(each) for each in TYPES.values()], self._account.clock.now())

    def _read(self, call: Call) -> Answer:
        return self._answer(self._statuses(_address_of(call)))

    def _write(self, call: Call) -> Answer:
        address, body = _address_of(call), body_of(call)
        return self._answer([self._write_one(call, address, body)])

    def _left(self, call: Call) -> Answer:
        return self._answer(self._wide(_address_of(call)))

    def _leave(self, call: Call) -> Answer:
        rows = self._leave_one(_address_of(call))
        return self._answer(rows if flag(call, "verbose") else [])

    # Batches

    def _read_batch(self, call: Call) -> Answer:
        return self._each(call, "read", "statuses", self._statuses)

    def _left_batch(self, call: Call) -> Answer:
        return self._each(call, "read", "wideStatuses", self._wide)

    def _leave_batch(self, call: Call) -> Answer:
        return self._each(call, "write", "statuses", self._leave_one)

    def _write_batch(self, call: Call) -> Answer:
        self._admit_batch(call, "write")
        rows, errors = [], []
        for item in inputs_of(call, body_of(call), maximum=_MOST):
            text = text_in(call, item, "subscriberIdString")
            _refuse_other_channel(call, item.get("channel"))
            if is_address(text):
                rows.append(self._write_one(call, text.lower(), item))
            else:
                errors.append(_no_address(text))
        return self._answer(rows, errors)

    def _each(self, call: Call, scope: str, name: str, act: Callable[[str], list[Json]]) -> Answer:
        self._admit_batch(call, scope)
        _refuse_other_channel(call, call.query.get("channel"))
        inputs = texts(call, body_of(call).get("inputs"), "inputs")
        if not 0 < len(inputs) <= _MOST:
            raise invalid(call, f"inputs must be 1 to {_MOST} addresses")
        good = [text for text in inputs if is_address(text)]
        rows = [{"subscriberIdString": text, name: act(text.lower())} for text in good]
        return self._answer(rows, [_no_address(text) for text in inputs if not is_address(text)])

    def _admit_batch(self, call: Call, scope: str) -> None:
        if self._account.settings.tier is not Tier.ENTERPRISE:
            raise unscoped(call, f"{_SCOPES}.{scope}")

    # v3

    def _definitions_v3(self, _: Call) -> Answer:
        return answered({"subscriptionDefinitions": [self._definition(each) for each in TYPES.values()]})

    def _read_v3(self, call: Call) -> Answer:
        address = _plain_address(call, call.parameters["address"])
        rows = [self._status_v3(address, kind) for kind in TYPES.values()]
        return answered({"recipient": address, "subscriptionStatuses": rows})

    def _subscribe_v3(self, call: Call) -> Answer:
        address, kind, choice = self._told_v3(call, Status.SUBSCRIBED)
        refused = self._account.consent.refusals(address, of_address=True)
        standing = self._account.consent.addresses.get(address)
        left = standing is not None and standing.left is not None
        if (left or kind.id in refused) and not self._account.settings.permissive:
            raise invalid(call, f"{address} has opted out and cannot be subscribed again")
        self._account.records.choose(address, kind.id, choice, request=call.number)
        return answered(self._status_v3(address, kind))

    def _unsubscribe_v3(self, call: Call) -> Answer:
        address, kind, choice = self._told_v3(call, Status.UNSUBSCRIBED)
        self._account.records.choose(address, kind.id, choice, request=call.number)
        return answered(self._status_v3(address, kind))

    def _resubscribe(self, call: Call) -> Answer:
        address, kind, choice = self._told_v3(call, Status.SUBSCRIBED)
        self._account.records.choose(address, kind.id, choice, request=call.number)
        return answered(self._status_v3(address, kind))

    def _told_v3(self, call: Call, status: Status) -> tuple[str, SubscriptionType, Choice]:
        body = body_of(call)
        address = _plain_address(call, text_in(call, body, "emailAddress"))
        text = text_in(call, body, "subscriptionId")
        kind = TYPES.get(int(text) if text.isascii() and text.isdigit() else 0)
        if kind is None:
            raise invalid(call, f"There is no subscription {text}")
        return address, kind, self._choice(call, body, status)

    # What they share

    def _write_one(self, call: Call, address: str, body: Mapping[str, Any]) -> Json:
        number, state = body.get("subscriptionId"), body.get("statusState")
        _refuse_other_channel(call, body.get("channel"))
        if not isinstance(number, int) or isinstance(number, bool) or number not in TYPES:
            raise invalid(call, f"There is no subscription {number!r}")
        if state not in list(Status):
            raise invalid(call, f"statusState must be one of {', '.join(Status)}")
        choice = self._choice(call, body, Status(state))
        reason = self._account.records.choose(address, number, choice, request=call.number)
        return self._status(address, TYPES[number], choice, reason=reason)

    def _choice(self, call: Call, body: Mapping[str, Any], status: Status) -> Choice:
        basis, explanation = body.get("legalBasis"), body.get("legalBasisExplanation")
        if basis is not None and (not isinstance(basis, str) or basis not in LEGAL_BASES):
            raise invalid(call, f"legalBasis must be one of {', '.join(sorted(LEGAL_BASES))}")
        if explanation is not None and not isinstance(explanation, str):
            raise invalid(call, "legalBasisExplanation must be a string")
        if self._account.settings.data_privacy and not (basis and explanation):
            raise invalid(call, "legalBasis and legalBasisExplanation are required while data privacy is on")
        how = BY_API if status is Status.UNSUBSCRIBED else None
        now = self._account.clock.now()
        return Choice(status=status, at=now, how=how, legal_basis=basis, explanation=explanation)

    def _leave_one(self, address: str) -> list[Json]:
        account = self._account
        standing = account.consent.addresses.get(address)
        reason = Reason.UNCHANGED if standing is not None and standing.left else Reason.LEFT_ALL
        now = account.clock.now()
        account.consent.leave(address, BY_API, now)
        account.records.restate(address, "INTEGRATION")
        choice = Choice(status=Status.UNSUBSCRIBED, at=now)
        return [self._status(address, kind, choice, reason=reason) for kind in TYPES.values()]

    def _statuses(self, address: str) -> list[Json]:
        standing = self._account.consent.addresses.get(address, Standing())
        shown = dict(standing.choices)
        if self._account.settings.permissive:
            unsaid = Choice(status=Status.NOT_SPECIFIED, at=self._account.clock.now())
            shown = {number: shown.get(number, unsaid) for number in TYPES}
            if standing.left is not None and standing.left_at is not None:
                shown = dict.fromkeys(TYPES, Choice(status=Status.UNSUBSCRIBED, at=standing.left_at))
        return [self._status(address, TYPES[number], choice) for number, choice in sorted(shown.items())]

    def _wide(self, address: str) -> list[Json]:
        standing = self._account.consent.addresses.get(address)
        if standing is None or standing.left_at is None:
            return []
        return [
            {
                "channel": _CHANNEL,
                "status": Status.UNSUBSCRIBED,
                "subscriberIdString": address,
                "timestamp": stamp(standing.left_at),
                "wideStatusType": "PORTAL_WIDE",
            }
        ]

    def _status(
        self, address: str, kind: SubscriptionType, choice: Choice, *, reason: Reason | None = None
    ) -> Json:
        row: Json = {
            "channel": _CHANNEL,
            "source": "API",
            "status": choice.status,
            "subscriberIdString": address,
            "subscriptionId": kind.id,
            "subscriptionName": kind.name,
            "timestamp": stamp(choice.at),
        }
        return {**row, **_basis(choice), **({} if reason is None else {"setStatusSuccessReason": reason})}

    def _status_v3(self, address: str, kind: SubscriptionType) -> Json:
        standing = self._account.consent.addresses.get(address, Standing())
        choice = standing.choices.get(kind.id)
        good = choice is not None and choice.status is Status.SUBSCRIBED and standing.left is None
        return {
            "id": str(kind.id),
            "name": kind.name,
            "description": kind.description,
            "status": "SUBSCRIBED" if good else "NOT_SUBSCRIBED",
            "sourceOfStatus": "SUBSCRIPTION_STATUS" if standing.left is None else "PORTAL_WIDE_STATUS",
            **({} if choice is None else _basis(choice)),
        }

    def _definition(self, kind: SubscriptionType) -> Json:
        made = stamp(self._account.created)
        return {
            "id": str(kind.id),
            "name": kind.name,
            "description": kind.description,
            "purpose": kind.purpose,
            "communicationMethod": "Email",
            "isActive": True,
            "isDefault": kind.internal,
            "isInternal": kind.internal,
            "createdAt": made,
            "updatedAt": made,
        }

    def _answer(self, rows: list[Json], errors: Sequence[Json] = ()) -> Answer:
        return batch(rows, self._account.clock.now(), errors=errors)


def _basis(choice: Choice) -> Json:
    given = {"legalBasis": choice.legal_basis, "legalBasisExplanation": choice.explanation}
    return {name: text for name, text in given.items() if text is not None}


def _address_of(call: Call) -> str:
    """Read the address of a path, or refuse what is none, and any channel but e-mail."""
    if call.method == "GET" or call.path.endswith("/unsubscribe-all"):
        _refuse_other_channel(call, call.query.get("channel"))
    return _plain_address(call, call.parameters["address"])


def _plain_address(call: Call, text: str) -> str:
    if not is_address(text):
        raise invalid(call, f"{text} is not an email address")
    return text.lower()


def _refuse_other_channel(call: Call, channel: Any) -> None:
    if channel != _CHANNEL:
        raise invalid(call, f"channel must be {_CHANNEL}: others are not emulated")


def _no_address(text: str) -> Json:
    return item_error("VALIDATION_ERROR", f"{text} is not an email address", {"subscriberIdString": [text]})
