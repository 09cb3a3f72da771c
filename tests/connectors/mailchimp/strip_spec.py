"""Strip Mailchimp's published specification to the schema facts of the endpoints that we use.

Run `python tests/connectors/mailchimp/strip_spec.py SPECIFICATION.json` to write `connectors/mailchimp/spec.json.gz`.
Prose, examples and links go; types, enumerations, required names and limits stay; every object becomes closed, so
that an unknown key is an error. The vendor's own file is Apache-2.0; what is left of it here are facts.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[3] / "connectors" / "mailchimp" / "spec.json.gz"
ENDPOINTS = {
    "/": "get",
    "/ping": "get",
    "/batches": "get post",
    "/batches/{batch_id}": "get delete",
    "/lists": "get post",
    "/lists/{list_id}": "get post",
    "/lists/{list_id}/members": "get post",
    "/lists/{list_id}/members/{subscriber_hash}": "get put patch delete",
    "/lists/{list_id}/members/{subscriber_hash}/actions/delete-permanent": "post",
    "/lists/{list_id}/members/{subscriber_hash}/events": "get post",
    "/lists/{list_id}/members/{subscriber_hash}/tags": "get post",
    "/lists/{list_id}/merge-fields": "get post",
    "/lists/{list_id}/merge-fields/{merge_id}": "get patch delete",
    "/lists/{list_id}/segments": "get post",
    "/lists/{list_id}/segments/{segment_id}": "get patch post delete",
    "/lists/{list_id}/segments/{segment_id}/members": "get post",
    "/lists/{list_id}/segments/{segment_id}/members/{subscriber_hash}": "delete",
    "/lists/{list_id}/tag-search": "get",
    "/lists/{list_id}/webhooks": "get post",
    "/lists/{list_id}/webhooks/{webhook_id}": "get patch delete",
    "/reports": "get",
    "/reports/{campaign_id}/email-activity": "get",
}
Schema = dict[str, Any]
FACTS = ("type", "enum", "format", "maximum", "minimum", "required")


def strip(schema: Schema) -> Schema:
    """Keep the facts of one schema."""
    kept: Schema = {name: schema[name] for name in FACTS if name in schema}
    if "properties" in schema:
        kept["properties"] = {
            name: {"type": "array"}
            if name == "conditions"
            else strip(each)  # of saved segments, which we never make
            for name, each in schema["properties"].items()
            if name != "_links"
        }
        kept["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = strip(schema["additionalProperties"])
    if "items" in schema and schema.get("type") == "array":
        kept["items"] = strip(schema["items"])
    return kept


def content(part: Schema) -> Schema | None:
    """Give the one schema of a body; the same one stands under each media type."""
    schemas = [strip(each["schema"]) for each in part.get("content", {}).values()]
    assert all(each == schemas[0] for each in schemas)
    return schemas[0] if schemas else None


def facts(specification: Schema) -> Schema:
    """Give the facts of all endpoints, keyed by method and path."""
    result: Schema = {}
    for path, methods in ENDPOINTS.items():
        for method in methods.split():
            operation = specification["paths"][path][method]
            parameters = specification["paths"][path].get("parameters", []) + operation.get("parameters", [])
            body = operation.get("requestBody")
            if body and "$ref" in body:
                body = specification["components"]["requestBodies"][body["$ref"].rsplit("/", 1)[1]]
            result[f"{method.upper()} {path}"] = {
                "query": {
                    each["name"]: strip(each["schema"]) for each in parameters if each["in"] == "query"
                },
                "body": content(body) if body else None,
                "answers": {status: content(each) for status, each in operation["responses"].items()},
            }
    return {"version": specification["info"]["version"], "endpoints": result}


if __name__ == "__main__":
    stripped = facts(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    text = json.dumps(stripped, sort_keys=True, separators=(",", ":"))
    TARGET.write_bytes(gzip.compress(text.encode(), mtime=0))
