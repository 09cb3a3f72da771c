"""Keeps out who was erased: their rows are left out of every table before anything else looks at them.

Lives here: which rows are theirs. Must not: know who was erased; whoever remembers that defines two SQL functions.

A customer is known by contact id and by address, and whatever names such a customer goes too: orders with their lines,
events, consents. The quarantine lists the rows under `erased`, by number and without a value, so that the shop finds
them in its own files.
"""

from collections.abc import Callable, Mapping
from typing import Final

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from . import addresses
from .files import ROW
from .inspection import Inspection

Erased = Callable[[duckdb.DuckDBPyConnection], bool]
"""Defines `is_erased_contact(text)` and `is_erased_address(text)` on a connection, or gives False: nobody was erased.

An address comes to it normalised. Null in, false or null out.
"""

RULE: Final = "erased"
_OF_A_CONTACT: Final = ("orders", "events", "consents")


def _whether(name: str) -> Callable[[ir.Value], ir.BooleanValue]:
    """Name a function of one text that answers yes or no, whose body is whoever remembers."""
    function: Callable[[ir.Value], ir.BooleanValue] = ibis.udf.scalar.builtin(
        lambda _: True, name=name, signature=((dt.string,), dt.boolean)
    )
    return function


_is_erased_contact = _whether("is_erased_contact")
_is_erased_address = _whether("is_erased_address")


def leave_out(con: Backend, staged: Mapping[str, ir.Table], inspection: Inspection) -> dict[str, ir.Table]:
    """Give the staged tables without the rows of who was erased, and list these."""
    found: dict[str, ir.Table] = {}
    gone = None
    for name in ("customers", *_OF_A_CONTACT):
        if name not in staged:
            continue
        rows = staged[name]
        theirs = _is_erased_contact(rows.contact_id).fill_null(False)
        if gone is not None:
            theirs |= rows.contact_id.notnull() & rows.contact_id.isin(gone.contact_id)
        if "email" in rows.columns:
            theirs |= rows[ROW].isin(_at_an_erased_address(con, name, rows)[ROW])
        chosen = rows.filter(theirs)
        found[name] = con.create_table(f"erased_{name}", chosen.select(ROW, *_keys(name)), temp=True)
        if name == "customers":
            gone = found[name]
    if "orders" in found and "order_items" in staged:
        lines = staged["order_items"]
        found["order_items"] = lines.semi_join(found["orders"], "order_id").select(ROW)
    left = dict(staged)
    for name, rows in found.items():
        inspection.flag(RULE, name, rows, value_class="erased")
        left[name] = con.create_table(f"kept_{name}", staged[name].anti_join(rows, ROW), temp=True)
    return left


def _keys(name: str) -> tuple[str, ...]:
    return ("order_id",) if name == "orders" else ("contact_id",) if name == "customers" else ()


def _at_an_erased_address(con: Backend, name: str, rows: ir.Table) -> ir.Table:
    """Give the ROW of every row with an address that was erased, in whatever spelling."""
    spelled = rows.select(ROW, segue_address=addresses.spelled(rows.email))
    texts = con.create_table(
        f"erased_{name}_spellings",
        spelled.filter(spelled.segue_address.notnull()).select(address="segue_address").distinct(),
        temp=True,
    )
    judged = addresses.normalise(texts)
    erased = judged.filter(
        _is_erased_address(ibis.coalesce(judged.normalised, judged.address)).fill_null(False)
    )
    return spelled.semi_join(erased.select(segue_address="address"), "segue_address").select(ROW)
