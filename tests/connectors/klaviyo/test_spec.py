import gzip
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.klaviyo.emulator import KlaviyoEmulator
from segue.connectors.klaviyo.facts import endpoints
from segue.connectors.klaviyo.specification import DIFFERENCES, MEDIA_TYPE, specification
from segue.connectors.referee import Difference
from segue.connectors.traffic import Exchange

HERE = Path(__file__).parent
VENDORS = HERE.parents[3] / "shared/specs/klaviyo/stable.json"


def exchange(**changes: Any) -> Exchange:
    start: dict[str, Any] = {
        "number": 1,
        "method": "GET",
        "path": "/api/profiles",
        "template": "/api/profiles",
        "query": (),
        "body": None,
        "status": 200,
        "answer": {"data": [], "links": {"self": "http://127.0.0.1/api/profiles"}},
        "media_type": MEDIA_TYPE,
        "seconds": 0.0,
    }
    return Exchange(**{**start, **changes})


def test_shipped_facts_are_the_vendors_specification_without_prose() -> None:
    if not VENDORS.exists():
        pytest.skip("the vendor's specification lies beside the checkout only on the authors' machines")
    strip = runpy.run_path(str(HERE / "strip_spec.py"))
    vendors = json.loads(VENDORS.read_text(encoding="utf-8"))
    shipped = json.loads(gzip.decompress(strip["TARGET"].read_bytes()))
    assert shipped == strip["facts"](vendors)


def test_every_object_of_the_facts_is_closed() -> None:
    def walk(schema: Any) -> None:
        if schema is None:
            return
        if "properties" in schema:
            assert schema["additionalProperties"] is False
        for each in [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]:
            walk(each)
        walk(schema.get("items"))

    for facts in endpoints().values():
        walk(facts["body"])
        for answer in facts["answers"].values():
            walk(answer)


def test_every_endpoint_of_the_emulator_is_in_the_specification_and_the_other_way_round() -> None:
    emulated = {f"{method} {template}" for method, template, _ in KlaviyoEmulator().endpoints()}
    assert emulated == set(endpoints())


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.status + " " + ".".join(each.at))
def test_every_difference_has_a_reason_and_changes_something(difference: Difference) -> None:
    assert difference.reason
    for facts in endpoints().values():
        schema = facts["answers"][difference.status]
        assert difference.applied(schema) != schema


def test_a_clean_exchange_has_no_problems() -> None:
    assert specification().problems(exchange()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": None, "path": "/api/nowhere"}, "not an endpoint"),
        ({"query": (("nonsense", "1"),)}, "unknown parameter"),
        ({"query": (("page[size]", "101"),)}, "more than 100"),
        ({"query": (("page[size]", "0"),)}, "less than 1"),
        ({"query": (("sort", "shoe_size"),)}, "not one of"),
        ({"query": (("additional-fields[profile]", "subscriptions,more"),)}, "more is not one of"),
        ({"body": {"a": 1}}, "a body where"),
        ({"answer": {"data": [], "links": {"self": "x"}, "more": 1}}, "Additional properties"),
        ({"answer": {"data": 1}}, "not of type"),
        ({"media_type": "application/json"}, "as application/json"),
        ({"status": 201}, "201"),
        ({"status": 404, "answer": {"title": "x"}}, "required"),
        ({"status": 404, "answer": {"errors": []}, "media_type": "text/html"}, "404 as text/html"),
        ({"status": 500, "answer": None, "media_type": None}, "None"),
    ],
)
def test_whatever_the_specification_does_not_know_is_a_problem(changes: dict[str, Any], words: str) -> None:
    problems = specification().problems(exchange(**changes))
    assert any(words in problem for problem in problems), problems


def test_lists_of_names_in_a_query_are_judged_name_by_name() -> None:
    query = (
        ("fields[profile]", "email,subscriptions.email.marketing"),
        ("additional-fields[profile]", "subscriptions"),
    )
    assert specification().problems(exchange(query=query)) == []


def test_only_a_sparse_fieldset_may_leave_out_what_is_required_of_the_attributes() -> None:
    job = {
        "type": "profile-bulk-import-job",
        "id": "1",
        "attributes": {"status": "queued"},
        "links": {"self": "x"},
    }
    at = "/api/profile-bulk-import-jobs/{job_id}"
    asked = exchange(
        path=at, template=at, answer={"data": job}, query=(("fields[profile-bulk-import-job]", "status"),)
    )
    assert specification().problems(asked) == []
    assert len(specification().problems(exchange(path=at, template=at, answer={"data": job}))) == 2
    del job["links"]
    assert len(specification().problems(asked)) == 1
