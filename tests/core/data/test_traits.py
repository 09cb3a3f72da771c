"""Further customer columns become traits, with the narrowest type that fits every value."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segue.core.data.ingest import customer_traits
from segue.core.errors import ConfigError
from segue.core.model import Trait, TraitType

from .conftest import Folder, rows

CUSTOMERS = """contact_id,points,ratio,vip,since,seen,zip,likes,empty,Loyalty Tier,mixed
c1,10,0.5,yes,2020-01-31,2020-01-31 10:00,01234,"[""a"",""b""]",,gold,1
c2,-3,1,no,31.01.2021,2020-02-01,99999,[],,,x
"""
TYPES = {
    "points": TraitType.INTEGER,
    "ratio": TraitType.NUMBER,
    "vip": TraitType.BOOLEAN,
    "since": TraitType.DATE,
    "seen": TraitType.TIMESTAMP,
    "zip": TraitType.TEXT,  # a leading zero is not a number's
    "likes": TraitType.TEXT_LIST,
    "empty": TraitType.TEXT,
    "loyalty_tier": TraitType.TEXT,
    "mixed": TraitType.TEXT,
}


def test_the_type_of_a_trait_is_read_off_all_its_values(folder: Folder) -> None:
    ingested = folder.ingest_csv({"customers": CUSTOMERS})
    assert {trait.name: trait.type for trait in ingested.extra_traits} == TYPES
    assert rows(ingested.tables.customers, "points", "vip", "zip", "likes") == [
        (-3, False, "99999", []),
        (10, True, "01234", ["a", "b"]),
    ]


def test_the_heads_of_the_sources_tell_the_same_traits(folder: Folder) -> None:
    project = folder.project({"customers": {"path": folder.write("c.csv", CUSTOMERS)}})
    assert {trait.name: trait.type for trait in customer_traits(project)} == TYPES


def test_segue_yml_overrides_type_and_words(folder: Folder) -> None:
    traits = {"points": {"type": "text", "description": "Points on the card"}, "mixed": {"type": "integer"}}
    ingested = folder.ingest_csv({"customers": CUSTOMERS}, traits=traits)
    by_name = {trait.name: trait for trait in ingested.extra_traits}
    assert by_name["points"] == Trait(
        name="points",
        type=TraitType.TEXT,
        description="Points on the card",
        null_means="the shop has no value",
    )
    assert rows(ingested.tables.customers, "points", "mixed") == [("-3", None), ("10", 1)]
    assert rows(ingested.quarantine, "rule", "row_number", "column_name") == [("wrong_type", 2, "mixed")]


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        ({"pints": {}}, 'customers have no column "pints". Did you mean "points"?'),
        ({"city": {"type": "integer"}}, 'the type of "city" is fixed'),
    ],
)
def test_a_trait_that_is_no_column_is_a_mistake(folder: Folder, traits: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        folder.ingest_csv({"customers": CUSTOMERS}, traits=traits)
    assert said in error.value.message


def test_a_column_can_be_given_the_name_of_a_trait(folder: Folder) -> None:
    source = {
        "path": folder.write("c.csv", "id,Kartenstufe\n1,gold\n"),
        "columns": {"contact_id": "id", "tier": "Kartenstufe"},
    }
    assert rows(folder.ingest({"customers": source}).tables.customers, "tier") == ["gold"]


def test_types_of_several_sources_widen(folder: Folder) -> None:
    first = {"path": folder.write("a.csv", "contact_id,n,d,t\n1,1,2020-01-01,1\n")}
    second = {"path": folder.write("b.csv", "contact_id,n,d,t\n2,1.5,2020-01-01 10:00,x\n")}
    ingested = folder.ingest({"customers": [first, second]})
    assert [trait.type for trait in ingested.extra_traits] == [
        TraitType.NUMBER,
        TraitType.TIMESTAMP,
        TraitType.TEXT,
    ]


def test_lists_of_a_parquet_file_survive_and_objects_are_reported(folder: Folder) -> None:
    table = pa.table(
        {"contact_id": [1], "likes": [["a", "b"]], "address": [{"street": "x"}], "segue_row_": [1]}
    )
    pq.write_table(table, folder.path / "c.parquet")
    ingested = folder.ingest({"customers": {"path": "c.parquet"}})
    assert [(trait.name, trait.type) for trait in ingested.extra_traits] == [("likes", TraitType.TEXT_LIST)]
    assert rows(ingested.tables.customers, "likes") == [["a", "b"]]
    assert set(ingested.report.sources[0].ignored_columns) == {"address", "segue_row_"}


def test_columns_that_nothing_takes_are_reported(folder: Folder) -> None:
    ingested = folder.ingest_csv({"products": "product_id,colour\np1,red\n"})
    assert ingested.report.sources[1].ignored_columns == ("colour",)
    assert "products.csv: products ignore the column colour." in ingested.report.warnings
