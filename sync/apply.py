"""A plan becomes requests, answers become outcomes: in batches, resumable at any point, through the gate each time.

A plan's steps go into the outbox first. From there batches are claimed, pass the gate with what is known at that
very moment, are sent, and are settled: outcome, baseline and seen state in one transaction. A run that is killed
leaves claimed rows behind; the next one takes them up again, which is safe because every write may be repeated.

`connector.write` is called in one place, `_Courier._send`, directly after the gate.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..connectors.base import Connector
from ..core.consent import ConsentRecord, ConsentState
from ..core.errors import DestinationError, OutcomeUnknownError, RejectedBatchError, RetryableError
from ..core.model import Change, ContactState, Operation, Outcome, OutcomeStatus
from .gate import admit, certify, standing_of
from .inbound import People, observe
from .plan import Plan
from .store.leases import Lease
from .store.outbox import ITEMS, OutboxRow
from .store.runs import PlanStatus
from .store.settlement import Settlement
from .store.store import Store

LEASE: Final = timedelta(minutes=10)
_ROWS: Final = 5_000
# A change whose answer was lost is sent again at once so often; after that the next run asks again.
_ATTEMPTS: Final = 3

Progress = Callable[[str, float], None]


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the changes of one run, counted."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (operation, status)
    codes: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # (status, code, sentence)
    stale: int = 0

    def count(self, status: OutcomeStatus) -> int:
        """Give how many changes ended so."""
        return sum(number for (_, known), number in self.outcomes.items() if known == status)

    def report(self) -> dict[str, Any]:
        """Give the run report's part as plain JSON."""
        by_operation: dict[str, dict[str, int]] = {}
        for (operation, status), number in sorted(self.outcomes.items()):
            by_operation.setdefault(operation, {})[status] = number
        return {
            "outcomes": by_operation,
            "reasons": [
                {"status": status, "code": code, "reason": reason, "count": number}
                for (status, code, reason), number in self.codes.most_common()
            ],
            "stale": self.stale,
        }


def enqueue(plan: Plan, store: Store) -> int:
    """Put a plan's steps into the outbox; give how many are stale, their baseline having moved since the plan.

    Until the last one is in, the plan counts as planned and nothing of it is sent: killed here, it starts anew.
    """
    stale = 0

    def fresh() -> Iterator[pa.RecordBatch]:
        nonlocal stale
        for batch in pq.ParquetFile(plan.steps).iter_batches(_ROWS):
            rows = batch.to_pylist()
            hashes = store.baselines.hashes(plan.destination, {row["contact_key"] for row in rows})
            # A withdrawal does not go stale: an opt-out is sent whatever else became of the contact.
            items = [
                _item(row)
                for row in rows
                if row["operation"] == Operation.OPT_OUT
                or hashes.get(row["contact_key"]) == row["before_hash"]
            ]
            stale += len(rows) - len(items)
            yield pa.RecordBatch.from_pylist(items, schema=ITEMS)

    store.outbox.enqueue(plan.plan_id, plan.destination, fresh())
    store.plans.set_status(plan.plan_id, PlanStatus.APPLYING)
    return stale


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give one step as an outbox row: what differs, and not what it was."""
    before, after = (ContactState.parse(text) if text else None for text in (row["before"], row["after"]))
    payload: dict[str, Any] = {}
    match Operation(row["operation"]):
        case Operation.UNTAG:
            payload = {"tags": [row["group_key"]]}
        case Operation.CREATE | Operation.UPDATE | Operation.READDRESS as operation if after is not None:
            old = before or ContactState(address=after.address)
            payload = {
                "fields": {
                    tag: after.fields.get(tag)
                    for tag in sorted({*old.fields, *after.fields})
                    if old.fields.get(tag) != after.fields.get(tag)
                }
                | dict.fromkeys(row["clears"] or ()),
                "tags": sorted(after.tags - old.tags),
                "whole": before is None,
                "heir_of": row["heir_of"] or [],
            }
            if operation is Operation.READDRESS:
                payload["previous_address"] = old.address
        case _:
            pass
    return {
        **{
            name: row[name]
            for name in ("contact_key", "operation", "group_key", "rank", "address", "address_key")
        },
        "payload": json.dumps(payload, ensure_ascii=False),
        "before_hash": row["before_hash"],
        "desired_hash": row["after_hash"],
    }


def deliver(  # noqa: PLR0913  # each is a part of the world that a delivery touches
    connector: Connector,
    store: Store,
    lease: Lease,
    *,
    people: People,
    double_opt_in: bool,
    run_id: str,
    clock: Callable[[], datetime],
    progress: Progress,
    tally: Tally,
) -> None:
    """Send all that waits in the outbox of the lease's destination, counting into `tally`.

    Raises DestinationError when the account or the network fails; what was settled until then stays settled, is in
    the tally, and what was not waits for the next run.
    """
    courier = _Courier(connector, store, lease, people, double_opt_in, run_id, clock, tally)
    store.outbox.release_claims(lease)
    waiting = max(1, sum(store.outbox.pending_counts(lease.destination).values()))
    done = 0
    while rows := store.outbox.claim(lease, connector.capabilities.batch_sizes):
        courier.deliver(rows)
        done += len(rows)
        progress(rows[0].operation.value, min(1.0, done / waiting))


class _Courier:
    """Takes claimed rows through gate, connector and settlement."""

    def __init__(  # as for deliver
        self,
        connector: Connector,
        store: Store,
        lease: Lease,
        people: People,
        double_opt_in: bool,  # noqa: FBT001
        run_id: str,
        clock: Callable[[], datetime],
        tally: Tally,
    ) -> None:
        self.connector = connector
        self.store = store
        self.lease = lease
        self.people = people
        self.double_opt_in = double_opt_in
        self.run_id = run_id
        self.clock = clock
        self.tally = tally

    def deliver(self, rows: Sequence[OutboxRow]) -> None:
        """Gate, send and settle one claimed batch."""
        if self.lease.expires_at - self.clock() < LEASE / 2:
            self.lease = self.store.leases.heartbeat(self.lease)
        passed, withheld = self._gate(rows)
        self._settle([Settlement(row=row, outcome=outcome) for row, outcome in withheld])
        if not passed:
            return
        changes = [change for _, change in passed]
        try:
            outcomes = self._send(changes)
        except RejectedBatchError as error:
            if len(passed) > 1:
                # One poisoned item hides in it. Each half passes the gate again: somebody may have left meanwhile.
                middle = len(passed) // 2
                self.deliver([row for row, _ in passed[:middle]])
                self.deliver([row for row, _ in passed[middle:]])
                return
            outcomes = [Outcome(status=OutcomeStatus.REJECTED, code=error.code, reason=error.message)]
        except OutcomeUnknownError as error:
            unknown = Outcome(status=OutcomeStatus.UNKNOWN, code="no_answer", reason=error.message)
            outcomes = [unknown] * len(changes)
        except DestinationError as error:
            # The account fails: free the rows for the next run before this one ends.
            deferred = Outcome(status=OutcomeStatus.DEFERRED, code=type(error).__name__, reason=error.message)
            self._settle([Settlement(row=row, outcome=deferred) for row, _ in passed])
            raise
        self._conclude(passed, outcomes)

    def _gate(
        self, rows: Sequence[OutboxRow]
    ) -> tuple[list[tuple[OutboxRow, Change]], list[tuple[OutboxRow, Outcome]]]:
        """Ask the gate about each row, with what the store knows now."""
        changes = [row.change() for row in rows]
        keys = self.store.keys
        subjects = [
            [row.contact_key, row.address_key]
            + ([keys.address_key(change.previous_address)] if change.previous_address else [])
            for row, change in zip(rows, changes, strict=True)
        ]
        everyone = {key for group in subjects for key in group}
        records = self.store.consents.records(everyone)
        remote = self.store.destinations.states(self.lease.destination, everyone)
        creates = rows[0].operation is Operation.CREATE
        grants = self.store.consents.grants(everyone) if creates else {}
        passed, withheld = [], []
        for row, change, group in zip(rows, changes, subjects, strict=True):
            standing = standing_of(
                [records.get(key, ConsentRecord()) for key in group],
                remote.get(group[-1]),
                max(
                    (grants[key] for key in group if key in grants), key=lambda g: g.granted_at, default=None
                ),
            )
            answer = admit(change, standing, double_opt_in=self.double_opt_in)
            if isinstance(answer, Change):
                passed.append((row, answer))
            else:
                withheld.append((row, answer))
        return passed, withheld

    def _send(self, changes: Sequence[Change]) -> list[Outcome]:
        certify(changes)
        outcomes = self.connector.write(changes[0].operation, changes)
        if len(outcomes) != len(changes):
            raise RetryableError(
                f"connector {self.connector.name}: {len(outcomes)} outcomes for {len(changes)} changes. A bug there."
            )
        return outcomes

    def _conclude(self, passed: Sequence[tuple[OutboxRow, Change]], outcomes: Sequence[Outcome]) -> None:
        """Settle what was answered; a contact that the answer showed is observed first."""
        destination = self.lease.destination
        seen = [outcome.seen for outcome in outcomes if outcome.seen is not None]
        if seen:
            observe(
                self.store,
                destination,
                seen,
                people=self.people,
                now=self.clock(),
                run_id=self.run_id,
            )
        told = [json.loads(row.payload) for row, _ in passed]
        contacts = {row.contact_key for row, _ in passed}.union(*(said.get("heir_of", ()) for said in told))
        held = {
            key: ContactState.parse(text)
            for key, text in self.store.baselines.payloads(destination, contacts).items()
        }
        self._settle(
            self._settlement(row, change, outcome, said, held)
            for (row, change), outcome, said in zip(passed, outcomes, told, strict=True)
        )

    def _settlement(
        self,
        row: OutboxRow,
        change: Change,
        outcome: Outcome,
        said: Mapping[str, Any],
        held: Mapping[int, ContactState],
    ) -> Settlement:
        """Say what an outcome means for baseline and seen state."""
        if outcome.status not in {OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED}:
            again = outcome.status in {OutcomeStatus.UNKNOWN, OutcomeStatus.DEFERRED}
            later = again and (outcome.status is OutcomeStatus.DEFERRED or row.attempts + 1 >= _ATTEMPTS)
            return Settlement(
                row=row, outcome=outcome, not_before=self.clock() + timedelta(minutes=1) if later else None
            )
        before = None if said.get("whole") else held.get(row.contact_key)
        match change.operation:
            case Operation.OPT_OUT:
                # Whoever is no longer there was erased, and must not come back either.
                shown = outcome.seen.state if outcome.seen else ConsentState.UNSUBSCRIBED
                return Settlement(row=row, outcome=outcome, remote_state=shown)
            case Operation.UNTAG if before is None:
                return Settlement(row=row, outcome=outcome)
            case _:
                state, vacated = change.consent, None
                if change.previous_address is not None:  # the person's state moves along with the address
                    vacated = self.store.keys.address_key(change.previous_address)
                    state = self.store.destinations.states(self.lease.destination, [vacated]).get(vacated)
                baseline = change.confirmed_on(before)
                # Another contact's baseline of this address is true no longer; one that has a tag to lose waits for it.
                ended = (
                    key for key in said.get("heir_of", ()) if key in held and held[key].tags <= baseline.tags
                )
                return Settlement(
                    row=row,
                    outcome=outcome,
                    baseline=baseline,
                    remote_state=state,
                    vacated=vacated,
                    ended=tuple(ended),
                )

    def _settle(self, settlements: Iterable[Settlement]) -> None:
        settled = list(settlements)
        if not settled:
            return
        self.store.settlements.settle(self.lease, self.run_id, settled)
        for each in settled:
            self.tally.outcomes[each.row.operation.value, each.outcome.status.value] += 1
            if each.outcome.reason:
                self.tally.codes[each.outcome.status.value, each.outcome.code, each.outcome.reason] += 1
