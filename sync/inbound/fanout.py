"""Who left anywhere is opted out everywhere: puts the opt-outs into the outboxes of all destinations, ahead of all else.

Nothing is sent here, and whether somebody has left is `core.consent`'s to say, of person and address together: an
address that said yes later than its former owner left stays.
"""

from collections.abc import Iterable, Mapping

from ...core.consent import LEFT, MAILABLE, NOTHING_RECORDED, effective, merge
from ...core.model import ContactState
from ..store.store import Store
from .observing import People


def fan_out(
    store: Store, destinations: Iterable[str], people: People, left: Iterable[str]
) -> Mapping[str, int]:
    """Have whoever left at these addresses opted out wherever they are mailed; give how many, by destination.

    A person is known by every address that they have: that of the data and the one where a destination confirmed them.
    """
    destinations = list(destinations)
    addresses = {store.keys.address_key(address): address for address in left}
    if not addresses:
        return {}
    persons = {person for group in people.of(list(addresses)).values() for person in group}
    for destination in destinations:
        persons |= set(store.destinations.written_for(destination, addresses).values())
    theirs = people.addresses(list(persons))
    urged: dict[str, int] = {}
    for destination in destinations:
        whose = {key: (key, address) for key, address in addresses.items()}  # of nobody that we know
        confirmed = store.baselines.payloads(destination, persons)
        for person, address in theirs.items():
            whose[store.keys.address_key(address)] = (person, address)
        for person, text in confirmed.items():
            address = ContactState.parse(text).address
            whose[store.keys.address_key(address)] = (person, address)
        states = store.destinations.states(destination, whose)
        records = store.consents.records({*whose, *persons})
        rows = [
            (person, address, key)
            for key, (person, address) in whose.items()
            if states.get(key) in MAILABLE
            and effective(merge(records.get(key, NOTHING_RECORDED), records.get(person, NOTHING_RECORDED)))
            in LEFT
        ]
        if count := store.outbox.urge(destination, rows) if rows else 0:
            urged[destination] = count
    return urged
