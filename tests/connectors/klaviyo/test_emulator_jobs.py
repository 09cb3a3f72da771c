"""The jobs and lists of the local Klaviyo."""

import json
from typing import Any

import pytest

from .api import ANNA, BERT, Api, error_of, import_job, item

IMPORT = "profile-bulk-import-job"


def start(api: Api, *profiles: dict[str, Any], lists: tuple[str, ...] = ()) -> str:
    return str(api.good("POST", f"/{IMPORT}s", import_job(*profiles, lists=lists))["data"]["id"])


def state(api: Api, name: str) -> str:
    return str(api.good("GET", f"/{IMPORT}s/{name}")["data"]["attributes"]["status"])


# How jobs move


def test_a_job_moves_on_each_time_it_is_looked_at_and_runs_late(api: Api) -> None:
    name = start(api, item(email=ANNA))
    assert [state(api, name) for _ in range(2)] == ["queued", "processing"]
    assert len(api.emulator.people()) == 1
    assert [state(api, name) for _ in range(2)] == ["complete", "complete"]


def test_a_job_that_nobody_looks_at_takes_a_second_for_each_state(api: Api) -> None:
    start(api, item(email=ANNA))
    api.advance(1)
    assert api.emulator.people() == []
    api.advance(1)
    assert len(api.emulator.people()) == 1


def test_a_job_with_a_time_of_its_own_does_not_move_for_being_looked_at(api: Api) -> None:
    api.sandbox.settings(job_seconds=60)
    name = start(api, item(email=ANNA))
    assert [state(api, name) for _ in range(3)] == ["queued"] * 3
    api.advance(30)
    assert [state(api, name) for _ in range(3)] == ["processing"] * 3
    assert api.emulator.people() == []
    api.advance(30)
    assert state(api, name) == "complete"
    assert len(api.emulator.people()) == 1


def test_a_job_overtakes_what_was_written_after_it_was_accepted(api: Api) -> None:
    api.create(first_name="Anna")
    name = start(api, item(email=ANNA, first_name="Old"))
    api.upsert(email=ANNA, first_name="New")
    api.finished(IMPORT, name)
    assert api.profile()["first_name"] == "Old"


def test_a_cancelled_job_is_half_done(api: Api) -> None:
    api.sandbox.settings(cancel_jobs=True)
    job = api.imported(*(item(email=f"p{i}@shop.de") for i in range(10)))
    assert (job["status"], job["total_count"], job["completed_count"]) == ("cancelled", 10, 5)
    assert len(api.emulator.people()) == 5


def test_a_job_is_forgotten_after_seven_days(api: Api) -> None:
    name = start(api, item(email=ANNA))
    api.advance(7 * 86_400 - 1)
    assert state(api, name) == "complete"
    api.advance(1)
    assert api.call("GET", f"/{IMPORT}s/{name}").status_code == 404


def test_a_job_is_found_by_its_own_kind_alone(api: Api) -> None:
    name = start(api, item(email=ANNA))
    assert api.call("GET", f"/profile-suppression-bulk-create-jobs/{name}").status_code == 404
    assert api.call("GET", f"/{IMPORT}s/01NOBODY/profiles").status_code == 404


# Importing


def test_an_import_makes_and_changes_profiles_and_puts_all_on_the_lists(api: Api) -> None:
    first, second = api.make_list("A"), api.make_list("B")
    api.create(first_name="Anna", title="Dr")
    job = api.imported(item(email=ANNA, first_name=None), item(email=BERT), lists=(first, second))
    assert (job["completed_count"], job["failed_count"], job["total_count"]) == (2, 0, 2)
    assert (api.profile()["first_name"], api.profile()["title"]) == (None, "Dr")
    for list_id in (first, second):
        assert sorted(api.listed(f"/lists/{list_id}/profiles")) == [ANNA, BERT]


def test_import_errors_point_at_the_profile_and_give_it_back(api: Api) -> None:
    api.create()
    api.create(BERT, external_id="c1")
    wrong = [
        item(email="fine@shop.de"),
        item(email="nonsense", first_name="N"),
        item(email="good@shop.de", phone_number="12"),
        item(email=ANNA, external_id="c1"),
    ]
    job = api.imported(*wrong)
    assert (job["completed_count"], job["failed_count"]) == (1, 3)
    errors = [each["attributes"] for each in api.good("GET", f"/{IMPORT}s/{job['id']}/import-errors")["data"]]
    at = "/data/attributes/profiles/data"
    assert [(each["code"], each["source"]["pointer"]) for each in errors] == [
        ("invalid", f"{at}/1/attributes/email"),
        ("invalid", f"{at}/2/attributes/phone_number"),
        ("duplicate_profile", f"{at}/3/attributes"),
    ]
    assert [each["original_payload"] for each in errors] == wrong[1:]


def test_the_profiles_and_errors_of_a_job_come_100_a_page_at_most(api: Api) -> None:
    good = [item(email=f"p{i}@shop.de") for i in range(150)]
    job = api.imported(*good, *(item(email=f"nonsense{i}") for i in range(101)))
    seen: list[str] = []
    path: str | None = f"/{IMPORT}s/{job['id']}/profiles?page[size]=100"
    while path:
        shown = api.good("GET", path)
        seen += [each["attributes"]["email"] for each in shown["data"]]
        path = shown["links"].get("next")
    assert sorted(seen) == sorted(each["attributes"]["email"] for each in good)
    errors = api.good("GET", f"/{IMPORT}s/{job['id']}/import-errors", **{"page[size]": 100})
    assert (len(errors["data"]), "next" in errors["links"]) == (100, True)
    assert api.wrong("GET", f"/{IMPORT}s/{job['id']}/profiles", **{"page[size]": 101}).status_code == 400


def test_an_import_has_10000_profiles_5_megabytes_and_100_kilobytes_each(api: Api) -> None:
    def answered(*profiles: dict[str, Any]) -> int:
        return api.call("POST", f"/{IMPORT}s", import_job(*profiles)).status_code

    assert answered() == 400
    assert answered(*(item(email=f"p{i}@shop.de") for i in range(10_000))) == 202
    assert answered(*(item(email=f"p{i}@shop.de") for i in range(10_001))) == 400
    large = item(email=ANNA, properties={"a": "x" * 99_000})
    assert answered(*[large] * 50) == 202
    assert answered(*[large] * 51) == 400
    assert answered(item(email=BERT), item(email=ANNA, properties={"a": "x" * 100_000})) == 400


def test_consent_cannot_be_imported(api: Api) -> None:
    subscriptions = {"email": {"marketing": {"consent": "SUBSCRIBED"}}}
    answer = api.wrong("POST", f"/{IMPORT}s", import_job(item(email=ANNA, subscriptions=subscriptions)))
    assert error_of(answer) == (400, "invalid", "/data/attributes/profiles/data/0/attributes/subscriptions")


def test_a_list_in_the_wrong_place_is_refused(api: Api) -> None:
    body = import_job(item(email=ANNA))
    body["data"]["attributes"]["lists"] = [api.sandbox.list_id]
    assert api.wrong("POST", f"/{IMPORT}s", body).status_code == 400
    assert (
        api.call("POST", f"/{IMPORT}s", import_job(item(email=ANNA), lists=("nowhere",))).status_code == 404
    )


@pytest.mark.parametrize(("mode", "kept"), [("adversarial", {}), ("permissive", {"tags": ["a"]})])
def test_patches_of_properties_are_dropped_by_an_import_at_the_worst(api: Api, mode: str, kept: Any) -> None:
    api.sandbox.settings(mode=mode)
    patched = {**item(email=ANNA), "meta": {"patch_properties": {"append": {"tags": "a"}}}}
    assert api.imported(patched)["completed_count"] == 1
    assert api.profile()["properties"] == kept


def test_of_two_profiles_with_one_address_in_an_import_either_may_win(api: Api) -> None:
    winners = set()
    for number in range(8):
        api.imported(*(item(email=f"p{number}@shop.de", title=title) for title in ("first", "last")))
        winners.add(api.profile(f"p{number}@shop.de")["title"])
    assert winners == {"first", "last"}


# Lists


def test_lists_are_made_read_renamed_and_deleted(api: Api) -> None:
    list_id = api.make_list("News", "double_opt_in")
    shown = api.good("GET", f"/lists/{list_id}", **{"additional-fields[list]": "profile_count"})["data"]
    assert (shown["attributes"]["name"], shown["attributes"]["profile_count"]) == ("News", 0)
    assert shown["attributes"]["opt_in_process"] == "double_opt_in"
    body = {"data": {"type": "list", "id": list_id, "attributes": {"name": "Newer"}}}
    assert api.good("PATCH", f"/lists/{list_id}", body)["data"]["attributes"]["name"] == "Newer"
    name = api.create()
    api.put_on(list_id, name)
    assert api.call("DELETE", f"/lists/{list_id}").status_code == 204
    assert api.call("GET", f"/lists/{list_id}").status_code == 404
    person = api.person()
    assert person is not None
    assert person.tags == frozenset()


def test_lists_come_ten_a_page(api: Api) -> None:
    made = {api.make_list(f"L{i:02d}") for i in range(24)} | {api.sandbox.list_id}
    seen: list[str] = []
    path: str | None = "/lists"
    sizes = []
    while path:
        shown = api.good("GET", path)
        sizes.append(len(shown["data"]))
        seen += [each["id"] for each in shown["data"]]
        path = shown["links"].get("next")
    assert sizes == [10, 10, 5]
    assert (set(seen), len(seen)) == (made, 25)


def test_lists_are_found_by_name_and_sorted(api: Api) -> None:
    for name in ("B", "A"):
        api.make_list(name)
    found = api.good("GET", "/lists", filter='any(name,["A","B","C"])', sort="name")["data"]
    assert [each["attributes"]["name"] for each in found] == ["A", "B"]


def test_a_list_that_does_not_say_is_of_the_accounts_own_opt_in(api: Api) -> None:
    body = {"data": {"type": "list", "attributes": {"name": "News"}}}
    assert api.good("POST", "/lists", body)["data"]["attributes"]["opt_in_process"] == "double_opt_in"


def test_an_account_has_only_so_many_lists(api: Api) -> None:
    api.sandbox.settings(max_lists=2)
    api.make_list()
    with pytest.raises(AssertionError, match="at most 2 lists"):
        api.make_list()


def test_profiles_are_put_on_and_taken_off_by_id_and_consent_stays(api: Api) -> None:
    list_id, name = api.make_list(), api.create()
    assert api.put_on(list_id, name, name).status_code == 204
    api.advance(60)
    api.put_on(list_id, name)
    [member] = api.good("GET", f"/lists/{list_id}/profiles")["data"]
    assert member["attributes"]["joined_group_at"] == "2026-11-01T12:00:00+00:00"
    assert api.marketing()["consent"] == "NEVER_SUBSCRIBED"
    assert api.put_on(list_id, name, method="DELETE").status_code == 204
    assert api.put_on(list_id, name, method="DELETE").status_code == 204
    assert api.listed(f"/lists/{list_id}/profiles") == []
    assert api.put_on("nowhere", name).status_code == 404


def test_a_list_takes_1000_profiles_at_once(api: Api) -> None:
    assert api.put_on(api.sandbox.list_id, *["01NOBODY"] * 1000).status_code == 204
    assert api.put_on(api.sandbox.list_id, *["01NOBODY"] * 1001).status_code == 400


@pytest.mark.parametrize(
    ("mode", "status", "members"), [("adversarial", 204, [ANNA]), ("permissive", 404, [])]
)
def test_an_unknown_profile_is_passed_over_in_silence_at_the_worst(
    api: Api, mode: str, status: int, members: list[str]
) -> None:
    api.sandbox.settings(mode=mode)
    assert api.put_on(api.sandbox.list_id, api.create(), "01NOBODY").status_code == status
    assert api.listed(f"/lists/{api.sandbox.list_id}/profiles") == members


def test_members_are_read_in_the_order_of_joining_from_a_time_on(api: Api) -> None:
    list_id = api.make_list()
    names = [api.create(f"p{i}@shop.de") for i in range(5)]
    for name in reversed(names):
        api.put_on(list_id, name)
        api.advance(60)
    path = f"/lists/{list_id}/profiles"
    since = "greater-than(joined_group_at,2026-11-01T12:02:00Z)"
    assert api.listed(path, filter=since, sort="joined_group_at") == ["p1@shop.de", "p0@shop.de"]
    assert api.listed(path, sort="-joined_group_at")[0] == "p0@shop.de"
    assert api.listed(path, filter="any(email,['p1@shop.de','p9@shop.de'])") == ["p1@shop.de"]
    between = "greater-or-equal(joined_group_at,2026-11-01T12:01:00Z),less-or-equal(joined_group_at,2026-11-01T12:02:00Z)"
    assert api.listed(path, filter=between) == ["p3@shop.de", "p2@shop.de"]


def test_bodies_that_are_no_documents_are_refused(api: Api) -> None:
    headers = {"content-type": "application/vnd.api+json"}
    bodies: list[Any] = [[], {}, {"data": None}, {"data": {"type": "profile"}}]
    for body in bodies:
        assert api.wrong("POST", "/profile-import", body, headers=headers).status_code == 400
    unknown = {"data": {"type": "profile", "attributes": {"email": ANNA, "shoe_size": 38}}}
    assert error_of(api.wrong("POST", "/profile-import", unknown)) == (
        400,
        "invalid",
        "/data/attributes/shoe_size",
    )
    assert json.dumps(api.emulator.state(count=10, offset=0, address=None)["profiles"]) == "[]"
