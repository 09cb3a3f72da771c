"""Scores follow the stated tie rule, and every score has exactly one of eleven names."""

from itertools import product
from typing import Any

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from segue.core.data.canonical import MONEY
from segue.core.scores.rfm import GRID, RFM, score

NAMES = {
    *("champions", "loyal", "potential_loyalist", "new_customers", "promising", "need_attention"),
    *("about_to_sleep", "at_risk", "cannot_lose_them", "hibernating", "lost"),
}


def scored(engine: Backend, people: Any) -> list[dict[str, Any]]:
    """Score people given as (recency in days, orders, revenue)."""
    rows = [
        {"contact_id": f"{number:03}", "recency_days": days, "orders_count": orders, "revenue": revenue}
        for number, (days, orders, revenue) in enumerate(people)
    ]
    schema = pa.schema(
        {
            "contact_id": pa.string(),
            "recency_days": pa.int64(),
            "orders_count": pa.int64(),
            "revenue": pa.float64(),
        }
    )
    table = ibis.memtable(pa.Table.from_pylist(rows, schema=schema))
    found = engine.to_pyarrow(score(table.cast({"revenue": MONEY}))).to_pylist()
    return [{**row} for row in sorted(found, key=lambda row: row["contact_id"])]


@pytest.fixture(scope="module")
def cube(engine: Backend) -> list[dict[str, Any]]:
    """Score 125 people, one for each combination of five recencies, five frequencies and five sums."""
    people = list(product((100, 80, 60, 40, 20), (1, 2, 3, 4, 5), (10, 20, 30, 40, 50)))
    return scored(engine, people)


def test_all_125_scores_come_about_and_each_has_one_of_the_eleven_names(cube: list[dict[str, Any]]) -> None:
    assert [row["rfm_score"] for row in cube] == ["".join(three) for three in product("12345", repeat=3)]
    assert {row["rfm_cell"] for row in cube} == NAMES


def test_the_cell_is_the_place_in_the_grid(cube: list[dict[str, Any]]) -> None:
    for row in cube:
        recency, frequency, monetary = (int(digit) for digit in row["rfm_score"])
        assert (row["rfm_recency"], row["rfm_frequency"], row["rfm_monetary"]) == (
            recency,
            frequency,
            monetary,
        )
        mean = -(-(frequency + monetary) // 2)  # rounded up
        assert row["rfm_cell"] == GRID[recency][mean - 1]


@pytest.mark.parametrize(
    ("score", "cell"),
    [
        ("555", "champions"),
        ("511", "new_customers"),
        ("411", "promising"),
        ("333", "need_attention"),
        ("155", "cannot_lose_them"),
        ("111", "lost"),
        ("454", "loyal"),
        ("255", "at_risk"),
    ],
)
def test_the_well_known_corners_have_their_well_known_names(
    cube: list[dict[str, Any]], score: str, cell: str
) -> None:
    assert {row["rfm_cell"] for row in cube if row["rfm_score"] == score} == {cell}


def test_the_grid_has_one_of_eleven_names_in_each_of_25_places() -> None:
    assert set(GRID) == {1, 2, 3, 4, 5}
    assert all(len(names) == 5 for names in GRID.values())
    assert {name for names in GRID.values() for name in names} == NAMES


def test_equal_values_get_equal_scores_the_lowest_that_any_could_get(engine: Backend) -> None:
    # Seven of ten ordered once: a quintile by position would split them over four scores.
    orders = [1, 1, 1, 1, 1, 1, 1, 2, 3, 4]
    found = [row["rfm_frequency"] for row in scored(engine, [(10, count, 5) for count in orders])]
    assert found == [1, 1, 1, 1, 1, 1, 1, 4, 5, 5]


def test_who_never_ordered_has_no_score_and_does_not_count(engine: Backend) -> None:
    buyers = [(10 * number, number, number) for number in range(1, 6)]
    found = scored(engine, [*buyers, *[(None, 0, 0)] * 20])
    assert [row["rfm_recency"] for row in found[:5]] == [5, 4, 3, 2, 1]
    assert [row["rfm_monetary"] for row in found[:5]] == [1, 2, 3, 4, 5]
    assert {row[trait.name] for row in found[5:] for trait in RFM} == {None}


def test_fewer_than_five_buyers_have_no_quintiles(engine: Backend) -> None:
    found = scored(engine, [(10 * number, number, number) for number in range(1, 5)])
    assert {row[trait.name] for row in found for trait in RFM} == {None}
