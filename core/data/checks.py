"""The rules applied, a table at a time: what leaves, what is emptied, what is only said.

Lives here: the question behind each name of `core.data.rules`, in Ibis. Must not: read a source or cast a value.

Each function takes a staged table and gives the accepted rows. Consent is read so that a mistake never
mails anybody: an act that is no known word is a withdrawal, a withdrawal without a readable time happened by now, and
a grant from the future is refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from ..config import Project
from ..consent import ConsentAct
from . import addresses, geography
from .canonical import TABLES, TIMESTAMP
from .casting import value_class
from .files import ROW
from .identity import point_to_survivor
from .inspection import Inspection

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "customers": ("contact_id",),
    "products": ("product_id",),
    "orders": ("order_id",),
    "order_items": ("order_id", "line_no"),
    "events": ("event_id",),
}
# Filled in when empty.
_FILLED: Final[Mapping[str, Mapping[str, object]]] = {
    "products": {"is_merchandise": True},
    "orders": {"kind": "order"},
}
_ORDER_KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("order", "sale", "invoice", "purchase"), "order"),
    **dict.fromkeys(
        ("cancellation", "cancelled", "refund", "return", "credit", "credit_note", "storno"), "cancellation"
    ),
    **dict.fromkeys(("adjustment", "correction"), "adjustment"),
}
_ACTS: Final[Mapping[str, ConsentAct]] = {
    **dict.fromkeys(
        ("grant", "granted", "subscribe", "subscribed", "opt_in", "optin", "confirmed"), ConsentAct.GRANT
    ),
    **dict.fromkeys(("request", "requested", "pending"), ConsentAct.REQUEST),
    **dict.fromkeys(
        (
            "withdrawal",
            "withdrawn",
            "withdraw",
            "unsubscribe",
            "unsubscribed",
            "opt_out",
            "optout",
            "revoked",
        ),
        ConsentAct.WITHDRAWAL,
    ),
    **dict.fromkeys(
        (
            "suppression",
            "suppressed",
            "bounce",
            "bounced",
            "cleaned",
            "complaint",
            "complained",
            "spam",
            "erased",
        ),
        ConsentAct.SUPPRESSION,
    ),
    **dict.fromkeys(("release", "released"), ConsentAct.RELEASE),
}
RAISING: Final = frozenset(
    word for word, act in _ACTS.items() if act not in {ConsentAct.WITHDRAWAL, ConsentAct.SUPPRESSION}
)
"""The words for acts that do not stop mail; any other word, known or not, does."""

_MOST_PIECES: Final = 1_000_000
_HIGHEST_AMOUNT: Final = 1e12  # of a line; sums are decimals with 14 digits before the point
_EARLIEST_BIRTH: Final = 1900


class Checks:
    """The rules of one ingest. `as_of` is the moment of the build."""

    def __init__(self, con: Backend, project: Project, inspection: Inspection, as_of: datetime) -> None:
        self._con = con
        self._project = project
        self._inspection = inspection
        self._as_of = ibis.literal(as_of, TIMESTAMP)

    def customers(self, staged: ir.Table) -> ir.Table:
        """Check customers. A country is filled in only where the shop gave none at all."""
        rows = self._with_country(self._keyed("customers", staged))
        if self._project.country is not None:
            rows = rows.mutate(country=rows.segue_given.ifelse(rows.country, self._project.country))
        rows = self._with_currency(rows)
        rows = self._with_address("customers", rows)
        rows = rows.mutate(gender=rows.gender.lower(), language=rows.language.replace("_", "-"))
        rows = self._hold("customers", rows)
        impossible = (rows.birth_date.year() < _EARLIEST_BIRTH) | (rows.birth_date > self._as_of.date())
        self._ask(
            "customers",
            rows,
            *self._questions_of_places(rows),
            _Question("impossible_birth_date", impossible, "birth_date", "date"),
            self._is_future(rows.created_at),
        )
        rows = rows.mutate(birth_date=impossible.ifelse(ibis.null(dt.date), rows.birth_date))
        self._flag_foreign_currency("customers", rows)
        return self._finished("customers", rows)

    def products(self, staged: ir.Table) -> ir.Table:
        """Check products. A price without a currency is in the shop's."""
        rows = self._keyed("products", staged)
        rows = self._with_currency(rows, default=self._project.currency)
        rows = self._hold("products", rows)
        unpriced = rows.is_merchandise & ~(rows.price > 0).fill_null(False)
        self._ask(
            "products",
            rows,
            *self._questions_of_places(rows),
            _Question("product_without_price", unpriced, "price", _sign(rows.price)),
        )
        return self._finished("products", rows)

    def orders(self, staged: ir.Table, customers: ir.Table, identity: ir.Table) -> ir.Table:
        """Check orders against the customers that were accepted. Orders of merged customers go to the survivor."""
        rows = self._keyed("orders", staged)
        rows = self._with_country(rows)
        rows = self._with_currency(rows, default=self._project.currency)
        rows = rows.mutate(segue_kind=_word(rows.kind))
        rows = rows.mutate(kind=_translated(rows.segue_kind, _ORDER_KINDS))
        rows = point_to_survivor(rows, identity)
        known = customers.select(segue_known=customers.contact_id)
        rows = self._hold("orders", rows.left_join(known, rows.contact_id == known.segue_known))
        unknown = rows.contact_id.notnull() & rows.segue_known.isnull()
        self._ask(
            "orders",
            rows,
            *self._questions_of_places(rows),
            _Question("unknown_kind", rows.kind.isnull(), "kind", "unknown word"),
            _Question("order_without_customer", unknown, "contact_id", "unknown key"),
            self._is_future(rows.ordered_at),
        )
        self._flag_foreign_currency("orders", rows)
        return self._finished("orders", rows.mutate(contact_id=rows.segue_known))

    def order_items(self, staged: ir.Table, orders: ir.Table, products: ir.Table) -> ir.Table:
        """Check order lines against the orders and products that were accepted."""
        rows = self._keyed("order_items", staged)
        same = ["order_id", "product_id", "quantity", "unit_price"]
        repeated = (
            rows.group_by(same)
            .agg(segue_first=rows[ROW].min(), n=rows.count())
            .filter(lambda line: line.n > 1)
        )
        again = rows.join(repeated, same)
        again = again.filter(again[ROW] > again.segue_first)
        self._inspection.flag("exact_duplicate_line", "order_items", again, value_class="repeated line")
        for rule, others, key in (
            ("item_without_order", orders, "order_id"),
            ("item_without_product", products, "product_id"),
        ):
            lost = rows.anti_join(others, key)
            self._inspection.flag(rule, "order_items", lost, column=key, value_class="unknown key")
        # Not by abs(), which the lowest of all integers does not have.
        impossible = (rows.quantity == 0) | ~rows.quantity.between(-_MOST_PIECES, _MOST_PIECES)
        amount = rows.quantity.cast("float64") * rows.unit_price.cast("float64")
        self._ask(
            "order_items",
            rows,
            _Question("impossible_quantity", impossible, "quantity", _sign(rows.quantity)),
            _Question("impossible_amount", amount.abs() > _HIGHEST_AMOUNT, "unit_price", "number"),
        )
        return self._finished("order_items", rows)

    def events(self, staged: ir.Table, customers: ir.Table, identity: ir.Table) -> ir.Table:
        """Check events. One without an id of its own is known by all that it says."""
        what = ["contact_id", "event_type", "occurred_at", "product_id", "url", "campaign_id"]
        said = ibis.literal("|").join([staged[column].cast("string").fill_null("") for column in what])
        rows = staged.mutate(
            event_id=staged.event_id.fill_null(said.hexdigest("md5")),
            event_type=_word(staged.event_type),
        )
        rows = point_to_survivor(rows, identity)
        rows = self._keyed("events", rows, spared=("contact_id",), repeated="duplicate_event")
        lost = rows.anti_join(customers, "contact_id")
        self._inspection.flag(
            "event_without_customer", "events", lost, column="contact_id", value_class="unknown key"
        )
        self._ask("events", rows, self._is_future(rows.occurred_at))
        return self._finished("events", rows)

    def consents(self, staged: ir.Table, identity: ir.Table) -> ir.Table:
        """Check consents, always on the side that mails less. `evidence` becomes a JSON object of texts."""
        rows = self._inspection.accepted("consents", staged)
        rows = self._with_address("consents", rows).mutate(
            channel=_word(rows.channel.fill_null("email")),
            purpose=_word(rows.purpose.fill_null("marketing")),
            evidence=_evidence(rows.evidence),
            segue_act=_translated(_word(rows.act), {word: act.value for word, act in _ACTS.items()}),
        )
        rows = rows.mutate(act=rows.segue_act.fill_null(ConsentAct.WITHDRAWAL.value))
        stops = rows.act.isin([ConsentAct.WITHDRAWAL.value, ConsentAct.SUPPRESSION.value])
        rows = rows.mutate(segue_stops=stops, segue_at=rows.occurred_at)
        rows = rows.mutate(
            occurred_at=stops.ifelse(rows.occurred_at.fill_null(self._as_of), rows.occurred_at)
        )
        rows = self._hold("consents", point_to_survivor(rows, identity))
        nobody = rows.contact_id.isnull() & rows.email.isnull()
        untimed = rows.segue_at.isnull()
        future = rows.occurred_at > self._as_of
        unproved = (rows.act == ConsentAct.GRANT.value) & rows.evidence.isnull()
        self._ask(
            "consents",
            rows,
            _Question("missing_key", nobody, None, "neither contact nor address"),
            _Question("unknown_act", rows.segue_act.isnull(), "act", "unknown word"),
            _Question("withdrawal_without_time", untimed & rows.segue_stops, "occurred_at", "no time"),
            _Question("missing_value", untimed & ~rows.segue_stops, "occurred_at", "no time"),
            _Question("future_grant", future & ~rows.segue_stops, "occurred_at", "time to come"),
            _Question("future_date", future & rows.segue_stops, "occurred_at", "time to come"),
            _Question("grant_without_evidence", unproved, "evidence", "empty"),
        )
        return self._finished("consents", rows)

    def _keyed(
        self,
        table_name: str,
        staged: ir.Table,
        *,
        spared: tuple[str, ...] = (),
        repeated: str = "duplicate_key",
    ) -> ir.Table:
        """Leave out rows that lack what they need, and all but one of those with one key."""
        rows = staged.mutate(
            **{
                column: staged[column].fill_null(value)
                for column, value in _FILLED.get(table_name, {}).items()
            }
        )
        rows = self._inspection.accepted(table_name, rows)
        needed = [
            column.name
            for column in TABLES[table_name]
            if column.required and column.name not in {*spared, "line_kind"}
        ]
        key = _KEYS[table_name]
        self._ask(
            table_name,
            rows,
            *(
                _Question(
                    "missing_key" if column in key else "missing_value",
                    rows[column].isnull(),
                    column,
                    "empty",
                )
                for column in needed
            ),
        )
        groups = rows.group_by(key).agg(segue_count=rows.count()).filter(lambda group: group.segue_count > 1)
        if not _any(groups):
            return rows
        shared = rows.semi_join(groups, key).select(rows.columns)
        newest = [ibis.desc(shared.updated_at, nulls_first=False)] if "updated_at" in shared.columns else []
        window = ibis.window(group_by=key, order_by=[*newest, ibis.desc(shared[ROW])])
        ranked = shared.select(ROW, segue_rank=ibis.row_number().over(window))
        older = ranked.filter(ranked.segue_rank > 0)
        self._inspection.flag(repeated, table_name, older, column=", ".join(key), value_class="repeated key")
        return rows

    def _with_country(self, rows: ir.Table) -> ir.Table:
        """Bring the country to its code; `segue_no_country` says that it was given and is none."""
        names = self._countries.select(segue_name="spelling", segue_country="country")
        rows = rows.mutate(segue_spelling=geography.key(rows.country))
        joined = rows.left_join(names, rows.segue_spelling == names.segue_name)
        return joined.mutate(
            country=joined.segue_country,
            segue_given=joined.country.notnull(),
            segue_no_country=joined.country.notnull() & joined.segue_country.isnull(),
        ).drop("segue_name", "segue_country", "segue_spelling")

    def _with_currency(self, rows: ir.Table, *, default: str | None = None) -> ir.Table:
        """Bring the currency to its code; `segue_no_currency` says that it was given and is none."""
        names = self._currencies.select(segue_name="spelling", segue_currency="currency")
        rows = rows.mutate(segue_spelling=rows.currency.lower())
        joined = rows.left_join(names, rows.segue_spelling == names.segue_name)
        missing = ibis.literal(default, "string")
        return joined.mutate(
            currency=joined.currency.isnull().ifelse(missing, joined.segue_currency),
            segue_no_currency=joined.currency.notnull() & joined.segue_currency.isnull(),
        ).drop("segue_name", "segue_currency", "segue_spelling")

    def _with_address(self, table_name: str, rows: ir.Table) -> ir.Table:
        """Normalise the address and list what is none. The row stays, without one."""
        rows = rows.mutate(segue_email=addresses.spelled(rows.email))
        texts = rows.filter(rows.segue_email.notnull()).select(address="segue_email").distinct()
        texts = self._hold(f"{table_name}_spellings", texts)
        if not _any(texts):
            return rows.drop("segue_email")
        judged = addresses.normalise(texts).select(segue_spelled="address", segue_address="normalised")
        judged = self._hold(f"{table_name}_addresses", judged)
        joined = rows.left_join(judged, rows.segue_email == judged.segue_spelled)
        wrong = joined.segue_spelled.notnull() & joined.segue_address.isnull()
        self._ask(table_name, joined, _Question("invalid_email", wrong, "email", value_class(joined.email)))
        return joined.mutate(email=joined.segue_address).drop("segue_email", "segue_spelled", "segue_address")

    def _questions_of_places(self, rows: ir.Table) -> Iterator["_Question"]:
        for name in ("country", "currency"):
            if f"segue_no_{name}" in rows.columns:
                yield _Question(f"unknown_{name}", rows[f"segue_no_{name}"], name, "unknown name")

    def _flag_foreign_currency(self, table_name: str, rows: ir.Table) -> None:
        foreign = rows.filter(rows.country.notnull(), rows.currency.notnull())
        if self._project.currency is not None:
            foreign = foreign.filter(foreign.currency != self._project.currency)
        if not _any(foreign):
            return
        foreign = foreign.anti_join(self._tender, ["country", "currency"])
        self._inspection.flag(
            "country_currency",
            table_name,
            foreign,
            column="currency",
            value_class="another country's currency",
        )

    def _is_future(self, time: ir.TimestampColumn) -> "_Question":
        return _Question("future_date", time > self._as_of, time.get_name(), "time to come")

    def _ask(self, table_name: str, rows: ir.Table, *questions: "_Question") -> None:
        """List what breaks a rule. One scan tells which rules are broken at all: compiling costs more than scanning."""
        broken = rows.aggregate(
            **{str(place): question.wrong.sum().fill_null(0) for place, question in enumerate(questions)}
        )
        for question, count in zip(questions, broken.to_pyarrow().to_pylist()[0].values(), strict=True):
            if not count:
                continue
            said = question.value_class
            said = ibis.literal(said) if isinstance(said, str) else said
            found = rows.select(ROW, segue_wrong=question.wrong, segue_class=said).filter(
                lambda row: row.segue_wrong
            )
            self._inspection.flag(
                question.rule, table_name, found, column=question.column, value_class=found.segue_class
            )

    @cached_property
    def _countries(self) -> ir.Table:
        return self._con.create_table("segue_countries", geography.country_names(), temp=True)

    @cached_property
    def _currencies(self) -> ir.Table:
        return self._con.create_table("segue_currencies", geography.currency_names(), temp=True)

    @cached_property
    def _tender(self) -> ir.Table:
        return self._con.create_table("segue_tender", geography.currencies_by_country(), temp=True)

    def _hold(self, name: str, rows: ir.Table) -> ir.Table:
        """Compute once what several rules ask."""
        return self._con.create_table(f"held_{name}", rows, temp=True)

    def _finished(self, table_name: str, rows: ir.Table) -> ir.Table:
        kept = [column for column in rows.columns if not column.startswith("segue_")]
        return self._inspection.accepted(table_name, rows).select(kept)


@dataclass(frozen=True, slots=True)
class _Question:
    """Which rows break a rule, in which column, and what stands there."""

    rule: str
    wrong: ir.BooleanValue
    column: str | None
    value_class: ir.StringValue | str


def _any(rows: ir.Table) -> bool:
    return bool(rows.count().to_pyarrow().as_py())


def _word(text: ir.StringValue) -> ir.StringValue:
    """Write a word as ours are: `Product Viewed` is product_viewed."""
    return text.lower().re_replace(r"[\s\-]+", "_")


def _translated(word: ir.StringValue, known: Mapping[str, str]) -> ir.StringValue:
    return ibis.cases(
        *(
            (word.isin([theirs for theirs, ours in known.items() if ours == meaning]), meaning)
            for meaning in sorted(set(known.values()))
        ),
        else_=ibis.null(dt.string),
    )


def _sign(number: ir.NumericValue) -> ir.StringValue:
    return ibis.cases(
        (number.isnull(), "empty"), (number < 0, "negative number"), (number == 0, "zero"), else_="number"
    )


_to_json = ibis.udf.scalar.builtin(
    lambda value: value, name="to_json", signature=((dt.Map(dt.string, dt.string),), dt.string)
)


def _evidence(text: ir.StringValue) -> ir.StringValue:
    """Write evidence as a JSON object of texts; a text that is none becomes a reference. Null where all is empty."""
    given = text.try_cast(dt.json).try_cast(dt.Map(dt.string, dt.string))
    values = given.values().map(lambda value: value.fill_null("").strip())
    proof = values.filter(lambda value: value != "").length() > 0
    return ibis.cases(
        (text.isnull(), ibis.null(dt.string)),
        (given.isnull(), _to_json(ibis.map(["reference"], ibis.array([text])))),
        (proof, _to_json(ibis.map(given.keys(), values))),
        else_=ibis.null(dt.string),
    )
