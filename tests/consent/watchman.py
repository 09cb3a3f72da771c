"""Watches what Segue does to people at both accounts, and holds each request and each run against the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from segue.connectors.mailchimp.emulator.audience import Audience
from segue.connectors.traffic import Exchange

from .happenings import Meanwhile
from .truth import Truth, Word

MAILED = frozenset({"subscribed", "pending"})


@dataclass(slots=True)
class Watch:
    """One run: what it must know, and what it raised without having said so."""

    destination: str
    begun: datetime
    known: set[Word]
    meanwhile: Meanwhile | None
    there: frozenset[str] = frozenset()  # the contacts that were there when it began
    seen: int = 0
    raised: dict[str, str] = field(
        default_factory=dict
    )  # contact -> address: made mailable by no status of ours


class Watchman:
    """Knows who is where. `wrong` stays empty, or something is."""

    def __init__(self, truth: Truth, audiences: Mapping[str, Audience]) -> None:
        self.truth = truth
        self.wrong: list[str] = []
        self.runs = 0
        self.watch: Watch | None = None
        self.written: dict[str, dict[str, str]] = {name: {} for name in audiences}  # contact -> person
        self.moved: dict[str, dict[str, str]] = {name: {} for name in audiences}  # address -> who moved there
        self.met: dict[str, set[str]] = {name: set() for name in audiences}  # contacts that were looked at
        self.fresh: dict[tuple[str, str], datetime] = {}  # who spoke where, and was not heard yet
        self._shown: dict[str, set[str]] = {
            name: set() for name in audiences
        }  # addresses that were looked at
        self._members: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in audiences}
        self._audiences = audiences

    def begin(
        self, destination: str, table: Sequence[Word], now: datetime, meanwhile: Meanwhile | None
    ) -> None:
        """Watch what Segue does at an account from now on; `table` are the words of the shop's data."""
        known = {
            word
            for word in self.truth.words
            if word.known
            or (word.where is None and word in table and word.published)
            or (word.where == destination and self.is_visible(word))
        }
        self.remember(destination)
        self.watch = Watch(destination, now, known, meanwhile, frozenset(self._members[destination]))

    def is_still(self, person: str) -> bool:
        """Say whether all that a person said at an account was looked at: it names an address, and nobody."""
        return all(who != person for who, _ in self.fresh)

    def is_visible(self, word: Word) -> bool:
        """Say whether an account shows somebody's no: it forgets those whom it erased, or who came back."""
        if word.agrees or word.where is None:
            return False
        found = [self._audiences[word.where].find(address) for address in word.addresses]
        return any(member is not None and member.status not in MAILED for member in found)

    def remember(self, destination: str) -> None:
        self._members[destination] = {
            member.contact_id: (member.address, member.status)
            for member in self._audiences[destination].members.values()
        }

    def judge(self, watch: Watch, exchange: Exchange) -> None:
        """Hold what a request of ours did to everybody against what was said."""
        name = watch.destination
        before = self._members[name]
        self.remember(name)
        stated = _stated(exchange.body)
        for contact, (address, status) in self._members[name].items():
            former, was = before.get(contact, (None, None))
            person = self._who(name, address)
            if (former, was) != (address, status) and person is not None:
                self.written[name][contact] = person
            if status in MAILED and was not in MAILED:
                if address in stated:
                    self._judge_raise(watch, exchange, person, address)
                else:
                    watch.raised[contact] = address
            elif status in MAILED and former != address:
                self._judge_raise(watch, exchange, person, address)
            elif was in MAILED and status not in MAILED and contact not in watch.raised:
                self._judge_opt_out(exchange, contact, address, name)

    def _judge_raise(self, watch: Watch, exchange: Exchange, person: str | None, address: str) -> None:
        """Whoever is made mailable agreed after every no that we know, and that the account has just shown."""
        known = watch.known | {word for word in self.truth.words if word.known}
        known |= {
            word for word in self.truth.words if word.where == watch.destination and word.at >= watch.begun
        }
        if (why := self.truth.why_not(person, address, known)) is not None:
            self._tell(watch.destination, exchange, f"made {address} mailable: {why}")

    def _judge_opt_out(self, exchange: Exchange, contact: str, address: str, name: str) -> None:
        """Whoever is unsubscribed, or whoever had that address, or one that they have had since, said no once."""
        people = {p for p, been in self.truth.been.items() if address in been}
        people |= {self.written[name][contact]} if contact in self.written[name] else set()
        theirs = {address}.union(*(self.truth.been.get(person, ()) for person in people))
        if not any(
            not word.agrees and (word.person in people or word.written in people or theirs & word.addresses)
            for word in self.truth.words
        ):
            self._tell(name, exchange, f"unsubscribed {address}, where nobody ever said no")

    def _who(self, destination: str, address: str) -> str | None:
        return self.truth.homes.get(address) or self.moved[destination].get(address)

    def _tell(self, destination: str, exchange: Exchange | None, what: str) -> None:
        request = f" {exchange.method} {exchange.path}" if exchange else ""
        self.wrong.append(f"{destination}, run {self.runs}{request}: {what}")

    def completed(self, watch: Watch, *, full: bool) -> None:
        """Judge an account at the end of a run that says that all went well, and take note of what is known by now."""
        name = watch.destination
        for contact, address in watch.raised.items():
            if self._members[name].get(contact, ("", ""))[1] in MAILED and (
                why := self.truth.why_not(self._who(name, address), address, watch.known)
            ):
                self._tell(name, None, f"left {address} mailable whom a write had raised: {why}")
        if not full:
            self._judge_reach(watch)
        for word in watch.known:
            word.known = True
            if word.where is None and word.person and (home := self._published_home(word.person)):
                word.addresses.add(home)
        for word in self.truth.words:
            word.known |= word.agrees and word.published
            if full and word.erased and word.where == name and word.at < watch.begun:
                word.known |= bool(word.addresses & self._shown[name]) and all(
                    self._audiences[name].find(address) is None for address in word.addresses
                )
        self.met[name] |= watch.there
        self._shown[name] |= {address for address, _ in self._members[name].values()}
        self.fresh = {
            (person, where): at
            for (person, where), at in self.fresh.items()
            if where != name or at >= watch.begun
        }

    def _published_home(self, person: str) -> str | None:
        return next((address for address, who in self.truth.homes.items() if who == person), None)

    def _judge_reach(self, watch: Watch) -> None:
        """Nobody whom we wrote is mailed after a no that we knew when the run began, without a yes since."""
        name = watch.destination
        for contact, (address, status) in self._members[name].items():
            if status not in MAILED or contact not in self.written[name]:
                continue
            person = self._who(name, address) or self.written[name][contact]
            no = self.truth.no_of(person, address, watch.known)
            yeses = [w for w in self.truth.words if w.agrees and w.is_about(person, address)]
            if no is not None and all(yes.at <= no.at for yes in yeses):
                self._tell(name, None, f"{person} is still mailed at {address} after a no")

    def missed(self, destination: str) -> list[str]:
        """Give who should be mailed at an account and is not: agreed after everything else, and the account takes them."""
        audience, found = self._audiences[destination], []
        for address, person in self.truth.homes.items():
            house = self.truth.house(person)
            yes = max(
                (w for w in house if w.agrees and w.where is None and w.person == person and w.known),
                key=lambda word: word.at,
                default=None,
            )
            nos = [word for word in house if not word.agrees]
            if yes is None or any(no.at >= yes.at or no.lasting or no.erased for no in nos):
                continue
            if any(person in moved.values() for moved in self.moved.values()):
                continue
            been = [audience.find(each) for each in self.truth.been[person]]
            if any(member is not None and member.status not in MAILED for member in been):
                continue
            member = audience.find(address)
            if member is None or member.status != "subscribed":
                found.append(f"{destination}: {person} agreed and is not mailed at {address}")
        return found


def _stated(body: Any) -> set[str]:
    """Give the addresses for which a request states that they are mailed."""
    if not isinstance(body, dict):
        return set()
    items = body["members"] if isinstance(body.get("members"), list) else [body]
    return {item.get("email_address", "") for item in items if item.get("status") in MAILED}
