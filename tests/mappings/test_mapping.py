"""A mapping says everything that is wrong with it at once, and projects sets of contacts as it says."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from segue.connectors.registry import OURS, connector_class
from segue.core.errors import ConfigError, DataError
from segue.core.features.compute import FEATURES, customer_traits
from segue.core.model import ContactState, FieldType
from segue.core.scores.rfm import RFM
from segue.mappings.mapping import Mapping as FieldMapping
from segue.mappings.mapping import load_mapping, mapping_schema, starter

from .conftest import LIMITS, Loader, Snapshot

WRONG = """\
connector: mailchimp
prefixx: SG
reserve: many
fields:
  - trait: recency_dais
    label: A
    purpose: tests
  - trait: revenue
    label: A
    purpose: tests
    type: date
  - trait: birth_date
    label: C
  - recommendation: for_you
    slot: 4
    attribute: name
    label: D
    purpose: tests
  - group: life_cycle
    label: E
    purpose: tests
  - trait: first_name
    label: F
    purpose: tests
    transform: [round]
  - trait: revenue
    label: G
    purpose: tests
    default: much
    tag: SG_G
  - trait: revenue
    group: lifecycle
    label: H
    purpose: tests
tags:
  segments: [loyall]
  purpose: tests
"""


def test_all_mistakes_come_at_once_each_with_its_line(load: Loader) -> None:
    with pytest.raises(ConfigError) as caught:
        load(WRONG)
    assert [str(problem) for problem in caught.value.problems] == [
        'mailchimp.yml:2: prefixx: is not a key that Segue knows. Did you mean "prefix"?',
        'mailchimp.yml:3: reserve: must be a whole number and is "many".',
        'mailchimp.yml:5: fields[0].trait: no trait is called "recency_dais". Did you mean "recency_days"?',
        'mailchimp.yml:9: fields[1].label: "A" is the label of two fields, first at mailchimp.yml:6. Readers choose fields by their label: change one of them.',
        "mailchimp.yml:11: fields[1].type: a field of type date holds date, timestamp, and the value is money. Leave `type` out for number, or add a transform.",
        "mailchimp.yml:12: fields[2].purpose: is missing. Add it.",
        'mailchimp.yml:15: fields[3].slot: "for_you" has 3 slots, and this is slot 4. Use a smaller slot, or raise `slots` in segue.yml.',
        'mailchimp.yml:19: fields[4].group: no group is called "life_cycle". Did you mean "lifecycle"?',
        'mailchimp.yml:25: fields[5].transform: transform "round" takes integer, number, money, and here it gets text.',
        'mailchimp.yml:29: fields[6].default: "much" is not a number with a decimal point.',
        "mailchimp.yml:31: fields[7]: has trait and group. Give exactly one of trait, group, segment and recommendation.",
        'mailchimp.yml:36: tags.segments[0]: no segment is called "loyall". Did you mean "loyal"?',
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recommendation: for_you", "a recommendation needs a slot and an attribute"),
        ("trait: revenue, slot: 1", "fields[0].slot: belongs to a recommendation alone"),
        ("trait: revenue, claim: true", "fields[0].claim: only a field with a pinned tag can be claimed"),
        ("trait: first_name, type: txt", 'fields[0].type: "txt" is not known here. Did you mean "text"?'),
        ("recommendation: for_you, slot: 1, attribute: nme", 'Did you mean "name"?'),
        ("trait: zzz", "`segue traits` lists them."),
        ("segment: zzz", "Define it in segue.yml under `segments`."),
        ("trait: homepage, type: url, default: shop.example", "is not a web address"),
        ("trait: birth_date, default: 1984-02-30", "is not a date"),
        ("trait: birth_date, type: birthday, default: 13/01", "is not a birthday"),
        ("trait: first_name, default: " + "x" * 256, "has more than 255 bytes"),
    ],
)
def test_a_wrong_field_is_refused(load: Loader, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.fields(line)
    assert message in caught.value.message


def test_a_type_that_the_destination_lacks_is_refused(load: Loader) -> None:
    few = replace(LIMITS, field_types=frozenset({FieldType.TEXT, FieldType.NUMBER}))
    with pytest.raises(ConfigError, match=r"no fields of type date. It has: number, text\."):
        load.fields("trait: birth_date", capabilities=few)
    load.fields("trait: birth_date, type: text", capabilities=few)


@pytest.mark.parametrize(
    "text", ["", "fields: {}\nconnector: x\n", "- a\n", "connector: [x\n", "fields: [1]\nconnector: x\n"]
)
def test_what_is_no_mapping_at_all_is_said_and_not_thrown(load: Loader, text: str) -> None:
    with pytest.raises(ConfigError, match=r"^mailchimp\.yml"):
        load(text)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_mapping(
            tmp_path / "no.yml", traits=[], segments=[], groups=[], recommendations={}, capabilities=LIMITS
        )


def test_the_type_follows_from_the_value(load: Loader) -> None:
    lines = [
        "trait: recency_days",
        "trait: revenue",
        "trait: top_category",
        "trait: vip",
        "trait: birth_date",
        "trait: last_seen_at",
        "trait: top_categories",
        "segment: loyal",
        "group: lifecycle",
        "recommendation: for_you, slot: 1, attribute: url",
        "recommendation: for_you, slot: 1, attribute: image_url, type: image_url",
        "recommendation: for_you, slot: 1, attribute: price",
        "recommendation: for_you, slot: 2, attribute: price, transform: currency",
        "trait: return_rate, transform: percent",
    ]
    assert [field.type for field in load.fields(*lines).schema().fields] == (
        [
            "number",
            "number",
            "text",
            "text",
            "date",
            "date",
            "text",
            "text",
            "text",
            "url",
            "image_url",
            "number",
            "text",
            "text",
        ]
    )


FULL = """\
connector: mailchimp
fields:
  - {trait: first_name, label: First name, purpose: tests, tag: FNAME, claim: true}
  - {trait: birth_date, label: Birthday, purpose: tests, type: birthday, tag: SG_BIRTH}
  - {group: lifecycle, label: Stage, purpose: tests, transform: humanise, tag: SG_STAGE}
  - {segment: loyal, label: Is loyal, purpose: tests, tag: SG_LOYAL}
  - {recommendation: for_you, slot: 1, attribute: name, label: P1, purpose: tests, tag: SG_P1}
  - {recommendation: for_you, slot: 2, attribute: name, label: P2, purpose: tests, tag: SG_P2}
  - {recommendation: for_you, slot: 1, attribute: url, label: P1 link, purpose: tests, tag: SG_P1URL}
tags: {segments: all, purpose: tests}
"""


def product(contact_id: str, slot: int, name: str, **more: Any) -> dict[str, Any]:
    return {"contact_id": contact_id, "recommendation": "for_you", "slot": slot, "name": name, **more}


def test_a_contact_gets_its_values_from_all_four_tables(load: Loader, snapshot: Snapshot) -> None:
    rows = snapshot.project(
        load(FULL),
        [
            {
                "contact_id": "a",
                "email": "a@shop.example",
                "first_name": ' Ann "A" ',
                "birth_date": date(1984, 2, 29),
            },
            {"contact_id": "b", "email": None, "first_name": None},
        ],
        segments=[
            {"contact_id": "a", "segment": "loyal"},
            {"contact_id": "a", "segment": "lapsing"},
            {"contact_id": "a", "segment": "not_in_the_mapping"},
            {"contact_id": "gone", "segment": "loyal"},
        ],
        groups=[
            {"contact_id": "a", "group_name": "lifecycle", "segment": "at_risk"},
            {"contact_id": "a", "group_name": "another", "segment": "zzz"},
        ],
        recommendations=[
            product("a", 1, "Heart\nlight", url="https://shop.example/1"),
            product("a", 2, "Bowl"),
            product("a", 3, "Not mapped"),
            {**product("a", 1, "Zzz"), "recommendation": "other"},
        ],
    )
    assert rows == [
        {
            "contact_id": "a",
            "address": "a@shop.example",
            "fields": '{"FNAME":"Ann \\"A\\"","SG_BIRTH":"2000-02-29","SG_LOYAL":"yes","SG_P1":"Heart light",'
            '"SG_P1URL":"https://shop.example/1","SG_P2":"Bowl","SG_STAGE":"At risk"}',
            "tags": ["segue: lapsing", "segue: loyal"],
        },
        {"contact_id": "b", "address": None, "fields": '{"SG_LOYAL":"no"}', "tags": []},
    ]


def test_the_projection_has_the_columns_that_a_plan_reads(load: Loader, snapshot: Snapshot) -> None:
    schema = load(FULL).project(**snapshot.tables([])).schema()
    assert {name: str(type_) for name, type_ in schema.items()} == {
        "contact_id": "string",
        "address": "string",
        "fields": "string",
        "tags": "array<string>",
    }


def test_tags_alone_and_nothing_at_all_are_mappings_too(load: Loader, snapshot: Snapshot) -> None:
    people = [{"contact_id": "a", "email": "a@shop.example"}]
    loyal = [{"contact_id": "a", "segment": "loyal"}]
    tags = load("connector: mailchimp\ntag_prefix: 'our '\ntags: {segments: [loyal], purpose: tests}\n")
    assert tags.schema().tags == ("our loyal",)
    (row,) = snapshot.project(tags, people, segments=loyal)
    assert (row["fields"], row["tags"]) == ("{}", ["our loyal"])
    assert tags.count(**snapshot.tables(people)) == ()
    nothing = load("connector: mailchimp\n")
    (row,) = snapshot.project(nothing, people, segments=loyal)
    assert (row["fields"], row["tags"]) == ("{}", [])


def test_tags_are_sorted_and_distinct(load: Loader, snapshot: Snapshot) -> None:
    names = [f"s{(index * 7) % 40:02}" for index in range(40)]
    mapping = load("connector: mailchimp\ntags: {segments: all, purpose: tests}\n", segments=names)
    held = [{"contact_id": "a", "segment": name} for name in [*names, *names[:5]]]
    (row,) = snapshot.project(mapping, [{"contact_id": "a"}], segments=held)
    assert row["tags"] == sorted(f"segue: {name}" for name in names)


def test_a_row_reads_back_as_the_state_it_says(load: Loader, snapshot: Snapshot) -> None:
    (row,) = snapshot.project(load(FULL), [{"email": "a@shop.example", "first_name": "\\ 😀 é \u2028 /"}])
    state = ContactState.parse(f'{{"address":"{row["address"]}","fields":{row["fields"]},"tags":[]}}')
    assert state.fields["FNAME"] == "\\ 😀 é /"
    assert f'"fields":{row["fields"]}' in state.canonical()


LONG_URL = "https://shop.example/" + "x" * 300


def test_an_address_is_whole_or_not_there_and_losses_are_counted(load: Loader, snapshot: Snapshot) -> None:
    mapping = load.fields(
        "recommendation: for_you, slot: 1, attribute: url",
        "trait: homepage, type: url",
        "trait: homepage, type: text, tag: SG_TEXT",
        "trait: return_rate",
    )
    pages = [
        "https://shop.example/a",
        "shop.example",
        "javascript:alert(1)",
        LONG_URL,
        None,
        "HTTP://X.example/b c",
    ]
    profiles = [{"homepage": page, "return_rate": float("nan") if page is None else 0.5} for page in pages]
    products = [product(f"{i:06}", 1, "x", url=page) for i, page in enumerate(pages)]
    found = snapshot.values(mapping, profiles, recommendations=products)
    tags = [field.tag for field in mapping.schema().fields]
    for tag in tags[:2]:
        assert [values.get(tag) for values in found] == [
            "https://shop.example/a",
            None,
            None,
            None,
            None,
            None,
        ]
    counts = {each.tag: each for each in mapping.count(**snapshot.tables(profiles, recommendations=products))}
    assert [(counts[tag].filled, counts[tag].cut, counts[tag].dropped) for tag in tags] == [
        (1, 0, 4),
        (1, 0, 4),
        (5, 1, 0),
        (5, 0, 1),
    ]


def test_a_snapshot_without_a_mapped_trait_is_said(load: Loader, snapshot: Snapshot) -> None:
    tables = snapshot.tables([])
    with pytest.raises(
        DataError, match=r"column first_name: the mapping needs this trait.* Run `segue build`"
    ):
        load(FULL).project(**{**tables, "profiles": tables["profiles"].drop("first_name")})


def test_the_dictionary_says_what_a_marketer_needs(load: Loader) -> None:
    entries = load.fields("trait: revenue, transform: {currency: GBP}, default: nothing yet").dictionary()
    (entry,) = entries
    assert entry.tag == "SG_REVENUE"
    assert entry.label == "Field 0"
    assert entry.type is FieldType.TEXT
    assert (entry.source, entry.description) == ("trait revenue", "What revenue is")
    assert (entry.purpose, entry.default) == ("tests", "nothing yet")
    assert entry.shortened_above == 255


def loaded_starter() -> FieldMapping:
    return load_mapping(
        starter("mailchimp"),
        traits=[*customer_traits(), *FEATURES, *RFM],
        segments=["loyal"],
        groups=["lifecycle"],
        recommendations={"for_you": 3},
        capabilities=LIMITS,
    )


def test_every_esp_of_ours_has_a_starter_that_fits_it() -> None:
    for name in sorted(OURS.keys() - {"csvfile"}):
        mapping = load_mapping(
            starter(name),
            traits=[*customer_traits(), *FEATURES, *RFM],
            segments=["loyal"],
            groups=["lifecycle"],
            recommendations={"for_you": 3},
            capabilities=connector_class(name).capabilities,
        )
        assert mapping.connector == name
        assert len(mapping.fields) > 15


def test_the_starter_fits_a_new_audience_with_five_slots_left() -> None:
    mapping = loaded_starter()
    fields = mapping.schema().fields
    assert len(fields) <= 25
    assert all(field.tag.startswith("SG_") for field in fields)
    assert mapping.connector == "mailchimp"
    # Nothing that only a shop with events or a richer customer file has.
    events = {
        trait.name for trait in FEATURES if trait.name.startswith(("views", "carts", "opens", "clicks"))
    }
    customers = {trait.name for trait in customer_traits()}
    assert not {field.source.name for field in mapping.fields} & (events | customers)


def test_the_starter_projects_real_feature_columns(snapshot: Snapshot) -> None:
    profile = {
        "contact_id": "a",
        "email": "a@shop.example",
        "recency_days": 12,
        "last_order_date": date(2011, 12, 1),
        "first_order_date": date(2010, 12, 1),
        "orders_count": 3,
        "revenue": Decimal("100.5000"),
        "average_order_value": Decimal("33.5049"),
        "median_gap_days": 45.5,
        "top_category": "wall_decor",
        "last_product": "Heart",
    }
    tables = {**snapshot.tables([]), "profiles": snapshot.register("wider", pa.Table.from_pylist([profile]))}
    row = snapshot.con.to_pyarrow(loaded_starter().project(**tables)).to_pylist()[0]
    assert row["fields"] == (
        '{"SG_AOV":"33.5","SG_LASTORD":"2011-12-01","SG_LASTPRO":"Heart","SG_ORDERS":"3",'
        '"SG_RHYTHM":"46","SG_SINCE":"2010-12-01","SG_SPENT":"100.5","SG_TOPCAT":"Wall decor"}'
    )


def test_there_is_a_starter_only_for_connectors_that_have_one() -> None:
    with pytest.raises(ConfigError, match=r'no starter mapping for "mailchamp"\. Did you mean "mailchimp"\?'):
        starter("mailchamp")
    with pytest.raises(ConfigError):
        starter("../mailchimp")


def test_the_schema_takes_the_starter_and_refuses_what_the_loader_refuses() -> None:
    content = YAML(typ="safe").load(starter("mailchimp").read_text(encoding="utf-8"))
    jsonschema.validate(content, mapping_schema())
    broken: list[dict[str, Any]] = [{**content, "extra": 1}, {**content, "prefix": "sg"}, {"fields": []}]
    for wrong in broken:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, mapping_schema())


def test_values_of_wider_columns_than_declared_are_written_too(load: Loader, snapshot: Snapshot) -> None:
    revenue = pa.array([Decimal("12345678901234567890.5000")], pa.decimal128(38, 4))
    wider = pa.table({"contact_id": ["a"], "email": pa.nulls(1, pa.string()), "revenue": revenue})
    tables = {**snapshot.tables([]), "profiles": snapshot.register("wider", wider)}
    row = snapshot.con.to_pyarrow(load.fields("trait: revenue").project(**tables)).to_pylist()[0]
    assert row["fields"] == '{"SG_REVENUE":"12345678901234567890.5"}'


DIRECTIONS = """\
connector: mailchimp
fields:
  - {direction: pull, tag: TOPIC, trait: topic, label: A, purpose: tests}
  - {trait: revenue, direction: both, conflict: newest, label: B, purpose: tests, tag: SG_B}
"""


def test_a_pulled_field_is_no_field_of_ours(load: Loader) -> None:
    mapping = load(DIRECTIONS)
    assert [field.spec.tag for field in mapping.fields] == ["SG_B"]
    assert [(field.tag, field.trait) for field in mapping.pulled] == [("TOPIC", "topic")]
    assert [spec.tag for spec in mapping.schema().fields] == ["SG_B"]
    assert mapping.yielding == ("SG_B",)
    assert mapping.read_back == ("SG_B", "TOPIC")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{direction: pull, tag: T, label: C, purpose: tests, segment: loyal}", "needs `tag`"),
        ("{direction: pull, trait: topic, label: C, purpose: tests}", "needs `tag`"),
        ("{direction: pull, tag: T, trait: Shoe Size, label: C, purpose: tests}", "no name for a trait"),
        ("{direction: pull, tag: T, trait: t, label: C, purpose: tests, default: x}", "is not written"),
        ("{direction: pull, tag: TOPIC, trait: t, label: C, purpose: tests}", "pulled already"),
        ("{direction: pull, tag: SG_B, trait: t, label: C, purpose: tests}", "written already"),
        ("{direction: pull, tag: T, trait: topic, label: C, purpose: tests}", "pulled already"),
        ("{direction: both, trait: first_name, label: C, purpose: tests}", "belong together"),
        ("{conflict: ours, trait: first_name, label: C, purpose: tests}", "belong together"),
        (
            "{direction: both, conflict: theirs, drift: accept, trait: first_name, label: C, purpose: tests}",
            "says already",
        ),
    ],
)
def test_a_direction_that_makes_no_sense_is_said(load: Loader, line: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        load(f"{DIRECTIONS}  - {line}\n")
    assert len(caught.value.problems) == 1
    assert "mailchimp.yml:5" in caught.value.problems[0].where
