"""What a destination should become, compared with what it confirmed last: `build_plan` is pure and sends nothing.

The plan is the very object that `apply` executes: a manifest and two Parquet files, one row per step and one per
withheld contact. What differs, who may be written and in which steps is worked out in `diff`; here that is counted,
held against the guardrails (`_tripped`) and frozen.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import duckdb

from ...core.config import Guardrails
from ...core.errors import StoreError
from ...core.model import Account, Capabilities, DestinationSchema, FieldSpec, FieldType, Operation
from ..store.keys import ContactKeys
from ..store.sealing import PLAIN, Sealing
from .cost import requests_of, seconds_of
from .diff import Known, compare, judge, list_steps
from .plan_files import freeze, is_whole, new_key

# Below this many contacts a share says nothing: three of five contacts change on any day.
SHARES_COUNT_FROM: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A frozen plan. Counts are for people; `steps` and `withheld_contacts` are the Parquet files behind them."""

    plan_id: str
    destination: str
    snapshot_id: str
    created_at: datetime
    schema: DestinationSchema
    double_opt_in: bool
    operations: Mapping[str, int]
    withheld: Mapping[str, int]
    unchanged: int
    fields_changed: Mapping[str, int]
    tags_added: Mapping[str, int]
    tags_removed: Mapping[str, int]
    requests: Mapping[str, int]  # writes, by what they are for
    seconds: float
    new_contacts: int
    adopted: int = 0  # contacts that the audience has already and that get our fields for the first time
    may_trigger: tuple[str, ...]
    guardrails: tuple[str, ...]
    steps: Path
    withheld_contacts: Path
    file_key: str = ""  # what the files are encrypted with, itself sealed; empty for files in clear
    reads: Mapping[str, int] = field(default_factory=dict)  # what is asked besides, by what it is for
    gone: int = 0  # contacts that the destination confirmed and the data lacks
    without_grant: Mapping[str, int] = field(
        default_factory=dict
    )  # creates on the law of a country, by country
    samples: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def writes(self) -> int:
        """How many write requests the plan takes if nothing fails."""
        return sum(self.requests.values())

    @property
    def empty(self) -> bool:
        """Whether applying it would send nothing."""
        return not self.writes

    def manifest(self) -> dict[str, Any]:
        """Give what the store keeps: plain JSON, without the samples, because those show a person's values."""
        raw = asdict(self)
        del raw["samples"]
        return raw | {
            "created_at": self.created_at.isoformat(),
            "steps": str(self.steps),
            "withheld_contacts": str(self.withheld_contacts),
        }

    @classmethod
    def from_manifest(cls, raw: Mapping[str, Any]) -> Self:
        """Read `manifest` back. Raises StoreError when the plan's files are gone or were edited."""
        schema = DestinationSchema(
            fields=tuple(
                FieldSpec(**(spec | {"type": FieldType(spec["type"])})) for spec in raw["schema"]["fields"]
            ),
            tags=tuple(raw["schema"]["tags"]),
        )
        plan = cls(
            **{
                **raw,
                "schema": schema,
                "created_at": datetime.fromisoformat(raw["created_at"]),
                "steps": Path(raw["steps"]),
                "withheld_contacts": Path(raw["withheld_contacts"]),
                "may_trigger": tuple(raw["may_trigger"]),
                "guardrails": tuple(raw["guardrails"]),
            }
        )
        if not is_whole(plan.steps):
            raise StoreError(
                f"Plan {plan.plan_id}: its file {plan.steps.name} is missing or was changed after planning."
                " Make a new one with `segue plan`."
            )
        return plan


def build_plan(  # noqa: PLR0913  # a plan depends on all of these, and on nothing else
    *,
    destination: str,
    snapshot_id: str,
    desired: Path,
    schema: DestinationSchema,
    known: Known,
    account: Account,
    capabilities: Capabilities,
    guardrails: Guardrails,
    keys: ContactKeys,
    folder: Path,
    now: datetime,
    concerns: Sequence[str] = (),
    sealing: Sealing = PLAIN,
) -> Plan:
    """Compare `desired` with `known` and write the plan's two files into `folder`.

    `desired` is a Parquet file (contact_id, address, fields, tags) as a mapping projects it; `fields` is canonical
    JSON text, and a column contact_key stands for ids that are not known any more. `schema` is all that the mapping
    needs; the plan keeps what the account lacks. `concerns` are passed limits that were found before, such as inputs
    that are too old. `sealing` encrypts the files if the store is encrypted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    con = duckdb.connect(
        config={
            "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    try:
        con.execute("SET GLOBAL TimeZone = 'UTC'").fetchall()  # also in the thread that reads
        con.execute("SET memory_limit = '512MB'").fetchall()
        # Order costs memory, and all that is kept is sorted.
        con.execute("SET preserve_insertion_order = false").fetchall()
        keys.install(con)
        compare(con, desired, known)
        judge(con, known, shows_consent=capabilities.shows_consent)
        list_steps(con, [spec.tag for spec in schema.fields if not spec.claim])
        file_key = new_key(sealing)
        steps = freeze(con, "steps", "rank, group_key, contact_key, address", folder, file_key, sealing)
        withheld = freeze(con, "withheld", "reason, contact_key", folder, file_key, sealing)
        operations = _counts(con, "SELECT operation, count(*) FROM steps GROUP BY 1 ORDER BY min(rank)")
        lacking = DestinationSchema(
            fields=tuple(spec for spec in schema.fields if operations and spec.tag not in account.fields),
            tags=tuple(
                tag
                for tag in schema.tags
                if operations and account.tags is not None and tag not in account.tags
            ),
        )
        tags_removed = _counts(
            con, "SELECT group_key, count(*) FROM steps WHERE operation = 'untag' GROUP BY 1 ORDER BY 1"
        )
        tags_added = _counts(
            con,
            "SELECT tag, count(*) FROM (SELECT unnest(tags_added) AS tag FROM differing WHERE writes) GROUP BY 1 ORDER BY 1",
        )
        requests, reads = requests_of(
            operations,
            tags_removed,
            capabilities,
            lacking,
            unmade=account.unmade,
            whole_bytes=_scalar(con, _WHOLE_BYTES),
        )
        return Plan(
            plan_id=_name(now, steps),
            destination=destination,
            snapshot_id=snapshot_id,
            created_at=now,
            schema=lacking,
            double_opt_in=account.double_opt_in,
            operations=operations,
            withheld=_counts(con, "SELECT reason, count(*) FROM withheld GROUP BY 1 ORDER BY 2 DESC, 1"),
            unchanged=_scalar(con, _UNCHANGED),
            fields_changed=_counts(con, _FIELDS_CHANGED),
            tags_added=tags_added,
            tags_removed=tags_removed,
            requests=requests,
            reads=reads,
            seconds=seconds_of(sum(requests.values()) + sum(reads.values()), capabilities),
            new_contacts=operations.get(Operation.CREATE, 0),
            adopted=_scalar(con, "SELECT count(*) FROM differing WHERE kind = 'new' AND updates"),
            may_trigger=() if capabilities.quiet_tags else tuple(tags_added),
            guardrails=(*concerns, *_tripped(con, guardrails, account, operations, tags_removed)),
            steps=steps,
            withheld_contacts=withheld,
            file_key=file_key,
            gone=_scalar(con, "SELECT count(*) FROM matched WHERE kind = 'gone'"),
            without_grant=_counts(con, _WITHOUT_GRANT) if known.regimes.asks_nobody else {},
            samples=tuple(_samples(con)),
        )
    finally:
        con.close()


# Most of them are settled and in no table.
_UNCHANGED: Final = """
SELECT (SELECT count(*) FROM desired) - count(*) FROM judged WHERE kind <> 'gone' AND (kind <> 'same' OR reason IS NOT NULL)
"""

# What a contact takes up in a request: its state, with a little more around it than an address is long.
_WHOLE_BYTES: Final = """
SELECT coalesce(sum(strlen(after) + 60), 0) FROM steps WHERE operation IN ('create', 'update') AND before IS NULL
"""

_WITHOUT_GRANT: Final = """
SELECT country, count(*) FROM steps JOIN records USING (contact_key, country)
WHERE operation = 'create' AND granted_at IS NULL GROUP BY 1 ORDER BY 1
"""

# A field changed where its name and value are in one of both states.
_FIELDS_CHANGED: Final = """
WITH states AS (
    SELECT contact_key, before AS state FROM differing WHERE updates AND NOT adopts
    UNION ALL
    SELECT contact_key, after FROM differing WHERE updates AND NOT adopts
),
held AS (
    SELECT contact_key, unnest(map_entries(from_json(state -> '$.fields', '"MAP(VARCHAR, VARCHAR)"')), recursive := true)
    FROM states
),
moved AS (SELECT DISTINCT contact_key, key FROM held GROUP BY contact_key, key, value HAVING count(*) = 1)
SELECT key, count(*) FROM moved GROUP BY 1 ORDER BY 2 DESC, 1
"""


def _samples(con: duckdb.DuckDBPyConnection) -> Iterable[Mapping[str, Any]]:
    rows = con.execute(
        """
        SELECT operation, contact_id, before, after
        FROM steps SEMI JOIN (
            SELECT operation, contact_id FROM steps WHERE operation IN ('create', 'update', 'readdress')
            QUALIFY row_number() OVER (PARTITION BY operation ORDER BY contact_id) <= 3
        ) USING (operation, contact_id)
        ORDER BY rank, contact_id
        """
    ).fetchall()
    for operation, contact_id, before, after in rows:
        old, new = (json.loads(text) if text else {"fields": {}, "tags": []} for text in (before, after))
        yield {
            "operation": operation,
            "contact_id": contact_id,
            "fields": {
                tag: [old["fields"].get(tag), new["fields"].get(tag)]
                for tag in sorted({*old["fields"], *new["fields"]})
                if old["fields"].get(tag) != new["fields"].get(tag)
            },
            "tags_added": sorted(set(new["tags"]) - set(old["tags"])),
        }


def _tripped(
    con: duckdb.DuckDBPyConnection,
    limits: Guardrails,
    account: Account,
    operations: Mapping[str, int],
    tags_removed: Mapping[str, int],
) -> Iterable[str]:
    had = _scalar(con, "SELECT count(*) FROM baseline")
    # What a run sent and never heard of is finished, not changed: the same command after a kill needs no person's word.
    moved = _scalar(
        con,
        "SELECT count(*) FROM differing WHERE kind <> 'new' AND (writes OR len(tags_removed) > 0) AND NOT in_doubt",
    )
    new = operations.get(Operation.CREATE, 0)
    if had >= SHARES_COUNT_FROM and moved > limits.max_change_share * had:
        yield f"{moved:,} of {had:,} contacts would change: more than max_change_share {limits.max_change_share:g}"
    if limits.max_new_contacts is not None and new > limits.max_new_contacts:
        yield f"{new:,} contacts would be new there: more than max_new_contacts {limits.max_new_contacts:,}"
    if account.double_opt_in and new:
        yield f"{new:,} confirmation mails would go out: the audience has double opt-in"
    held = {}
    if tags_removed:
        held = _counts(con, "SELECT tag, count(*) FROM (SELECT unnest(tags) AS tag FROM desired) GROUP BY 1")
    for tag, removed in tags_removed.items():
        before = held.get(tag, 0) + removed
        if before >= SHARES_COUNT_FROM and removed > limits.max_untag_share * before:
            yield f'tag "{tag}" would lose {removed:,} of about {before:,}: more than max_untag_share {limits.max_untag_share:g}'


def _name(now: datetime, steps: Path) -> str:
    """Name a plan by its time and content; equal content at another moment is another plan."""
    digest = hashlib.sha256(f"{now.isoformat()} {steps.name}".encode()).hexdigest()
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{digest[:8]}"


def _counts(con: duckdb.DuckDBPyConnection, query: str) -> dict[str, int]:
    return dict(con.execute(query).fetchall())


def _scalar(con: duckdb.DuckDBPyConnection, query: str) -> int:
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0
