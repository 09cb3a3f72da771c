"""What the local HubSpot does to people who said no: where it refuses, where it does not, and that it remembers."""

from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.hubspot.testing import Sandbox
from segue.core.consent import ConsentState

from .calls import ANNA, BERT, LETTER, NEWS, Contacts

SUBSCRIBED, UNSUBSCRIBED = ConsentState.SUBSCRIBED, ConsentState.UNSUBSCRIBED
NO = (PersonAct.UNSUBSCRIBE, PersonAct.COMPLAIN)


@pytest.fixture(params=["adversarial", "permissive"])
def either(hubspot: Sandbox, request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    hubspot.settings(mode=mode)
    return mode


def act(contacts: Contacts, act: PersonAct, address: str = ANNA, kind: str = "") -> None:
    contacts.sandbox.emulator.act(act, audience=kind, address=address)


# Who is mailed


def test_whoever_was_never_asked_is_mailed(contacts: Contacts) -> None:
    contacts.create()
    assert contacts.state() is SUBSCRIBED
    assert contacts.refusals == []


def test_with_data_privacy_nobody_is_mailed_who_was_not_asked(contacts: Contacts) -> None:
    contacts.sandbox.settings(data_privacy=True)
    contacts.create()
    assert contacts.state() is ConsentState.UNKNOWN
    basis: Any = {"legalBasis": "CONSENT_WITH_NOTICE", "legalBasisExplanation": "Asked in the shop."}
    contacts.choose("SUBSCRIBED", **basis)
    assert contacts.state() is SUBSCRIBED
    assert contacts.refusals == []


def test_whoever_has_no_address_is_mailed_by_nobody(hubspot: Sandbox) -> None:
    hubspot.call("POST", ".", {"properties": {"lastname": "Ott"}})
    [person] = hubspot.emulator.people()
    assert (person.address, person.state) == ("", ConsentState.UNKNOWN)


@pytest.mark.parametrize("no", NO)
def test_whoever_leaves_is_mailed_no_more_and_their_record_shows_it(
    contacts: Contacts, no: PersonAct
) -> None:
    identity = contacts.create()
    before = contacts.read(identity)["updatedAt"]
    act(contacts, no)
    assert contacts.state() is UNSUBSCRIBED
    assert contacts.values(identity, "hs_email_optout") == ["true"]
    assert contacts.read(identity)["updatedAt"] > before


def test_leaving_one_type_leaves_the_others(contacts: Contacts) -> None:
    identity = contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE, kind=str(NEWS))
    assert contacts.values(identity, "hs_email_optout", f"hs_email_optout_{NEWS}") == ["false", "true"]
    assert contacts.state() is SUBSCRIBED
    act(contacts, PersonAct.UNSUBSCRIBE, kind=str(LETTER))
    assert contacts.state() is UNSUBSCRIBED


def test_a_bounce_is_shown_and_ends_all_mail(contacts: Contacts) -> None:
    identity = contacts.create()
    act(contacts, PersonAct.BOUNCE)
    assert contacts.state() is ConsentState.SUPPRESSED
    names = ("hs_email_hard_bounce_reason_enum", "hs_email_quarantined", "hs_email_bounce")
    assert contacts.values(identity, *names) == ["UNKNOWN_USER", "true", "1"]


def test_opens_and_clicks_are_shown_and_change_no_consent(contacts: Contacts) -> None:
    identity = contacts.create()
    act(contacts, PersonAct.OPEN)
    act(contacts, PersonAct.OPEN)
    assert contacts.values(identity, "hs_email_open", "hs_email_click", "hs_email_last_click_date") == [
        "2", None, None,
    ]  # fmt: skip
    act(contacts, PersonAct.CLICK)
    assert None not in contacts.values(identity, "hs_email_last_open_date", "hs_email_last_click_date")
    assert contacts.state() is SUBSCRIBED


# An opt-out is the address's, not the record's


@pytest.mark.usefixtures("either")
def test_a_new_address_makes_whoever_left_mailable_and_it_is_remembered(contacts: Contacts) -> None:
    identity = contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE)
    assert contacts.update(identity, email=BERT).status_code == 200
    assert contacts.state(BERT) is SUBSCRIBED
    assert contacts.values(identity, "hs_email_optout") == [None]
    assert contacts.refusals == [(BERT, "unsubscribe")]


@pytest.mark.usefixtures("either")
def test_a_new_address_by_batch_is_remembered_too(contacts: Contacts) -> None:
    contacts.unique()
    identity = contacts.create(shop_id="7")
    act(contacts, PersonAct.COMPLAIN)
    contacts.batch("update", {"id": identity, "properties": {"email": BERT}})
    act(contacts, PersonAct.UNSUBSCRIBE, BERT)
    item = {"id": "7", "idProperty": "shop_id", "properties": {"email": "c@shop.de"}}
    assert contacts.batch("upsert", item).status_code == 200
    assert contacts.refusals == [(BERT, "complain"), ("c@shop.de", "unsubscribe")]


def test_going_through_no_address_at_all_is_remembered(contacts: Contacts) -> None:
    identity = contacts.create(firstname="Anna")
    act(contacts, PersonAct.UNSUBSCRIBE)
    contacts.update(identity, email="")
    assert contacts.refusals == []
    contacts.update(identity, email=BERT)
    assert contacts.refusals == [(BERT, "unsubscribe")]


def test_a_new_address_that_was_opted_out_first_makes_nobody_mailable(contacts: Contacts) -> None:
    identity = contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE)
    contacts.sandbox.call(
        "POST", f"/communication-preferences/v4/statuses/{BERT}/unsubscribe-all?channel=EMAIL"
    )
    contacts.update(identity, email=BERT)
    assert contacts.state(BERT) is UNSUBSCRIBED
    assert contacts.refusals == []


def test_a_new_address_after_leaving_one_type_is_remembered(contacts: Contacts) -> None:
    identity = contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE, kind=str(LETTER))
    contacts.update(identity, email=BERT)
    assert contacts.refusals == [(BERT, "unsubscribe")]


def test_a_new_address_after_a_bounce_is_no_raise(contacts: Contacts) -> None:
    identity = contacts.create()
    act(contacts, PersonAct.BOUNCE)
    contacts.update(identity, email=BERT)
    assert contacts.state(BERT) is SUBSCRIBED
    assert contacts.refusals == []


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("gone", ["archived", "moved"])
def test_an_address_that_left_stays_opted_out_on_a_new_record(contacts: Contacts, gone: str) -> None:
    identity = contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE)
    if gone == "archived":
        contacts.sandbox.call("DELETE", f"./{identity}")
    else:
        contacts.update(identity, email="")
    again = contacts.create()
    [person] = [each for each in contacts.sandbox.emulator.people() if each.name == again]
    assert person.state is UNSUBSCRIBED
    assert contacts.values(again, "hs_email_optout") == ["true"]
    assert contacts.refusals == []


@pytest.mark.usefixtures("either")
def test_a_merge_mails_at_the_primarys_address_whatever_the_other_had_said(contacts: Contacts) -> None:
    anna, bert = contacts.create(), contacts.create(BERT)
    act(contacts, PersonAct.UNSUBSCRIBE, BERT)
    contacts.sandbox.call("POST", "./merge", {"primaryObjectId": anna, "objectIdToMerge": bert})
    assert contacts.state() is SUBSCRIBED
    assert contacts.refusals == [(ANNA, "unsubscribe")]


def test_a_merge_into_whoever_left_makes_nobody_mailable(contacts: Contacts) -> None:
    anna, bert = contacts.create(), contacts.create(BERT)
    act(contacts, PersonAct.UNSUBSCRIBE)
    contacts.sandbox.call("POST", "./merge", {"primaryObjectId": anna, "objectIdToMerge": bert})
    assert contacts.state() is UNSUBSCRIBED
    assert contacts.refusals == []


def test_leaving_at_a_second_address_does_not_reach_the_first(contacts: Contacts) -> None:
    anna, bert = contacts.create(), contacts.create(BERT)
    body = {"primaryObjectId": anna, "objectIdToMerge": bert}
    merged = contacts.sandbox.call("POST", "./merge", body).json()["id"]
    act(contacts, PersonAct.UNSUBSCRIBE, BERT)
    assert contacts.values(merged, "hs_email_optout") == [None]
    assert contacts.state() is SUBSCRIBED


# Writing a status


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("no", NO)
def test_a_status_resubscribes_whoever_left_and_it_is_remembered(contacts: Contacts, no: PersonAct) -> None:
    contacts.create()
    act(contacts, no)
    answer = contacts.choose("SUBSCRIBED")
    assert answer.json()["results"][0]["setStatusSuccessReason"] == "RESUBSCRIBE_OCCURRED"
    assert contacts.state() is SUBSCRIBED
    assert contacts.refusals == [(ANNA, no)]


def test_one_type_resubscribed_ends_the_opt_out_from_every_type(contacts: Contacts) -> None:
    contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE)
    contacts.choose("SUBSCRIBED")
    assert contacts.sandbox.emulator.account.consent.mailable(ANNA) == {NEWS, LETTER}


def test_one_type_resubscribed_leaves_the_others_when_permissive(contacts: Contacts) -> None:
    contacts.sandbox.settings(mode="permissive")
    contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE)
    contacts.choose("SUBSCRIBED")
    assert contacts.sandbox.emulator.account.consent.mailable(ANNA) == {NEWS}
    contacts.choose("SUBSCRIBED", kind=LETTER)
    assert contacts.refusals == [(ANNA, "unsubscribe")] * 2


@pytest.mark.usefixtures("either")
def test_taking_a_refusal_back_into_silence_is_remembered(contacts: Contacts) -> None:
    contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE, kind=str(NEWS))
    contacts.choose("NOT_SPECIFIED")
    assert contacts.refusals == [(ANNA, "unsubscribe")]


def test_whom_the_api_opted_out_the_api_can_subscribe_and_it_is_remembered(contacts: Contacts) -> None:
    contacts.create()
    contacts.choose("UNSUBSCRIBED")
    contacts.choose("SUBSCRIBED")
    assert contacts.refusals == [(ANNA, "api")]


def test_an_address_without_a_record_is_guarded_too(contacts: Contacts) -> None:
    contacts.choose("UNSUBSCRIBED")
    assert contacts.refusals == []
    contacts.choose("SUBSCRIBED")
    assert contacts.refusals == [(ANNA, "api")]


def test_a_status_does_not_end_a_bounce_and_says_it_did(contacts: Contacts) -> None:
    contacts.create()
    act(contacts, PersonAct.BOUNCE)
    answer = contacts.choose("SUBSCRIBED").json()["results"][0]
    assert (answer["status"], answer["setStatusSuccessReason"]) == ("SUBSCRIBED", "REQUESTED_CHANGE_OCCURRED")
    assert contacts.state() is ConsentState.SUPPRESSED
    assert contacts.refusals == []


def test_a_status_ends_a_bounce_when_permissive(contacts: Contacts) -> None:
    contacts.sandbox.settings(mode="permissive")
    contacts.create()
    act(contacts, PersonAct.BOUNCE)
    contacts.choose("SUBSCRIBED")
    assert contacts.state() is SUBSCRIBED
    assert contacts.refusals == [(ANNA, "UNKNOWN_USER")]


@pytest.mark.usefixtures("either")
def test_an_opt_out_on_top_of_an_opt_out_changes_nothing(contacts: Contacts) -> None:
    contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE)
    contacts.sandbox.call(
        "POST", f"/communication-preferences/v4/statuses/{ANNA}/unsubscribe-all?channel=EMAIL"
    )
    contacts.choose("UNSUBSCRIBED")
    assert (contacts.state(), contacts.refusals) == (UNSUBSCRIBED, [])
    contacts.choose("SUBSCRIBED")
    assert contacts.refusals == [(ANNA, "unsubscribe")]


# Erased


def test_an_erased_address_cannot_come_back_by_api(contacts: Contacts) -> None:
    contacts.create()
    act(contacts, PersonAct.ERASE)
    assert contacts.try_create().status_code == 400
    contacts.choose("SUBSCRIBED")
    assert contacts.try_create().status_code == 400
    other = contacts.create(BERT)
    assert contacts.update(other, email=ANNA).status_code == 400
    assert contacts.refusals == []


def test_an_erased_address_comes_back_when_permissive_and_it_is_remembered(contacts: Contacts) -> None:
    contacts.sandbox.settings(mode="permissive")
    contacts.create()
    act(contacts, PersonAct.ERASE)
    contacts.create()
    assert contacts.state() is SUBSCRIBED
    assert contacts.refusals == [(ANNA, "erase")]


# What people do ends it


@pytest.mark.parametrize("no", [*NO, PersonAct.BOUNCE, PersonAct.ERASE])
def test_a_form_ends_every_refusal(contacts: Contacts, no: PersonAct) -> None:
    contacts.create()
    act(contacts, no)
    act(contacts, PersonAct.SUBSCRIBE)
    assert contacts.state() is SUBSCRIBED
    identity = contacts.person().name
    assert contacts.values(identity, "hs_email_optout") == ["false"]
    contacts.choose("SUBSCRIBED")
    contacts.update(identity, email=BERT)
    assert contacts.refusals == []


def test_a_confirmation_ends_a_refusal(contacts: Contacts) -> None:
    contacts.create()
    act(contacts, PersonAct.UNSUBSCRIBE)
    act(contacts, PersonAct.CONFIRM)
    assert (contacts.state(), contacts.refusals) == (SUBSCRIBED, [])


def test_only_somebody_can_act(contacts: Contacts) -> None:
    with pytest.raises(LookupError):
        act(contacts, PersonAct.UNSUBSCRIBE)
    contacts.create()
    with pytest.raises(LookupError):
        act(contacts, PersonAct.UNSUBSCRIBE, kind="7")
    with pytest.raises(LookupError):
        act(contacts, PersonAct.UNSUBSCRIBE, kind="x")


def test_what_a_person_said_is_remembered_over_what_a_write_said_for_them(contacts: Contacts) -> None:
    identity = contacts.create()
    contacts.choose("UNSUBSCRIBED", BERT)
    contacts.choose("UNSUBSCRIBED", BERT, LETTER)
    act(contacts, PersonAct.UNSUBSCRIBE)
    contacts.update(identity, email=BERT)
    assert (contacts.state(BERT), contacts.refusals) == (UNSUBSCRIBED, [])
    contacts.choose("SUBSCRIBED", BERT)
    assert contacts.refusals == [(BERT, "unsubscribe")]
