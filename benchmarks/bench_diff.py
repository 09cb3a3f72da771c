"""How long a plan over a million contacts takes, against a plain DuckDB diff by md5 of the same contacts, both sides.

Ours reads all that a real plan reads: the projected Parquet file, and from the store a million baselines, seen states
and consents. The reference reads two Parquet files with the same 20 columns, hashes each row of both, joins them in
full by contact and fetches what differs. 1% of the contacts changed one field. Each measurement has a process of its
own, so that its peak memory is its own; of several rounds, in turns, the fastest of each counts. Also planned: the
same with nothing changed, which must cost no write request, and a first load. Prints one JSON object.

    bench_diff.py [contacts] [URL of an empty store]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from segue.core.config import Guardrails
from segue.core.model import Account, Capabilities, DestinationSchema, FieldSpec, FieldType, Operation
from segue.sync.planning.diff import ROWS_PER_GROUP, Known
from segue.sync.planning.plan import build_plan
from segue.sync.store.database import Database, insert_columns, parse_url
from segue.sync.store.keys import ContactKeys
from segue.sync.store.schema import METADATA
from segue.sync.store.store import Store

CONTACTS, ROUNDS = 1_000_000, 3
KEYS = ContactKeys(bytes(range(32)))
NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
CAPABILITIES = Capabilities(
    field_types=frozenset(FieldType),
    field_tag_length=10,
    field_tag_pattern="[A-Z0-9_]+",
    field_slots={"standard": 30},
    text_bytes=255,
    tag_length=100,
    batch_sizes=dict.fromkeys(Operation, 500),
    concurrency=10,
)

# Twenty fields as the starter mapping writes them: what somebody bought, and two products to show.
_PRODUCT = {
    "NAME": "'Regency Cakestand ' || {n} || ' Tier'",
    "URL": "'https://shop.example/products/regency-cakestand-' || {n}",
    "IMG": "'https://cdn.shop.example/images/regency-cakestand-' || {n} || '-600.jpg'",
    "PRICE": "(({n} % 900 + 100) / 20)::DECIMAL(9, 2)::VARCHAR || ' EUR'",
    "WHY": "'Because you bought Vintage Snap Cards ' || ({n} + 7)",
}
_VALUES = {
    "SG_STAGE": "['Champion', 'Loyal', 'Promising', 'About to sleep', 'Lost'][1 + (hash(i, 1) % 5)::INT]",
    "SG_LASTORD": "(DATE '2024-01-01' + (hash(i, 2) % 800)::INT)::VARCHAR",
    "SG_SINCE": "(DATE '2020-01-01' + (hash(i, 3) % 1400)::INT)::VARCHAR",
    "SG_ORDERS": "(hash(i, 4) % 40)::VARCHAR",
    "SG_SPENT": "((hash(i, 5) % 500000) / 100)::DECIMAL(9, 2)::VARCHAR",
    "SG_AOV": "((hash(i, 6) % 30000) / 100)::DECIMAL(9, 2)::VARCHAR",
    "SG_RHYTHM": "(hash(i, 7) % 200)::VARCHAR",
    "SG_TOPCAT": "['Kitchen', 'Garden', 'Gift wrap', 'Toys and games', 'Lighting'][1 + (hash(i, 8) % 5)::INT]",
    "SG_LASTPRO": "'Vintage Snap Cards ' || (hash(i, 9) % 4000)",
    "SG_RFM": "(111 + hash(i, 10) % 445)::VARCHAR",
} | {
    f"SG_P{slot}{part}": value.format(n=f"(hash(i, {10 + slot}) % 4000)")
    for slot in (1, 2)
    for part, value in _PRODUCT.items()
}


NAMES = sorted(_VALUES)


def _contacts(con: duckdb.DuckDBPyConnection, contacts: int) -> None:
    """View `people`: every contact with its fields as `before` and as `after` has them, one in a hundred changed."""
    before = ", ".join(f"{value} AS {name}" for name, value in _VALUES.items())
    after = ", ".join(
        f"CASE WHEN i % 100 = 7 AND {n} = i // 100 % {len(NAMES)} THEN 'changed ' || {name} ELSE {name} END AS {name}"
        for n, name in enumerate(NAMES)
    )
    con.execute(
        f"""
        CREATE VIEW before AS
        SELECT i, 'customer-' || i AS contact_id, 'person.' || i || '@mail' || i % 50 || '.example' AS address, {before},
               ['segue: newsletter'] || CASE WHEN i % 3 = 0 THEN ['segue: vip'] ELSE [] END AS tags
        FROM range({contacts}) r(i)
        """
    ).fetchall()
    con.execute(f"CREATE VIEW after AS SELECT * REPLACE ({after}) FROM before").fetchall()


def _projected(view: str) -> str:
    members = " || ',' || ".join(f"""'"{name}":"' || {name} || '"'""" for name in NAMES)
    return f"SELECT contact_id, address, '{{' || {members} || '}}' AS fields, tags FROM {view}"


def prepare(folder: Path, url: str, contacts: int) -> None:
    """Write the reference's files and ours, and fill a store as earlier runs would have."""
    with duckdb.connect() as con, Store.open(url, key=lambda _: KEYS):
        KEYS.install(con)
        _contacts(con, contacts)
        for view in ("before", "after"):
            con.execute(
                f"COPY (SELECT contact_id, {', '.join(NAMES)} FROM {view}) TO '{folder / view}.parquet'"
            ).fetchall()
            con.execute(
                f"COPY ({_projected(view)}) TO '{folder / view}-projected.parquet'"
                f" (FORMAT parquet, ROW_GROUP_SIZE {ROWS_PER_GROUP})"
            ).fetchall()
        con.execute(
            f"""
            CREATE TABLE earlier AS
            SELECT contact_key(contact_id) AS contact_key, address_key(address) AS address_key,
                   '{{"address":' || to_json(address) || ',"fields":' || fields || ',"tags":' || to_json(tags) || '}}' AS payload
            FROM read_parquet('{folder / "before-projected.parquet"}')
            """
        ).fetchall()
        database = Database(parse_url(url), busy_seconds=30)
        for table, same, query in _STORED:
            _fill(con, database, table, same, query)
        database.close()


_STORED: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "baseline",
        {"destination": "d"},
        "SELECT contact_key, unhex(md5(payload)) AS row_hash FROM earlier ORDER BY 1",
    ),
    ("baseline_payload", {"destination": "d"}, "SELECT contact_key, payload FROM earlier ORDER BY 1"),
    (
        "remote",
        {"destination": "d", "state": "subscribed", "seen_at": 0},
        "SELECT address_key FROM earlier ORDER BY 1",
    ),
    (
        "consent_record",
        {"channel": "email", "purpose": "marketing"},
        "SELECT contact_key AS subject_key, 1700000000000000 + contact_key % 1000000000 AS granted_at FROM earlier ORDER BY 1",
    ),
)


def _fill(
    con: duckdb.DuckDBPyConnection, database: Database, table: str, same: dict[str, Any], query: str
) -> None:
    for batch in con.sql(query).to_arrow_reader(50_000):
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        if "payload" in columns:
            columns["payload"] = [zlib.compress(text.encode(), 1) for text in columns["payload"]]
        with database.write() as connection:
            insert_columns(connection, METADATA.tables[table], columns, same, on_conflict="ignore")


def plan(folder: Path, url: str, side: str, destination: str) -> dict[str, Any]:
    """Plan once, from a store that is open."""
    with Store.open(url, key=lambda _: KEYS) as store, tempfile.TemporaryDirectory(dir=folder) as plans:
        started = time.perf_counter()
        made = build_plan(
            destination=destination,
            snapshot_id="s",
            desired=folder / f"{side}-projected.parquet",
            schema=DestinationSchema(
                fields=tuple(
                    FieldSpec(tag=name, label=name, type=FieldType.TEXT, purpose="p") for name in NAMES
                )
            ),
            known=Known(
                baseline=store.baselines.stream(destination),
                remote=store.destinations.stream_remote(destination),
                consents=store.consents.stream_records(),
                rejections=store.settlements.stream_rejections(destination),
                payloads=lambda keys: store.baselines.stream_payloads(destination, keys),
            ),
            account=Account(
                label="shop", audience="a", contacts=CONTACTS, fields=dict.fromkeys(NAMES, FieldType.TEXT)
            ),
            capabilities=CAPABILITIES,
            guardrails=Guardrails(),
            keys=KEYS,
            folder=Path(plans),
            now=NOW,
        )
        return {
            "seconds": time.perf_counter() - started,
            "differing": sum(made.operations.values()),
            "write_requests": made.writes,
        }


def reference(folder: Path) -> dict[str, Any]:
    """Diff two files by md5, as one would by hand."""
    started = time.perf_counter()
    with duckdb.connect() as con:
        for side in ("before", "after"):
            con.execute(
                f"CREATE VIEW {side} AS SELECT *, md5(concat_ws('|', {', '.join(NAMES)})) AS hash"
                f" FROM read_parquet('{folder / side}.parquet')"
            ).fetchall()
        con.execute(
            "CREATE TABLE differing AS SELECT contact_id FROM (SELECT contact_id, hash FROM before) b"
            " FULL JOIN (SELECT contact_id, hash FROM after) a USING (contact_id) WHERE a.hash IS DISTINCT FROM b.hash"
        ).fetchall()
        ((changed,),) = con.execute("SELECT count(*) FROM differing").fetchall()
        rows = con.sql("SELECT after.* FROM after SEMI JOIN differing USING (contact_id)").to_arrow_table()
    assert rows.num_rows == changed
    return {"seconds": time.perf_counter() - started, "differing": changed}


def measured(*arguments: str) -> dict[str, Any]:
    """Run one of the functions above in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def one(what: str, folder: str, *arguments: str) -> None:
    """Do what `measured` asks for and print it."""
    match what:
        case "prepare":
            url, contacts = arguments
            prepare(Path(folder), url, int(contacts))
            found: dict[str, Any] = {}
        case "plan":
            found = plan(Path(folder), *arguments)
        case _:
            found = reference(Path(folder))
    used = resource.getrusage(resource.RUSAGE_SELF)
    found |= {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss // 1024}
    print(json.dumps(found))


def main(contacts: int = CONTACTS, url: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = url or f"sqlite:///{folder}/store.db"
        measured("prepare", folder, store, str(contacts))
        ours, plain = [], []
        for _ in range(ROUNDS):
            plain.append(measured("reference", folder))
            ours.append(measured("plan", folder, store, "after", "d"))
        unchanged = measured("plan", folder, store, "before", "d")
        first = measured("plan", folder, store, "after", "another")
    assert ours[0]["differing"] == plain[0]["differing"] == contacts // 100
    assert unchanged["write_requests"] == 0
    fastest, fastest_plain = (min(each["seconds"] for each in runs) for runs in (ours, plain))
    report = {
        "contacts": contacts,
        "fields": len(NAMES),
        "differing": ours[0]["differing"],
        "plan_seconds": fastest,
        "reference_seconds": fastest_plain,
        "ratio": fastest / fastest_plain,
        "ratio_of_cpu_seconds": min(each["cpu_seconds"] for each in ours)
        / min(each["cpu_seconds"] for each in plain),
        "plan_peak_mib": max(each["peak_mib"] for each in ours),
        "reference_peak_mib": max(each["peak_mib"] for each in plain),
        "nothing_changed": unchanged,
        "first_load": first,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
    else:
        main(*(kind(text) for kind, text in zip((int, str), sys.argv[1:], strict=False)))
