"""Who said yes or no, kept apart from Segue's own ledger, and the judge of every request that states a consent.

Nothing of Segue is asked here: a storm writes down what it lets people do, and reads what the emulator was sent.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from segue.connectors.mailchimp.emulator.audience import MAILABLE, Audience, Member
from segue.connectors.traffic import Exchange

_LIST, _MEMBER = "/3.0/lists/{list_id}", "/3.0/lists/{list_id}/members/{subscriber_hash}"
_HOUSE = re.compile(r"([a-z]\d+)[xy]?(\.[a-z])?(@shop\.example)?")


def house_of(name: str) -> str | None:
    """Give the house of a contact id or an address of ours; None for anybody else's.

    >>> house_of("c00012"), house_of("p00012y"), house_of("p00012.a@shop.example"), house_of("who@else.example")
    ('c00012', 'p00012', 'p00012', None)
    """
    match = _HOUSE.fullmatch(name)
    return match[1] if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One yes or no. `run` is the newest run that had begun: each later one must know of it.

    The word of a person is that of whatever address they have; one of an address alone (a bounce) is its own.
    """

    at: datetime
    agrees: bool
    run: int
    person: str | None
    address: str | None
    at_esp: bool


@dataclass(slots=True)
class Book:
    """The words of everyone, by house: those who share addresses.

    `run` numbers the runs. What arrived before `first` is a late request of the run before, which was killed.
    """

    audience: Audience
    run: int = 0
    first: int = 0
    at_address: Mapping[str, str] = field(default_factory=dict)  # who has which address in what is published
    at_address_before: Mapping[str, str] = field(default_factory=dict)  # the same, as the run before read it
    violations: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    _words: dict[str, list[Word]] = field(default_factory=dict)
    _there: set[str] = field(default_factory=set)

    def write(
        self,
        *,
        at: datetime,
        agrees: bool,
        person: str | None = None,
        address: str | None = None,
        at_esp: bool = False,
    ) -> None:
        """Write down what somebody said just now."""
        house = house_of(person or address or "")
        assert house is not None
        word = Word(at=at, agrees=agrees, run=self.run, person=person, address=address, at_esp=at_esp)
        self._words.setdefault(house, []).append(word)
        self._look(house)

    def words_of(self, house: str) -> Sequence[Word]:
        """Give what was said in a house."""
        return self._words.get(house, ())

    def words(self) -> Iterable[Word]:
        """Give everything that was said."""
        return (word for words in self._words.values() for word in words)

    def agrees(self, person: str, address: str, *, before_run: int | None = None) -> bool:
        """Say whether the last word of a person and of an address is a yes; of what was said before a run, if asked."""
        words = [
            word
            for word in self._words.get(house_of(person) or "", ())
            if (word.person == person or word.address == address)
            and (before_run is None or word.run < before_run)
        ]
        return _ends_with_a_yes(words)

    def _may_know_a_yes(self, person: str, address: str, run: int) -> bool:
        """Say whether the last word before a run was a yes, or there was one since, which the run may have asked for."""
        return self.agrees(person, address, before_run=run) or any(
            word.agrees and word.run >= run
            for word in self._words.get(house_of(person) or "", ())
            if word.person == person or word.address == address
        )

    def is_known_to_agree(self, person: str, address: str) -> bool:
        """Say the same, but for a yes by the ESP's form at another address: it names that address and nobody."""
        words = [
            word
            for word in self._words.get(house_of(person) or "", ())
            if (word.person == person and not (word.at_esp and word.agrees)) or word.address == address
        ]
        return _ends_with_a_yes(words)

    def has_said_no(self, house: str) -> bool:
        """Say whether anybody of a house, or any of its addresses, ever said no."""
        return any(not word.agrees for word in self._words.get(house, ()))

    def judge(self, exchange: Exchange) -> None:
        """Hold a request that was just carried out, or not, against the book."""
        body = exchange.body if isinstance(exchange.body, dict) else {}
        match exchange.method, exchange.template:
            case "POST", template if template == _LIST:
                for item in body.get("members", ()):
                    address = item["email_address"]
                    made = address not in self._there and self.audience.find(address) is not None
                    self._judge_status(item.get("status"), address, exchange, happened=made)
                    if made:
                        self._there.add(address)
                        self._judge_made(address, exchange)
            case "PATCH" | "PUT", template if template == _MEMBER:
                member = self.audience.find(exchange.path.rpartition("/")[2])
                self._look(house_of(body.get("email_address", "")))
                stated = {body.get("status"), body.get("status_if_new")} - {None}
                if stated & MAILABLE:
                    self.violations.append(f"request {exchange.number}: {exchange.method} states {stated}")
                elif stated and member is not None:
                    self._judge_opt_out(member.address, exchange)
            case _:
                pass

    def _judge_status(self, status: str | None, address: str, exchange: Exchange, *, happened: bool) -> None:
        if status not in MAILABLE:
            return
        late = exchange.number < self.first
        person = (self.at_address_before if late else self.at_address).get(address)
        if person is None:
            self.violations.append(f"request {exchange.number}: {status} for {address}, whom nobody has")
        elif not self._may_know_a_yes(person, address, self._run_of(exchange)):
            self.violations.append(
                f"request {exchange.number}: {status} for {person} at {address}, who said no"
            )
        elif happened and not self.agrees(person, address):
            self.violations.append(
                f"request {exchange.number}: {person} became {status} at {address} after a no"
            )

    def _judge_made(self, address: str, exchange: Exchange) -> None:
        house = house_of(address) or ""
        there = {other: self.audience.find(other) for other in addresses_of(house) if other != address}
        others = [other for other, member in there.items() if member is not None and written(member)]
        if others and not shared(house):
            self.doubles.append(f"request {exchange.number}: {address} was made beside {others}")

    def _run_of(self, exchange: Exchange) -> int:
        return self.run if exchange.number >= self.first else self.run - 1

    def _look(self, house: str | None) -> None:
        """Learn which addresses of a house are there, after they changed otherwise than by being made by us."""
        for address in addresses_of(house) if house else ():
            if self.audience.find(address) is None:
                self._there.discard(address)
            else:
                self._there.add(address)

    def _judge_opt_out(self, address: str, exchange: Exchange) -> None:
        house = house_of(address)
        if house is None:
            self.violations.append(f"request {exchange.number}: {address} is not ours, and was unsubscribed")
        elif shared(house):
            if not self.has_said_no(house):
                self.violations.append(f"request {exchange.number}: {address} unsubscribed, nobody said no")
        elif self.agrees(house, address) and self.agrees(house, address, before_run=self._run_of(exchange)):
            self.violations.append(f"request {exchange.number}: {address} unsubscribed after a yes")


def _ends_with_a_yes(words: Sequence[Word]) -> bool:
    return bool(words) and max(words, key=lambda word: (word.at, not word.agrees)).agrees


def written(member: Member) -> bool:
    """Say whether Segue ever wrote to a member. Whom it did not, who signed up by a form, it may not know."""
    return any(tag.startswith("SG_") for tag in member.merge_fields)


def shared(house: str) -> bool:
    """Say whether two people of a house share its addresses."""
    return house.startswith("p")


def people_of(house: str) -> tuple[str, ...]:
    """Give the contact ids of a house."""
    return (f"{house}x", f"{house}y") if shared(house) else (house,)


def addresses_of(house: str) -> tuple[str, ...]:
    """Give the addresses that people of a house may have."""
    return tuple(f"{house}.{letter}@shop.example" for letter in ("abcd" if shared(house) else "abc"))
