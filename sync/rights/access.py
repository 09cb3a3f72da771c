"""Gathers all that is held of a person: what the right of access asks for, in one answer.

Reads the snapshot, the store and its files; asks no ESP and changes nothing. How it looks is `access_page`'s.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ...core import forgetting
from ...core.config import Project
from ...core.model import ContactState
from ...core.snapshot import Snapshot
from ...core.yamlfile import Document, validate
from ...mappings.config import MappingConfig
from ..ledger.desk import ConsentView, find, view
from ..store.audit import AuditRow
from ..store.erasures import Subject
from ..store.store import Store
from . import plans
from .erasure import messages_of
from .whom import newest, whom

_TRAITS: Final = "profiles"
_DERIVED: Final = frozenset({_TRAITS, "segments", "groups", "recommendations"})  # shown with explanations
_SEEN: Final = "remote"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDestination:
    """What is known of a person at one destination. `sent` are the fields that leave, each with its purpose."""

    confirmed: tuple[Mapping[str, Any], ...]
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    pulled: Mapping[str, str | None]
    purposes: Mapping[str, str]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not (self.confirmed or self.rows or self.pulled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """All that is held of a person. `tables` are rows as the shop's data has them; `traits` have what they mean."""

    project: str
    asked_at: datetime
    erased_at: datetime | None
    contact_ids: tuple[str, ...]
    addresses: tuple[str, ...]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    traits: tuple[Mapping[str, Any], ...]
    segments: tuple[Mapping[str, str], ...]
    groups: tuple[Mapping[str, str], ...]
    recommendations: tuple[Mapping[str, Any], ...]
    consent: ConsentView
    destinations: Mapping[str, AtDestination]
    plans: tuple[Mapping[str, Any], ...]
    webhooks: tuple[Mapping[str, str], ...]
    audit: tuple[AuditRow, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing personal is held: what stays of who was erased are keyed hashes."""
        proofs = any(line.evidence for line in self.consent.entries)
        there = any(not side.is_empty for side in self.destinations.values())
        known = self.erased_at is None and bool(self.consent.entries)
        return not (self.tables or self.traits or self.plans or self.webhooks or proofs or there or known)

    def sentence(self) -> str:
        """Say in a sentence whether anything is held."""
        if self.is_empty and self.erased_at:
            return (
                f"They were erased on {self.erased_at:%Y-%m-%d}. Nothing personal is held; what remains are keyed hashes:"
                " that they must not be mailed, and what was done."
            )
        if self.is_empty:
            return "Nothing is held of them."
        return (
            "This is all that is held of them here. What the email platforms hold besides is theirs to tell."
        )

    def summary(self) -> Iterator[tuple[str, int]]:
        """Give how much is held, by what it is."""
        for table, rows in self.tables.items():
            yield f"Rows of {table}", len(rows)
        yield "Traits with a value", len(self.traits)
        yield "Segments", len(self.segments)
        yield "Recommended products", len(self.recommendations)
        yield "Acts of consent", len(self.consent.entries)
        for name, side in self.destinations.items():
            yield f"Confirmed by {name}", len(side.confirmed)
            for table, rows in side.rows.items():
                yield f"Rows of {table} at {name}", len(rows)
            yield f"Values read from {name}", len(side.pulled)
        yield "Rows of plans", len(self.plans)
        yield "Webhooks that wait", len(self.webhooks)
        yield "Rows of the audit", len(self.audit)


def held_of(project: Project, store: Store, who: str) -> Held:
    """Gather all that is held of somebody, by contact id or address. Raises DataError for an id that nobody knows."""
    subject = whom(project, store, who)
    snapshot = newest(project)
    rows = (
        forgetting.rows_of(snapshot, subject.contact_ids, subject.addresses) if snapshot is not None else {}
    )
    erased_at = store.tombstones.erased_at(subject.contact_ids, subject.addresses)
    known = store.erasures.rows(subject)
    keys = [*subject.contact_keys(store.keys), *subject.address_keys(store.keys)]
    return Held(
        project=project.project,
        asked_at=store.erasures.now(),
        erased_at=erased_at,
        contact_ids=subject.contact_ids,
        addresses=subject.addresses,
        tables={name: found for name, found in rows.items() if name not in _DERIVED},
        traits=tuple(_traits(snapshot, rows.get(_TRAITS, ()))) if snapshot is not None else (),
        segments=tuple(_segments(project, rows.get("segments", ()))),
        groups=tuple(rows.get("groups", ())),
        recommendations=tuple(rows.get("recommendations", ())),
        consent=view(project, store, find(project, store, snapshot, who)),
        destinations={
            name: _at(project, store, name, subject, known.get(name, {}), was_erased=erased_at is not None)
            for name in {**project.destinations, **known}
        },
        plans=tuple(plans.rows_of(store, subject)),
        webhooks=tuple(messages_of(project, store, subject)),
        audit=tuple(store.audit.show(keys=keys)),
    )


def _traits(snapshot: Snapshot, profiles: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for profile in profiles:
        for trait in snapshot.traits:
            if profile.get(trait.name) is not None:
                yield {"trait": trait.name, "value": profile[trait.name], "meaning": trait.description}


def _segments(project: Project, rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, str]]:
    for row in rows:
        config = project.segments.get(row["segment"])
        yield {
            "segment": row["segment"],
            "label": config.label if config else "",
            "meaning": config.description if config else "",
            "rule": config.where if config else "",
        }


def _at(
    project: Project,
    store: Store,
    name: str,
    subject: Subject,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    was_erased: bool,
) -> AtDestination:
    contacts, addresses = subject.contact_keys(store.keys), subject.address_keys(store.keys)
    states = [ContactState.parse(text) for text in store.baselines.payloads(name, contacts).values()]
    config = project.destinations.get(name)
    return AtDestination(
        confirmed=tuple(
            {"address": each.address, "fields": dict(each.fields), "tags": sorted(each.tags)}
            for each in states
        ),
        # What an ESP tells of the erasure itself, or of a new sign-up there, is known under a keyed hash alone.
        rows={table: found for table, found in rows.items() if not (was_erased and table == _SEEN)},
        pulled={tag: each.value for (_, tag), each in store.pulled.values(name, addresses).items()},
        purposes=_purposes(project.folder / config.mapping) if config and states else {},
    )


def _purposes(mapping: Path) -> dict[str, str]:
    """Give what each field is used for, as the mapping says."""
    document, _ = Document.read(mapping)
    config, _ = validate(document, MappingConfig)
    return {field.label: field.purpose for field in config.fields} if config else {}
