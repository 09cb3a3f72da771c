"""The named rules that data is held against: what each one means and what happens to a row that breaks it.

Lives here: names, words, levels. Must not: a query, a table, a source (`core.data.inspection` and `ingest` apply them).

A rule stands at one of three levels. `refuse` lists the row in the quarantine and counts it towards
`quality.max_rejected_share`; `warn` lists it and does not count it; `off` does not look at it. Refusing is not always
losing: a customer with a broken address stays a customer without one, because orders and withdrawals hang on the
person. The loser was to drop the whole row at each broken value; a typing error in a birth date would have cost a
customer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ..config import Project, RuleAction, suggest
from ..errors import ConfigError, Problem


class Effect(StrEnum):
    """What becomes of the row."""

    ROW = "row left out"
    VALUE = "value left out"
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `refused` and `warned` say what happens to a row at these two levels.

    A rule that leaves the row out even at `warn` cannot be off: no row disappears without a trace.
    """

    name: str
    level: RuleAction
    refused: Effect
    warned: Effect
    description: str

    @property
    def can_be_off(self) -> bool:
        """Whether the row can stay as it is."""
        return self.warned is not Effect.ROW


# fmt: off
_TABLE: Final[tuple[tuple[str, RuleAction, Effect, Effect, str], ...]] = (
    # name, level by default, effect at refuse, effect at warn, meaning
    ("unreadable_row", "refuse", Effect.ROW, Effect.ROW,
     "The line is not CSV or JSON as it should be."),
    ("missing_key", "refuse", Effect.ROW, Effect.ROW,
     "The row does not say whose or which it is."),
    ("missing_value", "refuse", Effect.ROW, Effect.ROW,
     "A value without which the row means nothing is empty."),
    ("wrong_type", "refuse", Effect.VALUE, Effect.VALUE,
     "The value is not of the column's type. A row that cannot do without it is left out."),
    ("duplicate_key", "refuse", Effect.ROW, Effect.ROW,
     "Several rows have one key: the newest by updated_at stays, else the last one read."),
    ("duplicate_event", "warn", Effect.ROW, Effect.ROW,
     "An event came more than once, as deliveries repeat: the last one stays."),
    ("exact_duplicate_line", "refuse", Effect.ROW, Effect.KEPT,
     "An order has the same product, quantity and price twice: the first line stays."),
    ("invalid_email", "refuse", Effect.VALUE, Effect.VALUE,
     "The address cannot be one. The row stays, without an address."),
    ("order_without_customer", "refuse", Effect.ROW, Effect.VALUE,
     "The order names an unknown customer. At warn it becomes a guest's order."),
    ("item_without_order", "refuse", Effect.ROW, Effect.ROW,
     "The line belongs to no order that was accepted."),
    ("item_without_product", "warn", Effect.ROW, Effect.KEPT,
     "The line names an unknown product. Kept, it counts as merchandise without a category."),
    ("event_without_customer", "warn", Effect.ROW, Effect.ROW,
     "The event names nobody or an unknown customer."),
    ("product_without_price", "warn", Effect.ROW, Effect.KEPT,
     "The list price of merchandise is missing or not above zero."),
    ("impossible_quantity", "refuse", Effect.ROW, Effect.KEPT,
     "The quantity is zero or beyond a million pieces."),
    ("impossible_amount", "refuse", Effect.ROW, Effect.ROW,
     "The line is worth more than a million million: sums of such amounts have no room."),
    ("impossible_birth_date", "refuse", Effect.VALUE, Effect.VALUE,
     "The birth date is in the future or before 1900."),
    ("unknown_kind", "refuse", Effect.ROW, Effect.ROW,
     "The kind of document is none of order, cancellation and adjustment."),
    ("unknown_country", "warn", Effect.VALUE, Effect.VALUE,
     "The country is none that CLDR knows in one of the languages read."),
    ("unknown_currency", "refuse", Effect.VALUE, Effect.VALUE,
     "The currency is no ISO 4217 code."),
    ("country_currency", "warn", Effect.ROW, Effect.KEPT,
     "The currency is neither the country's nor the shop's."),
    ("future_date", "warn", Effect.ROW, Effect.KEPT,
     "The row is dated after the moment of the build."),
    ("future_grant", "refuse", Effect.ROW, Effect.ROW,
     "A consent that would raise somebody is dated after the moment of the build."),
    ("unknown_act", "refuse", Effect.KEPT, Effect.KEPT,
     "What the person did is no word that is known. It is read as a withdrawal."),
    ("withdrawal_without_time", "warn", Effect.KEPT, Effect.KEPT,
     "A withdrawal or suppression has no readable time. It counts from the moment of the build."),
    ("grant_without_evidence", "warn", Effect.ROW, Effect.KEPT,
     "A grant without evidence is kept and counts for nothing."),
    ("erased", "warn", Effect.ROW, Effect.ROW,
     "The row is about somebody who was erased with `segue forget`."),
)
# fmt: on

RULES: Final[Mapping[str, Rule]] = {
    name: Rule(name=name, level=level, refused=refused, warned=warned, description=description)
    for name, level, refused, warned, description in _TABLE
}

# Turning these off would let somebody be mailed who said no, or hide that we read it so.
_ALWAYS_ON: Final = frozenset({"unknown_act", "withdrawal_without_time"})


def levels(project: Project) -> Mapping[str, RuleAction]:
    """Give the level of every rule in this project. Raises ConfigError for unknown rules and impossible levels."""
    problems = list(check_levels(project))
    if problems:
        raise ConfigError.of(problems)
    defaults: dict[str, RuleAction] = {name: rule.level for name, rule in RULES.items()}
    return {**defaults, **project.quality.rules}


def check_levels(project: Project) -> Iterator[Problem]:
    """Give what is wrong with `quality.rules`."""
    for name, level in project.quality.rules.items():
        where = project.place("quality", "rules", name)
        if name not in RULES:
            hint = suggest(name, RULES) or f"The rules are {', '.join(sorted(RULES))}."
            yield Problem(where=where, message=f'quality.rules: there is no rule "{name}".', next_step=hint)
        elif level == "off" and (not RULES[name].can_be_off or name in _ALWAYS_ON):
            message = f"quality.rules.{name}: this rule cannot be off, what it finds would vanish unseen."
            yield Problem(where=where, message=message, next_step='Write "warn": listed, not counted.')
