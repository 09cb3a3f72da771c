"""Rules held against what exists: every mistake found before any data is read, each at its character."""

from pathlib import Path

import pytest

from segue.core.config import Project, load_project
from segue.core.model import Trait, TraitType
from segue.core.segments.check import check, check_segments, segment_warnings, unheard_events
from segue.core.segments.language import parse

TYPES = {
    "recency_days": TraitType.INTEGER,
    "share": TraitType.NUMBER,
    "revenue": TraitType.MONEY,
    "country": TraitType.TEXT,
    "accepts": TraitType.BOOLEAN,
    "birth_date": TraitType.DATE,
    "created_at": TraitType.TIMESTAMP,
    "top_categories": TraitType.TEXT_LIST,
}
TRAITS = [Trait(name=name, type=type_, description="") for name, type_ in TYPES.items()]


def said(text: str) -> list[tuple[int, str]]:
    faults = check(parse(text), TRAITS, ["vip"])
    return [(fault.at + 1, f"{fault.message} {fault.next_step}") for fault in faults]


@pytest.mark.parametrize(
    "text",
    [
        "recency_days > share and revenue >= 19.99",
        "country > 'M' and country in ('GB', 'IE')",
        "accepts and accepts = true and not accepts",
        "birth_date < created_at and birth_date = '1990-05-01' and created_at > date '2024-01-01'",
        "created_at between '2024-01-01' and '2024-02-01T10:00:00+01:00'",
        "'shoes' in top_categories and top_categories is not null",
        "days_since(birth_date) / 365 > 18 and days_since(created_at) < 3",
        "times('anything at all', '7 days', url like '/p%' and campaign_id is null) > 0",
        "total('order_placed', amount > 5 and quantity >= 2) > 10 and in_segment('vip')",
        "times('product_bought', occurred_at >= '2024-11-29') = 1",
        "true",
    ],
)
def test_what_goes_together_is_accepted(text: str) -> None:
    assert said(text) == []


@pytest.mark.parametrize(
    ("text", "character", "named"),
    [
        ("recency_dayz > 3", 1, 'no trait is called "recency_dayz". Did you mean "recency_days"?'),
        ('country = "GB"', 11, "If it is a text, write 'GB'"),
        ("country = 'GB' and xyz is null", 20, '"xyz"'),
        ("recency_days > '30'", 16, "\"recency_days\" is a number and '30' is a text. Write numbers"),
        ("country = 3", 11, "is a text and 3 is a number"),
        ("recency_days in (1, 'b')", 21, "'b' is a text"),
        ("country between 'a' and 2", 25, "is a number"),
        ("nope between 1 and 2", 1, '"nope"'),
        ("accepts = 'yes'", 11, "true or false"),
        ("accepts > false", 1, "Use = or !="),
        ("recency_days", 1, "a number and not a condition"),
        ("country and accepts", 1, "a text and not a condition"),
        ("not country", 5, "a text and not a condition"),
        ("country + 1 > 2", 1, "a text; + is for numbers"),
        ("created_at - 30 > 1", 1, "days_since("),
        ("top_categories = 'shoes'", 1, "'value' in the_list"),
        ("top_categories like '%shoes%'", 1, "'value' in the_list"),
        ("'x' in country", 8, "Write country = 'x'"),
        ("3 in top_categories", 1, "a list holds texts"),
        ("recency_days like '3%'", 1, "`like` is for texts"),
        ("birth_date > 'last May'", 14, "'last May' is no date. Write it as '2024-03-01'"),
        ("created_at > '0001-01-01T00:00:00+05:00'", 14, "is no date"),
        ("birth_date > 3", 14, "is a date and 3 is a number"),
        ("created_at = '2024-01-01'", 1, "hardly ever equals another"),
        ("created_at in ('2024-01-01')", 1, "hardly ever equals another"),
        ("days_since(country) > 3", 12, "days_since needs a date or an event"),
        ("days_since(order_placed) > 3", 12, "If it is a text, write 'order_placed'"),
        ("in_segment('vips')", 1, 'Did you mean "vip"?'),
        ("times('order_placed', category = 'shoes') > 1", 23, "use 'product_bought'"),
        ("times('product_bought', url = '/x') > 1", 25, "has no url. It has"),
        ("times('product_viewed', amount > 5) > 1", 25, "has no amount. It has"),
        (
            "times('product_viewed', country = 'GB') > 1",
            25,
            'no column of product_viewed is called "country"',
        ),
        ("times('page_viewed', ulr = '/x') > 1", 22, 'Did you mean "url"?'),
        ("times('page_viewed', url) > 1", 22, "not a condition"),
        ("times('page_viewed', times('x') > 1) > 1", 22, "cannot count others"),
        ("times('page_viewed', in_segment('vip')) > 1", 22, "not at segments"),
        ("total('product_viewed') > 1", 1, "order_placed, product_bought"),
        ("pieces('page_viewed') > 1", 1, "has no quantity"),
        ("distinct_products('order_placed') > 1", 1, "product_bought"),
    ],
)
def test_what_does_not_go_together_is_said_at_its_character(text: str, character: int, named: str) -> None:
    (fault,) = said(text)
    assert fault[0] == character
    assert named in fault[1]


def test_all_mistakes_of_a_rule_are_said_in_order() -> None:
    assert [at for at, _ in said("nope > 3 or country = 3 and times('page_viewed', zip = 1) > 'x'")] == [
        1,
        23,
        50,
        61,
    ]


def test_an_event_that_nobody_heard_of_is_a_warning() -> None:
    rule = parse("times('product_view') > 1 and unanswered('webinar_joined', 'order_placd', '2 days') > 0")
    assert check(rule, TRAITS) == []
    warnings = unheard_events(rule, ["webinar_joined"])
    assert [(fault.at, fault.next_step) for fault in warnings] == [
        (0, 'Did you mean "product_viewed"?'),
        (30, 'Did you mean "order_placed"?'),
    ]


def project_with(folder: Path, **rules: str) -> Project:
    lines = ["project: shop", "sources: {customers: [{path: customers.csv}]}", "segments:"]
    for name, where in rules.items():
        lines += [f"  {name}:", f"    where: {where}"]
    (folder / "segue.yml").write_text("\n".join(lines), encoding="utf-8")
    return load_project(folder)


def test_every_mistake_of_a_project_is_said_with_its_line(tmp_path: Path) -> None:
    project = project_with(tmp_path, one="recency_dayz > 3", two="a and", three="country = 3 or nope")
    problems = [str(problem) for problem in check_segments(project, TRAITS)]
    assert [problem.partition(" ")[0] for problem in problems] == [
        "segue.yml:7:",
        "segue.yml:5:",
        "segue.yml:9:",
        "segue.yml:9:",
    ]
    assert problems[0].startswith(
        'segue.yml:7: segments.two.where, character 3: something is missing beside "and".'
    )


def test_references_in_a_circle_are_refused_once(tmp_path: Path) -> None:
    project = project_with(
        tmp_path,
        start="in_segment('one')",
        one="in_segment('two') or accepts",
        two="not in_segment('three')",
        three="in_segment('one')",
        itself="in_segment('itself')",
        fine="in_segment('start') and accepts",
    )
    problems = [str(problem) for problem in check_segments(project, TRAITS)]
    assert problems == [
        (
            "segue.yml:7: segments.one.where: in_segment goes in a circle: one -> two -> three -> one. "
            "Write one of these rules without in_segment."
        ),
        (
            "segue.yml:13: segments.itself.where: in_segment goes in a circle: itself -> itself. "
            "Write one of these rules without in_segment."
        ),
    ]


def test_references_may_be_chained_but_not_for_ever(tmp_path: Path) -> None:
    rules = {f"s{number}": f"in_segment('s{number + 1}')" for number in range(200)}
    (problem,) = check_segments(project_with(tmp_path, **rules, s200="accepts"), TRAITS)
    assert "more than 50 segments refer to each other" in str(problem)
    rules = {f"s{number}": f"in_segment('s{number + 1}')" for number in range(49)}
    assert check_segments(project_with(tmp_path, **rules, s49="accepts"), TRAITS) == []


def test_warnings_of_a_project_have_lines_too(tmp_path: Path) -> None:
    project = project_with(tmp_path, one="ever('product_view')", two="ever('product_viewed')", broken="a and")
    assert [str(problem) for problem in segment_warnings(project, [])] == [
        (
            'segue.yml:5: segments.one.where, character 1: no event is called "product_view" so far. '
            'Did you mean "product_viewed"?'
        )
    ]
