"""What differs between what is desired and what is known of a destination, who may be written, and in which steps.

Three questions in SQL, each answered by tables on one DuckDB connection that the next one reads: `compare`, `judge`,
`list_steps`. Nothing here counts, sends or writes a file; `plan` does the first, `sync.delivery` the second.

Decisions. No Python object per contact: rows are compared by hash, and only those that differ fetch their old payload
or have their new one written. Reading the store keeps one core busy and hashing all of them, so both happen at once.
Whoever is settled is told apart in one pass, because the questions after it cost more than the comparison.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from ...core.consent import REGIME_INSTANTS
from ...core.regimes import ConsentConfig
from ..gate import INSTANTS, decide

MAILABLE: Final = "('subscribed', 'pending')"
LEFT: Final = "('unsubscribed', 'suppressed')"

ROWS_PER_GROUP: Final = 20_480
"""How many rows a group of a Parquet file has here: writers and readers hold whole groups in memory."""

# The text of `ContactState.canonical`; null for a contact without an address. One call, because each `||` would copy
# the whole text once more.
_CANONICAL: Final = """
CREATE TEMP MACRO canonical(address, fields, tags) AS
CASE WHEN address IS NOT NULL
     THEN concat('{"address":', to_json(address), ',"fields":', fields, ',"tags":', to_json(tags), '}') END
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store remembers of a destination, as Arrow streams that are read once, in another thread.

    `payloads` gives (contact_key, payload) for the keys asked for: only rows that differ are asked for.
    """

    baseline: Iterable[pa.RecordBatch]  # contact_key int64, row_hash binary
    remote: Iterable[pa.RecordBatch]  # address_key int64, state string
    consents: Iterable[pa.RecordBatch]  # subject_key int64, and the instants of a ConsentRecord
    rejections: Iterable[pa.RecordBatch]  # contact_key int64, operation string, payload_hash binary
    payloads: Callable[[Iterable[int]], Iterable[pa.RecordBatch]]
    regimes: ConsentConfig = field(default_factory=ConsentConfig)
    # (contact_id, country), as the shop has it of the person: where somebody had a parcel sent is no word of theirs.
    customers: Path | None = None


def compare(con: duckdb.DuckDBPyConnection, desired: Path, known: Known) -> None:
    """View `diff`: one row per contact that is not settled, with how it differs and, where it does, its old payload.

    Settled is whose very state was confirmed, at an address that is mailed there and that nobody else has or had, and
    whom neither the record of the person nor that of the address shows to have left: there is nothing to do or to
    tell. On any day but the first that is nearly everybody, and no later question looks at them.
    """
    con.execute(f"CREATE VIEW desired AS FROM read_parquet('{_quoted(desired)}')").fetchall()
    columns = {name for name, *_ in con.execute("DESCRIBE desired").fetchall()}
    key = "contact_key(contact_id)"
    if "contact_key" in columns:
        key = f"coalesce(desired.contact_key, {key})"
    con.execute(_CANONICAL).fetchall()
    with ThreadPoolExecutor(max_workers=1) as reader:
        reading = reader.submit(_read, con.cursor(), known)
        con.execute(
            f"""
            CREATE TABLE wanted AS
            SELECT {key} AS contact_key, contact_id, address_key(address) AS address_key,
                   unhex(md5(canonical(address, fields, tags))) AS row_hash
            FROM desired
            """
        ).fetchall()
        reading.result()
    con.execute(
        f"""
        CREATE TABLE matched AS
        SELECT coalesce(w.contact_key, b.contact_key) AS contact_key, w.contact_id, w.address_key,
               b.row_hash AS before_hash, w.row_hash AS after_hash,
               CASE WHEN w.contact_key IS NULL THEN 'gone'
                    WHEN b.contact_key IS NULL THEN 'new'
                    WHEN w.row_hash = b.row_hash THEN 'same'
                    ELSE 'changed' END AS kind
        FROM wanted w FULL JOIN baseline b USING (contact_key)
        WHERE kind <> 'same' OR NOT coalesce(address_key IN (SELECT address_key FROM remote WHERE state IN {MAILABLE}), false)
           OR w.contact_key IN (SELECT subject_key FROM left_alone) OR address_key IN (SELECT subject_key FROM left_alone)
        """
    ).fetchall()
    _load(con, "payloads", "contact_key BIGINT, payload VARCHAR", known.payloads(_keys_that_differ(con)))
    con.execute(
        """
        CREATE TABLE old AS
        SELECT contact_key, payload AS before, payload ->> '$.address' AS before_address,
               address_key(payload ->> '$.address') AS before_address_key
        FROM payloads
        """
    ).fetchall()
    con.execute(
        """
        INSERT INTO matched
        SELECT contact_key, contact_id, address_key, row_hash, row_hash, 'same'
        FROM wanted ANTI JOIN matched USING (contact_key)
        WHERE address_key IN (
            SELECT address_key FROM wanted GROUP BY 1 HAVING count(*) > 1 UNION ALL SELECT before_address_key FROM old
        )
        """
    ).fetchall()
    con.execute("DROP TABLE wanted").fetchall()
    con.execute(
        """
        CREATE VIEW diff AS
        SELECT m.*, CASE WHEN m.kind = 'same' THEN m.address_key ELSE old.before_address_key END AS before_address_key
        FROM matched m LEFT JOIN old USING (contact_key)
        """
    ).fetchall()


def _read(con: duckdb.DuckDBPyConnection, known: Known) -> None:
    instants = ", ".join(f"{name} TIMESTAMP" for name in INSTANTS)
    _load(con, "baseline", "contact_key BIGINT, row_hash BLOB", known.baseline)
    _load(con, "remote", "address_key BIGINT, state VARCHAR", known.remote)
    _load(con, "consents", f"subject_key BIGINT, {instants}", known.consents)
    _load(con, "rejections", "contact_key BIGINT, operation VARCHAR, payload_hash BLOB", known.rejections)
    # Two records that let a person stay make one that does, so each can be asked alone; no regime knows it otherwise.
    asked = ", ".join(name for name in INSTANTS if name not in REGIME_INSTANTS)
    con.execute(f"CREATE VIEW alone AS SELECT subject_key AS contact_key, {asked} FROM consents").fetchall()
    decide(con, "alone", "alone_state")
    con.execute(
        f"CREATE TABLE left_alone AS SELECT contact_key AS subject_key, state FROM alone_state WHERE state IN {LEFT}"
    ).fetchall()
    con.execute("DROP TABLE alone_state").fetchall()


def _keys_that_differ(con: duckdb.DuckDBPyConnection) -> Iterator[int]:
    reader = con.cursor().execute(
        "SELECT contact_key FROM matched WHERE kind IN ('changed', 'gone') ORDER BY 1"
    )
    while rows := reader.fetchmany(10_000):
        yield from (key for (key,) in rows)


# Who moves, and in which wave: the ESP does not have the address wished for, or who has it there moves in the wave
# before. People who swap addresses have no first to move, and adopt each other's. Nobody takes along what another
# contact was confirmed to have at the same address and keeps.
_MOVES: Final = f"""
CREATE TABLE moves AS
WITH RECURSIVE willing AS (
    SELECT contact_key, address_key, before_address_key, remote_state
    FROM stood ANTI JOIN sharing USING (contact_key)
    WHERE kind = 'changed' AND before_address_key <> address_key AND before_remote_state IN {MAILABLE}
      AND state = 'subscribed' AND NOT refused
    QUALIFY row_number() OVER (PARTITION BY before_address_key ORDER BY contact_key) = 1
),
staying AS (
    SELECT s.address_key FROM willing w JOIN stood s ON s.address_key = w.before_address_key
    WHERE s.before_address_key = s.address_key
),
movers AS (SELECT * FROM willing WHERE before_address_key NOT IN (FROM staying)),
chain AS (
    SELECT contact_key, before_address_key, 0 AS wave FROM movers WHERE remote_state IS NULL
    UNION ALL
    SELECT m.contact_key, m.before_address_key, chain.wave + 1
    FROM chain JOIN movers m ON m.address_key = chain.before_address_key
)
FROM chain
"""


def judge(con: duckdb.DuckDBPyConnection, known: Known, *, shows_consent: bool) -> None:
    """Tables `judged`, with a reason where a contact is withheld, and `withheld`, those reasons with their dates.

    `shows_consent` is the ESP's, as in `Capabilities`.
    `records` has the merged record of whoever is not settled, with `country` and `regime` where those count.
    """
    former = {  # as gate.of_former
        "withdrawn_at": "CASE o.state WHEN 'suppressed' THEN o.withdrawn_at ELSE greatest(o.withdrawn_at, o.suppressed_at) END",
        "suppressed_at": "CASE o.state WHEN 'suppressed' THEN o.suppressed_at END",
    }
    merged = ", ".join(
        f"greatest(p.{name}, a.{name}, {former.get(name, 'NULL')}) AS {name}" for name in _instants(known)
    )
    _place(con, known)
    con.execute(
        f"""
        CREATE TABLE records AS
        SELECT d.contact_key, {merged}, placed.country, placed.regime
        FROM diff d
        LEFT JOIN placed ON placed.contact_id = d.contact_id
        LEFT JOIN consents p ON p.subject_key = d.contact_key
        LEFT JOIN consents a ON a.subject_key = d.address_key
        LEFT JOIN (
            SELECT old.contact_key, l.state, c.* FROM old
            JOIN consents c ON c.subject_key = old.before_address_key JOIN left_alone l ON l.subject_key = c.subject_key
        ) o ON o.contact_key = d.contact_key AND o.subject_key <> d.address_key
        """
    ).fetchall()
    con.execute(
        """
        CREATE TABLE yes_there AS
        SELECT old.contact_key, c.granted_at FROM old
        JOIN consents c ON c.subject_key = old.before_address_key
        WHERE c.granted_at IS NOT NULL AND c.subject_key NOT IN (SELECT subject_key FROM left_alone)
        """
    ).fetchall()
    con.execute("DROP TABLE consents").fetchall()
    strictest = known.regimes.regime_of(None)
    decide(con, "records", "consent_state", regime=f"coalesce(regime, '{strictest}')")
    con.execute(
        f"""
        CREATE TABLE stood AS
        SELECT d.*, s.state, here.state AS remote_state,
               CASE WHEN d.before_address_key = d.address_key THEN here.state ELSE there.state END AS before_remote_state,
               s.state = 'subscribed' OR ({shows_consent} AND coalesce(here.state IN {MAILABLE}, false)) AS agreed,
               d.kind IN ('new', 'changed') AND r.contact_key IS NOT NULL AS refused
        FROM diff d
        JOIN consent_state s USING (contact_key)
        LEFT JOIN remote here ON here.address_key = d.address_key
        LEFT JOIN (SELECT old.contact_key, r.state FROM old JOIN remote r ON r.address_key = old.before_address_key) there
          ON there.contact_key = d.contact_key
        LEFT JOIN (
            SELECT DISTINCT contact_key, payload_hash, operation IN ('create', 'readdress') AS moves_in FROM rejections
        ) r ON r.contact_key = d.contact_key AND r.payload_hash = d.after_hash AND r.moves_in = (here.state IS NULL)
        """
    ).fetchall()
    con.execute(
        """
        CREATE TABLE sharing AS
        SELECT contact_key FROM stood
        WHERE address_key IN (SELECT address_key FROM stood GROUP BY 1 HAVING count(*) > 1)
        QUALIFY row_number() OVER (
            PARTITION BY address_key
            ORDER BY agreed DESC, before_address_key IS DISTINCT FROM address_key, kind = 'new', contact_key
        ) > 1
        """
    ).fetchall()
    con.execute(_MOVES).fetchall()
    # Nobody is opted out for somebody else: who left has no say at a former address where there is a later yes, said
    # there or by who has it now.
    con.execute(
        f"""
        CREATE TABLE overruled AS
        WITH yes AS (
            FROM yes_there UNION ALL
            SELECT old.contact_key, r.granted_at FROM old
            JOIN stood heir ON heir.address_key = old.before_address_key AND heir.state = 'subscribed'
            JOIN records r ON r.contact_key = heir.contact_key
        )
        SELECT DISTINCT s.contact_key FROM stood s JOIN records r USING (contact_key) JOIN yes USING (contact_key)
        WHERE s.state IN {LEFT} AND yes.granted_at > greatest(r.withdrawn_at, r.suppressed_at)
        """
    ).fetchall()
    con.execute(
        f"""
        CREATE TABLE judged AS
        WITH leavers AS (
            SELECT DISTINCT before_address_key AS address_key FROM stood
            WHERE state IN {LEFT} AND before_remote_state IN {MAILABLE} AND before_address_key IS DISTINCT FROM address_key
              AND contact_key NOT IN (FROM overruled)
        ),
        foreseen AS (
            SELECT s.* REPLACE (CASE WHEN s.state NOT IN {LEFT} AND s.address_key IN (SELECT address_key FROM stood WHERE state IN {LEFT})
                                     THEN 'unsubscribed'  -- who shares it has left, and a withdrawal is the address's too
                                     WHEN vacated.contact_key IS NOT NULL THEN NULL
                                     WHEN leavers.address_key IS NOT NULL THEN 'unsubscribed'
                                     ELSE s.remote_state END AS remote_state),
                   moves.contact_key IS NOT NULL AS moves, coalesce(vacated.wave + 1, 0) AS wave
            FROM stood s
            LEFT JOIN moves ON moves.contact_key = s.contact_key
            LEFT JOIN moves vacated ON vacated.before_address_key = s.address_key
            LEFT JOIN leavers ON leavers.address_key = s.address_key
        )
        SELECT s.*,
               CASE
                 WHEN kind = 'gone' THEN NULL
                 WHEN address_key IS NULL THEN 'invalid_address'
                 WHEN 'suppressed' IN (state, remote_state, before_remote_state) THEN 'suppressed'
                 WHEN 'unsubscribed' IN (state, remote_state, before_remote_state) THEN 'withdrawn'
                 WHEN sharing.contact_key IS NOT NULL THEN 'shared_address'
                 WHEN state = 'subscribed' AND (remote_state IS NULL OR remote_state IN {MAILABLE}) THEN NULL
                 WHEN {shows_consent} AND remote_state IN {MAILABLE} THEN NULL
                 WHEN state = 'pending' THEN 'pending'
                 ELSE 'no_grant'
               END AS standing,
               CASE WHEN standing IS NULL AND refused THEN 'rejected_before' ELSE standing END AS reason
        FROM foreseen s
        LEFT JOIN sharing USING (contact_key)
        """
    ).fetchall()
    con.execute("DROP TABLE stood").fetchall()
    con.execute(
        """
        CREATE TABLE withheld AS
        SELECT contact_key, contact_id, reason,
               CASE reason WHEN 'withdrawn' THEN withdrawn_at WHEN 'suppressed' THEN suppressed_at
                           WHEN 'pending' THEN greatest(requested_at, granted_at) END AS since
        FROM judged JOIN records USING (contact_key) WHERE reason IS NOT NULL
        """
    ).fetchall()


def _instants(known: Known) -> Sequence[str]:
    """Give the instants that count in this project."""
    return [name for name in INSTANTS if known.regimes.regimes or name not in REGIME_INSTANTS]


def _place(con: duckdb.DuckDBPyConnection, known: Known) -> None:
    """Table `placed` (contact_id, country, regime) of whoever is not settled and has a country; empty under one regime."""
    con.execute("CREATE TABLE placed (contact_id VARCHAR, country VARCHAR, regime VARCHAR)").fetchall()
    if not known.regimes.regimes or known.customers is None:
        return
    con.execute(
        f"INSERT INTO placed BY NAME SELECT contact_id, country FROM read_parquet('{_quoted(known.customers)}')"
        " WHERE country IS NOT NULL AND contact_id IN (SELECT contact_id FROM diff)"
    ).fetchall()
    for (country,) in con.execute("SELECT DISTINCT country FROM placed").fetchall():
        regime = known.regimes.regime_of(country).value
        con.execute("UPDATE placed SET regime = ? WHERE country = ?", [regime, country]).fetchall()


# Ranks are the order of sending. Tags leave an address that a contact gave up before anybody else is written there, and
# a member moves away before somebody takes its old address: each wave of moves, and of creates where a member was, has
# a rank of its own, and there may be as many as contacts. A create or an adoption starts from nothing: all of its
# fields go, and the ones of ours that have no value are cleared, because they may be a previous owner's.
_OPT_OUT, _LEAVE, _CREATE, _MOVE, _UPDATE, _UNTAG = 0, 1, 2, 3, 2_000_000_000, 2_000_000_001
_STEPS: Final = f"""
CREATE VIEW steps AS
SELECT {_OPT_OUT} AS rank, 'opt_out' AS operation, '' AS group_key, contact_key, contact_id, address, address_key,
       before_hash, NULL::BLOB AS after_hash, NULL::VARCHAR AS before, NULL::VARCHAR AS after, NULL::VARCHAR[] AS clears,
       NULL::BIGINT[] AS heir_of, NULL::VARCHAR AS country
FROM judged JOIN texts USING (contact_id)
WHERE state IN {LEFT} AND remote_state IN {MAILABLE}
UNION ALL
SELECT {_OPT_OUT}, 'opt_out', '', contact_key, contact_id, before_address, judged.before_address_key, before_hash, NULL, NULL, NULL, NULL, NULL, NULL
FROM judged JOIN old USING (contact_key)
WHERE state IN {LEFT} AND before_remote_state IN {MAILABLE} AND judged.before_address_key IS DISTINCT FROM address_key
  AND contact_key NOT IN (FROM overruled)
UNION ALL
SELECT {_LEAVE}, 'untag', unnest(tags_removed), contact_key, contact_id, before_address, before_address_key,
       before_hash, after_hash, before, NULL, NULL, NULL, NULL
FROM differing WHERE leaves OR readdresses
UNION ALL
SELECT CASE wave WHEN 0 THEN {_CREATE} ELSE {_MOVE} + wave END, 'create', '', contact_key, contact_id, address, address_key, before_hash, after_hash, NULL, after, NULL, NULL, country
FROM differing JOIN records USING (contact_key) WHERE creates
UNION ALL
SELECT {_MOVE} + wave, 'readdress', '', contact_key, contact_id, address, address_key, before_hash, after_hash, before, after, NULL, NULL, NULL
FROM differing WHERE readdresses
UNION ALL
SELECT {_UPDATE}, 'update', '', contact_key, contact_id, address, address_key, before_hash, after_hash,
       CASE WHEN adopts THEN NULL ELSE before END, after,
       CASE WHEN adopts THEN list_filter((SELECT tags FROM ours), lambda t: NOT list_contains(json_keys(after, '$.fields'), t)) END,
       CASE WHEN adopts THEN heir_of END, NULL
FROM differing WHERE updates
UNION ALL
SELECT {_UNTAG}, 'untag', unnest(tags_removed), contact_key, contact_id, address, address_key, before_hash, after_hash, before, NULL, NULL, NULL, NULL
FROM differing WHERE NOT leaves AND NOT creates AND NOT adopts AND NOT readdresses
"""


def list_steps(con: duckdb.DuckDBPyConnection, ours: Sequence[str]) -> None:
    """Table `differing`, what happens to each contact that is not withheld, and view `steps`, a row per item to send.

    `ours` are the tags of the fields that nobody else writes.
    """
    con.execute("CREATE TABLE ours AS SELECT ?::VARCHAR[] AS tags", [list(ours)]).fetchall()
    con.execute(
        f"""
        CREATE TABLE texts AS
        SELECT contact_id, address, fields, tags
        FROM desired
        WHERE contact_id IN (
            SELECT contact_id FROM judged
            WHERE (reason IS NULL AND kind <> 'same') OR (state IN {LEFT} AND remote_state IN {MAILABLE})
               OR address_key IN (
                   SELECT before_address_key FROM judged WHERE before_address_key IS DISTINCT FROM address_key
               )
        )
        """
    ).fetchall()
    con.execute(
        """
        CREATE TABLE heirs AS
        SELECT j.address_key, flatten(list(w.tags)) AS tags
        FROM judged j JOIN texts w USING (contact_id)
        WHERE j.reason IS NULL AND j.address_key IN (
            SELECT before_address_key FROM judged WHERE before_address_key IS DISTINCT FROM address_key
        )
        GROUP BY 1
        """
    ).fetchall()
    con.execute(
        """
        CREATE TABLE succeeded AS
        SELECT DISTINCT s.contact_key FROM judged s JOIN judged heir ON heir.address_key = s.before_address_key
        WHERE s.kind = 'changed' AND s.reason IS NOT NULL AND s.before_address_key IS DISTINCT FROM s.address_key
          AND heir.reason IS NULL AND heir.kind <> 'gone' AND heir.remote_state IS NOT NULL
        """
    ).fetchall()
    con.execute(
        """
        CREATE TABLE differing AS
        SELECT j.contact_key, j.contact_id, j.kind, w.address, j.address_key, j.before_hash, j.after_hash, old.before, canonical(w.address, w.fields, w.tags) AS after,
               old.before_address, j.before_address_key, g.contact_keys AS heir_of,
               j.wave, j.kind <> 'gone' AND j.reason IS NULL AS wanted,
               coalesce(j.before_address_key <> j.address_key, false) AS moved,
               j.moves AS readdresses,
               wanted AND j.remote_state IS NULL AND NOT readdresses AS creates,
               wanted AND j.remote_state IS NOT NULL AND (old.before IS NULL OR moved) AS adopts,
               NOT wanted OR (moved AND NOT readdresses) AS leaves,
               from_json(old.before -> '$.tags', '["VARCHAR"]') AS tags_before,
               coalesce(json_exists(old.before, '$.doubt'), false) AS in_doubt,
               coalesce(from_json(old.before -> '$.doubt.tags', '["VARCHAR"]'), []) AS tags_in_doubt,
               coalesce(w.tags, []) AS tags_after,
               CASE WHEN leaves THEN coalesce(h.tags, []) ELSE tags_after END AS tags_kept,
               list_filter(tags_after, lambda t: NOT list_contains(coalesce(tags_before, []), t)
                 OR list_contains(tags_in_doubt, t)) AS tags_added,
               list_filter(coalesce(tags_before, []), lambda t: NOT list_contains(tags_kept, t)) AS tags_removed,
               adopts OR (wanted AND NOT creates AND NOT readdresses
                 AND (len(tags_added) > 0 OR (old.before ->> '$.fields') <> w.fields
                   OR coalesce(json_array_length(old.before -> '$.doubt.fields'), 0) > 0)) AS updates,
               creates OR readdresses OR updates AS writes
        FROM judged j
        LEFT JOIN old USING (contact_key)
        LEFT JOIN texts w USING (contact_id)
        LEFT JOIN heirs h ON h.address_key = j.before_address_key
        LEFT JOIN (
            SELECT before_address_key, list(contact_key ORDER BY contact_key) AS contact_keys FROM judged
            WHERE kind = 'gone' OR contact_key IN (FROM succeeded) GROUP BY 1
        ) g ON g.before_address_key = j.address_key
        WHERE (j.reason IS NULL AND j.kind <> 'same') OR j.contact_key IN (FROM succeeded)
        """
    ).fetchall()
    con.execute(_STEPS).fetchall()


def _load(
    con: duckdb.DuckDBPyConnection, table: str, columns: str, batches: Iterable[pa.RecordBatch]
) -> None:
    con.execute(f"CREATE TABLE {table} ({columns})").fetchall()
    incoming = f"incoming_{table}"
    for batch in batches:
        con.register(incoming, pa.Table.from_batches([batch]))
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM {incoming}").fetchall()
        con.unregister(incoming)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
