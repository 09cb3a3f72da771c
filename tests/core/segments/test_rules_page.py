"""docs/rules.md says what the code does: the same functions, and only examples that work."""

import re
from pathlib import Path

import pytest

from segue.core.model import Trait, TraitType
from segue.core.segments.check import check
from segue.core.segments.language import parse
from segue.core.segments.rule import EVENT_COLUMNS, FUNCTIONS, KNOWN_EVENTS, columns_of

PAGE = (Path(__file__).parents[3] / "docs/rules.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)(\(.*\))` \| (.+?) \| `(.+)` \|$", PAGE, flags=re.MULTILINE)
BLOCKS = [
    line for block in re.findall(r"```rule\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()
]
PROSE = "\n".join(line for line in PAGE.splitlines() if not line.startswith("|"))
IN_TEXT = [
    text for text in re.findall(r"`([^`\n]+)`", PROSE) if re.search(r"\w\)? (=|!=|>|<=|not in) \S", text)
]
TRAITS = [
    Trait(name=name, type=type_, description="")
    for name, type_ in {
        "recency_days": TraitType.INTEGER,
        "orders_count": TraitType.INTEGER,
        "age_years": TraitType.INTEGER,
        "revenue": TraitType.MONEY,
        "country": TraitType.TEXT,
        "gender": TraitType.TEXT,
        "email": TraitType.TEXT,
        "category": TraitType.TEXT,  # of an event: the page shows a filter by itself
        "created_at": TraitType.TIMESTAMP,
        "top_categories": TraitType.TEXT_LIST,
    }.items()
]


def test_page_and_code_list_the_same_functions_in_the_same_words() -> None:
    documented = [(name, f"{name}{call}", meaning) for name, call, meaning, _ in ROWS]
    assert documented == [(f.name, f.signature, f.meaning) for f in FUNCTIONS.values()]


@pytest.mark.parametrize("text", [*BLOCKS, *IN_TEXT, *(example for *_, example in ROWS)])
def test_every_documented_example_works(text: str) -> None:
    assert check(parse(text), TRAITS, ["vip"]) == []


def test_every_function_has_an_example_that_calls_it() -> None:
    assert all(example.startswith(f"{name}(") for name, *_, example in ROWS)


def test_the_page_shows_the_yaml_example_of_a_whole_segment() -> None:
    (where,) = re.findall(r"^    where: (.+)$", PAGE, flags=re.MULTILINE)
    assert check(parse(where), TRAITS) == []


@pytest.mark.parametrize("event", KNOWN_EVENTS)
def test_the_page_tells_what_each_event_has(event: str) -> None:
    rows = dict(re.findall(r"^\| (.+?) \| (`occurred_at`.*?) \|$", PAGE, flags=re.MULTILINE))
    told = next((has for events, has in rows.items() if f"`{event}`" in events), None)
    told = told or next(has for events, has in rows.items() if events.startswith("every other"))
    assert set(re.findall(r"`(\w+)`", told)) == columns_of(event)
    assert {column.name for column in EVENT_COLUMNS} >= columns_of(event)
