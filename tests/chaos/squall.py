"""A squall: what a storm is to Mailchimp in particular, for every ESP alike, smaller, and seen through `Person` alone.

Hundreds of contacts, rounds of changes, an account that fails, people who leave and move, and runs that are killed. Each
person has addresses that nobody else has, so that whatever is at one of them is theirs. Nothing of an ESP is known here.
"""

import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from segue.connectors.emulator import Person, PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.traffic import Exchange
from segue.core.consent import ConsentState

from ..shop import Customer, Shop

SEGUE = Path(sys.executable).with_name("segue")
KINDS = (
    FaultKind.THROTTLED,
    FaultKind.ERROR,
    FaultKind.UNAVAILABLE,
    FaultKind.RESET,
    FaultKind.LOST_ANSWER,
    FaultKind.TRUNCATED,
)
SHARE = 0.03  # of the requests, by kind
THROTTLED = 2  # times in all: after each some ESPs want ten seconds of rest
AMOUNTS = (20.0, 50.0, 150.5, 900.0)
MAILED = frozenset({ConsentState.SUBSCRIBED, ConsentState.PENDING})
LEAVING = (PersonAct.UNSUBSCRIBE, PersonAct.COMPLAIN, PersonAct.BOUNCE)


@dataclass(slots=True, kw_only=True)
class Squall:
    """One squall over one shop; `wrong` says all that may not be."""

    shop: Shop
    seed: int
    contacts: int = 100
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    runs: int = 0
    left: set[str] = field(default_factory=set)  # people who said no, anywhere: nothing here says yes again
    dice: random.Random = field(init=False)
    _until: int | None = None
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        emulator = self.shop.sandbox.emulator
        emulator.clock.advance(timedelta(days=-1))  # no word is of the future, whatever time is added
        emulator.traffic.recorder = self._saw
        self.shop.batch_size = 15
        for number in range(self.contacts):
            person = f"c{number:05}"
            agreed = self.dice.random() > 0.05
            self.shop.customers[person] = Customer(
                person,
                email=f"{person}.a@shop.example",
                consents=[("grant", 100, '{"form": "checkout"}')] if agreed else [],
            )

    def rage(self, *, rounds: int) -> None:
        """Change, fail, act and kill for so many rounds, then run in peace until a run ends well."""
        emulator = self.shop.sandbox.emulator
        faults = [
            Fault(kind=kind, probability=SHARE, count=THROTTLED if kind is FaultKind.THROTTLED else None)
            for kind in KINDS
        ]
        emulator.faults.arm(faults, seed=self.seed)
        for _ in range(rounds):
            self._change()
            self._run(kill_after=self.dice.choice([None, None, *range(1, 25)]))
        with emulator.lock:
            emulator.faults.arm([])
        self._run(kill_after=None)
        for _ in range(3):
            if self.shop.run_much_later(rebuild=False).exit_code == 0:
                break
        else:
            self.wrong.append("three runs in peace did not do")
        self._judge()

    def _change(self) -> None:
        with self.shop.sandbox.emulator.lock:
            self._change_data()
            self._people_act()
        self.shop.build()

    def _change_data(self) -> None:
        customers, dice = self.shop.customers, self.dice
        for person in dice.sample(sorted(customers), len(customers) // 4):
            customers[person].spent = dice.choice(AMOUNTS)
            customers[person].last_name = dice.choice(["Smith", "Jones", None])
        for person in dice.sample(sorted(customers), 6):
            customers[person].email = f"{person}.{dice.choice('abc')}@shop.example"
        for person in dice.sample(sorted(customers), 3):
            at = self.shop.sandbox.emulator.clock.now()
            self.shop.acts.append({"contact_id": person, "act": "withdrawal", "at": at})
            self.left.add(person)

    def _people_act(self) -> None:
        emulator = self.shop.sandbox.emulator
        there = [each for each in emulator.people() if each.state in MAILED and not each.archived]
        for each in self.dice.sample(there, min(len(there), 4)):
            emulator.clock.advance(timedelta(seconds=1))
            act = self.dice.choice(LEAVING)
            emulator.act(act, audience="", address=each.address)
            if act is not PersonAct.BOUNCE:
                self.left.add(each.address.partition(".")[0])

    def _run(self, *, kill_after: int | None) -> dict[str, Any] | None:
        """Run as a schedule does; None where it was killed."""
        self.runs += 1
        command: list[str | Path] = [
            SEGUE,
            "run",
            "--no-build",
            "--override-guardrails",
            "--json",
            "--project",
            self.shop.folder,
        ]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with self.shop.sandbox.emulator.lock:
                self._process = subprocess.Popen(command, stdout=out, stderr=err)
                self._until = kill_after
            code = self._process.wait(timeout=300)
            out.seek(0)
            err.seek(0)
            said, complained = out.read().decode(), err.read().decode()
        if code < 0:
            self.kills += 1
            return None
        if code not in {0, 1, 3, 4} or "Traceback" in complained or "@shop.example" in said + complained:
            self.wrong.append(f"run {self.runs} ended with {code}: {complained[-2000:]}")
        reports: list[dict[str, Any]] = json.loads(said) if said.startswith("[") else []
        return reports[0] if reports else None

    def _saw(self, _: Exchange) -> None:
        if self._until is not None and self._process is not None:
            self._until -= 1
            if self._until == 0:
                self._process.kill()

    def _judge(self) -> None:
        self.wrong += [f"raised: {each}" for each in self.shop.sandbox.emulator.raises]
        houses: dict[str, list[Person]] = {}
        for each in self.shop.sandbox.emulator.people():
            if not each.archived:
                houses.setdefault(each.address.partition(".")[0], []).append(each)
        for person, customer in self.shop.customers.items():
            self.wrong += self._wrong_with(person, customer, houses.get(person, []))
        if self.shop.run_much_later(rebuild=False).writes:
            self.wrong.append("a further run wrote")

    def _wrong_with(self, person: str, customer: Customer, there: list[Person]) -> list[str]:
        mailed = [each for each in there if each.state in MAILED]
        if person in self.left or not customer.consents:
            return [f"{person} is mailed at {each.address}" for each in mailed]
        if len(there) > 1:
            return [f"{person} is there twice: {[each.address for each in there]}"]
        if any(each.state is ConsentState.SUPPRESSED for each in there):
            return []  # bounced: nothing more is written
        if [each.address for each in mailed] != [customer.address]:
            # A bounce at a former address keeps nobody away, but its member may stand in the way there.
            return [f"{person} is not mailed at {customer.address}: {there}"]
        fields = {name.lower(): str(value) for name, value in mailed[0].fields.items()}
        found = (float(fields["sg_spent"]), fields.get("sg_name", ""), mailed[0].tags)
        meant = (
            customer.spent,
            customer.last_name or "",
            frozenset({"segue: big" if customer.spent >= 100 else "segue: small"}),
        )
        return [] if found == meant else [f"{person} is held with {found} and meant to be {meant}"]
