"""The communication preferences of the local HubSpot, in the forms v3, v4 and dated."""

from typing import Any

import pytest
import requests

from segue.connectors.emulator import PersonAct
from segue.connectors.hubspot.testing import Sandbox

from .calls import ANNA, BERT, LETTER, NEWS, ONE_TO_ONE, Contacts

BASES = [f"/communication-preferences/{version}" for version in ("v4", "2026-03", "2026-09")]
V4, V3 = BASES[0], "/communication-preferences/v3"
BASIS: dict[str, Any] = {"legalBasis": "LEGITIMATE_INTEREST_CLIENT", "legalBasisExplanation": "A customer."}


def statuses(hubspot: Sandbox, address: str = ANNA) -> dict[int, str]:
    rows = hubspot.call("GET", f"{V4}/statuses/{address}", channel="EMAIL").json()["results"]
    return {row["subscriptionId"]: row["status"] for row in rows}


def v3(hubspot: Sandbox, act: str, kind: str = str(NEWS), **more: Any) -> requests.Response:
    return hubspot.call("POST", f"{V3}/{act}", {"emailAddress": ANNA, "subscriptionId": kind, **more})


@pytest.mark.parametrize("base", BASES)
def test_the_forms_of_a_path_are_answered_alike(hubspot: Sandbox, base: str) -> None:
    definitions = hubspot.call("GET", f"{base}/definitions").json()["results"]
    assert {each["id"] for each in definitions} >= {str(NEWS), str(LETTER)}
    body = {"subscriptionId": NEWS, "statusState": "UNSUBSCRIBED", "channel": "EMAIL"}
    written = hubspot.call("POST", f"{base}/statuses/{ANNA}", body).json()["results"][0]
    assert (written["status"], written["setStatusSuccessReason"]) == (
        "UNSUBSCRIBED",
        "REQUESTED_CHANGE_OCCURRED",
    )
    read = hubspot.call("GET", f"{base}/statuses/{ANNA}", channel="EMAIL").json()
    assert read["status"] == "COMPLETE"
    assert [(row["subscriptionId"], row["status"], row["subscriberIdString"]) for row in read["results"]] == [
        (NEWS, "UNSUBSCRIBED", ANNA)
    ]


def test_a_status_that_is_written_again_is_said_to_be_unchanged(contacts: Contacts) -> None:
    for status in ("SUBSCRIBED", "UNSUBSCRIBED"):
        reasons = [contacts.choose(status).json()["results"][0]["setStatusSuccessReason"] for _ in range(2)]
        assert reasons[1] == "NO_STATUS_CHANGE"


def test_addresses_are_the_same_in_any_case(hubspot: Sandbox, contacts: Contacts) -> None:
    contacts.choose("UNSUBSCRIBED", ANNA.upper())
    assert statuses(hubspot) == {NEWS: "UNSUBSCRIBED"}


def test_an_opt_out_from_all_is_not_to_be_seen_among_the_types(hubspot: Sandbox, contacts: Contacts) -> None:
    contacts.choose("SUBSCRIBED")
    path = f"{V4}/statuses/{ANNA}/unsubscribe-all"
    assert hubspot.call("GET", path, channel="EMAIL").json()["results"] == []
    assert hubspot.call("POST", path, channel="EMAIL").json()["results"] == []
    [wide] = hubspot.call("GET", path, channel="EMAIL").json()["results"]
    assert (wide["status"], wide["wideStatusType"], wide["channel"]) == (
        "UNSUBSCRIBED",
        "PORTAL_WIDE",
        "EMAIL",
    )
    assert statuses(hubspot) == {NEWS: "SUBSCRIBED"}
    hubspot.settings(mode="permissive")
    assert set(statuses(hubspot).values()) == {"UNSUBSCRIBED"}


def test_an_opt_out_from_all_tells_what_it_did_when_asked(hubspot: Sandbox) -> None:
    path = f"{V4}/statuses/{ANNA}/unsubscribe-all"
    rows = hubspot.call("POST", path, channel="EMAIL", verbose="true").json()["results"]
    assert {row["setStatusSuccessReason"] for row in rows} == {"UNSUBSCRIBE_FROM_ALL_OCCURRED"}
    again = hubspot.call("POST", path, channel="EMAIL", verbose="true").json()["results"]
    assert {row["setStatusSuccessReason"] for row in again} == {"NO_STATUS_CHANGE"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"channel": "WHATSAPP"},
        {"channel": None},
        {"subscriptionId": 7},
        {"subscriptionId": str(NEWS)},
        {"statusState": "MAYBE"},
        {"legalBasis": "BECAUSE"},
    ],
)
def test_a_status_that_makes_no_sense_is_refused(contacts: Contacts, wrong: Any) -> None:
    assert contacts.choose("SUBSCRIBED", **wrong).status_code == 400
    assert contacts.choose("SUBSCRIBED", "nobody").status_code == 400


def test_with_data_privacy_a_status_needs_a_legal_basis_and_its_explanation(
    hubspot: Sandbox, contacts: Contacts
) -> None:
    hubspot.settings(data_privacy=True)
    assert contacts.choose("SUBSCRIBED").status_code == 400
    assert contacts.choose("SUBSCRIBED", legalBasis="CONSENT_WITH_NOTICE").status_code == 400
    assert v3(hubspot, "subscribe").status_code == 400
    row = contacts.choose("SUBSCRIBED", **BASIS).json()["results"][0]
    assert {name: row[name] for name in BASIS} == BASIS
    assert v3(hubspot, "subscribe", **BASIS).json()["legalBasis"] == BASIS["legalBasis"]


# Batches


def batch(hubspot: Sandbox, act: str, *inputs: Any) -> requests.Response:
    return hubspot.call("POST", f"{V4}/statuses/batch/{act}", {"inputs": list(inputs)}, channel="EMAIL")


@pytest.mark.parametrize("tier", ["starter", "pro"])
@pytest.mark.parametrize("act", ["read", "write", "unsubscribe-all", "unsubscribe-all/read"])
def test_batches_need_the_highest_tier(hubspot: Sandbox, tier: str, act: str) -> None:
    hubspot.settings(tier=tier)
    answer = batch(hubspot, act, ANNA)
    assert (answer.status_code, answer.json()["category"]) == (403, "MISSING_SCOPES")
    [scope] = answer.json()["errors"][0]["context"]["requiredScopes"]
    assert scope.startswith("communication_preferences.statuses.batch.")


def test_statuses_are_written_and_read_many_at_once(hubspot: Sandbox) -> None:
    hubspot.settings(tier="enterprise")
    item = {"subscriptionId": NEWS, "statusState": "UNSUBSCRIBED", "channel": "EMAIL"}
    inputs = [{**item, "subscriberIdString": each} for each in (ANNA, BERT, "nobody")]
    written = batch(hubspot, "write", *inputs)
    assert (written.status_code, written.json()["numErrors"]) == (207, 1)
    assert [row["subscriberIdString"] for row in written.json()["results"]] == [ANNA, BERT]
    read = batch(hubspot, "read", ANNA, "c@shop.de").json()["results"]
    assert [(row["subscriberIdString"], len(row["statuses"])) for row in read] == [
        (ANNA, 1),
        ("c@shop.de", 0),
    ]
    assert batch(hubspot, "read", *[ANNA] * 101).status_code == 400


def test_many_are_opted_out_at_once(hubspot: Sandbox) -> None:
    hubspot.settings(tier="enterprise")
    assert len(batch(hubspot, "unsubscribe-all", ANNA).json()["results"][0]["statuses"]) == 3
    rows = batch(hubspot, "unsubscribe-all/read", ANNA, BERT).json()["results"]
    assert [[wide["status"] for wide in row["wideStatuses"]] for row in rows] == [["UNSUBSCRIBED"], []]


def test_a_resubscription_by_batch_is_remembered(hubspot: Sandbox, contacts: Contacts) -> None:
    hubspot.settings(tier="enterprise")
    contacts.create()
    hubspot.emulator.act(PersonAct.UNSUBSCRIBE, address=ANNA)
    item = {"subscriptionId": NEWS, "statusState": "SUBSCRIBED", "channel": "EMAIL"}
    batch(hubspot, "write", {**item, "subscriberIdString": ANNA})
    assert contacts.refusals == [(ANNA, "unsubscribe")]


# v3


def test_v3_knows_two_statuses_and_where_they_come_from(hubspot: Sandbox, contacts: Contacts) -> None:
    def shown() -> dict[str, tuple[str, str]]:
        answer = hubspot.call("GET", f"{V3}/status/email/{ANNA}").json()
        assert answer["recipient"] == ANNA
        return {row["id"]: (row["status"], row["sourceOfStatus"]) for row in answer["subscriptionStatuses"]}

    assert shown()[str(NEWS)] == ("NOT_SUBSCRIBED", "SUBSCRIPTION_STATUS")
    assert v3(hubspot, "subscribe").json()["status"] == "SUBSCRIBED"
    assert shown()[str(NEWS)] == ("SUBSCRIBED", "SUBSCRIPTION_STATUS")
    assert v3(hubspot, "unsubscribe").json()["status"] == "NOT_SUBSCRIBED"
    hubspot.call("POST", f"{V4}/statuses/{ANNA}/unsubscribe-all?channel=EMAIL")
    assert shown()[str(LETTER)] == ("NOT_SUBSCRIBED", "PORTAL_WIDE_STATUS")
    assert v3(hubspot, "subscribe", "7").status_code == 400
    assert len(hubspot.call("GET", f"{V3}/definitions").json()["subscriptionDefinitions"]) == 3


@pytest.mark.parametrize("kind", ["", str(NEWS)])
def test_v3_does_not_subscribe_whoever_opted_out(hubspot: Sandbox, contacts: Contacts, kind: str) -> None:
    contacts.create()
    hubspot.emulator.act(PersonAct.UNSUBSCRIBE, audience=kind, address=ANNA)
    assert v3(hubspot, "subscribe").status_code == 400
    assert v3(hubspot, "subscribe", str(ONE_TO_ONE)).status_code == (200 if kind else 400)
    assert contacts.refusals == []
    hubspot.settings(mode="permissive")
    assert v3(hubspot, "subscribe").status_code == 200
    assert contacts.refusals == [(ANNA, "unsubscribe")]


def test_the_newest_form_resubscribes_and_it_is_remembered(hubspot: Sandbox, contacts: Contacts) -> None:
    contacts.create()
    hubspot.emulator.act(PersonAct.UNSUBSCRIBE, address=ANNA)
    body = {"emailAddress": ANNA, "subscriptionId": str(NEWS)}
    assert hubspot.call("POST", "/communication-preferences/2026-03/resubscribe", body).status_code == 404
    assert hubspot.call("POST", "/communication-preferences/2026-09/resubscribe", body).status_code == 200
    assert contacts.refusals == [(ANNA, "unsubscribe")]
