"""Nonsense is refused, never crashed on: any JSON under any key of any write gets an answer that the specification allows."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from segue.connectors.emulator import Call
from segue.connectors.mailchimp.emulator import MailchimpEmulator
from segue.connectors.mailchimp.specification import specification
from segue.connectors.traffic import Exchange

SPECIFICATION = specification()
ADDRESS = "anna@shop.de"
FIXED = {
    "list_id": "b1234567ab",
    "subscriber_hash": ADDRESS,
    "merge_id": "1",
    "segment_id": "1001",
    "batch_id": "batch00001",
    "webhook_id": "0123456789",
}

# A few right values among the wrong ones, so that a write gets past its first check.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        [
            ADDRESS,
            "subscribed",
            "pending",
            "active",
            "text",
            "number",
            "date",
            "dropdown",
            "2026-01-01",
            "1.2.3.4",
        ]
    ),
)
names = st.sampled_from(
    sorted(
        {
            name
            for facts in SPECIFICATION.endpoints.values()
            for name in (facts["body"] or {}).get("properties", {})
        }
        | {"FNAME", "BIRTHDAY", "choices", "date_format", "latitude", "tags", "path", "method", "body"}
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=5)),
    max_leaves=12,
)
writes = sorted(
    (method, template)
    for method, template, _ in MailchimpEmulator().endpoints()
    if method in {"POST", "PUT", "PATCH"} and template != "/3.0/lists"
)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(
    endpoint=st.sampled_from(writes), bodies=st.lists(st.dictionaries(names, values, max_size=6), max_size=4)
)
def test_any_json_gets_an_answer_that_the_specification_allows(
    endpoint: tuple[str, str], bodies: list[Any]
) -> None:
    emulator = MailchimpEmulator()
    method, template = endpoint
    headers = {"authorization": f"Bearer {emulator.settings()['key']}"}
    good: Any = {"email_address": ADDRESS, "status": "subscribed", "tags": ["t"]}
    start = Call(
        method="POST",
        path="/3.0/lists/b1234567ab/members",
        base_url="",
        headers=headers,
        body=json.dumps(good).encode(),
    )
    emulator.handle(emulator.route(start))
    for body in bodies:
        call = emulator.route(
            Call(
                method=method,
                path=template.format(**FIXED),
                base_url="",
                headers=headers,
                body=json.dumps(body).encode(),
            )
        )
        answer = emulator.handle(call)
        exchange = Exchange(
            number=1,
            method=method,
            path=call.path,
            template=template,
            query=(),
            body=None,
            status=answer.status,
            answer=json.loads(answer.encode()) if answer.body is not None else None,
            media_type=answer.media_type if answer.body is not None else None,
            seconds=0.0,
        )
        wrong = [each for each in SPECIFICATION.problems(exchange) if ", request " not in each]
        assert wrong == []
