"""A consent platform's export as consents in our form: the columns and words of a `Shape`, then the rules of an ingest.

Lives here: what a shape makes of a raw row, set-wise. Must not: know a platform, or who a contact is.

The rows go through the same casts and the same rules as the shop's own consents (`core.data.checks`), so that an act
that nobody understands is a withdrawal here too. Two things are stricter than there, because an export has more than
mail in it: a row whose purpose is empty says yes to nothing, and a purpose that is not named as e-mail marketing
raises nobody.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from ..config import Project, Source
from ..errors import DataError, Problem
from ..reading import FileFormat, format_of
from ..shapes import Shape
from ..yamlfile import suggest
from . import files
from .checks import RAISING, Checks
from .engine import reading
from .erased import Erased, leave_out
from .files import ROW, RawTable, literal, quoted
from .inspection import Inspection
from .rules import levels
from .sources import Opened
from .staging import stage

_TABLE: Final = "consents"
_UNNAMED: Final = "unnamed"
_NEEDED: Final = (("act",), ("occurred_at",), ("email", "contact_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A row that breaks a rule, 1 being the first under the header. `effect` says what becomes of it."""

    row: int
    column: str | None
    rule: str
    effect: str
    value_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConsents:
    """What an export holds. `consents` is the canonical table; `ignored` rows are not about mail, by the shape's word.

    `refused` and `noted` count the findings by rule: refused are those that stop an import.
    """

    consents: ir.Table
    findings: ir.Table
    rows: int
    ignored: int
    refused: Mapping[str, int]
    noted: Mapping[str, int]

    def first(self, limit: int) -> list[Finding]:
        """Give the first findings that stop an import, by row."""
        wrong = self.findings.filter(_stops(self.findings)).order_by("row_number", "rule").limit(limit)
        return [
            Finding(
                row=found["row_number"],
                column=found["column_name"],
                rule=found["rule"],
                effect=found["effect"],
                value_class=found["value_class"],
            )
            for found in wrong.to_pyarrow().to_pylist()
        ]


def read_consents(
    con: Backend,
    project: Project,
    path: Path,
    shape: Shape,
    *,
    source: str,
    identity: ir.Table,
    moment: datetime,
    erased: Erased,
) -> ReadConsents:
    """Read an export into table `consents` of `con`; `source` is what the ledger calls it.

    `identity` is that of the current snapshot, (contact_id, survivor_id). Rows of who was `erased` are left out. `moment` is when an act without a time
    counts as done. Raises DataError when the file cannot be read, or lacks a column that is needed.
    """
    try:
        raw = _read(con, path, shape)
    except DataError as error:
        raise DataError.of([Problem(where=path.name, message=error.message)]) from error
    found = _found(shape, raw.columns)
    if problems := list(_lacking(path, shape, found, raw.columns)):
        raise DataError.of(problems)
    rows, ignored = _shaped(con, raw, shape, found, source)
    inspection = Inspection(con, levels(project))
    opened = Opened(
        table_name=_TABLE,
        place=0,
        label=path.name,
        source=Source(path=str(path), format="csv", timezone=shape.timezone),
        raw=RawTable(name=rows, columns=_COLUMNS, rejects=raw.rejects),
        columns={name: name for name in _COLUMNS},
        traits={},
        ignored=(),
    )
    with reading("The file is damaged. Export it again."):
        staged = stage(con, project, _TABLE, [opened], inspection, ())
        if erased(con.con):
            staged = leave_out(con, {_TABLE: staged}, inspection)[_TABLE]
        accepted = Checks(con, project, inspection, moment).consents(staged, identity)
        consents = con.create_table(_TABLE, accepted, temp=True)
        findings = con.create_table(
            "consent_findings", inspection.quarantine({_TABLE: [path.name]}), temp=True
        )
    stops = _stops(findings)
    broken = 0 if raw.rejects is None else _count(con.table(raw.rejects))
    return ReadConsents(
        consents=consents,
        findings=findings,
        rows=_count(con.table(raw.name)) + broken,
        ignored=ignored,
        refused=_by_rule(findings.filter(stops)),
        noted=_by_rule(findings.filter(~stops)),
    )


_COLUMNS: Final = (
    "contact_id",
    "email",
    "channel",
    "purpose",
    "act",
    "occurred_at",
    "source",
    "evidence",
)


def _read(con: Backend, path: Path, shape: Shape) -> RawTable:
    form: FileFormat = format_of(path.name) or "csv"
    match form:
        case "parquet":
            return files.read_parquet(con, "raw_export", path)
        case "jsonl":
            return files.read_jsonl(con, "raw_export", path)
        case _:
            return files.read_csv(con, "raw_export", path, delimiter=shape.delimiter, encoding=shape.encoding)


def _found(shape: Shape, theirs: Sequence[str]) -> dict[str, str]:
    """Give ours -> theirs for all columns of the shape that the file has, evidence under `evidence.NAME`."""
    by_folded = {column.strip().casefold(): column for column in reversed(theirs)}
    wanted: dict[str, tuple[str, ...]] = {
        **{str(ours): names for ours, names in shape.columns.items()},
        **{f"evidence.{name}": names for name, names in shape.evidence.items()},
        **{f"only.{name}": (name,) for name in shape.only},
    }
    return {
        ours: column
        for ours, names in wanted.items()
        if (column := next((by_folded[n.casefold()] for n in names if n.casefold() in by_folded), None))
    }


def _lacking(path: Path, shape: Shape, found: Mapping[str, str], theirs: Sequence[str]) -> Iterable[Problem]:
    for group in _NEEDED:
        if not any(ours in found for ours in group):
            names = [name for ours, called in shape.columns.items() if ours in group for name in called]
            names = names or list(group)
            near = next((hint for name in names if (hint := suggest(name, theirs))), "")
            yield Problem(
                where=path.name,
                message=f"has no column for {' or '.join(group)}: none is called {' or '.join(names)}.",
                next_step=f"{near} It has {', '.join(theirs)}. Name yours in a mapping file: `columns: {{{group[0]}: THEIRS}}`.".strip(),
            )


def _shaped(
    con: Backend, raw: RawTable, shape: Shape, found: Mapping[str, str], source: str
) -> tuple[str, int]:
    """Make a table of our columns, all as text, and give its name and how many rows the shape leaves out."""

    def text(ours: str) -> str:
        return f"nullif(trim({quoted(found[ours])}::VARCHAR), '')" if ours in found else "NULL::VARCHAR"

    said = f"lower({text('act')})"
    meanings = {word.strip().casefold(): meaning for word, meaning in shape.acts.items()}
    act = _case(said, meanings, otherwise=text("act"))
    purpose = "NULL::VARCHAR"
    if "purpose" in found:
        mailed = {word.strip().casefold(): "marketing" for word in shape.marketing}
        named = _case(f"lower({text('purpose')})", mailed, otherwise=text("purpose"))
        purpose = f"coalesce({named}, {literal(_UNNAMED)})"
    proofs = [ours for ours in found if ours.startswith("evidence.")]
    evidence = text("evidence")
    if proofs:
        members = ", ".join(f"{literal(ours.partition('.')[2])}, {text(ours)}" for ours in proofs)
        evidence = f"coalesce({evidence}, json_object({members})::VARCHAR)"
    stops = f"({_is_stop(act)}) AND {text('email')} LIKE '%@%'"
    kept = " AND ".join(
        [f"({act}) IS DISTINCT FROM 'ignore'"]
        + [
            _is_one_of(text(f"only.{name}"), values, doubted=stops)
            for name, values in shape.only.items()
            if f"only.{name}" in found
        ]
    )
    with reading("cannot be read: is the shape's time_format one that strptime knows?"):
        con.raw_sql(
            f"""
            create temp table export_rows as
            select {ROW}, {text("contact_id")} as contact_id, {text("email")} as email,
                   coalesce({text("channel")}, {literal(shape.channel)}) as channel, {purpose} as purpose, {act} as act,
                   {_time(text("occurred_at"), shape.time_format)} as occurred_at,
                   coalesce({text("source")}, {literal(source)}) as source, {evidence} as evidence
            from {quoted(raw.name)} where {kept}
            """
        ).fetchall()
    return "export_rows", _count(con.table(raw.name)) - _count(con.table("export_rows"))


def _is_stop(act: str) -> str:
    """Ask whether an act takes consent back, as one does that nobody understands."""
    raising = ", ".join(literal(word) for word in sorted(RAISING))
    return f"coalesce(regexp_replace(lower({act}), '[\\s\\-]+', '_', 'g') NOT IN ({raising}), true)"


def _is_one_of(said: str, values: Sequence[str], *, doubted: str) -> str:
    """Ask whether a text is one of some values; `doubted` rows also count where it is empty or only spelled otherwise."""
    exact = ", ".join(literal(value.casefold()) for value in values)
    letters = f"regexp_replace(lower({said}), '[\\W_]', '', 'g')"
    alike = " OR ".join(
        f"contains({letters}, {literal(plain)})"
        for value in values
        if (plain := re.sub(r"[\W_]", "", value.casefold(), flags=re.ASCII))
    )
    return f"(coalesce(lower({said}) IN ({exact}), false) OR ({doubted} AND ({said} IS NULL OR {alike or 'false'})))"


def _case(said: str, meanings: Mapping[str, str], *, otherwise: str) -> str:
    if not meanings:
        return otherwise
    whens = " ".join(
        f"WHEN {literal(word)} THEN {literal(meaning)}" for word, meaning in sorted(meanings.items())
    )
    return f"CASE {said} {whens} ELSE {otherwise} END"


def _time(text: str, time_format: str | None) -> str:
    """Bring a time into ISO 8601; one of another form stays as it is, and breaks a rule."""
    if time_format is None:
        return text
    time, zone = f"try_strptime({text}, {literal(time_format)})", ""
    if {"%z", "%Z"} & set(
        re.findall("%.", time_format)
    ):  # it says its zone itself, and DuckDB gives an instant
        time, zone = f"{time} AT TIME ZONE 'UTC'", "Z"
    return f"coalesce(strftime({time}, '%Y-%m-%dT%H:%M:%S.%f{zone}'), {text})"


def _stops(findings: ir.Table) -> ir.BooleanValue:
    return findings.level == "refuse"


def _by_rule(findings: ir.Table) -> dict[str, int]:
    counted = findings.group_by("rule").agg(rows=findings.count()).order_by("rule")
    return {row["rule"]: row["rows"] for row in counted.to_pyarrow().to_pylist()}


def _count(rows: ir.Table) -> int:
    return int(rows.count().to_pyarrow().as_py())
