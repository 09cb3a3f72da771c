"""Reads contacts back and compares them with what the destination confirmed: what somebody else changed there.

What was seen becomes what counts as confirmed, so that the next plan repairs it; where the mapping accepts drift, it
is left. Consent that was seen goes the way of every other observation. Nothing here writes to an ESP.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Final

import duckdb
import pyarrow as pa

from ..connectors.base import Connector
from ..core.consent import LEFT, ConsentState
from ..core.model import ContactState, RemoteContact
from ..core.scratch import scratch
from ..mappings.mapping import Mapping as FieldMapping
from .inbound.observing import People, observe
from .store.leases import Lease
from .store.store import Store

_CONTACTS: Final = 500  # read back, compared and stored at a time
_EXAMPLES: Final = 3  # of each kind

Pair = tuple[int, ContactState, RemoteContact | None]


class DriftKind(StrEnum):
    """In which way a contact is not as confirmed."""

    FIELD = "field"  # holds another value
    TAG_MISSING = "tag missing"
    TAG_EXTRA = "tag added"
    GONE = "gone"  # deleted, or moved to another address
    CONSENT = "consent"  # may be mailed no longer, or again


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What of a contact is ours to look after: fields by tag with whether drift is accepted, and tags.

    `shared` are fields that others may fill too, where we have no value; in `yielding` ones they may have the last word,
    which the next pull learns.
    """

    fields: Mapping[str, bool]
    shared: frozenset[str]
    yielding: frozenset[str]
    tags: frozenset[str]
    tags_accepted: bool

    @classmethod
    def of(cls, mapping: FieldMapping, store: Store, destination: str) -> "Ours":
        """Gather it from the mapping and from what we made at the destination."""
        return cls(
            fields={each.spec.tag: each.accepts_drift for each in mapping.fields},
            shared=frozenset(each.spec.tag for each in mapping.fields if each.spec.claim),
            yielding=frozenset(mapping.yielding),
            tags=frozenset(store.destinations.owned(destination, "tag")),
            tags_accepted=mapping.tags_accept_drift,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One way in which one contact is not as confirmed. `accepted`: the mapping says to leave it."""

    kind: DriftKind
    name: str = ""  # of the field or tag
    accepted: bool = False


@dataclass(slots=True, kw_only=True)
class Verification:
    """What a look at a destination found: drift by kind, name and policy, with a few contacts of each.

    `undecided` contacts were left out, because a write to them is unanswered; of `uncertain` ones the ESP shows not
    all tags. `restated` is how many the next plan repairs, `left` how many turned out to have left.
    """

    checked: int = 0
    undecided: int = 0
    uncertain: int = 0
    restated: int = 0
    left: int = 0
    counts: Counter[Drift] = field(default_factory=Counter)
    examples: dict[Drift, list[int]] = field(default_factory=dict)

    @property
    def drifted(self) -> int:
        """How much was found that is not accepted. People who leave or come back are no drift, but their own word."""
        return sum(
            count
            for drift, count in self.counts.items()
            if not drift.accepted and drift.kind is not DriftKind.CONSENT
        )

    def add(self, contact_key: int, found: Iterable[Drift]) -> None:
        """Count what was found of one contact."""
        self.checked += 1
        for drift in found:
            self.counts[drift] += 1
            examples = self.examples.setdefault(drift, [])
            if len(examples) < _EXAMPLES:
                examples.append(contact_key)

    def as_json(self) -> dict[str, Any]:
        """Give the findings as plain JSON, without any contact."""
        return {
            "checked": self.checked,
            "undecided": self.undecided,
            "uncertain": self.uncertain,
            "restated": self.restated,
            "left": self.left,
            "drift": [
                {"kind": drift.kind.value, "name": drift.name, "accepted": drift.accepted, "contacts": count}
                for drift, count in self.counts.most_common()
            ],
        }


class Inspector:
    """Looks at one destination under its lease. With `dry_run` nothing is stored."""

    def __init__(
        self, connector: Connector, store: Store, lease: Lease, people: People, ours: Ours, *, dry_run: bool
    ) -> None:
        self._connector = connector
        self._store = store
        self._lease = lease
        self._people = people
        self._ours = ours
        self._tags = {tag.lower(): tag for tag in ours.tags}
        self._dry_run = dry_run

    def look(
        self,
        *,
        sample: int | None,
        run_id: str,
        clock: Callable[[], datetime],
        progress: Callable[[str, float], None],
    ) -> Verification:
        """Compare a random sample of the confirmed contacts, or all of them for None.

        A sample costs a read per contact; all of them come page by page, and only who is missing is asked for.
        """
        found = Verification()
        total = max(1, min(sample or self._count(), self._count()))
        pairs = self._everybody() if sample is None else self._sample(sample)
        while some := list(islice(pairs, _CONTACTS)):
            self._compare(some, found)
            if not self._dry_run:
                seen = [remote for _, _, remote in some if remote is not None]
                found.left += observe(
                    self._store,
                    self._lease.destination,
                    seen,
                    people=self._people,
                    now=clock(),
                    run_id=run_id,
                )
            progress("reading back", min(1.0, found.checked / total))
        return found

    def _count(self) -> int:
        return self._store.baselines.count(self._lease.destination)

    def _sample(self, size: int) -> Iterator[Pair]:
        """Read a random sample back, in no order."""
        keys = _keys(self._store, self._lease.destination)
        chosen = random.sample(range(len(keys)), min(size, len(keys)))
        names = iter(keys.take(pa.array(chosen, pa.int64())).to_pylist())
        while some := list(islice(names, _CONTACTS)):
            yield from self._read(some)

    def _read(self, keys: Sequence[int]) -> Iterator[Pair]:
        held = self._held(keys)
        remotes = self._connector.read([state.address for state in held.values()])
        yield from ((key, state, remote) for (key, state), remote in zip(held.items(), remotes, strict=True))

    def _held(self, keys: Sequence[int]) -> dict[int, ContactState]:
        texts = self._store.baselines.payloads(self._lease.destination, keys)
        return {key: ContactState.parse(text) for key, text in texts.items()}

    def _everybody(self) -> Iterator[Pair]:
        """Pair every page of the account with what we hold, then ask for whoever was on none."""
        destination = self._lease.destination
        with scratch() as con:
            self._store.keys.install(con)
            con.execute("CREATE TEMP TABLE held (contact_key BIGINT, address_key BIGINT)").fetchall()
            for batch in self._store.baselines.stream_payloads(destination, _keys(self._store, destination)):
                con.register("incoming", pa.Table.from_batches([batch]))
                con.execute(
                    "INSERT INTO held SELECT contact_key, address_key(payload ->> '$.address') FROM incoming"
                ).fetchall()
                con.unregister("incoming")
            con.execute("CREATE TEMP TABLE seen (contact_key BIGINT)").fetchall()
            for page in self._connector.pull(None):
                yield from self._on_page(con, page.contacts)
            missing = con.execute("SELECT contact_key FROM held ANTI JOIN seen USING (contact_key)")
            while rows := missing.fetchmany(_CONTACTS):
                yield from self._read([key for (key,) in rows])

    def _on_page(self, con: duckdb.DuckDBPyConnection, page: Sequence[RemoteContact]) -> Iterator[Pair]:
        remotes = {self._store.keys.address_key(remote.address): remote for remote in page}
        rows = con.execute(
            "SELECT contact_key, address_key FROM held ANTI JOIN seen USING (contact_key)"
            " WHERE address_key IN (SELECT unnest(?))",
            [list(remotes)],
        ).fetchall()
        con.execute("INSERT INTO seen SELECT unnest(?)", [[key for key, _ in rows]]).fetchall()
        held = self._held([key for key, _ in rows])
        yield from ((key, held[key], remotes[address_key]) for key, address_key in rows if key in held)

    def _compare(self, pairs: Sequence[Pair], found: Verification) -> None:
        """Compare contacts, and store what was seen of those who drifted."""
        address_keys = {key: self._store.keys.address_key(held.address) for key, held, _ in pairs}
        states = self._store.destinations.states(self._lease.destination, address_keys.values())
        restated: dict[int, ContactState] = {}
        for key, held, remote in pairs:
            if held.doubt is not None:
                found.undecided += 1
                continue
            drifts = list(self._drifts(held, remote, states.get(address_keys[key])))
            found.add(key, drifts)
            if remote is not None:
                found.uncertain += remote.tags is None
                if any(drift.kind in _REPAIRED and not drift.accepted for drift in drifts):
                    restated[key] = _as_seen(held, remote, drifts)
        found.restated += len(restated)
        if restated and not self._dry_run:
            self._store.settlements.restate(self._lease, restated)

    def _drifts(
        self, held: ContactState, remote: RemoteContact | None, known: ConsentState | None
    ) -> Iterator[Drift]:
        if remote is None:
            yield Drift(kind=DriftKind.GONE)
            return
        if remote.state is not known:
            yield Drift(kind=DriftKind.CONSENT)
        if remote.state in LEFT:
            return  # gets nothing more, and so needs no repair
        shown = self._connector.shown(held.fields)
        watched = self._ours.fields.keys() - (self._ours.shared - held.fields.keys())
        for tag in sorted((held.fields.keys() | watched) - self._ours.yielding):
            if shown.get(tag) != remote.fields.get(tag):
                yield Drift(kind=DriftKind.FIELD, name=tag, accepted=self._ours.fields.get(tag, False))
        if remote.tags is None:
            return
        there = {tag.lower() for tag in remote.tags}
        ours = {tag.lower(): tag for tag in held.tags}
        for kind, names in (
            (DriftKind.TAG_MISSING, [ours[key] for key in ours.keys() - there]),
            (DriftKind.TAG_EXTRA, [self._tags[key] for key in (self._tags.keys() & there) - ours.keys()]),
        ):
            for name in sorted(names):
                yield Drift(kind=kind, name=name, accepted=self._ours.tags_accepted)


_REPAIRED: Final = frozenset({DriftKind.FIELD, DriftKind.TAG_MISSING, DriftKind.TAG_EXTRA})


def _as_seen(held: ContactState, remote: RemoteContact, drifts: Iterable[Drift]) -> ContactState:
    """Give what counts as confirmed from now on: as seen, but for what is accepted."""
    fields, tags = dict(held.fields), set(held.tags)
    for drift in drifts:
        if drift.accepted:
            continue
        match drift.kind:
            case DriftKind.FIELD if drift.name in remote.fields:
                fields[drift.name] = remote.fields[drift.name]
            case DriftKind.FIELD:
                fields.pop(drift.name, None)
            case DriftKind.TAG_MISSING:
                tags.discard(drift.name)
            case DriftKind.TAG_EXTRA:
                tags.add(drift.name)
            case _:
                pass
    return replace(held, fields=fields, tags=frozenset(tags))


def forget_deleted(store: Store, lease: Lease, *, fields: frozenset[str], tags: frozenset[str]) -> None:
    """Take fields and tags of ours that somebody deleted out of every contact's confirmed state.

    They are ours no longer until they are made again. Safe to kill: what is left to do is found anew.
    """
    destination = lease.destination
    for batch in store.baselines.stream_payloads(destination, _keys(store, destination)):
        states: dict[int, ContactState] = {}
        for key, text in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            held = ContactState.parse(text)
            if not fields.isdisjoint(held.fields) or not tags.isdisjoint(held.tags):
                kept = {tag: value for tag, value in held.fields.items() if tag not in fields}
                states[key] = replace(held, fields=kept, tags=held.tags - tags)
        store.settlements.restate(lease, states)
    store.destinations.disown(destination, "field", fields)
    store.destinations.disown(destination, "tag", tags)


def _keys(store: Store, destination: str) -> pa.ChunkedArray:
    """Give the keys of all contacts that a destination confirmed."""
    return pa.chunked_array(
        [batch.column("contact_key") for batch in store.baselines.stream(destination)], pa.int64()
    )
