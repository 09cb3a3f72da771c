"""The set-wise way from a snapshot's tables to what a destination shall hold of each contact.

Lives here: joins, the JSON text and the tags, as one Ibis expression over any number of contacts. Must not: a loop
over contacts, files, checks of what people wrote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..core.errors import DataError, Problem
from ..core.model import FieldSpec
from .config import Conflict
from .fields import FieldText, field_text, transformed
from .transforms import Step
from .values import Kind, Value, cleaned, escaped, from_column


class Origin(StrEnum):
    """Which of the snapshot's tables a field's value comes from."""

    TRAIT = "trait"
    GROUP = "group"
    SEGMENT = "segment"
    RECOMMENDATION = "recommendation"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSource:
    """Where a field's value comes from; `slot` and `attribute` are a recommendation's."""

    origin: Origin
    name: str
    kind: Kind
    slot: int = 0
    attribute: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedField:
    """One checked field: what it is at the destination, where its value comes from and what is done to it."""

    spec: FieldSpec
    source: FieldSource
    kind: Kind  # of the value after the steps
    steps: tuple[Step, ...] = ()
    description: str = ""  # of the source, for a marketer
    null_means: str = ""
    accepts_drift: bool = False  # a value that others changed stays until our own changes
    conflict: Conflict | None = None  # whose value counts once others changed it there; None: nobody else may


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledField:
    """A field of others: its value there becomes the trait."""

    tag: str
    trait: str
    label: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of one snapshot that a mapping reads, on one backend."""

    profiles: ir.Table
    segments: ir.Table
    groups: ir.Table
    recommendations: ir.Table


def field_texts(
    tables: Tables,
    fields: Sequence[MappedField],
    *,
    tag_prefix: str,
    tagged: Sequence[str],
    limit: int,
    zone: str,
) -> tuple[ir.Table, list[FieldText]]:
    """Join what the fields and tags need, one row per contact.

    Returns the table (contact_id, address, tags and what the expressions read) and the texts of the fields over it.
    Raises DataError when the snapshot has no column for a trait.
    """
    table = _gathered(tables, fields, tag_prefix, tagged, zone)
    return table, [
        field_text(Value(expression=table[_column(index)], kind=field.kind), field.spec.type, limit)
        for index, field in enumerate(fields)
    ]


def yielded(
    table: ir.Table, fields: Sequence[MappedField], texts: Sequence[FieldText], theirs: ir.Table
) -> tuple[ir.Table, list[FieldText]]:
    """Lay the values that others changed over the texts: (contact_id, tag, value, over), `over` what was ours then.

    Whether ours changed since is seen by that: whichever changed last counts, without a clock.
    """
    conflicts = {index: field for index, field in enumerate(fields) if field.conflict in {"theirs", "newest"}}
    if not conflicts:
        return table, list(texts)
    ours = table.mutate(**{_column(index): each.text for index, each in enumerate(texts)})
    columns: dict[str, ir.Value] = {}
    for index, field in conflicts.items():
        of_field = theirs["tag"] == field.spec.tag
        columns[f"is_theirs_{index}"] = of_field.any()
        columns[f"theirs_{index}"] = theirs["value"].max(where=of_field)
        columns[f"over_{index}"] = theirs["over"].max(where=of_field)
    joined = _with(ours, theirs.group_by("contact_id").agg(**columns))
    laid: list[FieldText] = []
    for index, each in enumerate(texts):
        text = joined[_column(index)]
        if index in conflicts:
            counts = joined[f"is_theirs_{index}"].fill_null(ibis.literal(value=False))
            if conflicts[index].conflict == "newest":
                counts = counts & joined[f"over_{index}"].identical_to(text)
            text = counts.ifelse(joined[f"theirs_{index}"], text)
        laid.append(replace(each, text=text, is_free=each.is_free or index in conflicts))
    return joined, laid


def json_object(tags: Sequence[str], texts: Sequence[FieldText]) -> ir.StringValue:
    """Write the canonical JSON object: keys sorted, absent where null, nothing between the marks."""
    members = [
        ibis.literal(f'"{tag}":"') + (escaped(each.text) if each.is_free else each.text) + ibis.literal('"')
        for tag, each in sorted(zip(tags, texts, strict=True), key=lambda pair: pair[0])
    ]
    # Joining an array leaves its nulls out, and with them their commas; one of nulls alone is joined to null.
    body: ir.StringValue = ibis.array(members).join(",").fill_null("") if members else ibis.literal("")
    return ibis.literal("{") + body + ibis.literal("}")


def _column(index: int) -> str:
    return f"field_{index}"


def _currency_column(index: int) -> str:
    return f"currency_{index}"


def _gathered(
    tables: Tables, fields: Sequence[MappedField], tag_prefix: str, tagged: Sequence[str], zone: str
) -> ir.Table:
    """Join the values of all sources, transformed, one row per profile.

    Values are cleaned below the first joins, transformed between those and the last one, and written above it, on
    purpose: Ibis merges neighbouring selects, and would repeat in the SQL all that was done to a value at each place
    where the expression above mentions it. It does not reach through a join.
    """
    of = {
        origin: {index: field.source for index, field in enumerate(fields) if field.source.origin is origin}
        for origin in Origin
    }
    table = _trait_values(tables.profiles, of[Origin.TRAIT], zone)
    if of[Origin.GROUP]:
        table = _with(table, _group_values(tables.groups, of[Origin.GROUP]))
    if of[Origin.RECOMMENDATION]:
        table = _with(table, _product_values(tables.recommendations, of[Origin.RECOMMENDATION]))
    above = of[Origin.SEGMENT]
    # Not in the tables of their own: who has no row there has a null only here, and `default` must see it.
    below = {
        _column(index): _transformed(table, index, field)
        for index, field in enumerate(fields)
        if index not in above
    }
    table = _with(
        table.select("contact_id", "address", **below),
        _memberships(tables.segments, above, tag_prefix, tagged),
    )
    table = table.mutate(
        tags=table["tags"].fill_null(ibis.literal([], dt.Array(dt.string))),
        **{_column(index): table[_column(index)].fill_null(ibis.literal(value=False)) for index in above},
    )
    return table.mutate(**{_column(index): _transformed(table, index, fields[index]) for index in above})


def _transformed(table: ir.Table, index: int, field: MappedField) -> ir.Value:
    currency = table[_currency_column(index)] if field.source.attribute == "price" else None
    value = Value(expression=table[_column(index)], kind=field.source.kind, currency=currency)
    return transformed(value, field.steps).expression


def _with(table: ir.Table, values: ir.Table) -> ir.Table:
    return table.left_join(values, "contact_id").drop("contact_id_right")


def _trait_values(profiles: ir.Table, sources: Mapping[int, FieldSource], zone: str) -> ir.Table:
    missing = sorted({source.name for source in sources.values()} - set(profiles.columns))
    if missing:
        raise DataError.of(
            [
                Problem(
                    where=f"snapshot, profiles, column {name}",
                    message="the mapping needs this trait, and the snapshot was built without it.",
                    next_step="Run `segue build`.",
                )
                for name in missing
            ]
        )
    return profiles.select(
        contact_id=profiles["contact_id"],
        address=profiles["email"],
        **{
            _column(index): from_column(profiles[source.name], source.kind, zone).expression
            for index, source in sources.items()
        },
    )


def _group_values(groups: ir.Table, sources: Mapping[int, FieldSource]) -> ir.Table:
    named = groups.filter(groups["group_name"].isin(sorted({source.name for source in sources.values()})))
    found = named.group_by("contact_id").agg(
        **{
            _column(index): named["segment"].max(where=named["group_name"] == source.name)
            for index, source in sources.items()
        }
    )
    return found.mutate(**{_column(index): cleaned(found[_column(index)]) for index in sources})


def _product_values(recommendations: ir.Table, sources: Mapping[int, FieldSource]) -> ir.Table:
    """Turn a contact's recommended products from rows into columns."""
    names = sorted({source.name for source in sources.values()})
    named = recommendations.filter(recommendations["recommendation"].isin(names))
    raw: dict[str, ir.Value] = {}
    for index, source in sources.items():
        here = (named["recommendation"] == source.name) & (named["slot"] == source.slot)
        raw[_column(index)] = named[source.attribute].max(where=here)
        if source.attribute == "price":
            raw[_currency_column(index)] = named["currency"].max(where=here)
    found = named.group_by("contact_id").agg(**raw)
    texts = [name for name in raw if found[name].type().is_string()]
    return found.mutate(**{name: cleaned(found[name]) for name in texts})


def _memberships(
    segments: ir.Table, sources: Mapping[int, FieldSource], tag_prefix: str, tagged: Sequence[str]
) -> ir.Table:
    names = sorted({*tagged, *(source.name for source in sources.values())})
    named = segments.filter(segments["segment"].isin(names))
    tag = ibis.literal(tag_prefix) + named["segment"]
    return named.group_by("contact_id").agg(
        tags=tag.collect(where=named["segment"].isin(list(tagged)), distinct=True).sort(),
        **{_column(index): (named["segment"] == source.name).any() for index, source in sources.items()},
    )
