"""Nonsense is refused, never crashed on, and whatever happens people and raises fit together."""

import json
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from segue.connectors.emulator import Answer, Call, PersonAct
from segue.connectors.klaviyo.emulator import KlaviyoEmulator, Settings
from segue.connectors.klaviyo.facts import endpoints
from segue.connectors.klaviyo.specification import MEDIA_TYPE, specification
from segue.connectors.traffic import Exchange
from segue.core.consent import ConsentState

from .api import ANNA, BEFORE, BERT, NOON

SPECIFICATION = specification()
PHONE = "+4930123456"
FIRST, JOB = "01SANDBOX00000000000000001", "01JOB000000000000000000001"


def emulator_with_anna() -> KlaviyoEmulator:
    emulator = KlaviyoEmulator(Settings(limits=False, advanced_kdp=True))
    emulator.clock.set(NOON)
    send(emulator, "POST", "/api/profiles", {"data": {"type": "profile", "attributes": {"email": ANNA}}})
    imported = {"profiles": {"data": [{"type": "profile", "attributes": {"email": BERT}}]}}
    job = {"type": "profile-bulk-import-job", "attributes": imported}
    send(emulator, "POST", "/api/profile-bulk-import-jobs", {"data": job})
    return emulator


def send(
    emulator: KlaviyoEmulator, method: str, path: str, body: Any = None, query: dict[str, str] | None = None
) -> Answer:
    """Make a call without a server, and judge the answer."""
    headers = {
        "authorization": f"Klaviyo-API-Key {emulator.settings()['key']}",
        "revision": "2026-10-15",
        "content-type": MEDIA_TYPE,
    }
    call = emulator.route(
        Call(
            method=method,
            path=path,
            base_url="http://127.0.0.1",
            headers=headers,
            query=query or {},
            body=b"" if body is None else json.dumps(body).encode(),
            number=emulator.traffic.next_number(),
        )
    )
    answer = emulator.handle(call)
    exchange = Exchange(
        number=call.number,
        method=method,
        path=path,
        template=call.template,
        query=tuple(call.query.items()),
        body=body,
        status=answer.status,
        answer=json.loads(answer.encode()) if answer.body is not None else None,
        media_type=answer.media_type if answer.body is not None else None,
        seconds=0.0,
    )
    problems = SPECIFICATION.problems(exchange)
    wrong = [each for each in problems if ", request " not in each and ", query " not in each]
    assert wrong == []
    assert answer.status < 500
    return answer


def check(emulator: KlaviyoEmulator) -> None:
    """What holds of the people whatever was done."""
    people = emulator.people()
    addresses = [person.address for person in people if person.address]
    assert len(set(addresses)) == len(addresses)
    assert len({person.name for person in people}) == len(people)
    assert all((person.state is ConsentState.UNKNOWN) == (person.address == "") for person in people)
    account = emulator.account
    for target in account.lists.by_id.values():
        on_it = {name for _, name in target.members.walk()}
        assert on_it == {each.id for each in account.profiles.by_id.values() if target.id in each.lists}
    for event in account.events.by_id.values():
        assert event.profile_id in account.profiles.by_id


# Bodies that are nearly right: valid by the specification's own schema, with odd values, and now and then broken.

texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            ANNA,
            BERT,
            PHONE,
            FIRST,
            JOB,
            "LSANDB",
            "c1",
            "a",
            "SUBSCRIBED",
            "https://shop.test/hook",
            "0123456789abcdef",
            "event:klaviyo.opened_email",
        ]
    ),
)
instants = st.sampled_from(
    [
        BEFORE,
        "2026-12-01T00:00:00Z",
        "2026-01-01",
        "",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ]
)
numbers = st.one_of(st.integers(-5, 10**20), st.floats(allow_nan=False, allow_infinity=False))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def valid(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Give values that a schema mostly allows."""
    if "anyOf" in schema:
        return st.one_of(*(valid(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", "object")
    by_kind: dict[str, st.SearchStrategy[Any]] = {
        "string": instants if schema.get("format") else texts,
        "boolean": st.booleans(),
        "integer": numbers,
        "number": numbers,
        "null": st.none(),
    }
    chosen: list[st.SearchStrategy[Any]] = []
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "array":
            chosen.append(st.lists(valid(schema["items"]), max_size=2))
        elif kind == "object" and "properties" in schema:
            required = schema.get("required", [])
            parts = {
                name: valid(each)
                for name, each in schema["properties"].items()
                if name not in {"push", "sms", "whatsapp"}
            }
            needed = {name: part for name, part in parts.items() if name in required}
            spare = {name: part for name, part in parts.items() if name not in required}
            chosen.append(st.fixed_dictionaries(needed, optional=spare))
        elif kind == "object":
            chosen.append(st.dictionaries(texts, anything, max_size=2))
        else:
            chosen.append(by_kind[kind])
    return st.one_of(*chosen)


WRITES = sorted(name for name, facts in endpoints().items() if facts["body"] is not None)
BODIES = {name: valid(dict(endpoints()[name]["body"])) for name in WRITES}
READS = sorted(set(endpoints()) - set(WRITES))
FIXED = {"id": FIRST, "job_id": JOB}


def path_of(name: str) -> str:
    path = name.split(" ")[1]
    if "/lists/" in path:
        return path.format(id="LSANDB")
    return path.format(id=JOB if "jobs" in path else FIRST, job_id=JOB)


def broken(body: Any, way: list[int], value: Any) -> Any:
    """Put a value somewhere into a body."""
    if not way or not isinstance(body, dict | list) or not body:
        return value
    keys = list(body) if isinstance(body, dict) else list(range(len(body)))
    copy: Any = dict(body) if isinstance(body, dict) else list(body)
    key = keys[way[0] % len(keys)]
    copy[key] = broken(copy[key], way[1:], value)
    return copy


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(data=st.data(), names=st.lists(st.sampled_from(WRITES), min_size=1, max_size=6))
def test_any_json_gets_an_answer_that_the_specification_allows(data: st.DataObject, names: list[str]) -> None:
    emulator = emulator_with_anna()
    if data.draw(st.booleans()):
        emulator.change_settings({"mode": "permissive"})
    for name in names:
        body = data.draw(BODIES[name])
        if data.draw(st.integers(0, 3)) == 0:
            body = broken(body, data.draw(st.lists(st.integers(0, 9), max_size=6)), data.draw(anything))
        send(emulator, name.split(" ")[0], path_of(name), body)
        emulator.clock.advance(timedelta(seconds=1))
        check(emulator)


fields = st.sampled_from(
    sorted({field for facts in endpoints().values() for field in facts["filters"]} | {"first_name", "a.b"})
)
operators = st.sampled_from(["any", "equals", "greater-than", "less-or-equal", "has", "and"])
filter_values = st.one_of(
    texts.map(lambda text: f"'{text}'"),
    texts.map(lambda text: f'["{text}"]'),
    st.sampled_from(
        ["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1e400", "-1e18", "1793534400", "nan", ""]
    ),
)
filters = st.one_of(
    texts, st.builds(lambda verb, field, value: f"{verb}({field},{value})", operators, fields, filter_values)
)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(READS))
def test_any_query_gets_an_answer_that_the_specification_allows(data: st.DataObject, name: str) -> None:
    emulator = emulator_with_anna()
    emulator.act(PersonAct.UNSUBSCRIBE, address=ANNA)
    query: dict[str, str] = {}
    for key, schema in endpoints()[name]["query"].items():
        if data.draw(st.booleans()):
            allowed = schema.get("enum") or schema.get("items", {}).get("enum")
            values = (
                st.sampled_from(allowed)
                if allowed
                else st.integers(0, 101).map(str)
                if schema["type"] == "integer"
                else texts
            )
            query[key] = data.draw(filters if key == "filter" else st.one_of(values, values, texts))
    send(emulator, name.split(" ", maxsplit=1)[0], path_of(name), query=query)
    check(emulator)


acts = st.one_of(
    st.tuples(
        st.sampled_from(list(PersonAct)), st.sampled_from([ANNA, BERT]), st.sampled_from(["", "LSANDB"])
    ),
    st.sampled_from(
        ["create-subscription", "delete-subscription", "create-suppression", "delete-suppression"]
    ),
)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(steps=st.lists(acts, max_size=14), permissive=st.booleans(), seconds=st.integers(0, 3))
def test_whoever_said_no_is_mailed_again_by_their_own_act_or_a_remembered_raise(
    steps: list[Any], permissive: bool, seconds: int
) -> None:
    emulator = emulator_with_anna()
    emulator.change_settings(
        {"mode": "permissive" if permissive else "adversarial", "consent_seconds": seconds}
    )
    refused = False

    def mailable() -> bool:
        return any(
            each.address == ANNA and each.state is ConsentState.SUBSCRIBED for each in emulator.people()
        )

    for step in steps:
        raised = len([each for each in emulator.raises if each.address == ANNA])
        by_herself = False
        match step:
            case (act, address, where):
                try:
                    emulator.act(act, address=address, audience=where)
                except LookupError:
                    continue
                by_herself = act in {PersonAct.SUBSCRIBE, PersonAct.CONFIRM} and address == ANNA
            case _:
                verb, what = step.split("-")
                kind = f"profile-{what}-bulk-{verb}-job"
                marketing = {"consent": "SUBSCRIBED" if verb == "create" else "UNSUBSCRIBED"}
                said = (
                    {"subscriptions": {"email": {"marketing": marketing}}} if what == "subscription" else {}
                )
                profiles = {"data": [{"type": "profile", "attributes": {"email": ANNA, **said}}]}
                more = {}
                if step == "create-subscription":
                    marketing["consented_at"] = BEFORE
                    more = {"historical_import": True}
                body = {"data": {"type": kind, "attributes": {"profiles": profiles, **more}}}
                assert send(emulator, "POST", f"/api/{kind}s", body).status == 202
        emulator.clock.advance(timedelta(seconds=1))
        now = mailable()
        if now and refused and not by_herself:
            assert len([each for each in emulator.raises if each.address == ANNA]) > raised
        refused = not now
        check(emulator)
