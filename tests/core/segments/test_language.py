"""What the language reads, and that everything else is refused at its character with a next step."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.errors import ConfigError
from segue.core.segments.language import parse
from segue.core.segments.rule import (
    Among,
    And,
    Arithmetic,
    Between,
    Comparison,
    Constant,
    DaysSince,
    Expression,
    Holds,
    InSegment,
    Like,
    Measure,
    Measuring,
    Missing,
    Name,
    Not,
    Or,
    Rule,
)
from segue.core.segments.tokens import RuleError


def name(text: str) -> Name:
    return Name(name=text)


def constant(value: object) -> Constant:
    return Constant(value=value)  # type: ignore[arg-type]  # the tests try each kind of value


def compared(left: Expression, operator: str, value: object) -> Comparison:
    return Comparison(operator=operator, left=left, right=constant(value))  # type: ignore[arg-type]  # a text here


A, B, C = (compared(name(letter), "=", number) for number, letter in enumerate("abc", start=1))
VIEWS = Measure(measuring=Measuring.COUNT, event="product_viewed", window=timedelta(days=7))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("recency_days > 30", compared(name("recency_days"), ">", 30)),
        ("a = 1 and b = 2 or c = 3", Or(conditions=(And(conditions=(A, B)), C))),
        ("a = 1 or b = 2 and c = 3", Or(conditions=(A, And(conditions=(B, C))))),
        ("a = 1 and (b = 2 or c = 3)", And(conditions=(A, Or(conditions=(B, C))))),
        ("a = 1 and b = 2 and c = 3", And(conditions=(A, B, C))),
        ("not a = 1 and b = 2", And(conditions=(Not(condition=A), B))),
        (
            "A = 1 AND NOT a <> 1",
            And(conditions=(compared(name("A"), "=", 1), Not(condition=compared(name("a"), "!=", 1)))),
        ),
        (
            "a between 1 and 2 and b = 2",
            And(conditions=(Between(value=name("a"), low=constant(1), high=constant(2)), B)),
        ),
        ("a not between 1 and 2", Not(condition=Between(value=name("a"), low=constant(1), high=constant(2)))),
        (
            "a in ('x', 2, -1.5)",
            Among(value=name("a"), options=(constant("x"), constant(2), constant(Decimal("-1.5")))),
        ),
        ("a not in ('x')", Not(condition=Among(value=name("a"), options=(constant("x"),)))),
        ("'x' in liked", Holds(within=name("liked"), value=constant("x"))),
        ("'x' not in (liked)", Not(condition=Holds(within=name("liked"), value=constant("x")))),
        ("a like 'x%'", Like(value=name("a"), pattern="x%", ignore_case=False)),
        ("a not like 'x%'", Not(condition=Like(value=name("a"), pattern="x%", ignore_case=False))),
        ("a not ilike 'x%'", Not(condition=Like(value=name("a"), pattern="x%", ignore_case=True))),
        ("a is null", Missing(value=name("a"))),
        ("a is not null", Not(condition=Missing(value=name("a")))),
        ("a is true", compared(name("a"), "=", True)),
        ("a is not false", Not(condition=compared(name("a"), "=", False))),
        ("a = 'it''s'", compared(name("a"), "=", "it's")),
        ("a > 1.50", compared(name("a"), ">", Decimal("1.50"))),
        ("a > 2.0", compared(name("a"), ">", 2)),
        ("\"select\" = 'été'", compared(name("select"), "=", "été")),
        ("order = 1", compared(name("order"), "=", 1)),
        ("d > date '2024-03-01'", compared(name("d"), ">", date(2024, 3, 1))),
        (
            "d > timestamp '2024-03-01 10:00+01:00'",
            compared(name("d"), ">", datetime(2024, 3, 1, 9, tzinfo=UTC)),
        ),
        (
            "a + 2 * b > 1",
            compared(
                Arithmetic(
                    operator="+",
                    left=name("a"),
                    right=Arithmetic(operator="*", left=constant(2), right=name("b")),
                ),
                ">",
                1,
            ),
        ),
        ("-a > 1", compared(Arithmetic(operator="-", left=constant(0), right=name("a")), ">", 1)),
        ("times('product_viewed', '1 week') > 3", compared(VIEWS, ">", 3)),
        ("ever('product_viewed', '7 days')", compared(VIEWS, ">=", 1)),
        (
            "TIMES('product_viewed') > 3",
            compared(Measure(measuring=Measuring.COUNT, event="product_viewed"), ">", 3),
        ),
        (
            "times('product_viewed', a = 1) > 3",
            compared(Measure(measuring=Measuring.COUNT, event="product_viewed", where=A), ">", 3),
        ),
        ("days_since(created_at) > 3", compared(DaysSince(value=name("created_at")), ">", 3)),
        ("days_since('x') > 3", compared(Measure(measuring=Measuring.DAYS_SINCE, event="x"), ">", 3)),
        (
            "unanswered('x', 'y', '24 hours', '7 days', a = 1) >= 1",
            compared(
                Measure(
                    measuring=Measuring.UNANSWERED,
                    event="x",
                    answer="y",
                    wait=timedelta(hours=24),
                    window=timedelta(days=7),
                    where=A,
                ),
                ">=",
                1,
            ),
        ),
        ("in_segment('vip')", InSegment(segment="vip")),
    ],
)
def test_a_rule_is_read_as_it_is_written(text: str, tree: Expression) -> None:
    assert parse(text).condition == tree


def test_a_rule_knows_what_it_looks_at() -> None:
    rule = parse("a > 1 and ever('x', b = 1) and in_segment('vip') and days_since(c) > 2 and 'z' in d")
    assert isinstance(rule, Rule)
    assert rule.traits() == {"a", "c", "d"}
    assert rule.segments() == {"vip"}
    assert {measure.event for measure in rule.measures()} == {"x"}


REFUSED = [
    # what, character from 1, what the message names
    ("select 1", 1, '"select"'),
    ("a in (select b from c)", 7, '"select"'),
    ("exists(select 1)", 1, '"exists"'),
    ("a = 1; drop table x", 6, '";"'),
    ("a = 1 -- all", 7, "comments"),
    ("a = 1 /* all */ and b = 2", 7, "comments"),
    ("a = 1 # all", 7, '"#"'),
    ("case when a then b end", 1, '"case"'),
    ("a::int = 1", 2, '"::"'),
    ("a || b = 'x'", 3, '"||"'),
    ("a % 2 = 1", 3, '"%"'),
    ("a.b = 1", 2, '"."'),
    ("a[1] = 2", 2, '"["'),
    ("a = ?", 5, '"?"'),
    ("a = :b", 5, '":"'),
    ("a = @b", 5, '"@"'),
    ("a -> b", 3, '"->"'),
    ("{{ a }}", 1, '"{"'),
    ("a <=> b", 3, '"<=>"'),
    ("a is distinct from b", 6, '"distinct"'),
    ("a like 'x' escape 'y'", 12, '"escape"'),
    ("a between symmetric 1 and 2", 11, '"symmetric"'),
    ("a collate b = 1", 3, '"collate"'),
    ("a similar to 'x'", 3, "SIMILAR TO"),
    ("a rlike 'x'", 3, '"rlike"'),
    ("interval '1 day' > a", 1, '"interval"'),
    ("a at time zone 'x' > 1", 1, "at time zone"),
    ("a > all (1)", 5, '"all"'),
    ("a like any ('x')", 13, "any"),
    ("N'abc' = a", 1, "abc"),
    ("e'abc' = a", 2, "abc"),
    ("a = 0x1F", 6, "x1F"),
    ("$$a$$ = 1", 1, "$$a$$"),
    ("a = 'x' 'y'", 5, "a text right after a text"),
    ("sum(a) > 1", 1, '"sum"'),
    ("cast(a as int) = 1", 1, '"cast"'),
    ("times(*) > 1", 7, "times"),
    ("f(x => 3)", 5, '"=>"'),
    ("tims('x') > 1", 1, 'Did you mean "times"'),
    ("times() > 1", 1, "times('event'"),
    ("times(product_viewed) > 1", 7, "times('event'"),
    ("times('x', '7 days', '8 days') > 1", 22, "times('event'"),
    ("times('x', a = 1, '7 days') > 1", 19, "times('event'"),
    ("days_since('x', '7 days') > 1", 17, "days_since('event'"),
    ("days_since(a, b = 1) > 1", 15, "days_since('event'"),
    ("in_segment(vip)", 12, "in_segment('segment')"),
    ("unanswered('x', 'y') > 1", 1, "unanswered('event', 'answer', 'wait'"),
    ("times('7 days', 'x') > 1", 17, "no length of time"),
    ("times('x', '3 months') > 1", 12, "no length of time"),
    ("times('x', '99999 days') > 1", 12, "100 years"),
    ("unanswered('x', 'y', '24 hours', '1 day') > 0", 34, "longer than the wait"),
    ("a in ()", 1, "list of values"),
    ("a in", 1, "list of values"),
    ("a in (b, 'c')", 7, "only values"),
    ("a in b", 1, "a value before a list trait"),
    ("a like b", 1, "a text as its pattern"),
    ("a = null", 5, "is null"),
    ("a is 3", 1, "null, true or false"),
    ("a = date 'soon'", 10, "no date"),
    ("a = 12345678901234567890", 5, "digits"),
    ("a = 1e300", 5, "digits"),
    ("(a = 1", 1, "never closed"),
    ("a = 1)", 6, "closes nothing"),
    ("a = 'it's'", 10, "has no end"),
    ('a = "x', 5, "has no end"),
    ("a and", 3, "missing"),
    ("a and and b", 7, "missing"),
    ("a b", 3, '"b"'),
    ("a, b", 2, '","'),
    ("a not b", 3, '"not"'),
    ("a\n= 1\n  b", 9, '"b"'),
    ("()", 1, "a list"),
    ("", 1, "empty"),
    (" \n ", 1, "empty"),
]


@pytest.mark.parametrize(("text", "character", "named"), REFUSED)
def test_what_is_no_rule_is_refused_at_its_character(text: str, character: int, named: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text)
    problem = caught.value.problems[0]
    said = str(problem)
    assert f"character {character}: " in said
    assert named in said
    assert problem.next_step


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("tims('x') > 1 and a in b and times('y', 'soon') > 2")
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError) as caught:
        parse("(a = null or b != null -- everybody")
    assert len(caught.value.problems) == 1  # what has no tokens of a rule is not looked at any further
    with pytest.raises(ConfigError) as caught:
        parse("(a = null or b != null and c is null and d is not null")
    assert len(caught.value.problems) == 3


PIECES = re.findall(
    r"\S+",
    r"""a "b" 'c' '' 1 -2.5 1e9 ( ) , . ; * / + - = != <> < <= >= == and or not in is null true false like ilike
between date timestamp interval case when then end select from as over with x::int [ ] { } : ? @ # $ % ^ & | ~ ` \\ -> => ||
times( ever('x' days_since( unanswered('a','b','1 day') in_segment('vip') '7 days' -- /* */ distinct all any exists é 😀
escape symmetric unknown collate at time zone current_date count(*) array[1] lambda values map order by group""",
)


@settings(max_examples=600, deadline=None, database=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join) | st.text(max_size=30))
def test_any_text_is_a_rule_or_refused_within_itself(text: str) -> None:
    try:
        rule = parse(text)
    except RuleError as error:
        faults = error.faults
    else:
        assert rule.text == text
        return
    assert faults
    assert all(0 <= fault.at <= len(text) for fault in faults)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 500 + "a = 1" + ")" * 500,
        "not " * 2000 + "a",
        "a" + " + 1" * 4000 + " > 1",
        "a = 1" + " " * 20_000,
        " or ".join(["(" * 30 + "a = 1" + ")" * 30] * 300),
    ],
)
def test_a_monstrous_rule_is_refused_and_not_a_crash(text: str) -> None:
    with pytest.raises(RuleError):
        parse(text)


def test_a_long_list_of_conditions_is_no_depth() -> None:
    rule = parse(" or ".join(f"a = {number}" for number in range(1000)))
    assert isinstance(rule.condition, Or)
    assert len(rule.condition.conditions) == 1000
