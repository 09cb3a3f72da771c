"""Reading the local Klaviyo: filters, orders, pages, fields, metrics and events."""

from itertools import chain
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct

from .api import ANNA, BERT, Api, error_of

SUPPRESSION = "subscriptions.email.marketing.suppression"
LISTS = "subscriptions.email.marketing.list_suppressions"


def shop(api: Api, count: int = 5) -> None:
    """People who come a minute after one another."""
    for number in range(count):
        api.create(f"p{number}@shop.de", external_id=f"c{number}", phone_number=f"+493012345{number}")
        api.advance(60)


def pages(api: Api, path: str, **query: Any) -> list[list[str]]:
    """Follow the links to the end, and give the addresses of each page."""
    shown = api.good("GET", path, **query)
    found = [[each["attributes"]["email"] for each in shown["data"]]]
    while (following := shown["links"].get("next")) is not None:
        shown = api.good("GET", following)
        found.append([each["attributes"]["email"] for each in shown["data"]])
    return found


# Profiles


def test_what_changed_since_an_instant_is_read_in_order_of_change_leaving_out_that_very_second(
    api: Api,
) -> None:
    shop(api)
    api.upsert(email="p1@shop.de")
    since = "greater-than(updated,2026-11-01T12:02:00Z)"
    assert api.listed(filter=since, sort="updated") == ["p3@shop.de", "p4@shop.de", "p1@shop.de"]
    assert api.listed(filter=since, sort="-updated") == ["p1@shop.de", "p4@shop.de", "p3@shop.de"]
    assert api.listed(filter=since) == ["p3@shop.de", "p4@shop.de", "p1@shop.de"]
    both = "greater-than(updated,2026-11-01T12:02:00Z),less-than(updated,2026-11-01T12:05:00Z)"
    assert api.listed(filter=both) == ["p3@shop.de", "p4@shop.de"]
    assert api.listed(filter=f"and({both})") == ["p3@shop.de", "p4@shop.de"]


def test_created_stays(api: Api) -> None:
    shop(api, 3)
    api.upsert(email="p0@shop.de")
    assert api.listed(sort="-created") == ["p2@shop.de", "p1@shop.de", "p0@shop.de"]
    assert api.listed(filter="less-than(created,2026-11-01T12:01:00Z)") == ["p0@shop.de"]


@pytest.mark.parametrize(
    "text",
    [
        "any(email,['p1@shop.de','p3@shop.de','stranger@shop.de'])",
        'any(external_id,["c1","c3"])',
        "any(phone_number,['+4930123451','+4930123453'])",
    ],
)
def test_people_are_found_by_their_identifiers(api: Api, text: str) -> None:
    shop(api)
    assert sorted(api.listed(filter=text)) == ["p1@shop.de", "p3@shop.de"]
    since = "greater-than(updated,2026-11-01T12:01:00Z)"
    assert api.listed(filter=f"{text},{since}", sort="-updated") == ["p3@shop.de"]


def test_people_are_found_by_id(api: Api) -> None:
    shop(api)
    names = [api.profile(f"p{number}@shop.de")["id"] for number in (0, 2)]
    assert api.listed(filter=f"equals(id,'{names[1]}')") == ["p2@shop.de"]
    assert sorted(api.listed(filter=f"any(id,['{names[0]}','{names[1]}'])")) == ["p0@shop.de", "p2@shop.de"]


def test_suppressed_people_are_found_by_reason_and_time(api: Api) -> None:
    shop(api)
    api.act(PersonAct.BOUNCE, "p3@shop.de")
    api.advance(60)
    api.act(PersonAct.UNSUBSCRIBE, "p1@shop.de")
    assert api.listed(filter=f"equals({SUPPRESSION}.reason,'HARD_BOUNCE')") == ["p3@shop.de"]
    order = f"{SUPPRESSION}.timestamp"
    assert api.listed(filter=f"greater-than({order},2026-11-01T12:05:00Z)") == ["p1@shop.de"]
    assert api.listed(filter=f"greater-or-equal({order},2026-11-01T12:05:00Z)", sort=order) == [
        "p3@shop.de",
        "p1@shop.de",
    ]
    assert api.listed(sort=f"-{order}") == ["p1@shop.de", "p3@shop.de"]
    api.act(PersonAct.SUBSCRIBE, "p1@shop.de")
    assert api.listed(filter=f"equals({SUPPRESSION}.reason,'UNSUBSCRIBE')") == []


def test_people_who_left_a_list_are_found_by_list_and_time(api: Api) -> None:
    list_id = api.make_list()
    api.subscribe(ANNA, BERT, on=list_id)
    api.act(PersonAct.UNSUBSCRIBE, BERT, on=list_id)
    assert api.listed(filter=f"equals({LISTS}.list_id,'{list_id}')") == [BERT]
    assert api.listed(filter=f"equals({LISTS}.list_id,'nowhere')") == []
    assert api.listed(filter=f"less-than({LISTS}.timestamp,2026-11-02T00:00:00Z)") == [BERT]
    assert api.listed(filter=f"equals({LISTS}.reason,'UNSUBSCRIBE')") == [BERT]


def test_pages_have_20_by_default_and_lose_and_repeat_nobody(api: Api) -> None:
    shop(api, 45)
    found = pages(api, "/profiles")
    assert [len(each) for each in found] == [20, 20, 5]
    assert list(chain(*found)) == [f"p{number}@shop.de" for number in range(45)]
    backwards = pages(api, "/profiles", sort="-created", **{"page[size]": 30})
    assert list(chain(*backwards)) == list(chain(*found))[::-1]


def test_many_changes_of_one_second_are_paged_without_losing_anybody(api: Api) -> None:
    names = [f"p{number}@shop.de" for number in range(50)]
    for name in names:
        api.upsert(email=name)
    found = pages(api, "/profiles", sort="updated", filter="greater-than(updated,2026-01-01T00:00:00Z)")
    assert list(chain(*found)) == names


def test_whoever_changes_between_two_pages_comes_again_at_the_end(api: Api) -> None:
    shop(api, 4)
    first = api.good("GET", "/profiles", sort="updated", **{"page[size]": 2})
    api.upsert(email="p0@shop.de")
    rest = api.good("GET", first["links"]["next"])
    assert [each["attributes"]["email"] for each in rest["data"]] == ["p2@shop.de", "p3@shop.de"]
    last = api.good("GET", rest["links"]["next"])
    assert [each["attributes"]["email"] for each in last["data"]] == ["p0@shop.de"]


def test_fields_are_chosen_and_subscriptions_come_when_asked_for(api: Api) -> None:
    name = api.create(location={"city": "Bonn"})
    assert "subscriptions" not in api.good("GET", f"/profiles/{name}")["data"]["attributes"]
    fields = {"fields[profile]": "email,location.city,subscriptions.email.marketing.consent"}
    asked = {**fields, "additional-fields[profile]": "subscriptions"}
    assert api.good("GET", f"/profiles/{name}", **asked)["data"]["attributes"] == {
        "email": ANNA,
        "location": {"city": "Bonn"},
        "subscriptions": {"email": {"marketing": {"consent": "NEVER_SUBSCRIBED"}}},
    }


@pytest.mark.parametrize(
    "text",
    [
        "greater-or-equal(updated,2026-01-01T00:00:00Z)",
        "equals(first_name,'Anna')",
        "greater-than(updated,yesterday)",
        "equals(email,anna@shop.de)",
        "any(email,'anna@shop.de')",
        "equals(email,['anna@shop.de'])",
        "equals(email,'anna@shop.de'",
        "equals(email,'anna@shop.de'))",
        "equals(email)",
        "equals",
        "",
    ],
)
def test_filters_that_klaviyo_does_not_know_are_refused(api: Api, text: str) -> None:
    assert error_of(api.call("GET", "/profiles", filter=text)) == (400, "invalid", "filter")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"page[size]": 101}, "page[size]"),
        ({"page[size]": 0}, "page[size]"),
        ({"sort": "first_name"}, "sort"),
        ({"page[number]": 2}, "page[number]"),
        ({"additional-fields[profile]": "shoes"}, "additional-fields[profile]"),
    ],
)
def test_queries_that_klaviyo_does_not_know_are_refused(
    api: Api, query: dict[str, Any], parameter: str
) -> None:
    assert error_of(api.wrong("GET", "/profiles", **query)) == (400, "invalid", parameter)


@pytest.mark.parametrize("cursor", ["nonsense", "W10=", "WzEsMl0=", "é"])
def test_a_cursor_that_klaviyo_did_not_give_is_refused(api: Api, cursor: str) -> None:
    answer = api.call("GET", "/profiles", **{"page[cursor]": cursor})
    assert error_of(answer) == (400, "invalid", "page[cursor]")


# Metrics and events


def ordered(api: Api, address: str = ANNA, *, name: str = "Ordered", **attributes: Any) -> int:
    what: dict[str, Any] = {
        "metric": {"data": {"type": "metric", "attributes": {"name": name}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": address}}},
        "properties": {},
        **attributes,
    }
    status = api.call("POST", "/events", {"data": {"type": "event", "attributes": what}}).status_code
    api.advance(1)
    return status


def times(api: Api, **query: Any) -> list[str]:
    return [each["attributes"]["datetime"][11:16] for each in api.good("GET", "/events", **query)["data"]]


def test_metrics_begin_with_their_first_event_at_the_worst(api: Api) -> None:
    assert api.metrics() == {}
    api.create()
    api.act(PersonAct.OPEN)
    assert list(api.metrics()) == ["Opened Email"]
    api.sandbox.settings(mode="permissive")
    assert "Bounced Email" in api.metrics()


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (PersonAct.OPEN, "Opened Email"),
        (PersonAct.CLICK, "Clicked Email"),
        (PersonAct.BOUNCE, "Bounced Email"),
        (PersonAct.UNSUBSCRIBE, "Unsubscribed from Email Marketing"),
        (PersonAct.COMPLAIN, "Marked Email as Spam"),
        (PersonAct.SUBSCRIBE, "Subscribed to Email Marketing"),
    ],
)
def test_what_people_do_becomes_an_event_of_its_metric(api: Api, act: PersonAct, name: str) -> None:
    profile = api.create()
    api.advance(60)
    api.act(act)
    metric = api.metrics()[name]
    [event] = api.good("GET", "/events", filter=f'equals(metric_id,"{metric}")')["data"]
    assert event["attributes"]["datetime"] == "2026-11-01T12:01:00+00:00"
    assert event["attributes"]["timestamp"] == 1793534460
    assert event["relationships"]["profile"]["data"]["id"] == profile
    assert api.profile()["last_event_date"] == "2026-11-01T12:01:00+00:00"


@pytest.mark.parametrize(("mode", "events"), [("adversarial", 2), ("permissive", 0)])
def test_our_own_consent_writes_make_events_like_a_persons_at_the_worst(
    api: Api, mode: str, events: int
) -> None:
    api.sandbox.settings(mode=mode)
    api.subscribe()
    api.unsubscribe()
    api.advance(1)
    assert len(api.good("GET", "/events")["data"]) == events


def test_events_are_filtered_by_metric_profile_and_time_and_sorted(api: Api) -> None:
    names = {address: api.create(address) for address in (ANNA, BERT)}
    for act, address in (
        (PersonAct.OPEN, ANNA),
        (PersonAct.OPEN, BERT),
        (PersonAct.CLICK, ANNA),
        (PersonAct.OPEN, ANNA),
    ):
        api.act(act, address)
        api.advance(60)
    opened = f'equals(metric_id,"{api.metrics()["Opened Email"]}")'
    assert times(api, filter=opened, sort="timestamp") == ["12:00", "12:01", "12:03"]
    assert times(api, filter=f'{opened},equals(profile_id,"{names[ANNA]}")', sort="-timestamp") == [
        "12:03",
        "12:00",
    ]
    assert times(api, filter=f"{opened},greater-than(timestamp,1793534400)", sort="timestamp") == [
        "12:01",
        "12:03",
    ]
    assert times(api, filter="greater-or-equal(datetime,2026-11-01T12:02:00Z)", sort="datetime") == [
        "12:02",
        "12:03",
    ]
    assert times(api, filter="less-than(datetime,2026-11-01T12:02:00Z)", sort="datetime") == [
        "12:00",
        "12:01",
    ]
    assert times(api, filter=f'equals(profile_id,"{names[BERT]}")') == ["12:01"]
    assert times(api, filter='equals(metric_id,"nothing")') == []


def test_events_come_200_a_page_and_at_most_1000(api: Api) -> None:
    api.create()
    for _ in range(250):
        api.act(PersonAct.OPEN)
    shown = api.good("GET", "/events")
    rest = api.good("GET", shown["links"]["next"])
    names = [each["id"] for each in shown["data"] + rest["data"]]
    assert (len(shown["data"]), len(set(names)), "next" in rest["links"]) == (200, 250, False)
    assert len(api.good("GET", "/events", **{"page[size]": 1000})["data"]) == 250
    assert api.wrong("GET", "/events", **{"page[size]": 1001}).status_code == 400


def test_events_bring_their_profile_and_metric_along(api: Api) -> None:
    api.create()
    api.act(PersonAct.OPEN)
    api.act(PersonAct.OPEN)
    included = api.good("GET", "/events", include="profile,metric", **{"fields[profile]": "email"})[
        "included"
    ]
    assert [(each["type"], each["attributes"].get("email")) for each in included] == [
        ("metric", None),
        ("profile", ANNA),
    ]


def test_an_event_is_kept_once_per_unique_id_and_without_one_per_second(api: Api) -> None:
    for unique in ("a", "b", "a"):
        assert ordered(api, unique_id=unique) == 202
    for at in ("2026-11-01T09:00:00.100Z", "2026-11-01T09:00:00.900Z", "2026-11-01T09:00:01Z"):
        assert ordered(api, time=at) == 202
    assert len(api.good("GET", "/events")["data"]) == 4
    ordered(api, BERT, unique_id="a")
    ordered(api, name="Returned", unique_id="a")
    assert len(api.good("GET", "/events")["data"]) == 6


@pytest.mark.parametrize(("mode", "found"), [("adversarial", 0), ("permissive", 1)])
def test_a_metric_of_ones_own_finds_nothing_at_the_worst(api: Api, mode: str, found: int) -> None:
    api.sandbox.settings(mode=mode)
    ordered(api)
    assert len(times(api, filter=f'equals(metric_id,"{api.metrics()["Ordered"]}")')) == found


def test_an_event_has_at_most_300_properties_and_a_name(api: Api) -> None:
    assert ordered(api, properties={f"p{i}": i for i in range(300)}) == 202
    assert ordered(api, properties={f"p{i}": i for i in range(301)}) == 400
    assert ordered(api, name=" ") == 400


def test_an_event_whose_profile_cannot_be_is_lost(api: Api) -> None:
    assert ordered(api, "nonsense") == 202
    assert api.emulator.people() == []
