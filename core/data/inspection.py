"""What was found wrong, as a table of the engine: each rule adds its rows, each table takes its refused ones out.

Lives here: the quarantine and its counts. Must not: know a rule's question (`core.data.checks`) or a source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend

from ..config import RuleAction
from .files import ROW
from .rules import RULES, Effect

# Row 7 of the third source of a table is row 2,000,000,000,007 while it is worked on.
SOURCE_SPAN: Final = 1_000_000_000_000

_FINDINGS: Final = ibis.schema(
    {
        "table_name": "string",
        ROW: "int64",
        "column_name": "string",
        "rule": "string",
        "level": "string",
        "effect": "string",
        "value_class": "string",
        "detail": "string",
    }
)


_NAMED: Final = 5  # findings in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """How many findings one rule made in one source. `level` is refuse or warn, `effect` what became of the rows."""

    source: str
    table_name: str
    rule: str
    level: str
    effect: str
    rows: int


class Inspection:
    """The findings of one ingest."""

    def __init__(self, con: Backend, levels: Mapping[str, RuleAction]) -> None:
        self._con = con
        self._levels = levels
        self._found = con.create_table("segue_findings", schema=_FINDINGS, temp=True)

    def effect(self, rule: str) -> Effect:
        """Say what becomes of a row that breaks this rule in this project. Off is like warn, unlisted."""
        found = RULES[rule]
        return found.refused if self._levels[rule] == "refuse" else found.warned

    def flag(
        self,
        rule: str,
        table_name: str,
        rows: ir.Table,
        *,
        column: str | None = None,
        value_class: ir.Value | str = "",
        detail: ir.Value | str = "",
        effect: Effect | None = None,
    ) -> None:
        """Add the rows that break a rule. `rows` has ROW; `effect` overrides the rule's own."""
        level = self._levels[rule]
        if level == "off":
            return
        self._con.insert(
            "segue_findings",
            rows.select(
                table_name=ibis.literal(table_name),
                **{ROW: rows[ROW].cast("int64")},
                column_name=ibis.literal(column, "string"),
                rule=ibis.literal(rule),
                level=ibis.literal(level),
                effect=ibis.literal((effect or self.effect(rule)).value),
                value_class=_text(value_class),
                detail=_text(detail),
            ),
        )

    def refused(self, table_name: str) -> ir.Table:
        """Give the ROW of every row that is left out so far."""
        found = self._found
        chosen = found.filter(found.table_name == table_name, found.effect == Effect.ROW.value)
        return chosen.select(ROW).distinct()

    def accepted(self, table_name: str, rows: ir.Table) -> ir.Table:
        """Give the rows that no rule left out so far."""
        return rows.anti_join(self.refused(table_name), ROW)

    def quarantine(self, labels: Mapping[str, Sequence[str]]) -> ir.Table:
        """Give what was found, by source: (source, table_name, row_number, column_name, rule, level, effect, value_class, detail).

        `labels` are the sources of each table, in their order.
        """
        pairs = [
            (table, place, label) for table, found in labels.items() for place, label in enumerate(found)
        ]
        sources = ibis.memtable(
            pa.table(
                {
                    "table_name": pa.array([table for table, _, _ in pairs], pa.string()),
                    "place": pa.array([place for _, place, _ in pairs], pa.int64()),
                    "source": pa.array([label for _, _, label in pairs], pa.string()),
                }
            )
        )
        found = self._found.mutate(place=self._found[ROW] // SOURCE_SPAN)
        found = found.left_join(sources, ["table_name", "place"])
        return found.select(
            "source",
            "table_name",
            row_number=found[ROW] % SOURCE_SPAN,
            column_name=found.column_name,
            rule=found.rule,
            level=found.level,
            effect=found.effect,
            value_class=found.value_class,
            detail=found.detail,
        )

    def broken_rows(self) -> Mapping[tuple[str, int], tuple[int, int]]:
        """Count, by table and place of the source, the rows left out and the rows that count as rejected.

        Rejected are the rows that broke a rule at level refuse, left out or not.
        """
        found = self._found.mutate(
            place=self._found[ROW] // SOURCE_SPAN, is_out=self._found.effect == Effect.ROW.value
        )
        counted = found.group_by("table_name", "place").agg(
            out=found[ROW].nunique(where=found.is_out),
            rejected=found[ROW].nunique(where=found.level == "refuse"),
        )
        return {
            (row["table_name"], row["place"]): (row["out"], row["rejected"])
            for row in counted.to_pyarrow().to_pylist()
        }


def refused_most(quarantine: ir.Table, table_name: str) -> list[str]:
    """Say in words what a table's rows were refused for, the most first, and which row was the first of each.

    For errors: no snapshot is written then, and so nobody can look the rows up in its quarantine.
    """
    chosen = quarantine.filter(quarantine.table_name == table_name, quarantine.level == "refuse")
    keys = ["source", "column_name", "rule"]
    counted = chosen.group_by(keys).agg(rows=chosen.count(), first=chosen.row_number.min())
    ordered = counted.order_by(ibis.desc("rows"), *keys).limit(_NAMED).to_pyarrow().to_pylist()
    return [
        f"{row['rule']} {row['rows']:,} in {row['source']}"
        + (f", column {row['column_name']}" if row["column_name"] else "")
        + f", first in row {row['first']:,}"
        for row in ordered
    ]


def counts(quarantine: ir.Table) -> tuple[RuleCount, ...]:
    """Count a quarantine by source and rule, most first."""
    keys = ["source", "table_name", "rule", "level", "effect"]
    counted = quarantine.group_by(keys).agg(rows=quarantine.count())
    ordered = counted.order_by(ibis.desc("rows"), *keys).to_pyarrow().to_pylist()
    return tuple(RuleCount(**row) for row in ordered)


def _text(value: ir.Value | str) -> ir.Value:
    return ibis.literal(value, "string") if isinstance(value, str) else value.cast("string")
