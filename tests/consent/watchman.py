"""Watches what Segue does to people at both accounts, and holds each request and each run against the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from segue.connectors.traffic import Exchange
from segue.core.consent import MAILABLE, ConsentState

from .accounts import Account, is_mailed
from .happenings import Meanwhile
from .truth import Truth, Word


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
    asked: dict[str, set[Word]] = field(
        default_factory=dict
    )  # address -> what was known when we asked that it be mailed
    moved: dict[str, str] = field(
        default_factory=dict
    )  # contact -> address: moved while its no was said, which stayed behind


class Watchman:
    """Knows who is where. `wrong` stays empty, or something is."""

    def __init__(self, truth: Truth, accounts: Mapping[str, Account]) -> None:
        self.truth = truth
        self.wrong: list[str] = []
        self.runs = 0
        self.watch: Watch | None = None
        self.written: dict[str, dict[str, str]] = {name: {} for name in accounts}  # contact -> person
        self.moved: dict[str, dict[str, str]] = {name: {} for name in accounts}  # address -> who moved there
        self.met: dict[str, set[str]] = {name: set() for name in accounts}  # contacts that were looked at
        self.fresh: dict[tuple[str, str], datetime] = {}  # who spoke where, and was not heard yet
        self._shown: dict[str, set[str]] = {name: set() for name in accounts}  # addresses that were looked at
        self._members: dict[str, dict[str, tuple[str, ConsentState]]] = {name: {} for name in accounts}
        self._accounts = accounts
        self._raises = dict.fromkeys(accounts, 0)  # of those that the accounts saw themselves

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
        found = [self._accounts[word.where].find(address) for address in word.addresses]
        return any(there is not None and not is_mailed(there) for there in found)

    def remember(self, destination: str) -> None:
        self._members[destination] = {
            each.name: (each.address, each.state) for each in self._accounts[destination].people()
        }

    def judge_what_came(self, destination: str) -> None:
        """Judge what an account did by now of what it was asked for earlier, before anything else happens there."""
        if (
            self.watch is not None
            and self.watch.destination == destination
            and self._accounts[destination].lag
        ):
            self.judge(self.watch, None)

    def judge(self, watch: Watch, exchange: Exchange | None) -> None:
        """Hold what a request of ours did to everybody against what was said; what is done later, against that time."""
        name = watch.destination
        account, before = self._accounts[name], self._members[name]
        self.remember(name)
        if not account.lag:
            watch.asked.clear()
        if exchange is not None:
            watch.asked |= dict.fromkeys(account.asked(exchange), self._known(watch))
        for contact, (address, state) in self._members[name].items():
            former, was = before.get(contact, ("", ConsentState.UNKNOWN))
            person = self._who(name, address)
            if (former, was) != (address, state) and person is not None:
                self.written[name][contact] = person
            if state in MAILABLE and was not in MAILABLE:
                if address in watch.asked:
                    self._judge_raise(watch, exchange, contact, person, address)
                else:
                    watch.raised[contact] = address
            elif state in MAILABLE and former != address:
                self._judge_raise(watch, exchange, contact, person, address)
            elif was in MAILABLE and state not in MAILABLE and contact not in watch.raised:
                self._judge_opt_out(exchange, contact, address, name)

        self._judge_raises(watch, exchange)

    def _judge_raises(self, watch: Watch, exchange: Exchange | None) -> None:
        """No write makes anything of a refusal, as the account itself sees it, but one that was said at this moment."""
        name, told = watch.destination, self._accounts[watch.destination].emulator.raises
        new, self._raises[name] = told[self._raises[name] :], len(told)
        if not any(
            not word.agrees and word.where == name and word.at >= watch.begun for word in self.truth.words
        ):
            for each in new:
                self._tell(name, exchange, f"raised {each.address} from {each.before} to {each.after}")

    def _known(self, watch: Watch) -> set[Word]:
        return watch.known | {word for word in self.truth.words if word.known}

    def _judge_raise(
        self, watch: Watch, exchange: Exchange | None, contact: str, person: str | None, address: str
    ) -> None:
        """Whoever is made mailable agreed after every no that we know, and that the account has just shown.

        An account that refuses nobody moves somebody who leaves at that moment: who was moved may not stay mailed.
        """
        name = watch.destination
        known = watch.asked[address] if address in watch.asked else self._known(watch)
        here = {word for word in self.truth.words if word.where == name and word.at >= watch.begun}
        if (why := self.truth.why_not(person, address, known)) is None:
            why = self.truth.why_not(person, address, known | here)
            if why is not None and not self._accounts[name].refuses:
                watch.moved[contact] = address
                return
        if why is not None:
            self._tell(name, exchange, f"made {address} mailable: {why}")

    def _judge_opt_out(self, exchange: Exchange | None, contact: str, address: str, name: str) -> None:
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
            if self._is_mailed(name, contact) and (
                why := self.truth.why_not(self._who(name, address), address, watch.known)
            ):
                self._tell(name, None, f"left {address} mailable whom a write had raised: {why}")
        for contact, address in watch.moved.items():
            if self._is_mailed(name, contact):
                self._tell(
                    name, None, f"left {address} mailable, who had left while a write moved them there"
                )
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
                    self._accounts[name].find(address) is None for address in word.addresses
                )
        self.met[name] |= watch.there
        self._shown[name] |= {address for address, _ in self._members[name].values()}
        self.fresh = {
            (person, where): at
            for (person, where), at in self.fresh.items()
            if where != name or at >= watch.begun
        }

    def _is_mailed(self, destination: str, contact: str) -> bool:
        _, state = self._members[destination].get(contact, ("", ConsentState.UNKNOWN))
        return state in MAILABLE

    def _published_home(self, person: str) -> str | None:
        return next((address for address, who in self.truth.homes.items() if who == person), None)

    def _judge_reach(self, watch: Watch) -> None:
        """Nobody whom we wrote is mailed after a no that we knew when the run began, without a yes since."""
        name = watch.destination
        for contact, (address, state) in self._members[name].items():
            if state not in MAILABLE or contact not in self.written[name]:
                continue
            person = self._who(name, address) or self.written[name][contact]
            no = self.truth.no_of(person, address, watch.known)
            yeses = [w for w in self.truth.words if w.agrees and w.is_about(person, address)]
            if no is not None and all(yes.at <= no.at for yes in yeses):
                self._tell(name, None, f"{person} is still mailed at {address} after a no")

    def missed(self, destination: str) -> list[str]:
        """Give who should be mailed at an account and is not: agreed after everything else, and the account takes them."""
        account, found = self._accounts[destination], []
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
            been = [account.find(each) for each in self.truth.been[person]]
            if any(there is not None and not is_mailed(there) for there in been):
                continue
            there = account.find(address)
            if there is None or there.state is not ConsentState.SUBSCRIBED:
                found.append(f"{destination}: {person} agreed and is not mailed at {address}")
        return found
