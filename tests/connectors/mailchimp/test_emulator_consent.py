"""What the local Mailchimp does to people who said no: where it refuses, where it does not, and that it remembers."""

from typing import Any

import pytest
import requests

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import Sandbox

ANNA = "anna@shop.de"


class Api:
    """Plain calls to one audience, answers as they come."""

    def __init__(self, mailchimp: Sandbox) -> None:
        self._sandbox = mailchimp

    def call(self, method: str, path: str = "", body: Any = None) -> requests.Response:
        return self._sandbox.call(method, "." + path, body)

    def create(self, address: str = ANNA, status: str = "subscribed", **more: Any) -> requests.Response:
        return self.call("POST", "/members", {"email_address": address, "status": status, **more})

    def patch(self, address: str = ANNA, **body: Any) -> requests.Response:
        return self.call("PATCH", f"/members/{address}", body)

    def status(self, address: str = ANNA) -> str:
        return str(self.call("GET", f"/members/{address}").json()["status"])

    def batch(self, *items: dict[str, Any], update: bool = False, **more: Any) -> dict[str, Any]:
        answer = self.call("POST", "", {"members": list(items), "update_existing": update, **more})
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result


@pytest.fixture
def api(mailchimp: Sandbox) -> Api:
    return Api(mailchimp)


def left(mailchimp: Sandbox, api: Api, act: PersonAct = PersonAct.UNSUBSCRIBE) -> None:
    api.create()
    mailchimp.emulator.act(act, address=ANNA)


def raises(mailchimp: Sandbox) -> list[tuple[str, str, str | None]]:
    return [(each.before, each.after, each.refused) for each in mailchimp.emulator.audience.raises]


@pytest.mark.parametrize("act", [PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN])
def test_whoever_left_is_in_a_compliance_state(mailchimp: Sandbox, api: Api, act: PersonAct) -> None:
    left(mailchimp, api, act)
    for answer in (
        api.patch(status="subscribed"),
        api.call(
            "PUT",
            f"/members/{ANNA}",
            {"email_address": ANNA, "status": "subscribed", "status_if_new": "subscribed"},
        ),
    ):
        assert answer.status_code == 400
        assert answer.json()["title"] == "Member In Compliance State"
        assert answer.headers["content-type"].startswith("application/problem+json")
    assert api.status() == ("cleaned" if act is PersonAct.BOUNCE else "unsubscribed")
    assert raises(mailchimp) == []


def test_asking_whoever_left_to_confirm_is_possible_and_remembered_as_a_raise(
    mailchimp: Sandbox, api: Api
) -> None:
    left(mailchimp, api)
    assert api.patch(status="pending").status_code == 200
    assert raises(mailchimp) == [("unsubscribed", "pending", "unsubscribe")]
    assert mailchimp.emulator.audience.members[_hash(mailchimp)].confirmation_mails == 1
    api.patch(status="pending")
    assert mailchimp.emulator.audience.members[_hash(mailchimp)].confirmation_mails == 1


def _hash(mailchimp: Sandbox) -> str:
    member = mailchimp.emulator.audience.find(ANNA)
    assert member is not None
    return member.id


def test_whom_the_api_unsubscribed_the_api_can_subscribe_and_it_is_remembered(
    mailchimp: Sandbox, api: Api
) -> None:
    api.create()
    api.patch(status="unsubscribed")
    assert api.patch(status="subscribed").status_code == 200
    assert raises(mailchimp) == [("unsubscribed", "subscribed", "api")]


def test_permissive_refuses_no_raise(mailchimp: Sandbox, api: Api) -> None:
    mailchimp.settings(mode="permissive")
    left(mailchimp, api)
    item = {"email_address": ANNA, "status": "subscribed"}
    assert api.batch(item, update=True)["total_updated"] == 1
    assert api.status() == "subscribed"
    mailchimp.emulator.act(PersonAct.COMPLAIN, address=ANNA)
    assert api.patch(status="subscribed").status_code == 200
    mailchimp.emulator.act(PersonAct.ERASE, address=ANNA)
    assert api.create().status_code == 200
    assert [refused for _, _, refused in raises(mailchimp)] == ["unsubscribe", "complain", "erase"]


def test_an_erased_address_cannot_come_back_by_api(mailchimp: Sandbox, api: Api) -> None:
    left(mailchimp, api, PersonAct.ERASE)
    assert api.create().json()["title"] == "Forgotten Email Not Subscribed"
    [error] = api.batch({"email_address": ANNA.upper(), "status": "subscribed"})["errors"]
    assert error["error_code"] == "ERROR_GENERIC"
    assert api.call("GET", f"/members/{ANNA}").status_code == 404


def test_an_erased_address_cannot_be_taken_by_a_change_of_address(mailchimp: Sandbox, api: Api) -> None:
    left(mailchimp, api, PersonAct.ERASE)
    api.create("other@shop.de")
    answer = api.patch("other@shop.de", email_address=ANNA)
    assert answer.json()["title"] == "Forgotten Email Not Subscribed"
    assert api.status("other@shop.de") == "subscribed"


def test_a_signup_form_ends_every_refusal(mailchimp: Sandbox, api: Api) -> None:
    for act in (PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN, PersonAct.ERASE):
        left(mailchimp, api, act)
        mailchimp.emulator.act(PersonAct.SUBSCRIBE, address=ANNA)
        assert api.status() == "subscribed"
        assert api.patch(status="subscribed").status_code == 200
    assert raises(mailchimp) == []


def test_double_opt_in_waits_for_the_person_unless_the_api_says_subscribed(
    mailchimp: Sandbox, api: Api
) -> None:
    mailchimp.settings(double_optin=True)
    assert api.call("GET").json()["double_optin"] is True
    mailchimp.emulator.act(PersonAct.SUBSCRIBE, address=ANNA)
    assert api.status() == "pending"
    mailchimp.emulator.act(PersonAct.CONFIRM, address=ANNA)
    assert api.status() == "subscribed"
    api.create("other@shop.de", "subscribed")
    assert api.status("other@shop.de") == "subscribed"


# Batches


def test_a_raise_in_a_batch_is_left_out_of_the_answer_without_a_word(mailchimp: Sandbox, api: Api) -> None:
    left(mailchimp, api)
    for update in (False, True):
        answer = api.batch({"email_address": ANNA, "status": "subscribed"}, update=update)
        assert (answer["total_created"], answer["total_updated"], answer["error_count"]) == (0, 0, 0)
    assert api.status() == "unsubscribed"


def test_a_cleaned_member_is_refused_in_a_batch_in_general_words_only(mailchimp: Sandbox, api: Api) -> None:
    left(mailchimp, api, PersonAct.BOUNCE)
    [error] = api.batch({"email_address": ANNA, "status": "subscribed"}, update=True)["errors"]
    assert error["error_code"] == "ERROR_GENERIC"


def test_a_status_in_an_update_overwrites(api: Api) -> None:
    api.create()
    api.batch({"email_address": ANNA, "status": "unsubscribed"}, update=True)
    assert api.status() == "unsubscribed"


def test_an_update_without_status_keeps_the_status_of_whoever_is_there(mailchimp: Sandbox, api: Api) -> None:
    left(mailchimp, api)
    answer = api.batch({"email_address": ANNA, "merge_fields": {"FNAME": "Anna"}}, update=True)
    assert answer["updated_members"][0]["status"] == "unsubscribed"


@pytest.mark.parametrize("absent", [False, True])
def test_an_update_without_status_makes_the_archived_and_the_absent_subscribed(
    mailchimp: Sandbox, api: Api, *, absent: bool
) -> None:
    if not absent:
        left(mailchimp, api)
        api.call("DELETE", f"/members/{ANNA}")
        assert api.status() == "archived"
    answer = api.batch({"email_address": ANNA, "merge_fields": {"FNAME": "Anna"}}, update=True)
    assert answer["total_created"] == 1
    assert api.status() == "subscribed"
    assert raises(mailchimp) == [
        ("absent", "subscribed", None) if absent else ("archived", "subscribed", "unsubscribe")
    ]


def test_permissive_leaves_the_archived_archived_and_refuses_the_absent(mailchimp: Sandbox, api: Api) -> None:
    mailchimp.settings(mode="permissive")
    api.create()
    api.call("DELETE", f"/members/{ANNA}")
    answer = api.batch(
        {"email_address": ANNA, "merge_fields": {"FNAME": "Anna"}},
        {"email_address": "new@shop.de"},
        update=True,
    )
    assert (answer["total_created"], answer["total_updated"], answer["error_count"]) == (0, 1, 1)
    assert api.status() == "archived"


def test_archiving_hides_that_somebody_had_left_and_lets_them_be_subscribed(
    mailchimp: Sandbox, api: Api
) -> None:
    left(mailchimp, api)
    api.call("DELETE", f"/members/{ANNA}")
    assert api.batch({"email_address": ANNA, "status": "subscribed"})["total_created"] == 1
    assert raises(mailchimp) == [("archived", "subscribed", "unsubscribe")]


@pytest.mark.parametrize("mode", ["adversarial", "permissive"])
def test_a_put_takes_an_archived_member_for_a_new_one_at_the_worst(
    mailchimp: Sandbox, api: Api, mode: str
) -> None:
    mailchimp.settings(mode=mode)
    left(mailchimp, api)
    api.call("DELETE", f"/members/{ANNA}")
    api.call("PUT", f"/members/{ANNA}", {"email_address": ANNA, "status_if_new": "subscribed"})
    assert api.status() == ("subscribed" if mode == "adversarial" else "archived")
    assert len(raises(mailchimp)) == (1 if mode == "adversarial" else 0)


def test_a_patch_of_an_archived_member_leaves_it_archived(api: Api) -> None:
    api.create()
    assert api.call("DELETE", f"/members/{ANNA}").status_code == 204
    assert api.patch(merge_fields={"FNAME": "Anna"}).json()["status"] == "archived"
    assert api.call("DELETE", f"/members/{ANNA}").status_code == 405


def test_a_new_address_in_a_batch_makes_a_second_member(mailchimp: Sandbox, api: Api) -> None:
    left(mailchimp, api)
    api.batch({"email_address": "anna.ott@shop.de", "status": "subscribed"}, update=True)
    assert (api.status(), api.status("anna.ott@shop.de")) == ("unsubscribed", "subscribed")


def test_a_patched_address_is_the_same_contact_with_the_same_status_and_tags(
    mailchimp: Sandbox, api: Api
) -> None:
    before = api.create(tags=["vip"]).json()
    mailchimp.emulator.act(PersonAct.UNSUBSCRIBE, address=ANNA)
    after = api.patch(email_address="anna.ott@shop.de").json()
    assert after["id"] != before["id"]
    assert (after["contact_id"], after["status"]) == (before["contact_id"], "unsubscribed")
    assert [tag["name"] for tag in after["tags"]] == ["vip"]
    assert api.call("GET", f"/members/{ANNA}").status_code == 404
    api.create("third@shop.de")
    assert api.patch("third@shop.de", email_address="Anna.Ott@shop.de").json()["title"] == "Member Exists"


def test_control_state_shows_raises_and_what_the_api_hides(mailchimp: Sandbox, api: Api) -> None:
    left(mailchimp, api)
    api.call("DELETE", f"/members/{ANNA}")
    api.batch({"email_address": ANNA, "status": "subscribed"})
    url = f"{mailchimp.origin}/_control/state?address={ANNA}"
    audience = requests.get(url, timeout=5).json()["audiences"][mailchimp.audience]
    assert audience["statuses"] == {"subscribed": 1}
    assert audience["raises"][0]["refused"] == "unsubscribe"
    assert audience["members"][0]["refused"] is None
