"""Erasures: who is to be erased, how far that has come, its receipt, and all rows of the store that are about a person.

What an ESP is asked, and the files beside the store, are elsewhere (`sync.rights`).

Decisions. Whom an erasure is about is kept, sealed, until it has ended, because an ESP can only be asked by address; then
that is emptied and the receipt stays, which names nobody. OF_PERSON lists every column by which a row is about somebody:
a test holds it against the schema, so that a new table cannot be forgotten.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from .audit import Audit
from .database import Database, among, remove
from .keys import ContactKeys
from .leases import Lease, check
from .outbox_sealing import unseal_change
from .schema import (
    baseline,
    baseline_payload,
    consent_entry,
    engagement,
    erasure,
    inbox,
    outbox,
    pulled_value,
    rejection,
    remote,
    remote_identity,
)
from .sealing import Sealing
from .tombstones import Tombstones

OF_CONTACT: Final = (
    baseline.c.contact_key,
    baseline_payload.c.contact_key,
    rejection.c.contact_key,
    outbox.c.contact_key,
)
OF_ADDRESS: Final = (
    outbox.c.address_key,
    remote.c.address_key,
    remote_identity.c.address_key,
    pulled_value.c.address_key,
    engagement.c.address_key,
)
"""By these a row of a destination is about a person; all such rows go."""

KEPT: Final = frozenset({"consent_entry", "consent_record", "audit", "tombstone"})
"""What stays of a person, under keyed hashes: that they must not be mailed, and what was done."""

_NOTHING: Final = b""
_DONE: Final = "done"  # of the inbox: its body is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Somebody who is to be erased. `former` are keys of contacts whose ids nobody knows any more."""

    contact_ids: tuple[str, ...]
    addresses: tuple[str, ...]
    former: tuple[int, ...] = ()

    def contact_keys(self, keys: ContactKeys) -> list[int]:
        """Give the keys under which the store knows them as a person."""
        return sorted({*map(keys.contact_key, self.contact_ids), *self.former})

    def address_keys(self, keys: ContactKeys) -> list[int]:
        """Give the keys of their addresses."""
        return sorted(set(map(keys.address_key, self.addresses)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """One erasure. `subject` is None once it has ended; the receipt holds no personal data."""

    erasure_id: str
    requested_at: datetime
    finished_at: datetime | None
    subject: Subject | None
    receipt: Mapping[str, Any]


class Erasures:
    """Takes requests in, keeps how far they came, and removes rows."""

    def __init__(  # as the store opens them
        self,
        database: Database,
        keys: ContactKeys,
        sealing: Sealing,
        audit: Audit,
        tombstones: Tombstones,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._keys = keys
        self._sealing = sealing
        self._audit = audit
        self._tombstones = tombstones
        self._clock = clock

    def request(self, subject: Subject, *, who: str, now: datetime) -> Erasure:
        """Store that somebody is to be erased, and make their tombstones: from now on they cannot come back."""
        erasure_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        text = json.dumps(asdict(subject), ensure_ascii=False).encode()
        with self._database.write() as connection:
            made = self._tombstones.put(connection, subject.contact_ids, subject.addresses, now)
            receipt = {"requested_by": who, "tombstones": made, "steps": {}}
            row = {
                "erasure_id": erasure_id,
                "requested_at": now,
                "finished_at": None,
                "subject": self._sealing.seal(text, erasure.name, erasure_id),
                "receipt": json.dumps(receipt),
            }
            connection.execute(sa.insert(erasure), row)
            self._audit.append(
                connection,
                "erasure requested",
                subjects=self._subjects(subject),
                detail={"erasure": erasure_id},
            )
        return Erasure(
            erasure_id=erasure_id, requested_at=now, finished_at=None, subject=subject, receipt=receipt
        )

    def now(self) -> datetime:
        """Give this moment."""
        return self._clock()

    def get(self, erasure_id: str) -> Erasure | None:
        """Give an erasure, None when there is none of that id."""
        found = self._all(erasure.c.erasure_id == erasure_id)
        return found[0] if found else None

    def unfinished(self) -> list[Erasure]:
        """Give the erasures that have not ended, the oldest first."""
        return self._all(erasure.c.finished_at.is_(None))

    def note(self, erasure_id: str, receipt: Mapping[str, Any]) -> None:
        """Store how far an erasure has come."""
        with self._database.write() as connection:
            connection.execute(_set(erasure_id, receipt=json.dumps(receipt)))

    def finish(self, done: Erasure, receipt: Mapping[str, Any]) -> Erasure:
        """Store that an erasure has ended, and forget whom it was about."""
        now = self._clock()
        with self._database.write() as connection:
            values = {"receipt": json.dumps(receipt), "finished_at": now, "subject": _NOTHING}
            connection.execute(_set(done.erasure_id, **values))
            subjects = self._subjects(done.subject) if done.subject else ()
            self._audit.append(connection, "erased", subjects=subjects, detail={"erasure": done.erasure_id})
        return Erasure(
            erasure_id=done.erasure_id,
            requested_at=done.requested_at,
            finished_at=now,
            subject=None,
            receipt=receipt,
        )

    # Rows of a person

    def count_rows(self, subject: Subject) -> dict[str, dict[str, int]]:
        """Count the rows of a person, by destination and table."""
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for column, keys in self._columns(subject):
                table = column.table
                query = sa.select(table.c.destination, column)
                for row in among(connection, query, column, keys):
                    of = found.setdefault(row.destination, {})
                    of[table.name] = of.get(table.name, 0) + 1
        return found

    def rows(self, subject: Subject) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Give the rows of a person by destination and table, as they were before they were sealed.

        Without hashes, and without what only `Baselines` and `Pulled` can read.
        """
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        seen: set[int] = set()
        with self._database.read() as connection:
            for column, keys in self._columns(subject):
                if column.table in {baseline, baseline_payload, pulled_value} or not keys:
                    continue
                for row in connection.execute(sa.select(column.table).where(column.in_(keys))).mappings():
                    if column.table is outbox and row["id"] in seen:
                        continue
                    said = {name: value for name, value in row.items() if not _is_ours(name, value)}
                    if column.table is outbox:
                        seen.add(row["id"])
                        at = (row["destination"], row["contact_key"], row["address"], row["payload"])
                        said["address"], payload = unseal_change(self._sealing, *at)
                        said["payload"] = json.loads(payload)
                    of = found.setdefault(row["destination"], {})
                    of.setdefault(column.table.name, []).append(said)
        return found

    def remove_rows(self, lease: Lease, subject: Subject) -> dict[str, int]:
        """Remove all rows of a person at one destination, in one transaction; give how many, by table."""
        removed: dict[str, int] = {}
        with self._database.write() as connection:
            check(connection, lease)
            here = lease.destination
            for column, keys in self._columns(subject):
                gone = sa.delete(column.table).where(column.table.c.destination == here)
                count = remove(connection, gone, column, keys)
                if count:
                    removed[column.table.name] = removed.get(column.table.name, 0) + count
            connection.execute(
                sa.update(remote)
                .where(remote.c.destination == here, remote.c.written_for.in_(self._of(subject)))
                .values(written_for=None)
            )
            self._audit.append(
                connection, "rows erased", destination=here, subjects=self._subjects(subject), detail=removed
            )
        return removed

    def remove_evidence(self, subject: Subject) -> int:
        """Empty the evidence of what the ledger holds of a person: what they said stays, what proves it goes."""
        keys = self._subjects(subject)
        with self._database.write() as connection:
            query = sa.select(consent_entry.c.id, consent_entry.c.subject_key, consent_entry.c.evidence)
            emptied = [
                {
                    "of_id": row.id,
                    "evidence": self._sealing.seal_text("{}", consent_entry.name, row.subject_key),
                }
                for row in among(connection, query, consent_entry.c.subject_key, keys)
                if self._sealing.unseal_text(row.evidence, consent_entry.name, row.subject_key) != "{}"
            ]
            if emptied:
                connection.execute(
                    sa.update(consent_entry).where(consent_entry.c.id == sa.bindparam("of_id")), emptied
                )
        return len(emptied)

    def bodies(self) -> Iterator[tuple[int, str, str, bytes]]:
        """Give every webhook that is not done as (id, destination, content type, body)."""
        query = sa.select(
            inbox.c.id, inbox.c.destination, inbox.c.name_hash, inbox.c.content_type, inbox.c.body
        ).where(inbox.c.status != _DONE)
        for rows in self._database.stream(query, rows=1_000):
            for row in rows:
                place = (inbox.name, row.destination, row.name_hash.hex())
                yield row.id, row.destination, row.content_type, self._sealing.unseal(row.body, *place)

    def forget_log(self) -> None:
        """Have SQLite empty its log, in which what was removed may still be."""
        self._database.forget_log()

    def _columns(self, subject: Subject) -> Iterator[tuple[sa.Column[Any], list[int]]]:
        contacts, addresses = self._of(subject), subject.address_keys(self._keys)
        yield from ((column, contacts) for column in OF_CONTACT)
        yield from ((column, addresses) for column in OF_ADDRESS)

    def _of(self, subject: Subject) -> list[int]:
        return subject.contact_keys(self._keys)

    def _subjects(self, subject: Subject) -> list[int]:
        return [*self._of(subject), *subject.address_keys(self._keys)]

    def _all(self, condition: sa.ColumnElement[bool]) -> list[Erasure]:
        query = sa.select(erasure).where(condition).order_by(erasure.c.requested_at, erasure.c.erasure_id)
        with self._database.read() as connection:
            rows: Sequence[sa.Row[Any]] = connection.execute(query).all()
        return [
            Erasure(
                erasure_id=row.erasure_id,
                requested_at=row.requested_at,
                finished_at=row.finished_at,
                subject=self._subject(row.erasure_id, row.subject),
                receipt=json.loads(row.receipt),
            )
            for row in rows
        ]

    def _subject(self, erasure_id: str, sealed: bytes) -> Subject | None:
        if sealed == _NOTHING:
            return None
        raw = json.loads(self._sealing.unseal(sealed, erasure.name, erasure_id))
        return Subject(**{name: tuple(values) for name, values in raw.items()})


def _is_ours(name: str, value: object) -> bool:
    """Whether a column is a key or a hash of ours, which tells nobody anything."""
    return name in {"id", "destination", "written_for"} or name.endswith("_key") or isinstance(value, bytes)


def _set(erasure_id: str, **values: object) -> sa.Update:
    return sa.update(erasure).where(erasure.c.erasure_id == erasure_id).values(**values)
