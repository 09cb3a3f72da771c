"""One claimed batch on its way: through the gate, out by the connector, and back as settlements.

`connector.write` is called in one place, `Courier._send`, directly after the gate. What a courier brings back is stored
by `apply`, so that several can be under way at the same time. One thing it writes itself, and before it sends: on which
law a create rests that rests on no grant, so that a lost answer cannot lose it.

What an ESP takes without doing it at once is waited for (`Polling`), so that who asks for what comes after finds it done.

Nothing is resent here: what may succeed later goes back to the outbox, and so through the gate again, because a resend
would carry an answer of the gate that is older than the person's last word. What a batch is refused for as a whole
hides in one of its items: it is halved until that one stands alone, each half gated anew.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any, Final

from ...connectors.base import Connector
from ...connectors.limiter import urgent
from ...core.consent import (
    NOTHING_RECORDED,
    ConsentAct,
    ConsentEntry,
    merge_all,
)
from ...core.errors import DestinationError, OutcomeUnknownError, RejectedBatchError, RetryableError
from ...core.model import Change, ContactState, Operation, Outcome, OutcomeStatus
from ...core.regimes import ConsentConfig
from ..gate import Standing, admit, basis_in, certify, of_former, rests_on_law
from ..store.consents import LedgerEntry
from ..store.outbox_row import URGENT, OutboxRow
from ..store.settlement import Settlement
from ..store.store import Store
from .meaning import NEXT_RUN, Carried, Meaning
from .polling import Polling, is_job

# From this try on a batch that the ESP falls over is halved, until so many pieces have failed.
_HALVED_FROM: Final = 3
_FAILURES: Final = 40
_BLIND_FAILURES: Final = 7  # the whole, both halves and all quarters: then it is the account after all


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one claimed batch. `error` is set when the account failed, for all of it or a part."""

    settlements: tuple[Settlement, ...]
    error: DestinationError | None = None
    seconds: float = 0.0


class Courier:
    """Takes batches of one destination out. Safe to share between threads, a contact in one of them at a time."""

    def __init__(
        self,
        connector: Connector,
        store: Store,
        destination: str,
        *,
        double_opt_in: bool,
        regimes: ConsentConfig,
        run_id: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._connector = connector
        self._store = store
        self._destination = destination
        self._double_opt_in = double_opt_in
        self._regimes = regimes
        self._run_id = run_id
        self._clock = clock
        self.polling = Polling(connector, store, clock)
        self._meaning = Meaning(connector, store, destination, clock)

    def carry(self, rows: Sequence[OutboxRow], *, troubled: bool) -> Delivery:
        """Gate and send one batch, in pieces if need be.

        `troubled` says that the account has served nobody well since it last failed.
        """
        back: list[Settlement] = []
        error: DestinationError | None = None
        served, failures = False, 0
        pieces = deque([rows])
        while pieces:
            rows = pieces.popleft()
            passed: list[Carried] = []
            try:
                met = self._met(rows)
                passed, withheld = self._gate(rows)
                back += [self._meaning.not_done(row, outcome) for row, outcome in withheld]
                if not passed:
                    continue
                rows = [each.row for each in passed]
                outcomes = self._send(passed, met)
            except RejectedBatchError as refusal:
                served = True
                if len(rows) > 1:
                    pieces.extend(_halves(rows))
                    continue
                refused = Outcome(status=OutcomeStatus.REJECTED, code=refusal.code, reason=refusal.message)
                back += [self._meaning.not_done(row, refused) for row in rows]
            except OutcomeUnknownError as lost:
                unknown = Outcome(status=OutcomeStatus.UNKNOWN, code="no_answer", reason=lost.message)
                later = self._meaning.later(rows)
                back += [Settlement(row=row, outcome=unknown, not_before=later) for row in rows]
            except DestinationError as failure:
                failures += 1
                tried = max(row.attempts for row in rows) + 1
                ours = tried >= _HALVED_FROM and self._is_ours(failure, served=served, troubled=troubled)
                if ours and len(rows) > 1 and failures < (_FAILURES if served else _BLIND_FAILURES):
                    pieces.extend(_halves(rows))
                    continue
                error = failure
                if ours and (served or len(rows) == 1):
                    back += self._put_off(rows, failure, not_before=self._clock() + NEXT_RUN)
                    continue
                rows = [*rows, *chain.from_iterable(pieces)]
                back += self._put_off(rows, failure, not_before=self._after(failure, tried))
                break
            else:
                served = True
                back += self._meaning.settlements(passed, outcomes)
        return Delivery(settlements=tuple(back), error=self._at_work(back) or (None if served else error))

    def _at_work(self, settlements: Sequence[Settlement]) -> DestinationError | None:
        """Say why a run ends where a job is still open: no later change of its contacts may go into another one."""
        open_ = [each.outcome for each in settlements if is_job(each.outcome.job)]
        if not open_:
            return None
        return DestinationError(
            f"{self._connector.label}: a job that was given to it is not done. {open_[0].reason} Nothing more was sent."
        )

    def _gate(self, rows: Sequence[OutboxRow]) -> tuple[list[Carried], list[tuple[OutboxRow, Outcome]]]:
        """Ask the gate about each row, with what the store knows now."""
        told = [row.said() for row in rows]
        changes = [row.change(said) for row, said in zip(rows, told, strict=True)]
        keys = self._store.keys
        subjects = [
            [row.contact_key, row.address_key]
            + ([keys.address_key(change.previous_address)] if change.previous_address else [])
            for row, change in zip(rows, changes, strict=True)
        ]
        everyone = {key for group in subjects for key in group}
        if self._connector.capabilities.tags_as_one:
            changes = self._with_tags(changes, told)
        if self._connector.capabilities.by_record_id:
            ids = self._store.destinations.record_ids(self._destination, {group[-1] for group in subjects})
            changes = [
                replace(change, record_id=ids.get(group[-1], ""))
                for change, group in zip(changes, subjects, strict=True)
            ]
        records = self._store.consents.records(everyone)
        remote = self._store.destinations.states(self._destination, everyone)
        creates = rows[0].operation is Operation.CREATE
        grants = self._store.consents.grants(everyone) if creates else {}
        passed, withheld = [], []
        for row, said, change, group in zip(rows, told, changes, subjects, strict=True):
            record, here, *former = (records.get(key, NOTHING_RECORDED) for key in group)
            country = said.get("country")
            regime = self._regimes.regime_of(country)
            standing = Standing(
                record=merge_all([record, here, *map(of_former, former)]),
                remote=remote.get(group[-1]),
                grant=max(
                    (grants[key] for key in group if key in grants), key=lambda g: g.granted_at, default=None
                ),
                regime=regime,
                basis=basis_in(country, regime, self._clock()),
                urged=row.plan_id == URGENT,
                shows_consent=self._connector.capabilities.shows_consent,
            )
            answer = admit(change, standing, double_opt_in=self._double_opt_in)
            if isinstance(answer, Change):
                passed.append(Carried(row=row, said=said, change=answer))
            else:
                withheld.append((row, answer))
        return passed, withheld

    def _with_tags(self, changes: Sequence[Change], told: Sequence[Mapping[str, Any]]) -> list[Change]:
        """Tell changes of tags which ones their contacts have, for ESPs where all of them are one value."""
        concerned = {change.contact_key for change in changes if change.tags}
        held = self._store.baselines.payloads(self._destination, concerned)
        return [
            replace(change, tags_held=self._tags_held(said, held.get(change.contact_key)))
            if change.tags
            else change
            for change, said in zip(changes, told, strict=True)
        ]

    def _tags_held(self, said: Mapping[str, Any], text: str | None) -> frozenset[str]:
        return frozenset() if text is None or said.get("whole") else ContactState.parse(text).tags

    def _say_basis(self, passed: Sequence[Carried]) -> None:
        """Write down what creates without a grant rest on."""
        if not passed:
            return
        self._store.consents.append(
            (
                LedgerEntry(
                    subject_key=each.row.contact_key,
                    subject_kind="contact",
                    entry=ConsentEntry(
                        act=ConsentAct.BASIS,
                        occurred_at=grant.granted_at,
                        source=grant.source,
                        evidence=grant.evidence,
                    ),
                )
                for each in passed
                if (grant := each.change.grant)
            ),
            run_id=self._run_id,
        )

    def _send(self, passed: Sequence[Carried], met: Mapping[int, Outcome]) -> list[Outcome]:
        sent = [each for each in passed if each.row.id not in met]
        self._say_basis([each for each in sent if each.change.grant and rests_on_law(each.change.grant)])
        changes = [each.change for each in sent]
        certify(changes)
        outcomes: Sequence[Outcome] = ()
        if changes:
            operation = changes[0].operation
            with urgent() if operation is Operation.OPT_OUT else nullcontext():
                carried = [each.row for each in sent]
                announced = self.polling.announce(carried)
                try:
                    outcomes = self._connector.write(operation, changes)
                except OutcomeUnknownError:
                    if not announced:
                        raise
                    outcomes = [Outcome(status=OutcomeStatus.ACCEPTED)] * len(
                        changes
                    )  # whoever it took shows
                outcomes = self.polling.note(carried, outcomes, announced)
                outcomes = self.polling.ended(changes, outcomes)
        if len(outcomes) != len(changes):
            raise DestinationError(
                f"connector {self._connector.name}: {len(outcomes)} outcomes for {len(changes)} changes. A bug there."
            )
        answers = iter(outcomes)
        return [met[each.row.id] if each.row.id in met else next(answers) for each in passed]

    def _met(self, rows: Sequence[OutboxRow]) -> dict[int, Outcome]:
        """Give whom an earlier try of their create made after all, by row: asked, because the same bytes may raise them.

        Whoever was archived since then would come back. A read each, and only after a try that failed: before the
        gate, whose answer would be old when hundreds were read.
        """
        again = [row for row in rows if row.attempts > 0 and row.operation is Operation.CREATE]
        found = self._connector.read([row.address for row in again]) if again else []
        return {
            row.id: Outcome(status=OutcomeStatus.EXISTS, seen=contact, record_id=contact.record_id)
            for row, contact in zip(again, found, strict=True)
            if contact is not None
        }

    def _put_off(
        self, rows: Sequence[OutboxRow], error: DestinationError, *, not_before: datetime
    ) -> list[Settlement]:
        outcome = Outcome(status=OutcomeStatus.DEFERRED, code=type(error).__name__, reason=error.message)
        free = isinstance(error, RetryableError) and error.throttled
        return [Settlement(row=row, outcome=outcome, not_before=not_before, free=free) for row in rows]

    def _after(self, error: DestinationError, tried: int) -> datetime:
        """Say when what the account failed is tried again: soon, if that passes by itself."""
        if isinstance(error, RetryableError):
            return self._meaning.again_at(tried, error.retry_after)
        return self._clock() + NEXT_RUN

    def _is_ours(self, error: DestinationError, *, served: bool, troubled: bool) -> bool:
        """Whether a failure that comes again is about what is in the batch: the account answers all else."""
        if not isinstance(error, RetryableError) or error.throttled:
            return False
        return served or not troubled or self._answers()

    def _answers(self) -> bool:
        """Whether the account answers at all: a read or two."""
        try:
            self._connector.check()
        except DestinationError:
            return False
        return True


def _halves(rows: Sequence[OutboxRow]) -> tuple[Sequence[OutboxRow], Sequence[OutboxRow]]:
    middle = len(rows) // 2
    return rows[:middle], rows[middle:]
