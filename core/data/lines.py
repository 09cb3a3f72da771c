"""What each order line is: a sale, a sale taken back, a return, a fee, a gift or bookkeeping.

Lives here: the one definition of LineKind, set-wise. Must not: leave a line out or change one.

The first that fits:

1. FEE: the product is not merchandise.
2. ADJUSTMENT: the price is below zero, the document is bookkeeping, or the sign of the quantity does not fit the
   document (pieces written off in an order, pieces sold in a cancellation).
3. REVERSAL, in a cancellation: takes back a whole earlier line of the same contact, same product, same quantity.
   RETURN: any other line of a cancellation.
4. FREE: the price is zero.
5. REVERSED: a line that a REVERSAL took back. SALE: all else.

A reversal takes back the latest such line that is not taken back yet, and each takes back at most one: within contact,
product and quantity, sales open brackets and reversals close them. The loser was to pair the n-th sale with the n-th
reversal; one cancellation whose sale lies before the data then shifts every pair after it. Guests have nobody to match
by, so their cancelled lines are returns.

The time that counts is `as_of`: a sale that is cancelled only later is still a sale, or the past would know the future.
"""

from datetime import datetime

import ibis
import ibis.expr.types as ir

from .canonical import LineKind


def classify(
    order_items: ir.Table, orders: ir.Table, products: ir.Table, *, as_of: datetime | None = None
) -> ir.Table:
    """Give the order lines with their `line_kind`, whatever they had before. `as_of` None: all that is known counts."""
    columns = [column for column in order_items.columns if column != "line_kind"]
    lines = (
        order_items.select(columns)
        .left_join(orders.select("order_id", "contact_id", "ordered_at", "kind"), "order_id")
        .drop("order_id_right")
        .left_join(products.select("product_id", "is_merchandise"), "product_id")
        .drop("product_id_right")
    )
    lines = lines.mutate(cancels=lines.kind == "cancellation", is_fee=~lines.is_merchandise.fill_null(True))
    lines = lines.mutate(
        is_bookkeeping=(lines.unit_price < 0)
        | (lines.kind == "adjustment")
        | (lines.cancels != (lines.quantity < 0))
    )
    pairs = _pairs(lines, as_of)
    lines = lines.left_join(pairs, ["order_id", "line_no"], rname="pair_{name}")
    is_paired = lines.pair_order_id.notnull()
    kind = ibis.cases(
        (lines.is_fee, LineKind.FEE.value),
        (lines.is_bookkeeping, LineKind.ADJUSTMENT.value),
        (is_paired & lines.cancels, LineKind.REVERSAL.value),
        (lines.cancels, LineKind.RETURN.value),
        (lines.unit_price == 0, LineKind.FREE.value),
        (is_paired, LineKind.REVERSED.value),
        else_=LineKind.SALE.value,
    )
    return lines.select(*columns, line_kind=kind)


def _pairs(lines: ir.Table, as_of: datetime | None) -> ir.Table:
    """Give (order_id, line_no) of every sale that was taken back and of the line that did it."""
    able = lines.filter(
        lines.contact_id.notnull(),
        ~lines.is_fee,
        ~lines.is_bookkeeping,
        lines.cancels | (lines.unit_price > 0),
        ibis.literal(True) if as_of is None else lines.ordered_at <= as_of,
    ).select(
        "contact_id",
        "product_id",
        "ordered_at",
        "order_id",
        "line_no",
        "cancels",
        pieces=lines.quantity.abs(),
    )
    # Few lines share contact, product and quantity with a cancellation: only those are worth sorting.
    alike = ["contact_id", "product_id", "pieces"]
    able = able.semi_join(able.filter(able.cancels), alike)
    # In one minute the sale comes first: many exports have no seconds.
    order = [able.ordered_at, able.cancels, able.order_id, able.line_no]
    running = ibis.cumulative_window(group_by=alike, order_by=order)
    able = able.mutate(height=able.cancels.ifelse(-1, 1).sum().over(running))
    able = able.mutate(floor=ibis.least(able.height.min().over(running), 0))
    # A reversal with nothing left to take back lowers the floor. Above it, a sale opens the level that it reaches
    # and a reversal closes the level that it leaves.
    able = able.mutate(level=able.height - able.floor + able.cancels.cast("int64"))
    within = ibis.window(group_by=[*alike, "level"], order_by=order)
    able = able.mutate(
        closed_next=able.cancels.lead().over(within), opened_before=~able.cancels.lag().over(within)
    )
    return able.filter(able.cancels.ifelse(able.opened_before, able.closed_next)).select(
        "order_id", "line_no"
    )
