"""A value has one text: clean, within its bytes, and the same in SQL as in Python."""

import json
import math
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.core.model import ContactState

from .conftest import Loader, Snapshot

# The fixtures hold an engine and a folder; no state passes from one example to the next.
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = st.sampled_from(
    [
        '"',
        "\\",
        "/",
        "\x00",
        "\x1f",
        "\x7f",
        "\x85",
        "\n",
        "\t",
        "\u00a0",
        "\u2028",
        "\u200d",
        "é",
        "ß",
        "中",
        "😀",
        "e\u0301",
        " ",
    ]
)
TEXTS = st.lists(st.one_of(ODD, st.characters(exclude_categories=["Cs"])), max_size=40).map("".join)
LONG = st.lists(
    st.sampled_from(["word", " ", "é", "中", "😀", "x" * 90, "ü" * 100, '"']), min_size=20, max_size=120
).map("".join)


def cleaned(text: str) -> str:
    plain = "".join(
        " " if unicodedata.category(c)[0] == "Z" or unicodedata.category(c) == "Cc" else c for c in text
    )
    return (
        " ".join(plain.split(" "))
        if "  " not in plain.strip(" ")
        else " ".join(filter(None, plain.split(" ")))
    )


def cut(text: str, limit: int = 255) -> str:
    if len(text.encode()) <= limit:
        return text
    most = limit - 3
    ends = [i for i, c in enumerate(text) if c == " " and most // 2 <= len(text[:i].encode()) <= most]
    if ends:
        return text[: ends[-1]] + "…"
    while len(text.encode()) > most:
        text = text[:-1]
    return text + "…"


@MANY
@given(
    texts=st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=30), names=st.lists(TEXTS, max_size=30)
)
def test_fields_are_the_text_that_a_contact_state_writes(
    load: Loader, snapshot: Snapshot, texts: list[Any], names: list[str]
) -> None:
    mapping = load.fields("trait: first_name", "trait: top_category", "trait: vip")
    names = [*names, *[""] * len(texts)]
    profiles = [
        {"email": "a@shop.example", "first_name": text, "top_category": name, "vip": bool(len(name) % 2)}
        for text, name in zip(texts, names, strict=False)
    ]
    tags = [field.tag for field in mapping.schema().fields]
    for row, profile in zip(snapshot.project(mapping, profiles), profiles, strict=True):
        values = [
            cut(cleaned(profile["first_name"] or "").strip(" ")),
            cut(cleaned(profile["top_category"]).strip(" ")),
            "yes" if profile["vip"] else "no",
        ]
        fields = {tag: value for tag, value in zip(tags, values, strict=True) if value}
        state = ContactState(address="a@shop.example", fields=fields)
        assert row["fields"] == json.dumps(
            json.loads(state.canonical())["fields"], ensure_ascii=False, separators=(",", ":")
        )
        assert f'"fields":{row["fields"]},' in state.canonical()


@MANY
@given(texts=st.lists(LONG, min_size=1, max_size=20))
def test_a_long_text_is_cut_at_a_word_and_never_within_a_character(
    load: Loader, snapshot: Snapshot, texts: list[Any]
) -> None:
    mapping = load.fields("trait: first_name")
    found = snapshot.values(mapping, [{"first_name": text} for text in texts])
    for text, values in zip(texts, found, strict=True):
        expected = cut(cleaned(text).strip(" "))
        assert list(values.values()) == ([expected] if expected else [])
        assert len(expected.encode()) <= 255


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 255, "a" * 255),
        ("a" * 256, "a" * 252 + "…"),
        ("a" * 252 + " bcd", "a" * 252 + "…"),
        ("a" * 250 + " bcdefg", "a" * 250 + "…"),
        ("short " + "a" * 300, "short " + "a" * 246 + "…"),
        ("é" * 128, "é" * 126 + "…"),
        ("a" + "😀" * 64, "a" + "😀" * 62 + "…"),
    ],
    ids=["fits", "one_over", "space_at_the_end", "at_the_space", "early_space", "two_bytes", "four_bytes"],
)
def test_the_cut_at_its_edges(load: Loader, snapshot: Snapshot, text: str, expected: Any) -> None:
    mapping = load.fields("trait: first_name")
    assert list(snapshot.values(mapping, [{"first_name": text}])[0].values()) == [expected]


@pytest.mark.parametrize(
    ("trait", "value", "expected"),
    [
        ("recency_days", 0, "0"),
        ("recency_days", -3, "-3"),
        ("revenue", Decimal("100.0000"), "100"),
        ("revenue", Decimal("12.5000"), "12.5"),
        ("revenue", Decimal("-0.0500"), "-0.05"),
        ("return_rate", 0.1 + 0.2, "0.3"),
        ("return_rate", 0.29999999999999998, "0.3"),
        ("return_rate", 0.1234567, "0.123457"),
        ("return_rate", -0.0, "0"),
        ("return_rate", 1e15, "1000000000000000"),
        ("return_rate", 1e-9, "0"),
        ("return_rate", math.nan, None),
        ("return_rate", math.inf, None),
        ("return_rate", 1e40, None),
        ("vip", True, "yes"),
        ("vip", False, "no"),
        ("vip", None, None),
        ("birth_date", date(1984, 2, 29), "1984-02-29"),
        ("birth_date", date(1, 1, 1), "0001-01-01"),
        ("top_categories", ["wall_decor", None, "garden"], "wall_decor, garden"),
        ("top_categories", ["a\n\nb ", "c"], "a b , c"),
        ("top_categories", [], None),
        ("first_name", "", None),
        ("first_name", " \u00a0\n ", None),
        ("first_name", "null", "null"),
    ],
)
def test_the_canonical_text(load: Loader, snapshot: Snapshot, trait: str, value: Any, expected: Any) -> None:
    found = snapshot.values(load.fields(f"trait: {trait}"), [{trait: value}])[0]
    assert list(found.values()) == ([] if expected is None else [expected])


def test_a_timestamp_is_the_day_on_the_shops_wall(load: Loader, snapshot: Snapshot) -> None:
    seen = [{"last_seen_at": datetime(2011, 7, 1, 23, 30, tzinfo=UTC)}]
    days = {
        zone: next(iter(snapshot.values(load.fields("trait: last_seen_at", timezone=zone), seen)[0].values()))
        for zone in ("UTC", "Europe/London", "America/New_York")
    }
    assert days == {"UTC": "2011-07-01", "Europe/London": "2011-07-02", "America/New_York": "2011-07-01"}


@MANY
@given(
    numbers=st.lists(st.decimals(min_value=-(10**13), max_value=10**13, places=4), min_size=1, max_size=40)
)
def test_money_is_exact(load: Loader, snapshot: Snapshot, numbers: list[Decimal]) -> None:
    mapping = load.fields("trait: revenue")
    found = snapshot.values(mapping, [{"revenue": number} for number in numbers])
    for number, values in zip(numbers, found, strict=True):
        (text,) = values.values()
        assert Decimal(text) == number
        assert text == f"{number:f}".rstrip("0").rstrip(".").replace("-0", "0" if number == 0 else "-0", 1)
