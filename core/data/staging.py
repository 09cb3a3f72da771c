"""The sources of one table, cast and put together: canonical columns, still with everything that is wrong with them.

Lives here: types, defaults, and what type a trait has. Must not: leave a row out (`core.data.checks` does).

The type of a trait that segue.yml does not name is read off all its values, not off a sample: the narrowest type that
fits each of them. It can change when the data changes; a trait that a rule depends on is better named in `traits:`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from ..config import Project, humanised
from ..errors import ConfigError, Problem
from ..model import Trait, TraitType
from ..yamlfile import suggest
from .canonical import CUSTOMERS, MONEY, TABLES, TIMESTAMP, Column
from .casting import LOOKS, Cast, Decimal, cast, clean, looks_like
from .files import ROW
from .inspection import SOURCE_SPAN, Inspection
from .rules import Effect
from .sources import Opened

TRAIT_TYPES: Final[Mapping[TraitType, dt.DataType]] = {
    TraitType.TEXT: dt.string,
    TraitType.INTEGER: dt.int64,
    TraitType.NUMBER: dt.float64,
    TraitType.MONEY: MONEY,
    TraitType.BOOLEAN: dt.boolean,
    TraitType.DATE: dt.date,
    TraitType.TIMESTAMP: TIMESTAMP,
    TraitType.TEXT_LIST: dt.Array(dt.string),
}
_WIDER: Final[Mapping[frozenset[TraitType], TraitType]] = {
    frozenset({TraitType.INTEGER, TraitType.NUMBER}): TraitType.NUMBER,
    frozenset({TraitType.DATE, TraitType.TIMESTAMP}): TraitType.TIMESTAMP,
}
_EXPECTED: Final[Mapping[type[dt.DataType], str]] = {
    dt.Int64: "a whole number is needed",
    dt.Decimal: "a number is needed",
    dt.Float64: "a number is needed",
    dt.Boolean: "yes or no is needed",
    dt.Date: "a date like 2011-12-31 is needed",
    dt.Timestamp: "a time like 2011-12-31T23:59:00Z is needed",
    dt.Array: "a list is needed",
    dt.String: "a text is needed",
}
# The row can do without these although the table cannot: `core.data.checks` finds what stands in.
_SPARED: Final = frozenset({("consents", "occurred_at")})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A column to fill: a canonical one or a trait."""

    name: str
    type: dt.DataType
    is_required: bool


def stage(
    con: Backend,
    project: Project,
    table_name: str,
    sources: Sequence[Opened],
    inspection: Inspection,
    traits: Sequence[Trait],
) -> ir.Table:
    """Cast and unite the sources of a table. Gives canonical columns, then traits, then ROW."""
    targets = [_of_column(column) for column in TABLES[table_name] if column.name != "line_kind"]
    targets += [_Target(name=trait.name, type=TRAIT_TYPES[trait.type], is_required=False) for trait in traits]
    parts = [_cast_source(con, project, opened, targets, inspection) for opened in sources]
    if not parts:
        schema = ibis.schema({target.name: target.type for target in targets} | {ROW: dt.int64})
        return con.create_table(f"staged_{table_name}", schema=schema, temp=True)
    whole = parts[0] if len(parts) == 1 else ibis.union(*parts)
    return con.create_table(f"staged_{table_name}", whole, temp=True)


def infer_traits(con: Backend, project: Project, sources: Sequence[Opened]) -> tuple[Trait, ...]:
    """Give the traits that the customers' further columns make, with the words and types of `traits:`.

    Raises ConfigError when `traits:` names columns that are not there, or another type for a canonical one.
    """
    found: dict[str, TraitType | None] = {}
    for opened in sources:
        for name, kind in _inferred_types(con, opened).items():
            found[name] = _join(found[name], kind) if name in found else kind
    problems = list(_trait_problems(project, found))
    if problems:
        raise ConfigError.of(problems)
    traits = []
    for name, kind in found.items():
        configured = project.traits.get(name)
        chosen = (configured.type if configured else None) or kind or TraitType.TEXT
        words = (configured.description if configured else None) or f"{humanised(name)}, as the shop has it"
        traits.append(Trait(name=name, type=chosen, description=words, null_means="the shop has no value"))
    return tuple(traits)


def _of_column(column: Column) -> _Target:
    return _Target(name=column.name, type=column.type, is_required=column.required)


def _cast_source(
    con: Backend, project: Project, opened: Opened, targets: Sequence[_Target], inspection: Inspection
) -> ir.Table:
    raw = opened.rows(con)
    offset = opened.place * SOURCE_SPAN
    theirs = {**opened.columns, **opened.traits}
    casts = {
        target.name: cast(
            raw[theirs[target.name]],
            target.type,
            decimal=opened.source.decimal,
            timezone=opened.source.timezone or project.timezone,
        )
        for target in targets
        if target.name in theirs
    }
    row = (raw[ROW] + offset).cast(dt.int64)
    if opened.raw.rejects is not None:
        rejects = con.table(opened.raw.rejects)
        inspection.flag(
            "unreadable_row",
            opened.table_name,
            rejects.mutate(**{ROW: rejects[ROW] + offset}),
            value_class=rejects.value_class,
            detail=rejects.detail,
        )
    _flag_broken(opened, raw, row, casts, targets, inspection)
    values = {
        target.name: casts[target.name].value if target.name in casts else ibis.null(target.type)
        for target in targets
    }
    if "line_no" in values and "line_no" not in casts:
        within = ibis.window(group_by=values["order_id"], order_by=raw[ROW])
        values["line_no"] = ibis.row_number().over(within) + 1
    if opened.table_name == "consents":
        values["source"] = values["source"].fill_null(opened.label)
    return raw.select(**values, **{ROW: row})


def _flag_broken(
    opened: Opened,
    raw: ir.Table,
    row: ir.Value,
    casts: Mapping[str, Cast],
    targets: Sequence[_Target],
    inspection: Inspection,
) -> None:
    """List the values that are not of their column's type. One scan tells which columns have any."""
    broken = {name: found.broken for name, found in casts.items() if found.broken is not None}
    if not broken:
        return
    counted = raw.aggregate(**{name: flag.sum().fill_null(0) for name, flag in broken.items()})
    counts = counted.to_pyarrow().to_pylist()[0]
    for target in targets:
        if not counts.get(target.name):
            continue
        drops = target.is_required and (opened.table_name, target.name) not in _SPARED
        rows = raw.select(
            **{ROW: row}, segue_broken=broken[target.name], value_class=casts[target.name].value_class
        ).filter(lambda found: found.segue_broken)
        inspection.flag(
            "wrong_type",
            opened.table_name,
            rows,
            column=target.name,
            value_class=rows.value_class,
            detail=_EXPECTED[type(target.type)],
            effect=Effect.ROW if drops else Effect.VALUE,
        )


def _inferred_types(con: Backend, opened: Opened) -> dict[str, TraitType | None]:
    """Give each trait column's type, None when it is all empty. Columns of no usable type are left out."""
    rows = opened.rows(con)
    found: dict[str, TraitType | None] = {}
    texts: dict[str, str] = {}
    for name, theirs in opened.traits.items():
        if isinstance(rows[theirs].type(), dt.String):
            texts[name] = theirs
        elif (kind := _type_of(rows[theirs].type())) is not None:
            found[name] = kind
    if texts:
        found |= _types_of_texts(rows, texts, opened.source.decimal)
    return {name: found[name] for name in opened.traits if name in found}


_NATIVE: Final[Sequence[tuple[type[dt.DataType], TraitType]]] = (
    (dt.Boolean, TraitType.BOOLEAN),
    (dt.Integer, TraitType.INTEGER),
    (dt.Floating, TraitType.NUMBER),
    (dt.Decimal, TraitType.NUMBER),
    (dt.Date, TraitType.DATE),
    (dt.Timestamp, TraitType.TIMESTAMP),
)


def _type_of(native: dt.DataType) -> TraitType | None:
    if isinstance(native, dt.Array):
        return None if isinstance(native.value_type, dt.Array | dt.Struct | dt.Map) else TraitType.TEXT_LIST
    return next((kind for type_, kind in _NATIVE if isinstance(native, type_)), None)


def _types_of_texts(
    rows: ir.Table, texts: Mapping[str, str], decimal: Decimal
) -> dict[str, TraitType | None]:
    """Find for each text column the narrowest type that all its values are spelled like, in one scan."""
    counts = rows.aggregate(
        **{f"{name}:filled": clean(rows[theirs]).count() for name, theirs in texts.items()},
        **{
            f"{name}:{kind.value}": looks_like(rows[theirs], kind, decimal=decimal).sum().fill_null(0)
            for name, theirs in texts.items()
            for kind in LOOKS
        },
    )
    counted = counts.to_pyarrow().to_pylist()[0]
    found: dict[str, TraitType | None] = {}
    for name in texts:
        filled = counted[f"{name}:filled"]
        fitting = (kind for kind in LOOKS if counted[f"{name}:{kind.value}"] == filled)
        found[name] = next(fitting, TraitType.TEXT) if filled else None
    return found


def _join(one: TraitType | None, other: TraitType | None) -> TraitType | None:
    """Give the type that holds the values of both; None is a column without any."""
    if one is None or other is None or one == other:
        return one or other
    return _WIDER.get(frozenset({one, other}), TraitType.TEXT)


def _trait_problems(project: Project, found: Iterable[str]) -> Iterable[Problem]:
    canonical = {column.name: column.type for column in CUSTOMERS}
    known = [*found, *canonical]
    for name, configured in project.traits.items():
        where = project.place("traits", name)
        if name not in known:
            hint = suggest(name, known) or f"Their columns are {', '.join(known)}."
            yield Problem(where=where, message=f'traits: customers have no column "{name}".', next_step=hint)
        elif name in canonical and configured.type and TRAIT_TYPES[configured.type] != canonical[name]:
            yield Problem(
                where=where,
                message=f'traits.{name}: the type of "{name}" is fixed.',
                next_step="Remove `type`.",
            )
