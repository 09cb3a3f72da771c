"""Mailchimp's published specification as facts to test against, and every place where we know better, with the reason.

Only data lives here. `spec.json.gz` is version 3.0.55 of the vendor's specification (about 2021) without its prose,
closed against unknown keys; `tests/connectors/mailchimp/strip_spec.py` makes it.
"""

import gzip
import json
from pathlib import Path

from ..referee import Difference, Specification

_STATUSES = ["subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived"]

DIFFERENCES = (
    Difference(
        endpoint="POST /lists/{list_id}",
        side="request",
        at=("members", "[]", "tags"),
        schema={"type": "array", "items": {"type": "string"}},
        reason="vendor's release note of 2022-01-24: member batches take tags",
    ),
    Difference(
        endpoint="*",
        side="answer",
        status="default",
        at=("errors",),
        schema={
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                "required": ["field", "message"],
                "additionalProperties": False,
            },
        },
        reason="vendor's page on errors and on merge fields: an Invalid Resource lists its fields",
    ),
    Difference(
        endpoint="POST /lists/{list_id}",
        side="answer",
        at=("updated_members", "[]", "status"),
        schema={"type": "string", "enum": _STATUSES},
        reason="members have had the status archived since 2019; the specification says so for single members only",
    ),
    Difference(
        endpoint="POST /lists/{list_id}/webhooks",
        side="answer",
        at=("signing_secret",),
        schema={"type": "string"},
        reason="vendor's page on webhooks, 2026: the answer to the creation shows the secret, once",
    ),
    *(
        Difference(
            endpoint=endpoint,
            side="answer",
            at=(*at, "signing_enabled"),
            schema={"type": "boolean"},
            reason="vendor's page on webhooks, 2026: webhooks made since are signed, and say so",
        )
        for endpoint, at in (
            ("POST /lists/{list_id}/webhooks", ()),
            ("GET /lists/{list_id}/webhooks", ("webhooks", "[]")),
            ("GET /lists/{list_id}/webhooks/{webhook_id}", ()),
            ("PATCH /lists/{list_id}/webhooks/{webhook_id}", ()),
        )
    ),
)
BODILESS = frozenset({403, 429})  # vendor's page on errors: at high volume both may come without JSON
ELSEWHERE = {
    "/batch-results/{token}": "results of asynchronous batches lie at a pre-signed address of a file store"
}


def specification() -> Specification:
    """Read the facts. A time may be "": that is how Mailchimp writes "never" (every member that did not sign up)."""
    packed = Path(__file__).with_name("spec.json.gz").read_bytes()
    return Specification(
        endpoints=json.loads(gzip.decompress(packed))["endpoints"],
        prefix="/3.0",
        differences=DIFFERENCES,
        bodiless=BODILESS,
        elsewhere=ELSEWHERE,
        empty_times=True,
    )
