"""One contact at a time in the local HubSpot: who is who, what is shown, what is refused."""

from datetime import UTC, datetime, timedelta

import pytest

from segue.connectors.hubspot.testing import Sandbox

from .calls import ANNA, BERT, Contacts, codes


@pytest.mark.parametrize(
    "path", ["/crm/v3/objects/contacts", "/crm/objects/2026-03/contacts", "/crm/objects/2026-09/contacts"]
)
def test_the_forms_of_a_path_are_answered_alike(hubspot: Sandbox, path: str) -> None:
    made = hubspot.call("POST", path, {"properties": {"email": ANNA}})
    assert made.status_code == 201
    assert hubspot.call("GET", f"{path}/{made.json()['id']}").json() == made.json()
    assert hubspot.call("GET", path).json()["results"] == [made.json()]


def test_the_version_stands_behind_the_resource(hubspot: Sandbox) -> None:
    assert hubspot.call("GET", "/crm/2026-03/objects/contacts").status_code == 404
    assert hubspot.call("GET", "/crm/objects/2025-09/contacts").status_code == 404


def test_only_what_was_asked_for_is_shown(contacts: Contacts) -> None:
    identity = contacts.create(firstname="Anna", city="Bonn")
    assert set(contacts.read(identity)["properties"]) == {
        "createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname",
    }  # fmt: skip
    shown = contacts.read(identity, "city", "zip")["properties"]
    assert set(shown) == {"city", "zip", "createdate", "hs_object_id", "lastmodifieddate"}
    assert (shown["city"], shown["zip"], shown["hs_object_id"]) == ("Bonn", None, identity)


def test_a_contact_is_found_by_its_address_in_any_case(contacts: Contacts) -> None:
    identity = contacts.create("Anna@Shop.DE")
    assert contacts.read("ANNA@shop.de", "email", idProperty="email")["properties"]["email"] == ANNA
    assert contacts.read(identity)["id"] == identity
    assert contacts.sandbox.call("GET", f"./{ANNA}").status_code == 404
    assert contacts.sandbox.call("GET", f"./{identity}", idProperty="city").status_code == 400


def test_a_contact_is_changed_by_its_address(contacts: Contacts) -> None:
    contacts.create()
    body = {"properties": {"city": "Bonn"}}
    assert contacts.sandbox.call("PATCH", f"./{ANNA}", body, idProperty="email").status_code == 200
    assert contacts.person().fields["city"] == "Bonn"


def test_an_address_belongs_to_one_contact(contacts: Contacts) -> None:
    identity, other = contacts.create(), contacts.create(BERT)
    again = contacts.try_create(ANNA.upper())
    assert again.status_code == 409
    assert (again.json()["category"], again.json()["status"]) == ("CONFLICT", "error")
    assert again.json()["message"] == f"Contact already exists. Existing ID: {identity}"
    assert contacts.update(other, email=ANNA).status_code == 409
    assert contacts.update(identity, email=ANNA).status_code == 200


def test_a_contact_needs_an_address_or_a_name(hubspot: Sandbox) -> None:
    assert hubspot.call("POST", ".", {"properties": {"city": "Bonn"}}).status_code == 400
    assert hubspot.call("POST", ".", {"properties": {"lastname": "Ott"}}).status_code == 201
    assert hubspot.call("POST", ".", {}).status_code == 400


def test_an_empty_text_clears_and_what_is_left_out_stays(contacts: Contacts) -> None:
    identity = contacts.create(firstname="Anna", city="Bonn")
    contacts.update(identity, city="")
    assert contacts.values(identity, "firstname", "city") == ["Anna", None]


def test_every_write_moves_the_time_of_change(contacts: Contacts) -> None:
    clock = contacts.sandbox.emulator.clock
    clock.set(datetime(2026, 5, 1, tzinfo=UTC))
    identity = contacts.create(city="Bonn")
    clock.advance(timedelta(seconds=1))
    contacts.update(identity, city="Bonn")
    shown = contacts.read(identity)
    assert shown["properties"]["lastmodifieddate"] == shown["updatedAt"] == "2026-05-01T00:00:01.000Z"
    assert shown["properties"]["createdate"] == shown["createdAt"] == "2026-05-01T00:00:00.000Z"


def test_all_wrong_values_of_a_write_are_named_and_nothing_is_written(contacts: Contacts) -> None:
    identity = contacts.create(city="Bonn")
    answer = contacts.update(identity, city="Ulm", nope="1", hs_object_id="7", lifecyclestage="king")
    assert answer.status_code == 400
    assert answer.json()["category"] == "VALIDATION_ERROR"
    assert codes(answer) == {"PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE", "INVALID_OPTION"}
    assert contacts.values(identity, "city") == ["Bonn"]
    assert codes(contacts.try_create("no address")) == {"INVALID_EMAIL"}


def test_consent_cannot_be_written_as_a_property(contacts: Contacts) -> None:
    for name in (
        "hs_email_optout",
        "hs_email_optout_2001001",
        "hs_email_quarantined",
        "hs_marketable_status",
    ):
        assert codes(contacts.try_create(**{name: "false"})) == {"READ_ONLY_VALUE"}


def test_an_archived_contact_is_gone_from_view_and_its_address_is_free(contacts: Contacts) -> None:
    identity = contacts.create()
    assert contacts.sandbox.call("DELETE", f"./{identity}").status_code == 204
    assert contacts.sandbox.call("GET", f"./{identity}").status_code == 404
    assert contacts.update(identity, city="Bonn").status_code == 404
    assert contacts.read(identity, archived="true")["archived"] is True
    assert [each["id"] for each in contacts.sandbox.call("GET", ".", archived="true").json()["results"]] == [
        identity
    ]
    assert contacts.create() != identity


def test_pages_have_at_most_100_contacts_and_lead_to_the_next(contacts: Contacts) -> None:
    for start in (0, 100):
        contacts.batch("create", *({"properties": {"email": f"p{start + i}@shop.de"}} for i in range(100)))
    contacts.create()
    seen, after, pages = [], None, 0
    while True:
        page = contacts.sandbox.call("GET", ".", limit=100, **({"after": after} if after else {})).json()
        seen += [int(each["id"]) for each in page["results"]]
        pages += 1
        if "paging" not in page:
            break
        after = page["paging"]["next"]["after"]
    assert (len(seen), pages, seen) == (201, 3, sorted(set(seen)))
    assert len(contacts.sandbox.call("GET", ".").json()["results"]) == 10
    assert contacts.sandbox.call("GET", ".", limit=101).status_code == 400


def test_a_page_goes_on_where_it_stood_when_a_contact_went_meanwhile(contacts: Contacts) -> None:
    first, second, third = (contacts.create(f"p{i}@shop.de") for i in range(3))
    page = contacts.sandbox.call("GET", ".", limit=2).json()
    assert page["paging"]["next"]["after"] == second
    contacts.sandbox.call("DELETE", f"./{first}")
    rest = contacts.sandbox.call("GET", ".", limit=2, after=second).json()
    assert [each["id"] for each in rest["results"]] == [third]


def test_a_merge_gives_the_survivor_a_new_id(contacts: Contacts) -> None:
    anna, bert = contacts.create(city="Bonn"), contacts.create(BERT, city="Ulm", zip="1")
    body = {"primaryObjectId": anna, "objectIdToMerge": bert}
    merged = contacts.sandbox.call("POST", "./merge", body).json()["id"]
    assert merged not in {anna, bert}
    assert contacts.sandbox.call("GET", f"./{anna}").status_code == 404
    assert contacts.values(merged, "email", "city", "zip", "hs_additional_emails") == [
        ANNA,
        "Bonn",
        "1",
        BERT,
    ]
    assert contacts.read(BERT, idProperty="email")["id"] == merged
    assert contacts.try_create(BERT).status_code == 409


def test_a_merge_keeps_the_primarys_id_when_permissive(contacts: Contacts) -> None:
    contacts.sandbox.settings(mode="permissive")
    anna, bert = contacts.create(), contacts.create(BERT)
    body = {"primaryObjectId": anna, "objectIdToMerge": bert}
    assert contacts.sandbox.call("POST", "./merge", body).json()["id"] == anna
    assert contacts.sandbox.call("GET", f"./{bert}").status_code == 404
    assert contacts.sandbox.call("POST", "./merge", {**body, "objectIdToMerge": anna}).status_code == 400


def test_an_erased_contact_leaves_nothing_and_its_address_is_blocked(contacts: Contacts) -> None:
    identity = contacts.create()
    assert contacts.sandbox.call("POST", "./gdpr-delete", {"objectId": identity}).status_code == 204
    assert contacts.sandbox.call("GET", f"./{identity}", archived="true").status_code == 404
    assert contacts.sandbox.emulator.people() == []
    assert contacts.try_create(ANNA.upper()).status_code == 400


def test_erasing_an_unknown_address_blocks_it(contacts: Contacts) -> None:
    body = {"objectId": ANNA, "idProperty": "email"}
    assert contacts.sandbox.call("POST", "./gdpr-delete", body).status_code == 204
    assert contacts.try_create().status_code == 400
    other = contacts.create(BERT)
    assert contacts.update(other, email=ANNA).status_code == 400
    assert contacts.sandbox.call("POST", "./gdpr-delete", {"objectId": "1"}).status_code == 404
