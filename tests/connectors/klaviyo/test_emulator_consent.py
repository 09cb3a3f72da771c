"""What the local Klaviyo does to people who said no: that it lets nearly everything through, and that it remembers."""

from datetime import timedelta
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.core.consent import ConsentState

from .api import ANNA, BEFORE, BERT, MODES, NOON, Api, error_of, item, reasons

REFUSALS = {PersonAct.UNSUBSCRIBE: "UNSUBSCRIBED", PersonAct.COMPLAIN: "SPAM_COMPLAINT"}


# Who was never asked


@MODES
def test_whoever_is_created_without_a_consent_can_be_mailed_and_it_is_remembered(api: Api, mode: str) -> None:
    api.sandbox.settings(mode=mode)
    api.create()
    api.upsert(email=BERT)
    api.imported(item(email="cleo@shop.de"))
    for address in (ANNA, BERT, "cleo@shop.de"):
        shown = api.marketing(address)
        assert (shown["consent"], shown["can_receive_email_marketing"]) == ("NEVER_SUBSCRIBED", True)
        person = api.person(address)
        assert person is not None
        assert person.state is ConsentState.SUBSCRIBED
    assert api.raises() == [("ABSENT", "NEVER_SUBSCRIBED", None)] * 3


def test_an_event_of_somebody_new_makes_a_profile_that_can_be_mailed(api: Api) -> None:
    event = {"metric": {"data": {"type": "metric", "attributes": {"name": "Ordered"}}}, "properties": {}}
    who = {"data": {"type": "profile", "attributes": {"email": ANNA}}}
    body = {"data": {"type": "event", "attributes": {**event, "profile": who}}}
    assert api.call("POST", "/events", body).status_code == 202
    api.advance(1)
    assert api.raises() == [("ABSENT", "NEVER_SUBSCRIBED", None)]


def test_whoever_is_subscribed_first_and_written_afterwards_raises_nothing(api: Api) -> None:
    api.subscribe()
    api.upsert(email=ANNA, first_name="Anna")
    assert api.raises() == []


def test_a_profile_written_while_its_subscription_is_on_its_way_raises_nothing(api: Api) -> None:
    api.good("POST", "/profile-subscription-bulk-create-jobs", api.subscription())
    api.upsert(email=ANNA)
    api.advance(1)
    assert api.marketing()["consent"] == "SUBSCRIBED"
    api.upsert(email=BERT)
    assert [each.address for each in api.emulator.raises] == [BERT]


def test_a_phone_number_alone_cannot_be_mailed(api: Api) -> None:
    name = api.upsert(phone_number="+4930123456").json()["data"]["id"]
    assert api.raises() == []
    [person] = api.emulator.people()
    assert (person.name, person.address, person.state) == (name, "", ConsentState.UNKNOWN)


# Subscribing


def test_a_subscription_is_accepted_without_a_body_and_takes_effect_later(api: Api) -> None:
    api.sandbox.settings(consent_seconds=30)
    assert api.call("POST", "/profile-subscription-bulk-create-jobs", api.subscription()).content == b""
    api.advance(29)
    assert api.emulator.people() == []
    api.advance(1)
    shown = api.marketing()
    assert (shown["consent"], shown["consent_timestamp"], shown["method"]) == ("SUBSCRIBED", BEFORE, "API")
    assert api.raises() == []


@MODES
@pytest.mark.parametrize("act", REFUSALS)
def test_subscribing_whoever_left_works_and_is_remembered(api: Api, mode: str, act: PersonAct) -> None:
    api.sandbox.settings(mode=mode)
    api.subscribe()
    api.act(act)
    assert api.marketing()["can_receive_email_marketing"] is False
    api.subscribe()
    assert (api.marketing()["can_receive_email_marketing"], reasons(api)) == (True, [])
    assert api.raises() == [(REFUSALS[act], "SUBSCRIBED", act.value)]


@pytest.mark.parametrize("how", ["unsubscribe", "suppress"])
def test_whom_the_api_took_off_the_api_subscribes_and_it_is_remembered(api: Api, how: str) -> None:
    api.subscribe()
    api.unsubscribe() if how == "unsubscribe" else api.suppress()
    api.subscribe()
    word = "UNSUBSCRIBED" if how == "unsubscribe" else "USER_SUPPRESSED"
    assert api.raises() == [(word, "SUBSCRIBED", "api")]


def test_a_hard_bounce_survives_a_subscription_though_the_consent_says_subscribed(api: Api) -> None:
    api.subscribe()
    api.act(PersonAct.BOUNCE)
    api.subscribe()
    shown = api.marketing()
    assert (shown["consent"], shown["can_receive_email_marketing"]) == ("SUBSCRIBED", False)
    assert reasons(api) == ["HARD_BOUNCE"]
    assert api.raises() == []


def test_permissive_subscribes_a_hard_bounce_too(api: Api) -> None:
    api.sandbox.settings(mode="permissive")
    api.subscribe()
    api.act(PersonAct.BOUNCE)
    api.subscribe()
    assert api.raises() == [("HARD_BOUNCE", "SUBSCRIBED", "bounce")]


def test_a_subscription_overtaken_by_its_persons_leaving_brings_them_back(api: Api) -> None:
    api.subscribe()
    api.good("POST", "/profile-subscription-bulk-create-jobs", api.subscription())
    api.act(PersonAct.UNSUBSCRIBE)
    api.advance(1)
    assert api.marketing()["consent"] == "SUBSCRIBED"
    assert api.raises() == [("UNSUBSCRIBED", "SUBSCRIBED", "unsubscribe")]


@pytest.mark.parametrize(("mode", "consent"), [("adversarial", "SUBSCRIBED"), ("permissive", "UNSUBSCRIBED")])
def test_a_later_unsubscription_by_api_is_undone_by_an_earlier_subscription_at_the_worst(
    api: Api, mode: str, consent: str
) -> None:
    api.subscribe()
    api.sandbox.settings(mode=mode)
    api.good("POST", "/profile-subscription-bulk-create-jobs", api.subscription())
    api.unsubscribe()
    api.advance(1)
    assert api.marketing()["consent"] == consent
    assert len(api.raises()) == (1 if mode == "adversarial" else 0)


def test_a_historical_import_needs_a_consent_of_the_past_and_nothing_else_has_one(api: Api) -> None:
    at = "/data/attributes/profiles/data/0/attributes/subscriptions/email/marketing/consented_at"
    without = api.subscription(historical=False) | {}
    without["data"]["attributes"]["historical_import"] = True
    future = api.subscription()
    marketing = future["data"]["attributes"]["profiles"]["data"][0]["attributes"]["subscriptions"]["email"][
        "marketing"
    ]
    marketing["consented_at"] = (NOON + timedelta(seconds=1)).isoformat()
    plain = api.subscription()
    del plain["data"]["attributes"]["historical_import"]
    for body in (without, future, plain):
        answer = api.call("POST", "/profile-subscription-bulk-create-jobs", body)
        assert error_of(answer) == (400, "invalid", at)


def test_one_wrong_address_refuses_the_whole_subscription(api: Api) -> None:
    answer = api.call("POST", "/profile-subscription-bulk-create-jobs", api.subscription(ANNA, "nonsense"))
    assert error_of(answer) == (400, "invalid", "/data/attributes/profiles/data/1/attributes/email")
    api.advance(1)
    assert api.emulator.people() == []


def test_a_subscription_takes_1000_and_an_unsubscription_100(api: Api) -> None:
    many = [f"p{i}@shop.de" for i in range(1001)]
    path = "/profile-subscription-bulk-create-jobs"
    assert api.call("POST", path, api.subscription(*many)).status_code == 400
    assert api.call("POST", path, api.subscription(*many[:1000])).status_code == 202
    api.advance(1)
    api.unsubscribe(*many[:100])
    with pytest.raises(AssertionError, match="100 profiles"):
        api.unsubscribe(*many[:101])
    gone = "equals(subscriptions.email.marketing.suppression.reason,'UNSUBSCRIBE')"
    size: dict[str, Any] = {"page[size]": 100}
    assert len(api.listed(filter=gone, **size)) == 100


# Double opt-in


def test_without_a_historical_import_a_double_opt_in_sends_a_mail_and_subscribes_nobody(api: Api) -> None:
    list_id = api.make_list(opt_in="double_opt_in")
    api.subscribe(on=list_id, historical=False)
    assert api.marketing()["consent"] == "NEVER_SUBSCRIBED"
    assert api.listed(f"/lists/{list_id}/profiles") == []
    [shown] = api.emulator.state(count=1, offset=0, address=ANNA)["profiles"]
    assert (shown["pending"], shown["confirmation_mails"]) == ([list_id], 1)
    api.act(PersonAct.CONFIRM)
    assert (api.marketing()["consent"], api.marketing()["double_optin"]) == ("SUBSCRIBED", True)
    assert api.listed(f"/lists/{list_id}/profiles") == [ANNA]
    assert api.raises() == []


def test_the_accounts_own_opt_in_decides_without_a_list(api: Api) -> None:
    api.subscribe(historical=False)
    assert api.marketing()["consent"] == "NEVER_SUBSCRIBED"
    api.sandbox.settings(double_optin=False)
    api.subscribe(historical=False)
    assert api.marketing()["consent"] == "SUBSCRIBED"


@pytest.mark.parametrize(
    ("mode", "state"), [("adversarial", ConsentState.SUBSCRIBED), ("permissive", ConsentState.PENDING)]
)
def test_who_was_asked_to_confirm_can_be_mailed_meanwhile_at_the_worst(
    api: Api, mode: str, state: ConsentState
) -> None:
    api.sandbox.settings(mode=mode)
    api.subscribe(historical=False)
    person = api.person()
    assert person is not None
    assert person.state is state


def test_asking_whoever_left_to_confirm_is_remembered_as_a_raise(api: Api) -> None:
    api.subscribe()
    api.act(PersonAct.UNSUBSCRIBE)
    api.subscribe(historical=False)
    assert api.raises() == [("UNSUBSCRIBED", "PENDING", "unsubscribe")]
    assert api.marketing()["consent"] == "UNSUBSCRIBED"


def test_nobody_confirms_what_they_were_not_asked(api: Api) -> None:
    api.subscribe()
    with pytest.raises(LookupError, match="confirmation"):
        api.act(PersonAct.CONFIRM)


# Unsubscribing


def test_unsubscribing_from_a_list_takes_members_off_that_list_alone(api: Api) -> None:
    list_id = api.make_list()
    api.subscribe(on=list_id)
    api.unsubscribe(on=list_id)
    shown = api.marketing()
    assert (shown["consent"], shown["can_receive_email_marketing"]) == ("SUBSCRIBED", True)
    [left] = shown["list_suppressions"]
    assert (left["list_id"], left["reason"]) == (list_id, "UNSUBSCRIBE")
    assert api.listed(f"/lists/{list_id}/profiles") == []


def test_unsubscribing_from_a_list_that_one_is_not_on_goes_global(api: Api) -> None:
    list_id = api.make_list()
    api.subscribe()
    api.unsubscribe(on=list_id)
    assert (api.marketing()["consent"], reasons(api)) == ("UNSUBSCRIBED", ["UNSUBSCRIBE"])


def test_subscribing_again_forgets_who_left_a_list_and_it_is_remembered(api: Api) -> None:
    list_id = api.make_list()
    api.subscribe(on=list_id)
    api.act(PersonAct.UNSUBSCRIBE, on=list_id)
    api.subscribe()
    assert api.marketing()["list_suppressions"] == []
    assert api.raises() == [("LIST_UNSUBSCRIBED", "SUBSCRIBED", "list")]


@pytest.mark.parametrize(("mode", "kept"), [("adversarial", False), ("permissive", True)])
def test_the_refusal_of_an_address_that_nobody_has_is_lost_at_the_worst(
    api: Api, mode: str, kept: bool
) -> None:
    api.sandbox.settings(mode=mode)
    api.unsubscribe()
    job = api.suppress(BERT)
    assert (job["completed_count"], job["skipped_count"]) == ((1, 0) if kept else (0, 1))
    api.advance(1)
    for address in (ANNA, BERT):
        api.upsert(email=address)
        assert api.marketing(address)["can_receive_email_marketing"] is not kept
    assert len(api.raises()) == (0 if kept else 2)


# Suppressing


def test_a_suppression_outweighs_the_consent_until_it_is_taken_back_which_is_remembered(api: Api) -> None:
    api.subscribe()
    assert api.suppress()["completed_count"] == 1
    shown = api.marketing()
    assert (shown["consent"], shown["can_receive_email_marketing"]) == ("SUBSCRIBED", False)
    person = api.person()
    assert person is not None
    assert person.state is ConsentState.SUPPRESSED
    assert api.suppress(verb="delete")["completed_count"] == 1
    assert api.marketing()["can_receive_email_marketing"] is True
    assert api.raises() == [("USER_SUPPRESSED", "SUBSCRIBED", "api")]


@pytest.mark.parametrize("act", [PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN])
def test_taking_a_suppression_back_leaves_every_other_refusal(api: Api, act: PersonAct) -> None:
    api.subscribe()
    api.act(act)
    before = reasons(api)
    api.suppress()
    api.suppress(verb="delete")
    assert reasons(api) == before
    assert api.raises() == []
    api.sandbox.settings(mode="permissive")
    api.suppress(verb="delete")
    assert (reasons(api), len(api.raises())) == ([], 1)


def test_a_list_is_suppressed_with_everybody_on_it(api: Api) -> None:
    list_id = api.make_list()
    api.subscribe(ANNA, BERT, on=list_id)
    api.subscribe("cleo@shop.de")
    kind = "profile-suppression-bulk-create-job"
    body = {
        "data": {
            "type": kind,
            "attributes": {},
            "relationships": {"list": {"data": {"type": "list", "id": list_id}}},
        }
    }
    job = api.good("POST", f"/{kind}s", body)["data"]
    assert job["attributes"]["status"] == "queued"
    assert api.finished(kind, job["id"])["completed_count"] == 2
    assert [reasons(api, each) for each in (ANNA, BERT, "cleo@shop.de")] == [["USER_SUPPRESSED"]] * 2 + [[]]


def test_a_suppression_takes_100_addresses(api: Api) -> None:
    with pytest.raises(AssertionError, match="At most 100"):
        api.suppress(*(f"p{i}@shop.de" for i in range(101)))
