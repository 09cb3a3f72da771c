"""Plain calls to a local Klaviyo, said in a line each."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from segue.connectors.emulator import Person, PersonAct
from segue.connectors.klaviyo.specification import specification
from segue.connectors.klaviyo.testing import Sandbox

ANNA, BERT = "anna@shop.de", "bert@shop.de"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
BEFORE = "2026-10-01T00:00:00+00:00"
SUBSCRIPTIONS = {"additional-fields[profile]": "subscriptions"}
SPECIFICATION = specification()
MODES = pytest.mark.parametrize("mode", ["adversarial", "permissive"])


class Api:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.emulator = sandbox.emulator
        self.emulator.clock.set(NOON)
        sandbox.settings(limits=False)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        return self.sandbox.call(method, path, body, **query)

    def good(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Make a call that must succeed, and give its JSON."""
        answer = self.call(method, path, body, **query)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def wrong(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Make a call that the specification forbids; its answer is judged all the same."""
        answer = self.call(method, path, body, **query)
        exchange = self.sandbox.referee.exchanges.pop()
        problems = SPECIFICATION.problems(exchange)
        assert [each for each in problems if ", request " not in each and ", query " not in each] == []
        assert problems, "the specification allows it"
        return answer

    def advance(self, seconds: float) -> None:
        self.emulator.clock.advance(timedelta(seconds=seconds))

    def act(self, act: PersonAct, address: str = ANNA, *, on: str = "") -> None:
        self.emulator.act(act, audience=on, address=address)

    # People

    def create(self, address: str = ANNA, **attributes: Any) -> str:
        data = {"type": "profile", "attributes": {"email": address, **attributes}}
        return str(self.good("POST", "/profiles", {"data": data})["data"]["id"])

    def upsert(self, *, name: str | None = None, meta: Any = None, **attributes: Any) -> requests.Response:
        data: dict[str, Any] = {"type": "profile", "attributes": attributes}
        data |= {"id": name} if name else {}
        data |= {"meta": meta} if meta else {}
        return self.call("POST", "/profile-import", {"data": data})

    def patch(self, name: str, *, meta: Any = None, **attributes: Any) -> requests.Response:
        data: dict[str, Any] = {"type": "profile", "id": name, "attributes": attributes}
        data |= {"meta": meta} if meta else {}
        return self.call("PATCH", f"/profiles/{name}", {"data": data})

    def profile(self, address: str = ANNA) -> dict[str, Any]:
        [found] = self.good("GET", "/profiles", filter=f"equals(email,'{address}')", **SUBSCRIPTIONS)["data"]
        attributes: dict[str, Any] = {"id": found["id"], **found["attributes"]}
        return attributes

    def marketing(self, address: str = ANNA) -> dict[str, Any]:
        found: dict[str, Any] = self.profile(address)["subscriptions"]["email"]["marketing"]
        return found

    def listed(self, path: str = "/profiles", **query: Any) -> list[str]:
        return [each["attributes"]["email"] for each in self.good("GET", path, **query)["data"]]

    def person(self, address: str = ANNA) -> Person | None:
        return next((each for each in self.emulator.people() if each.address == address), None)

    def raises(self) -> list[tuple[str, str, str | None]]:
        return [(each.before, each.after, each.refused) for each in self.emulator.raises]

    # Consent

    def subscription(
        self, *addresses: str, on: str | None = None, historical: bool = True, **attributes: Any
    ) -> dict[str, Any]:
        marketing = {"consent": "SUBSCRIBED", **({"consented_at": BEFORE} if historical else {})}
        profiles = [
            {
                "type": "profile",
                "attributes": {"email": each, "subscriptions": {"email": {"marketing": marketing}}},
            }
            for each in addresses or (ANNA,)
        ]
        attributes |= {"profiles": {"data": profiles}, **({"historical_import": True} if historical else {})}
        return _job("profile-subscription-bulk-create-job", attributes, on)

    def subscribe(self, *addresses: str, on: str | None = None, historical: bool = True) -> None:
        """Ask for a subscription, and wait until it has taken effect."""
        body = self.subscription(*addresses, on=on, historical=historical)
        answer = self.call("POST", "/profile-subscription-bulk-create-jobs", body)
        assert (answer.status_code, answer.content) == (202, b""), answer.text
        self.advance(1)

    def unsubscribe(self, *addresses: str, on: str | None = None) -> None:
        profiles = [
            {
                "type": "profile",
                "attributes": {
                    "email": each,
                    "subscriptions": {"email": {"marketing": {"consent": "UNSUBSCRIBED"}}},
                },
            }
            for each in addresses or (ANNA,)
        ]
        body = _job("profile-subscription-bulk-delete-job", {"profiles": {"data": profiles}}, on)
        answer = self.call("POST", "/profile-subscription-bulk-delete-jobs", body)
        assert (answer.status_code, answer.content) == (202, b""), answer.text

    def suppress(self, *addresses: str, verb: str = "create") -> dict[str, Any]:
        """Suppress or, with the verb delete, unsuppress; wait for the job, and give it."""
        kind = f"profile-suppression-bulk-{verb}-job"
        profiles = [{"type": "profile", "attributes": {"email": each}} for each in addresses or (ANNA,)]
        job = self.good("POST", f"/{kind}s", _job(kind, {"profiles": {"data": profiles}}))
        return self.finished(kind, job["data"]["id"])

    # Jobs and lists

    def imported(self, *profiles: dict[str, Any], lists: tuple[str, ...] = ()) -> dict[str, Any]:
        """Import profiles, wait for the job, and give it."""
        job = self.good("POST", "/profile-bulk-import-jobs", import_job(*profiles, lists=lists))
        return self.finished("profile-bulk-import-job", job["data"]["id"])

    def finished(self, kind: str, name: str) -> dict[str, Any]:
        *_, job = [self.good("GET", f"/{kind}s/{name}")["data"] for _ in range(3)]
        return {"id": name, **job["attributes"]}

    def make_list(self, name: str = "News", opt_in: str = "single_opt_in") -> str:
        data = {"type": "list", "attributes": {"name": name, "opt_in_process": opt_in}}
        return str(self.good("POST", "/lists", {"data": data})["data"]["id"])

    def put_on(self, list_id: str, *names: str, method: str = "POST") -> requests.Response:
        body = {"data": [{"type": "profile", "id": each} for each in names]}
        return self.call(method, f"/lists/{list_id}/relationships/profiles", body)

    def metrics(self) -> dict[str, str]:
        return {each["attributes"]["name"]: each["id"] for each in self.good("GET", "/metrics")["data"]}


def item(**attributes: Any) -> dict[str, Any]:
    """One profile of an import."""
    return {"type": "profile", "attributes": attributes}


def import_job(*profiles: dict[str, Any], lists: tuple[str, ...] = ()) -> dict[str, Any]:
    data: dict[str, Any] = {
        "type": "profile-bulk-import-job",
        "attributes": {"profiles": {"data": list(profiles)}},
    }
    if lists:
        data["relationships"] = {"lists": {"data": [{"type": "list", "id": each} for each in lists]}}
    return {"data": data}


def _job(kind: str, attributes: dict[str, Any], on: str | None = None) -> dict[str, Any]:
    data: dict[str, Any] = {"type": kind, "attributes": attributes}
    if on is not None:
        data["relationships"] = {"list": {"data": {"type": "list", "id": on}}}
    return {"data": data}


def error_of(answer: requests.Response) -> tuple[int, str, str | None]:
    """Give status, code and pointer or parameter of a refusal."""
    [error] = answer.json()["errors"]
    source = error["source"]
    return answer.status_code, error["code"], source.get("pointer", source.get("parameter"))


def reasons(api: Api, address: str = ANNA) -> list[str]:
    """Give the reasons for which an address is suppressed."""
    return [each["reason"] for each in api.marketing(address)["suppression"]]
