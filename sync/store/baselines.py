"""Baselines: the state of each contact that a destination confirmed last, which is what the next plan compares with.

Nothing is written here but through `confirm`, in the transaction that stores the outcome: a baseline saved before the
delivery would make a failed contact look done for ever.

Decision. The narrow table (16 bytes of hash per contact) streams whole into the set-wise diff; the wide one (the
state itself, compressed) is read for changed contacts alone.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa

from ...core.model import ContactState
from .columns import stream_columns
from .database import KEYS_PER_QUERY, Database, among, grouped, insert_columns
from .schema import baseline, baseline_payload
from .sealing import Sealing

HASHES: Final = pa.schema([("contact_key", pa.int64()), ("row_hash", pa.binary())])
_WORTH_PACKING: Final = 256  # bytes: a shorter text loses an eighth at most, and is told by its brace
PAYLOADS: Final = pa.schema([("contact_key", pa.int64()), ("payload", pa.string())])


class Baselines:
    """Reads what destinations confirmed."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def stream(self, destination: str) -> Iterator[pa.RecordBatch]:
        """Give every contact of a destination as batches of HASHES."""
        return stream_columns(
            self._database,
            [baseline.c.contact_key, baseline.c.row_hash],
            baseline.c.contact_key,
            baseline.c.destination == destination,
            schema=HASHES,
        )

    def destinations(self) -> list[str]:
        """Give the destinations that confirmed anybody."""
        with self._database.read() as connection:
            return list(connection.execute(sa.select(baseline.c.destination).distinct()).scalars())

    def count(self, destination: str) -> int:
        """Give how many contacts a destination confirmed."""
        query = sa.select(sa.func.count()).select_from(baseline).where(baseline.c.destination == destination)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def hashes(self, destination: str, keys: Iterable[int]) -> dict[int, bytes]:
        """Give the row hashes of a batch of contacts; those without a baseline are absent."""
        query = sa.select(baseline.c.contact_key, baseline.c.row_hash).where(
            baseline.c.destination == destination
        )
        with self._database.read() as connection:
            return {
                row.contact_key: row.row_hash
                for row in among(connection, query, baseline.c.contact_key, keys)
            }

    def payloads(self, destination: str, keys: Iterable[int]) -> dict[int, str]:
        """Give the canonical JSON of a batch of contacts; those without a baseline are absent."""
        found: dict[int, str] = {}
        for batch in self.stream_payloads(destination, keys):
            found.update(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
        return found

    def stream_payloads(
        self, destination: str, keys: Iterable[int] | pa.ChunkedArray
    ) -> Iterator[pa.RecordBatch]:
        """Give the canonical JSON of any number of contacts as batches of PAYLOADS, in no order."""
        given: Any = keys
        if isinstance(given, pa.ChunkedArray):
            given = (key for chunk in given.chunks for part in _slices(chunk) for key in part.to_pylist())
        query = sa.select(baseline_payload.c.contact_key, baseline_payload.c.payload).where(
            baseline_payload.c.destination == destination
        )
        with self._database.read() as connection:
            for rows in grouped(
                among(connection, query, baseline_payload.c.contact_key, given), KEYS_PER_QUERY
            ):
                found = pa.array([row.contact_key for row in rows], pa.int64())
                texts = pa.array([self._text(destination, row) for row in rows], pa.string())
                yield pa.record_batch([found, texts], schema=PAYLOADS)

    def _text(self, destination: str, row: sa.Row[Any]) -> str:
        return _unpacked(
            self._sealing.unseal(row.payload, baseline_payload.name, destination, row.contact_key)
        )


def confirm(
    connection: sa.Connection, destination: str, states: Mapping[int, ContactState], sealing: Sealing
) -> None:
    """Store confirmed states by contact key, narrow and wide, as part of the caller's transaction."""
    keys = sorted(states)  # neighbours in the table, so fewer of its pages are written
    same = {"destination": destination}
    texts = [states[key].canonical().encode() for key in keys]
    hashes = [hashlib.md5(text, usedforsecurity=False).digest() for text in texts]  # as ContactState.digest()
    narrow: dict[str, list[Any]] = {"contact_key": keys, "row_hash": hashes}
    seal, name = sealing.seal, baseline_payload.name
    packed = [seal(_packed(text), name, destination, key) for key, text in zip(keys, texts, strict=True)]
    wide: dict[str, list[Any]] = {"contact_key": keys, "payload": packed}
    insert_columns(connection, baseline, narrow, same, on_conflict="replace")
    insert_columns(connection, baseline_payload, wide, same, on_conflict="replace")


def end(connection: sa.Connection, destination: str, keys: Sequence[int]) -> None:
    """Forget the states of a batch of contacts, as part of the caller's transaction."""
    for table in (baseline, baseline_payload) if keys else ():
        connection.execute(
            sa.delete(table).where(table.c.destination == destination, table.c.contact_key.in_(keys))
        )


def _packed(text: bytes) -> bytes:
    if len(text) < _WORTH_PACKING:
        return text
    # By default zlib prepares a window of 32 KiB, which takes eight times as long as packing a text of 300 bytes.
    packer = zlib.compressobj(1, zlib.DEFLATED, 12, 4)
    return packer.compress(text) + packer.flush()


def _unpacked(payload: bytes) -> str:
    return (payload if payload.startswith(b"{") else zlib.decompress(payload)).decode()


def _slices(array: pa.Array) -> Iterator[pa.Array]:
    for start in range(0, len(array), KEYS_PER_QUERY):
        yield array.slice(start, KEYS_PER_QUERY)
