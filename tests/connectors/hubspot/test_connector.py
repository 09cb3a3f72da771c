"""What each operation sends to a portal, and what its answers mean for each contact."""

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.hubspot.emulator.consent import TYPES
from segue.connectors.hubspot.testing import Sandbox
from segue.core.consent import ConsentState
from segue.core.errors import ConfigError, OutcomeUnknownError, UnsupportedFeatureError
from segue.core.model import DestinationSchema, FieldSpec, FieldType, Operation, OutcomeStatus

from .conftest import SCHEMA, Portal, address, change

APPLIED = OutcomeStatus.APPLIED
NEWSLETTER = str(next(iter(TYPES)))


def test_a_hundred_are_made_by_one_request_and_their_ids_are_told(portal: Portal) -> None:
    portal.sent()
    outcomes = portal.create(
        *range(1, 101), fields={"sg_num": "5", "sg_date": "2026-03-01"}, tags=("segue: VIP",)
    )
    assert len(portal.sent()) == 1
    assert {outcome.status for outcome in outcomes} == {APPLIED}
    assert outcomes[6].record_id == str(portal.record(7).id)
    held = portal.record(7).properties
    assert (held["sg_num"], held["sg_date"], held["segue_tags"]) == ("5", "2026-03-01", "segue: VIP")


def test_who_is_there_already_is_told_apart_from_the_rest_of_a_batch(portal: Portal) -> None:
    portal.emulator.act(PersonAct.SUBSCRIBE, address=address(2))
    portal.emulator.act(PersonAct.SUBSCRIBE, address=address(3))
    portal.emulator.act(PersonAct.UNSUBSCRIBE, address=address(3))
    outcomes = portal.create(1, 2, 3)
    assert [outcome.status.value for outcome in outcomes] == ["applied", "exists", "rejected"]
    assert outcomes[1].record_id == str(portal.record(2).id)
    assert outcomes[2].seen is not None
    assert outcomes[2].seen.state is ConsentState.UNSUBSCRIBED


def test_a_create_never_touches_somebody_who_has_our_id_at_another_address(portal: Portal) -> None:
    portal.create(1)
    (outcome,) = portal.create(1, address="other@shop.example")
    assert (outcome.status, outcome.code) == (OutcomeStatus.REJECTED, "address_taken")
    assert portal.record(1) is not None


def test_a_create_without_an_answer_is_unknown_and_sent_once(portal: Portal) -> None:
    portal.emulator.faults.arm(
        [Fault(kind=FaultKind.LOST_ANSWER, path="batch/create$|contacts/batch/create", count=9)]
    )
    portal.sent()
    with pytest.raises(OutcomeUnknownError):
        portal.create(1, 2)
    assert len(portal.sent()) == 1


def test_an_update_goes_by_id_and_adds_tags_to_those_there(portal: Portal) -> None:
    (made,) = portal.create(1, fields={"sg_text": "a", "sg_num": "1"}, tags=("segue: VIP",))
    portal.sent()
    given = {
        "fields": {"sg_text": None, "sg_num": "2"},
        "tags": ("segue: small",),
        "record_id": made.record_id,
    }
    assert portal.write(Operation.UPDATE, 1, **given).status is APPLIED
    assert len(portal.sent()) == 1
    held = portal.record(1).properties
    assert (held.get("sg_text"), held["sg_num"]) == (None, "2")
    assert held["segue_tags"] == "segue: VIP;segue: small"


def test_an_update_without_an_id_finds_it_and_tells_it(portal: Portal) -> None:
    portal.emulator.act(PersonAct.SUBSCRIBE, address=address(1))
    outcome = portal.write(Operation.UPDATE, 1, fields={"sg_num": "2"})
    assert (outcome.status, outcome.record_id) == (APPLIED, str(portal.record(1).id))


def test_an_update_follows_a_merge_to_the_new_id(portal: Portal) -> None:
    one, other = portal.create(1, 2)
    body = {"primaryObjectId": one.record_id, "objectIdToMerge": other.record_id}
    assert portal.sandbox.call("POST", "/crm/v3/objects/contacts/merge", body).status_code == 200
    outcome = portal.write(Operation.UPDATE, 1, fields={"sg_num": "2"}, record_id=one.record_id)
    assert (outcome.status, outcome.record_id) == (APPLIED, str(portal.record(1).id))
    assert outcome.record_id != one.record_id


def test_an_update_makes_nobody_who_is_gone(portal: Portal) -> None:
    (made,) = portal.create(1)
    portal.sandbox.call("DELETE", f"/crm/v3/objects/contacts/{made.record_id}")
    outcome = portal.write(Operation.UPDATE, 1, fields={"sg_num": "2"}, record_id=made.record_id)
    assert (outcome.status, outcome.code) == (OutcomeStatus.REJECTED, "vanished")
    assert portal.record(1) is None


def test_one_bad_value_keeps_nobody_else_from_being_written(portal: Portal) -> None:
    portal.create(1, 2)
    good, refused = portal.connector.write(
        Operation.UPDATE,
        [
            change(Operation.UPDATE, 1, fields={"sg_num": "2"}),
            change(Operation.UPDATE, 2, fields={"sg_num": "two"}),
        ],
    )
    assert (good.status, refused.status, refused.code) == (APPLIED, OutcomeStatus.REJECTED, "invalid_field")


def test_a_property_that_was_deleted_is_no_contacts_fault(portal: Portal) -> None:
    portal.create(1)
    portal.sandbox.call("DELETE", "/crm/v3/properties/contacts/sg_num")
    with pytest.raises(UnsupportedFeatureError, match="sg_num any more"):
        portal.write(Operation.UPDATE, 1, fields={"sg_num": "2"})


@pytest.mark.parametrize("tags", ["property", "lists"])
def test_a_tag_is_given_and_taken_alone(hubspot: Sandbox, tags: str) -> None:
    portal = Portal(hubspot, tags=tags).open()
    portal.create(1, 2, tags=("segue: VIP", "segue: small"))
    gone = portal.write(Operation.UNTAG, 1, tags=("segue: VIP",))
    nothing = portal.write(Operation.UNTAG, 1, tags=("segue: VIP",))
    nobody = portal.write(Operation.UNTAG, 9, tags=("segue: VIP",))
    assert [each.status.value for each in (gone, nothing, nobody)] == ["applied", "unchanged", "unchanged"]
    held = {person.address: person.tags for person in portal.emulator.people()}
    assert held == {address(1): {"segue: small"}, address(2): {"segue: VIP", "segue: small"}}


def test_a_list_that_fills_itself_is_not_written(hubspot: Sandbox) -> None:
    portal = Portal(hubspot, tags="lists").open()
    body = {"name": "segue: VIP", "objectTypeId": "0-1", "processingType": "DYNAMIC"}
    hubspot.call("POST", "/crm/v3/lists", body)
    with pytest.raises(Exception, match="filled by a rule"):
        portal.create(1, tags=("segue: VIP",))


def test_a_contact_moves_and_keeps_its_id(portal: Portal) -> None:
    (made,) = portal.create(1)
    outcome = portal.write(
        Operation.READDRESS, 1, address=address(7), previous_address=address(1), fields={"sg_num": "7"}
    )
    assert (outcome.status, outcome.record_id) == (APPLIED, made.record_id)
    assert portal.record(1) is None
    assert portal.record(7).properties["sg_num"] == "7"
    again = portal.write(Operation.READDRESS, 1, address=address(7), previous_address=address(1))
    assert (again.status, again.record_id) == (APPLIED, made.record_id)


def test_who_left_does_not_move_because_the_opt_out_stays_with_the_address(portal: Portal) -> None:
    portal.create(1)
    portal.emulator.act(PersonAct.UNSUBSCRIBE, address=address(1))
    outcome = portal.write(Operation.READDRESS, 1, address=address(7), previous_address=address(1))
    assert (outcome.status, outcome.code) == (OutcomeStatus.REJECTED, "left")
    assert portal.record(7) is None


def test_who_leaves_while_they_move_is_opted_out_where_they_are(
    hubspot: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = Portal(hubspot).open()
    portal.create(1)
    update = portal.connector._api.contacts.update

    def leaves(*args: object, **more: object) -> object:
        portal.emulator.act(PersonAct.UNSUBSCRIBE, address=address(1))
        return update(*args, **more)

    monkeypatch.setattr(portal.connector._api.contacts, "update", leaves)
    outcome = portal.write(Operation.READDRESS, 1, address=address(7), previous_address=address(1))
    assert (outcome.status, outcome.code) == (OutcomeStatus.REJECTED, "left")
    assert portal.states() == {ConsentState.UNSUBSCRIBED}
    assert portal.emulator.raises != []  # HubSpot mailed them for a moment, by its own rule


def test_an_opt_out_is_of_all_mail_and_read_back(portal: Portal) -> None:
    portal.create(1)
    assert portal.write(Operation.OPT_OUT, 1).status is APPLIED
    assert portal.states() == {ConsentState.UNSUBSCRIBED}
    assert portal.write(Operation.OPT_OUT, 1).status is OutcomeStatus.UNCHANGED
    assert portal.write(Operation.OPT_OUT, 9).status is OutcomeStatus.UNCHANGED


def test_who_left_one_type_of_mail_has_left(portal: Portal) -> None:
    portal.create(1)
    portal.emulator.act(PersonAct.UNSUBSCRIBE, audience=NEWSLETTER, address=address(1))
    (seen,) = portal.connector.read([address(1)])
    assert seen is not None
    assert (seen.state, seen.status) == (ConsentState.UNSUBSCRIBED, f"hs_email_optout_{NEWSLETTER}")


def test_who_is_made_is_subscribed_to_the_type_of_the_setting(hubspot: Sandbox) -> None:
    hubspot.settings(data_privacy=True)
    portal = Portal(hubspot, subscription=NEWSLETTER).open()
    portal.create(1)
    found = hubspot.call(
        "GET", f"/communication-preferences/v4/statuses/{address(1)}", channel="EMAIL"
    ).json()
    subscribed = {each["subscriptionId"] for each in found["results"] if each["status"] == "SUBSCRIBED"}
    assert subscribed == {int(NEWSLETTER)}


def test_who_is_erased_is_gone_and_refused_if_made_again(portal: Portal) -> None:
    portal.create(1)
    erased = portal.connector.erase(address(1))
    assert (erased.was_there, erased.answer, erased.is_gone) == (True, "204", True)
    assert not portal.connector.erase(address(1)).was_there
    (again,) = portal.create(1)
    assert again.status is OutcomeStatus.REJECTED
    assert portal.record(1) is None


def test_properties_of_another_type_are_said_before_any_is_made(hubspot: Sandbox) -> None:
    portal = Portal(hubspot).open()
    wrong = FieldSpec(tag="sg_num", label="N", type=FieldType.TEXT, purpose="test")
    new = FieldSpec(tag="sg_new", label="New", type=FieldType.TEXT, purpose="test")
    with pytest.raises(UnsupportedFeatureError, match="sg_num"):
        portal.connector.ensure(DestinationSchema(fields=(new, wrong)))
    assert "sg_new" not in portal.emulator.account.definitions.active


def test_ensuring_twice_changes_nothing_and_a_new_tag_is_one_more_option(portal: Portal) -> None:
    portal.connector.ensure(SCHEMA)
    portal.sent()
    portal.connector.ensure(SCHEMA)
    assert [each.split()[0] for each in portal.sent()] == ["GET"]
    portal.connector.ensure(DestinationSchema(tags=("segue: new",)))
    labels = [each["label"] for each in portal.emulator.account.definitions.active["segue_tags"].options]
    assert labels == ["segue: VIP", "segue: small", "segue: new"]


def test_every_mistake_in_the_settings_is_said_at_once() -> None:
    from segue.connectors.hubspot.connector import HubSpot

    with pytest.raises(ConfigError) as caught:
        HubSpot.from_settings(
            {
                "tier": "gold",
                "api": "v9",
                "base_url": "http://api.hubapi.com",
                "subscription": "x",
                "toke": "x",
            }
        )
    places = {problem.where for problem in caught.value.problems}
    assert places == {
        f"settings.{name}" for name in ("token", "tier", "api", "base_url", "subscription", "toke")
    }
