"""The audit: what was done to whom, when and by whom, as a chain in which no row can be changed unnoticed.

Lives here: how the chain grows, is read and is proved. Must not: decide what is worth a row; whoever does something
appends it in the transaction that stores it, so that neither is there without the other.

Every row carries an HMAC over itself and the row before, under a secret that is made from the contact key and is not in
the store. The newest row's number and HMAC, the head, is kept with an HMAC of its own and is printed in every run's
report: rows that are cut off at the end are missed by the first, and a whole store that was put back to an earlier state
by the second. Whoever has the contact key can write another chain; only a head that was printed elsewhere tells.

Decisions. Rows are few and their subjects many: one row for what was settled or taken over together, with the keys of
whom it concerns, eight bytes each, in groups that the detail names. A person is found by searching those bytes in the
database. Rows are written as the last part of a transaction, so that two writers on PostgreSQL queue for the head while
they wait for nothing else. Old rows go by `purge`, which leaves a signed checkpoint from which the rest still proves.
"""

import getpass
import hmac
import json
import platform
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

import orjson
import sqlalchemy as sa

from ...core.errors import ConfigError, StoreError
from .database import ROWS_PER_TRANSACTION, Database, insert
from .schema import audit, fact, microseconds

HEAD_LOST: Final = "audit head lost"
NOT_BEGUN: Final = "none yet"
"""What the migration that makes the table puts in the place of the head, which it has no secret to sign."""

_HEAD: Final = "audit_head"
_CHECKPOINT: Final = "audit_checkpoint"
_KEY: Final = 8  # bytes
_START: Final = bytes(32)  # what stands for the row before the first
_SHORT: Final = 8  # bytes of an HMAC that people read
_MOST_PROBLEMS: Final = 100
_ROWS_PER_FETCH: Final = 500  # their subjects may be many

_WHO: ContextVar[str | None] = ContextVar("who", default=None)
_FACT = sa.select(fact.c.value).where(fact.c.name == sa.bindparam("fact"))


@contextmanager
def acting(who: str) -> Iterator[None]:
    """Name whoever does what is done in this block: a run, a webhook."""
    token = _WHO.set(who)
    try:
        yield
    finally:
        _WHO.reset(token)


def of_run(run_id: str) -> str:
    """Name a run as one who does something."""
    return f"run {run_id}"


def somebody() -> str:
    """Name whoever started this process, as far as this machine knows."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        name = "somebody"
    return f"{name} at {platform.node() or 'an unknown machine'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One row. `groups` are the words for its subjects in their order, each with how many it is of."""

    number: int
    at: datetime
    act: str
    who: str
    destination: str | None
    groups: Mapping[str, int]
    detail: Mapping[str, Any]
    concerns: tuple[str, ...]  # the groups that the person who was asked for is in


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The number of a row and the beginning of its HMAC, as reports print them."""

    number: int
    mac: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "number:mac". Raises ConfigError."""
        number, _, mac = text.strip().partition(":")
        if not number.isascii() or not number.isdecimal() or len(mac) != 2 * _SHORT:
            raise ConfigError(
                f'"{text}" is no head of the audit. A run\'s report prints it, like "412:9f86d081884c7d65".'
            )
        return cls(number=int(number), mac=mac.lower())

    def __str__(self) -> str:
        return f"{self.number}:{self.mac}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What `Audit.verify` found: `problems` in words, each with the number of its row; none in a whole chain."""

    first: int
    last: int
    head: Head
    problems: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """What a row says."""

    at: datetime
    act: str
    who: str
    destination: str | None
    subjects: bytes
    detail: str


@dataclass(slots=True, kw_only=True)
class _Proving:
    """Goes along the chain. `last` and `mac` are of the row before, `named` what reports say, by the row's number."""

    named: dict[int, set[str]]
    last: int = 0
    mac: bytes = _START
    problems: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, heads: Iterable[Head]) -> Self:
        named: dict[int, set[str]] = {}
        for each in heads:
            named.setdefault(each.number, set()).add(each.mac)
        return cls(named=named)

    def add(self, number: int, words: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append((number, words))

    def take(self, row: sa.Row[Any], mac: bytes) -> None:
        """Look at the next row, which should have this HMAC."""
        shown = row.mac[:_SHORT].hex()
        if row.number > self.last + 1:
            gone = _rows(self.last + 1, row.number - 1)
            self.add(self.last + 1, f"{gone} missing; so row {row.number} cannot be proved")
        elif row.mac != mac:
            self.add(row.number, "changed, moved, or not written by Segue")
        if row.act == HEAD_LOST:
            self.add(row.number, "the kept head was missing or changed by then: rows before may be missing")
        if self.named.pop(row.number, {shown}) != {shown}:
            self.add(row.number, "another row than the one that a report names")
        self.last, self.mac = row.number, row.mac

    def end(self, number: int, mac: bytes, signed: bool) -> None:  # noqa: FBT001  (as `_signed` gives them)
        """Hold the last row against the head that is kept, and against what reports name beyond it."""
        if not signed:
            self.add(self.last, "the kept head was changed or is missing")
        elif number > self.last:
            self.add(self.last + 1, f"{_rows(self.last + 1, number)} missing at the end")
        elif (number, mac) != (self.last, self.mac):
            self.add(self.last, "the kept head names another row as the newest")
        for missing in sorted(each for each in self.named if each > self.last):
            self.add(missing, "missing: a report names it")


class Audit:
    """Appends to the chain, searches it and proves it."""

    def __init__(self, database: Database, secret: bytes, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._secret = secret
        self._clock = clock
        self._pending: WeakKeyDictionary[sa.Connection, list[_Act]] = WeakKeyDictionary()
        database.end_writes_with(self._write)

    def append(
        self,
        connection: sa.Connection,
        act: str,
        *,
        who: str | None = None,
        destination: str | None = None,
        subjects: Mapping[str, Iterable[int]] | Iterable[int] = (),
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a row at the end of the caller's transaction, and only if that becomes true.

        `subjects` are contact and address keys, by a word for what became of them where that differs. `detail` is
        JSON without personal data. `who` is whom `acting` named if not given, else whoever started this process.
        """
        groups = subjects if isinstance(subjects, Mapping) else {"": subjects}
        keys = {word: list(group) for word, group in groups.items()}
        counted = {"groups": {word: len(group) for word, group in keys.items() if group}}
        everyone = [key for group in keys.values() for key in group]
        self._pending.setdefault(connection, []).append(
            _Act(
                at=self._clock(),
                act=act,
                who=who or _WHO.get() or somebody(),
                destination=destination,
                subjects=struct.pack(f">{len(everyone)}q", *everyone),
                detail=json.dumps((counted if everyone else {}) | dict(detail or {}), sort_keys=False),
            )
        )

    def begin(self) -> None:
        """Sign the head of a chain that has no row yet, once: from then on a head that is missing was taken away."""
        unsigned = sa.and_(fact.c.name == _HEAD, fact.c.value == NOT_BEGUN)
        with self._database.read() as connection:
            if connection.scalar(sa.select(fact.c.name).where(unsigned)) is None:
                return
        with self._database.write() as connection:
            first = self._text(_HEAD, 0, _START)
            connection.execute(sa.update(fact).where(unsigned).values(value=first))

    def head(self) -> Head:
        """Give the newest row's number and HMAC; zero before the first."""
        with self._database.read() as connection:
            number, mac, _ = self._signed(connection, _HEAD)
        return Head(number=number, mac=mac[:_SHORT].hex())

    def show(
        self,
        *,
        keys: Sequence[int] = (),
        run_id: str | None = None,
        destination: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[AuditRow]:
        """Give the newest rows, newest first: of a person by their keys, of a run, a destination, since a moment."""
        conditions = []
        if run_id is not None:
            conditions.append(audit.c.who == of_run(run_id))
        if destination is not None:
            conditions.append(audit.c.destination == destination)
        if since is not None:
            conditions.append(audit.c.at >= since)
        packed = [struct.pack(">q", key) for key in keys]
        with self._database.read() as connection:
            if packed:
                sqlite = connection.dialect.name == "sqlite"
                # The function that `position(... in ...)` is short for.
                place: Any = sa.func.instr if sqlite else sa.func.pg_catalog.position
                conditions.append(sa.or_(*(place(audit.c.subjects, each) > 0 for each in packed)))
            query = sa.select(audit).where(*conditions).order_by(audit.c.number.desc())
            with closing(connection.execution_options(yield_per=_ROWS_PER_FETCH).execute(query)) as rows:
                found = (_shown(row, packed) for row in rows)
                return list(islice((row for row in found if row is not None), limit))

    def verify(self, heads: Iterable[Head] = ()) -> Proof:
        """Prove the chain from its checkpoint to its head, and that it holds the rows that `heads` name."""
        proving = _Proving.of(heads)
        with self._database.read() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("set transaction isolation level repeatable read"))
            purged, mac, signed = self._signed(connection, _CHECKPOINT)
            if not signed:
                proving.add(purged, "the checkpoint that a purge left was changed")
            proving.last, proving.mac = purged, mac
            rows = sa.select(audit).order_by(audit.c.number)
            for row in connection.execution_options(yield_per=_ROWS_PER_FETCH).execute(rows):
                proving.take(row, self._mac(proving.mac, row.number, _act(row)))
            proving.end(*self._signed(connection, _HEAD))
        return Proof(
            first=purged + 1,
            last=proving.last,
            head=Head(number=proving.last, mac=proving.mac[:_SHORT].hex()),
            problems=tuple(proving.problems),
        )

    def purge(self, before: datetime) -> int:
        """Remove the rows from before a moment, but for the newest; give how many. The rest still proves.

        In grouped transactions, each with a row of its own: killed, it is simply called again. Each row is proved before
        it goes, because the checkpoint vouches for it. Raises StoreError at the first that does not prove.
        """
        removed, newest = 0, self.head().number  # what it writes itself is not removed
        while count := self._purge(before, newest):
            removed += count
        return removed

    def _purge(self, before: datetime, newest: int) -> int:
        with self._database.write() as connection:
            first_kept = connection.scalar(sa.select(sa.func.min(audit.c.number)).where(audit.c.at >= before))
            old = sa.select(audit).where(audit.c.number < min(first_kept or newest, newest))
            old = old.order_by(audit.c.number).limit(ROWS_PER_TRANSACTION)
            first, mac, signed = self._signed(connection, _CHECKPOINT)
            last = first
            with closing(connection.execute(old, execution_options={"yield_per": _ROWS_PER_FETCH})) as rows:
                for row in rows:
                    mac = self._mac(mac, row.number, _act(row))
                    if not signed or row.number != last + 1 or row.mac != mac:
                        raise StoreError(
                            f"the audit does not prove at row {row.number}: nothing more of it is removed, so that what"
                            " was changed stays to be seen. `segue audit verify` names the rows."
                        )
                    last = row.number
            if last > first:
                connection.execute(sa.delete(audit).where(audit.c.number <= last))
                self._sign(connection, _CHECKPOINT, last, mac)
                detail = {"rows": last - first, "before": before.isoformat()}
                self.append(connection, "audit purged", detail=detail)
        return last - first

    def _write(self, connection: sa.Connection) -> None:
        """Write the rows that this transaction appended: its last part, so nothing is waited for with the head held."""
        acts = self._pending.pop(connection, None)
        if not acts:
            return
        number, mac, signed = self._signed(connection, _HEAD, lock=True)
        if not signed:
            newest = connection.execute(
                sa.select(audit.c.number, audit.c.mac).order_by(audit.c.number.desc()).limit(1)
            )
            number, mac = newest.one_or_none() or self._signed(connection, _CHECKPOINT)[:2]
            acts.insert(0, replace(acts[0], act=HEAD_LOST, destination=None, subjects=b"", detail="{}"))
        for act in acts:
            number += 1
            mac = self._mac(mac, number, act)
            row = {name: getattr(act, name) for name in _Act.__slots__}
            connection.execute(sa.insert(audit), row | {"number": number, "mac": mac})
        self._sign(connection, _HEAD, number, mac)

    def _mac(self, previous: bytes, number: int, act: "_Act") -> bytes:
        said = [
            number,
            microseconds(act.at),
            act.act,
            act.who,
            act.destination,
            act.detail,
            len(act.subjects),
        ]
        text = orjson.dumps(said)
        code = hmac.new(self._secret, previous, "sha256")
        code.update(len(text).to_bytes(4, "big") + text)
        code.update(act.subjects)
        return code.digest()

    def _signed(self, connection: sa.Connection, name: str, *, lock: bool = False) -> tuple[int, bytes, bool]:
        """Give the number and the HMAC that a fact holds, and whether it is as it was signed."""
        query = _FACT.with_for_update() if lock else _FACT
        value = connection.execute(query, {"fact": name}).scalar()
        if value is None:
            return 0, _START, name == _CHECKPOINT
        try:
            written, code, _ = value.split(":")
            number, mac = int(written), bytes.fromhex(code)
        except ValueError:
            return 0, _START, False
        return number, mac, hmac.compare_digest(value.encode(), self._text(name, number, mac).encode())

    def _sign(self, connection: sa.Connection, name: str, number: int, mac: bytes) -> None:
        row = {"name": name, "value": self._text(name, number, mac)}
        connection.execute(insert(connection, fact, on_conflict="replace"), row)

    def _text(self, name: str, number: int, mac: bytes) -> str:
        told = f"{number}:{mac.hex()}"
        return f"{told}:{hmac.digest(self._secret, f'{name}:{told}'.encode(), 'sha256').hex()}"


def _shown(row: sa.Row[Any], packed: Sequence[bytes]) -> AuditRow | None:
    """Read a row; None where what was found of a person lies across two keys."""
    detail = json.loads(row.detail)
    groups: dict[str, int] = detail.pop("groups", {})
    concerns = tuple(_concerned(row.subjects, groups, packed))
    if packed and not concerns:
        return None
    return AuditRow(
        number=row.number,
        at=row.at,
        act=row.act,
        who=row.who,
        destination=row.destination,
        groups=groups,
        detail=detail,
        concerns=concerns,
    )


def _act(row: sa.Row[Any]) -> _Act:
    return _Act(**{name: row._mapping[name] for name in _Act.__slots__})  # noqa: SLF001  (SQLAlchemy's public name)


def _concerned(subjects: bytes, groups: Mapping[str, int], packed: Sequence[bytes]) -> Iterator[str]:
    """Give the groups of a row's subjects that hold one of these keys."""
    start = 0
    for word, count in groups.items():
        end = start + _KEY * count
        if any(_holds(subjects, each, start, end) for each in packed):
            yield word
        start = end


def _holds(subjects: bytes, key: bytes, start: int, end: int) -> bool:
    at = subjects.find(key, start, end)
    while at >= 0 and at % _KEY:
        at = subjects.find(key, at + 1, end)
    return at >= 0


def _rows(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"rows {first} to {last} are"
