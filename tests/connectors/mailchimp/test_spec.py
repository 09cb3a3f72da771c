import gzip
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.mailchimp.emulator import MailchimpEmulator
from segue.connectors.mailchimp.specification import DIFFERENCES, ELSEWHERE, specification
from segue.connectors.referee import Difference
from segue.connectors.traffic import Exchange

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
VENDORS = ROOT.parent / "shared/specs/mailchimp/marketing-3.0.55.apis-guru.openapi3.json"


def exchange(**changes: Any) -> Exchange:
    start: dict[str, Any] = {
        "number": 1,
        "method": "GET",
        "path": "/3.0/ping",
        "template": "/3.0/ping",
        "query": (),
        "body": None,
        "status": 200,
        "answer": {"health_status": "fine"},
        "media_type": "application/json",
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
        for each in schema.get("properties", {}).values():
            walk(each)
        walk(schema.get("items"))

    for facts in specification().endpoints.values():
        walk(facts["body"])
        for answer in facts["answers"].values():
            walk(answer)


def test_every_endpoint_of_the_emulator_is_in_the_specification_and_the_other_way_round() -> None:
    emulated = {
        f"{method} {template.removeprefix('/3.0') or '/'}"
        for method, template, _ in MailchimpEmulator().endpoints()
        if template not in ELSEWHERE
    }
    assert emulated == set(specification().endpoints)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.endpoint + " " + ".".join(each.at))
def test_every_difference_has_a_reason_and_changes_something(difference: Difference) -> None:
    assert difference.reason
    for name, facts in specification().endpoints.items():
        if difference.endpoint in {name, "*"}:
            schema = facts["body"] if difference.side == "request" else facts["answers"][difference.status]
            assert difference.applied(schema) != schema


def test_a_clean_exchange_has_no_problems() -> None:
    assert specification().problems(exchange()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": None, "path": "/3.0/nowhere"}, "not an endpoint"),
        ({"query": (("nonsense", "1"),)}, "unknown parameter"),
        ({"body": {"a": 1}}, "a body where"),
        ({"answer": {"health_status": "fine", "more": 1}}, "Additional properties"),
        ({"answer": {"health_status": 1}}, "not of type"),
        ({"media_type": "text/html"}, "text/html"),
        ({"status": 201}, "201"),
        ({"status": 404, "answer": {"title": "x"}, "media_type": "application/problem+json"}, "required"),
        ({"status": 500, "answer": None, "media_type": None}, "None"),
    ],
)
def test_whatever_the_specification_does_not_know_is_a_problem(changes: dict[str, Any], words: str) -> None:
    problems = specification().problems(exchange(**changes))
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (("count", "1001"), "more than 1000"),
        (("count", "ten"), "whole number"),
        (("status", "gone"), "not one of"),
        (("vip_only", "yes"), "neither"),
    ],
)
def test_query_values_are_judged_by_type(query: tuple[str, str], words: str) -> None:
    at = "/3.0/lists/{list_id}/members"
    answer = {"members": [], "total_items": 0, "list_id": "x"}
    problems = specification().problems(exchange(path=at, template=at, query=(query,), answer=answer))
    assert len(problems) == 1
    assert words in problems[0]


def test_throttling_may_come_without_a_body() -> None:
    assert specification().problems(exchange(status=429, answer=None, media_type=None)) == []


def test_an_answer_that_a_fault_spoiled_is_not_judged_but_its_request_is() -> None:
    spoiled = exchange(status=502, answer=b"<html>", media_type="text/html", fault="gateway")
    assert specification().problems(spoiled) == []
    assert specification().problems(exchange(fault="gateway", query=(("nonsense", "1"),)))
