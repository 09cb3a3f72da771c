"""How an expression reckons with instants: whole days since, the last so many days, the shop's clock on the wall.

Lives here: what these mean, once, for traits and for rules. Must not: any trait, rule or table.
"""

from datetime import datetime, timedelta
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

DAY: Final = 86_400_000_000  # microseconds


@ibis.udf.scalar.builtin(name="timezone", signature=((dt.string, dt.Timestamp(timezone="UTC")), dt.timestamp))
def local_time(zone: str, at: ir.TimestampValue) -> ir.TimestampValue:
    """Give the wall clock of a time zone at an instant."""


def days_since(at: ir.TimestampValue, as_of: datetime) -> ir.IntegerValue:
    """Give whole periods of 24 hours: `days_since >= 90` is exactly "not in the last 90 days"."""
    elapsed: ir.IntegerValue = ibis.literal(as_of).delta(at, unit="microsecond")
    return (elapsed // DAY).cast(dt.int64)


def since(at: ir.TimestampValue, as_of: datetime, days: int) -> ir.BooleanValue:
    """Say whether an instant that is known lies in the last `days` days."""
    return at > ibis.literal(as_of - timedelta(days=days))
