"""Who said yes or no, when and where, told in plain words: what the machine holds Segue's doing against.

Nothing of Segue is asked here. A word is of a person, of addresses, or of both; who may be mailed is whoever's newest
word, among those that can be known, is a yes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True, eq=False, kw_only=True)
class Word:
    """One yes or no. `where` is the destination it was said at, None for the shop's own data.

    `known` says that Segue has finished looking at it, and cannot say later that it has not. A `lasting` no (a bounce)
    is ended by no yes. `written` is whom we wrote at that address last: an account names addresses alone, so that Segue
    may take it for their word as well, and mail less.
    """

    at: datetime
    agrees: bool
    person: str | None = None
    addresses: set[str] = field(default_factory=set)
    where: str | None = None
    lasting: bool = False
    erased: bool = False
    written: str | None = None
    published: bool = False
    known: bool = False

    def is_about(self, person: str | None, address: str) -> bool:
        """Say whether it is a word of this person or of this address."""
        return address in self.addresses or (person is not None and self.person == person)


@dataclass(slots=True)
class Truth:
    """Every word that was said, and who has and had which address in what the shop published."""

    words: list[Word] = field(default_factory=list)
    homes: Mapping[str, str] = field(default_factory=dict)  # address -> person, as published last
    been: dict[str, set[str]] = field(default_factory=dict)  # person -> every address they ever had

    def say(self, word: Word) -> Word:
        """Write a word down."""
        self.words.append(word)
        return word

    def publish(self, homes: Mapping[str, str], table: Iterable[Word]) -> None:
        """Take note of what the shop's data says now."""
        self.homes = dict(homes)
        for address, person in homes.items():
            self.been.setdefault(person, set()).add(address)
        for word in table:
            word.published = True

    def no_of(self, person: str | None, address: str, known: Iterable[Word]) -> Word | None:
        """Give the newest no among known words of this person and this address; a lasting one is newer than all."""
        nos = [word for word in known if not word.agrees and word.is_about(person, address)]
        return max(nos, key=lambda word: (word.lasting and address in word.addresses, word.at), default=None)

    def yes_of(self, person: str | None, address: str) -> Word | None:
        """Give the newest yes that could possibly be known."""
        yeses = [
            word
            for word in self.words
            if word.agrees and word.is_about(person, address) and (word.published or word.where is not None)
        ]
        return max(yeses, key=lambda word: word.at, default=None)

    def why_not(self, person: str | None, address: str, known: Iterable[Word]) -> str | None:
        """Say why nobody may be mailed at an address where this person is, None when they may."""
        yes, no = self.yes_of(person, address), self.no_of(person, address, known)
        if person is None:
            return "nobody has that address"
        if yes is None:
            return f"{person} never agreed"
        if no is not None and ((no.lasting and address in no.addresses) or no.at >= yes.at):
            return f"{person} said no at {no.where or 'the shop'}"
        return None

    def house(self, person: str) -> list[Word]:
        """Give the words of everybody who ever had an address that this person ever had."""
        addresses = self.been.get(person, set())
        people = {other for other, theirs in self.been.items() if theirs & addresses}
        return [
            word
            for word in self.words
            if word.person in people or word.written in people or word.addresses & addresses
        ]
