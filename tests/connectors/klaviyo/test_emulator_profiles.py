"""What writes do to the profiles of the local Klaviyo: one by one, merged, and erased."""

from typing import Any

import pytest

from segue.connectors.emulator import PersonAct

from .api import ANNA, BERT, Api, error_of

PHONE, OTHER_PHONE = "+4930123456", "+4930654321"


# Creating


def test_a_second_profile_with_any_same_identifier_is_a_conflict_that_names_the_first(api: Api) -> None:
    name = api.create(phone_number=PHONE, external_id="c1")
    for same in ({"email": ANNA.upper()}, {"phone_number": PHONE}, {"external_id": "c1"}):
        body = {"data": {"type": "profile", "attributes": {"email": BERT, **same}}}
        answer = api.call("POST", "/profiles", body)
        [error] = answer.json()["errors"]
        assert (answer.status_code, error["code"], error["title"]) == (409, "duplicate_profile", "Conflict.")
        assert error["detail"] == "A profile already exists with one of these identifiers."
        assert error["source"] == {"pointer": "/data/attributes"}
        assert error["meta"] == {"duplicate_profile_id": name}
    assert len(api.emulator.people()) == 1


def test_an_import_answers_201_for_somebody_new_and_200_afterwards(api: Api) -> None:
    made = api.upsert(email=ANNA, first_name="Anna")
    again = api.upsert(email=ANNA, last_name="Ott")
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.json()["data"]["id"] == again.json()["data"]["id"]
    assert (api.profile()["first_name"], api.profile()["last_name"]) == ("Anna", "Ott")


@pytest.mark.parametrize("how", ["import", "patch"])
def test_null_clears_and_absent_leaves(api: Api, how: str) -> None:
    name = api.create(first_name="Anna", title="Dr", location={"city": "Bonn"}, properties={"a": 1, "b": 2})
    changes: dict[str, Any] = {
        "first_name": None,
        "location": {"city": None, "zip": "1"},
        "properties": {"a": None},
    }
    answer = api.upsert(name=name, **changes) if how == "import" else api.patch(name, **changes)
    assert answer.status_code == 200
    shown = api.profile()
    assert (shown["first_name"], shown["title"], shown["properties"]) == (None, "Dr", {"b": 2})
    assert (shown["location"]["city"], shown["location"]["zip"]) == (None, "1")


def test_addresses_are_kept_in_lower_case(api: Api) -> None:
    api.upsert(email=" Anna@Shop.DE ")
    assert api.profile()["email"] == ANNA
    assert api.good("GET", "/profiles", filter="equals(email,'Anna@Shop.DE')")["data"] == []


@pytest.mark.parametrize(
    ("attributes", "pointer"),
    [
        ({"email": "nonsense"}, "/data/attributes/email"),
        ({"email": ANNA, "phone_number": "030 123"}, "/data/attributes/phone_number"),
        ({"email": ANNA, "external_id": ""}, "/data/attributes/external_id"),
        ({"first_name": "Anna"}, "/data/attributes"),
        ({"email": None}, "/data/attributes"),
    ],
)
def test_one_wrong_identifier_or_none_at_all_refuses_the_whole_profile(
    api: Api, attributes: dict[str, Any], pointer: str
) -> None:
    assert error_of(api.upsert(**attributes)) == (400, "invalid", pointer)
    assert api.emulator.people() == []


def test_a_profile_keeps_one_identifier(api: Api) -> None:
    name = api.create(external_id="c1")
    assert api.patch(name, email=None).status_code == 200
    assert error_of(api.patch(name, external_id=None)) == (400, "invalid", "/data/attributes")


@pytest.mark.parametrize("how", ["import", "import by id", "patch"])
def test_identifiers_of_two_profiles_are_a_conflict_also_on_update(api: Api, how: str) -> None:
    first, second = api.create(), api.create(BERT, phone_number=PHONE)
    match how:
        case "import":
            answer = api.upsert(email=ANNA, phone_number=PHONE, first_name="Anna")
        case "import by id":
            answer = api.upsert(name=first, phone_number=PHONE, first_name="Anna")
        case _:
            answer = api.patch(first, phone_number=PHONE, first_name="Anna")
    assert error_of(answer) == (409, "duplicate_profile", "/data/attributes")
    assert answer.json()["errors"][0]["meta"]["duplicate_profile_id"] == second
    assert api.profile()["first_name"] is None


def test_an_identifier_moves_on_with_its_profile(api: Api) -> None:
    name = api.create(phone_number=PHONE)
    api.patch(name, phone_number=OTHER_PHONE)
    assert api.upsert(phone_number=PHONE).status_code == 201
    assert api.upsert(phone_number=OTHER_PHONE).json()["data"]["id"] == name


def test_an_unknown_id_is_not_found(api: Api) -> None:
    assert error_of(api.patch("01NOBODY", first_name="A")) == (404, "not_found", None)
    assert api.upsert(name="01NOBODY", email=ANNA).status_code == 404
    assert api.call("GET", "/profiles/01NOBODY").status_code == 404


def test_the_id_of_the_body_must_be_that_of_the_address(api: Api) -> None:
    body = {"data": {"type": "profile", "id": "01NOBODY", "attributes": {}}}
    assert error_of(api.call("PATCH", f"/profiles/{api.create()}", body)) == (400, "invalid", "/data/id")


def test_a_profile_of_more_than_100_kilobytes_is_refused(api: Api) -> None:
    assert api.upsert(email=ANNA, properties={"a": "x" * 99_000}).status_code == 201
    assert api.upsert(email=ANNA, properties={"a": "x" * 100_000}).status_code == 400


# Patches of properties


def test_properties_are_added_to_taken_from_and_removed(api: Api) -> None:
    name = api.create(properties={"tags": ["a", "b"], "one": "x", "old": 1, "older": 2})
    patch = {
        "append": {"tags": "c", "one": ["y"], "new": "z"},
        "unappend": {"tags": ["a"]},
        "unset": ["old", "no"],
    }
    assert api.upsert(name=name, meta={"patch_properties": patch}).status_code == 200
    expected = {"tags": ["b", "c"], "one": ["x", "y"], "new": ["z"], "older": 2}
    assert api.profile()["properties"] == expected
    assert api.patch(name, meta={"patch_properties": {"unset": "older"}}).status_code == 200
    assert "older" not in api.profile()["properties"]


@pytest.mark.parametrize(("mode", "held"), [("adversarial", ["a", "a"]), ("permissive", ["a"])])
def test_appending_what_is_there_keeps_it_twice_at_the_worst(api: Api, mode: str, held: list[str]) -> None:
    api.sandbox.settings(mode=mode)
    name = api.create(properties={"tags": ["a"]})
    api.upsert(name=name, meta={"patch_properties": {"append": {"tags": ["a"]}}})
    assert api.profile()["properties"] == {"tags": held}


def test_a_new_profile_takes_a_patch_too(api: Api) -> None:
    api.upsert(email=ANNA, meta={"patch_properties": {"append": {"tags": "a"}}})
    assert api.profile()["properties"] == {"tags": ["a"]}


# What moves `updated`


def test_every_write_moves_updated_also_one_that_changes_nothing(api: Api) -> None:
    def at() -> str:
        return str(api.profile()["updated"])

    name = api.create(first_name="Anna")
    seen = [at()]
    for write in (
        lambda: api.patch(name, first_name="Anna"),
        lambda: api.upsert(email=ANNA),
        api.subscribe,
        api.unsubscribe,
        api.suppress,
        lambda: api.suppress(verb="delete"),
        lambda: api.act(PersonAct.SUBSCRIBE),
        lambda: merge(api, api.create(BERT), name),
    ):
        api.advance(10)
        write()
        seen.append(at())
    assert seen == sorted(set(seen))
    assert api.profile()["created"] == seen[0]


# Merging and erasing


def merge(api: Api, source: str, target: str) -> None:
    sources = {"profiles": {"data": [{"type": "profile", "id": source}]}}
    body = {"data": {"type": "profile-merge", "id": target, "relationships": sources}}
    answer = api.call("POST", "/profile-merge", body)
    assert (answer.status_code, answer.json()["data"]["id"]) == (201, target)
    api.advance(1)


def test_a_merge_only_begins_with_its_answer(api: Api) -> None:
    list_id = api.make_list()
    target = api.create(first_name="Anna", properties={"a": 1})
    source = api.create(BERT, first_name="Bert", phone_number=PHONE, properties={"a": 2, "b": 2})
    api.put_on(list_id, source)
    api.act(PersonAct.OPEN, BERT)
    api.sandbox.settings(async_seconds=60)
    merge(api, source, target)
    assert len(api.emulator.people()) == 2
    api.advance(60)
    shown = api.profile()
    assert (shown["first_name"], shown["phone_number"], shown["properties"]) == (
        "Anna",
        PHONE,
        {"a": 1, "b": 2},
    )
    assert api.call("GET", f"/profiles/{source}").status_code == 404
    assert api.listed(f"/lists/{list_id}/profiles") == [ANNA]
    assert len(api.good("GET", "/events", filter=f'equals(profile_id,"{target}")')["data"]) == 1
    assert api.upsert(email=BERT).status_code == 201


def test_a_merge_needs_two_profiles(api: Api) -> None:
    name = api.create()
    for sources in ([], [name, name], [name]):
        data = [{"type": "profile", "id": each} for each in sources]
        relationships = {"profiles": {"data": data}}
        body = {"data": {"type": "profile-merge", "id": name, "relationships": relationships}}
        assert api.call("POST", "/profile-merge", body).status_code == 400


def erase(api: Api, *, name: str | None = None, **attributes: str) -> int:
    who: dict[str, Any] = {"type": "profile", "attributes": attributes, **({"id": name} if name else {})}
    job = {"type": "data-privacy-deletion-job", "attributes": {"profile": {"data": who}}}
    return api.call("POST", "/data-privacy-deletion-jobs", {"data": job}).status_code


@pytest.mark.parametrize("by", ["id", "email", "phone_number"])
def test_an_erasure_takes_profile_events_and_memberships_a_little_later(api: Api, by: str) -> None:
    list_id = api.make_list()
    name = api.create(phone_number=PHONE)
    api.put_on(list_id, name)
    api.act(PersonAct.OPEN)
    who = {"email": {"email": ANNA}, "phone_number": {"phone_number": PHONE}}.get(by, {})
    assert erase(api, name=name if by == "id" else None, **who) == 202
    assert len(api.emulator.people()) == 1
    api.advance(1)
    assert api.emulator.people() == []
    assert api.listed(f"/lists/{list_id}/profiles") == []
    assert api.good("GET", "/events")["data"] == []
    assert api.emulator.state(count=1, offset=0, address=None)["forgotten"] == 1


def test_an_erasure_takes_exactly_one_identifier(api: Api) -> None:
    name = api.create(phone_number=PHONE)
    assert erase(api) == 400
    assert erase(api, email=ANNA, phone_number=PHONE) == 400
    assert erase(api, name=name, email=ANNA) == 400
    assert erase(api, email="stranger@shop.de") == 202
