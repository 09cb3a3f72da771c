"""Popular products in the contact's favourite category, then popular products overall.

Lives here: what popular means and who may not get what. Must not: scores of single people.

Popular is being in many orders of the window (guests' orders too), then many pieces sold, then the product's key. The
favourite category is the one that most money was spent in, else the one looked at most. A product is never proposed
that is known to be out of stock, has no name, is no merchandise, or was bought by the contact at any time.

A contact who bought b of the products that can be proposed needs no more than the first slots + b of a list to be
left with enough. So each contact meets that many, and not all: rows grow with what people bought, not with the
range of the shop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..data.canonical import CanonicalTables, LineKind
from ..data.known import known_at
from .base import RECOMMENDATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class PopularInCategory:
    """The recommender `popular_in_category`; `window` is how far back sales count."""

    window: timedelta = timedelta(days=30)

    def recommend(self, tables: CanonicalTables, profiles: ir.Table, as_of: datetime, slots: int) -> ir.Table:
        """Give the first `slots` of the favourite category, filled up with the most popular of all."""
        known = known_at(tables, as_of)
        sales = known.order_items.filter(known.order_items.line_kind == LineKind.SALE.value).inner_join(
            known.orders.select("order_id", "contact_id", "ordered_at"), "order_id"
        )
        candidates = _candidates(
            known.products, sales.filter(sales.ordered_at > ibis.literal(as_of - self.window))
        )
        bought = (
            sales.filter(sales.contact_id.notnull())
            .semi_join(candidates, "product_id")
            .select("contact_id", "product_id")
            .distinct()
        )
        contacts = _contacts(profiles, bought)
        in_category = _first_unbought(
            contacts.filter(contacts.category.notnull()), candidates, bought, slots, by_category=True
        )
        # A contact whose category fills every slot needs nothing else.
        served = in_category.group_by("contact_id").aggregate(given=in_category.count())
        open_ = contacts.anti_join(served.filter(served.given >= slots), "contact_id")
        overall = _first_unbought(open_, candidates, bought, slots, by_category=False).anti_join(
            in_category, ["contact_id", "product_id"]
        )
        offers = in_category.union(overall)
        chosen = offers.mutate(
            slot=ibis.row_number().over(group_by="contact_id", order_by=[offers.is_fallback, offers.place])
            + 1
        )
        return (
            chosen.filter(chosen.slot <= slots)
            .inner_join(candidates, "product_id")
            .mutate(reason=lambda row: self._reason(row.is_fallback, row.category))
            .select(*RECOMMENDATIONS)
            .cast(RECOMMENDATIONS)
        )

    def caveats(self, tables: CanonicalTables) -> Sequence[str]:
        """Say whether stock is known."""
        products = tables.products.filter(tables.products.is_merchandise)
        counts = products.aggregate(all=products.count(), known=products.in_stock.count()).to_pyarrow()
        all_, known = counts["all"][0].as_py(), counts["known"][0].as_py()
        if all_ == known:
            return ()
        which = "no product" if not known else f"{known:,} of {all_:,} products"
        caveat = (
            f"Stock is known for {which}: a recommended product may be sold out. "
            "Give products a column in_stock to leave those out."
        )
        return (caveat,)

    def _reason(self, is_fallback: ir.BooleanValue, category: ir.StringValue) -> ir.Value:
        days = self.window // timedelta(days=1)
        when = {7: "this week", 30: "this month", 365: "this year"}.get(days)
        if when is None:
            when = f"in the last {days} days" if days > 1 else "today"
        words = category.replace("_", " ")
        return ibis.ifelse(is_fallback, f"Popular {when}", ibis.literal("Popular in ") + words + f" {when}")


def _candidates(products: ir.Table, recent: ir.Table) -> ir.Table:
    """Give the products that can be proposed, with their places overall and in their category, from 0."""
    sold = recent.group_by("product_id").aggregate(
        orders=recent.order_id.nunique(), pieces=recent.quantity.sum().cast(dt.Decimal(38, 0))
    )
    offered = products.filter(
        products.is_merchandise & products.in_stock.fill_null(True) & (products.name.strip().length() > 0)
    ).inner_join(sold, "product_id")
    order = [offered.orders.desc(), offered.pieces.desc(), offered.product_id.asc()]
    return offered.mutate(
        place_overall=ibis.row_number().over(order_by=order),
        place_in_category=ibis.row_number().over(group_by="category", order_by=order),
    )


def _contacts(profiles: ir.Table, bought: ir.Table) -> ir.Table:
    """Give each contact's favourite category and how many of the candidates the contact has already."""
    owned = bought.group_by("contact_id").aggregate(owned=bought.count())
    joined = profiles.select(
        "contact_id", category=ibis.coalesce(profiles.top_category, profiles.viewed_category_90d)
    ).left_join(owned, "contact_id")
    return joined.select("contact_id", "category", owned=joined.owned.fill_null(0))


def _first_unbought(
    contacts: ir.Table, candidates: ir.Table, bought: ir.Table, slots: int, *, by_category: bool
) -> ir.Table:
    """Give contact_id, product_id, place and is_fallback of the first candidates that the contact has not bought."""
    wanted = contacts.mutate(place=ibis.range(0, contacts.owned + slots).unnest())
    if by_category:
        places = candidates.select("product_id", "category", place=candidates.place_in_category)
        met = wanted.inner_join(places, ["category", "place"])
    else:
        places = candidates.select("product_id", place=candidates.place_overall)
        met = wanted.inner_join(places, ["place"])
    new = met.anti_join(bought, ["contact_id", "product_id"])
    return new.select("contact_id", "product_id", "place", is_fallback=ibis.literal(not by_category))
