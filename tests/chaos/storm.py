"""A storm: thousands of contacts, rounds of changes, an ESP that fails, people who come and go, and killed runs.

What it lets happen is here; who may be mailed is in `book`, what must be true when it is over in `ending`. Segue runs
as the command that a schedule calls. Everything is drawn from one seed, yet two storms of a seed are not equal: when
a signal strikes, and which of several requests in flight comes first, is the machine's to say.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from signal import SIGKILL
from threading import Timer
from typing import Any

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.emulator.audience import Member
from segue.connectors.traffic import READS, Exchange

from ..shop import AS_OF, Customer, Shop
from .book import Book, addresses_of, house_of, people_of, shared
from .chronicle import Chronicle

SEGUE = Path(sys.executable).with_name("segue")

KINDS = (
    FaultKind.THROTTLED,
    FaultKind.ERROR,
    FaultKind.UNAVAILABLE,
    FaultKind.RESET,
    FaultKind.LOST_ANSWER,
    FaultKind.TRUNCATED,
    FaultKind.SLOW,
)
ERRORS = frozenset({FaultKind.ERROR, FaultKind.UNAVAILABLE})
SHARE, SLOW_SECONDS = 0.05, 0.2

AMOUNTS = (20.0, 50.0, 150.5, 900.0)  # few, so that the data often goes back to what it was
NAMES = ("Smith", "Jones", None)
VIP = "VIP by hand"  # a marketer's own tag
STRANGERS = 40
ACTS_PER_REQUEST = 0.03
ACTS = (
    PersonAct.UNSUBSCRIBE,
    PersonAct.UNSUBSCRIBE,
    PersonAct.COMPLAIN,
    PersonAct.BOUNCE,
    PersonAct.SUBSCRIBE,
    PersonAct.SUBSCRIBE,
)
SHARES = (0.02, 0.3, 0.7)  # of the contacts that one round changes
MOST_RUNS = 150  # a third is usual: runs that end at once, and would go on for ever, are a failure
PROOF = '{"form": "checkout"}'


class Phase(StrEnum):
    """When in a run a signal strikes."""

    START = "start"
    PULL = "pull"
    PLAN = "plan"
    DELIVER = "deliver"


PHASES = (
    Phase.DELIVER,
    Phase.PLAN,
    Phase.DELIVER,
    Phase.PULL,
    Phase.DELIVER,
    Phase.START,
    Phase.DELIVER,
    Phase.PLAN,
)


@dataclass(slots=True, kw_only=True)
class Tale:
    """What a storm came to. The three lists stay empty, or something is wrong."""

    seed: int
    mode: str
    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    exits: Counter[int] = field(default_factory=Counter)
    faults: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    seconds: float = 0.0
    last_runs: int = 0
    violations: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)  # of the houses that something is wrong with


class Storm:
    """Lets a storm rage over a shop's destination; `rage` until enough has happened, then `calm`."""

    def __init__(self, shop: Shop, *, seed: int, mode: str, contacts: int) -> None:
        self.shop = shop
        self.emulator = shop.sandbox.emulator
        self.audience = self.emulator.audience
        self.book = Book(self.audience)
        self.chronicle = Chronicle()
        self.tale = Tale(seed=seed, mode=mode)
        self.gone: dict[str, Customer] = {}
        # Who spoke at the ESP since a run last asked: it names an address and nobody, so they keep theirs until then.
        self.fresh: dict[str, int] = {}
        self.vips: set[str] = set()
        self.killed: set[int] = set()
        self._dice = random.Random(seed)
        self._fate = random.Random(-seed - 1)  # of the emulator's thread
        self._acting = True
        self._signal: _Signal | None = None
        shop.batch_size = 20
        shop.sandbox.settings(mode=mode)
        self.emulator.clock.advance(timedelta(days=-1))  # no word is ever of the future, whatever we add
        self._settle(contacts)
        self.emulator.traffic.recorder = self._saw

    def _settle(self, contacts: int) -> None:
        """Let so many customers move in, one in ten sharing addresses with another, one in twenty without a grant."""
        pairs = contacts // 20
        houses = [f"p{n:05}" for n in range(pairs)] + [f"c{n:05}" for n in range(contacts - 2 * pairs)]
        for house in houses:
            self.chronicle.know(house)
            for person, address in zip(people_of(house), addresses_of(house), strict=False):
                agreed = self._dice.random() > 0.05
                self.shop.customers[person] = Customer(
                    person,
                    spent=self._dice.choice(AMOUNTS),
                    last_name=self._dice.choice(NAMES),
                    email=address,
                    consents=[("grant", 100, PROOF)] if agreed else [],
                )
                if agreed:
                    self.book.write(at=AS_OF - timedelta(days=100), agrees=True, person=person)
        for number in range(STRANGERS):
            address = f"stranger{number}@else.example"
            self.emulator.act(PersonAct.SUBSCRIBE, address=address)
            member = self.audience.find(address)
            assert member is not None
            member.merge_fields["FNAME"] = "Stranger"
            self.audience.tag(member, [VIP], self.emulator.clock.now())

    # The weather

    def rage(self, *, kills: int, strikes: int) -> None:
        """Change, run and kill until each kind of fault has struck so often and so many runs were killed."""
        self.emulator.faults.arm(list(_faults()), seed=self.tale.seed)
        phases = [PHASES[number % len(PHASES)] for number in range(kills)]
        self._dice.shuffle(phases)
        killed = False
        while phases or min(self.struck().values()) < strikes:
            if self.tale.wrong or self.tale.runs >= MOST_RUNS:
                self.tale.wrong.append(
                    f"after {self.tale.runs} runs too little had happened: {self.struck()}"
                )
                return
            if not killed or self._dice.random() < 0.8:  # else the very same command once more
                self.change()
            spared = not phases or self.tale.runs % 8 == 7  # what was left undone must not pile up
            killed = self.run(None if spared else _Signal(phases[-1], self._dice)) is None
            if killed:
                self.tale.kills[phases.pop()] += 1

    def calm(self) -> None:
        """End all faults and acts, and run until nothing waits, three times at most."""
        with self.emulator.lock:
            self.tale.faults = self.struck()
            self.tale.requests = self.emulator.traffic.requests
            self.emulator.faults.arm(())
            self._acting = False
        codes: list[int | None] = []
        while codes[-1:] != [0] and len(codes) < 3:
            report = self.run()
            codes.append(report.get("exit_code") if report else None)
        self.tale.last_runs = len(codes)
        if codes[-1] != 0:
            self.tale.wrong.append(f"three runs without a fault did not do, they ended with {codes}")

    def struck(self) -> dict[str, int]:
        """Give how often each kind of fault has struck."""
        with self.emulator.lock:
            fired = Counter[str]()
            for rule in self.emulator.faults.describe():
                fired[rule["kind"]] += rule["fired"]
        return {kind.value: fired[kind] for kind in KINDS}

    def run(self, signal: "_Signal | None" = None) -> Mapping[str, Any] | None:
        """Run once as a schedule does, and give the report; None when the signal ended it."""
        with self.emulator.lock:
            self.book.run += 1
            self.book.first = self.emulator.traffic.next_number()
            self.book.at_address_before, self.book.at_address = self.book.at_address, self._at_address()
            self._signal = signal
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                [
                    SEGUE,
                    "run",
                    "--no-build",
                    "--override-guardrails",
                    "--json",
                    "--project",
                    self.shop.folder,
                ],
                stdout=out,
                stderr=err,
            )
            if signal is not None:
                signal.aim(process)
            try:
                code = process.wait(timeout=600)
            finally:
                process.kill()
            out.seek(0)
            err.seek(0)
            said, complained = out.read().decode(), err.read().decode()
        self.tale.runs += 1
        if signal is not None and code == -SIGKILL:
            self.killed.add(self.book.run)
            return None
        return self._judged(code, said, complained)

    def _judged(self, code: int, said: str, complained: str) -> Mapping[str, Any]:
        number = self.book.run
        self.tale.exits[code] += 1
        if code not in {0, 1, 3, 4} or "Traceback" in complained:
            self.tale.wrong.append(f"run {number} ended with {code}: {complained[-3000:]}")
        if "@shop.example" in said + complained:
            self.tale.wrong.append(f"run {number} printed an address")
        if code in {0, 1}:
            self.fresh = {person: run for person, run in self.fresh.items() if run >= number}
        reports: list[dict[str, Any]] = json.loads(said) if said.startswith("[") else []
        return reports[0] if reports else {}

    def _saw(self, exchange: Exchange) -> None:
        """Judge what was just sent, let somebody act before the answer is there, and see whether the signal is due."""
        self.book.judge(exchange)
        self.chronicle.saw(self.book.run, exchange)
        if self._signal is not None:
            self._signal.saw(exchange)
        if self._acting and self._fate.random() < ACTS_PER_REQUEST:
            self._somebody_acts(self._fate, self.book.at_address)

    # What people do

    def change(self) -> None:
        """Change a part of the shop's data, publish it, and let people act at the ESP meanwhile."""
        with self.emulator.lock:
            self._change_data(self._dice, self.shop.customers)
            for _ in range(10):
                self._somebody_acts(self._dice, self._at_address())
            if member := self._member(self._dice, lambda m: m.status == "subscribed"):
                self.audience.tag(member, [VIP], self.emulator.clock.now())
                self.vips.add(member.contact_id)
            self.chronicle.publish(
                self.book.run, {person: customer.address for person, customer in self.shop.customers.items()}
            )
        self.shop.build()

    def _change_data(self, dice: random.Random, customers: dict[str, Customer]) -> None:
        for person in dice.sample(sorted(customers), int(dice.choice(SHARES) * len(customers))):
            customers[person].spent = dice.choice(AMOUNTS)
            customers[person].last_name = dice.choice(NAMES)
        for person in dice.sample(sorted(customers.keys() - self.fresh.keys()), 10):
            self.gone[person] = customers.pop(person)
        for person in dice.sample(sorted(self.gone), len(self.gone) // 4):
            customers[person] = self.gone.pop(person)
            self._move(person)
        for person in dice.sample(sorted(customers.keys() - self.fresh.keys()), 25):
            self._move(person)
        for person in dice.sample(sorted(customers), 6):
            self._says(person, agrees=False)
        silent = [p for p, c in customers.items() if not self.book.agrees(p, c.address)]
        for person in dice.sample(silent, min(len(silent), 6)):
            self._says(person, agrees=True)

    def _at_address(self) -> dict[str, str]:
        return {customer.address: person for person, customer in self.shop.customers.items()}

    def _move(self, person: str) -> None:
        """Give somebody an address of their house that is free, or that of who shares it in exchange.

        Who comes back, and finds their address taken, gets a free one: nobody shares an address at the same time.
        """
        house, customers = house_of(person), self.shop.customers
        assert house is not None
        here = customers[person].address
        taken = {
            customers[other].address: other
            for other in people_of(house)
            if other in customers and other != person
        }
        back = here in taken
        places = [each for each in addresses_of(house) if each != here and not (back and each in taken)]
        address = self._dice.choice(places)
        if (other := taken.get(address)) is not None:
            if other in self.fresh:
                return
            customers[other].email = here
        customers[person].email = address

    def _says(self, person: str, *, agrees: bool) -> None:
        """Let somebody tell the shop. A yes that nobody can prove is none."""
        at = self._next_second()
        row: dict[str, Any] = {"contact_id": person, "act": "grant" if agrees else "withdrawal", "at": at}
        proved = self._dice.random() < 0.8
        if agrees:
            row["evidence"] = PROOF if proved else None
        elif self._dice.random() < 0.5:
            row["email"] = self.shop.customers[person].address
        self.shop.acts.append(row)
        if proved or not agrees:
            self.book.write(at=at, agrees=agrees, person=person, address=row.get("email"))

    def _somebody_acts(self, dice: random.Random, at_address: Mapping[str, str]) -> None:
        """Let somebody leave, bounce, come back or sign up at the ESP."""
        act = dice.choice(ACTS)
        if act is not PersonAct.SUBSCRIBE:
            if (member := self._member(dice, lambda m: m.status == "subscribed")) is None:
                return
            address, house = member.address, house_of(member.address)
            assert house is not None
            person = None if act is PersonAct.BOUNCE else at_address.get(address) if shared(house) else house
        elif member := self._member(dice, lambda m: m.status == "unsubscribed" and m.address in at_address):
            address, person = member.address, at_address[member.address]
        else:
            address, person = dice.choice(sorted(at_address.items()))
            house = house_of(person)
            if any(self.audience.find(each) for each in addresses_of(house or "")):
                return
        at = self._next_second()
        self.emulator.act(act, address=address)
        self.book.write(at=at, agrees=act is PersonAct.SUBSCRIBE, person=person, address=address, at_esp=True)
        # Whose house has its addresses alone is known by any of them.
        if person is not None and (act is PersonAct.SUBSCRIBE or shared(house_of(person) or "")):
            self.fresh[person] = self.book.run

    def _member(self, dice: random.Random, fits: Callable[[Member], bool]) -> Member | None:
        members = list(self.audience.members.values())
        tried = (dice.choice(members) for _ in range(60))
        return next((m for m in tried if house_of(m.address) is not None and fits(m)), None)

    def _next_second(self) -> datetime:
        """Let a second pass, so that no two words are of the same one: an ESP tells no smaller parts."""
        self.emulator.clock.advance(timedelta(seconds=1))
        now: datetime = self.emulator.clock.now()
        return now.replace(microsecond=0)


class _Signal:
    """A SIGKILL that strikes a run in one phase, counted in what the emulator was asked, and a moment after that."""

    def __init__(self, phase: Phase, dice: random.Random) -> None:
        self._phase = phase
        self._after = {Phase.PULL: dice.randint(1, 7), Phase.DELIVER: dice.randint(1, 40)}.get(phase, 1)
        self._delay = dice.random() * {Phase.START: 1.5, Phase.PULL: 0.05, Phase.PLAN: 0.6}.get(phase, 0.1)
        self._process: subprocess.Popen[bytes] | None = None

    def aim(self, process: subprocess.Popen[bytes]) -> None:
        """Say whom it strikes."""
        self._process = process
        if self._phase is Phase.START:
            self._strike()

    def saw(self, exchange: Exchange) -> None:
        """Count an exchange of the process, and strike when it was the one."""
        write = exchange.method not in READS
        archived = ("status", "archived") in exchange.query  # what a pull reads last
        counts = {Phase.PULL: not write, Phase.PLAN: archived, Phase.DELIVER: write}.get(self._phase, False)
        self._after -= counts
        if counts and self._after == 0:
            self._strike()

    def _strike(self) -> None:
        assert self._process is not None
        timer = Timer(self._delay, self._process.kill)
        timer.daemon = True
        timer.start()


def _faults() -> Iterable[Fault]:
    """Give the faults: each strikes 5% of all requests, though only the first that fires is drawn.

    Half of the errors come after the request was carried out, as they do.
    """
    rules = [
        Fault(kind=kind, happens=happens, seconds=SLOW_SECONDS if kind is FaultKind.SLOW else 0.0)
        for kind in KINDS
        for happens in ((False, True) if kind in ERRORS else (None,))
    ]
    left = 1.0
    for rule in rules:
        share = SHARE / 2 if rule.kind in ERRORS else SHARE
        yield replace(rule, probability=share / left)
        left -= share
