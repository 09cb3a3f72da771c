"""Random rules over random people and events: what the database answers is what a few lines of Python answer."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from segue.core.data.canonical import TIMESTAMP
from segue.core.data.engine import connect
from segue.core.model import Trait, TraitType
from segue.core.segments import compile as compiling
from segue.core.segments.check import check
from segue.core.segments.compile import flags
from segue.core.segments.explain import explain
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

from .events import TIMELINE

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)

PROFILES = pa.schema(
    {
        "contact_id": pa.string(),
        "whole": pa.int64(),
        "real": pa.float64(),
        "money": pa.decimal128(18, 4),
        "word": pa.string(),
        "sure": pa.bool_(),
        "day": pa.date32(),
        "moment": pa.timestamp("us", tz="UTC"),
        "liked": pa.list_(pa.string()),
    }
)

TRAITS = [
    Trait(name=name, type=type_, description="")
    for name, type_ in {
        "contact_id": TraitType.TEXT,
        "whole": TraitType.INTEGER,
        "real": TraitType.NUMBER,
        "money": TraitType.MONEY,
        "word": TraitType.TEXT,
        "sure": TraitType.BOOLEAN,
        "day": TraitType.DATE,
        "moment": TraitType.TIMESTAMP,
        "liked": TraitType.TEXT_LIST,
    }.items()
]

# Few values, so that ties, boundaries and missing ones come up all the time.
WORDS = ["a", "A", "b", "ab", "É", "é%", "it's", ""]
wholes = st.integers(-2, 3)
moneys = st.sampled_from([Decimal("0.0000"), Decimal("0.1000"), Decimal("19.9900"), Decimal("20.0000")])
words = st.sampled_from(WORDS)
days = st.sampled_from([date(2024, 6, 14), date(2024, 6, 15), date(2024, 6, 16), date(1990, 1, 1)])
ages = st.sampled_from(
    [
        -DAY,
        -TICK,
        timedelta(0),
        TICK,
        timedelta(hours=1),
        DAY - TICK,
        DAY,
        DAY + TICK,
        2 * DAY,
        7 * DAY,
        30 * DAY,
    ]
)
moments = ages.map(lambda age: NOW - age)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


people = st.fixed_dictionaries(
    {
        "whole": maybe(wholes),
        "real": maybe(st.sampled_from([-1.5, 0.0, 0.1, 2.0])),
        "money": maybe(moneys),
        "word": maybe(words),
        "sure": maybe(st.booleans()),
        "day": maybe(days),
        "moment": maybe(moments),
        "liked": maybe(st.lists(words, max_size=2)),
    }
)
happenings = st.fixed_dictionaries(
    {
        "contact_id": st.sampled_from(["0", "1", "gone"]),
        "event_type": st.sampled_from(
            ["product_viewed", "cart_added", "order_placed", "product_bought", "own_event"]
        ),
        "occurred_at": moments,
        "product_id": maybe(st.sampled_from(["p", "q"])),
        "category": maybe(st.sampled_from(["a", "b"])),
        "url": maybe(st.sampled_from(["/pricing", "/pricing/x", "/"])),
        "campaign_id": st.none(),
        "quantity": maybe(st.integers(0, 3)),
        "amount": maybe(moneys),
    }
)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def text_of(**parts: st.SearchStrategy[str]) -> Callable[[str], st.SearchStrategy[str]]:
    return lambda template: st.fixed_dictionaries(dict(parts)).map(lambda values: template.format(**values))


comparing = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
ordering = st.sampled_from(["<", "<=", ">", ">="])
negation = st.sampled_from(["", "not "])
windows = st.sampled_from(["", ", '1 day'", ", '24 hours'", ", '7 days'", ", '30 days'"])
filters = st.sampled_from(
    [
        "",
        ", product_id = 'p'",
        ", product_id != 'p'",
        ", category in ('a', 'b')",
        ", not (category = 'a' or product_id is null)",
        ", occurred_at >= '2024-06-14'",
    ]
)
page_filters = filters | st.sampled_from([", url like '/pricing%'", ", url not like '/pricing%'"])
money_filters = filters | st.sampled_from([", amount > 0.1", ", quantity between 1 and 2"])
views = st.sampled_from(["'product_viewed'", "'cart_added'", "'own_event'"])
counts = st.one_of(
    text_of(event=views, window=windows, where=page_filters)("times({event}{window}{where})"),
    text_of(window=windows, where=money_filters)("times('product_bought'{window}{where})"),
    text_of(event=views, where=page_filters)("days_since({event}{where})"),
    text_of(window=windows, where=money_filters)("total('product_bought'{window}{where})"),
    text_of(window=windows)("pieces('order_placed'{window})"),
    text_of(window=windows, where=money_filters)("distinct_products('product_bought'{window}{where})"),
    text_of(event=views, window=windows)("distinct_categories({event}{window})"),
    text_of(
        wait=st.sampled_from(["'1 hour'", "'24 hours'"]),
        window=st.sampled_from(["", ", '7 days'"]),
        where=page_filters,
        answer=st.sampled_from(["'order_placed'", "'cart_added'", "'own_event'"]),
    )("unanswered('cart_added', {answer}, {wait}{window}{where})"),
    st.sampled_from(["days_since(day)", "days_since(moment)"]),
)
numbers = st.recursive(
    st.sampled_from(["whole", "real", "money", "0", "1", "2", "-1", "0.1", "19.99"]) | counts,
    lambda inner: text_of(left=inner, how=st.sampled_from("+-*/"), right=inner)("({left} {how} {right})"),
    max_leaves=3,
)
texts = st.just("word") | words.map(quoted)
dates = st.sampled_from(
    [
        "day",
        "moment",
        "'2024-06-15'",
        "date '2024-06-14'",
        "'2024-06-15T12:00:00Z'",
        "timestamp '2024-06-15 13:00+01:00'",
    ]
)
conditions = st.one_of(
    text_of(left=numbers, how=comparing, right=numbers)("{left} {how} {right}"),
    text_of(value=numbers, no=negation, low=numbers, high=numbers)("{value} {no}between {low} and {high}"),
    text_of(value=numbers, no=negation)("{value} {no}in (0, 1, 19.99)"),
    text_of(value=numbers, no=negation)("{value} is {no}null"),
    text_of(left=texts, how=comparing, right=texts)("{left} {how} {right}"),
    text_of(value=texts, no=negation, one=words.map(quoted))("{value} {no}in ({one}, 'a')"),
    text_of(
        value=texts,
        no=negation,
        how=st.sampled_from(["like", "ilike"]),
        one=st.sampled_from(["a%", "%b", "_", "é\\%", "%'%"]).map(quoted),
    )("{value} {no}{how} {one}"),
    text_of(no=negation, one=words.map(quoted))("{one} {no}in liked"),
    text_of(how=ordering, right=dates)("day {how} {right}"),
    text_of(how=ordering, right=dates)("moment {how} {right}"),
    text_of(no=negation)("day {no}between '1990-01-01' and '2024-06-15'"),
    st.sampled_from(
        [
            "day = '2024-06-15'",
            "day != '2024-06-15'",
            "sure",
            "sure is true",
            "sure is not true",
            "sure = false",
            "true",
        ]
    ),
    st.sampled_from(
        ["liked is null", "day is not null", "sure is null", "ever('own_event')", "ever('own_event') = false"]
    ),
)
rules = st.recursive(
    conditions,
    lambda inner: st.one_of(
        text_of(one=inner)("not ({one})"),
        text_of(one=inner, join=st.sampled_from(["and", "or"]), other=inner)("({one}) {join} ({other})"),
        text_of(one=inner, join=st.sampled_from(["and", "or"]), other=inner)("{one} {join} {other}"),
    ),
    max_leaves=4,
)


COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Naive:
    """The language in plain Python, one person at a time; missing is None."""

    person: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    rules: Mapping[str, Rule]

    def holds(self, node: Expression) -> bool:  # noqa: C901, PLR0911  (one match over the closed tree)
        match node:
            case And():
                return all(self.holds(part) for part in node.conditions)
            case Or():
                return any(self.holds(part) for part in node.conditions)
            case Not():
                return not self.holds(node.condition)
            case InSegment():
                return self.holds(self.rules[node.segment].condition)
            case Missing():
                return self.value(node.value) is None
            case Holds():
                return node.value.value in (self.value(node.within) or [])
            case Among():
                return any(self._compared("=", node.value, option) for option in node.options)
            case Between():
                return self._compared(">=", node.value, node.low) and self._compared(
                    "<=", node.value, node.high
                )
            case Like():
                pattern = re.escape(node.pattern).replace("%", ".*").replace("_", ".")
                flag = re.IGNORECASE if node.ignore_case else re.NOFLAG
                text = self.value(node.value)
                return text is not None and re.fullmatch(pattern, text, flag | re.DOTALL) is not None
            case Comparison(operator="!="):
                return not self._compared("=", node.left, node.right)
            case Comparison():
                return self._compared(node.operator, node.left, node.right)
            case _:
                return self.value(node) is True

    def _compared(self, how: str, left: Expression, right: Expression) -> bool:
        one, other = self.value(left), self.value(right)
        if one is None or other is None:
            return False
        if isinstance(one, date) or isinstance(other, date):
            one, other = as_days(one), as_days(other)
            if isinstance(one, datetime) or isinstance(other, datetime):
                one, other = at_midnight(one), at_midnight(other)
        elif isinstance(one, float) or isinstance(other, float):
            one, other = float(one), float(other)
        return bool(COMPARE[how](one, other))

    def value(self, node: Expression) -> Any:  # noqa: C901, PLR0911  (one match over the closed tree)
        match node:
            case Name():
                return self.person[node.name]
            case Constant():
                return node.value
            case Arithmetic():
                left, right = self.value(node.left), self.value(node.right)
                if left is None or right is None or (node.operator == "/" and right == 0):
                    return None
                left, right = float(left), float(right)
                match node.operator:
                    case "+":
                        return left + right
                    case "-":
                        return left - right
                    case "*":
                        return left * right
                    case "/":
                        return left / right
            case DaysSince():
                since = self.person[node.value.name]
                if since is None:
                    return None
                return (NOW - since) // DAY if isinstance(since, datetime) else (NOW.date() - since).days
            case Measure():
                return self._measured(node)
            case _:
                return self.holds(node)

    def _measured(self, measure: Measure) -> Any:  # noqa: PLR0911  (one match over what can be measured)
        found = [
            event
            for event in self.events
            if event["event_type"] == measure.event
            and event["occurred_at"] <= NOW
            and (measure.window is None or event["occurred_at"] > NOW - measure.window)
            and (measure.where is None or Naive(event, [], {}).holds(measure.where))
        ]
        match measure.measuring:
            case Measuring.COUNT:
                return len(found)
            case Measuring.DAYS_SINCE:
                return min(((NOW - event["occurred_at"]) // DAY for event in found), default=None)
            case Measuring.AMOUNT:
                return sum((event["amount"] or 0 for event in found), Decimal(0))
            case Measuring.PIECES:
                return sum(event["quantity"] or 0 for event in found)
            case Measuring.PRODUCTS:
                return len({event["product_id"] for event in found} - {None})
            case Measuring.CATEGORIES:
                return len({event["category"] for event in found} - {None})
            case Measuring.UNANSWERED:
                assert measure.wait is not None
                answers = [
                    event["occurred_at"] for event in self.events if event["event_type"] == measure.answer
                ]
                return sum(
                    event["occurred_at"] + measure.wait <= NOW
                    and not any(
                        event["occurred_at"] <= at <= event["occurred_at"] + measure.wait for at in answers
                    )
                    for event in found
                )


def as_days(value: date | datetime | str) -> date | datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value) if "T" in value else date.fromisoformat(value)
    return value


def at_midnight(value: date | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)


CONNECTION = connect()


def by_database(
    parsed: Mapping[str, Rule], persons: Sequence[Any], events: Sequence[Any]
) -> dict[str, set[str]]:
    rows = [{"contact_id": str(number), **person} for number, person in enumerate(persons)]
    profiles = ibis.memtable(pa.Table.from_pylist(rows, schema=PROFILES))
    for name, rule in parsed.items():
        assert explain(rule).endswith("."), name
        assert check(rule, TRAITS, parsed) == [], name
    timeline = ibis.memtable(pa.Table.from_pylist(list(events), schema=TIMELINE))
    flagged = flags(parsed, profiles, timeline, NOW)
    answer = CONNECTION.to_pyarrow(flagged.table).to_pylist()
    assert sorted(row["contact_id"] for row in answer) == [row["contact_id"] for row in rows]
    return {
        name: {row["contact_id"] for row in answer if row[column]} for name, column in flagged.columns.items()
    }


def by_python(
    parsed: Mapping[str, Rule], persons: Sequence[Any], events: Sequence[Any]
) -> dict[str, set[str]]:
    return {
        name: {
            str(number)
            for number, person in enumerate(persons)
            if Naive(person, [event for event in events if event["contact_id"] == str(number)], parsed).holds(
                rule.condition
            )
        }
        for name, rule in parsed.items()
    }


def quickly(count: int, *phases: Phase) -> settings:
    chosen = phases or (Phase.generate, Phase.shrink)
    return settings(max_examples=count, deadline=None, database=None, derandomize=True, phases=chosen)


def same_people(texts: list[str], persons: list[Any], events: list[Any]) -> None:
    parsed = {f"segment_{number}": parse(text) for number, text in enumerate(texts)}
    # References are part of the language too: everybody who is in the first and not in the last.
    parsed["both"] = parse(f"in_segment('segment_0') and not in_segment('segment_{len(texts) - 1}')")
    assert by_database(parsed, persons, events) == by_python(parsed, persons, events)


def same_measures(texts: list[str], events: list[Any]) -> None:
    nobody = dict.fromkeys(PROFILES.names[1:])
    answers = ["= 0", "= 1", ">= 2", "is null"]
    parsed = {f"{text} {answer}": parse(f"{text} {answer}") for text in texts for answer in answers}
    assert by_database(parsed, [nobody, nobody], events) == by_python(parsed, [nobody, nobody], events)


any_rules = given(
    texts=st.lists(rules, min_size=4, max_size=8),
    persons=st.lists(people, min_size=2, max_size=4),
    events=st.lists(happenings, max_size=12),
)
any_measures = given(
    texts=st.lists(counts, min_size=6, max_size=12), events=st.lists(happenings, min_size=8, max_size=24)
)


@pytest.mark.slow
@quickly(60)
@any_rules
def test_database_and_plain_python_choose_the_same_people(
    texts: list[str], persons: list[Any], events: list[Any]
) -> None:
    same_people(texts, persons, events)


@pytest.mark.slow
@quickly(60)
@any_measures
def test_database_and_plain_python_measure_the_same_events(texts: list[str], events: list[Any]) -> None:
    same_measures(texts, events)


def earlier(moment: datetime) -> ibis.Value:
    return ibis.literal(moment - TICK, type=TIMESTAMP)


def later(moment: datetime) -> ibis.Value:
    return ibis.literal(moment + TICK, type=TIMESTAMP)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "broken"),
    [
        pytest.param("_instant", earlier, id="windows closed where they begin"),
        pytest.param("_instant", later, id="windows that reach past as_of"),
        pytest.param("_unanswered", lambda *_: ibis.literal(True), id="an answer that is not looked for"),
        pytest.param("_measure_value", lambda _, column: column, id="no event at all counted as unknown"),
    ],
)
def test_a_broken_measure_is_caught(monkeypatch: pytest.MonkeyPatch, what: str, broken: Any) -> None:
    monkeypatch.setattr(compiling, what, broken)
    with pytest.raises((AssertionError, ExceptionGroup)):
        quickly(60, Phase.generate)(any_measures(same_measures))()


@pytest.mark.slow
def test_three_valued_logic_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_certain", lambda value: value)
    with pytest.raises((AssertionError, ExceptionGroup)):
        quickly(60, Phase.generate)(any_rules(same_people))()
