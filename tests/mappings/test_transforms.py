"""Each transform does what its documentation says, and refuses what it cannot do."""

import json
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from babel.numbers import format_currency
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from segue.core.errors import ConfigError
from segue.mappings.mapping import mapping_schema
from segue.mappings.transforms import TRANSFORMS
from segue.mappings.values import Kind

from .conftest import Loader, Snapshot

PAGE = Path(__file__).parents[2] / "docs/mappings.md"
TRAIT_OF = {
    Kind.TEXT: "first_name",
    Kind.INTEGER: "recency_days",
    Kind.NUMBER: "return_rate",
    Kind.MONEY: "revenue",
    Kind.BOOLEAN: "vip",
    Kind.DATE: "birth_date",
    Kind.TEXT_LIST: "top_categories",
}


READERS: dict[Kind, Callable[[str], Any]] = {
    Kind.TEXT: str,
    Kind.INTEGER: int,
    Kind.NUMBER: float,
    Kind.MONEY: Decimal,
    Kind.BOOLEAN: {"yes": True, "no": False}.__getitem__,
    Kind.DATE: date.fromisoformat,
    Kind.TEXT_LIST: lambda text: text.split(", "),
}


def value_of(kind: Kind, text: str) -> Any:
    return READERS[kind](text) if text else None


def transformed(load: Loader, snapshot: Snapshot, trait: str, step: str, value: Any) -> str | None:
    mapping = load.fields(f"trait: {trait}, type: text, transform: {step}")
    return next(iter(snapshot.values(mapping, [{trait: value}])[0].values()), None)


def flow(step: str) -> str:
    """Write a step so that it can stand in a flow mapping."""
    name, colon, argument = step.partition(": ")
    return f"{{{name}: {argument}}}" if colon else name


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_documented_example_is_true(load: Loader, snapshot: Snapshot, name: str) -> None:
    example = TRANSFORMS[name].example
    takes = [kind for kind in TRAIT_OF if kind in TRANSFORMS[name].takes]
    done = set()
    for kind in takes:
        try:
            value = value_of(kind, example.given)
        except (ValueError, ArithmeticError, KeyError):
            continue
        assert transformed(load, snapshot, TRAIT_OF[kind], flow(example.step), value) == example.result
        done.add(kind)
    assert done


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_refuses_every_kind_it_does_not_take(load: Loader, name: str) -> None:
    transform = TRANSFORMS[name]
    for kind, trait in TRAIT_OF.items():
        if kind not in transform.takes:
            with pytest.raises(ConfigError, match=rf'transform "{name}" takes .*, and here it gets {kind}'):
                load.fields(f"trait: {trait}, type: text, transform: {flow(transform.example.step)}")


def test_the_page_lists_every_transform_as_the_code_has_it() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    documented = [re.split(r"\s*(?<!\\)\|\s*", row.strip("| ")) for row in rows]
    documented = [row for row in documented if row[0].strip("`") in TRANSFORMS]
    expected = [
        [
            f"`{transform.name}`",
            ", ".join(kind for kind in Kind if kind in transform.takes),
            transform.gives or "the same",
            transform.description,
            f"`{transform.example.step}`",
            f"{transform.example.given or '(none)'} → {transform.example.result}".replace("\xa0", " "),
        ]
        for transform in TRANSFORMS.values()
    ]
    assert documented == expected


@pytest.mark.parametrize(
    ("step", "value", "expected"),
    [
        ("{band: [0, 100, 500]}", "-0.01", "below 0"),
        ("{band: [0, 100, 500]}", "0", "0-100"),
        ("{band: [0, 100, 500]}", "99.99", "0-100"),
        ("{band: [0, 100, 500]}", "500", "500+"),
        ("{band: {low: 0, high: 100}}", "-1", None),
        ("{band: {low: 0, high: 100}}", "100", "high"),
        ("{round: 0}", "2.5", "3"),
        ("{round: 0}", "-2.5", "-3"),
        ("round", "0.4", "0"),
        ("{currency: GBP}", "1234567.895", "£1,234,567.90"),
        ("{currency: JPY}", "1234.6", "¥1,235"),
        ("{currency: {code: EUR, locale: de}}", "-3", "-3,00\xa0€"),
        ("[round, {default: 0}]", None, "0"),
        ("{default: 1.5}", None, "1.5"),
    ],
)
def test_numbers(load: Loader, snapshot: Snapshot, step: str, value: Any, expected: Any) -> None:
    found = transformed(load, snapshot, "revenue", step, None if value is None else Decimal(value))
    assert found == expected


@pytest.mark.parametrize(
    ("step", "value", "expected"),
    [
        ("title", "éclair au CHOCOLAT", "Éclair Au Chocolat"),
        ("humanise", "__wall__decor_", "Wall decor"),
        ("humanise", "_", None),
        ("{truncate: 8}", "abcdefgh", "abcdefgh"),
        ("{truncate: 8}", "abcdefghi", "abcdefg…"),
        ("{truncate: 8}", "abcd efghi", "abcd…"),
        ("{truncate: 8}", "😀😀😀😀😀😀😀😀😀", "😀😀😀😀😀😀😀…"),
        ("{replace: {vip: Very important}}", "vip", "Very important"),
        ("{replace: {vip: Very important}}", "other", "other"),
        ("[lower, humanise]", "WALL_DECOR", "Wall decor"),
        ("{default: there}", " \n", "there"),
    ],
)
def test_texts(load: Loader, snapshot: Snapshot, step: str, value: Any, expected: Any) -> None:
    assert transformed(load, snapshot, "first_name", step, value) == expected


def test_replace_reads_the_canonical_text_of_numbers_and_answers(load: Loader, snapshot: Snapshot) -> None:
    assert transformed(load, snapshot, "recency_days", "{replace: {0: today}}", 0) == "today"
    assert transformed(load, snapshot, "vip", "{replace: {yes: VIP, no: guest}}", value=False) == "guest"


def test_a_null_stays_null_through_every_transform_but_default(load: Loader, snapshot: Snapshot) -> None:
    for name, transform in TRANSFORMS.items():
        kind = next(kind for kind in TRAIT_OF if kind in transform.takes)
        found = transformed(load, snapshot, TRAIT_OF[kind], flow(transform.example.step), None)
        assert (found is None) is (name != "default"), name


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amounts=st.lists(st.decimals(min_value=-(10**9), max_value=10**9, places=2), min_size=1, max_size=20),
    code=st.sampled_from(["EUR", "GBP", "USD", "SEK", "CHF", "KWD"]),
    locale=st.sampled_from(["en", "en_GB", "de", "de_CH", "fr", "nl", "sv", "pl", "it"]),
)
def test_an_amount_reads_as_babel_writes_it(
    load: Loader, snapshot: Snapshot, amounts: list[Decimal], code: str, locale: str
) -> None:
    mapping = load.fields(f"trait: revenue, transform: {{currency: {{code: {code}, locale: {locale}}}}}")
    found = snapshot.values(mapping, [{"revenue": amount} for amount in amounts])
    for amount, values in zip(amounts, found, strict=True):
        assert list(values.values()) == [
            format_currency(abs(amount) if amount == 0 else amount, code, locale=locale)
        ]


def test_a_products_price_has_the_products_currency(load: Loader, snapshot: Snapshot) -> None:
    mapping = load.fields("recommendation: for_you, slot: 1, attribute: price, transform: currency")
    prices = [("EUR", "€4.25"), ("JPY", "¥4"), ("KWD", "KWD4.250"), ("XX1", "XX14.25"), (None, None)]
    products = [
        {
            "contact_id": f"{i:06}",
            "recommendation": "for_you",
            "slot": 1,
            "price": Decimal("4.25"),
            "currency": code,
        }
        for i, (code, _) in enumerate(prices)
    ]
    found = snapshot.values(mapping, [{}] * len(prices), recommendations=products)
    assert [next(iter(values.values()), None) for values in found] == [expected for _, expected in prices]


@pytest.mark.parametrize(
    ("trait", "step", "message"),
    [
        ("first_name", "lowr", '"lowr" is not a transform. Did you mean "lower"?'),
        ("first_name", "zzz", '"zzz" is not a transform. Known are: lower, upper'),
        ("first_name", "{lower: 1}", 'transform "lower" takes no argument'),
        (
            "first_name",
            "truncate",
            'transform "truncate" needs a whole number from 4 to 500, as in `truncate: 20`',
        ),
        ("first_name", "{truncate: 3}", "needs a whole number from 4 to 500"),
        ("revenue", "{round: 5}", "needs a whole number from 0 to 4"),
        ("revenue", "{band: [100, 0]}", "needs edges that rise"),
        ("revenue", "{band: [a]}", 'needs numbers, and "a" is none'),
        ("revenue", "{band: [nan]}", 'needs numbers, and "nan" is none'),
        ("revenue", "currency", "needs the currency, as in `currency: EUR`"),
        ("revenue", "{currency: EURO}", '"EURO" is not an ISO 4217 currency code'),
        ("revenue", "{currency: {code: EUR, locale: xx_yy}}", '"xx_yy" is not a locale'),
        ("revenue", "{currency: {code: INR, locale: en_IN}}", "does not group digits by thousands"),
        ("revenue", "{default: none}", 'needs numbers, and "none" is none'),
        ("recency_days", "{default: 1.5}", "needs a whole number here"),
        ("birth_date", "{date: dd.mm}", "needs YYYY, YY, MM and DD"),
        ("birth_date", "{date: '%c'}", "needs YYYY, YY, MM and DD"),
        ("vip", "{yes_no: [Ja]}", "needs two texts"),
        ("first_name", "{lower: 1, upper: 2}", "a transform is a name, or a name with its argument"),
        (
            "revenue",
            "[currency: GBP, round: 2]",
            'transform "round" takes integer, number, money, and here it gets text',
        ),
    ],
)
def test_a_wrong_step_is_said_with_its_place(load: Loader, trait: str, step: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.fields(f"trait: {trait}, transform: {step}")
    assert message in caught.value.message
    assert caught.value.message.startswith("mailchimp.yml:3: fields[0].transform: ")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_schema_takes_every_example(name: str) -> None:
    step = YAML(typ="safe").load(flow(TRANSFORMS[name].example.step))
    for transform in (step, [step, "lower"]):
        field = {"trait": "x", "label": "X", "purpose": "tests", "transform": transform}
        jsonschema.validate({"connector": "mailchimp", "fields": [field]}, mapping_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"connector": "m", "fields": [{**field, "transform": "lowr"}]}, mapping_schema())
    json.dumps(mapping_schema())
