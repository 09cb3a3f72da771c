"""What a marketer does in Mailchimp itself, behind Segue's back."""

from typing import Any

from segue.connectors.mailchimp.payload import subscriber_hash

from ..shop import Shop


def member(shop: Shop, contact_id: str) -> dict[str, Any]:
    found: dict[str, Any] = shop.members()[f"{contact_id}@shop.example"]
    return found


def edit(shop: Shop, contact_id: str, **fields: Any) -> None:
    shop.sandbox.call(
        "PATCH", f"/lists/{shop.sandbox.audience}/members/{_hash(contact_id)}", {"merge_fields": fields}
    ).raise_for_status()


def tag(shop: Shop, contact_id: str, **tags: bool) -> None:
    body = {
        "tags": [
            {"name": name.replace("_", ": "), "status": "active" if on else "inactive"}
            for name, on in tags.items()
        ]
    }
    shop.sandbox.call(
        "POST", f"/lists/{shop.sandbox.audience}/members/{_hash(contact_id)}/tags", body
    ).raise_for_status()


def delete_field(shop: Shop, name: str) -> None:
    path = f"/lists/{shop.sandbox.audience}/merge-fields"
    fields = shop.sandbox.call("GET", path, count=100).json()["merge_fields"]
    (number,) = [field["merge_id"] for field in fields if field["tag"] == name]
    shop.sandbox.call("DELETE", f"{path}/{number}").raise_for_status()


def delete_tag(shop: Shop, name: str) -> None:
    path = f"/lists/{shop.sandbox.audience}/segments"
    segments = shop.sandbox.call("GET", path, count=100, type="static").json()["segments"]
    (number,) = [segment["id"] for segment in segments if segment["name"] == name]
    shop.sandbox.call("DELETE", f"{path}/{number}").raise_for_status()


def _hash(contact_id: str) -> str:
    return subscriber_hash(f"{contact_id}@shop.example")
