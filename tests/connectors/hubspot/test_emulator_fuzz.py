"""Nonsense is refused, never crashed on; and whatever is asked, the account stays in one piece."""

import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from segue.connectors.emulator import Call, PersonAct
from segue.connectors.hubspot.emulator import HubSpotEmulator
from segue.connectors.hubspot.emulator.consent import LEGAL_BASES
from segue.core.consent import LEFT, ConsentState

from .calls import ANNA, BERT, LETTER, NEWS, UNIQUE

FIXED = {
    "contact_id": "100001",
    "name": "shop_id",
    "group_name": "contactinformation",
    "list_id": "1",
    "object_type": "0-1",
    "record_id": "100001",
    "address": ANNA,
    "app_id": "1160452",
    "subscription_id": "1",
}
TEXTS = [
    ANNA, BERT, "100001", "100002", "0-1", "MANUAL", "DYNAMIC", "shop_id", "email", "hs_object_id", "7",
    "SUBSCRIBED", "UNSUBSCRIBED", "NOT_SPECIFIED", "EMAIL", "string", "number", "text", "contactinformation",
    "lastmodifieddate", "GT", "EQ", "IN", "contact.creation", "contact.propertyChange", "2026-01-01", ";", "nan",
    str(NEWS), min(LEGAL_BASES), "http://127.0.0.1:9", "\ud800",
]  # fmt: skip
NAMES = [
    "inputs",
    "id",
    "idProperty",
    "properties",
    "objectWriteTraceId",
    "email",
    "firstname",
    "shop_id",
    "lifecyclestage",
    "primaryObjectId",
    "objectIdToMerge",
    "objectId",
    "filterGroups",
    "filters",
    "propertyName",
    "operator",
    "value",
    "values",
    "highValue",
    "sorts",
    "query",
    "limit",
    "after",
    "name",
    "label",
    "type",
    "fieldType",
    "groupName",
    "options",
    "hasUniqueValue",
    "processingType",
    "objectTypeId",
    "filterBranch",
    "recordIdsToAdd",
    "recordIdsToRemove",
    "subscriptionId",
    "statusState",
    "channel",
    "legalBasis",
    "legalBasisExplanation",
    "emailAddress",
    "subscriberIdString",
    "targetUrl",
    "throttling",
    "maxConcurrentRequests",
    "eventType",
    "active",
    "count",
    "offset",
    "listIds",
]  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(TEXTS),
    st.sampled_from([NEWS, LETTER]),
)
names = st.sampled_from(NAMES)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=5)),
    max_leaves=12,
)
ENDPOINTS = sorted((method, template) for method, template, _ in HubSpotEmulator().endpoints())
bodies = st.one_of(st.dictionaries(names, values, max_size=6), st.lists(scalars, max_size=3))
steps = st.lists(st.tuples(st.sampled_from(ENDPOINTS), bodies), min_size=1, max_size=4)


def call(
    emulator: HubSpotEmulator, method: str, path: str, body: Any, query: dict[str, str] | None = None
) -> int:
    current = emulator.account.settings
    request = Call(
        method=method,
        path=path,
        base_url="",
        query={"hapikey": current.developer_key, **(query or {})},
        headers={"authorization": f"Bearer {current.token}"},
        body=json.dumps(body).encode(),
        number=1,
    )
    answer = emulator.handle(emulator.route(request))
    json.loads(answer.encode() or b"{}")
    return answer.status


def started(mode: str) -> HubSpotEmulator:
    """Give an account with somebody in every state."""
    emulator = HubSpotEmulator()
    emulator.change_settings({"mode": mode, "tier": "enterprise", "index_lag": 0, "limits": False})
    call(emulator, "POST", "/crm/v3/properties/contacts", UNIQUE)
    for number, address in enumerate((ANNA, BERT, "c@shop.de")):
        body = {"properties": {"email": address, "shop_id": str(number)}}
        assert call(emulator, "POST", "/crm/v3/objects/contacts", body) == 201
    lists = {"name": "VIP", "objectTypeId": "0-1", "processingType": "MANUAL"}
    call(emulator, "POST", "/crm/v3/lists", lists)
    call(emulator, "PUT", "/crm/v3/lists/1/memberships/add", ["100001", "100002"])
    emulator.act(PersonAct.UNSUBSCRIBE, address=ANNA)
    return emulator


def verify(emulator: HubSpotEmulator) -> None:
    """The account is in one piece, and whoever said no is mailed only if that is remembered."""
    people, records = emulator.people(), emulator.account.records
    present = [person for person in people if not person.archived]
    addresses = Counter(person.address for person in present if person.address)
    assert max(addresses.values(), default=0) <= 1
    assert len({person.name for person in people}) == len(people)
    assert {contact.id for contact in records.active.values()} == set(records.active_ids)
    for person in present:
        assert records.active[int(person.name)].email == person.address
        assert not person.address or records.by_email[person.address].email == person.address
        assert set(person.fields) >= {"hs_object_id", "createdate", "lastmodifieddate"}
        optout = person.fields.get("hs_email_optout") == "true"
        assert not optout or person.state in LEFT
        if not emulator.raises and person.name == "100001":
            assert person.state is not ConsentState.SUBSCRIBED
    for each in emulator.account.lists.all.values():
        assert each.members.keys() <= records.active.keys()
        assert all(each.id in records.active[number].lists for number in each.members)
    found = records.index.find([[]], _in_order_of_ids(), emulator.clock.now())
    assert found == records.active_ids


def _in_order_of_ids() -> Any:
    from segue.connectors.hubspot.emulator.index import Order

    return Order()


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(mode=st.sampled_from(["adversarial", "permissive"]), steps=steps)
def test_any_json_gets_an_answer_and_leaves_the_account_in_one_piece(mode: str, steps: list[Any]) -> None:
    emulator = started(mode)
    for (method, template), body in steps:
        query = {"channel": "EMAIL", "listName": "VIP", "limit": "2"}
        assert call(emulator, method, template.format(**FIXED), body, query) < 500
    emulator.sender.close()
    verify(emulator)


# Right requests, in any order.

address = st.sampled_from([ANNA, BERT, "c@shop.de", "d@shop.de", ""])
number = st.integers(0, 5).map(lambda each: str(100_001 + each))
status = st.sampled_from(["SUBSCRIBED", "UNSUBSCRIBED", "NOT_SPECIFIED"])
CONTACTS, V4 = "/crm/v3/objects/contacts", "/communication-preferences/v4/statuses"
right = st.one_of(
    st.tuples(
        st.just("POST"),
        st.just(CONTACTS),
        st.builds(lambda each: {"properties": {"email": each, "lastname": "x"}}, address),
    ),
    st.tuples(
        st.just("PATCH"),
        number.map(lambda each: f"{CONTACTS}/{each}"),
        st.builds(lambda each: {"properties": {"email": each}}, address),
    ),
    st.tuples(st.just("DELETE"), number.map(lambda each: f"{CONTACTS}/{each}"), st.just({})),
    st.tuples(
        st.just("POST"),
        st.just(f"{CONTACTS}/merge"),
        st.builds(lambda one, two: {"primaryObjectId": one, "objectIdToMerge": two}, number, number),
    ),
    st.tuples(
        st.just("POST"),
        st.just(f"{CONTACTS}/gdpr-delete"),
        st.builds(lambda each: {"objectId": each}, number),
    ),
    st.tuples(
        st.just("POST"),
        address.map(lambda each: f"{V4}/{each or ANNA}"),
        st.builds(lambda each: {"subscriptionId": NEWS, "statusState": each, "channel": "EMAIL"}, status),
    ),
    st.tuples(st.just("POST"), address.map(lambda each: f"{V4}/{each or ANNA}/unsubscribe-all"), st.just({})),
    st.tuples(st.just("PUT"), st.just("/crm/v3/lists/1/memberships/add"), st.lists(number, max_size=3)),
)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(
    mode=st.sampled_from(["adversarial", "permissive"]),
    steps=st.lists(st.one_of(right, st.tuples(st.sampled_from(PersonAct), address)), max_size=12),
)
def test_right_requests_in_any_order_leave_the_account_in_one_piece(mode: str, steps: list[Any]) -> None:
    emulator = started(mode)
    by_form = False
    for step in steps:
        if isinstance(step[0], PersonAct):
            by_form |= step[0] in {PersonAct.SUBSCRIBE, PersonAct.CONFIRM}
            if step[1] and (
                step[0] is PersonAct.SUBSCRIBE or emulator.account.records.find("email", step[1])
            ):
                emulator.act(step[0], audience="", address=step[1])
        else:
            method, path, body = step
            assert call(emulator, method, path, body, {"channel": "EMAIL"}) < 500
    if not by_form:
        verify(emulator)
