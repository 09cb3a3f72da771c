"""Every trait that a build computes for each contact, and the one function that computes them.

Lives here: the list, and the join onto customers. Must not: any trait's definition, sources, rules, scores.

Everything is computed for an instant, `as_of`, from facts at or before it (`core.data.known`): the same definition
serves tonight's sync, a rule's history and the training of a model. One contact is one customer: guests are none.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final

import ibis
import ibis.expr.types as ir

from ..data.canonical import CUSTOMERS, CanonicalTables
from ..data.known import known_at
from ..data.staging import TRAIT_TYPES
from ..model import Trait, TraitType
from .engagement import COUNTED, ENGAGEMENT, engagement_parts
from .person import PERSON, person_part
from .purchases import PURCHASES, purchase_parts

FEATURES: Final[tuple[Trait, ...]] = (*PERSON, *PURCHASES, *ENGAGEMENT)

# What a sum or a count is for a contact of whom no fact is known.
_ZERO_WHEN_ABSENT: Final = frozenset(
    trait.name
    for trait in PURCHASES
    if trait.type in {TraitType.INTEGER, TraitType.MONEY} and not trait.null_means
)


def compute(tables: CanonicalTables, as_of: datetime, *, timezone: str = "UTC") -> ir.Table:
    """Give contact_id and the traits of FEATURES, one row per customer.

    `timezone` is the shop's: its days, hours and weekdays are meant. `as_of` must know its own. Asks the backend at
    once which types of events there are; all else is computed when the result is read.
    """
    known = known_at(tables, as_of)
    event_types = known.events.select("event_type").distinct().to_pyarrow()["event_type"].to_pylist()
    parts = purchase_parts(known, as_of, timezone)
    if event_types:
        parts += engagement_parts(known, as_of)
    joined = person_part(known, as_of, timezone)
    for number, part in enumerate(parts):
        joined = joined.left_join(part, "contact_id", rname=f"{{name}}_{number}")
    return joined.select("contact_id", *(_value(joined, trait, event_types) for trait in FEATURES))


def _value(joined: ir.Table, trait: Trait, event_types: Collection[str]) -> ir.Value:
    kind = TRAIT_TYPES[trait.type]
    if trait.name not in joined.columns:
        return ibis.null(kind).name(trait.name)
    value = joined[trait.name]
    if COUNTED.get(trait.name) in event_types or trait.name in _ZERO_WHEN_ABSENT:
        value = value.fill_null(0)
    elif trait.name in COUNTED:
        value = ibis.null(kind)
    return value.cast(kind).name(trait.name)


def customer_traits() -> tuple[Trait, ...]:
    """Describe the columns of customers that are traits as they stand."""
    computed = {trait.name for trait in FEATURES}
    by_type = {type_: kind for kind, type_ in TRAIT_TYPES.items()}
    return tuple(
        Trait(
            name=column.name,
            type=by_type[column.type],
            description=column.description[0].upper() + column.description[1:],
            null_means="" if column.required else "the shop did not record it",
        )
        for column in CUSTOMERS
        if column.name not in computed
    )
