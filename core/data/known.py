"""The shop's data as it was known at an instant: the guard against the future that all computation stands behind.

Lives here: which facts count at `as_of`, and how a line is undone whose fate was decided later. Must not: any trait.

`LineKind.REVERSED` is hindsight, as the cancellation came after the sale: such a line is a sale for as long as its
cancellation lies in the future. `core.data.lines` pairs the two like brackets, so which pairs are closed at an instant
depends on what came before it alone, and no line needs to be classified anew. Customers and products have no history;
they are as they are.
"""

from dataclasses import replace
from datetime import datetime

import ibis
import ibis.expr.types as ir

from .canonical import CanonicalTables, LineKind


def known_at(tables: CanonicalTables, as_of: datetime) -> CanonicalTables:
    """Give the tables with only the facts at or before `as_of`, which must know its time zone."""
    instant = ibis.literal(as_of)
    orders = tables.orders.filter(tables.orders.ordered_at <= instant)
    return replace(
        tables,
        orders=orders,
        order_items=_lines(tables.order_items, orders),
        events=tables.events.filter(tables.events.occurred_at <= instant),
        consents=tables.consents.filter(tables.consents.occurred_at <= instant),
    )


def _lines(items: ir.Table, orders: ir.Table) -> ir.Table:
    """Keep the lines of known orders; a sale that nobody has taken back yet is a sale."""
    lines = items.semi_join(orders, "order_id")
    marked = lines.left_join(_open_sales(items, orders), ["order_id", "line_no"], rname="{name}_open")
    kind = ibis.ifelse(marked.order_id_open.notnull(), LineKind.SALE.value, marked.line_kind)
    return marked.mutate(line_kind=kind).select(items.columns)


def _open_sales(items: ir.Table, orders: ir.Table) -> ir.Table:
    """Give (order_id, line_no) of the sales that will be taken back, and are not yet."""
    undone = (
        items.filter(items.line_kind.isin([LineKind.REVERSED.value, LineKind.REVERSAL.value]))
        .inner_join(orders.select("order_id", "contact_id", "ordered_at"), "order_id")
        .mutate(closes=lambda line: line.line_kind == LineKind.REVERSAL.value)
    )
    order = [undone.ordered_at, undone.closes, undone.order_id, undone.line_no]
    alike = [undone.contact_id, undone.product_id, undone.quantity.abs()]
    nested = undone.mutate(
        depth=undone.closes.ifelse(-1, 1).sum().over(group_by=alike, order_by=order, rows=(None, 0))
    )
    order = [nested.ordered_at, nested.closes, nested.order_id, nested.line_no]
    alike = [nested.contact_id, nested.product_id, nested.quantity.abs()]
    # A bracket is closed when the depth falls below its own later on.
    lowest = nested.depth.min().over(group_by=alike, order_by=order, rows=(0, None))
    ended = nested.mutate(is_open=~nested.closes & (lowest >= nested.depth))
    return ended.filter(ended.is_open).select("order_id", "line_no")
