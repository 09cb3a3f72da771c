"""Who keeps a refusal in the local Klaviyo when addresses change, profiles merge or vanish, and people act themselves."""

import pytest

from segue.connectors.emulator import PersonAct

from .api import ANNA, BERT, MODES, Api, reasons

# Address and person


@MODES
def test_whoever_left_can_be_mailed_at_a_new_address_and_it_is_remembered(api: Api, mode: str) -> None:
    api.sandbox.settings(mode=mode)
    api.subscribe()
    api.act(PersonAct.UNSUBSCRIBE)
    name = api.profile()["id"]
    assert api.patch(name, email=BERT).status_code == 200
    assert api.marketing(BERT)["can_receive_email_marketing"] is True
    assert api.raises() == [("UNSUBSCRIBED", "NEVER_SUBSCRIBED", "unsubscribe")]


def test_a_refusal_waits_at_the_old_address(api: Api) -> None:
    api.subscribe()
    api.act(PersonAct.UNSUBSCRIBE)
    name = api.profile()["id"]
    api.patch(name, email=BERT)
    api.patch(name, email=ANNA)
    assert api.marketing()["consent"] == "UNSUBSCRIBED"


def test_an_address_change_of_somebody_who_agreed_raises_nothing(api: Api) -> None:
    api.subscribe()
    api.patch(api.profile()["id"], email=BERT)
    assert api.raises() == []


def test_merging_somebody_who_left_into_another_who_did_not_brings_them_back(api: Api) -> None:
    api.subscribe(ANNA, BERT)
    api.act(PersonAct.UNSUBSCRIBE)
    source, target = api.profile(BERT)["id"], api.profile()["id"]
    sources = {"profiles": {"data": [{"type": "profile", "id": source}]}}
    merge = {"data": {"type": "profile-merge", "id": target, "relationships": sources}}
    assert api.call("POST", "/profile-merge", merge).status_code == 201
    assert api.marketing()["consent"] == "UNSUBSCRIBED"
    api.advance(1)
    assert api.marketing()["consent"] == "SUBSCRIBED"
    assert api.raises() == [("UNSUBSCRIBED", "SUBSCRIBED", "unsubscribe")]


@pytest.mark.parametrize("how", ["import", "subscribe"])
@MODES
def test_an_erased_address_can_come_back_by_api_and_it_is_remembered(api: Api, mode: str, how: str) -> None:
    api.sandbox.settings(mode=mode)
    api.subscribe()
    api.act(PersonAct.ERASE)
    assert api.emulator.people() == []
    api.upsert(email=ANNA) if how == "import" else api.subscribe()
    assert [(before, refused) for before, _, refused in api.raises()] == [("ERASED", "erase")]


# By themselves


@pytest.mark.parametrize(
    "act", [PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN, PersonAct.ERASE]
)
def test_the_form_ends_every_refusal_and_raises_nothing(api: Api, act: PersonAct) -> None:
    api.subscribe()
    api.act(act)
    api.act(PersonAct.SUBSCRIBE)
    shown = api.marketing()
    assert (shown["consent"], shown["can_receive_email_marketing"], shown["method"]) == (
        "SUBSCRIBED",
        True,
        "FORM",
    )
    api.subscribe()
    assert api.raises() == []


def test_the_form_of_a_list_puts_somebody_on_it(api: Api) -> None:
    list_id = api.make_list()
    api.act(PersonAct.SUBSCRIBE, on=list_id)
    assert api.listed(f"/lists/{list_id}/profiles") == [ANNA]
    person = api.person()
    assert person is not None
    assert person.tags == {"News"}


def test_whoever_complained_still_counts_as_subscribed_by_the_word_of_the_consent(api: Api) -> None:
    api.subscribe()
    api.act(PersonAct.COMPLAIN)
    assert (api.marketing()["consent"], reasons(api)) == ("SUBSCRIBED", ["SPAM_COMPLAINT"])


def test_strangers_and_unknown_lists_do_not_act(api: Api) -> None:
    for act in set(PersonAct) - {PersonAct.SUBSCRIBE}:
        with pytest.raises(LookupError):
            api.act(act)
    with pytest.raises(LookupError):
        api.act(PersonAct.SUBSCRIBE, on="nowhere")
