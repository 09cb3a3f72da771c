"""Strip Klaviyo's published specification to the schema facts of the endpoints that we use.

Run `python tests/connectors/klaviyo/strip_spec.py SPECIFICATION.json` to write `connectors/klaviyo/spec.json.gz`. Prose,
examples and links go; types, enumerations, required names, filters and limits stay; references are resolved, and every
object becomes closed, so that an unknown key is an error. The vendor's own file is MIT; what is left of it here are facts.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[3] / "connectors" / "klaviyo" / "spec.json.gz"
ENDPOINTS = {
    "/api/accounts": "get",
    "/api/data-privacy-deletion-jobs": "post",
    "/api/events": "get post",
    "/api/lists": "get post",
    "/api/lists/{id}": "get patch delete",
    "/api/lists/{id}/profiles": "get",
    "/api/lists/{id}/relationships/profiles": "post delete",
    "/api/metrics": "get",
    "/api/profile-bulk-import-jobs": "post",
    "/api/profile-bulk-import-jobs/{job_id}": "get",
    "/api/profile-bulk-import-jobs/{id}/import-errors": "get",
    "/api/profile-bulk-import-jobs/{id}/profiles": "get",
    "/api/profile-import": "post",
    "/api/profile-merge": "post",
    "/api/profile-subscription-bulk-create-jobs": "post",
    "/api/profile-subscription-bulk-delete-jobs": "post",
    "/api/profile-suppression-bulk-create-jobs": "post",
    "/api/profile-suppression-bulk-create-jobs/{job_id}": "get",
    "/api/profile-suppression-bulk-delete-jobs": "post",
    "/api/profile-suppression-bulk-delete-jobs/{job_id}": "get",
    "/api/profiles": "get post",
    "/api/profiles/{id}": "get patch",
    "/api/webhook-topics": "get",
    "/api/webhooks": "get post",
    "/api/webhooks/{id}": "delete",
}
Schema = dict[str, Any]
FACTS = ("enum", "format", "maximum", "minimum", "required")
MEDIA_TYPE = "application/vnd.api+json"


class Stripper:
    """Reads one specification."""

    def __init__(self, specification: Schema) -> None:
        self._all = specification

    def _resolved(self, part: Schema) -> Schema:
        while "$ref" in part:
            found: Schema = self._all
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part

    def strip(self, schema: Schema) -> Schema:
        """Keep the facts of one schema."""
        schema = self._resolved(schema)
        if "allOf" in schema:
            return self._joined([self.strip(each) for each in schema["allOf"]])
        kept: Schema = {name: schema[name] for name in FACTS if name in schema}
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                kept["anyOf"] = [self.strip(each) for each in schema[choice]]
                if schema.get("nullable"):
                    kept["anyOf"].append({"type": "null"})
                return kept
        if "type" in schema:
            kept["type"] = [schema["type"], "null"] if schema.get("nullable") else schema["type"]
        if schema.get("nullable") and "enum" in kept:
            kept["enum"] = [*kept["enum"], None]
        if "properties" in schema:
            kept["properties"] = {name: self.strip(each) for name, each in schema["properties"].items()}
            kept["additionalProperties"] = False
        if "items" in schema:
            kept["items"] = self.strip(schema["items"])
        return kept

    def _joined(self, parts: list[Schema]) -> Schema:
        """Make one closed object of several that describe it together."""
        joined: Schema = {}
        for part in parts:
            for name, value in part.items():
                if name == "properties" and name in joined:
                    both = joined[name].keys() & value.keys()
                    shared = {each: self._joined([joined[name][each], value[each]]) for each in both}
                    joined[name] = {**joined[name], **value, **shared}
                elif name == "required":
                    joined[name] = sorted({*joined.get(name, []), *value})
                else:
                    joined.setdefault(name, value)
        return joined

    def content(self, part: Schema) -> Schema | None:
        """Give the schema of a body, None where there is none."""
        kinds = self._resolved(part).get("content")
        return self.strip(kinds[MEDIA_TYPE]["schema"]) if kinds else None

    def endpoint(self, operation: Schema) -> Schema:
        """Give the facts of one endpoint."""
        query = {
            each["name"]: self.strip(each["schema"])
            for each in operation["parameters"]
            if each["in"] == "query"
        }
        filters = {
            name: {
                "operators": sorted({each for kind in facts["operators"].values() for each in kind}),
                **{key: facts["value"][key] for key in ("type", "format") if key in facts.get("value", {})},
            }
            for name, facts in operation.get("x-klaviyo-filters", {}).items()
        }
        return {
            "query": query,
            "filters": filters,
            "limits": operation["x-klaviyo-ratelimit"],
            "body": self.content(operation["requestBody"]) if "requestBody" in operation else None,
            "answers": {status: self.content(each) for status, each in operation["responses"].items()},
        }


def facts(specification: Schema) -> Schema:
    """Give the facts of all endpoints, keyed by method and path."""
    stripper = Stripper(specification)
    return {
        "version": specification["info"]["version"],
        "endpoints": {
            f"{method.upper()} {path}": stripper.endpoint(specification["paths"][path][method])
            for path, methods in ENDPOINTS.items()
            for method in methods.split()
        },
    }


if __name__ == "__main__":
    stripped = facts(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    text = json.dumps(stripped, sort_keys=True, separators=(",", ":"))
    TARGET.write_bytes(gzip.compress(text.encode(), mtime=0))
