"""Which keys a store is encrypted with, and how all that it holds comes under the newest one.

Lives here: the list of what is sealed, and its passage from one key to the next. Must not: how a value is sealed
(`sealing`).

The store itself says which keys it needs and whether it still holds values from before it was encrypted, so that a
missing or a wrong key shows when the store is opened, and before anything is read or written with it.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from ...core.errors import ConfigError
from .audit import Audit
from .database import Database, insert
from .outbox_sealing import seal_change, unseal_change
from .schema import baseline_payload, consent_entry, erasure, fact, inbox, outbox, plan, pulled_value
from .sealing import PLAIN, Sealing, text_prefix

_FACT: Final = "encryption"
_QUERY: Final = sa.select(fact.c.value).where(fact.c.name == _FACT)
_ROWS: Final = 2_000  # a transaction: what waits for them waits for a moment


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sealed:
    """A column of sealed values. `place` are the columns that a value is bound to, besides the table's name."""

    column: sa.Column[Any]
    place: tuple[str, ...]
    also: tuple[str, ...] = ()  # columns that go into the same value, and are empty once they did
    empty: tuple[bytes, ...] = field(default=())  # values that say nothing and are never sealed

    @property
    def key(self) -> list[sa.Column[Any]]:
        return list(self.column.table.primary_key)


SEALED: Final = (
    _Sealed(column=baseline_payload.c.payload, place=("destination", "contact_key")),
    _Sealed(column=outbox.c.payload, place=("destination", "contact_key"), also=("address",)),
    _Sealed(column=inbox.c.body, place=("destination", "name_hash"), empty=(b"",)),
    _Sealed(column=consent_entry.c.evidence, place=("subject_key",)),
    _Sealed(column=pulled_value.c.value, place=("destination", "address_key", "tag")),
    _Sealed(column=erasure.c.subject, place=("erasure_id",), empty=(b"",)),
)
"""All that is sealed in tables; a plan's file key, in its manifest, is sealed as well."""


def prove(database: Database, secrets: Sequence[bytes], *, new_store: bool) -> Sealing:
    """Give what seals and opens this store's values. Raises ConfigError when the keys are not those it needs.

    A first key turns encryption on: what is stored from then on is sealed, and what was there before `rotate` seals.
    """
    sealing = Sealing(secrets)
    with database.read() as connection:
        known = _known(connection)
    if known is None and not sealing.is_on:
        return PLAIN
    if known is not None:
        _refuse_wrong_keys(sealing, known["keys"])
    if known is None or sealing.key_ids[0] not in known["keys"]:
        with database.write() as connection:
            known = _known(connection) or {"keys": [], "plain": not new_store}
            _know(connection, [sealing.key_ids[0], *known["keys"]], plain=known["plain"])
    return Sealing(secrets, plain_too=known["plain"])


def _refuse_wrong_keys(sealing: Sealing, needed: Sequence[str]) -> None:
    if not sealing.is_on:
        raise ConfigError(
            f"encryption_key: the store is encrypted (key {needed[0]}) and segue.yml names no key. Name the one that"
            " the store was encrypted with; without it nothing of what it holds can be read."
        )
    if missing := [each for each in needed if each not in sealing.key_ids]:
        raise ConfigError(
            f"encryption_key: the store holds values under the key {', '.join(missing)}, and given is"
            f" {', '.join(sealing.key_ids)}. Give the missing key too, behind the new one and a space, until"
            " `segue store rotate-key` has ended."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What a rotation did: how many values it sealed anew, by table, and the key that all are under now."""

    key: str
    values: dict[str, int]


def rotate(
    database: Database, sealing: Sealing, audit: Audit, progress: Callable[[str, int], None]
) -> Rotation:
    """Bring every value under the newest key, in grouped transactions; killed anywhere, it is simply called again.

    Values from before the store was encrypted are sealed as well. Raises ConfigError when the store is not encrypted.
    """
    if not sealing.is_on:
        raise ConfigError(
            "encryption_key: segue.yml names no key. Make one with `openssl rand -hex 32`, put it where `encryption_key`"
            " says, e.g. env:SEGUE_ENCRYPTION_KEY, and run this again."
        )
    values: dict[str, int] = {}
    while True:
        found = 0
        for each in SEALED:
            for count in _resealed(database, sealing, each):
                found += count
                values[each.column.table.name] = values.get(each.column.table.name, 0) + count
                progress(each.column.table.name, sum(values.values()))
        for count in _resealed_plans(database, sealing):
            found += count
            values[plan.name] = values.get(plan.name, 0) + count
        if not found:  # once more, as long as somebody else still stored values under the old key
            break
    with database.write() as connection:
        before = _known(connection) or {"keys": [], "plain": False}
        _know(connection, sealing.key_ids[:1], plain=False)
        detail = {
            "key": sealing.key_ids[0],
            "before": before["keys"],
            "plain": before["plain"],
            "values": values,
        }
        audit.append(connection, "encryption key rotated", detail=detail)
    if before["plain"]:
        database.compact()
    return Rotation(key=sealing.key_ids[0], values=values)


def _resealed(database: Database, sealing: Sealing, sealed: _Sealed) -> Iterator[int]:
    """Seal a column's values anew, a transaction at a time; give how many each time."""
    table, column = sealed.column.table, sealed.column
    of_text = isinstance(column.type, sa.Text)
    prefix: Any = text_prefix(sealing.prefix) if of_text else sealing.prefix
    todo = sa.and_(sa.func.substr(column, 1, len(prefix)) != prefix, column.not_in(sealed.empty))
    names = dict.fromkeys((*(each.name for each in sealed.key), *sealed.place, *sealed.also, column.name))
    place = sa.tuple_(*sealed.key)
    window: sa.ColumnElement[bool] = sa.true()
    while True:
        # What is to be done is looked for with nothing locked: of many rows few or none may be.
        walk = sa.select(*sealed.key, todo.label("todo")).where(window).order_by(*sealed.key).limit(_ROWS)
        with database.read() as connection:
            seen = connection.execute(walk).all()
        if not seen:
            return
        last = tuple(seen[-1])[:-1]
        these, window = sa.and_(window, place <= last, todo), place > last
        if not any(row.todo for row in seen):
            continue
        query = sa.select(*(table.c[name] for name in names)).where(these).with_for_update()
        here = (each == sa.bindparam(f"of_{each.name}") for each in sealed.key)
        with database.write() as connection:
            rows = connection.execute(query).mappings().all()
            if not rows:
                continue
            changed = [
                {f"of_{each.name}": row[each.name] for each in sealed.key} | _value(sealing, sealed, row)
                for row in rows
            ]
            connection.execute(sa.update(table).where(*here), changed)
        yield len(rows)


def _value(sealing: Sealing, sealed: _Sealed, row: sa.RowMapping) -> dict[str, object]:
    name = sealed.column.name
    place = (sealed.column.table.name, *(_shown(row[each]) for each in sealed.place))
    if sealed.also:
        at = (row["destination"], row["contact_key"])
        address, payload = unseal_change(sealing, *at, row["address"], row["payload"])
        return {"address": "", "payload": seal_change(sealing, *at, address, payload)}
    if isinstance(sealed.column.type, sa.Text):
        return {name: sealing.seal_text(sealing.unseal_text(row[name], *place), *place)}
    return {name: sealing.seal(sealing.unseal(row[name], *place), *place)}


def _resealed_plans(database: Database, sealing: Sealing) -> Iterator[int]:
    prefix, last = text_prefix(sealing.prefix), ""
    while True:
        query = (
            sa.select(plan.c.plan_id, plan.c.manifest).where(plan.c.plan_id > last).order_by(plan.c.plan_id)
        )
        with database.write() as connection:
            rows = connection.execute(query.limit(_ROWS).with_for_update()).all()
            if not rows:
                return
            count = 0
            for plan_id, text in rows:
                manifest = json.loads(text)
                sealed = manifest.get("file_key", "")
                if sealed and not sealed.startswith(prefix):
                    place = (plan.name, "file_key")
                    manifest["file_key"] = sealing.seal_text(sealing.unseal_text(sealed, *place), *place)
                    new = sa.update(plan).where(plan.c.plan_id == plan_id)
                    connection.execute(
                        new.values(manifest=json.dumps(manifest, ensure_ascii=False, sort_keys=True))
                    )
                    count += 1
        last = rows[-1].plan_id
        if count:
            yield count


def _shown(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _known(connection: sa.Connection) -> dict[str, Any] | None:
    text = connection.execute(_QUERY).scalar()
    known: dict[str, Any] | None = json.loads(text) if text else None
    return known


def _know(connection: sa.Connection, keys: Sequence[str], *, plain: bool) -> None:
    row = {"name": _FACT, "value": json.dumps({"keys": list(keys), "plain": plain})}
    connection.execute(insert(connection, fact, on_conflict="replace"), row)
