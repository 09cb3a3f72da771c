"""Plain calls about contacts, in short, with answers as they come."""

from typing import Any

import requests

from segue.connectors.emulator import Person
from segue.connectors.hubspot.testing import Sandbox
from segue.core.consent import ConsentState

ANNA, BERT = "anna@shop.de", "bert@shop.de"
NEWS, LETTER, ONE_TO_ONE = 2001001, 2001002, 2001003
UNIQUE = {
    "name": "shop_id",
    "label": "Shop id",
    "type": "string",
    "fieldType": "text",
    "groupName": "contactinformation",
    "hasUniqueValue": True,
}


class Contacts:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def create(self, email: str = ANNA, **properties: Any) -> str:
        """Make a contact and give its id."""
        answer = self.try_create(email, **properties)
        assert answer.status_code == 201, answer.text
        identity: str = answer.json()["id"]
        return identity

    def try_create(self, email: str = ANNA, **properties: Any) -> requests.Response:
        return self.sandbox.call("POST", ".", {"properties": {"email": email, **properties}})

    def read(self, identity: str, *properties: str, **query: Any) -> dict[str, Any]:
        answer = self.sandbox.call("GET", f"./{identity}", properties=",".join(properties), **query)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def values(self, identity: str, *properties: str) -> list[Any]:
        shown = self.read(identity, *properties)["properties"]
        return [shown[name] for name in properties]

    def update(self, identity: str, **properties: Any) -> requests.Response:
        return self.sandbox.call("PATCH", f"./{identity}", {"properties": properties})

    def batch(self, act: str, *inputs: Any, **more: Any) -> requests.Response:
        return self.sandbox.call("POST", f"./batch/{act}", {"inputs": list(inputs), **more})

    def unique(self) -> None:
        """Make the property `shop_id`, whose values are unique."""
        answer = self.sandbox.call("POST", "/crm/v3/properties/contacts", UNIQUE)
        assert answer.status_code == 201, answer.text

    def define(self, name: str, kind: str, field_type: str, *options: str) -> None:
        body = {
            "name": name,
            "label": name,
            "type": kind,
            "fieldType": field_type,
            "groupName": "contactinformation",
            "options": [{"label": each, "value": each, "hidden": False} for each in options],
        }
        answer = self.sandbox.call("POST", "/crm/v3/properties/contacts", body)
        assert answer.status_code == 201, answer.text

    def choose(self, status: str, address: str = ANNA, kind: int = NEWS, **more: Any) -> requests.Response:
        body = {"subscriptionId": kind, "statusState": status, "channel": "EMAIL", **more}
        return self.sandbox.call("POST", f"/communication-preferences/v4/statuses/{address}", body)

    def person(self, address: str = ANNA) -> Person:
        [person] = [each for each in self.sandbox.emulator.people() if each.address == address]
        return person

    def state(self, address: str = ANNA) -> ConsentState:
        return self.person(address).state

    @property
    def refusals(self) -> list[tuple[str, str | None]]:
        """Whom a write made mailable, and how they had said no."""
        return [(each.address, each.refused) for each in self.sandbox.emulator.raises]


def codes(answer: requests.Response) -> set[str]:
    """The codes of what was wrong with the values of a write, single or in a batch."""
    body = answer.json()
    errors = body.get("errors", [])
    details = [detail for error in errors for detail in error.get("errors", [error])]
    return {detail["code"] for detail in details}
