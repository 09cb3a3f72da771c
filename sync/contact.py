"""All that is known of one contact, gathered for a person to read: traits, consent, and what each destination holds.

Reads the snapshot and the store; asks no ESP and changes nothing.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.config import Project
from ..core.consent import ConsentState
from ..core.errors import DataError, StoreError
from ..core.model import ContactState
from ..core.scratch import scratch
from ..core.snapshot import Snapshot, current
from .gate import reason_in_words
from .ledger.desk import find
from .ledger.desk import view as consent_of
from .planning.plan_files import attach
from .store.consents import LedgerEntry
from .store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDestination:
    """One destination's side: what it confirmed and what it last showed, None for nothing.

    `withheld` says in words why the newest plan gave this contact nothing, None when it did not withhold it.
    """

    confirmed: ContactState | None
    state: ConsentState | None
    withheld: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactView:
    """One contact. `traits` holds every column of the profile; `recommendations` are rows in slot order."""

    contact_id: str
    traits: Mapping[str, Any]
    segments: tuple[str, ...]
    groups: Mapping[str, str]
    recommendations: tuple[Mapping[str, Any], ...]
    consent: ConsentState
    history: tuple[LedgerEntry, ...]
    destinations: Mapping[str, AtDestination]


def view(project: Project, snapshot: Snapshot, store: Store, who: str) -> ContactView:
    """Gather what is known of a contact, named by contact id or address. Raises DataError when there is none."""
    person = find(project, store, snapshot, who)
    with scratch() as con:
        for table in ("profiles", "segments", "groups", "recommendations"):
            con.execute(
                f"CREATE TEMP VIEW {table} AS SELECT * FROM read_parquet('{snapshot.table(table)}')"
            ).fetchall()

        def rows(query: str, *values: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = con.sql(query, params=list(values)).to_arrow_table().to_pylist()
            return found

        if not person.contacts:
            raise DataError(
                "No contact has this id or address in the current snapshot."
                " `segue sql 'select contact_id from profiles'` lists who is there; `segue identity report` who was merged."
            )
        contact_id = min(person.contacts)
        (traits,) = rows("SELECT * FROM profiles WHERE contact_id = $1", contact_id)
        segments = rows("SELECT segment FROM segments WHERE contact_id = $1 ORDER BY 1", contact_id)
        groups = rows("SELECT group_name, segment FROM groups WHERE contact_id = $1 ORDER BY 1", contact_id)
        recommended = rows(
            "SELECT * EXCLUDE (contact_id) FROM recommendations WHERE contact_id = $1 ORDER BY recommendation, slot",
            contact_id,
        )
    contact_key = person.contacts[contact_id]
    known = consent_of(project, store, person)
    return ContactView(
        contact_id=contact_id,
        traits=traits,
        segments=tuple(row["segment"] for row in segments),
        groups={row["group_name"]: row["segment"] for row in groups},
        recommendations=tuple(recommended),
        consent=known.state,
        history=tuple(store.consents.history(person.subjects)),
        destinations={
            name: AtDestination(
                confirmed=_confirmed(store, name, contact_key),
                state=known.destinations[name].state,
                withheld=_withheld(store, name, contact_key),
            )
            for name in project.destinations
        },
    )


def keys_of(project: Project, store: Store, who: str) -> list[int]:
    """Give the keys under which the store may know a person, named by contact id or address.

    What was typed is one of them, whether or not anybody has it.
    """
    snapshot: Snapshot | None = None
    with suppress(StoreError):
        snapshot = current(project.state_folder)
    keys = {store.keys.contact_key(who.strip())}
    with suppress(DataError):
        keys.update(find(project, store, snapshot, who).subjects)
    return sorted(keys)


def _withheld(store: Store, destination: str, contact_key: int) -> str | None:
    newest = store.plans.latest(destination)
    if newest is None or not (path := Path(newest.manifest["withheld_contacts"])).exists():
        return None
    with scratch() as con:
        attach(con, path, newest.manifest.get("file_key", ""), store.sealing)
        found = con.execute(
            "SELECT reason, since FROM withheld WHERE contact_key = ?", [contact_key]
        ).fetchone()
    return reason_in_words(*found) if found else None


def _confirmed(store: Store, destination: str, contact_key: int) -> ContactState | None:
    text = store.baselines.payloads(destination, [contact_key]).get(contact_key)
    return ContactState.parse(text) if text else None
