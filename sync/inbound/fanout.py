"""Who left anywhere is opted out everywhere: puts the opt-outs into the outboxes of all destinations, ahead of all else.

Nothing is sent here, and whether somebody has left is `core.consent`'s to say, of person and address together: an
address that said yes later than its former owner left stays.
"""

from collections.abc import Iterable, Mapping, Sequence

from ...core.consent import LEFT, MAILABLE, NOTHING_RECORDED, effective, merge_all
from ...core.model import ContactState, RemoteContact
from ..store.store import Store
from .observing import People


def fan_out(
    store: Store, destinations: Iterable[str], people: People, left: Iterable[str]
) -> Mapping[str, int]:
    """Have whoever left at these addresses opted out wherever they are mailed; give how many, by destination.

    A person is known by every address that they have: that of the data and the one where a destination confirmed them.
    Somewhere is also where they may just be arriving: the gate said yes a moment before they left.
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
        # Asked before the states: what is confirmed in between is among those.
        arriving = {row.address_key: row.contact_key for row in store.outbox.arrivals_at(destination, whose)}
        whose |= {key: (person, whose[key][1]) for key, person in arriving.items()}
        records = store.consents.records({*whose, *(person for person, _ in whose.values())})
        gone = {
            key: (person, address, key)
            for key, (person, address) in whose.items()
            if effective(merge_all(records.get(each, NOTHING_RECORDED) for each in (key, person))) in LEFT
        }
        states = store.destinations.states(destination, gone)
        rows = [row for key, row in gone.items() if key in arriving or states.get(key) in MAILABLE]
        if count := store.outbox.urge(destination, rows) if rows else 0:
            urged[destination] = count
    return urged


def overlooked(
    store: Store, destination: str, people: People, contacts: Sequence[RemoteContact]
) -> list[str]:
    """Give the addresses of those whom a destination shows as mailed and of whom the ledger knows that they left.

    Who arrived there after everybody was told of it, by a write of which nobody heard, is found by this alone.
    """
    mailed = {
        store.keys.address_key(each.address): each.address for each in contacts if each.state in MAILABLE
    }
    of = people.of(list(mailed))
    written = store.destinations.written_for(destination, mailed)
    theirs = {key: {key, *of.get(key, ()), *({written[key]} if key in written else ())} for key in mailed}
    records = store.consents.records({each for keys in theirs.values() for each in keys})
    return [
        mailed[key]
        for key, keys in theirs.items()
        if effective(merge_all(records.get(each, NOTHING_RECORDED) for each in keys)) in LEFT
    ]
