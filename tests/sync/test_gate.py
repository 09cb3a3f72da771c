"""The gate decides set-wise exactly as it decides for one, and lets nothing raise a consent on its own."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segue.core.consent import ConsentRecord, ConsentState, effective, merge
from segue.core.errors import ConsentError
from segue.core.model import Change, Grant, Operation, Outcome, OutcomeStatus, WithheldReason
from segue.sync.gate import INSTANTS, SENTENCES, Standing, admit, certify, decide, of_former

DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)
GRANT = Grant(granted_at=DAY_ZERO, source="shop", evidence={"form": "checkout"})
DEPARTED = {ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED}
instants = st.integers(0, 5).map(lambda day: DAY_ZERO + timedelta(days=day))
records = st.builds(
    ConsentRecord, **{slot.name: st.none() | instants for slot in dataclasses.fields(ConsentRecord)}
)
standings = st.builds(
    Standing,
    record=records,
    remote=st.none() | st.sampled_from(ConsentState),
    grant=st.none() | st.just(GRANT),
)


def _change(operation: Operation, **more: Any) -> Change:
    return dataclasses.replace(Change(contact_key=1, operation=operation, address="ada@shop.example"), **more)


@settings(deadline=None, max_examples=25)
@given(st.lists(records, min_size=1, max_size=60))
def test_a_set_is_decided_by_the_function_that_decides_for_one(known: list[ConsentRecord]) -> None:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'").fetchall()
    columns = ", ".join(f"{name} TIMESTAMP" for name in INSTANTS)
    con.execute(f"CREATE TABLE records (contact_key BIGINT, {columns})").fetchall()
    con.executemany(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
        [
            [key, *(at and at.replace(tzinfo=None) for at in dataclasses.astuple(record))]
            for key, record in enumerate(known)
        ],
    ).fetchall()
    decide(con, "records", "states")
    decided = dict(con.execute("SELECT contact_key, state FROM states").fetchall())
    con.close()
    assert decided == {key: effective(record).value for key, record in enumerate(known)}


@given(records, records)
def test_two_records_that_let_a_person_stay_make_one_that_does(
    one: ConsentRecord, other: ConsentRecord
) -> None:
    """So that a plan may pass over whom neither has left: see `diff.compare`."""
    assume(effective(one) not in DEPARTED)
    assume(effective(other) not in DEPARTED)
    assert effective(merge(one, other)) not in DEPARTED


@given(records, records)
def test_the_record_of_a_former_address_raises_nobody_and_holds_who_left_there(
    former: ConsentRecord, now: ConsentRecord
) -> None:
    left, state = effective(of_former(former)), effective(merge(now, of_former(former)))
    assert left is (effective(former) if effective(former) in DEPARTED else ConsentState.UNKNOWN)
    lower = {ConsentState.PENDING} if effective(now) is ConsentState.SUBSCRIBED else set()
    assert state in {effective(now), *lower, *DEPARTED}


@given(standings, st.booleans())
def test_a_create_states_a_consent_only_on_an_evidenced_grant_that_still_stands(
    standing: Standing, double_opt_in: bool
) -> None:
    answer = admit(_change(Operation.CREATE), standing, double_opt_in=double_opt_in)
    left = standing.remote in {ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED}
    stands = effective(standing.record) is ConsentState.SUBSCRIBED and standing.grant is not None and not left
    if stands:
        assert isinstance(answer, Change)
        assert answer.consent is (ConsentState.PENDING if double_opt_in else ConsentState.SUBSCRIBED)
        certify([answer])
    else:
        assert isinstance(answer, Outcome)
        assert answer.status is OutcomeStatus.WITHHELD


@given(standings, st.sampled_from([Operation.UPDATE, Operation.READDRESS]))
def test_an_update_states_no_consent_and_spares_who_left(standing: Standing, operation: Operation) -> None:
    answer = admit(_change(operation), standing, double_opt_in=False)
    if isinstance(answer, Change):
        assert answer.consent is None
        assert effective(standing.record) not in {ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED}
        assert standing.remote in {ConsentState.SUBSCRIBED, ConsentState.PENDING}


@given(standings)
def test_an_opt_out_and_an_untag_always_pass(standing: Standing) -> None:
    out = admit(_change(Operation.OPT_OUT), standing, double_opt_in=True)
    assert isinstance(out, Change)
    assert out.consent is ConsentState.UNSUBSCRIBED
    untag = _change(Operation.UNTAG, tags=("segue: VIP",))
    assert admit(untag, standing, double_opt_in=True) is untag


@pytest.mark.parametrize(
    "change",
    [
        _change(Operation.CREATE),
        _change(Operation.CREATE, consent=ConsentState.SUBSCRIBED),
        _change(Operation.CREATE, consent=ConsentState.UNKNOWN, grant=GRANT),
        _change(Operation.UPDATE, consent=ConsentState.SUBSCRIBED),
        _change(Operation.UPDATE, consent=ConsentState.SUBSCRIBED, grant=GRANT),
        _change(Operation.READDRESS, consent=ConsentState.PENDING, grant=GRANT),
        _change(Operation.OPT_OUT, consent=ConsentState.SUBSCRIBED),
        _change(Operation.UNTAG, consent=ConsentState.SUBSCRIBED, tags=("x",)),
    ],
    ids=lambda change: f"{change.operation}-{change.consent}",
)
def test_a_batch_that_skipped_the_gate_is_refused_loudly(change: Change) -> None:
    with pytest.raises(ConsentError, match="bug in Segue"):
        certify([change])


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(WithheldReason)
