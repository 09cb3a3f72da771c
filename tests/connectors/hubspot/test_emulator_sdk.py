"""The vendor's own client, unpatched, does everything that we need against the local HubSpot."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hubspot.crm import contacts as crm
from hubspot.crm import lists as crm_lists
from hubspot.crm import properties as crm_properties
from hubspot.crm.contacts.exceptions import ApiException
from urllib3.util.retry import Retry

from segue.connectors.hubspot.testing import Sandbox

from .calls import ANNA, BERT, NEWS, UNIQUE


def create(hubspot: Sandbox, email: str = ANNA, **properties: str) -> Any:
    body = crm.SimplePublicObjectInputForCreate(properties={"email": email, **properties}, associations=[])
    return hubspot.sdk().crm.contacts.basic_api.create(simple_public_object_input_for_create=body)


def test_a_contact_is_created_read_changed_and_archived(hubspot: Sandbox) -> None:
    api, made = hubspot.sdk().crm.contacts.basic_api, create(hubspot, firstname="Anna")
    assert made.properties["firstname"] == "Anna"
    read = api.get_by_id(ANNA, id_property="email", properties=["email", "hs_email_optout"])
    assert (read.id, read.properties["email"], read.archived) == (made.id, ANNA, False)
    changed = api.update(made.id, crm.SimplePublicObjectInput(properties={"city": "Bonn"}))
    assert changed.properties["city"] == "Bonn"
    assert [each.id for each in api.get_page(limit=100).results] == [made.id]
    api.archive(made.id)
    with pytest.raises(ApiException) as gone:
        api.get_by_id(made.id)
    assert gone.value.status == 404
    assert api.get_by_id(made.id, archived=True).archived


def test_pages_are_followed_to_the_end(hubspot: Sandbox) -> None:
    for number in range(3):
        create(hubspot, f"p{number}@shop.de")
    first = hubspot.sdk().crm.contacts.basic_api.get_page(limit=2)
    rest = hubspot.sdk().crm.contacts.basic_api.get_page(limit=2, after=first.paging.next.after)
    assert (len(first.results), len(rest.results), rest.paging) == (2, 1, None)


def test_a_conflict_is_an_exception_with_a_body(hubspot: Sandbox) -> None:
    made = create(hubspot)
    with pytest.raises(ApiException) as refused:
        create(hubspot)
    assert refused.value.status == 409
    assert json.loads(refused.value.body)["message"].endswith(made.id)


def test_contacts_are_merged_and_erased(hubspot: Sandbox) -> None:
    api, anna, bert = hubspot.sdk().crm.contacts.basic_api, create(hubspot), create(hubspot, BERT)
    merged = api.merge(crm.PublicMergeInput(primary_object_id=anna.id, object_id_to_merge=bert.id))
    assert merged.id not in {anna.id, bert.id}
    api.purge(crm.PublicGdprDeleteInput(object_id=merged.id))
    assert hubspot.emulator.people() == []


def test_a_batch_that_fails_in_part_is_no_exception(hubspot: Sandbox) -> None:
    make_unique(hubspot)
    create(hubspot)
    inputs = [
        crm.SimplePublicObjectBatchInputUpsert(
            id=number, id_property="shop_id", properties=properties, object_write_trace_id=number
        )
        for number, properties in (("7", {"email": BERT}), ("8", {"nope": "1", "email": "c@shop.de"}))
    ]
    batch = crm.BatchInputSimplePublicObjectBatchInputUpsert(inputs=inputs)
    answer = hubspot.sdk().crm.contacts.batch_api.upsert(batch)
    assert isinstance(answer, crm.BatchResponseSimplePublicUpsertObjectWithErrors)
    assert (answer.num_errors, [each.new for each in answer.results]) == (1, [True])
    [error] = answer.errors
    assert error.context == {"objectWriteTraceId": ["8"]}
    assert error.errors[0].code == "PROPERTY_DOESNT_EXIST"


def test_batches_create_read_update_and_archive(hubspot: Sandbox) -> None:
    api = hubspot.sdk().crm.contacts.batch_api
    new = [
        crm.SimplePublicObjectBatchInputForCreate(properties={"email": each}, associations=[])
        for each in (ANNA, BERT)
    ]
    made = api.create(crm.BatchInputSimplePublicObjectBatchInputForCreate(inputs=new)).results
    keys = [crm.SimplePublicObjectId(id=each) for each in (ANNA, BERT)]
    asked = crm.BatchReadInputSimplePublicObjectId(
        inputs=keys, id_property="email", properties=["email"], properties_with_history=[]
    )
    found = api.read(asked).results
    assert {each.properties["email"] for each in found} == {ANNA, BERT}
    changes = [crm.SimplePublicObjectBatchInput(id=each.id, properties={"city": "Bonn"}) for each in made]
    changed = api.update(crm.BatchInputSimplePublicObjectBatchInput(inputs=changes))
    assert [each.properties["city"] for each in changed.results] == ["Bonn"] * 2
    ids = [crm.SimplePublicObjectId(id=each.id) for each in made]
    api.archive(crm.BatchInputSimplePublicObjectId(inputs=ids))
    assert all(person.archived for person in hubspot.emulator.people())


def test_a_search_finds_what_changed(hubspot: Sandbox) -> None:
    made = create(hubspot)
    hubspot.emulator.clock.advance(timedelta(seconds=10))
    filters = [
        crm.Filter(property_name="lastmodifieddate", operator="GTE", value="1"),
        crm.Filter(property_name="hs_object_id", operator="GT", value="0"),
    ]
    request = crm.PublicObjectSearchRequest(
        filter_groups=[crm.FilterGroup(filters=filters)],
        sorts=["hs_object_id"],
        limit=200,
        properties=["email"],
    )
    answer = hubspot.sdk().crm.contacts.search_api.do_search(request)
    assert (answer.total, [each.id for each in answer.results], answer.paging) == (1, [made.id], None)


def make_unique(hubspot: Sandbox) -> Any:
    body = crm_properties.PropertyCreate(
        name="shop_id",
        label="Shop id",
        type="string",
        field_type="text",
        group_name="contactinformation",
        has_unique_value=True,
    )
    return hubspot.sdk().crm.properties.core_api.create("contacts", body)


def test_properties_are_made_read_and_given_options(hubspot: Sandbox) -> None:
    api = hubspot.sdk().crm.properties.core_api
    made = make_unique(hubspot)
    assert (made.name, made.has_unique_value) == (UNIQUE["name"], True)
    assert api.get_by_name("contacts", "shop_id").label == "Shop id"
    assert "shop_id" in {each.name for each in api.get_all("contacts").results}
    options = [crm_properties.OptionInput(label=each, value=each, hidden=False) for each in ("a", "b")]
    body = crm_properties.PropertyCreate(
        name="tags", label="Tags", type="enumeration", field_type="checkbox", group_name="contactinformation",
        options=options[:1],
    )  # fmt: skip
    api.create("contacts", body)
    changed = api.update("contacts", "tags", crm_properties.PropertyUpdate(options=options))
    assert [option.value for option in changed.options] == ["a", "b"]
    group = crm_properties.PropertyGroupCreate(name="segue", label="Segue")
    assert hubspot.sdk().crm.properties.groups_api.create("contacts", group).name == "segue"
    with pytest.raises(crm_properties.ApiException) as taken:
        make_unique(hubspot)
    assert taken.value.status == 409


def test_lists_are_made_filled_and_read(hubspot: Sandbox) -> None:
    sdk, made = hubspot.sdk(), create(hubspot)
    body = crm_lists.ListCreateRequest(name="VIP", object_type_id="0-1", processing_type="MANUAL")
    number = sdk.crm.lists.lists_api.create(body).list.list_id
    memberships = sdk.crm.lists.memberships_api
    added = memberships.add(number, [made.id, "1"])
    assert (added.records_ids_added, added.record_ids_missing) == ([made.id], ["1"])
    assert [each.record_id for each in memberships.get_page(number).results] == [made.id]
    assert sdk.crm.lists.lists_api.get_by_name("VIP", "0-1").list.list_id == number
    assert [each.list_id for each in sdk.crm.lists.lists_api.get_all(list_ids=[number, "7"]).lists] == [
        number
    ]
    assert memberships.get_lists("0-1", made.id).results[0].list_id == number
    change = crm_lists.MembershipChangeRequest(record_ids_to_add=[], record_ids_to_remove=[made.id])
    assert memberships.add_and_remove(number, change).record_ids_removed == [made.id]
    found = sdk.crm.lists.lists_api.do_search(crm_lists.ListSearchRequest(query="v", count=10, offset=0))
    assert [each.name for each in found.lists] == ["VIP"]
    sdk.crm.lists.lists_api.remove(number)


def test_preferences_are_read_and_written(hubspot: Sandbox) -> None:
    from hubspot.communication_preferences import PublicUpdateSubscriptionStatusRequest

    preferences = hubspot.sdk().communication_preferences
    definitions = preferences.definition_api.get_page().subscription_definitions
    assert str(NEWS) in {each.id for each in definitions}
    body = PublicUpdateSubscriptionStatusRequest(email_address=ANNA, subscription_id=str(NEWS))
    assert preferences.status_api.subscribe(body).status == "SUBSCRIBED"
    assert preferences.status_api.unsubscribe(body).status == "NOT_SUBSCRIBED"
    rows = preferences.status_api.get_email_status(ANNA).subscription_statuses
    assert {row.source_of_status for row in rows} == {"SUBSCRIPTION_STATUS"}


def test_webhooks_are_managed_with_the_developers_key(hubspot: Sandbox) -> None:
    import hubspot as vendor
    from hubspot.webhooks import SettingsChangeRequest, SubscriptionCreateRequest, ThrottlingSettings

    settings = hubspot.emulator.account.settings
    webhooks = vendor.HubSpot(api_key=settings.developer_key, host=hubspot.origin).webhooks
    request = SettingsChangeRequest(
        target_url="https://shop.de/hubspot", throttling=ThrottlingSettings(max_concurrent_requests=10)
    )
    assert webhooks.settings_api.configure(settings.app_id, request).target_url == "https://shop.de/hubspot"
    body = SubscriptionCreateRequest(event_type="contact.creation", active=True)
    made = webhooks.subscriptions_api.create(settings.app_id, body)
    assert [each.id for each in webhooks.subscriptions_api.get_all(settings.app_id).results] == [made.id]


def test_too_many_requests_are_an_exception_with_a_body(hubspot: Sandbox) -> None:
    create(hubspot)
    hubspot.settings(burst=1)
    with pytest.raises(ApiException) as refused:
        create(hubspot, BERT)
    assert (refused.value.status, refused.value.reason) == (429, "Too Many Requests")
    assert json.loads(refused.value.body)["policyName"] == "TEN_SECONDLY_ROLLING"
    assert refused.value.headers["X-HubSpot-RateLimit-Max"] == "1"


def test_a_client_that_tries_again_gets_through_when_the_time_is_over(hubspot: Sandbox) -> None:
    from segue.connectors.faults import Fault, FaultKind

    hubspot.emulator.faults.arm([Fault(kind=FaultKind.THROTTLED, count=2)])
    retry = Retry(total=3, status_forcelist=[429], allowed_methods=None, backoff_factor=0)
    page = hubspot.sdk(retry=retry).crm.contacts.basic_api.get_page()
    assert page.results == []


def test_a_wrong_token_is_an_exception(hubspot: Sandbox) -> None:
    with pytest.raises(ApiException) as refused:
        hubspot.sdk("wrong").crm.contacts.basic_api.get_page()
    assert refused.value.status == 401
