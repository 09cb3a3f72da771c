"""The vendor's own client, unpatched, does everything that we need against the local Mailchimp."""

import gzip
import hashlib
import io
import json
import tarfile
from typing import Any

import pytest
import requests
from mailchimp_marketing.api_client import ApiClientError

from segue.connectors.mailchimp.testing import Sandbox

ANNA = "Anna.Ott@shop.de"


def create(mailchimp: Sandbox, address: str = ANNA, **more: Any) -> Any:
    body = {"email_address": address, "status": "subscribed", **more}
    return mailchimp.sdk().lists.add_list_member(mailchimp.audience, body)


def test_the_key_opens_the_account(mailchimp: Sandbox) -> None:
    assert mailchimp.sdk().ping.get() == {"health_status": "Everything's Chimpy!"}
    assert mailchimp.sdk().root.get_root()["account_name"] == "Segue sandbox"


def test_a_member_is_created_read_changed_and_archived(mailchimp: Sandbox) -> None:
    sdk, audience = mailchimp.sdk(), mailchimp.audience
    made = create(mailchimp, merge_fields={"FNAME": "Anna"}, tags=["vip"], ip_signup="10.1.2.3")
    assert (made["status"], made["full_name"], made["ip_signup"]) == ("subscribed", "Anna", "10.1.2.3")
    assert [tag["name"] for tag in made["tags"]] == ["vip"]
    for key in (made["id"], made["contact_id"], ANNA):
        assert sdk.lists.get_list_member(audience, key)["id"] == made["id"]

    changed = sdk.lists.update_list_member(audience, made["id"], {"merge_fields": {"LNAME": "Ott"}})
    assert changed["full_name"] == "Anna Ott"
    assert sdk.lists.delete_list_member(audience, made["id"]).status_code == 204
    assert sdk.lists.get_list_member(audience, made["id"])["status"] == "archived"


def test_the_subscriber_hash_is_the_md5_of_the_lower_case(mailchimp: Sandbox) -> None:
    lower = hashlib.md5(ANNA.lower().encode(), usedforsecurity=False).hexdigest()
    assert create(mailchimp)["id"] == lower


def test_put_creates_with_one_status_and_leaves_it_alone_afterwards(mailchimp: Sandbox) -> None:
    sdk, audience = mailchimp.sdk(), mailchimp.audience
    body = {"email_address": ANNA, "status_if_new": "pending", "merge_fields": {"FNAME": "Anna"}}
    made = sdk.lists.set_list_member(audience, ANNA, body)
    assert made["status"] == "pending"
    again = sdk.lists.set_list_member(audience, made["id"], {**body, "status_if_new": "subscribed"})
    assert again["status"] == "pending"


def test_tags_are_added_and_removed_by_name_and_read_back(mailchimp: Sandbox) -> None:
    sdk, audience, member = mailchimp.sdk(), mailchimp.audience, create(mailchimp)["id"]
    wanted = [{"name": name, "status": "active"} for name in ("a", "b")]
    assert sdk.lists.update_list_member_tags(audience, member, {"tags": wanted}).status_code == 204
    sdk.lists.update_list_member_tags(audience, member, {"tags": [{"name": "a", "status": "inactive"}]})
    assert [tag["name"] for tag in sdk.lists.get_list_member_tags(audience, member)["tags"]] == ["b"]
    assert sdk.lists.tag_search(audience, name="A")["total_items"] == 1


def test_members_are_written_500_at_a_time(mailchimp: Sandbox) -> None:
    sdk, audience = mailchimp.sdk(), mailchimp.audience
    members = [{"email_address": f"p{i}@shop.de", "status": "subscribed", "tags": ["t"]} for i in range(500)]
    answer = sdk.lists.batch_list_members(audience, {"members": members})
    assert (answer["total_created"], answer["total_updated"], answer["error_count"]) == (500, 0, 0)
    again = sdk.lists.batch_list_members(audience, {"members": members})
    assert {error["error_code"] for error in again["errors"]} == {"ERROR_CONTACT_EXISTS"}
    assert again["error_count"] == 500
    page = sdk.lists.get_list_members_info(
        audience, count=1000, fields=["members.email_address", "total_items"]
    )
    assert page["total_items"] == 500
    assert page["members"][0] == {"email_address": "p0@shop.de"}


def test_a_tag_is_a_static_segment_that_takes_500_at_a_time(mailchimp: Sandbox) -> None:
    sdk, audience = mailchimp.sdk(), mailchimp.audience
    create(mailchimp)
    segment = sdk.lists.create_segment(audience, {"name": "big spenders", "static_segment": []})
    body = {"members_to_add": [ANNA, "stranger@shop.de"]}
    answer = sdk.lists.batch_segment_members(body, audience, segment["id"])
    assert (answer["total_added"], answer["error_count"]) == (1, 0)
    found = sdk.lists.get_segment_members_list(audience, segment["id"])
    assert [member["email_address"] for member in found["members"]] == [ANNA]
    assert [tag["name"] for tag in sdk.lists.get_list_member(audience, ANNA)["tags"]] == ["big spenders"]
    answer = sdk.lists.batch_segment_members({"members_to_remove": [ANNA]}, audience, segment["id"])
    assert answer["total_removed"] == 1
    sdk.lists.delete_segment(audience, segment["id"])
    assert sdk.lists.list_segments(audience)["segments"] == []


def test_merge_fields_are_made_changed_and_deleted(mailchimp: Sandbox) -> None:
    sdk, audience = mailchimp.sdk(), mailchimp.audience
    made = sdk.lists.add_list_merge_field(audience, {"name": "Score", "type": "number", "tag": "SG_SCORE"})
    sdk.lists.update_list_merge_field(audience, made["merge_id"], {"name": "RFM score"})
    shown = sdk.lists.get_list_merge_fields(audience, count=100)["merge_fields"]
    assert [field["name"] for field in shown if field["tag"] == "SG_SCORE"] == ["RFM score"]
    create(mailchimp, merge_fields={"SG_SCORE": "12.5"})
    assert sdk.lists.get_list_member(audience, ANNA)["merge_fields"]["SG_SCORE"] == 12.5
    sdk.lists.delete_list_merge_field(audience, made["merge_id"])
    assert "SG_SCORE" not in sdk.lists.get_list_member(audience, ANNA)["merge_fields"]


def test_lists_are_made_and_described(mailchimp: Sandbox) -> None:
    sdk = mailchimp.sdk()
    create(mailchimp)
    assert sdk.lists.get_list(mailchimp.audience)["stats"]["member_count"] == 1
    contact = {"company": "Shop", "address1": "1 Main", "city": "Bonn", "country": "DE"}
    defaults = {"from_name": "Shop", "from_email": "a@shop.de", "subject": "", "language": "de"}
    body = {
        "name": "Second",
        "contact": contact,
        "permission_reminder": "You know.",
        "campaign_defaults": defaults,
    }
    sdk.lists.create_list({**body, "email_type_option": False, "double_optin": True})
    lists = sdk.lists.get_all_lists(include_total_contacts=True)["lists"]
    assert [(each["name"], each["double_optin"]) for each in lists] == [("Sandbox", False), ("Second", True)]
    assert lists[0]["stats"]["total_contacts"] == 1


def test_events_of_a_member_are_kept(mailchimp: Sandbox) -> None:
    sdk, audience, member = mailchimp.sdk(), mailchimp.audience, create(mailchimp)["id"]
    body = {"name": "viewed_product", "properties": {"sku": "1"}, "is_syncing": True}
    assert sdk.lists.create_list_member_event(audience, member, body).status_code == 204
    assert sdk.lists.get_list_member_events(audience, member)["events"][0]["properties"] == {"sku": "1"}
    with pytest.raises(ApiClientError):
        sdk.lists.create_list_member_event(audience, member, {"name": "x"})


def test_a_person_is_erased_for_good(mailchimp: Sandbox) -> None:
    sdk, audience, member = mailchimp.sdk(), mailchimp.audience, create(mailchimp)["id"]
    assert sdk.lists.delete_list_member_permanent(audience, member).status_code == 204
    with pytest.raises(ApiClientError) as refused:
        sdk.lists.get_list_member(audience, member)
    assert refused.value.status_code == 404


def test_a_batch_of_operations_runs_later_and_leaves_its_results_in_an_archive(mailchimp: Sandbox) -> None:
    sdk, audience = mailchimp.sdk(), mailchimp.audience
    operations = [
        {
            "method": "POST",
            "path": f"/lists/{audience}/members",
            "operation_id": f"op{i}",
            "body": json.dumps({"email_address": f"p{i}@shop.de", "status": "subscribed"}),
        }
        for i in range(3)
    ]
    operations.append(
        {"method": "PATCH", "path": f"lists/{audience}/members/0123", "operation_id": "gone", "body": "{}"}
    )
    job = sdk.batches.start({"operations": operations})
    assert (job["status"], job["total_operations"], job["response_body_url"]) == ("pending", 4, "")
    assert mailchimp.emulator.audience.members == {}

    states = []
    while job["status"] != "finished":
        job = sdk.batches.status(job["id"])
        states.append(job["status"])
        if job["status"] in {"pending", "preprocessing"}:
            assert mailchimp.emulator.audience.members == {}
    assert states == ["pending", "preprocessing", "started", "finalizing", "finished"]
    assert (job["finished_operations"], job["errored_operations"]) == (4, 1)
    assert len(mailchimp.emulator.audience.members) == 3

    packed = requests.get(job["response_body_url"], timeout=5).content
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        files = [archive.extractfile(entry) for entry in archive if entry.isfile()]
        rows = [row for file in files if file is not None for row in json.load(file)]
    assert {row["operation_id"]: row["status_code"] for row in rows} == {
        "op0": 200,
        "op1": 200,
        "op2": 200,
        "gone": 404,
    }
    assert all(isinstance(json.loads(row["response"]), dict) for row in rows)
    assert sdk.batches.list()["total_items"] == 1


def test_a_wrong_key_is_refused_with_a_problem(mailchimp: Sandbox) -> None:
    with pytest.raises(ApiClientError) as refused:
        mailchimp.sdk("wrong-us19").ping.get()
    assert refused.value.status_code == 401
    assert json.loads(refused.value.text)["title"] == "API Key Invalid"
