"""From the sources of a project to canonical tables: read, cast, check, merge, classify, and report.

Lives here: the order of these steps and what is reported. Must not: any of the steps themselves.

Nothing is written anywhere but in the engine that is passed in. A source that cannot be read, a column that is
missing, or more rejected rows than `quality.max_rejected_share` allows ends it with an error that lists all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Final

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from ..config import Project
from ..errors import ConfigError, DataError, Problem, SegueError
from ..model import Trait
from . import identity as identities
from .canonical import TABLES, CanonicalTables, schema_of
from .checks import Checks
from .engine import connect, reading, room
from .erased import Erased, leave_out
from .files import ROW
from .inspection import SOURCE_SPAN, Inspection, RuleCount, counts, refused_most
from .lines import classify
from .rules import check_levels, levels
from .sources import Opened, open_all
from .staging import infer_traits, stage

# A source is as fresh as the newest of these; lines and products carry no time.
_TIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "customers": ("updated_at", "created_at"),
    "orders": ("ordered_at",),
    "events": ("occurred_at",),
    "consents": ("occurred_at",),
}
_HEAD_ROWS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What one source gave. `rows_read` are `rows_accepted` and `rows_left_out` together.

    `rows_rejected` broke a rule at level refuse, left out or not. `newest` is the latest time in it that is not
    after the moment of the build, None where it has no times.
    """

    source: str
    table_name: str
    rows_read: int
    rows_accepted: int
    rows_left_out: int
    rows_rejected: int
    ignored_columns: tuple[str, ...]
    newest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest read, left out and merged. `newest` is the latest time in any source, None where there are none."""

    sources: tuple[SourceReport, ...]
    rules: tuple[RuleCount, ...]
    merged_contacts: int
    newest: datetime | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """The canonical tables, with what is needed to judge them.

    quarantine: source, table_name, row_number (1 is the first row under a header), column_name, rule, level, effect,
    value_class, detail. identity: contact_id, survivor_id, rule, merged_columns.
    """

    tables: CanonicalTables
    quarantine: ir.Table
    identity: ir.Table
    extra_traits: tuple[Trait, ...]
    report: IngestReport


def ingest(
    project: Project,
    con: Backend,
    *,
    stdin: BinaryIO | None = None,
    as_of: datetime | None = None,
    erased: Erased | None = None,
) -> Ingested:
    """Bring a project's sources into canonical tables named as such in `con`.

    `as_of` is the moment of the build, by default the project's, by default now: it decides what is in the future
    and which sales were already taken back. Rows of who was erased are left out. Raises ConfigError or DataError, each with all that is wrong, and
    StoreError when the engine runs out of memory and disk.
    """
    with room():
        return _ingest(project, con, stdin, as_of or project.as_of or datetime.now(UTC), erased)


def _ingest(
    project: Project, con: Backend, stdin: BinaryIO | None, moment: datetime, erased: Erased | None
) -> Ingested:
    inspection = Inspection(con, levels(project))
    if "customers" not in project.sources:
        raise ConfigError.of([_no_customers(project)])
    apart = identities.kept_apart(project.folder)
    opened, problems = open_all(project, con, stdin=stdin)
    if problems:
        raise DataError.of(problems)
    by_table = {name: [found for found in opened if found.table_name == name] for name in TABLES}
    # A Parquet file is only scanned here, and can be damaged behind a sound footer.
    with reading("A Parquet file among the sources is damaged. Export it again."):
        traits = infer_traits(con, project, by_table["customers"])
        staged = {
            name: stage(con, project, name, sources, inspection, traits if name == "customers" else ())
            for name, sources in by_table.items()
            if sources
        }
        if erased is not None and erased(con.con):
            staged = leave_out(con, staged, inspection)
    tables, identity = _check(con, project, staged, inspection, apart, moment)
    labels = {name: [found.label for found in sources] for name, sources in by_table.items()}
    quarantine = con.create_table("quarantine", inspection.quarantine(labels))
    reports = _source_reports(con, opened, staged, inspection, traits, moment)
    rules = counts(quarantine)
    _stop_if_too_many(project, reports, quarantine)
    merged = int(identity.count().to_pyarrow().as_py())
    report = IngestReport(
        sources=reports,
        rules=rules,
        merged_contacts=merged,
        newest=max((found.newest for found in reports if found.newest), default=None),
        warnings=tuple(_warnings(reports, merged)),
    )
    _drop_work(con)
    return Ingested(
        tables=tables, quarantine=quarantine, identity=identity, extra_traits=traits, report=report
    )


def check_sources(project: Project) -> list[Problem]:
    """Give everything that would keep an ingest from starting, from the heads of the sources. Reads no stdin."""
    problems = list(check_levels(project))
    if "customers" not in project.sources:
        problems.append(_no_customers(project))
    con = connect()
    try:
        identities.kept_apart(project.folder)
        opened, more = open_all(project, con, head=_HEAD_ROWS)
        problems += more
        customers = [found for found in opened if found.table_name == "customers"]
        if len(customers) == len(project.sources.get("customers", [])):
            infer_traits(con, project, customers)
    except SegueError as error:
        problems += error.problems or [Problem(where=project.folder.name, message=error.message)]
    finally:
        con.disconnect()
    return problems


def customer_traits(project: Project) -> tuple[Trait, ...]:
    """Give the traits that the customers' further columns make, from the heads of their sources.

    A type can turn out wider in a build, which reads all rows. Raises as `ingest` does.
    """
    con = connect()
    try:
        opened, problems = open_all(_only_customers(project), con, head=_HEAD_ROWS)
        if problems:
            raise DataError.of(problems)
        return infer_traits(con, project, opened)
    finally:
        con.disconnect()


def _only_customers(project: Project) -> Project:
    chosen = {name: sources for name, sources in project.sources.items() if name == "customers"}
    return project.model_copy(update={"sources": chosen})


def _no_customers(project: Project) -> Problem:
    return Problem(
        where=project.place("sources"),
        message="sources: there are no customers, and every contact is one.",
        next_step="Add `customers:` with at least the column contact_id.",
    )


def _check(
    con: Backend,
    project: Project,
    staged: Mapping[str, ir.Table],
    inspection: Inspection,
    apart: frozenset[str],
    moment: datetime,
) -> tuple[CanonicalTables, ir.Table]:
    checks = Checks(con, project, inspection, moment)

    def finish(name: str, check: Callable[[ir.Table], ir.Table]) -> ir.Table:
        if name not in staged:
            return con.create_table(name, schema=schema_of(name))
        return con.create_table(name, check(staged[name]))

    customers = con.create_table("checked_customers", checks.customers(staged["customers"]), temp=True)
    found = identities.merge(
        customers, keep=project.identity.keep, apart=apart, on_email="email" in project.identity.merge_on
    )
    identity = con.create_table("identity", found.identity)
    customers = con.create_table("customers", found.customers)
    products = finish("products", checks.products)
    orders = finish("orders", lambda rows: checks.orders(rows, customers, identity))
    lines = finish(
        "order_items",
        lambda rows: classify(checks.order_items(rows, orders, products), orders, products, as_of=moment),
    )
    return (
        CanonicalTables(
            customers=customers,
            products=products,
            orders=orders,
            order_items=lines,
            events=finish("events", lambda rows: checks.events(rows, customers, identity)),
            consents=finish("consents", lambda rows: checks.consents(rows, identity)),
        ),
        identity,
    )


def _source_reports(
    con: Backend,
    opened: Sequence[Opened],
    staged: Mapping[str, ir.Table],
    inspection: Inspection,
    traits: Sequence[Trait],
    moment: datetime,
) -> tuple[SourceReport, ...]:
    broken = inspection.broken_rows()
    known = {trait.name for trait in traits}
    reports = []
    for found in opened:
        name = found.table_name
        newest = _newest(staged[name], _TIMES.get(name, ()), found.place, moment)
        rejects = 0 if found.raw.rejects is None else _count(con.table(found.raw.rejects))
        read = _count(found.rows(con)) + rejects
        out, rejected = broken.get((name, found.place), (0, 0))
        unusable = tuple(theirs for trait, theirs in found.traits.items() if trait not in known)
        reports.append(
            SourceReport(
                source=found.label,
                table_name=name,
                rows_read=read,
                rows_accepted=read - out,
                rows_left_out=out,
                rows_rejected=rejected,
                ignored_columns=found.ignored + unusable,
                newest=newest,
            )
        )
    return tuple(reports)


def _newest(rows: ir.Table, columns: Sequence[str], place: int, moment: datetime) -> datetime | None:
    if not columns:
        return None
    own = rows.filter(rows[ROW] // SOURCE_SPAN == place)
    latest = own.aggregate(
        **{
            column: own[column].max(where=own[column] <= ibis.literal(moment, "timestamp('UTC')"))
            for column in columns
        }
    )
    times = [time for time in latest.to_pyarrow().to_pylist()[0].values() if time is not None]
    return max(times).astimezone(UTC) if times else None


def _count(rows: ir.Table) -> int:
    return int(rows.count().to_pyarrow().as_py())


def _stop_if_too_many(project: Project, reports: Sequence[SourceReport], quarantine: ir.Table) -> None:
    """Raise DataError for every table of which too large a share was rejected."""
    limit = project.quality.max_rejected_share
    problems = []
    for table_name in dict.fromkeys(found.table_name for found in reports):
        sources = [found for found in reports if found.table_name == table_name]
        read = sum(found.rows_read for found in sources)
        rejected = sum(found.rows_rejected for found in sources)
        if read and rejected / read > limit:
            problems.append(
                Problem(
                    where=", ".join(found.source for found in sources),
                    message=f"{rejected:,} of {read:,} rows of {table_name} are rejected ({rejected / read:.1%}), more than the {limit:.1%} of "
                    f"quality.max_rejected_share: {'; '.join(refused_most(quarantine, table_name))}.",
                    next_step="Correct the data, set a rule to warn, or raise the share. No snapshot was written.",
                )
            )
    if problems:
        raise DataError.of(problems)


def _warnings(reports: Sequence[SourceReport], merged: int) -> list[str]:
    """Say in sentences what a person should know although the ingest went well."""
    said = [
        f"{found.source}: {found.table_name} ignore the column{'s' if len(found.ignored_columns) > 1 else ''} {', '.join(found.ignored_columns)}."
        for found in reports
        if found.ignored_columns
    ]
    if merged:
        said.append(f"{merged:,} customers became part of another with the same address.")
    return said


def _drop_work(con: Backend) -> None:
    """Free what the steps left behind; the canonical tables, quarantine and identity stay."""
    for kind, name in con.raw_sql(
        "select table_type, table_name from information_schema.tables where table_catalog = 'temp'"
    ).fetchall():
        what = "view" if kind == "VIEW" else "table"
        con.raw_sql(f'drop {what} if exists temp."{name}"').fetchall()
