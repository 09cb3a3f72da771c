"""A town of three people, one shop and two accounts of the local Mailchimp: what can happen there, and who watches.

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

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.emulator.audience import Audience, Member, Rules
from segue.connectors.mailchimp.emulator.webhooks import Webhook
from segue.connectors.mailchimp.testing import Sandbox
from segue.connectors.mailchimp.webhooks import MailchimpWebhooks
from segue.connectors.traffic import READS, Exchange
from segue.connectors.webhook_sender import Proof
from segue.core.config import load_project
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

from ..shop import AS_OF, Customer, Shop
from .happenings import HERE, Act, Doing, Kill, Letter, Meanwhile, News
from .truth import Truth, Word
from .watchman import Watchman

DESTINATIONS = ("newsletter", "second")
PEOPLE = ("ann", "bob", "cyd")
ADDRESSES = tuple(f"{name}@shop.example" for name in (*PEOPLE, "spare"))
PROOF = '{"form": "checkout"}'
SECOND_YML = """\
  second:
    connector: mailchimp
    mapping: mapping.yml
    settings:
      api_key: env:SANDBOX_KEY
      audience: {audience}
      base_url: {base_url}
      retry_wait: 0.02 seconds
"""
_FORM = "application/x-www-form-urlencoded"


_BY_THEMSELVES = {
    Act.LEAVE: PersonAct.UNSUBSCRIBE,
    Act.BOUNCE: PersonAct.BOUNCE,
    Act.COMPLAIN: PersonAct.COMPLAIN,
    Act.ERASE: PersonAct.ERASE,
    Act.JOIN: PersonAct.SUBSCRIBE,
}


class KilledError(BaseException):
    """Stands for a signal: nothing catches it."""


class Town:
    """The town. What is wrong is the watchman's to tell."""

    def __init__(self, folder: Path, sandboxes: Sequence[Sandbox]) -> None:
        self.sandboxes: dict[str, Sandbox] = dict(zip(DESTINATIONS, sandboxes, strict=True))
        self.clock = sandboxes[0].emulator.clock
        for sandbox in sandboxes:
            sandbox.emulator.clock = self.clock
            sandbox.emulator.reset()
        self.clock.advance(timedelta(days=-2))
        self.shop = Shop(folder, sandboxes[0], "sqlite")
        self.shop.more = SECOND_YML.format(audience=sandboxes[1].audience, base_url=sandboxes[1].base_url)
        self.sparing = True  # what is known to end wrong, by `test_found.py`
        self.truth = Truth()
        self.watchman = Watchman(self.truth, {name: self.audience(name) for name in DESTINATIONS})
        self.mail: list[Letter] = []
        self.gone: dict[str, Customer] = {}
        self.tables: list[list[dict[str, Any]]] = []  # the shop's consents as they were published
        self._word_of: dict[datetime, Word] = {}
        self._saying: Word | None = None
        self._numbers = count()
        self._crashes: list[BaseException] = []
        for name, sandbox in self.sandboxes.items():
            self._listen(name, sandbox)
        for person, address in zip(PEOPLE, ADDRESSES, strict=False):
            self.shop.customers[person] = Customer(person, email=address, consents=[])
        self.shop.build()
        (folder / "store.db").write_bytes(_new_store())
        self.store = _opened(folder, self.clock.now)

    def temper(self, mode: str) -> None:
        """Say of what temper both accounts are."""
        for sandbox in self.sandboxes.values():
            sandbox.settings(mode=mode)

    def close(self) -> None:
        """Let go of everything."""
        self.store.close()
        for sandbox in self.sandboxes.values():
            sandbox.emulator.traffic.recorder = None
            sandbox.emulator.faults.arm(())
            del sandbox.emulator.sender.post

    def _listen(self, name: str, sandbox: Sandbox) -> None:
        """See every exchange of an account, and have its webhooks put into one bag, from which they come as they may."""
        emulator, audience = sandbox.emulator, sandbox.emulator.audience
        hook = Webhook(
            id="hook",
            url="http://bag.invalid",
            events=dict.fromkeys(("subscribe", "unsubscribe", "profile", "cleaned", "upemail"), True),
            sources=dict.fromkeys(("user", "admin", "api"), True),
            secret=None,
        )
        emulator._webhooks._hooks[audience.id] = {"hook": hook}
        audience.listener = lambda happening: emulator._webhooks._hear(audience, happening)

        def put(url: str, body: bytes, headers: Mapping[str, str], prove: Proof) -> None:
            self.mail.append(Letter(destination=name, body=body, word=self._saying))

        emulator.sender.post = put  # type: ignore[method-assign]
        emulator.traffic.recorder = lambda exchange: self._saw(name, exchange)

    def audience(self, destination: str) -> Audience:
        """Give an account's audience."""
        return self.sandboxes[destination].emulator.audience

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
        audience, homes = self.audience(doing.destination), self.truth.homes
        addresses = [home] if home and homes.get(home) == doing.person else []
        if doing.act is not Act.JOIN:
            theirs = [a for a in ADDRESSES if a in self.truth.been.get(doing.person, ())]
            addresses += [
                address
                for address in theirs
                if address not in homes
                and self.who_lives_at(address) is None
                and (member := audience.find(address))
                and self.watchman.written[doing.destination].get(member.contact_id) == doing.person
            ]
        for address in addresses:
            member = audience.find(address)
            if self._fits(doing, member):
                return address
        return None

    def _fits(self, doing: Doing, member: Member | None) -> bool:
        match doing.act:
            case Act.MOVE if self.sparing:
                return member is not None and member.contact_id in self.watchman.met[doing.destination]
            case Act.JOIN:
                return member is None or member.status != "subscribed"
            case Act.ARCHIVE:
                return member is not None and member.status != "archived"
            case Act.ERASE | Act.EDIT:
                return member is not None
            case _:
                return member is not None and member.status == "subscribed"

    def do(self, doing: Doing) -> None:
        """Let somebody do something at an account, if they can."""
        address = self.can(doing)
        if address is None:
            return
        emulator, audience = self.sandboxes[doing.destination].emulator, self.audience(doing.destination)
        at, sent = self.tick(), len(self.mail)
        with emulator.lock:
            self._saying = self._word(doing, address, at)
            match doing.act:
                case Act.ARCHIVE:
                    audience.archive(self._member(doing.destination, address), at)
                case Act.EDIT | Act.MOVE:
                    self._edit(doing, address, at)
                case act:
                    emulator.act(_BY_THEMSELVES[act], address=address)
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
        member = self.audience(doing.destination).find(address)
        return self.truth.say(
            Word(
                at=at,
                agrees=doing.act is Act.JOIN,
                person=None if alone else doing.person,
                addresses={address},
                where=doing.destination,
                lasting=alone,
                erased=doing.act is Act.ERASE,
                written=self.watchman.written[doing.destination].get(member.contact_id) if member else None,
            )
        )

    def _edit(self, doing: Doing, address: str, at: datetime) -> None:
        audience, member = self.audience(doing.destination), self._member(doing.destination, address)
        data: dict[str, Any] = {"merge_fields": {"FNAME": f"by hand {next(self._numbers)}"}}
        if doing.act is Act.MOVE:
            free = [a for a in ADDRESSES if audience.find(a) is None and self._is_nobodys(a)]
            if not free:
                return
            data = {"email_address": free[0]}
            self.watchman.moved[doing.destination][free[0]] = doing.person
            self.truth.been.setdefault(doing.person, set()).add(free[0])
            self.watchman.fresh[doing.person, doing.destination] = at
        audience.update(member, data, None, rules=Rules(), now=at, request=0)

    def _member(self, destination: str, address: str) -> Member:
        member = self.audience(destination).find(address)
        assert member is not None
        return member

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
        webhooks = MailchimpWebhooks()
        events = webhooks.read(letter.body, _FORM)
        if not events:
            return
        (event,) = events
        message = Message(
            destination=letter.destination,
            name=event.key,
            content_type=_FORM,
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
        told = event.state is not None and not (self.sparing and b"abuse" in letter.body)
        if told and letter.word and self.watchman.is_visible(letter.word):
            letter.word.known = True

    def serve(self, destination: str) -> None:
        """Follow the hints of an account and send what opt-outs wait for it, as `segue serve` does."""
        with self._watching(destination, None) as job, suppress(SegueError):
            follow_hints(job, MailchimpWebhooks())
            send_opt_outs(job)
        self._raise_crashes()

    def run(
        self,
        destination: str,
        *,
        kill: Kill | None = None,
        faults: Sequence[Fault] = (),
        meanwhile: Meanwhile | None = None,
        full: bool = False,
    ) -> None:
        """Run as a schedule does, or only look at everyone. It may be killed, or fail."""
        self.publish()
        self.watchman.runs += 1
        emulator = self.sandboxes[destination].emulator
        emulator.faults.arm(faults)
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
            emulator.faults.arm(())
        self._raise_crashes()

    def _raise_crashes(self) -> None:
        if self._crashes:
            raise self._crashes[0]

    @contextmanager
    def _watching(self, destination: str, meanwhile: Meanwhile | None) -> Iterator[Job]:
        """Open a job, and watch it."""
        project = load_project(self.shop.folder)
        snapshot = current(project.state_folder)
        job = Job(project, destination, self.store, snapshot, clock=self.clock.now)
        connector = job.connector
        assert isinstance(connector, Mailchimp)
        # One request at a time, so that it goes the same twice.
        connector.capabilities = replace(connector.capabilities, concurrency=1)
        self.watchman.begin(destination, self._table(), self.clock.now(), meanwhile)
        try:
            with job:
                yield job
        finally:
            self.watchman.watch = None
            self.store.settlements.__dict__.pop("settle", None)  # whoever was killed is dead by now

    # Who watches

    def _saw(self, destination: str, exchange: Exchange) -> None:
        watch = self.watchman.watch
        if watch is None or watch.destination != destination:
            return
        try:
            if exchange.method not in READS:
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
        self.run(first)
        late = [word for word in self.truth.words if word.where == second and not (word.known or word.agrees)]
        self.run(second)
        for destination in DESTINATIONS:
            if self.watchman.missed(destination) or (late and destination == first):
                self.run(destination)
            self.watchman.wrong += self.watchman.missed(destination)


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
