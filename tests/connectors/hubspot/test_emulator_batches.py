"""Batches of the local HubSpot: which items get which answer, and what fails all of them."""

from typing import Any

import pytest
import requests

from segue.connectors.hubspot.testing import Sandbox

from .calls import ANNA, BERT, Contacts, codes


def item(email: str, trace: str | None = None, **properties: str) -> dict[str, Any]:
    traced = {} if trace is None else {"objectWriteTraceId": trace}
    return {"properties": {"email": email, **properties}, **traced}


def keyed(number: str, trace: str | None = None, **properties: Any) -> dict[str, Any]:
    traced = {} if trace is None else {"objectWriteTraceId": trace}
    return {"id": number, "idProperty": "shop_id", "properties": properties, **traced}


def ids(answer: requests.Response) -> list[str]:
    return [each["id"] for each in answer.json()["results"]]


def traces(answer: requests.Response) -> list[str]:
    return [trace for error in answer.json()["errors"] for trace in error["context"]["objectWriteTraceId"]]


@pytest.mark.parametrize("act", ["read", "create", "update", "upsert", "archive"])
def test_a_batch_has_1_to_100_items(contacts: Contacts, act: str) -> None:
    assert contacts.batch(act).status_code == 400
    assert contacts.batch(act, *[{"id": "1", "properties": {}}] * 101).status_code == 400


# Create


def test_a_create_answers_every_item(contacts: Contacts) -> None:
    answer = contacts.batch("create", item(ANNA, "a", city="Bonn"), item(BERT, "b"))
    body = answer.json()
    assert (answer.status_code, body["status"]) == (201, "COMPLETE")
    assert {"startedAt", "completedAt"} <= set(body)
    assert "numErrors" not in body
    shown = {each["objectWriteTraceId"]: each["properties"]["email"] for each in body["results"]}
    assert shown == {"a": ANNA, "b": BERT}


def test_results_come_in_no_promised_order(contacts: Contacts) -> None:
    made = [contacts.create(f"p{i}@shop.de") for i in range(3)]
    inputs = [{"id": each} for each in made]
    assert ids(contacts.batch("read", *inputs)) == made[::-1]
    contacts.sandbox.settings(mode="permissive")
    assert ids(contacts.batch("read", *inputs)) == made


def test_a_create_without_traces_fails_as_a_whole_and_names_the_first_conflict(contacts: Contacts) -> None:
    anna, _ = contacts.create(), contacts.create(BERT)
    answer = contacts.batch("create", item("new@shop.de"), item(ANNA), item(BERT))
    assert answer.status_code == 409
    assert answer.json()["message"] == f"Contact already exists. Existing ID: {anna}"
    assert answer.json()["category"] == "CONFLICT"
    assert len(contacts.sandbox.emulator.people()) == 2
    same_trace = contacts.batch("create", item("new@shop.de", "x"), item(ANNA, "x"))
    assert same_trace.status_code == 409


def test_a_create_with_a_trace_for_each_fails_item_by_item(contacts: Contacts) -> None:
    contacts.create()
    answer = contacts.batch("create", item("new@shop.de", "1"), item(ANNA, "2"), item(BERT, "3", nope="1"))
    body = answer.json()
    assert (answer.status_code, body["status"], body["numErrors"]) == (207, "COMPLETE", 2)
    assert [each["properties"]["email"] for each in body["results"]] == ["new@shop.de"]
    assert traces(answer) == ["2", "3"]
    assert [(each["status"], each["category"]) for each in body["errors"]] == [
        ("error", "CONFLICT"),
        ("error", "VALIDATION_ERROR"),
    ]
    assert codes(answer) == {"PROPERTY_DOESNT_EXIST"}


def test_one_address_twice_in_a_batch_fails_it(contacts: Contacts) -> None:
    twice = contacts.batch("create", item(ANNA, "1"), item(ANNA.upper(), "2"))
    assert twice.status_code == 409
    assert contacts.sandbox.emulator.people() == []
    first, second = contacts.create("p1@shop.de"), contacts.create("p2@shop.de")
    both = [{"id": each, "properties": {"email": ANNA}} for each in (first, second)]
    assert contacts.batch("update", *both).status_code == 409


# Read


def test_absent_ids_share_one_error(contacts: Contacts) -> None:
    made = contacts.create()
    answer = contacts.batch("read", {"id": made}, {"id": "1"}, {"id": "2"}, properties=["city"])
    assert (answer.status_code, ids(answer), answer.json()["numErrors"]) == (207, [made], 1)
    [error] = answer.json()["errors"]
    assert (error["category"], error["context"]) == ("OBJECT_NOT_FOUND", {"ids": ["1", "2"]})
    contacts.sandbox.settings(mode="permissive")
    errors = contacts.batch("read", {"id": "1"}, {"id": "2"}).json()["errors"]
    assert [error["context"]["ids"] for error in errors] == [["1"], ["2"]]


def test_contacts_are_read_by_address_and_by_a_unique_property(contacts: Contacts) -> None:
    contacts.unique()
    made = contacts.create(shop_id="7")
    assert ids(contacts.batch("read", {"id": ANNA.upper()}, idProperty="email")) == [made]
    assert ids(contacts.batch("read", {"id": "7"}, idProperty="shop_id")) == [made]
    assert contacts.batch("read", {"id": "7"}, idProperty="city").status_code == 400


# Update


def test_an_update_takes_record_ids_alone(contacts: Contacts) -> None:
    made = contacts.create()
    by_mail = {"id": ANNA, "idProperty": "email", "properties": {"city": "Bonn"}}
    answer = contacts.batch("update", by_mail)
    assert answer.status_code == 400
    assert answer.json()["message"] == "Unable to perform update/upsert by non-unique 0-1 property"
    assert contacts.values(made, "city") == [None]


def test_an_update_passes_over_an_address_in_the_place_of_an_id(contacts: Contacts) -> None:
    made = contacts.create()
    answer = contacts.batch("update", {"id": ANNA, "properties": {"city": "Bonn"}})
    assert (answer.status_code, answer.json()["results"]) == (200, [])
    assert contacts.values(made, "city") == [None]


def test_an_update_changes_what_is_good_and_names_what_is_not(contacts: Contacts) -> None:
    anna, bert = contacts.create(city="Bonn"), contacts.create(BERT)
    answer = contacts.batch(
        "update",
        {"id": anna, "properties": {"zip": "1"}, "objectWriteTraceId": "a"},
        {"id": bert, "properties": {"nope": "1"}, "objectWriteTraceId": "b"},
        {"id": "1", "properties": {}, "objectWriteTraceId": "c"},
    )
    assert (answer.status_code, ids(answer)) == (207, [anna])
    assert [error["context"] for error in answer.json()["errors"]] == [
        {"objectWriteTraceId": ["b"]},
        {"ids": ["1"]},
    ]
    assert contacts.values(anna, "city", "zip") == ["Bonn", "1"]


def test_an_item_without_a_trace_fails_without_a_name(contacts: Contacts) -> None:
    made = contacts.create()
    wrong = {"id": made, "properties": {"nope": "1"}}
    assert contacts.batch("update", wrong).json()["errors"][0]["context"] == {}
    contacts.sandbox.settings(mode="permissive")
    assert contacts.batch("update", wrong).json()["errors"][0]["context"] == {"ids": [made]}


def test_one_record_twice_in_a_batch_fails_it(contacts: Contacts) -> None:
    made = contacts.create()
    assert contacts.batch("update", *[{"id": made, "properties": {"city": "Bonn"}}] * 2).status_code == 400
    assert contacts.values(made, "city") == [None]


# Upsert


def test_an_upsert_by_a_unique_property_is_partial(contacts: Contacts) -> None:
    contacts.unique()
    first = contacts.batch("upsert", keyed("7", email=ANNA, city="Bonn")).json()["results"][0]
    again = contacts.batch("upsert", keyed("7", "t", zip="1")).json()["results"][0]
    assert (first["new"], again["new"], again["objectWriteTraceId"]) == (True, False, "t")
    assert first["id"] == again["id"]
    assert contacts.values(first["id"], "shop_id", "email", "city", "zip") == ["7", ANNA, "Bonn", "1"]


def test_an_upsert_by_address_is_not_partial(contacts: Contacts) -> None:
    made = contacts.create(city="Bonn", firstname="Anna")
    by_mail = {"id": ANNA.upper(), "idProperty": "email", "properties": {"zip": "1"}}
    answer = contacts.batch("upsert", by_mail)
    assert (ids(answer), answer.json()["results"][0]["new"]) == ([made], False)
    assert contacts.values(made, "email", "firstname", "city", "zip") == [ANNA, None, None, "1"]


def test_an_upsert_by_address_leaves_the_rest_when_permissive(contacts: Contacts) -> None:
    contacts.sandbox.settings(mode="permissive")
    made = contacts.create(city="Bonn")
    contacts.batch("upsert", {"id": ANNA, "idProperty": "email", "properties": {"zip": "1"}})
    assert contacts.values(made, "city", "zip") == ["Bonn", "1"]


def test_an_upsert_needs_a_property_with_unique_values(contacts: Contacts) -> None:
    for name in ("city", "nope", None):
        one = {"id": "7", "idProperty": name, "properties": {"email": ANNA}}
        assert contacts.batch("upsert", one).status_code == 400
    assert contacts.sandbox.emulator.people() == []


def test_an_address_of_another_record_fails_the_whole_upsert(contacts: Contacts) -> None:
    contacts.unique()
    anna = contacts.create()
    answer = contacts.batch("upsert", keyed("7", email=BERT), keyed("8", "t", email=ANNA))
    assert answer.status_code == 409
    assert answer.json()["message"].endswith(anna)
    assert len(contacts.sandbox.emulator.people()) == 1


def test_an_address_of_another_record_fails_its_item_when_permissive(contacts: Contacts) -> None:
    contacts.sandbox.settings(mode="permissive")
    contacts.unique()
    contacts.create()
    answer = contacts.batch("upsert", keyed("7", email=BERT), keyed("8", "t", email=ANNA))
    assert (answer.status_code, len(answer.json()["results"]), traces(answer)) == (207, 1, ["t"])
    assert answer.json()["errors"][0]["category"] == "CONFLICT"


def test_one_key_twice_in_an_upsert_fails_it(contacts: Contacts) -> None:
    contacts.unique()
    assert contacts.batch("upsert", keyed("7", email=ANNA), keyed("7", city="Bonn")).status_code == 400
    assert contacts.batch("upsert", keyed("7", email=ANNA), keyed("8", email=ANNA)).status_code == 409
    assert contacts.sandbox.emulator.people() == []


def test_a_wrong_value_fails_its_item_of_an_upsert(contacts: Contacts) -> None:
    contacts.unique()
    answer = contacts.batch("upsert", keyed("7", "a", email=ANNA), keyed("8", "b", email="none", nope="1"))
    assert (answer.status_code, traces(answer)) == (207, ["b"])
    assert codes(answer) == {"INVALID_EMAIL", "PROPERTY_DOESNT_EXIST"}


# Archive


def test_an_archive_passes_over_whom_it_does_not_know(contacts: Contacts) -> None:
    made = contacts.create()
    assert contacts.batch("archive", {"id": made}, {"id": "1"}).status_code == 204
    assert contacts.person().archived
    answer = contacts.sandbox.call("POST", "./batch/read", {"inputs": [{"id": made}]}, archived="true")
    assert ids(answer) == [made]


def test_a_page_costs_what_it_shows(hubspot: Sandbox) -> None:
    """A page must not look at everybody: the cost is counted in records that it touches."""
    hubspot.settings(limits=False, index_lag=0)
    records = hubspot.emulator.account.records
    for number in range(2000):
        records.create({"email": f"p{number}@shop.de"}, request=1)
    touched: list[int] = []

    class Watched(dict[int, Any]):
        def __getitem__(self, key: int) -> Any:
            touched.append(key)
            return super().__getitem__(key)

    records.active = Watched(records.active)
    hubspot.call("GET", ".", limit=100, after=str(records.active_ids[1000]))
    assert len(touched) == 100
