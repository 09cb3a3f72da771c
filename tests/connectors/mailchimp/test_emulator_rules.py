"""The other nasty parts of the local Mailchimp's audiences: fields, batches, tags, reads."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import Sandbox

ANNA = "anna@shop.de"
ANNA_ID = hashlib.md5(ANNA.encode(), usedforsecurity=False).hexdigest()
DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Api:
    """Plain calls to the audience, answers as they come."""

    def __init__(self, mailchimp: Sandbox) -> None:
        self._sandbox = mailchimp

    def call(self, method: str, path: str = "", body: Any = None, **query: Any) -> requests.Response:
        return self._sandbox.call(method, "." + path, body, **query)

    def field(self, tag: str, kind: str = "text", **more: Any) -> requests.Response:
        return self.call("POST", "/merge-fields", {"name": tag, "tag": tag, "type": kind, **more})

    def create(
        self, address: str = ANNA, fields: dict[str, Any] | None = None, **more: Any
    ) -> requests.Response:
        body = {"email_address": address, "status": "subscribed", "merge_fields": fields or {}, **more}
        return self.call("POST", "/members", body)

    def batch(
        self, *items: dict[str, Any], update: bool = False, query: str = "", **more: Any
    ) -> requests.Response:
        return self.call("POST", query, {"members": list(items), "update_existing": update, **more})

    def members(self, **query: Any) -> list[str]:
        return [each["email_address"] for each in self.call("GET", "/members", **query).json()["members"]]


@pytest.fixture
def api(mailchimp: Sandbox) -> Api:
    return Api(mailchimp)


def item(address: str = ANNA, **more: Any) -> dict[str, Any]:
    return {"email_address": address, "status": "subscribed", **more}


# Merge fields


def test_an_audience_has_30_merge_fields_and_80_on_the_larger_plan(mailchimp: Sandbox, api: Api) -> None:
    start = len(mailchimp.emulator.audience.fields)
    assert [api.field(f"F{i}").status_code for i in range(31 - start)] == [200] * (30 - start) + [400]
    mailchimp.settings(plan="premium")
    assert [api.field(f"P{i}").status_code for i in range(51)] == [200] * 50 + [400]


@pytest.mark.parametrize("tag", ["ELEVENCHARS", "WITH-DASH", "EMAIL", "FNAME"])
def test_a_merge_tag_is_short_plain_and_free(api: Api, tag: str) -> None:
    assert api.field(tag).status_code == 400


def test_a_merge_tag_is_kept_in_upper_case_and_made_up_when_missing(api: Api) -> None:
    assert api.field("sg_score").json()["tag"] == "SG_SCORE"
    assert api.call("POST", "/merge-fields", {"name": "x", "type": "text"}).json()["tag"].startswith("MMERGE")


def test_a_field_needs_the_options_of_its_type(api: Api) -> None:
    for body in (
        {"name": "x", "type": "radio"},
        {"name": "x", "type": "date", "options": {"date_format": "ISO"}},
    ):
        assert api.call("POST", "/merge-fields", body).json()["title"] == "Invalid Resource"


def test_a_text_is_cut_to_255_bytes_without_a_word_even_inside_a_character(
    mailchimp: Sandbox, api: Api
) -> None:
    api.field("SG_TEXT")
    assert (
        api.create(fields={"SG_TEXT": "ä" * 200}).json()["merge_fields"]["SG_TEXT"]
        == "ä" * 127 + "\N{REPLACEMENT CHARACTER}"
    )
    mailchimp.settings(mode="permissive")
    changed = api.call("PATCH", f"/members/{ANNA}", {"merge_fields": {"SG_TEXT": "ä" * 200}}).json()
    assert changed["merge_fields"]["SG_TEXT"] == "ä" * 127


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("number", "12.50", 12.5),
        ("number", 3, 3),
        ("number", "", ""),
        ("number", "12,5", None),
        ("number", "inf", None),
        ("number", "1_000", None),
        ("number", "١٢", None),
        ("number", True, None),
        ("date", "2026-02-28", "2026-02-28"),
        ("date", "02/28/2026", "2026-02-28"),
        ("date", "2026-02-30", None),
        ("date", "28.02.2026", None),
        ("birthday", "02/29", "02/29"),
        ("birthday", "29/02", None),
        ("url", "https://shop.de/p/1?a=ü", "https://shop.de/p/1?a=ü"),
        ("url", "shop.de/p/1", None),
        ("imageurl", "https://shop.de/p/1.jpg", "https://shop.de/p/1.jpg"),
        ("imageurl", "p/1.jpg", None),
        ("zip", "12345", "12345"),
        ("zip", "SW1A 1AA", None),
        ("phone", "+49 228 1", "+49 228 1"),
        ("phone", 492281, None),
        ("address", {"addr1": "Main 1", "city": "Bonn"}, None),
        ("text", ["a"], None),
        ("text", 7, "7"),
    ],
)
def test_values_are_kept_by_type_or_the_whole_write_is_refused(
    api: Api, kind: str, given: Any, kept: Any
) -> None:
    api.field("SG_X", kind)
    answer = api.create(fields={"SG_X": given, "FNAME": "Anna"})
    if kept is None:
        assert answer.json()["detail"] == "Your merge fields were invalid."
        assert [error["field"] for error in answer.json()["errors"]] == ["SG_X"]
        assert api.call("GET", f"/members/{ANNA}").status_code == 404
    else:
        assert answer.json()["merge_fields"]["SG_X"] == kept


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"language": 5}, "language"),
        ({"ip_opt": None}, "ip_opt"),
        ({"vip": "yes"}, "vip"),
        ({"location": {"latitude": "north"}}, "location.latitude"),
        ({"marketing_permissions": [{"enabled": 1}]}, "marketing_permissions.0.enabled"),
    ],
)
def test_a_key_of_the_wrong_type_is_refused_by_name(
    mailchimp: Sandbox, api: Api, body: dict[str, Any], field: str
) -> None:
    api.create(
        location={"latitude": 50.7}, marketing_permissions=[{"marketing_permission_id": "a", "enabled": True}]
    )
    answer = api.call("PATCH", f"/members/{ANNA}", body).json()
    assert [error["field"] for error in answer["errors"]] == [field]
    assert api.call("GET", f"/members/{ANNA}").json()["location"]["latitude"] == 50.7
    with pytest.raises(AssertionError, match="is not of type"):
        mailchimp.referee.verify()


def test_a_choice_must_be_one_of_the_choices(api: Api) -> None:
    api.field("SG_C", "dropdown", options={"choices": ["red", "blue"]})
    assert api.create(fields={"SG_C": "green"}).status_code == 400
    assert api.create(fields={"SG_C": "blue"}).status_code == 200


def test_an_unknown_field_fails_the_whole_write(mailchimp: Sandbox, api: Api) -> None:
    assert api.create(fields={"NOPE": "x"}).status_code == 400
    answer = api.batch(item("good@shop.de"), item(merge_fields={"NOPE": "x"}))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "NOPE")
    assert mailchimp.emulator.audience.members == {}
    mailchimp.settings(mode="permissive")
    answer = api.batch(item("good@shop.de"), item(merge_fields={"NOPE": "x"}))
    assert (answer.json()["total_created"], answer.json()["error_count"]) == (1, 1)


def test_a_required_field_is_asked_for_unless_told_not_to(api: Api) -> None:
    api.field("SG_NEED", required=True)
    assert api.create().json()["errors"] == [{"field": "SG_NEED", "message": "Please enter a value"}]
    assert api.call("POST", "/members", item(), skip_merge_validation="true").status_code == 200
    assert api.call("PATCH", f"/members/{ANNA}", {"merge_fields": {"FNAME": "Anna"}}).status_code == 400
    assert api.call("PATCH", f"/members/{ANNA}", {"language": "de"}).status_code == 200


def test_sentences_follow_the_audiences_language_and_titles_do_not(mailchimp: Sandbox, api: Api) -> None:
    mailchimp.settings(localized=True)
    api.field("SG_N", "number")
    answer = api.create(fields={"SG_N": "x"}).json()
    assert (answer["title"], answer["errors"][0]["message"]) == (
        "Invalid Resource",
        "Bitte gib eine Zahl ein.",
    )
    [error] = api.batch(item(merge_fields={"SG_N": "x"})).json()["errors"]
    assert (error["error_code"], error["field"]) == ("ERROR_GENERIC", "SG_N")
    assert "member" not in error["error"]


def test_a_member_is_created_once(api: Api) -> None:
    api.create()
    answer = api.create(ANNA.upper())
    assert (answer.status_code, answer.json()["title"]) == (400, "Member Exists")


# Batches


def test_items_of_a_batch_fail_alone_and_the_answer_is_still_200(api: Api) -> None:
    api.field("SG_N", "number")
    answer = api.batch(item("a@shop.de"), item("nonsense"), item("b@shop.de", merge_fields={"SG_N": "x"}))
    assert answer.status_code == 200
    assert [error["email_address"] for error in answer.json()["errors"]] == ["nonsense", "b@shop.de"]
    assert [error["field"] for error in answer.json()["errors"]] == ["", "SG_N"]
    assert answer.json()["total_created"] == 1


def test_more_than_500_items_are_refused_as_a_whole(mailchimp: Sandbox, api: Api) -> None:
    assert api.batch(*[item(f"p{i}@shop.de") for i in range(501)]).status_code == 400
    assert mailchimp.emulator.audience.members == {}
    segment = api.call("POST", "/segments", {"name": "t", "static_segment": []}).json()["id"]
    many = [f"p{i}@shop.de" for i in range(501)]
    assert api.call("POST", f"/segments/{segment}", {"members_to_add": many}).status_code == 400


def test_duplicates_in_a_batch_are_ignored_only_when_asked(api: Api) -> None:
    pair = (item("A@shop.de"), item("a@shop.de"))
    assert api.batch(*pair, query="?skip_duplicate_check=true").json()["error_count"] == 0
    api.call("DELETE", "/members/a@shop.de")
    assert api.batch(*pair).json()["errors"][0]["error_code"] == "ERROR_CONTACT_EXISTS"


def test_tags_in_a_batch_are_added_to_existing_members_only_with_update_existing(api: Api) -> None:
    def tags() -> list[str]:
        return [tag["name"] for tag in api.call("GET", f"/members/{ANNA_ID}/tags").json()["tags"]]

    api.batch(item(tags=["a"]))
    api.batch(item(tags=["b"]))
    assert tags() == ["a"]
    api.batch({"email_address": ANNA, "tags": ["b"]}, update=True)
    assert tags() == ["a", "b"]
    api.batch({"email_address": ANNA, "tags": ["c"]}, update=True, sync_tags=True)
    assert tags() == ["c"]


def test_a_put_takes_no_tags(mailchimp: Sandbox) -> None:
    body = {"email_address": ANNA, "status_if_new": "subscribed", "tags": ["a"]}
    answer = requests.put(
        f"{mailchimp.base_url}/lists/{mailchimp.audience}/members/{ANNA}",
        json=body,
        auth=("any", mailchimp.key),
        timeout=5,
    )
    assert answer.json()["tags_count"] == 0
    with pytest.raises(AssertionError, match="'tags' was unexpected"):
        mailchimp.referee.verify()


def test_fake_addresses_are_refused_when_so_configured(mailchimp: Sandbox, api: Api) -> None:
    assert api.create("a@example.com").status_code == 200
    mailchimp.settings(refuse_fake_addresses=True)
    for address in ("b@example.com", "b@mail.example.org", "b@shop.test", "b@shop.invalid"):
        assert "looks fake or invalid" in api.create(address).json()["detail"]
    [error] = api.batch(item("b@example.net")).json()["errors"]
    assert error["error_code"] == "ERROR_GENERIC"


def test_evidence_is_kept_and_nonsense_in_it_refused(api: Api) -> None:
    evidence: dict[str, Any] = {"timestamp_opt": "2026-01-01T10:00:00Z", "ip_opt": "10.0.0.1"}
    assert api.create(**evidence).json()["timestamp_opt"] == "2026-01-01T10:00:00+00:00"
    assert api.create("b@shop.de", ip_opt="nowhere").status_code == 400


# Tags


def test_a_member_shows_50_tags_and_counts_all(api: Api) -> None:
    shown = api.create(tags=[f"tag {i}" for i in range(60)]).json()
    assert (len(shown["tags"]), shown["tags_count"]) == (50, 60)
    assert api.call("GET", f"/members/{ANNA_ID}/tags", count=1000).json()["total_items"] == 60


def test_naming_tags_changes_only_those_and_an_empty_list_none(mailchimp: Sandbox, api: Api) -> None:
    api.create(tags=["a", "b"])
    off = [{"name": "A", "status": "inactive"}, {"name": "never seen", "status": "inactive"}]
    assert api.call("POST", f"/members/{ANNA_ID}/tags", {"tags": off}).status_code == 204
    assert api.call("POST", f"/members/{ANNA_ID}/tags", {"tags": []}).status_code == 204
    assert api.call("GET", f"/members/{ANNA}").json()["tags_count"] == 1
    assert api.call("POST", f"/members/{'0' * 32}/tags", {"tags": []}).status_code == 404
    assert mailchimp.emulator.audience.segment_named("never seen") is None


def test_only_the_hash_leads_to_tags_and_erasure(api: Api) -> None:
    contact = api.create().json()["contact_id"]
    for key in (ANNA, contact):
        assert api.call("GET", f"/members/{key}").status_code == 200
        assert api.call("GET", f"/members/{key}/tags").status_code == 404
        assert api.call("POST", f"/members/{key}/actions/delete-permanent").status_code == 404
    assert api.call("POST", f"/members/{ANNA_ID}/actions/delete-permanent").status_code == 204


def test_a_segment_is_named_once_renamed_and_emptied(api: Api) -> None:
    api.create()
    segment = api.call("POST", "/segments", {"name": "t", "static_segment": [ANNA]}).json()
    assert segment["member_count"] == 1
    assert api.call("POST", "/segments", {"name": "T", "static_segment": []}).status_code == 400
    changed = api.call("PATCH", f"/segments/{segment['id']}", {"name": "u", "static_segment": []}).json()
    assert (changed["name"], changed["member_count"]) == ("u", 0)
    api.create("gone@shop.de")
    api.call("DELETE", "/members/gone@shop.de")
    answer = api.call("POST", f"/segments/{segment['id']}", {"members_to_add": ["gone@shop.de"]}).json()
    assert (answer["total_added"], answer["error_count"]) == (0, 0)
    assert api.call("POST", f"/segments/{segment['id']}/members", {"email_address": ANNA}).status_code == 200
    assert api.call("DELETE", f"/segments/{segment['id']}/members/{ANNA_ID}").status_code == 204
    assert api.call("DELETE", f"/segments/{segment['id']}/members/{ANNA_ID}").status_code == 404


def test_a_segment_hides_whoever_left_unless_asked(mailchimp: Sandbox, api: Api) -> None:
    api.create(tags=["t"])
    mailchimp.emulator.act(PersonAct.UNSUBSCRIBE, address=ANNA)
    segment = api.call("GET", "/segments").json()["segments"][0]
    path = f"/segments/{segment['id']}/members"
    assert api.call("GET", path).json()["total_items"] == 0
    assert api.call("GET", path, include_unsubscribed="true").json()["total_items"] == 1


# Reads


def test_a_page_has_10_by_default_and_1000_at_most(mailchimp: Sandbox, api: Api) -> None:
    for start in range(0, 1500, 500):
        api.batch(*[item(f"p{i}@shop.de") for i in range(start, start + 500)])
    assert len(api.members()) == 10
    assert len(api.members(count=1000, offset=1000)) == 500
    assert len(api.members(count=5000)) == 1000
    with pytest.raises(AssertionError, match="more than 1000"):
        mailchimp.referee.verify()


def test_archived_members_are_listed_only_when_asked_for(api: Api) -> None:
    api.create()
    api.create("other@shop.de")
    api.call("DELETE", f"/members/{ANNA}")
    assert api.members() == ["other@shop.de"]
    assert api.members(status="archived") == [ANNA]


def test_changes_since_an_instant_leave_out_that_very_second(mailchimp: Sandbox, api: Api) -> None:
    for number in range(3):
        mailchimp.emulator.clock.set(DAY + timedelta(seconds=number, milliseconds=500))
        api.create(f"p{number}@shop.de")
    since = (DAY + timedelta(seconds=1)).isoformat()
    assert api.members(since_last_changed=since) == ["p2@shop.de"]
    assert api.members(before_last_changed=since) == ["p0@shop.de"]
    assert api.members(sort_field="last_changed", sort_dir="DESC")[0] == "p2@shop.de"


def test_a_malformed_instant_is_no_error_and_loses_everybody(mailchimp: Sandbox, api: Api) -> None:
    api.create()
    plus_unencoded = f"/members?since_last_changed={(DAY - timedelta(days=9)).isoformat()}"
    assert api.call("GET", plus_unencoded).json()["total_items"] == 0
    mailchimp.settings(mode="permissive")
    assert api.call("GET", plus_unencoded).json()["total_items"] == 1


def test_a_write_that_changes_nothing_still_moves_last_changed(mailchimp: Sandbox, api: Api) -> None:
    mailchimp.emulator.clock.set(DAY)
    api.create(fields={"FNAME": "Anna"})
    mailchimp.emulator.clock.advance(timedelta(hours=1))
    api.batch({"email_address": ANNA, "merge_fields": {"FNAME": "Anna"}}, update=True)
    assert api.members(since_last_changed=DAY.isoformat()) == [ANNA]


def test_unsubscribed_since_needs_its_status(mailchimp: Sandbox, api: Api) -> None:
    mailchimp.emulator.clock.set(DAY)
    api.create()
    mailchimp.emulator.act(PersonAct.UNSUBSCRIBE, address=ANNA)
    before = (DAY - timedelta(days=1)).isoformat()
    assert api.call("GET", "/members", unsubscribed_since=before).status_code == 400
    assert api.members(unsubscribed_since=before, status="unsubscribed") == [ANNA]


def test_fields_and_exclude_fields_project_through_lists_and_exclude_each_other(api: Api) -> None:
    api.create(fields={"FNAME": "Anna"})
    only = api.call(
        "GET", "/members", fields="members.email_address,members.merge_fields.FNAME,total_items"
    ).json()
    assert only == {"members": [{"email_address": ANNA, "merge_fields": {"FNAME": "Anna"}}], "total_items": 1}
    without = api.call("GET", "/members", exclude_fields="members.merge_fields,list_id").json()
    assert "merge_fields" not in without["members"][0]
    assert "list_id" not in without
    assert api.call("GET", "/members", fields="a", exclude_fields="b").status_code == 400
