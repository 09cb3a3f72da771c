"""The one entry: a project and a moment in, a snapshot out.

Lives here: the order of the steps and what the manifest tells about them. Must not: any step's own rules.

Each step reads what the step before wrote to the snapshot's files, not its expression: nothing is computed twice, and
memory holds one step at a time.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, BinaryIO

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend
from pydantic import TypeAdapter

from .config import Project, RecommendationConfig
from .data.canonical import TABLES, CanonicalTables
from .data.engine import connect
from .data.erased import Erased
from .data.ingest import customer_traits as shop_traits
from .data.ingest import ingest
from .data.known import known_at
from .data.timeline import timeline
from .errors import ConfigError, Problem
from .features.compute import FEATURES, compute, customer_traits
from .learnt import Learnt, LearntTables, with_events, with_values
from .model import Trait
from .recommend.base import RECOMMENDATIONS, Recommender
from .recommend.popular import PopularInCategory
from .scores.rfm import FEWEST_BUYERS, RFM, score
from .segments.check import check_segments, segment_warnings
from .segments.membership import SegmentTables, evaluate
from .snapshot import Draft, Snapshot, history, writing

Progress = Callable[[str, float], None]
"""Is told what is being done and which share of the whole, from 0 to 1, is done."""


def build(
    project: Project,
    *,
    as_of: datetime,
    progress: Progress,
    stdin: BinaryIO | None = None,
    learnt: Learnt | None = None,
    erased: Erased | None = None,
) -> Snapshot:
    """Read the sources and write a snapshot for `as_of`; `stdin` is what a source on stdin reads.

    `learnt` is what else is known of contacts: its traits and events count as the sources' own do.
    `erased` knows who must not come back; it is asked once no other build can be at work.

    Raises ConfigError, DataError or StoreError; the snapshot before then stays current, and nothing else is left.
    """
    con = connect()
    try:
        with writing(project.state_folder, con) as draft:
            return _Build(project, as_of, con, draft, progress, learnt).run(stdin, erased)
    finally:
        con.disconnect()


def available_traits(project: Project, learnt: Sequence[Trait] = ()) -> tuple[Trait, ...]:
    """Give the traits that a build would make, from the heads of the sources and without a build.

    The type of a customer column that `traits:` does not name is a guess from its first rows. Columns of a source on
    stdin are not seen. Raises ConfigError or DataError when the sources cannot be read.
    """
    return _all_traits(project, shop_traits(project), learnt)


def _all_traits(project: Project, extra: Sequence[Trait], learnt: Sequence[Trait]) -> tuple[Trait, ...]:
    computed = {trait.name for trait in (*FEATURES, *RFM)}
    problems = [
        Problem(
            where=project.place("sources", "customers"),
            message=f'customers have a column "{trait.name}", which is the name of a computed trait.',
            next_step=f"Give it another name in columns, e.g. {{shop_{trait.name}: {trait.name}}}.",
        )
        for trait in extra
        if trait.name in computed
    ]
    taken = computed | {trait.name for trait in (*customer_traits(), *extra)}
    problems += [
        Problem(
            where=project.place("destinations"),
            message=f'a mapping pulls a field into "{trait.name}", which is the name of another trait.',
            next_step="Give the pulled trait another name in the mapping.",
        )
        for trait in learnt
        if trait.name in taken
    ]
    if problems:
        raise ConfigError.of(problems)
    return (*customer_traits(), *extra, *learnt, *FEATURES, *RFM)


class _Build:
    """One run over one draft."""

    def __init__(
        self,
        project: Project,
        as_of: datetime,
        con: Backend,
        draft: Draft,
        progress: Progress,
        learnt: Learnt | None,
    ) -> None:
        self._project = project
        self._as_of = as_of
        self._con = con
        self._draft = draft
        self._progress = progress
        self._learnt = learnt
        self._warnings: list[str] = []

    def run(self, stdin: BinaryIO | None, erased: Erased | None) -> Snapshot:
        self._progress("Reading the sources", 0.0)
        ingested = ingest(self._project, self._con, stdin=stdin, as_of=self._as_of, erased=erased)
        more = self._learnt.traits if self._learnt else ()
        traits = _all_traits(self._project, ingested.extra_traits, more)
        if problems := check_segments(self._project, traits):
            raise ConfigError.of(problems)
        self._progress("Writing the tables", 0.4)
        tables, told = self._write_canonical(ingested.tables)
        quarantine = self._draft.write("quarantine", ingested.quarantine)
        self._draft.write("identity", ingested.identity, order_by=("contact_id",))
        for name in (*TABLES, "quarantine", "identity"):
            # From here on the files are read: what ingest keeps in memory is not needed twice.
            self._con.raw_sql(f"drop table {name}").fetchall()
        self._progress("Computing traits", 0.5)
        customers = with_values(tables.customers, more, told) if told else tables.customers
        profiles = self._write_profiles(replace(tables, customers=customers), traits)
        known = known_at(tables, self._as_of)
        self._progress("Finding segments", 0.75)
        segments = self._write_segments(profiles, known)
        self._progress("Choosing recommendations", 0.85)
        self._write_recommendations(profiles, tables)
        self._warn_about(tables, known, profiles)
        self._progress("Publishing the snapshot", 0.95)
        snapshot = self._draft.publish(
            self._as_of,
            {
                "project": self._project.project,
                "timezone": self._project.timezone,
                "currency": self._project.currency,
                "config_digest": _digest(self._project),
                "traits": [_plain(trait) for trait in traits],
                "segments": self._described_segments(segments),
                "groups": {name: list(group.segments) for name, group in self._project.groups.items()},
                "recommendations": _plain(self._project.recommendations),
                "report": _plain(ingested.report),
                "quarantine": _counts(quarantine, "source", "rule"),
                "warnings": [*ingested.report.warnings, *self._warnings],
            },
        )
        self._progress("Done", 1.0)
        return snapshot

    def _write_canonical(self, tables: CanonicalTables) -> tuple[CanonicalTables, LearntTables | None]:
        told = self._learnt.read(self._con, self._as_of) if self._learnt else None
        if told is not None:
            tables = replace(tables, events=with_events(tables, told))
            values = self._draft.write("pulled", told.values, order_by=("contact_id", "destination", "tag"))
            told = replace(told, values=values)
        written = {name: self._draft.write(name, getattr(tables, name)) for name in TABLES}
        return CanonicalTables(**written), told

    def _write_profiles(self, tables: CanonicalTables, traits: Sequence[Trait]) -> ir.Table:
        """Write customers with everything computed, one row per contact and a column per trait."""
        computed = compute(tables, self._as_of, timezone=self._project.timezone)
        features = self._con.create_table("features", computed, temp=True)
        names = {trait.name for trait in (*FEATURES, *RFM)}
        customers = tables.customers.drop(*(names & set(tables.customers.columns)))
        joined = customers.join(features, "contact_id").join(score(features), "contact_id")
        return self._draft.write(
            "profiles", joined.select([trait.name for trait in traits]), order_by=("contact_id",)
        )

    def _write_segments(self, profiles: ir.Table, known: CanonicalTables) -> SegmentTables:
        evaluated = evaluate(self._project, profiles, timeline(known), self._as_of, self._previous())
        self._draft.write("segments", evaluated.segments, order_by=("segment", "contact_id"))
        self._draft.write("groups", evaluated.groups, order_by=("group_name", "contact_id"))
        self._draft.write(
            "memberships", evaluated.memberships, order_by=("segment", "contact_id", "entered_at")
        )
        for name in evaluated.too_small:
            size, least = evaluated.sizes[name], self._project.segments[name].minimum_size
            self._warnings.append(
                f"Segment {name} has {size:,} member{'' if size == 1 else 's'}, fewer than its minimum_size of "
                f"{least:,}, and is left out."
            )
        return evaluated

    def _previous(self) -> ir.Table | None:
        """Give the history to carry on: of the latest snapshot that is not for a later moment, else of the next one."""
        found = history(self._project.state_folder, damaged=self._warn_of_damage)
        kept = sorted(found, key=lambda snapshot: snapshot.as_of)
        earlier = [snapshot for snapshot in kept if snapshot.as_of <= self._as_of]
        for snapshot in (*reversed(earlier), *kept[len(earlier) :]):
            try:
                return self._con.read_parquet(
                    str(snapshot.table("memberships")), table_name="memberships_before"
                )
            except duckdb.Error:
                self._warn_of_damage(snapshot.id)
        return None

    def _warn_of_damage(self, snapshot_id: str) -> None:
        self._warnings.append(f"Snapshot {snapshot_id} is damaged: its history of segments is left out.")

    def _write_recommendations(self, profiles: ir.Table, tables: CanonicalTables) -> None:
        parts = []
        caveats: dict[str, None] = {}
        for name, config in self._project.recommendations.items():
            recommender = _recommender(config)
            found = recommender.recommend(tables, profiles, self._as_of, config.slots)
            parts.append(
                found.select(
                    "contact_id",
                    ibis.literal(name).name("recommendation"),
                    *(column for column in RECOMMENDATIONS if column != "contact_id"),
                )
            )
            caveats |= dict.fromkeys(recommender.caveats(tables))
        if not parts:
            schema = ibis.schema({"contact_id": "string", "recommendation": "string", **RECOMMENDATIONS})
            parts.append(self._con.create_table("no_recommendations", schema=schema, temp=True))
        self._draft.write(
            "recommendations",
            ibis.union(*parts) if len(parts) > 1 else parts[0],
            order_by=("recommendation", "contact_id", "slot"),
        )
        self._warnings += caveats

    def _warn_about(self, tables: CanonicalTables, known: CanonicalTables, profiles: ir.Table) -> None:
        """Say what a reader of the numbers should know."""
        currencies = _values(known.orders.currency)
        if len(currencies) > 1:
            self._warnings.append(
                f"Orders are in {', '.join(currencies)}: revenue adds their amounts as they stand, "
                "without exchange rates."
            )
        if _rows(profiles.filter(profiles.orders_count > 0)) < FEWEST_BUYERS:
            self._warnings.append(
                f"Fewer than {FEWEST_BUYERS} contacts ordered: nobody gets an RFM score or cell."
            )
        if later := _rows(tables.orders) - _rows(known.orders):
            self._warnings.append(f"{later:,} orders lie after {self._as_of.isoformat()} and do not count.")
        unheard = segment_warnings(self._project, _values(known.events.event_type))
        self._warnings += [str(problem) for problem in unheard]

    def _described_segments(self, segments: SegmentTables) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "label": config.label,
                "description": config.description,
                "size": segments.sizes[name],
                "minimum_size": config.minimum_size,
                "is_too_small": name in segments.too_small,
            }
            for name, config in self._project.segments.items()
        ]


def _recommender(config: RecommendationConfig) -> Recommender:
    match config.kind:
        case "popular_in_category":
            return PopularInCategory(window=config.window)


def _rows(table: ir.Table) -> int:
    return int(table.count().to_pyarrow().as_py())


def _values(column: ir.StringColumn) -> list[str]:
    found = column.as_table().distinct().to_pyarrow().column(0).to_pylist()
    return sorted(value for value in found if value is not None)


def _counts(table: ir.Table, *columns: str) -> list[dict[str, Any]]:
    counted = table.group_by(columns).aggregate(rows=table.count()).order_by(columns)
    rows: list[dict[str, Any]] = counted.to_pyarrow().to_pylist()
    return rows


def _digest(project: Project) -> str:
    """Name what the project says, so that a snapshot can be told to be older than its configuration."""
    return hashlib.sha256(project.model_dump_json().encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Give a value of ours as JSON has it: times as ISO 8601, lengths of time in seconds."""
    return TypeAdapter(Any).dump_python(value, mode="json")
