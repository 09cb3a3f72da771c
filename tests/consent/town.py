"""A town of three people, one shop and two accounts at local ESPs: what can happen there, and who watches.

Segue runs in this process, against the real emulator over HTTP, with one clock for all. What happens is somebody else's
choice; every request of Segue's is judged by `truth` when it is carried out, and so is every run that was completed.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from segue.connectors.emulator import Clock, Person
from segue.connectors.registry import connector_class
from segue.connectors.traffic import Exchange
from segue.connectors.webhooks import Webhooks
from segue.core.config import load_project
from segue.core.consent import ConsentState
from segue.core.errors import SegueError
from segue.core.snapshot import current
from segue.sync import jobs
from segue.sync.inbound.observing import People
from segue.sync.jobs import Job
from segue.sync.opting_out import send_opt_outs
from segue.sync.receiving import believe, follow_hints
from segue.sync.store.inbox import Message
from segue.sync.store.keys import ContactKeys
from segue.sync.store.store import Store

from ..shop import AS_OF, Customer, Shop, mapping_for
from .accounts import account_of
from .happenings import HERE, Act, Doing, Failure, Kill, Letter, Meanwhile, News
from .truth import Truth, Word
from .watchman import Watchman

DESTINATIONS = ("newsletter", "second")
PEOPLE = ("ann", "bob", "cyd")
ADDRESSES = tuple(f"{name}@shop.example" for name in (*PEOPLE, "spare"))
PROOF = '{"form": "checkout"}'
SECOND_YML = """\
  second:
    connector: {connector}
    mapping: second.yml
    settings:
{settings}
      retry_wait: 0.02 seconds
"""


class KilledError(BaseException):
    """Stands for a signal: nothing catches it."""


class Town:
    """The town. What is wrong is the watchman's to tell."""

    def __init__(self, folder: Path, sandboxes: Sequence[Any]) -> None:
        self.accounts = {
            name: account_of(sandbox) for name, sandbox in zip(DESTINATIONS, sandboxes, strict=True)
        }
        self.clock: Clock = sandboxes[0].emulator.clock
        for sandbox in sandboxes:
            sandbox.emulator.clock = self.clock
            sandbox.emulator.reset()
        self.clock.advance(timedelta(days=-2))
        self.shop = Shop(folder, sandboxes[0], "sqlite")
        self.shop.more = _second(sandboxes[1])
        (folder / "second.yml").write_text(mapping_for(sandboxes[1].connector))
        self.sparing = True  # what is known to end wrong, by `test_found.py`
        self.truth = Truth()
        self.watchman = Watchman(self.truth, self.accounts)
        self.mail: list[Letter] = []
        self.gone: dict[str, Customer] = {}
        self.tables: list[list[dict[str, Any]]] = []  # the shop's consents as they were published
        self._word_of: dict[datetime, Word] = {}
        self._saying: Word | None = None
        self._numbers = count()
        self._crashes: list[BaseException] = []
        for name in DESTINATIONS:
            self._listen(name)
        for person, address in zip(PEOPLE, ADDRESSES, strict=False):
            self.shop.customers[person] = Customer(person, email=address, consents=[])
        self.shop.build()
        (folder / "store.db").write_bytes(_new_store())
        self.store = _opened(folder, self.clock.now)

    def temper(self, mode: str) -> None:
        """Say of what temper both accounts are."""
        for account in self.accounts.values():
            account.temper(mode)

    def close(self) -> None:
        """Let go of everything."""
        self.store.close()
        for account in self.accounts.values():
            account.close()

    def _listen(self, name: str) -> None:
        """See every exchange of an account, and have its webhooks put into one bag, from which they come as they may."""
        account = self.accounts[name]
        account.listen(lambda body: self.mail.append(Letter(destination=name, body=body, word=self._saying)))
        account.emulator.traffic.recorder = lambda exchange: self._saw(name, exchange)

    def tick(self, seconds: float = 2) -> datetime:
        """Let time pass, so that no two words are of one second, and give the whole second."""
        self.clock.advance(timedelta(seconds=seconds))
        return self.clock.now().replace(microsecond=0)

    # What happens at an account

    def can(self, doing: Doing) -> str | None:
        """Give the address at which somebody can do something, None when they cannot.

        It is theirs by what the shop published, or nobody's and was theirs when we wrote them there.
        """
        home = self.home(doing.person)
        account, homes = self.accounts[doing.destination], self.truth.homes
        addresses = [home] if home and homes.get(home) == doing.person else []
        if doing.act is not Act.JOIN:
            theirs = [a for a in ADDRESSES if a in self.truth.been.get(doing.person, ())]
            addresses += [
                address
                for address in theirs
                if address not in homes
                and self.who_lives_at(address) is None
                and (there := account.find(address))
                and self.watchman.written[doing.destination].get(there.name) == doing.person
            ]
        for address in addresses if doing.act in account.acts else ():
            if self._fits(doing, account.find(address)):
                return address
        return None

    def _fits(self, doing: Doing, there: Person | None) -> bool:
        match doing.act:
            case Act.MOVE if self.sparing:
                return there is not None and there.name in self.watchman.met[doing.destination]
            case Act.JOIN:
                return there is None or there.state is not ConsentState.SUBSCRIBED
            case Act.ARCHIVE:
                return there is not None and not there.archived
            case Act.ERASE | Act.EDIT:
                return there is not None
            case _:
                return there is not None and there.state is ConsentState.SUBSCRIBED

    def do(self, doing: Doing) -> None:
        """Let somebody do something at an account, if they can."""
        address = self.can(doing)
        if address is None:
            return
        account = self.accounts[doing.destination]
        self.watchman.judge_what_came(doing.destination)
        at, sent = self.tick(), len(self.mail)
        with account.emulator.lock:
            self._saying = self._word(doing, address, at)
            if doing.act in {Act.EDIT, Act.MOVE}:
                self._edit(doing, address, at)
            else:
                account.act(doing.act, address, at)
            self.watchman.remember(doing.destination)
        if self._saying is not None:
            self.watchman.fresh[doing.person, doing.destination] = at
        self._saying = None
        if doing.told:
            for letter in self.mail[sent:]:
                self.deliver(letter)

    def _word(self, doing: Doing, address: str, at: datetime) -> Word | None:
        if doing.act in {Act.EDIT, Act.MOVE}:
            return None
        alone = doing.act is Act.BOUNCE
        there = self.accounts[doing.destination].find(address)
        return self.truth.say(
            Word(
                at=at,
                agrees=doing.act is Act.JOIN,
                person=None if alone else doing.person,
                addresses={address},
                where=doing.destination,
                lasting=alone,
                erased=doing.act is Act.ERASE,
                written=self.watchman.written[doing.destination].get(there.name) if there else None,
            )
        )

    def _edit(self, doing: Doing, address: str, at: datetime) -> None:
        account, moved_to = self.accounts[doing.destination], None
        if doing.act is Act.MOVE:
            free = [a for a in ADDRESSES if account.find(a) is None and self._is_nobodys(a)]
            if not free:
                return
            moved_to = free[0]
            self.watchman.moved[doing.destination][moved_to] = doing.person
            self.truth.been.setdefault(doing.person, set()).add(moved_to)
            self.watchman.fresh[doing.person, doing.destination] = at
        account.edit(address, name=f"by hand {next(self._numbers)}", moved_to=moved_to, at=at)

    def _is_nobodys(self, address: str) -> bool:
        return (
            address not in self.truth.homes
            and self.who_lives_at(address) is None
            and all(address not in moved for moved in self.watchman.moved.values())
        )

    # What the shop's data says

    def home(self, person: str) -> str | None:
        """Give the address of a person in the shop's data, published or not."""
        customer = self.shop.customers.get(person)
        return customer.address if customer else None

    def who_lives_at(self, address: str) -> str | None:
        """Give who has an address in the shop's data, published or not."""
        return next((p for p, c in self.shop.customers.items() if c.address == address), None)

    def withdraws(self, person: str, scope: Mapping[str, str]) -> None:
        """Let somebody tell the shop no, of whatever topic."""
        at = self.tick()
        self.shop.acts.append({"contact_id": person, "act": "withdrawal", "at": at, **scope})
        self._word_of[at] = self.truth.say(Word(at=at, agrees=False, person=person))

    def agrees(self, person: str, proved: bool) -> None:
        """Let somebody tell the shop yes. One that nobody can prove is none."""
        at = self.tick()
        row = {"contact_id": person, "act": "grant", "at": at, "evidence": PROOF if proved else None}
        self.shop.acts.append(row)
        if proved:
            self._word_of[at] = self.truth.say(Word(at=at, agrees=True, person=person))

    def agreed_long_ago(self, person: str) -> None:
        """Let somebody have agreed before anything else happened."""
        at = AS_OF - timedelta(days=100, seconds=next(self._numbers))
        self.shop.acts.append({"contact_id": person, "act": "grant", "at": at, "evidence": PROOF})
        self._word_of[at] = self.truth.say(Word(at=at, agrees=True, person=person))

    def hears(self, news: News, destination: str) -> None:
        """Let happen what is new before a run at an account."""
        if news.refused is not None:
            self.withdraws(*news.refused)
        for person in PEOPLE if news.edited else ():  # before anybody moves: they are found where they were
            self.do(Doing(person=person, destination=destination, act=Act.EDIT))
        for person, amount in zip(PEOPLE, news.bought, strict=True):
            if person in self.shop.customers:
                self.shop.customers[person].spent = amount
        for person, address in news.moved:
            self.moves(person, address)

    def moves(self, person: str, address: str) -> None:
        """Give a person another address in the shop's data, in exchange for theirs where somebody has it."""
        home, other = self.home(person), self.who_lives_at(address)
        if home is None or other == person or not self.watchman.is_still(person):
            return
        if other is not None and not self.watchman.is_still(other):
            return
        if any(moved.get(address, person) != person for moved in self.watchman.moved.values()):
            return
        if other is not None:
            if any(moved.get(home, other) != other for moved in self.watchman.moved.values()):
                return
            self.shop.customers[other].email = home
        self.shop.customers[person].email = address

    def vanishes_or_comes_back(self, person: str) -> None:
        """Take a person out of the shop's data, or put them back: at a free address if somebody has theirs."""
        customer = self.gone.get(person)
        if customer is None:
            if self.watchman.is_still(person):
                self.gone[person] = self.shop.customers.pop(person)
            return
        free = [a for a in (customer.address, *ADDRESSES) if self.who_lives_at(a) is None]
        free = [a for a in free if all(m.get(a, person) == person for m in self.watchman.moved.values())]
        if free:
            customer.email = free[0]
            self.shop.customers[person] = self.gone.pop(person)

    def stale(self, version: int) -> None:
        """Let an older table of consents come back."""
        if self.tables:
            self.shop.acts = list(self.tables[version % len(self.tables)])

    def publish(self) -> None:
        """Publish the shop's data."""
        self.shop.build()
        self.tables.append(list(self.shop.acts))
        homes = {customer.address: person for person, customer in self.shop.customers.items()}
        self.truth.publish(homes, self._table())

    def _table(self) -> list[Word]:
        return [self._word_of[row["at"]] for row in self.shop.acts if row["at"] in self._word_of]

    # What Segue does

    def deliver(self, letter: Letter) -> None:
        """Let a webhook arrive, and be believed."""
        webhooks, account = self._webhooks(letter.destination), self.accounts[letter.destination]
        events = webhooks.read(letter.body, account.content_type)
        if not events:
            return
        message = Message(
            destination=letter.destination,
            name="\n".join(event.key for event in events),
            content_type=account.content_type,
            body=letter.body,
        )
        self.store.inbox.put([message])
        believe(
            self.store,
            letter.destination,
            webhooks,
            people=People(current(self.shop.folder / ".segue"), self.store),
            destinations=list(DESTINATIONS),
            clock=self.clock.now,
        )
        told = any(event.state is not None for event in events)
        told &= not (self.sparing and account.complaint in letter.body)
        word = letter.word
        if told and word and self.watchman.is_visible(word):
            word.known |= all(event.address or self._is_known(word) for event in events)

    def _is_known(self, word: Word) -> bool:
        """Say whether it can be known whose record it is that a webhook names: one looked at, with an address of the shop's."""
        assert word.where is not None
        there = [
            self.accounts[word.where].find(address) for address in word.addresses & set(self.truth.homes)
        ]
        return any(each is not None and each.name in self.watchman.met[word.where] for each in there)

    def _webhooks(self, destination: str) -> Webhooks:
        webhooks = connector_class(self.accounts[destination].sandbox.connector).webhooks
        assert webhooks is not None
        return webhooks

    def serve(self, destination: str) -> None:
        """Follow the hints of an account and send what opt-outs wait for it, as `segue serve` does."""
        with self._watching(destination, None) as job, suppress(SegueError):
            follow_hints(job, self._webhooks(destination))
            send_opt_outs(job)
        self._raise_crashes()

    def run(
        self,
        destination: str,
        *,
        kill: Kill | None = None,
        failures: Sequence[Failure] = (),
        meanwhile: Meanwhile | None = None,
        full: bool = False,
    ) -> None:
        """Run as a schedule does, or only look at everyone. It may be killed, or fail."""
        self.publish()
        self.watchman.runs += 1
        account = self.accounts[destination]
        account.emulator.faults.arm([account.fault(failure) for failure in failures])
        try:
            with self._watching(destination, meanwhile) as job:
                watch = self.watchman.watch
                assert watch is not None
                if kill is not None:
                    _mortal(job, kill)
                if full:
                    report = jobs.pull(job, lambda *_: None, full=True, override=True)
                else:
                    report = jobs.run(job, lambda *_: None, override=True)
                if report.exit_code == 0:
                    self.watchman.completed(watch, full=full)
        except (KilledError, SegueError):
            pass
        finally:
            account.emulator.faults.arm(())
        self._raise_crashes()

    def _raise_crashes(self) -> None:
        if self._crashes:
            raise self._crashes[0]

    @contextmanager
    def _watching(self, destination: str, meanwhile: Meanwhile | None) -> Iterator[Job]:
        """Open a job, and watch it until all that it asked for is done."""
        account = self.accounts[destination]
        self.clock.advance(account.lag)
        project = load_project(self.shop.folder)
        snapshot = current(project.state_folder)
        job = Job(project, destination, self.store, snapshot, clock=self.clock.now)
        connector = job.connector
        # One request at a time, so that it goes the same twice.
        connector.capabilities = replace(connector.capabilities, concurrency=1)
        self.watchman.begin(destination, self._table(), self.clock.now(), meanwhile)
        try:
            with job:
                yield job
        finally:
            self.clock.advance(account.lag)
            self.watchman.judge_what_came(destination)
            self.watchman.watch = None
            self.store.settlements.__dict__.pop("settle", None)  # whoever was killed is dead by now

    # Who watches

    def _saw(self, destination: str, exchange: Exchange) -> None:
        watch = self.watchman.watch
        if watch is None or watch.destination != destination:
            return
        try:
            self.watchman.judge(watch, exchange)
            if watch.meanwhile is not None:
                moment = watch.meanwhile.moment
                watch.seen += moment.counts(exchange)
                if watch.seen == moment.number + 1 and moment.counts(exchange):
                    self._meanwhile(destination, watch.meanwhile.doings)
        except BaseException as error:  # noqa: BLE001 - it would be an answer of the account's, and no failure
            self._crashes.append(error)

    def _meanwhile(self, here: str, doings: Sequence[Doing]) -> None:
        (elsewhere,) = set(DESTINATIONS) - {here}
        for doing in doings:
            self.do(replace(doing, destination=here if doing.destination == HERE else elsewhere))

    def settle(self) -> None:
        """Run until all is known everywhere, twice where somebody is missed, and tell who is missed still."""
        first, second = DESTINATIONS
        self.tick(seconds=7 * 3600)  # nobody waits any longer for whom an ESP may have accepted
        self.run(first)
        late = [word for word in self.truth.words if word.where == second and not (word.known or word.agrees)]
        self.run(second)
        for destination in DESTINATIONS:
            if self.watchman.missed(destination) or (late and destination == first):
                self.run(destination)
            self.watchman.wrong += self.watchman.missed(destination)


def _second(sandbox: Any) -> str:
    """Give the second destination, as it stands in segue.yml."""
    settings = {name: str(value) for name, value in sandbox.destination.items()}
    lines = [
        f"      {name}: {value.replace('SANDBOX_KEY', 'SECOND_KEY')}" for name, value in settings.items()
    ]
    return SECOND_YML.format(connector=sandbox.connector, settings="\n".join(lines))


@cache
def _new_store() -> bytes:
    """Give a store as it is made, once for all towns."""
    with tempfile.TemporaryDirectory() as folder:
        _opened(Path(folder)).close()
        return (Path(folder) / "store.db").read_bytes()


def _opened(folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Store:
    return Store.open(
        f"sqlite:///{folder / 'store.db'}", key=lambda _: ContactKeys(bytes(range(32))), clock=clock
    )


def _mortal(job: Job, kill: Kill) -> None:
    """Let a job die at a request: nothing is sent and nothing is stored afterwards."""
    transport, settlements = job.connector.transport, job.store.settlements
    request, settle, left, dead = transport.request, settlements.settle, kill.number, False

    def dying(*arguments: Any, **more: Any) -> Any:
        nonlocal left, dead
        left -= 1
        if dead or (left < 0 and not kill.sent):
            dead = True
            raise KilledError
        answer = request(*arguments, **more)
        if left < 0:
            dead = True
            raise KilledError
        return answer

    def storing(*arguments: Any) -> None:
        if dead:
            raise KilledError
        settle(*arguments)

    transport.request = dying  # type: ignore[method-assign]
    settlements.settle = storing  # type: ignore[assignment, method-assign]
