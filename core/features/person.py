"""The traits of the person: where from, how old, how long known to the shop.

Lives here: their one definition, as Ibis expressions over facts that are known already. Must not: columns of customers
that are traits as they stand (`compute.customer_traits`).
"""

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..data.canonical import CanonicalTables
from ..data.instants import days_since
from ..model import Trait, TraitType

PERSON: Final[tuple[Trait, ...]] = (
    Trait(
        name="country",
        type=TraitType.TEXT,
        description="Country of the customer, else of the last delivery (ISO 3166 code)",
        null_means="unknown",
    ),
    Trait(name="age_years", type=TraitType.INTEGER, description="Age in years", null_means="no birth date"),
    Trait(
        name="account_age_days",
        type=TraitType.INTEGER,
        description="Whole days since the shop first knew the person",
        null_means="the shop did not record it",
    ),
)


def person_part(known: CanonicalTables, as_of: datetime, zone: str) -> ir.Table:
    """Give contact_id and the traits of PERSON, one row per customer."""
    orders = known.orders.filter(known.orders.contact_id.notnull() & known.orders.country.notnull())
    ranked = orders.mutate(
        place=ibis.row_number().over(
            group_by="contact_id", order_by=[orders.ordered_at.desc(), orders.order_id.desc()]
        )
    )
    delivered = ranked.filter(ranked.place == 0).select("contact_id", delivered_to=ranked.country)
    customers = known.customers.left_join(delivered, "contact_id", rname="{name}_delivered")
    today = as_of.astimezone(ZoneInfo(zone)).date()
    birthday = customers.birth_date.month() * 100 + customers.birth_date.day()
    birthday_to_come = (birthday > today.month * 100 + today.day).cast(dt.int64)
    return customers.select(
        "contact_id",
        country=ibis.coalesce(customers.country, customers.delivered_to),
        age_years=today.year - customers.birth_date.year() - birthday_to_come,
        # Whoever came later was not known yet.
        account_age_days=ibis.ifelse(
            customers.created_at <= ibis.literal(as_of),
            days_since(customers.created_at, as_of),
            ibis.null(dt.int64),
        ),
    )
