"""What a build is told of contacts from elsewhere than the shop's sources: values and events that destinations know.

The shape alone lives here; who read them and where they are kept is none of core's business.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from .data.canonical import CanonicalTables
from .model import Trait


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntTables:
    """Facts up to the moment of the build, by contact.

    `values`: contact_id, destination, tag, trait, value, changed_at; a later one of a trait counts. `events` are
    canonical ones.
    """

    values: ir.Table
    events: ir.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What there is: traits, each a text, and how to read their values into an engine that has the table `customers`."""

    traits: tuple[Trait, ...]
    read: Callable[[Backend, datetime], LearntTables]


def with_events(tables: CanonicalTables, told: LearntTables) -> ir.Table:
    """Give the events of the sources and the learnt ones as one table."""
    return ibis.union(tables.events, told.events.select(tables.events.columns))


def with_values(customers: ir.Table, traits: tuple[Trait, ...], told: LearntTables) -> ir.Table:
    """Give customers with a column for each learnt trait."""
    if not traits:
        return customers
    values = told.values
    newest = values.group_by("contact_id").agg(
        **{
            trait.name: values["value"].argmax(values["changed_at"], where=values["trait"] == trait.name)
            for trait in traits
        }
    )
    return customers.left_join(newest, "contact_id").drop("contact_id_right")
