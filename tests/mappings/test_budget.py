"""Tags are stable, fit and belong to us; fields and tags that do not fit are named."""

import dataclasses
import re
from string import ascii_lowercase, digits
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.core.errors import ConfigError
from segue.core.model import FieldType
from segue.mappings.budget import tag_of

from .conftest import LIMITS, Loader

NAMES = st.text(ascii_lowercase + digits + "_", min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("revenue", "SG_REVENUE"),
        ("country", "SG_COUNTRY"),
        ("recency_days", "SG_REDAR5R"),
        ("for_you_1_name", "SG_FY1NJ6Y"),
        ("for_you_2_name", "SG_FY2NR5Q"),
        ("größe", "SG_GRSS7W5"),
        ("Country", "SG_COUNLFY"),
    ],
)
def test_published_tags_never_change(name: str, tag: str) -> None:
    assert tag_of(name, "SG", 10) == tag


@given(name=st.text(min_size=1), prefix=st.from_regex(r"[A-Z][A-Z0-9]{0,3}", fullmatch=True))
def test_a_tag_fits_whatever_the_name(name: str, prefix: str) -> None:
    tag = tag_of(name, prefix, 10)
    assert re.fullmatch(r"[A-Z0-9_]{1,10}", tag)
    assert tag.startswith(f"{prefix}_")


@given(names=st.lists(NAMES, min_size=2, max_size=30, unique=True))
def test_names_that_fit_never_meet(names: list[str]) -> None:
    short = [name for name in names if len(name) <= 7]
    assert len({tag_of(name, "SG", 10) for name in short}) == len(short)


def test_three_letters_of_hash_tell_all_fields_of_a_shop_apart() -> None:
    names = [
        f"{name}_{slot}_{attribute}"
        for name in ("for_you", "for_the_home", "bought_again", "popular", "new_in")
        for slot in range(1, 11)
        for attribute in ("name", "url", "image_url", "price", "reason", "product_id")
    ]
    assert len({tag_of(name, "SG", 10) for name in names}) == len(names)


def test_other_fields_never_rename_one(load: Loader) -> None:
    lines = ["trait: recency_days", "trait: revenue", "group: lifecycle", "segment: loyal"]
    alone = [load.fields(line).schema().fields[0].tag for line in lines]
    assert [field.tag for field in load.fields(*lines).schema().fields] == alone
    assert [field.tag for field in load.fields(*reversed(lines)).schema().fields] == alone[::-1]


def problems(load: Loader, *lines: str, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load.fields(*lines, **changes)
    return [str(problem) for problem in caught.value.problems]


def test_two_fields_of_one_tag_are_named_with_a_free_tag(load: Loader) -> None:
    (problem,) = problems(load, "trait: revenue", "trait: revenue, transform: round")
    assert problem.startswith(
        'mailchimp.yml:4: "Field 1" and "Field 0" (mailchimp.yml:3) have the same tag SG_REVENUE.'
    )
    (proposed,) = re.findall(r"tag: (\w+)", problem)
    mapping = load.fields("trait: revenue", f"trait: revenue, transform: round, tag: {proposed}")
    assert [field.tag for field in mapping.schema().fields] == ["SG_REVENUE", proposed]


def test_a_pinned_tag_wins_over_the_name(load: Loader) -> None:
    assert load.fields("trait: revenue, tag: SG_SPENT").schema().fields[0].tag == "SG_SPENT"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tag: FNAME", "does not start with our prefix SG_"),
        ("tag: SGX", "does not start with our prefix SG_"),
        ("tag: SG_TOOLONGX", '"SG_TOOLONGX" cannot be a tag.'),
        ("tag: sg_small", '"sg_small" cannot be a tag.'),
        ("tag: EMAIL, claim: true", "has a meaning of its own"),
    ],
)
def test_a_wrong_pin_is_refused(load: Loader, line: str, message: str) -> None:
    (problem,) = problems(load, f"trait: first_name, {line}")
    assert message in problem


def test_a_field_of_others_is_written_only_when_claimed(load: Loader) -> None:
    (field,) = load.fields("trait: first_name, tag: FNAME, claim: true").schema().fields
    assert (field.tag, field.claim) == ("FNAME", True)


def many(count: int) -> list[str]:
    return [f"trait: revenue, tag: SG_{index:02}" for index in range(count)]


def text(count: int, head: str) -> str:
    entries = "\n".join(f"  - {{{line}, label: L{i}, purpose: tests}}" for i, line in enumerate(many(count)))
    return f"connector: mailchimp\n{head}fields:\n{entries}\n"


def test_the_budget_is_the_plans_slots_less_the_reserve(load: Loader) -> None:
    assert len(load(text(30, "")).fields) == 30
    assert len(load(text(25, "reserve: 5\n")).fields) == 25
    assert len(load(text(75, "field_slots: 80\nreserve: 5\n")).fields) == 75


def test_fields_without_a_slot_are_named_in_order(load: Loader) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text(27, "reserve: 5\n"))
    (problem,) = caught.value.problems
    assert problem.where == "mailchimp.yml:3"
    assert problem.message == (
        '27 fields want 25 slots (30 less 5 in reserve). These find none: "L25", "L26".'
    )


def test_a_number_of_slots_that_no_plan_has_is_refused(load: Loader) -> None:
    with pytest.raises(
        ConfigError, match=r"field_slots: 40 is not .* They allow: 30 \(standard\), 80 \(premium\)\."
    ):
        load(text(1, "field_slots: 40\n"))


def test_a_tag_that_is_too_long_is_refused(load: Loader) -> None:
    with pytest.raises(ConfigError, match=r"has 107 characters; 100 is the most"):
        load("connector: mailchimp\ntags: {segments: all, purpose: tests}\n", segments=["a" * 100])


SMALL = dataclasses.replace(
    LIMITS,
    field_types=frozenset({FieldType.TEXT, FieldType.NUMBER, FieldType.DATE}),
    field_tag_length=100,
    field_tag_pattern="[a-z][a-z0-9_]*",
)


def test_where_names_are_small_so_are_tags_and_the_prefix(load: Loader) -> None:
    mapping = load.fields("trait: recency_days", "trait: revenue, tag: sg_spent", capabilities=SMALL)
    assert [field.spec.tag for field in mapping.fields] == ["sg_recency_days", "sg_spent"]
    with pytest.raises(ConfigError, match="100 small letters"):
        load.fields("trait: revenue, tag: SG_SPENT", capabilities=SMALL)
    with pytest.raises(ConfigError, match="our prefix sg_"):
        load.fields("trait: revenue, tag: spent", capabilities=SMALL)


def test_where_there_are_no_fields_for_addresses_they_are_texts(load: Loader) -> None:
    link = "recommendation: for_you, slot: 1, attribute: url"
    (field,) = load.fields(link, capabilities=SMALL).fields
    assert field.spec.type is FieldType.TEXT
