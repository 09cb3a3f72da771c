"""What must be true when a storm is over: of every contact, of every member, and of what Segue remembers.

Each check gives sentences about what is wrong; none is the only good ending.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow.parquet as pq

from segue.connectors.mailchimp.testing import running_sandbox
from segue.core.config import load_project
from segue.core.model import ContactState
from segue.sync.store.store import Store

from ..shop import Customer, Shop
from .book import addresses_of, house_of, people_of, shared, written
from .storm import STRANGERS, VIP, Storm, Tale

Members = Mapping[str, Mapping[str, Any]]


def survive(
    folder: Path, store: str, *, seed: int, mode: str, contacts: int, kills: int, strikes: int
) -> Tale:
    """Go through one storm and give its tale, to the end and compared with an undisturbed load of the same data."""
    started = monotonic()
    for name in ("storm", "reference"):
        (folder / name).mkdir()
    with running_sandbox() as sandbox:
        storm = Storm(Shop(folder / "storm", sandbox, store), seed=seed, mode=mode, contacts=contacts)
        storm.rage(kills=kills, strikes=strikes)
        storm.calm()
        with running_sandbox() as other:
            found = [*wrong_with(storm), *unlike(storm, Shop(folder / "reference", other, "sqlite"))]
    tale = storm.tale
    tale.wrong += found
    tale.violations, tale.doubles = storm.book.violations, storm.book.doubles
    tale.stories = list(_stories(storm, tale.wrong + tale.violations + tale.doubles))
    tale.seconds = monotonic() - started
    return tale


def _stories(storm: Storm, found: Sequence[str]) -> Iterator[str]:
    """Tell what happened to the first few houses that something is wrong with, and what Segue knows of them."""
    named = dict.fromkeys(match[0] for each in found for match in re.finditer(r"\b[cp]\d{5}", each))
    with Store.of(load_project(storm.shop.folder)) as store:
        for house in list(named)[:3]:
            yield f"{house}: runs killed {sorted(storm.killed)}"
            yield from storm.chronicle.of(house)
            yield from map(str, storm.book.words_of(house))
            subjects = {store.keys.contact_key(person): person for person in people_of(house)}
            subjects |= {store.keys.address_key(address): address for address in addresses_of(house)}
            for key, name in subjects.items():
                yield f"{name}: {store.baselines.payloads('newsletter', [key])} {store.destinations.states('newsletter', [key])}"
                yield from (f"  {entry}" for entry in store.consents.history([key]))


def wrong_with(storm: Storm) -> Iterator[str]:
    """Give all that is wrong with how a storm ended."""
    members = storm.shop.members()
    for each in storm.shop.audience()["raises"]:
        yield f"raised: {each}"
    yield from _strangers(members)
    yield from _tags_of_others(storm)
    for house in sorted({house_of(person) or "" for person in (*storm.shop.customers, *storm.gone)}):
        yield from _house(storm, members, house)
    must = must_have(storm, members)
    withheld = _withheld(storm.shop)
    for person, address in must.items():
        for sentence in _contents(person, members.get(address), storm.shop.customers[person]):
            yield f"{sentence}, withheld: {withheld.get(person)}"
    yield from _baselines(storm.shop, members, must)
    report = storm.run()
    if report is None or report.get("requests", {}).get("write") != 0:
        yield f"a further run wrote to {storm.chronicle.written_in(storm.book.run)}: {report}"


def must_have(storm: Storm, members: Members) -> dict[str, str]:
    """Give who must be mailed now, and at which address.

    Whoever has left at the ESP comes back by its form alone, so a member who cannot be mailed keeps its person away
    whatever the shop is told. Where two people share addresses, one no can be held against both: they must be mailed
    only if nobody ever said it. Who signed up by the ESP's form alone has agreed at that address, and may be left there.
    """
    must = {}
    for person, customer in storm.shop.customers.items():
        house = house_of(person) or ""
        there = [members[address] for address in addresses_of(house) if address in members]
        kept_away = (
            storm.book.has_said_no(house)
            if shared(house)
            else any(member["status"] != "subscribed" for member in there)
        )
        if not kept_away and storm.book.is_known_to_agree(person, customer.address):
            must[person] = customer.address
    return must


def _house(storm: Storm, members: Members, house: str) -> Iterator[str]:
    """Give what is wrong with where a house's people are: somebody who said no, twice the same, tags left behind."""
    customers = storm.shop.customers
    there = {address: members[address] for address in addresses_of(house) if address in members}
    at_address = {customers[each].address: each for each in people_of(house) if each in customers}
    for address, member in there.items():
        person = at_address.get(address)
        if not shared(house):
            if member["status"] == "subscribed" and not storm.book.agrees(house, address):
                yield f"{house} said no and is mailed at {address}"
        elif person and member["status"] == "subscribed" and not storm.book.agrees(person, address):
            yield f"{person} said no and is mailed at {address}"
        if shared(house) and storm.book.has_said_no(house):
            continue
        if house not in at_address.values() if not shared(house) else person is None:
            yield from (f"{address} is nobody's and keeps {tag}" for tag in _tags(member))
    found = {address: storm.audience.find(address) for address in there}
    twice = [address for address, member in found.items() if member is not None and written(member)]
    if len(twice) > 1 and not shared(house):
        yield f"{house} is there more than once: {twice}"


def _contents(person: str, member: Mapping[str, Any] | None, customer: Customer) -> Iterator[str]:
    if member is None or member["status"] != "subscribed":
        yield f"{person} is not mailed at {customer.address}"
        return
    fields = member["merge_fields"]
    found = (fields["SG_SPENT"], fields["SG_NAME"], _tags(member))
    meant = (
        customer.spent,
        customer.last_name or "",
        ["segue: big" if customer.spent >= 100 else "segue: small"],
    )
    if found != meant:
        yield f"{person} is held with {found} and meant to be {meant}"


def _withheld(shop: Shop) -> dict[str, str]:
    """Give whom the newest plan gave nothing, and why."""
    with Store.of(load_project(shop.folder)) as store:
        newest = store.plans.latest("newsletter")
        assert newest is not None
    rows = pq.read_table(newest.manifest["withheld_contacts"], columns=["contact_id", "reason"]).to_pylist()
    return {row["contact_id"]: row["reason"] for row in rows}


def _strangers(members: Members) -> Iterator[str]:
    for number in range(STRANGERS):
        member = members.get(
            f"stranger{number}@else.example", {"status": "away", "merge_fields": {}, "tags": []}
        )
        values = {value for tag, value in member["merge_fields"].items() if tag.startswith("SG_")}
        seen = (member["status"], member["tags"], member["merge_fields"].get("FNAME"), values - {""})
        if seen != ("subscribed", [VIP], "Stranger", set()):
            yield f"stranger {number} was touched: {seen}"


def _tags_of_others(storm: Storm) -> Iterator[str]:
    for contact in storm.vips:
        member = storm.audience.find(contact)
        if member is None or VIP not in {storm.audience.segments[number].name for number in member.tags}:
            yield f"the contact {contact} lost the tag of a marketer"


def _baselines(shop: Shop, members: Members, must: Mapping[str, str]) -> Iterator[str]:
    """Compare what Segue believes of those who must be mailed with what is held of them."""
    with Store.of(load_project(shop.folder)) as store:
        keys = {store.keys.contact_key(person): person for person in must}
        held = store.baselines.payloads("newsletter", keys)
    for key, person in keys.items():
        member, state = members.get(must[person]), ContactState.parse(held[key]) if key in held else None
        if member is None or state is None:
            yield f"{person} has {'no' if state is None else 'a'} baseline, and is{' not' if member is None else ''} there"
            continue
        believed = (state.address, dict(state.fields), sorted(state.tags), state.doubt)
        fields = {tag: _text(value) for tag, value in member["merge_fields"].items() if tag.startswith("SG_")}
        seen = (must[person], {tag: text for tag, text in fields.items() if text}, _tags(member), None)
        if believed != seen:
            yield f"{person} is believed to be {believed} and is {seen}"


def _tags(member: Mapping[str, Any]) -> list[str]:
    return [tag for tag in member["tags"] if tag.startswith("segue: ")]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def unlike(storm: Storm, reference: Shop) -> Iterator[str]:
    """Load the final data into a fresh account, and give who must be mailed and is not held there as in the storm's."""
    reference.customers = dict(storm.shop.customers)
    # An ESP's form and its unsubscribe link are known to the shop there, because that account knows nothing of them.
    reference.acts = storm.shop.acts + [
        {
            "contact_id": word.person,
            "act": "grant" if word.agrees else "withdrawal",
            "at": word.at,
            "evidence": '{"form": "of the ESP"}',
        }
        for word in storm.book.words()
        if word.at_esp and word.person
    ]
    report = reference.run()
    if report.exit_code:
        yield f"the reference run ended with {report.exit_code}"
    there, here = reference.members(), storm.shop.members()
    for person, address in must_have(storm, here).items():
        one, other = (_ours(each.get(address)) for each in (here, there))
        if one != other:
            yield f"{person} is held with {one} and undisturbed with {other}"


def _ours(member: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    if member is None:
        return None
    fields = {tag: value for tag, value in member["merge_fields"].items() if tag.startswith("SG_")}
    return member["status"], fields, _tags(member)
