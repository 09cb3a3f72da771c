"""Klaviyo's published specification as facts to test against, and every place where we know better, with the reason.

Only data lives here; the facts themselves are read in `facts.py`.
"""

from ..referee import Difference, Specification
from .facts import endpoints

MEDIA_TYPE = "application/vnd.api+json"
_SEEN = "recorded answer in a public issue of klaviyo-api-node, number 75"

DIFFERENCES = tuple(
    Difference(
        endpoint="*",
        side="answer",
        status=status,
        at=("errors", "[]", name),
        schema=schema,
        reason=f"{_SEEN}: an error has {name}",
    )
    for status in ("4XX", "5XX")
    for name, schema in (
        ("status", {"type": "integer"}),
        ("links", {"type": "object"}),
        (
            "meta",
            {
                "type": "object",
                "properties": {"duplicate_profile_id": {"type": "string"}},
                "additionalProperties": False,
            },
        ),
    )
)


def specification() -> Specification:
    """Read the facts, which are of revision 2026-07-15."""
    return Specification(
        endpoints=endpoints(), differences=DIFFERENCES, media_type=MEDIA_TYPE, problem_type=MEDIA_TYPE
    )
