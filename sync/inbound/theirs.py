"""What is a destination's own of what we would write there: addresses and values that others changed, laid over ours.

Set-wise, in the engine that projects the mapping; who wins a field is the mapping's word. Nothing here is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend

from ...mappings.mapping import Mapping as FieldMapping
from ..store.pulled import ADDRESS
from ..store.store import Store

_VALUES: Final = pa.schema(
    [("address_key", pa.int64()), ("tag", pa.string()), ("value", pa.string()), ("over", pa.string())]
)

# A value is stored under the address that the contact has there, which may be another one than the data's.
_OVERLAY: Final = """
CREATE TEMP VIEW their_values AS
SELECT p.contact_id, v.tag, v.value, v.over
FROM (SELECT contact_id, address_key(email) AS address_key FROM their_profiles WHERE email IS NOT NULL) p
JOIN pulled v USING (address_key)
"""
_PROFILES: Final = """
CREATE TEMP VIEW their_profiles AS
SELECT p.* REPLACE (coalesce(m.value, p.email) AS email)
FROM profiles p LEFT JOIN (FROM pulled WHERE tag = '{ADDRESS}') m ON m.address_key = address_key(p.email)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """What was pulled of a destination that counts for what it shall hold."""

    store: Store
    destination: str

    def over(self, con: Backend, tables: Mapping[str, Any], mapping: FieldMapping) -> dict[str, ir.Table]:
        """Give the tables that a mapping reads, with contacts at the addresses that they have there, and their values."""
        values = pa.Table.from_batches(self._values([ADDRESS, *mapping.yielding]), schema=_VALUES)
        if not values.num_rows:
            return dict(tables)
        self.store.keys.install(con.con)
        con.con.register("pulled", values)
        for statement in (_PROFILES.replace("{ADDRESS}", ADDRESS), _OVERLAY):
            con.raw_sql(statement).fetchall()
        return dict(tables) | {"profiles": con.table("their_profiles"), "theirs": con.table("their_values")}

    def _values(self, tags: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for rows in self.store.pulled.stream_values(self.destination, tags):
            columns = zip(*((key, tag, each.value, each.over) for key, tag, each in rows), strict=True)
            yield pa.record_batch(
                [pa.array(column, kind.type) for column, kind in zip(columns, _VALUES, strict=True)],
                schema=_VALUES,
            )
