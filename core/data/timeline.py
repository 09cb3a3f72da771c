"""One timeline of everything a contact did: the shop's events, and the orders told as events.

Rules and event features read this table and no other. Nothing here knows as_of: whoever reads it says up to when.

Decision: orders of guests are not on the timeline, and neither is what a customer did not really buy (fees, gifts,
write-offs, lines taken back whole): an order counts as placed when at least one of its lines is a sale.
"""

import ibis
import ibis.expr.types as ir

from .canonical import MONEY, TIMESTAMP, CanonicalTables, LineKind


def timeline(tables: CanonicalTables) -> ir.Table:
    """Give (contact_id, event_type, occurred_at, product_id, category, url, campaign_id, quantity, amount), unsorted.

    `order_placed` is one per order, `product_bought` one per line, `order_cancelled` one per cancellation; quantity
    and amount are positive there and null for every other event. The category is the product's of today.
    """
    categories = tables.products.select("product_id", "category").distinct(on="product_id", keep="first")
    orders = tables.orders.filter(tables.orders.contact_id.notnull()).select(
        "order_id", "contact_id", "ordered_at", "kind"
    )
    lines = tables.order_items.join(orders, "order_id").mutate(
        amount=lambda line: (line.quantity * line.unit_price).cast(MONEY)
    )
    sales = lines.filter(lines.line_kind == LineKind.SALE.value, lines.kind == "order")
    taken_back = lines.filter(
        lines.line_kind.isin([LineKind.REVERSAL.value, LineKind.RETURN.value]), lines.kind == "cancellation"
    )
    return ibis.union(
        _shaped(
            tables.events.left_join(categories, "product_id").mutate(quantity=_NO_NUMBER, amount=_NO_MONEY)
        ),
        _shaped(
            sales.left_join(categories, "product_id").mutate(
                event_type=ibis.literal("product_bought"),
                occurred_at=sales.ordered_at,
                url=_NO_TEXT,
                campaign_id=_NO_TEXT,
            )
        ),
        _shaped(_documents(sales, "order_placed")),
        _shaped(_documents(taken_back, "order_cancelled")),
    )


_NO_TEXT = ibis.null("string")
_NO_NUMBER = ibis.null("int64")
_NO_MONEY = ibis.null(MONEY)


def _documents(lines: ir.Table, event_type: str) -> ir.Table:
    """Tell each order as one event. A cancellation's negative sums become the pieces and money given back."""
    return lines.group_by("order_id", "contact_id", "ordered_at").agg(
        quantity=lines.quantity.sum().abs(), amount=lines.amount.sum().abs()
    ).mutate(
        event_type=ibis.literal(event_type),
        product_id=_NO_TEXT,
        category=_NO_TEXT,
        url=_NO_TEXT,
        campaign_id=_NO_TEXT,
    ).rename(occurred_at="ordered_at")  # fmt: skip


def _shaped(table: ir.Table) -> ir.Table:
    return table.select(
        "contact_id",
        "event_type",
        occurred_at=table.occurred_at.cast(TIMESTAMP),
        product_id=table.product_id,
        category=table.category,
        url=table.url,
        campaign_id=table.campaign_id,
        quantity=table.quantity.cast("int64"),
        amount=table.amount.cast(MONEY),
    )
