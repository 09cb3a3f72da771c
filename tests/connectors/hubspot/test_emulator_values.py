"""What a property of the local HubSpot accepts, and what it keeps of it."""

from typing import Any

import pytest

from segue.connectors.hubspot.testing import Sandbox

from .calls import UNIQUE, Contacts, codes

PROPERTIES = "/crm/v3/properties/contacts"
NOON = str(1_767_268_800_000)
MIDNIGHT = str(1_767_225_600_000)


@pytest.fixture
def typed(contacts: Contacts) -> str:
    contacts.define("n", "number", "number")
    contacts.define("d", "date", "date")
    contacts.define("t", "datetime", "date")
    contacts.define("b", "bool", "booleancheckbox")
    contacts.define("one", "enumeration", "select", "red", "blue")
    contacts.define("many", "enumeration", "checkbox", "red", "blue", "green")
    contacts.define("text", "string", "text")
    return contacts.create()


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("n", "12.5", "12.5"),
        ("n", "-3", "-3"),
        ("d", "2026-01-01", "2026-01-01"),
        ("d", MIDNIGHT, "2026-01-01"),
        ("t", "2026-01-01T13:00:00+01:00", "2026-01-01T12:00:00.000Z"),
        ("t", NOON, "2026-01-01T12:00:00.000Z"),
        ("b", "true", "true"),
        ("one", "red", "red"),
        ("many", "red;blue", "red;blue"),
        ("text", "x" * 65_536, "x" * 65_536),
    ],
)
def test_a_value_is_kept(contacts: Contacts, typed: str, name: str, given: str, kept: str) -> None:
    assert contacts.update(typed, **{name: given}).status_code == 200
    assert contacts.values(typed, name) == [kept]


@pytest.mark.parametrize(
    ("name", "given", "code"),
    [
        ("n", "1,5", "INVALID_NUMBER"),
        ("n", "1e999", "INVALID_NUMBER"),
        ("d", NOON, "INVALID_DATE"),
        ("d", "01/31/2026", "INVALID_DATE"),
        ("d", "2026-01-01T12:00:00Z", "INVALID_DATE"),
        ("d", "9" * 15, "INVALID_DATE"),
        ("t", "2026-01-01T12:00:00", "INVALID_DATE"),
        ("b", "True", "INVALID_BOOLEAN"),
        ("one", "Red", "INVALID_OPTION"),
        ("one", "red;blue", "INVALID_OPTION"),
        ("many", "red;black", "INVALID_OPTION"),
        ("text", "x" * 65_537, "STRING_TOO_LONG"),
        ("text", 5, "INVALID_STRING"),
        ("text", None, "INVALID_STRING"),
        ("n", 5, "INVALID_STRING"),
    ],
)
def test_a_value_is_refused(contacts: Contacts, typed: str, name: str, given: Any, code: str) -> None:
    answer = contacts.update(typed, **{name: given})
    assert (answer.status_code, codes(answer)) == (400, {code})


def test_values_that_are_no_texts_are_written_as_such_when_permissive(contacts: Contacts, typed: str) -> None:
    contacts.sandbox.settings(mode="permissive")
    assert contacts.update(typed, n=5, b=True).status_code == 200
    assert contacts.values(typed, "n", "b") == ["5", "true"]


def test_a_leading_semicolon_adds_to_a_checkbox(contacts: Contacts, typed: str) -> None:
    contacts.update(typed, many="red")
    contacts.update(typed, many=";blue;red")
    assert contacts.values(typed, "many") == ["red;blue"]
    contacts.update(typed, many="green")
    assert contacts.values(typed, "many") == ["green"]


def test_the_stage_of_life_moves_forward_only_until_it_is_cleared(contacts: Contacts) -> None:
    identity = contacts.create(lifecyclestage="customer")
    assert contacts.update(identity, lifecyclestage="lead").status_code == 200
    assert contacts.values(identity, "lifecyclestage") == ["customer"]
    contacts.update(identity, lifecyclestage="")
    contacts.update(identity, lifecyclestage="lead")
    assert contacts.values(identity, "lifecyclestage") == ["lead"]


def test_a_unique_value_belongs_to_one_contact(contacts: Contacts) -> None:
    contacts.unique()
    anna, bert = contacts.create(shop_id="7"), contacts.create("bert@shop.de")
    assert contacts.read("7", idProperty="shop_id")["id"] == anna
    assert contacts.update(bert, shop_id="7").status_code == 409
    contacts.update(anna, shop_id="8")
    assert contacts.update(bert, shop_id="7").status_code == 200
    contacts.sandbox.call("DELETE", f"./{bert}")
    assert contacts.update(anna, shop_id="7").status_code == 200


# Definitions


def test_a_property_shows_what_it_is(contacts: Contacts) -> None:
    contacts.unique()
    shown = contacts.sandbox.call("GET", f"{PROPERTIES}/shop_id").json()
    assert {name: shown[name] for name in UNIQUE} == UNIQUE
    assert (shown["archived"], shown["hubspotDefined"], shown["options"]) == (False, False, [])
    listed = contacts.sandbox.call("GET", PROPERTIES).json()["results"]
    assert {"email", "shop_id", "hs_email_optout"} <= {each["name"] for each in listed}
    mirror = contacts.sandbox.call("GET", f"{PROPERTIES}/hs_email_optout").json()
    assert mirror["modificationMetadata"]["readOnlyValue"] is True


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"name": "Shop Id"}, 400),
        ({"name": "1st"}, 400),
        ({"name": "x" * 101}, 400),
        ({"type": "json"}, 400),
        ({"fieldType": "date"}, 400),
        ({"groupName": "nowhere"}, 400),
        ({"type": "enumeration", "fieldType": "select"}, 400),
        ({"options": [{"label": "a", "value": "a"}]}, 400),
        ({"label": None}, 400),
        ({"name": "email"}, 409),
    ],
)
def test_a_property_that_makes_no_sense_is_refused(hubspot: Sandbox, change: Any, status: int) -> None:
    assert hubspot.call("POST", PROPERTIES, {**UNIQUE, **change}).status_code == status


def test_a_name_is_taken_once_and_stays_taken_when_archived(contacts: Contacts) -> None:
    contacts.unique()
    again = contacts.sandbox.call("POST", PROPERTIES, UNIQUE)
    assert (again.status_code, again.json()["category"]) == (409, "CONFLICT")
    assert contacts.sandbox.call("DELETE", f"{PROPERTIES}/shop_id").status_code == 204
    assert contacts.sandbox.call("POST", PROPERTIES, UNIQUE).status_code == 409
    assert contacts.sandbox.call("GET", f"{PROPERTIES}/shop_id").status_code == 404
    assert contacts.sandbox.call("GET", f"{PROPERTIES}/shop_id", archived="true").json()["archived"] is True
    assert codes(contacts.try_create(shop_id="1")) == {"PROPERTY_DOESNT_EXIST"}


def test_at_most_ten_properties_have_unique_values(hubspot: Sandbox) -> None:
    answers = [
        hubspot.call("POST", PROPERTIES, {**UNIQUE, "name": f"u{number}"}).status_code for number in range(11)
    ]
    assert answers == [201] * 10 + [400]


def test_options_are_added_and_the_type_stays(contacts: Contacts, typed: str) -> None:
    options = [{"label": each, "value": each, "hidden": False} for each in ("red", "blue", "white")]
    path = f"{PROPERTIES}/one"
    assert contacts.sandbox.call("PATCH", path, {"options": options}).status_code == 200
    assert contacts.update(typed, one="white").status_code == 200
    assert contacts.sandbox.call("PATCH", path, {"type": "string"}).status_code == 400
    assert contacts.sandbox.call("PATCH", f"{PROPERTIES}/email", {"label": "Mail"}).status_code == 400


def test_properties_are_made_and_read_many_at_once(hubspot: Sandbox) -> None:
    inputs = [{**UNIQUE, "name": "a"}, {**UNIQUE, "name": "b"}, {**UNIQUE, "name": "email"}]
    made = hubspot.call("POST", f"{PROPERTIES}/batch/create", {"inputs": inputs})
    assert (made.status_code, made.json()["numErrors"]) == (207, 1)
    assert [each["name"] for each in made.json()["results"]] == ["a", "b"]
    asked = {"archived": False, "inputs": [{"name": "a"}, {"name": "nope"}]}
    read = hubspot.call("POST", f"{PROPERTIES}/batch/read", asked)
    assert (read.status_code, [each["name"] for each in read.json()["results"]]) == (207, ["a"])


def test_groups_are_made_once(hubspot: Sandbox) -> None:
    body = {"name": "segue", "label": "Segue"}
    assert hubspot.call("POST", f"{PROPERTIES}/groups", body).status_code == 201
    assert hubspot.call("POST", f"{PROPERTIES}/groups", body).status_code == 409
    assert hubspot.call("GET", f"{PROPERTIES}/groups/segue").json()["label"] == "Segue"
    assert hubspot.call("GET", f"{PROPERTIES}/groups/nope").status_code == 404
    assert len(hubspot.call("GET", f"{PROPERTIES}/groups").json()["results"]) == 3
    assert hubspot.call("POST", PROPERTIES, {**UNIQUE, "groupName": "segue"}).status_code == 201
