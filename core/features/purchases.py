"""The traits that orders tell of a contact: how much, how often, when, of what.

Lives here: their one definition, as Ibis expressions over facts that are known already. Must not: which facts are
known (`core.data.known`), what customers clicked (`engagement.py`).

What counts. An order is a document with at least one SALE line; its value is the sum of those lines, without postage
and fees. Revenue is what the shop kept: SALE lines minus RETURN lines, a return counting on the day it came back, so
that a window or a whole life can be negative when more came back than was bought. Lines cancelled whole (REVERSED,
REVERSAL) never happened. Averages, favourites and categories look at SALE lines alone: what a person wanted, whether
or not it fitted.

Ties. The favourite hour or weekday is the one with most orders, then the one of the latest order; categories go by
value, then by name; the last product is the dearest line of the last order, then the first line; the last order is
the latest, then the one with the highest number. Windows are half-open: (as_of - n days, as_of].

The tables are few and wide, and the biggest are grouped and not sorted: a join costs more to plan than to run in a
small shop, and a window function sorts what a group-by only hashes.
"""

from datetime import datetime
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..data.canonical import MONEY, CanonicalTables, LineKind
from ..data.instants import DAY, days_since, local_time, since
from ..model import Trait, TraitType

WINDOWS: Final = (7, 30, 90, 180, 365)

_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HOURS: Final = 24

_NEVER: Final = "never ordered"


def _trait(name: str, type_: TraitType, description: str, null_means: str = _NEVER) -> Trait:
    return Trait(name=name, type=type_, description=description, null_means=null_means)


PURCHASES: Final[tuple[Trait, ...]] = (
    _trait("orders_count", TraitType.INTEGER, "Number of orders", ""),
    _trait("revenue", TraitType.MONEY, "Value of everything bought, minus what came back", ""),
    _trait("average_order_value", TraitType.MONEY, "Value of an average order, before returns"),
    _trait("largest_order_value", TraitType.MONEY, "Value of the largest order, before returns"),
    _trait("average_item_price", TraitType.MONEY, "Average price of a piece bought"),
    _trait("items_count", TraitType.INTEGER, "Number of pieces bought", ""),
    _trait("average_items_per_order", TraitType.NUMBER, "Pieces in an average order"),
    _trait("products_count", TraitType.INTEGER, "Number of different products bought", ""),
    _trait("categories_count", TraitType.INTEGER, "Number of different categories bought from", ""),
    _trait("returned_items", TraitType.INTEGER, "Number of pieces that came back", ""),
    _trait("returned_revenue", TraitType.MONEY, "Value of what came back", ""),
    _trait("return_rate", TraitType.NUMBER, "Share of the pieces bought that came back, at most 1"),
    _trait("first_order_date", TraitType.DATE, "Day of the first order"),
    _trait("last_order_date", TraitType.DATE, "Day of the last order"),
    _trait("recency_days", TraitType.INTEGER, "Whole days since the last order"),
    _trait("tenure_days", TraitType.INTEGER, "Whole days since the first order"),
    _trait("mean_gap_days", TraitType.NUMBER, "Average days between two orders", "fewer than two orders"),
    _trait("median_gap_days", TraitType.NUMBER, "Typical days between two orders", "fewer than two orders"),
    _trait(
        "sd_gap_days",
        TraitType.NUMBER,
        "How much the days between two orders vary (standard deviation)",
        "fewer than three orders",
    ),
    *(
        _trait(f"orders_{days}d", TraitType.INTEGER, f"Number of orders in the last {days} days", "")
        for days in WINDOWS
    ),
    *(
        _trait(
            f"revenue_{days}d",
            TraitType.MONEY,
            f"Value bought in the last {days} days, minus what came back in them",
            "",
        )
        for days in WINDOWS
    ),
    _trait("favourite_hour", TraitType.INTEGER, "Hour of the day in which most orders are made, 0 to 23"),
    _trait("favourite_weekday", TraitType.TEXT, "Weekday on which most orders are made"),
    _trait(
        "top_category",
        TraitType.TEXT,
        "Category that most money was spent in",
        "nothing with a category bought",
    ),
    _trait(
        "top_category_share",
        TraitType.NUMBER,
        "Share of the money spent in the top category, 0 to 1",
        "nothing with a category bought",
    ),
    _trait(
        "second_category",
        TraitType.TEXT,
        "Category that second most money was spent in",
        "fewer than two categories bought",
    ),
    _trait(
        "second_category_share",
        TraitType.NUMBER,
        "Share of the money spent in the second category, 0 to 1",
        "fewer than two categories bought",
    ),
    _trait(
        "top_categories",
        TraitType.TEXT_LIST,
        "The three categories that most money was spent in, first the most",
        "nothing with a category bought",
    ),
    _trait("last_product_id", TraitType.TEXT, "Key of the dearest line of the last order"),
    _trait(
        "last_product",
        TraitType.TEXT,
        "Name of the dearest line of the last order",
        "never ordered, or it has no name",
    ),
    _trait(
        "last_category",
        TraitType.TEXT,
        "Category of the dearest line of the last order",
        "never ordered, or it has no category",
    ),
)


def purchase_parts(known: CanonicalTables, as_of: datetime, zone: str) -> tuple[ir.Table, ...]:
    """Give tables keyed by contact_id that hold the traits of PURCHASES; who bought nothing is in none."""
    lines = _lines(known)
    documents = _documents(lines)
    orders = documents.filter(documents.is_order)
    sold = lines.filter(lines.line_kind == LineKind.SALE.value)
    return (
        _totals(documents, as_of, zone),
        _gaps(orders),
        _habits(orders, zone),
        _taste(sold, known.products),
        _last_product(sold, orders, known.products),
    )


def _lines(known: CanonicalTables) -> ir.Table:
    """Give the sales and returns of contacts, with what each is worth."""
    documents = known.orders.filter(known.orders.contact_id.notnull()).select(
        "order_id", "contact_id", "ordered_at"
    )
    items = known.order_items
    lines = items.filter(items.line_kind.isin([LineKind.SALE.value, LineKind.RETURN.value])).inner_join(
        documents, "order_id"
    )
    return lines.select(
        *("order_id", "contact_id", "ordered_at", "line_no", "line_kind", "product_id", "quantity"),
        value=lines.quantity * lines.unit_price,
    )


def _documents(lines: ir.Table) -> ir.Table:
    """Give one row per document: what it sold, and what it took back as numbers below zero."""
    is_sale = lines.line_kind == LineKind.SALE.value
    return lines.group_by("order_id", "contact_id", "ordered_at").aggregate(
        is_order=is_sale.any(),
        sold=_money(lines.value.sum(where=is_sale)),
        pieces=_whole(lines.quantity.sum(where=is_sale)),
        returned=_money(lines.value.sum(where=~is_sale)),
        returned_pieces=_whole(lines.quantity.sum(where=~is_sale)),
    )


def _totals(documents: ir.Table, as_of: datetime, zone: str) -> ir.Table:
    is_order = documents.is_order
    kept = documents.sold + documents.returned
    recent = {days: since(documents.ordered_at, as_of, days) for days in WINDOWS}
    sums = documents.group_by("contact_id").aggregate(
        orders_count=documents.count(where=is_order),
        revenue=_money(kept.sum()),
        sold=documents.sold.sum(),
        items_count=_whole(documents.pieces.sum()),
        largest_order_value=documents.sold.max(where=is_order),
        returned_items=_whole(-documents.returned_pieces.sum()),
        returned_revenue=_money(-documents.returned.sum()),
        **{f"orders_{days}d": documents.count(where=is_order & inside) for days, inside in recent.items()},
        **{f"revenue_{days}d": _money(kept.sum(where=inside)) for days, inside in recent.items()},
        first_at=documents.ordered_at.min(where=is_order),
        last_at=documents.ordered_at.max(where=is_order),
    )
    orders, pieces = sums.orders_count.nullif(0), sums.items_count.nullif(0)
    return sums.mutate(
        average_order_value=sums.sold / orders,
        average_items_per_order=sums.items_count / orders,
        average_item_price=sums.sold / pieces,
        # Where nothing was bought there is no rate; `least` alone would skip the null and say 1.
        return_rate=ibis.ifelse(
            pieces.isnull(), ibis.null(dt.float64), ibis.least(sums.returned_items / pieces, 1.0)
        ),
        first_order_date=local_time(zone, sums.first_at).date(),
        last_order_date=local_time(zone, sums.last_at).date(),
        recency_days=days_since(sums.last_at, as_of),
        tenure_days=days_since(sums.first_at, as_of),
        mean_gap_days=sums.last_at.delta(sums.first_at, unit="microsecond") / (orders - 1).nullif(0) / DAY,
    )


def _gaps(orders: ir.Table) -> ir.Table:
    before = orders.ordered_at.lag().over(
        group_by="contact_id", order_by=[orders.ordered_at, orders.order_id]
    )
    gaps = orders.mutate(gap=orders.ordered_at.delta(before, unit="microsecond"))
    seconds = gaps.gap // 1_000_000
    sums = gaps.group_by("contact_id").aggregate(
        median_gap_days=gaps.gap.median() / DAY,
        gaps=gaps.gap.count(),
        seconds=seconds.sum(),
        squares=(seconds * seconds).sum(),
    )
    # Of whole seconds: sums of DOUBLE depend on the number of threads, and two builds must be equal.
    variance = (sums.gaps * sums.squares - sums.seconds * sums.seconds) / (
        sums.gaps * (sums.gaps - 1)
    ).nullif(0)
    return sums.select("contact_id", "median_gap_days", sd_gap_days=variance.sqrt() / 86_400)


def _habits(orders: ir.Table, zone: str) -> ir.Table:
    """Give the favourite hour and weekday: both are slots of one count, hours 0 to 23 and weekdays from 24."""
    local = local_time(zone, orders.ordered_at)
    slots = ibis.array([local.hour().cast(dt.int64), local.day_of_week.index().cast(dt.int64) + _HOURS])
    counted = (
        orders.select("contact_id", "ordered_at", slot=slots.unnest())
        .group_by("contact_id", "slot")
        .aggregate(times=lambda order: order.count(), latest=lambda order: order.ordered_at.max())
    )
    # No two hours, and no two weekdays, have the same latest order.
    most = ibis.struct({"times": counted.times, "latest": counted.latest})
    is_hour = counted.slot < _HOURS
    best = counted.group_by("contact_id").aggregate(
        favourite_hour=counted.slot.argmax(most, where=is_hour),
        weekday=counted.slot.argmax(most, where=~is_hour),
    )
    return best.mutate(favourite_weekday=ibis.array(list(_WEEKDAYS))[best.weekday - _HOURS]).drop("weekday")


def _taste(sold: ir.Table, products: ir.Table) -> ir.Table:
    bought = sold.group_by("contact_id", "product_id").aggregate(value=sold.value.sum())
    known = bought.left_join(products.select("product_id", "category"), "product_id")
    spent = known.group_by("contact_id", "category").aggregate(
        products=known.count(), value=known.value.sum()
    )
    # A product without a category counts as a product and in no category.
    named = spent.category.notnull()
    ranked = spent.mutate(
        place=ibis.row_number().over(
            group_by="contact_id", order_by=[named.desc(), spent.value.desc(), spent.category.asc()]
        )
    )
    named = ranked.category.notnull()
    first, second = named & (ranked.place == 0), named & (ranked.place == 1)
    sums = ranked.group_by("contact_id").aggregate(
        products_count=_whole(ranked.products.sum()),
        categories_count=ranked.category.count(),
        top_category=ranked.category.max(where=first),
        second_category=ranked.category.max(where=second),
        top_categories=ranked.category.collect(where=named & (ranked.place < 3), order_by=ranked.place),
        first=ranked.value.max(where=first),
        second=ranked.value.max(where=second),
        all=ranked.value.sum(where=named),
    )
    return sums.mutate(
        top_category_share=sums.first / sums.all, second_category_share=sums.second / sums.all
    ).drop("first", "second", "all")


def _last_product(sold: ir.Table, orders: ir.Table, products: ir.Table) -> ir.Table:
    latest = ibis.struct({"at": orders.ordered_at, "number": orders.order_id})
    last_orders = orders.group_by("contact_id").aggregate(order_id=orders.order_id.argmax(latest))
    lines = sold.semi_join(last_orders, "order_id")
    dearest = ibis.struct({"value": lines.value, "line": -lines.line_no})
    last = lines.group_by("contact_id").aggregate(last_product_id=lines.product_id.argmax(dearest))
    named = last.left_join(products, last.last_product_id == products.product_id)
    return named.select(
        "contact_id", "last_product_id", last_product=named.name, last_category=named.category
    )


def _money(amount: ir.NumericValue) -> ir.DecimalValue:
    return amount.fill_null(0).cast(MONEY)


def _whole(total: ir.NumericValue) -> ir.IntegerValue:
    # DuckDB sums BIGINT to HUGEINT, which Ibis takes for int64 and so would not cast, and Parquet keeps as DOUBLE.
    return total.fill_null(0).cast(dt.Decimal(38, 0)).cast(dt.int64)
