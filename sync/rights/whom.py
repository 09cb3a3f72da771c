"""Finds all that somebody is known by: contact ids, addresses, and keys of contacts whose ids are lost.

Reads the snapshots and the store; asks no ESP. What is done with it is `erasure`'s and `access`'s.

People are known by address. So whoever shares an address with them, as customers do who are kept apart, is the same
person here; and an address that they had once and somebody else has today is not theirs any more.
"""

from contextlib import suppress

from ...core.config import Project
from ...core.errors import StoreError
from ...core.scratch import scratch
from ...core.snapshot import Snapshot, current, history
from ..ledger.desk import find, normal
from ..store.erasures import Subject
from ..store.pulled import ADDRESS
from ..store.store import Store


def whom(project: Project, store: Store, who: str) -> Subject:
    """Find somebody by contact id or address, also where only older snapshots or destinations know them.

    Raises DataError for a contact id that nobody knows; an address is somebody's whether or not it is known.
    """
    snapshot = newest(project)
    person = find(project, store, snapshot, who)
    ids = set(person.contacts)
    named = store.keys.contact_key(person.named)
    # An id may look like an address: of whom the data has no longer, the ledger tells which it is.
    if not ids and ("@" not in person.named or store.consents.records([named])):
        ids = {person.named}
    addresses = set(person.addresses.values())
    if snapshot is not None:
        ids |= _merged(snapshot, ids) | _sharing(snapshot, addresses)
    seen = _seen(project, ids)
    addresses |= seen - (_taken(snapshot, seen - addresses, ids) if snapshot is not None else set())
    for name in project.destinations:
        keys = [store.keys.address_key(address) for address in addresses]
        for (_, tag), value in store.pulled.values(name, keys).items():
            if tag == ADDRESS and value.value:
                addresses.add(normal(value.value))
    known = {store.keys.contact_key(each) for each in ids}
    return Subject(
        contact_ids=tuple(sorted(ids)),
        addresses=tuple(sorted(map(normal, addresses))),
        former=tuple(sorted(person.former - known)),
    )


def newest(project: Project) -> Snapshot | None:
    """Give the current snapshot, None where there is none that can be read."""
    with suppress(StoreError):
        return current(project.state_folder)
    return None


def _merged(snapshot: Snapshot, ids: set[str]) -> set[str]:
    """Give the customers that became part of these, and those that these became part of."""
    if "identity" not in snapshot.tables:
        return set()
    query = "SELECT contact_id, survivor_id FROM read_parquet($1) WHERE contact_id IN $2 OR survivor_id IN $2"
    return {each for row in _rows(query, snapshot, "identity", ids) for each in row}


def _sharing(snapshot: Snapshot, addresses: set[str]) -> set[str]:
    query = "SELECT contact_id FROM read_parquet($1) WHERE email IN $2"
    return {contact_id for (contact_id,) in _rows(query, snapshot, "profiles", addresses)}


def _taken(snapshot: Snapshot, addresses: set[str], ids: set[str]) -> set[str]:
    """Give which of these addresses somebody else has now."""
    query = "SELECT contact_id, email FROM read_parquet($1) WHERE email IN $2"
    return {
        email for contact_id, email in _rows(query, snapshot, "profiles", addresses) if contact_id not in ids
    }


def _seen(project: Project, ids: set[str]) -> set[str]:
    """Give the addresses that these contacts have in any snapshot that is kept."""
    query = "SELECT email FROM read_parquet($1) WHERE contact_id IN $2 AND email IS NOT NULL"
    return {
        email
        for snapshot in history(project.state_folder)
        for (email,) in _rows(query, snapshot, "profiles", ids)
    }


def _rows(query: str, snapshot: Snapshot, table: str, values: set[str]) -> list[tuple[str, ...]]:
    with scratch() as con:
        return con.execute(query, [str(snapshot.table(table)), sorted(values)]).fetchall()
