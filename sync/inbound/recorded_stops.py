"""Who is mailed although a table of consents says that they left: found set-wise, and opted out everywhere.

Nothing is recorded here, and whether they may stay is asked once more by `fanout`, of person and address together.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import duckdb
import pyarrow as pa

from ..store.store import Store
from .fanout import fan_out
from .observing import People

_ADDRESSES: Final = 1_000  # are fanned out together

# Addresses of who left, their own and the one that the data has, where that address is mailed, or one of its people is
# at another: at whichever they were written, or have in the data.
_MAILED: Final = """
WITH stops AS (
    SELECT c.contact_id, unnest([c.email, p.email]) AS email FROM consents c LEFT JOIN profiles p USING (contact_id)
    WHERE c.act IN ('withdrawal', 'suppression')
),
stopped AS (SELECT DISTINCT email, address_key(email) AS address_key FROM stops WHERE email IS NOT NULL),
owned AS (
    SELECT address_key(email) AS address_key, contact_key(contact_id) AS person FROM profiles WHERE email IS NOT NULL
),
written AS (SELECT address_key, written_for AS person FROM members WHERE written_for IS NOT NULL),
mailed AS (SELECT address_key FROM members WHERE mailed),
reached AS (
    SELECT person FROM members JOIN written USING (address_key) WHERE mailed
    UNION ALL SELECT person FROM owned SEMI JOIN mailed USING (address_key)
),
people AS (FROM owned UNION ALL FROM written)
SELECT email FROM stopped SEMI JOIN mailed USING (address_key)
UNION
SELECT email FROM stopped SEMI JOIN (FROM people SEMI JOIN reached USING (person)) USING (address_key)
"""


def opt_out_recorded(
    store: Store, destinations: Iterable[str], people: People, con: duckdb.DuckDBPyConnection
) -> Mapping[str, int]:
    """Have everybody opted out who left by table `consents` of `con` and is mailed; give how many, by destination.

    `con` has what `observing.take_over` needs. Killed anywhere, it is simply called again.
    """
    destinations = list(destinations)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE members (address_key BIGINT, mailed BOOLEAN, written_for BIGINT)"
    ).fetchall()
    for destination in destinations:
        for batch in store.destinations.stream_members(destination):
            con.register("page", pa.Table.from_batches([batch]))
            con.execute(
                "INSERT INTO members SELECT address_key, state IN ('subscribed', 'pending'), written_for FROM page"
            ).fetchall()
            con.unregister("page")
        arriving = pa.table({"address_key": pa.array(store.outbox.arriving(destination), pa.int64())})
        con.register("page", arriving)
        con.execute("INSERT INTO members SELECT address_key, true, NULL FROM page").fetchall()
        con.unregister("page")
    urged: dict[str, int] = {}
    for addresses in _addresses(con):
        for destination, count in fan_out(store, destinations, people, addresses).items():
            urged[destination] = urged.get(destination, 0) + count
    return urged


def _addresses(con: duckdb.DuckDBPyConnection) -> Iterator[list[str]]:
    reader = con.execute(_MAILED)
    while rows := reader.fetchmany(_ADDRESSES):
        yield [address for (address,) in rows]
