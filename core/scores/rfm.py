"""Recency, frequency and monetary scores from 1 to 5, and the eleven cells that marketers know by name.

Lives here: the tie rule and the grid. Must not: what an order or revenue is (`core.features.purchases`).

Tie rule. A score tells how many of all buyers do strictly worse: under 20% gives 1, under 40% gives 2, and so on. Equal
values therefore get equal scores, always the lower one that any of them could get: when 70% of the buyers ordered once,
all of them score 1 and the next ones 4. The loser, cutting the sorted list into five equal parts, gives two people
with the same history different names, and swaps them from build to build.

Cells. The grid is recency times the rounded-up mean of frequency and monetary; as it has one name in each of its 25
places, it covers all 125 scores without gap or overlap. Fewer than five buyers have no quintiles and get no score.
"""

from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..model import Trait, TraitType

FEWEST_BUYERS: Final = 5

# By recency score (5 is the latest), then by the mean of frequency and monetary from 1 to 5.
GRID: Final = {
    5: ("new_customers", "potential_loyalist", "potential_loyalist", "champions", "champions"),
    4: ("promising", "potential_loyalist", "potential_loyalist", "loyal", "loyal"),
    3: ("about_to_sleep", "about_to_sleep", "need_attention", "loyal", "loyal"),
    2: ("hibernating", "hibernating", "at_risk", "at_risk", "at_risk"),
    1: ("lost", "hibernating", "at_risk", "cannot_lose_them", "cannot_lose_them"),
}

_NULL_MEANS: Final = "never ordered, or the shop has fewer than five buyers"

RFM: Final[tuple[Trait, ...]] = tuple(
    Trait(name=name, type=type_, description=description, null_means=_NULL_MEANS)
    for name, type_, description in (
        (
            "rfm_recency",
            TraitType.INTEGER,
            "How lately the contact ordered, compared with others: 5 is latest",
        ),
        (
            "rfm_frequency",
            TraitType.INTEGER,
            "How often the contact ordered, compared with others: 5 is most",
        ),
        ("rfm_monetary", TraitType.INTEGER, "How much the contact spent, compared with others: 5 is most"),
        ("rfm_score", TraitType.TEXT, "The three scores in a row, recency first: 555 is best"),
        ("rfm_cell", TraitType.TEXT, "Name of the group that the three scores put the contact in"),
    )
)


def score(features: ir.Table) -> ir.Table:
    """Give contact_id and the traits of RFM, one row per row of `features`; null for who never ordered."""
    buyers = features.filter(features.orders_count > 0)
    scored = buyers.select(
        "contact_id",
        buyers=buyers.count().over(),
        rfm_recency=_quintile(buyers, buyers.recency_days.desc()),
        rfm_frequency=_quintile(buyers, buyers.orders_count.asc()),
        rfm_monetary=_quintile(buyers, buyers.revenue.asc()),
    )
    enough = scored.filter(scored.buyers >= FEWEST_BUYERS).drop("buyers")
    named = enough.mutate(
        rfm_score=ibis.literal("").join(
            [enough[column].cast(dt.string) for column in ("rfm_recency", "rfm_frequency", "rfm_monetary")]
        ),
        rfm_cell=_cell(enough.rfm_recency, enough.rfm_frequency, enough.rfm_monetary),
    )
    everyone = features.select("contact_id").left_join(named, "contact_id")
    return everyone.select("contact_id", *(trait.name for trait in RFM))


def _quintile(buyers: ir.Table, order: ir.Value) -> ir.IntegerValue:
    worse = ibis.rank().over(order_by=order)  # from 0; equal values share the lowest
    quintile: ir.IntegerValue = (worse * 5 // buyers.count().over() + 1).cast(dt.int64)
    return quintile


def _cell(recency: ir.IntegerValue, frequency: ir.IntegerValue, monetary: ir.IntegerValue) -> ir.StringValue:
    names = ibis.array([name for place in range(1, 6) for name in GRID[place]])
    mean = (frequency + monetary + 1) // 2
    cell: ir.StringValue = names[((recency - 1) * 5 + mean - 1).cast(dt.int64)]
    return cell
