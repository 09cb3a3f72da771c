"""The communication preferences of the emulated HubSpot: types of mail, and how an address stands to each.

Batches of statuses want Marketing Hub Enterprise. Where data privacy is on, whoever is subscribed needs a legal basis. That
a subscription by API ends an opt-out is documented, and remembered as a raise.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ...emulator import Answer, Call, Clock, Handler, RefusedError
from .answers import invalid, object_of, problem
from .portal import SUBSCRIPTIONS, Portal, shown_time
from .settings import Settings, Tier

BASE: Final = "/communication-preferences/v4"
_ONE: Final = f"{BASE}/statuses/{{address}}"
_ALL: Final = f"{_ONE}/unsubscribe-all"
_MOST: Final = 100
_STATES: Final = frozenset({"SUBSCRIBED", "UNSUBSCRIBED", "NOT_SPECIFIED"})


class SubscriptionEndpoints:
    """Handlers over one portal."""

    def __init__(self, portal: Callable[[], Portal], settings: Callable[[], Settings], clock: Clock) -> None:
        self._current = portal
        self._settings = settings
        self._clock = clock

    @property
    def _portal(self) -> Portal:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, numbered path template and handler of each."""
        return [
            ("GET", f"{BASE}/definitions", self._definitions),
            ("POST", f"{BASE}/statuses/batch/read", self._read_batch),
            ("POST", f"{BASE}/statuses/batch/write", self._write_batch),
            ("POST", f"{BASE}/statuses/batch/unsubscribe-all", self._opt_out_batch),
            ("GET", _ONE, self._read),
            ("POST", _ONE, self._write),
            ("GET", _ALL, self._is_out),
            ("POST", _ALL, self._opt_out),
        ]

    def _definitions(self, _: Call) -> Answer:
        found = [
            {
                "id": str(number),
                "name": label,
                "purpose": "Marketing",
                "communicationMethod": "Email",
                "isActive": True,
                "isDefault": False,
                "isInternal": False,
            }
            for number, label in SUBSCRIPTIONS.items()
        ]
        return Answer(body={"results": found})

    def _read(self, call: Call) -> Answer:
        return Answer(body={"results": self._statuses(call.parameters["address"])})

    def _write(self, call: Call) -> Answer:
        row = self._stored(call, call.parameters["address"], object_of(call))
        return Answer(body=row)

    def _is_out(self, call: Call) -> Answer:
        address = call.parameters["address"]
        out = self._portal.standing(address).out_of_all
        return Answer(body={"results": [self._wide(address)] if out else []})

    def _opt_out(self, call: Call) -> Answer:
        self._channel(call, call.query)
        address = call.parameters["address"]
        self._portal.opt_out(address, self._clock.now(), by="api")
        return Answer(body={"results": [self._wide(address)]})

    def _read_batch(self, call: Call) -> Answer:
        rows = [
            {"subscriberIdString": address, "statuses": self._statuses(address)}
            for address in self._addresses(call)
        ]
        return Answer(body={"status": "COMPLETE", "results": rows})

    def _opt_out_batch(self, call: Call) -> Answer:
        for address in self._addresses(call):
            self._portal.opt_out(address, self._clock.now(), by="api")
        return Answer(body={"status": "COMPLETE", "results": []})

    def _write_batch(self, call: Call) -> Answer:
        self._enterprise(call)
        rows = [
            self._stored(call, str(item.get("subscriberIdString", "")), item) for item in self._inputs(call)
        ]
        return Answer(body={"status": "COMPLETE", "results": rows})

    def _stored(self, call: Call, address: str, body: Mapping[str, Any]) -> dict[str, Any]:
        state, now = body.get("statusState"), self._clock.now()
        self._channel(call, body)
        if state not in _STATES or not str(body.get("subscriptionId", "")).isdecimal():
            raise invalid(call, "subscriptionId and statusState are needed")
        number = int(body["subscriptionId"])
        if number not in SUBSCRIPTIONS:
            raise invalid(call, f"no such subscription: {number}")
        based = body.get("legalBasis") and body.get("legalBasisExplanation")
        if state == "SUBSCRIBED" and self._settings().data_privacy and not based:
            raise invalid(call, "legalBasis and legalBasisExplanation are needed")
        reason = "REQUESTED_CHANGE_OCCURRED"
        if state == "SUBSCRIBED":
            reason = self._portal.subscribe(address, number, now, request=call.number)
        elif state == "UNSUBSCRIBED":
            self._portal.opt_out(address, now, by="api", subscription=number)
        return self._row(address, number, now) | {"setStatusSuccessReason": reason}

    def _statuses(self, address: str) -> list[dict[str, Any]]:
        return [self._row(address, number, self._clock.now()) for number in SUBSCRIPTIONS]

    def _row(self, address: str, number: int, now: datetime) -> dict[str, Any]:
        standing = self._portal.standing(address)
        out = standing.out_of_all or number in standing.out_of
        said = "SUBSCRIBED" if number in standing.subscribed else "NOT_SPECIFIED"
        return {
            "channel": "EMAIL",
            "subscriberIdString": address,
            "subscriptionId": number,
            "subscriptionName": SUBSCRIPTIONS[number],
            "status": "UNSUBSCRIBED" if out else said,
            "source": "API",
            "timestamp": shown_time(now),
        }

    def _wide(self, address: str) -> dict[str, Any]:
        return {
            "channel": "EMAIL",
            "subscriberIdString": address,
            "status": "UNSUBSCRIBED",
            "wideStatusType": "PORTAL_WIDE",
            "timestamp": shown_time(self._clock.now()),
        }

    def _channel(self, call: Call, given: Mapping[str, Any]) -> None:
        if given.get("channel") != "EMAIL":
            raise invalid(call, "channel must be EMAIL")

    def _addresses(self, call: Call) -> list[str]:
        self._enterprise(call)
        return [str(each) for each in self._inputs(call)]

    def _inputs(self, call: Call) -> list[Any]:
        inputs = object_of(call).get("inputs")
        if not isinstance(inputs, list) or len(inputs) > _MOST:
            raise invalid(call, f"inputs are needed, at most {_MOST}")
        return inputs

    def _enterprise(self, call: Call) -> None:
        if self._settings().tier is not Tier.ENTERPRISE:
            message = "This app hasn't been granted all required scopes to make this call."
            raise RefusedError(problem(403, "MISSING_SCOPES", message, number=call.number))
