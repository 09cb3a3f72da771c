"""The traits that events tell of a contact: what was looked at, put in the cart, opened and clicked, and when last.

Lives here: their one definition, as Ibis expressions over facts that are known already. Must not: which facts are
known (`core.data.known`), what customers bought (`purchases.py`).

A count is 0 for a contact who did nothing and null for everybody when the shop has no event of that kind at all: not
measured is not the same as never. A cart is abandoned when 24 hours have passed since something was put in it and the
contact made no order within them. The top category of a window has most events in it, then the latest one, then goes
by name. Windows are half-open: (as_of - n days, as_of].
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import ibis
import ibis.expr.types as ir

from ..data.canonical import CanonicalTables, LineKind
from ..data.instants import days_since, since
from ..model import Trait, TraitType

WINDOWS: Final = (7, 30, 90)
_ABANDONED_AFTER: Final = timedelta(hours=24)

_UNMEASURED: Final = "the shop has no events of this kind"
_COUNTS: Final[Mapping[str, tuple[str, str]]] = {
    "views": ("product_viewed", "Products viewed"),
    "carts": ("cart_added", "Things put in the cart"),
    "opens": ("email_opened", "E-mails opened"),
    "clicks": ("email_clicked", "Clicks in e-mails"),
}
_CATEGORIES: Final[Mapping[str, tuple[str, str]]] = {
    "viewed": ("product_viewed", "Category of most products viewed"),
    "carted": ("cart_added", "Category of most things put in the cart"),
}

ENGAGEMENT: Final[tuple[Trait, ...]] = (
    *(
        Trait(
            name=f"{name}_{days}d",
            type=TraitType.INTEGER,
            description=f"{words} in the last {days} days",
            null_means=_UNMEASURED,
        )
        for name, (_, words) in _COUNTS.items()
        for days in WINDOWS
    ),
    *(
        Trait(
            name=f"abandoned_carts_{days}d",
            type=TraitType.INTEGER,
            description=f"Things put in the cart in the last {days} days without an order in the 24 hours after",
            null_means=_UNMEASURED,
        )
        for days in WINDOWS
    ),
    *(
        Trait(
            name=f"{name}_category_{days}d",
            type=TraitType.TEXT,
            description=f"{words} in the last {days} days",
            null_means="none in this time",
        )
        for name, (_, words) in _CATEGORIES.items()
        for days in WINDOWS
    ),
    Trait(
        name="last_seen_at",
        type=TraitType.TIMESTAMP,
        description="When the contact last did anything that the shop recorded as an event",
        null_means="no event",
    ),
    Trait(
        name="last_seen_days",
        type=TraitType.INTEGER,
        description="Whole days since the contact last did anything that the shop recorded as an event",
        null_means="no event",
    ),
)

# Which events a count is of: 0 for who did nothing, null for all when the shop has no such events.
COUNTED: Final[Mapping[str, str]] = {
    **{f"{name}_{days}d": event for name, (event, _) in _COUNTS.items() for days in WINDOWS},
    **{f"abandoned_carts_{days}d": "cart_added" for days in WINDOWS},
}


def engagement_parts(known: CanonicalTables, as_of: datetime) -> tuple[ir.Table, ...]:
    """Give tables keyed by contact_id that hold traits of ENGAGEMENT; who did nothing is in none."""
    return _counts(known.events, as_of), _abandoned(known, as_of), _categories(known, as_of)


def _counts(events: ir.Table, as_of: datetime) -> ir.Table:
    return (
        events.group_by("contact_id")
        .aggregate(
            last_seen_at=events.occurred_at.max(),
            **{
                f"{name}_{days}d": events.count(
                    where=(events.event_type == event) & since(events.occurred_at, as_of, days)
                )
                for name, (event, _) in _COUNTS.items()
                for days in WINDOWS
            },
        )
        .mutate(last_seen_days=lambda counted: days_since(counted.last_seen_at, as_of))
    )


def _abandoned(known: CanonicalTables, as_of: datetime) -> ir.Table:
    oldest, newest = as_of - timedelta(days=max(WINDOWS)), as_of - _ABANDONED_AFTER
    events = known.events
    carts = events.filter(
        (events.event_type == "cart_added")
        & (events.occurred_at > ibis.literal(oldest))
        & (events.occurred_at <= ibis.literal(newest))
    )
    sold = known.order_items.filter(known.order_items.line_kind == LineKind.SALE.value)
    orders = known.orders.semi_join(sold, "order_id").filter(known.orders.ordered_at > ibis.literal(oldest))
    left = carts.anti_join(
        orders,
        [
            carts.contact_id == orders.contact_id,
            orders.ordered_at >= carts.occurred_at,
            orders.ordered_at <= carts.occurred_at + ibis.interval(_ABANDONED_AFTER),
        ],
    )
    return left.group_by("contact_id").aggregate(
        [
            left.count(where=since(left.occurred_at, as_of, days)).name(f"abandoned_carts_{days}d")
            for days in WINDOWS
        ]
    )


def _categories(known: CanonicalTables, as_of: datetime) -> ir.Table:
    kinds = [event for event, _ in _CATEGORIES.values()]
    products = known.products.filter(known.products.category.notnull()).select("product_id", "category")
    events = known.events.filter(
        known.events.event_type.isin(kinds) & since(known.events.occurred_at, as_of, max(WINDOWS))
    ).inner_join(products, "product_id")
    counted = events.group_by("contact_id", "event_type", "category").aggregate(
        latest=events.occurred_at.max(),
        **{f"n_{days}": events.count(where=since(events.occurred_at, as_of, days)) for days in WINDOWS},
    )
    ranked = counted.mutate(
        **{
            f"is_top_{days}": (counted[f"n_{days}"] > 0)
            & (
                ibis.row_number().over(
                    group_by=["contact_id", "event_type"],
                    order_by=[counted[f"n_{days}"].desc(), counted.latest.desc(), counted.category.asc()],
                )
                == 0
            )
            for days in WINDOWS
        }
    )
    return ranked.group_by("contact_id").aggregate(
        **{
            f"{name}_category_{days}d": ranked.category.max(
                where=(ranked.event_type == event) & ranked[f"is_top_{days}"]
            )
            for name, (event, _) in _CATEGORIES.items()
            for days in WINDOWS
        }
    )
