"""What a destination should become, compared with what it confirmed last: `build_plan` is pure and sends nothing.

The plan is the very object that `apply` executes: a manifest and two Parquet files, one row per step and one per
withheld contact. Everything here is set-wise SQL on DuckDB; rows become Python objects only when they are packed.

A row is compared by hash first. Only rows that differ fetch their old payload, so a plan in which nothing changed
reads one narrow table and nothing else.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import duckdb
import pyarrow as pa

from ..core.config import Guardrails
from ..core.errors import StoreError
from ..core.model import Account, Capabilities, DestinationSchema, FieldSpec, FieldType, Operation
from .cost import seconds_of, write_requests
from .gate import INSTANTS, decide
from .store.keys import ContactKeys

MAILABLE: Final = "('subscribed', 'pending')"
LEFT: Final = "('unsubscribed', 'suppressed')"
# Below this many contacts a share says nothing: three of five contacts change on any day.
SHARES_COUNT_FROM: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store remembers of a destination, as Arrow streams that are read once.

    `payloads` gives (contact_key, payload) for the keys asked for: only rows that differ are asked for.
    """

    baseline: Iterable[pa.RecordBatch]  # contact_key int64, row_hash binary
    remote: Iterable[pa.RecordBatch]  # address_key int64, state string
    consents: Iterable[pa.RecordBatch]  # subject_key int64, and the five instants of a ConsentRecord
    rejections: Iterable[pa.RecordBatch]  # contact_key int64, operation string, payload_hash binary
    payloads: Callable[[Iterable[int]], Iterable[pa.RecordBatch]]


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
    requests: Mapping[str, int]
    seconds: float
    new_contacts: int
    may_trigger: tuple[str, ...]
    guardrails: tuple[str, ...]
    steps: Path
    withheld_contacts: Path
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
        if not plan.steps.exists() or _digest(plan.steps) != plan.steps.stem.rpartition("-")[2]:
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
) -> Plan:
    """Compare `desired` with `known` and write the plan's two files into `folder`.

    `desired` is a Parquet file (contact_id, address, fields, tags) as a mapping projects it; `fields` is canonical
    JSON text. `schema` is all that the mapping needs; the plan keeps what the account lacks. `concerns` are passed
    limits that were found before, such as inputs that are too old.
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
        con.execute("SET TimeZone = 'UTC'").fetchall()
        con.execute("SET memory_limit = '1GB'").fetchall()
        keys.install(con)
        _compare(con, desired, known)
        _judge(con, known)
        _steps(con, [spec.tag for spec in schema.fields if not spec.claim])
        steps = _freeze(con, "steps", "rank, group_key, contact_key, address", folder)
        withheld = _freeze(con, "withheld", "reason, contact_key", folder)
        operations = _counts(con, "SELECT operation, count(*) FROM steps GROUP BY 1 ORDER BY min(rank)")
        lacking = DestinationSchema(
            fields=tuple(spec for spec in schema.fields if operations and spec.tag not in account.fields),
            tags=tuple(tag for tag in schema.tags if operations and tag not in account.tags),
        )
        tags_removed = _counts(
            con, "SELECT group_key, count(*) FROM steps WHERE operation = 'untag' GROUP BY 1 ORDER BY 1"
        )
        tags_added = _counts(
            con,
            "SELECT tag, count(*) FROM (SELECT unnest(tags_added) AS tag FROM differing WHERE writes) GROUP BY 1 ORDER BY 1",
        )
        requests = write_requests(operations, tags_removed, capabilities, lacking)
        return Plan(
            plan_id=_name(now, steps),
            destination=destination,
            snapshot_id=snapshot_id,
            created_at=now,
            schema=lacking,
            double_opt_in=account.double_opt_in,
            operations=operations,
            withheld=_counts(con, "SELECT reason, count(*) FROM withheld GROUP BY 1 ORDER BY 2 DESC, 1"),
            unchanged=_scalar(
                con,
                "SELECT count(*) FROM judged WHERE kind = 'same' AND reason IS NULL",
            ),
            fields_changed=_counts(con, _FIELDS_CHANGED),
            tags_added=tags_added,
            tags_removed=tags_removed,
            requests=requests,
            seconds=seconds_of(sum(requests.values()), capabilities),
            new_contacts=operations.get(Operation.CREATE, 0),
            may_trigger=() if capabilities.quiet_tags else tuple(tags_added),
            guardrails=(*concerns, *_tripped(con, guardrails, account, operations, tags_removed)),
            steps=steps,
            withheld_contacts=withheld,
            samples=tuple(_samples(con)),
        )
    finally:
        con.close()


def _compare(con: duckdb.DuckDBPyConnection, desired: Path, known: Known) -> None:
    """Table `diff`: one row per contact desired or known, with how it differs and, where it does, its old payload."""
    con.execute(
        f"""
        CREATE VIEW desired AS
        SELECT contact_id, address, fields, tags,
               '{{"address":' || to_json(address) || ',"fields":' || fields || ',"tags":' || to_json(tags) || '}}' AS payload
        FROM read_parquet('{_quoted(desired)}')
        """
    ).fetchall()
    con.execute(
        """
        CREATE TABLE wanted AS
        SELECT contact_key(contact_id) AS contact_key, contact_id,
               address_key(address) AS address_key,
               unhex(md5(payload)) AS row_hash
        FROM desired
        """
    ).fetchall()
    _load(con, "baseline", "contact_key BIGINT, row_hash BLOB", known.baseline)
    con.execute(
        """
        CREATE TABLE matched AS
        SELECT coalesce(w.contact_key, b.contact_key) AS contact_key, w.contact_id, w.address_key,
               b.row_hash AS before_hash, w.row_hash AS after_hash,
               CASE WHEN w.contact_key IS NULL THEN 'gone'
                    WHEN b.contact_key IS NULL THEN 'new'
                    WHEN w.row_hash = b.row_hash THEN 'same'
                    ELSE 'changed' END AS kind
        FROM wanted w FULL JOIN baseline b USING (contact_key)
        """
    ).fetchall()
    _load(con, "old", "contact_key BIGINT, payload VARCHAR", known.payloads(_keys_that_differ(con)))
    con.execute(
        """
        CREATE TABLE diff AS
        SELECT m.*, old.payload AS before, old.payload ->> '$.address' AS before_address,
               CASE WHEN m.kind = 'same' THEN m.address_key
                    ELSE address_key(old.payload ->> '$.address') END AS before_address_key
        FROM matched m LEFT JOIN old USING (contact_key)
        """
    ).fetchall()


def _keys_that_differ(con: duckdb.DuckDBPyConnection) -> Iterable[int]:
    reader = con.cursor().execute(
        "SELECT contact_key FROM matched WHERE kind IN ('changed', 'gone') ORDER BY 1"
    )
    while rows := reader.fetchmany(10_000):
        yield from (key for (key,) in rows)


def _judge(con: duckdb.DuckDBPyConnection, known: Known) -> None:
    """Tables `judged`, with a reason where a contact is withheld, and `withheld`, those reasons with their dates."""
    instants = ", ".join(f"{name} TIMESTAMP" for name in INSTANTS)
    _load(con, "consents", f"subject_key BIGINT, {instants}", known.consents)
    _load(con, "remote", "address_key BIGINT, state VARCHAR", known.remote)
    _load(con, "rejections", "contact_key BIGINT, operation VARCHAR, payload_hash BLOB", known.rejections)
    merged = ", ".join(f"greatest(p.{name}, a.{name}, o.{name}) AS {name}" for name in INSTANTS)
    con.execute(
        f"""
        CREATE TABLE records AS
        SELECT d.contact_key, {merged}
        FROM diff d
        LEFT JOIN consents p ON p.subject_key = d.contact_key
        LEFT JOIN consents a ON a.subject_key = d.address_key
        LEFT JOIN consents o ON o.subject_key = d.before_address_key AND d.before_address_key <> d.address_key
        """
    ).fetchall()
    decide(con, "records", "consent_state")
    con.execute(
        f"""
        CREATE TABLE judged AS
        SELECT d.*, s.state, here.state AS remote_state, there.state AS before_remote_state,
               s.state = 'subscribed' OR coalesce(here.state IN {MAILABLE}, false) AS agreed,
               d.address_key IS NOT NULL AND row_number() OVER (
                   PARTITION BY d.address_key
                   ORDER BY agreed DESC, d.before_address_key IS DISTINCT FROM d.address_key, d.kind = 'new', d.contact_key
               ) > 1 AS shares,
               CASE
                 WHEN d.kind = 'gone' THEN NULL
                 WHEN d.address_key IS NULL THEN 'invalid_address'
                 WHEN s.state = 'suppressed' OR here.state = 'suppressed' OR there.state = 'suppressed' THEN 'suppressed'
                 WHEN s.state = 'unsubscribed' OR here.state = 'unsubscribed' OR there.state = 'unsubscribed' THEN 'withdrawn'
                 WHEN shares THEN 'shared_address'
                 WHEN s.state = 'subscribed' AND (here.state IS NULL OR here.state IN {MAILABLE}) THEN NULL
                 WHEN here.state IN {MAILABLE} THEN NULL
                 WHEN s.state = 'pending' THEN 'pending'
                 ELSE 'no_grant'
               END AS standing,
               CASE WHEN standing IS NULL AND d.kind IN ('new', 'changed') AND r.contact_key IS NOT NULL
                    THEN 'rejected_before' ELSE standing END AS reason
        FROM diff d
        JOIN consent_state s USING (contact_key)
        LEFT JOIN remote here ON here.address_key = d.address_key
        LEFT JOIN remote there ON there.address_key = d.before_address_key
        LEFT JOIN (
            SELECT DISTINCT contact_key, payload_hash, operation IN ('create', 'readdress') AS moves_in FROM rejections
        ) r ON r.contact_key = d.contact_key AND r.payload_hash = d.after_hash AND r.moves_in = (here.state IS NULL)
        """
    ).fetchall()
    con.execute(
        """
        CREATE TABLE withheld AS
        SELECT contact_key, contact_id, reason,
               CASE reason WHEN 'withdrawn' THEN withdrawn_at WHEN 'suppressed' THEN suppressed_at
                           WHEN 'pending' THEN requested_at END AS since
        FROM judged JOIN records USING (contact_key) WHERE reason IS NOT NULL
        """
    ).fetchall()


# Ranks are the order of sending. Tags leave an address that a contact gave up before anybody else is written there, and
# a member moves away before somebody takes its old address. A create or an adoption starts from nothing: all of its
# fields go, and the ones of ours that have no value are cleared, because they may be a previous owner's.
_STEPS = f"""
CREATE TABLE steps AS
SELECT 0 AS rank, 'opt_out' AS operation, '' AS group_key, contact_key, contact_id, w.address, address_key,
       before_hash, NULL::BLOB AS after_hash, NULL::VARCHAR AS before, NULL::VARCHAR AS after, NULL::VARCHAR[] AS clears,
       NULL::BIGINT[] AS heir_of
FROM judged JOIN desired w USING (contact_id)
WHERE state IN {LEFT} AND remote_state IN {MAILABLE}
UNION ALL
SELECT 0, 'opt_out', '', contact_key, contact_id, before_address, before_address_key, before_hash, NULL, NULL, NULL, NULL, NULL
FROM judged
WHERE state IN {LEFT} AND before_remote_state IN {MAILABLE} AND before_address_key IS DISTINCT FROM address_key
UNION ALL
SELECT 1, 'untag', unnest(tags_removed), contact_key, contact_id, before_address, before_address_key,
       before_hash, after_hash, before, NULL, NULL, NULL
FROM differing WHERE leaves
UNION ALL
SELECT 2, 'create', '', contact_key, contact_id, address, address_key, before_hash, after_hash, NULL, after, NULL, NULL
FROM differing WHERE creates
UNION ALL
SELECT 3, 'readdress', '', contact_key, contact_id, address, address_key, before_hash, after_hash, before, after, NULL, NULL
FROM differing WHERE readdresses
UNION ALL
SELECT 4, 'update', '', contact_key, contact_id, address, address_key, before_hash, after_hash,
       CASE WHEN adopts THEN NULL ELSE before END, after,
       CASE WHEN adopts THEN list_filter((SELECT tags FROM ours), lambda t: NOT list_contains(json_keys(after, '$.fields'), t)) END,
       CASE WHEN adopts THEN heir_of END
FROM differing WHERE updates
UNION ALL
SELECT 5, 'untag', unnest(tags_removed), contact_key, contact_id, address, address_key, before_hash, after_hash, before, NULL, NULL, NULL
FROM differing WHERE NOT leaves AND NOT creates AND NOT adopts
"""


def _steps(con: duckdb.DuckDBPyConnection, ours: Sequence[str]) -> None:
    """Tables `differing`, what happens to each contact that is not withheld, and `steps`, a row per item to send.

    `ours` are the tags of the fields that nobody else writes.
    """
    con.execute("CREATE TABLE ours AS SELECT ?::VARCHAR[] AS tags", [list(ours)]).fetchall()
    con.execute(
        """
        CREATE TABLE heirs AS
        SELECT j.address_key, flatten(list(w.tags)) AS tags
        FROM judged j JOIN desired w USING (contact_id)
        WHERE j.reason IS NULL AND j.address_key IN (
            SELECT before_address_key FROM judged WHERE before_address_key IS DISTINCT FROM address_key
        )
        GROUP BY 1
        """
    ).fetchall()
    con.execute(
        f"""
        CREATE TABLE differing AS
        SELECT j.contact_key, j.contact_id, j.kind, w.address, j.address_key, j.before_hash, j.after_hash, j.before, w.payload AS after,
               j.before_address, j.before_address_key, g.contact_keys AS heir_of,
               j.kind <> 'gone' AS wanted,
               coalesce(j.before_address_key <> j.address_key, false) AS moved,
               wanted AND moved AND j.remote_state IS NULL
                 AND coalesce(j.before_remote_state IN {MAILABLE}, false) AS readdresses,
               wanted AND j.remote_state IS NULL AND NOT readdresses AS creates,
               wanted AND j.remote_state IS NOT NULL AND (j.before IS NULL OR moved) AS adopts,
               NOT wanted OR (moved AND NOT readdresses) AS leaves,
               from_json(j.before -> '$.tags', '["VARCHAR"]') AS tags_before,
               coalesce(w.tags, []) AS tags_after,
               CASE WHEN leaves THEN coalesce(h.tags, []) ELSE tags_after END AS tags_kept,
               list_filter(tags_after, lambda t: NOT list_contains(coalesce(tags_before, []), t)) AS tags_added,
               list_filter(coalesce(tags_before, []), lambda t: NOT list_contains(tags_kept, t)) AS tags_removed,
               adopts OR (wanted AND NOT creates AND NOT readdresses
                 AND (len(tags_added) > 0 OR (j.before ->> '$.fields') <> w.fields)) AS updates,
               creates OR readdresses OR updates AS writes
        FROM judged j
        LEFT JOIN desired w USING (contact_id)
        LEFT JOIN heirs h ON h.address_key = j.before_address_key
        LEFT JOIN (
            SELECT before_address_key, list(contact_key) AS contact_keys FROM judged WHERE kind = 'gone' GROUP BY 1
        ) g ON g.before_address_key = j.address_key
        WHERE j.reason IS NULL AND j.kind <> 'same'
        """
    ).fetchall()
    con.execute(_STEPS).fetchall()


_FIELDS_CHANGED = """
SELECT key, count(*) FROM (
    SELECT unnest(list_distinct(json_keys(before, '$.fields') || json_keys(after, '$.fields'))) AS key, before, after
    FROM differing WHERE updates AND NOT adopts
) WHERE (before -> ('$.fields."' || key || '"')) IS DISTINCT FROM (after -> ('$.fields."' || key || '"'))
GROUP BY 1 ORDER BY 2 DESC, 1
"""


def _samples(con: duckdb.DuckDBPyConnection) -> Iterable[Mapping[str, Any]]:
    rows = con.execute(
        "SELECT operation, contact_id, before, after FROM steps WHERE operation IN ('create', 'update', 'readdress')"
        " QUALIFY row_number() OVER (PARTITION BY operation ORDER BY contact_id) <= 3 ORDER BY rank, contact_id"
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
    moved = _scalar(
        con, "SELECT count(*) FROM differing WHERE kind <> 'new' AND (writes OR len(tags_removed) > 0)"
    )
    new = operations.get(Operation.CREATE, 0)
    if had >= SHARES_COUNT_FROM and moved > limits.max_change_share * had:
        yield f"{moved:,} of {had:,} contacts would change: more than max_change_share {limits.max_change_share:g}"
    if limits.max_new_contacts is not None and new > limits.max_new_contacts:
        yield f"{new:,} contacts would be new there: more than max_new_contacts {limits.max_new_contacts:,}"
    if account.double_opt_in and new:
        yield f"{new:,} confirmation mails would go out: the audience has double opt-in"
    held = _counts(con, "SELECT tag, count(*) FROM (SELECT unnest(tags) AS tag FROM desired) GROUP BY 1")
    for tag, removed in tags_removed.items():
        before = held.get(tag, 0) + removed
        if before >= SHARES_COUNT_FROM and removed > limits.max_untag_share * before:
            yield f'tag "{tag}" would lose {removed:,} of about {before:,}: more than max_untag_share {limits.max_untag_share:g}'


def _load(
    con: duckdb.DuckDBPyConnection, table: str, columns: str, batches: Iterable[pa.RecordBatch]
) -> None:
    con.execute(f"CREATE TABLE {table} ({columns})").fetchall()
    for batch in batches:
        con.register("incoming", pa.Table.from_batches([batch]))
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming").fetchall()
        con.unregister("incoming")


def _freeze(con: duckdb.DuckDBPyConnection, table: str, order: str, folder: Path) -> Path:
    """Write a table as Parquet, named by its own content, so that an edited plan is found."""
    unnamed = folder / f"{table}.parquet.part"
    con.execute(
        f"COPY (SELECT * FROM {table} ORDER BY {order}) TO '{_quoted(unnamed)}' (FORMAT parquet)"
    ).fetchall()
    named = folder / f"{table}-{_digest(unnamed)}.parquet"
    unnamed.replace(named)
    return named


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _name(now: datetime, steps: Path) -> str:
    """Name a plan by its time and content; equal content at another moment is another plan."""
    digest = hashlib.sha256(f"{now.isoformat()} {steps.name}".encode()).hexdigest()
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{digest[:8]}"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _counts(con: duckdb.DuckDBPyConnection, query: str) -> dict[str, int]:
    return dict(con.execute(query).fetchall())


def _scalar(con: duckdb.DuckDBPyConnection, query: str) -> int:
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0
