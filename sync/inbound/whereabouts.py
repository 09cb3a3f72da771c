"""Contacts who are no longer where they were: deleted at the ESP, or at another address there.

What follows for consent, for what the ESP confirmed and for what is sent next; nothing here asks the ESP.

Decisions. Whoever is there no more has withdrawn, at the moment that we noticed. An ESP deletes a contact for good when
the person asks for it, or when somebody cleans up, and tells neither from the other; a grant from before then must not
make them again. It is no suppression: a person who says yes later, with evidence, may come. Baseline and seen state
end, because nothing is there that they could be true of. The loser was to keep both, so that the contact is left alone:
it cannot tell a later grant from an older one.

An address that was changed at the ESP is the person's newer word about where they want their mail. What is known of the
old one goes along: who left there has left at the new one, and nobody is raised by moving. The data may go on to say the
old address for years: until it says a third one, the contact is written at the new one, under the same baseline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ...core.consent import (
    LEFT,
    MAILABLE,
    NOTHING_RECORDED,
    ConsentAct,
    ConsentEntry,
    ConsentState,
    effective,
    merge_all,
)
from ...core.model import ContactState, RemoteContact
from ..gate import of_former
from ..store.consents import LedgerEntry
from ..store.leases import Lease
from ..store.pulled import ADDRESS, PulledValue
from ..store.store import Store
from .observing import People, departures

_GONE: Final = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """What is known of one destination's contacts, to be put right when they are elsewhere."""

    store: Store
    lease: Lease
    people: People
    run_id: str

    def addresses(self, address_keys: Sequence[int]) -> dict[int, str]:
        """Give addresses as texts, as far as the data has them or the destination confirmed somebody there."""
        return addresses_at(self.store, self.lease.destination, self.people, address_keys)

    def end(self, states: Mapping[int, ConsentState], now: datetime) -> None:
        """Take note that nobody is at these addresses any more; `states` are how they were seen last. Safe to repeat."""
        destination = self.lease.destination
        left = {
            key: RemoteContact(address="", state=ConsentState.UNSUBSCRIBED, status=_GONE)
            for key, state in states.items()
            if state in MAILABLE
        }
        of = self.people.of(list(left))
        written = self.store.destinations.written_for(destination, left)
        # The ledger first: killed in between, the same is found again.
        self.store.consents.append(departures(destination, left, of, written, now), run_id=self.run_id)
        self.store.pulled.forget(self.lease, list(states), list(self.confirmed(list(states))))

    def move(self, address_key: int, contact: RemoteContact, now: datetime) -> None:
        """Take note that the contact who was at an address is where `contact` shows them now. Safe to repeat."""
        store, destination = self.store, self.lease.destination
        new_key = store.keys.address_key(contact.address)
        written = store.destinations.written_for(destination, [address_key])
        persons = {*self.people.of([address_key]).get(address_key, ()), *written.values()}
        self._carry_consent(address_key, new_key, persons, contact, now)
        confirmed = self.confirmed([address_key])
        if confirmed:
            there = {key: replace(state, address=contact.address) for key, state in confirmed.items()}
            store.settlements.restate(self.lease, there)
        for person in written.values():
            store.destinations.record_moved(destination, person, new_key, contact)
        shop = [store.keys.address_key(text) for text in self.people.addresses(list(persons)).values()]
        value = PulledValue(value=contact.address, changed_at=now)
        store.pulled.put_values(destination, {(key, ADDRESS): value for key in shop if key != new_key})
        store.pulled.drop_values(destination, ADDRESS, [key for key in shop if key == new_key])
        for (_, tag), value in store.pulled.values(destination, [address_key]).items():
            if tag != ADDRESS:
                store.pulled.put_values(destination, {(new_key, tag): value})
                store.pulled.drop_values(destination, tag, [address_key])
        store.destinations.forget_remote(destination, [address_key])

    def _carry_consent(
        self, address_key: int, new_key: int, persons: set[int], contact: RemoteContact, now: datetime
    ) -> None:
        entries: list[LedgerEntry] = []
        if contact.state in LEFT:
            of, written = {address_key: list(persons)}, dict[int, int]()
            entries += departures(self.lease.destination, {address_key: contact}, of, written, now)
        records = self.store.consents.records({address_key, *persons})
        known = merge_all(
            [
                of_former(records.get(address_key, NOTHING_RECORDED)),
                *(records[key] for key in persons if key in records),
            ]
        )
        if effective(known) in LEFT and known.withdrawn_at is not None:
            entry = ConsentEntry(
                act=ConsentAct.WITHDRAWAL,
                occurred_at=known.withdrawn_at,
                source=f"moved at {self.lease.destination}",
                evidence={"status": contact.status},
            )
            entries.append(LedgerEntry(subject_key=new_key, subject_kind="address", entry=entry))
        self.store.consents.append(entries, run_id=self.run_id)

    def confirmed(self, address_keys: Sequence[int]) -> dict[int, ContactState]:
        """Give the baselines of the contacts whom the destination confirmed at these addresses, by contact key."""
        return _confirmed(self.store, self.lease.destination, address_keys)


def addresses_at(
    store: Store, destination: str, people: People, address_keys: Sequence[int]
) -> dict[int, str]:
    """Give addresses as texts, as far as the data has them or a destination confirmed somebody there."""
    persons = {person for group in people.of(address_keys).values() for person in group}
    texts = [*people.addresses(list(persons)).values()]
    texts += [state.address for state in _confirmed(store, destination, address_keys).values()]
    known = {store.keys.address_key(text): text for text in texts}
    return {key: known[key] for key in address_keys if key in known}


def _confirmed(store: Store, destination: str, address_keys: Sequence[int]) -> dict[int, ContactState]:
    written = store.destinations.written_for(destination, address_keys)
    held = store.baselines.payloads(destination, set(written.values()))
    states = {key: ContactState.parse(text) for key, text in held.items()}
    keys = set(address_keys)
    return {key: state for key, state in states.items() if store.keys.address_key(state.address) in keys}
