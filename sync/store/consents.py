"""The consent ledger: every act that is known, append-only, and the record of each person that follows from it.

What an act means and which one wins is `core.consent`'s alone; here it is kept, looked up and never changed.

Decisions. A ledger line is named by a hash over all it says, so that loading the same source every night adds
nothing; the hash is computed for a whole batch by DuckDB, and only lines that are new become Python objects. Two
lines that differ only in how their evidence's JSON is written are both kept: merging is idempotent, so that does no
harm. The record is stored beside the ledger because a plan for ten million contacts cannot replay it. Appending
excludes other appenders: of two that read the same record, the second would overwrite the first one's withdrawal.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, Final

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from ...core.consent import REGIME_INSTANTS, ConsentAct, ConsentEntry, ConsentRecord, merge, record
from ...core.errors import DataError
from ...core.model import Grant
from ...core.scratch import scratch
from .audit import Audit, of_run
from .columns import stream_columns
from .database import ROWS_PER_TRANSACTION, Database, among, grouped, insert_columns, parts, plain_among
from .keys import SubjectKind
from .schema import consent_entry, consent_record, instant_of, microseconds
from .sealing import Sealing

LEDGER: Final = pa.schema(
    [
        ("subject_key", pa.int64()),
        ("subject_kind", pa.string()),
        ("channel", pa.string()),
        ("purpose", pa.string()),
        ("act", pa.string()),
        ("occurred_at", pa.timestamp("us", "UTC")),
        ("source", pa.string()),
        ("evidence", pa.string()),  # JSON object of texts, or null
    ]
)

HISTORY: Final = LEDGER.append(pa.field("recorded_at", pa.timestamp("us", "UTC"))).append(
    pa.field("run_id", pa.string())
)
ROWS_PER_HISTORY: Final = 20_000

_INSTANTS: Final = tuple(slot.name for slot in fields(ConsentRecord))

RECORDS: Final = pa.schema(
    [("subject_key", pa.int64()), *((name, pa.timestamp("us", "UTC")) for name in _INSTANTS)]
)

_ACTS: Final = {act.value: act for act in ConsentAct}

# Keyed, and twice: an entry outlives its evidence, which has few letters, and must not be found by trying all there are.
_HASH: Final = """
    select unhex(left(sha256(concat($key, sha256(concat_ws(
        chr(0), $key, subject_kind, subject_key, channel, purpose, act, epoch_us(occurred_at), source,
        coalesce(evidence, '')
    )))), 32)) from batch
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One act of one subject: a contact or an address, by its key.

    What the ledger gives back says when it was written down, and by which run or command.
    """

    subject_key: int
    subject_kind: SubjectKind
    entry: ConsentEntry
    recorded_at: datetime | None = field(default=None, compare=False)
    run_id: str | None = field(default=None, compare=False)


class Consents:
    """Appends to the ledger and reads what follows from it."""

    def __init__(
        self, database: Database, key: bytes, sealing: Sealing, audit: Audit, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._key = key.hex()
        self._sealing = sealing
        self._audit = audit
        self._clock = clock

    def append(self, entries: Iterable[LedgerEntry], *, run_id: str | None = None) -> int:
        """Add acts and give how many were new."""
        return self.append_batches(
            (ledger_batch(group) for group in grouped(entries, ROWS_PER_TRANSACTION)), run_id=run_id
        )

    def append_batches(
        self,
        batches: pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch],
        *,
        run_id: str | None = None,
    ) -> int:
        """Add acts given as LEDGER columns, in grouped transactions, and give how many were new.

        Raises DataError for an act that is not a ConsentAct or evidence that is not a JSON object; what came before
        its group stays, and the same call after a correction adds the rest.
        """
        new = 0
        with scratch() as engine:
            for batch in parts(batches):
                lines = batch.select(LEDGER.names)
                new += self._append(lines, _hashes(engine, lines, self._key), run_id)
        return new

    def stream_records(
        self, channel: str = "email", purpose: str = "marketing", *, every_regime: bool = True
    ) -> Iterator[pa.RecordBatch]:
        """Give the record of every subject as batches of RECORDS, without REGIME_INSTANTS for a project of opt-in."""
        names = [name for name in RECORDS.names if every_regime or name not in REGIME_INSTANTS]
        return stream_columns(
            self._database,
            [consent_record.c[name] for name in names],
            consent_record.c.subject_key,
            consent_record.c.channel == channel,
            consent_record.c.purpose == purpose,
            schema=pa.schema([RECORDS.field(name) for name in names]),
        )

    def records(
        self, keys: Iterable[int], channel: str = "email", purpose: str = "marketing"
    ) -> dict[int, ConsentRecord]:
        """Give the records of a batch of subjects; those of whom nothing is known are absent."""
        query = _of_topic(("subject_key", *_INSTANTS), channel, purpose)
        with self._database.read() as connection:
            return {
                key: _record(instants)
                for key, *instants in plain_among(connection, query, consent_record.c.subject_key, keys)
            }

    def grants(
        self, keys: Iterable[int], channel: str = "email", purpose: str = "marketing"
    ) -> dict[int, Grant]:
        """Give the evidence of each subject's newest grant that counts; those without one are absent."""
        query = (
            sa.select(
                consent_record.c.subject_key,
                consent_entry.c.occurred_at,
                consent_entry.c.source,
                consent_entry.c.evidence,
            )
            .join(consent_entry, consent_entry.c.entry_hash == consent_record.c.grant_entry)
            .where(consent_record.c.channel == channel, consent_record.c.purpose == purpose)
        )
        evidence_of = cache(_evidence)  # many people say yes to the same words
        with self._database.read() as connection:
            return {
                key: Grant(
                    granted_at=instant_of(occurred_at),
                    source=source,
                    evidence=evidence_of(self._evidence(key, evidence)),
                )
                for key, occurred_at, source, evidence in plain_among(
                    connection, query, consent_record.c.subject_key, keys
                )
            }

    def history(self, keys: Sequence[int]) -> list[LedgerEntry]:
        """Give all that the ledger holds of a few subjects, oldest act first."""
        query = (
            sa.select(consent_entry)
            .where(consent_entry.c.subject_key.in_(keys))
            .order_by(consent_entry.c.occurred_at, consent_entry.c.id)
        )
        with self._database.read() as connection:
            return [
                LedgerEntry(
                    subject_key=row.subject_key,
                    subject_kind=row.subject_kind,
                    entry=ConsentEntry(
                        act=ConsentAct(row.act),
                        occurred_at=row.occurred_at,
                        source=row.source,
                        channel=row.channel,
                        purpose=row.purpose,
                        evidence=_evidence(self._evidence(row.subject_key, row.evidence)),
                    ),
                    recorded_at=row.recorded_at,
                    run_id=row.run_id,
                )
                for row in connection.execute(query)
            ]

    def stream_history(self) -> Iterator[pa.RecordBatch]:
        """Give the whole ledger, in the order of recording, as batches of HISTORY."""
        columns = [consent_entry.c[name] for name in HISTORY.names]
        last_id = 0
        while True:
            query = sa.select(consent_entry.c.id, *columns).where(consent_entry.c.id > last_id)
            with self._database.read() as connection:
                rows = connection.execute(query.order_by(consent_entry.c.id).limit(ROWS_PER_HISTORY)).all()
            if not rows:
                return
            last_id, *_ = rows[-1]
            columns_of = dict(zip(HISTORY.names, zip(*(row[1:] for row in rows), strict=True), strict=True))
            columns_of["evidence"] = tuple(
                self._evidence(key, text)
                for key, text in zip(columns_of["subject_key"], columns_of["evidence"], strict=True)
            )
            yield pa.record_batch(
                [pa.array(columns_of[each.name], each.type) for each in HISTORY], schema=HISTORY
            )

    def _evidence(self, subject_key: int, text: str) -> str:
        return self._sealing.unseal_text(text, consent_entry.name, subject_key)

    def _append(self, batch: pa.RecordBatch, hashes: Sequence[bytes], run_id: str | None) -> int:
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("lock table consent_record in share row exclusive mode"))
            known = _known(connection, hashes)
            fresh: dict[bytes, int] = {}
            for position, entry_hash in enumerate(hashes):
                if entry_hash not in known:
                    fresh.setdefault(entry_hash, position)
            if not fresh:
                return 0
            fresh_hashes = list(fresh)
            columns = _columns(batch.take(pa.array(fresh.values(), pa.int64())))
            entries = _parse(columns)
            if self._sealing.is_on:
                lines = zip(columns["subject_key"], columns["evidence"], strict=True)
                columns["evidence"] = [
                    self._sealing.seal_text(text, consent_entry.name, key) for key, text in lines
                ]
            insert_columns(
                connection,
                consent_entry,
                {"entry_hash": fresh_hashes, **columns},
                {"recorded_at": microseconds(self._clock()), "run_id": run_id},
                on_conflict="ignore",
            )
            _materialise(connection, list(zip(fresh_hashes, columns["subject_key"], entries, strict=True)))
            said: dict[str, list[int]] = {}
            for key, entry in zip(columns["subject_key"], entries, strict=True):
                said.setdefault(entry.act.value, []).append(key)
            who = of_run(run_id) if run_id else None
            self._audit.append(connection, "consents recorded", who=who, subjects=said)
        return len(fresh)


def ledger_batch(entries: Sequence[LedgerEntry]) -> pa.RecordBatch:
    """Give entries as LEDGER columns."""
    return pa.RecordBatch.from_pylist(
        [
            {
                "subject_key": each.subject_key,
                "subject_kind": each.subject_kind,
                "channel": each.entry.channel,
                "purpose": each.entry.purpose,
                "act": each.entry.act.value,
                "occurred_at": each.entry.occurred_at,
                "source": each.entry.source,
                "evidence": json.dumps(dict(each.entry.evidence), ensure_ascii=False, sort_keys=True),
            }
            for each in entries
        ],
        schema=LEDGER,
    )


def _hashes(engine: duckdb.DuckDBPyConnection, batch: pa.RecordBatch, key: str) -> list[bytes]:
    engine.register("batch", pa.table(batch))
    return [row[0] for row in engine.execute(_HASH, {"key": key}).fetchall()]


def _known(connection: sa.Connection, hashes: Sequence[bytes]) -> set[bytes]:
    column = consent_entry.c.entry_hash
    return {row.entry_hash for row in among(connection, sa.select(column), column, hashes)}


def _columns(batch: pa.RecordBatch) -> dict[str, list[Any]]:
    """Give lines as the ledger's table keeps them."""
    arrays = {name: batch.column(name) for name in LEDGER.names}
    arrays["occurred_at"] = arrays["occurred_at"].cast(LEDGER.field("occurred_at").type).cast(pa.int64())
    columns = {name: array.to_pylist() for name, array in arrays.items()}
    columns["evidence"] = [text or "{}" for text in columns["evidence"]]
    return columns


def _parse(columns: Mapping[str, Sequence[Any]]) -> list[ConsentEntry]:
    entries = []
    names = ("channel", "purpose", "act", "occurred_at", "source", "evidence")
    for channel, purpose, act, occurred_at, source, evidence in zip(
        *(columns[n] for n in names), strict=True
    ):
        # Values are not repeated: a wrongly mapped column can hold anything about a person.
        if act not in _ACTS:
            raise DataError(f"consents, column act: a value is none of {', '.join(ConsentAct)}.")
        if "\0" in f"{channel}{purpose}{source}":
            raise DataError("consents: a channel, purpose or source holds a NUL character. Remove it there.")
        entries.append(
            ConsentEntry(
                act=_ACTS[act],
                occurred_at=instant_of(occurred_at),
                source=source,
                channel=channel,
                purpose=purpose,
                evidence=_evidence(evidence),
            )
        )
    return entries


def _evidence(text: str) -> dict[str, str]:
    try:
        raw = json.loads(text)
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in raw.items()}
    except (ValueError, AttributeError):
        raise DataError(
            "consents, column evidence: a value is not a JSON object. "
            'Write it like {"form": "newsletter", "text_version": "3"}.'
        ) from None


def _materialise(connection: sa.Connection, lines: Sequence[tuple[bytes, int, ConsentEntry]]) -> None:
    """Merge new ledger lines, each as hash, subject and act, into their subjects' records."""
    by_topic: dict[tuple[str, str], list[tuple[bytes, int, ConsentEntry]]] = {}
    for line in lines:
        by_topic.setdefault((line[2].channel, line[2].purpose), []).append(line)
    for (channel, purpose), topic in by_topic.items():
        held = _held(connection, {key for _, key, _ in topic}, channel, purpose)
        changed: dict[int, tuple[ConsentRecord, bytes | None]] = {}
        for entry_hash, key, entry in topic:
            known, grant = changed.get(key) or held.get(key) or (None, None)
            act = record(entry)
            merged = act if known is None else merge(known, act)
            if act.granted_at is not None and (known is None or merged.granted_at != known.granted_at):
                grant = entry_hash
            changed[key] = (merged, grant)
        keys = sorted(changed)
        columns: dict[str, list[object]] = {
            "subject_key": [*keys],
            "grant_entry": [changed[key][1] for key in keys],
        }
        for name in _INSTANTS:
            instants = (getattr(changed[key][0], name) for key in keys)
            columns[name] = [None if instant is None else microseconds(instant) for instant in instants]
        same = {"channel": channel, "purpose": purpose}
        insert_columns(connection, consent_record, columns, same, on_conflict="replace")


def _held(
    connection: sa.Connection, keys: Iterable[int], channel: str, purpose: str
) -> dict[int, tuple[ConsentRecord, bytes | None]]:
    query = _of_topic(("subject_key", "grant_entry", *_INSTANTS), channel, purpose)
    return {
        row.subject_key: (_record([getattr(row, name) for name in _INSTANTS]), row.grant_entry)
        for row in among(connection, query, consent_record.c.subject_key, keys)
    }


def _of_topic(names: Sequence[str], channel: str, purpose: str) -> sa.Select[*tuple[Any, ...]]:
    return sa.select(*(consent_record.c[name] for name in names)).where(
        consent_record.c.channel == channel, consent_record.c.purpose == purpose
    )


def _record(instants: Sequence[int | None]) -> ConsentRecord:
    """Read a record's instants, which stand in the order of _INSTANTS."""
    named = zip(_INSTANTS, instants, strict=True)
    return ConsentRecord(**{name: instant_of(value) for name, value in named if value is not None})
