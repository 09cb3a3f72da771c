"""What an ESP's answers mean for a batch: baselines, seen states, and when it is tried again.

Nothing is sent and nothing is stored here; `apply` and `doubt` store what is made of it.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from ...connectors.base import Connector
from ...core.consent import MAILABLE, ConsentState
from ...core.model import Change, ContactState, Operation, Outcome, OutcomeStatus
from ..store.outbox_row import OutboxRow
from ..store.settlement import Settlement
from ..store.store import Store

NEXT_RUN: Final = timedelta(minutes=10)
"""Rows put off for so long are left to the next run."""

# A lost answer is asked for again so often in one run.
_ATTEMPTS: Final = 4
_LONGEST_WAIT = 30.0

_ARRIVING: Final = "The ESP accepted to make this contact and does not show it yet; asked again later."
_PUT_OFF: Final = frozenset({OutcomeStatus.UNSENT, OutcomeStatus.DEFERRED})
_THERE: Final = frozenset({OutcomeStatus.EXISTS, OutcomeStatus.MADE})
_ARRIVED: Final = _THERE | {OutcomeStatus.APPLIED}
_ARRIVES: Final = frozenset({Operation.CREATE, Operation.READDRESS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """One row that went out: `said` is its payload, `change` what was sent of it."""

    row: OutboxRow
    said: Mapping[str, Any]
    change: Change


class Meaning:
    """Reads the outcomes of one destination's batches."""

    def __init__(
        self, connector: Connector, store: Store, destination: str, clock: Callable[[], datetime]
    ) -> None:
        self._connector = connector
        self._store = store
        self._destination = destination
        self._clock = clock

    def again_at(self, attempts: int, after: float | None = None) -> datetime:
        """Say when a whole batch is tried again: one moment for all of it, or it would come back in pieces."""
        first = self._connector.transport.patience.first_wait
        wait = min(first * 2 ** min(attempts - 1, 10), _LONGEST_WAIT)
        wait *= random.uniform(0.5, 1)  # noqa: S311 - so that batches that failed together do not return together
        return self._clock() + timedelta(seconds=wait if after is None else after)

    def settlements(self, carried: Sequence[Carried], outcomes: Sequence[Outcome]) -> list[Settlement]:
        """Say what one batch's outcomes mean, in order; none may be merely accepted."""
        contacts = {key for each in carried for key in (each.row.contact_key, *each.said.get("heir_of", ()))}
        held = {
            key: ContactState.parse(text)
            for key, text in self._store.baselines.payloads(self._destination, contacts).items()
        }
        later = self.later([each.row for each in carried])
        return [
            Settlement(
                row=each.row,
                outcome=outcome,
                not_before=self._clock() + NEXT_RUN if outcome.job else later,
            )
            if outcome.status is OutcomeStatus.UNKNOWN
            else self._settlement(each, outcome, held)
            for each, outcome in zip(carried, outcomes, strict=True)
        ]

    def later(self, rows: Sequence[OutboxRow]) -> datetime:
        """Say when it is asked again what came of a batch: soon a few times, then in the next run."""
        attempts = max(row.attempts for row in rows) + 1
        return self.again_at(attempts) if attempts < _ATTEMPTS else self._clock() + NEXT_RUN

    def not_done(self, row: OutboxRow, outcome: Outcome) -> Settlement:
        """Settle what is not to be, unless an earlier try may have happened: then the next run looks into that."""
        stopped = outcome.status is OutcomeStatus.WITHHELD or (
            outcome.status is OutcomeStatus.REJECTED and outcome.seen is not None
        )
        if row.attempts == 0 or row.operation is Operation.OPT_OUT or not stopped:
            return Settlement(row=row, outcome=outcome)
        unknown = replace(outcome, status=OutcomeStatus.UNKNOWN)
        return Settlement(row=row, outcome=unknown, not_before=self._clock() + NEXT_RUN)

    def _opted_out(self, row: OutboxRow, outcome: Outcome) -> Settlement:
        """Say what an opt-out means. Whoever is no longer there was erased, and must not come back; who never arrived may."""
        shown: ConsentState | None = outcome.seen.state if outcome.seen else ConsentState.UNSUBSCRIBED
        if outcome.status is OutcomeStatus.UNCHANGED and outcome.seen is None:
            here, keys = self._destination, [row.address_key]
            if self._connector.capabilities.jobs and self._store.outbox.arrivals_at(here, keys):
                waits = replace(outcome, status=OutcomeStatus.UNKNOWN, code="arriving", reason=_ARRIVING)
                return Settlement(row=row, outcome=waits, not_before=self.later([row]))
            shown = shown if row.address_key in self._store.destinations.states(here, keys) else None
        return Settlement(row=row, outcome=outcome, remote_state=shown)

    def _settlement(self, sent: Carried, outcome: Outcome, held: Mapping[int, ContactState]) -> Settlement:
        """Say what an outcome means for baseline and seen state."""
        row, said, change = sent.row, sent.said, sent.change
        if outcome.status in _PUT_OFF:
            later = self._clock() + NEXT_RUN if outcome.status is OutcomeStatus.DEFERRED else None
            return Settlement(row=row, outcome=outcome, not_before=later)
        stated_at = change.grant.granted_at if change.grant else None
        if outcome.status in _THERE and outcome.seen:
            # Whom an earlier try may have made exists; who is just made is ours, with nothing in it yet.
            made = outcome.status is OutcomeStatus.MADE
            return Settlement(
                row=row,
                outcome=outcome,
                baseline=ContactState(address=row.address) if made else None,
                remote_state=outcome.seen.state,
                stated_at=stated_at,
                arrived=made,
            )
        if outcome.status not in {OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED}:
            return self.not_done(row, outcome)
        before = None if said.get("whole") else held.get(row.contact_key)
        match change.operation:
            case Operation.OPT_OUT:
                return self._opted_out(row, outcome)
            case Operation.UNTAG if before is None:
                return Settlement(row=row, outcome=outcome)
            case _:
                state, vacated = change.consent, None
                if change.previous_address is not None:  # the person's state moves along with the address
                    vacated = self._store.keys.address_key(change.previous_address)
                    state = self._store.destinations.states(self._destination, [vacated]).get(vacated)
                    if outcome.seen is not None:
                        state, stated_at = outcome.seen.state, outcome.seen.opted_in_at
                    # What they said before they moved is no word of who has the new address.
                    if state in MAILABLE:
                        outcome = replace(outcome, seen=None, record_id=name_of(outcome))
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
                    stated_at=stated_at,
                    arrived=before is None or vacated is not None,
                    vacated=vacated,
                    ended=tuple(ended),
                )


def named(settlements: Sequence[Settlement]) -> dict[str, int]:
    """Give the ESP's own names of contacts that we made or moved, with the keys of their addresses.

    Whoever takes another address there before the next pull is known by them.
    """
    return {
        name: each.row.address_key
        for each in settlements
        if each.row.operation in _ARRIVES
        and each.outcome.status in _ARRIVED
        and (name := name_of(each.outcome))
    }


def name_of(outcome: Outcome) -> str:
    """Give the ESP's own name of a contact, "" where an answer tells none."""
    return outcome.record_id or (outcome.seen.name if outcome.seen else "")
