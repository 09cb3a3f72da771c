"""The lists of the local HubSpot: who is on them, and who falls off."""

from typing import Any

import pytest

from segue.connectors.hubspot.testing import Sandbox

from .calls import ANNA, BERT, Contacts

LISTS = "/crm/v3/lists"


def make(hubspot: Sandbox, name: str = "VIP", kind: str = "MANUAL", **more: Any) -> Any:
    body = {"name": name, "objectTypeId": "0-1", "processingType": kind, **more}
    return hubspot.call("POST", LISTS, body)


@pytest.fixture
def vip(hubspot: Sandbox) -> str:
    return f"{LISTS}/{make(hubspot).json()['list']['listId']}"


def members(hubspot: Sandbox, path: str, **query: Any) -> list[str]:
    rows = hubspot.call("GET", f"{path}/memberships", **query).json()["results"]
    return [row["recordId"] for row in rows]


@pytest.mark.parametrize(
    "base", ["/crm/v3/lists", "/crm/v3/lists/", "/crm/lists/2026-03", "/crm/lists/2026-09"]
)
def test_a_list_is_made_and_found(hubspot: Sandbox, base: str) -> None:
    body = {"name": "VIP", "objectTypeId": "0-1", "processingType": "MANUAL"}
    made = hubspot.call("POST", base, body).json()["list"]
    base = base.rstrip("/")
    assert (made["name"], made["processingType"], made["objectTypeId"]) == ("VIP", "MANUAL", "0-1")
    assert hubspot.call("GET", f"{base}/{made['listId']}").json()["list"] == made
    assert hubspot.call("GET", f"{base}/object-type-id/0-1/name/vip").json()["list"] == made
    found = hubspot.call("POST", f"{base}/search", {"query": "vi"}).json()
    assert ([each["listId"] for each in found["lists"]], found["hasMore"]) == ([made["listId"]], False)
    assert hubspot.call("GET", f"{base}/object-type-id/0-1/name/nope").status_code == 404


def test_a_name_is_taken_once(hubspot: Sandbox) -> None:
    make(hubspot)
    assert make(hubspot, "vip").status_code == 400
    hubspot.settings(mode="permissive")
    assert make(hubspot).status_code == 409
    assert make(hubspot, "other", "MAGIC").status_code == 400
    assert make(hubspot, "other", objectTypeId="0-2").status_code == 400


def test_a_search_goes_page_by_page(hubspot: Sandbox) -> None:
    for number in range(3):
        make(hubspot, f"list {number}", "SNAPSHOT")
    first = hubspot.call("POST", f"{LISTS}/search", {"count": 2}).json()
    assert (first["total"], first["offset"], first["hasMore"]) == (3, 2, True)
    rest = hubspot.call("POST", f"{LISTS}/search", {"count": 2, "offset": 2}).json()
    assert [each["name"] for each in rest["lists"]] == ["list 2"]
    assert hubspot.call("POST", f"{LISTS}/search", {"processingTypes": ["MANUAL"]}).json()["total"] == 0


def test_members_are_added_by_record_ids_and_others_are_passed_over(
    hubspot: Sandbox, contacts: Contacts, vip: str
) -> None:
    anna, bert = contacts.create(), contacts.create(BERT)
    added = hubspot.call("PUT", f"{vip}/memberships/add", [anna, "1", "anna@shop.de"]).json()
    assert added == {
        "recordsIdsAdded": [anna],
        "recordIdsRemoved": [],
        "recordIdsMissing": ["1", "anna@shop.de"],
    }
    assert members(hubspot, vip) == [anna]
    again = hubspot.call("PUT", f"{vip}/memberships/add", [anna, bert]).json()
    assert again["recordsIdsAdded"] == [bert]
    removed = hubspot.call("PUT", f"{vip}/memberships/remove", [anna]).json()
    assert removed["recordIdsRemoved"] == [anna]
    assert members(hubspot, vip) == [bert]
    assert (contacts.person(ANNA).tags, contacts.person(BERT).tags) == (frozenset(), frozenset({"VIP"}))


def test_members_are_added_and_removed_in_one_call(hubspot: Sandbox, contacts: Contacts, vip: str) -> None:
    anna, bert = contacts.create(), contacts.create(BERT)
    hubspot.call("PUT", f"{vip}/memberships/add", [anna])
    body = {"recordIdsToAdd": [bert], "recordIdsToRemove": [anna]}
    answer = hubspot.call("PUT", f"{vip}/memberships/add-and-remove", body).json()
    assert (answer["recordsIdsAdded"], answer["recordIdsRemoved"]) == ([bert], [anna])
    assert hubspot.call("PUT", f"{vip}/memberships/add", {"recordIds": [anna]}).status_code == 400
    assert hubspot.call("PUT", f"{vip}/memberships/add", [int(anna)]).status_code == 400
    assert hubspot.call("DELETE", f"{vip}/memberships").status_code == 204
    assert members(hubspot, vip) == []


def test_members_are_read_page_by_page_in_order_of_ids(
    hubspot: Sandbox, contacts: Contacts, vip: str
) -> None:
    made = [contacts.create(f"p{i}@shop.de") for i in range(3)]
    hubspot.call("PUT", f"{vip}/memberships/add", made[::-1])
    page = hubspot.call("GET", f"{vip}/memberships", limit=2).json()
    assert [row["recordId"] for row in page["results"]] == made[:2]
    assert all(row["membershipTimestamp"] for row in page["results"])
    assert members(hubspot, vip, limit=2, after=page["paging"]["next"]["after"]) == made[2:]
    lists = hubspot.call("GET", f"{LISTS}/records/0-1/{made[0]}/memberships").json()["results"]
    assert [each["listId"] for each in lists] == [vip.rpartition("/")[2]]


def test_a_dynamic_list_refuses_to_be_written(hubspot: Sandbox, contacts: Contacts) -> None:
    made = make(hubspot, kind="DYNAMIC", filterBranch={"filterBranchType": "OR"}).json()["list"]
    path, anna = f"{LISTS}/{made['listId']}/memberships", contacts.create()
    assert hubspot.call("PUT", f"{path}/add", [anna]).status_code == 400
    assert hubspot.call("PUT", f"{path}/remove", [anna]).status_code == 400
    assert hubspot.call("DELETE", path).status_code == 400


@pytest.mark.parametrize("gone", ["archived", "erased", "merged"])
def test_whoever_goes_falls_off_their_lists(
    hubspot: Sandbox, contacts: Contacts, vip: str, gone: str
) -> None:
    anna, bert = contacts.create(), contacts.create(BERT)
    hubspot.call("PUT", f"{vip}/memberships/add", [anna])
    if gone == "archived":
        hubspot.call("DELETE", f"./{anna}")
    elif gone == "erased":
        hubspot.call("POST", "./gdpr-delete", {"objectId": anna})
    else:
        hubspot.call("POST", "./merge", {"primaryObjectId": anna, "objectIdToMerge": bert})
    assert members(hubspot, vip) == []


def test_a_deleted_list_is_gone_and_its_name_is_free(hubspot: Sandbox, contacts: Contacts, vip: str) -> None:
    anna = contacts.create()
    hubspot.call("PUT", f"{vip}/memberships/add", [anna])
    assert hubspot.call("DELETE", vip).status_code == 204
    assert hubspot.call("GET", vip).status_code == 404
    assert contacts.person().tags == frozenset()
    assert make(hubspot).status_code == 200
    assert hubspot.call("DELETE", f"./{anna}").status_code == 204


def test_a_list_is_renamed(hubspot: Sandbox, vip: str) -> None:
    answer = hubspot.call("PUT", f"{vip}/update-list-name", listName="Best")
    assert answer.json()["updatedList"]["name"] == "Best"
    make(hubspot, "Other")
    assert hubspot.call("PUT", f"{vip}/update-list-name", listName="Other").status_code == 400
