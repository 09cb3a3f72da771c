"""The search of the local HubSpot: what it finds, what it cannot, and how far it goes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from segue.connectors.hubspot.testing import Sandbox

from .calls import ANNA, BERT, Contacts

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def search(hubspot: Sandbox) -> "Search":
    hubspot.emulator.clock.set(START)
    hubspot.settings(index_lag=0, limits=False)
    return Search(hubspot)


class Search:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def ask(self, *filters: Any, **body: Any) -> requests.Response:
        groups = {"filterGroups": [{"filters": list(filters)}]} if filters else {}
        return self.sandbox.call("POST", "./search", {**groups, **body})

    def addresses(self, *filters: Any, **body: Any) -> list[str]:
        answer = self.ask(*filters, **body)
        assert answer.status_code == 200, answer.text
        return [each["properties"]["email"].partition("@")[0] for each in answer.json()["results"]]


def where(name: str, operator: str, value: Any = None, **more: Any) -> dict[str, Any]:
    given = {} if value is None else {"value": value}
    return {"propertyName": name, "operator": operator, **given, **more}


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (where("score", "EQ", "2"), ["b"]),
        (where("score", "NEQ", "2"), ["a", "c", "d"]),
        (where("score", "LT", "10"), ["a", "b"]),
        (where("score", "LTE", "2"), ["a", "b"]),
        (where("score", "GT", "2"), ["c"]),
        (where("score", "GTE", "2"), ["b", "c"]),
        (where("score", "BETWEEN", "2", highValue="10"), ["b", "c"]),
        (where("score", "HAS_PROPERTY"), ["a", "b", "c"]),
        (where("score", "NOT_HAS_PROPERTY"), ["d"]),
        (where("city", "IN", values=["bonn", "ulm"]), ["a", "b"]),
        (where("city", "IN", values=["Bonn"]), []),
        (where("city", "NOT_IN", values=["bonn"]), ["b", "c", "d"]),
        (where("city", "CONTAINS_TOKEN", "on*"), ["a"]),
        (where("city", "NOT_CONTAINS_TOKEN", "on"), ["b", "c", "d"]),
        (where("email", "EQ", "A@shop.de"), ["a"]),
        (where("createdate", "GTE", "1"), ["a", "b", "c", "d"]),
        (where("createdate", "LT", "1"), []),
    ],
)
def test_a_filter_finds_whom_it_means(search: Search, condition: Any, found: list[str]) -> None:
    contacts = Contacts(search.sandbox)
    contacts.define("score", "number", "number")
    contacts.create("a@shop.de", score="1", city="Bonn")
    contacts.create("b@shop.de", score="2", city="Ulm")
    contacts.create("c@shop.de", score="10")
    contacts.create("d@shop.de")
    assert search.addresses(condition) == found


def test_filters_of_a_group_are_all_meant_and_groups_are_alternatives(search: Search) -> None:
    contacts = Contacts(search.sandbox)
    contacts.create("a@shop.de", city="Bonn", zip="1")
    contacts.create("b@shop.de", city="Bonn")
    contacts.create("c@shop.de", city="Ulm")
    bonn, ulm = where("city", "EQ", "bonn"), where("city", "EQ", "ulm")
    assert search.addresses(bonn, where("zip", "HAS_PROPERTY")) == ["a"]
    groups = [{"filters": [bonn, where("zip", "HAS_PROPERTY")]}, {"filters": [ulm]}]
    assert search.addresses(filterGroups=groups) == ["a", "c"]
    assert search.addresses(query="B@SHOP") == ["b"]


def test_results_are_sorted_by_one_rule(search: Search) -> None:
    contacts = Contacts(search.sandbox)
    for name, city in (("a", "Ulm"), ("b", "Bonn"), ("c", "")):
        contacts.create(f"{name}@shop.de", city=city)
    rule = {"propertyName": "city", "direction": "ASCENDING"}
    assert search.addresses(sorts=[rule]) == ["b", "a", "c"]
    assert search.addresses(sorts=[{**rule, "direction": "DESCENDING"}]) == ["a", "b", "c"]
    assert search.addresses(sorts=["-city"]) == ["a", "b", "c"]
    assert search.ask(sorts=[rule, rule]).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"filterGroups": [{"filters": [where("city", "HAS_PROPERTY")]}] * 6},
        {"filterGroups": [{"filters": [where("city", "HAS_PROPERTY")] * 7}]},
        {"filterGroups": [{"filters": [where("city", "HAS_PROPERTY")] * 5}] * 4},
        {"limit": 201},
        {"after": "abc"},
        {"after": 9801, "limit": 200},
        {"filterGroups": [{"filters": [where("nope", "EQ", "1")]}]},
        {"filterGroups": [{"filters": [where("city", "LIKE", "1")]}]},
        {"filterGroups": [{"filters": [where("city", "EQ")]}]},
        {"filterGroups": [{"filters": [where("hs_object_id", "GT", "many")]}]},
        {"query": "x" * 3000},
    ],
)
def test_a_search_that_asks_too_much_is_refused(search: Search, body: Any) -> None:
    assert search.ask(**body).status_code == 400


def test_a_page_has_10_results_unless_asked_and_200_at_most(search: Search) -> None:
    for number in range(201):
        search.sandbox.emulator.account.records.create({"email": f"p{number}@shop.de"}, request=1)
    assert len(search.ask().json()["results"]) == 10
    page = search.ask(limit=200).json()
    assert (len(page["results"]), page["total"], page["paging"]["next"]["after"]) == (200, 201, "200")
    rest = search.ask(limit=200, after="200").json()
    assert (len(rest["results"]), "paging" in rest) == (1, False)


def test_nobody_is_reached_beyond_ten_thousand_results(search: Search) -> None:
    for number in range(10_001):
        search.sandbox.emulator.account.records.create({"email": f"p{number}@shop.de"}, request=1)
    last = search.ask(limit=200, after=9800).json()
    assert (len(last["results"]), last["total"]) == (200, 10_001)
    assert search.ask(limit=200, after=last["paging"]["next"]["after"]).status_code == 400
    above = where("hs_object_id", "GT", last["results"][-1]["id"])
    by_id = [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]
    assert search.ask(above, sorts=by_id, limit=200).json()["total"] == 1


def test_what_was_written_is_found_after_a_while(search: Search) -> None:
    search.sandbox.settings(index_lag=5)
    contacts, clock = Contacts(search.sandbox), search.sandbox.emulator.clock
    identity = contacts.create(city="Bonn")
    assert search.addresses() == []
    clock.advance(timedelta(seconds=4))
    contacts.update(identity, city="Ulm")
    clock.advance(timedelta(seconds=1))
    [shown] = search.ask(properties=["city"]).json()["results"]
    assert shown["properties"]["city"] == "Bonn"
    clock.advance(timedelta(seconds=4))
    assert search.addresses(where("city", "EQ", "Ulm")) == ["anna"]


def test_the_archived_are_never_found(search: Search) -> None:
    contacts = Contacts(search.sandbox)
    identity, _ = contacts.create(), contacts.create(BERT)
    search.sandbox.call("DELETE", f"./{identity}")
    assert search.addresses() == ["bert"]
    assert search.addresses(where("hs_object_id", "EQ", identity)) == []


def test_changes_since_an_instant_are_found_in_order_of_ids(search: Search) -> None:
    contacts, clock = Contacts(search.sandbox), search.sandbox.emulator.clock
    anna, bert = contacts.create(), contacts.create(BERT)
    clock.advance(timedelta(seconds=10))
    since = str(int(clock.now().timestamp() * 1000))
    changed = where("lastmodifieddate", "GTE", since)
    assert search.addresses(changed) == []
    contacts.update(bert, city="Bonn")
    contacts.update(anna, city="Bonn")
    assert search.addresses(changed) == ["anna", "bert"]
    assert search.addresses(changed, where("hs_object_id", "GT", anna)) == ["bert"]
    assert search.addresses(changed, where("hs_object_id", "GTE", anna)) == ["anna", "bert"]
    assert search.addresses(where("lastmodifieddate", "GT", since)) == []


def test_an_opt_out_is_found_by_its_mirror(search: Search) -> None:
    contacts = Contacts(search.sandbox)
    contacts.create()
    contacts.create(BERT)
    search.sandbox.call(
        "POST", f"/communication-preferences/v4/statuses/{ANNA}/unsubscribe-all?channel=EMAIL"
    )
    assert search.addresses(where("hs_email_optout", "EQ", "true")) == ["anna"]
