"""The gate decides set-wise exactly as it decides for one, and lets nothing raise a consent on its own."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segue.core.consent import ConsentRecord, ConsentState, Regime, effective, merge
from segue.core.errors import ConsentError
from segue.core.model import Change, Grant, Operation, Outcome, OutcomeStatus, WithheldReason
from segue.sync.gate import INSTANTS, SENTENCES, Standing, admit, basis_in, certify, decide, of_former

DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)
GRANT = Grant(granted_at=DAY_ZERO, source="shop", evidence={"form": "checkout"})
DEPARTED = {ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED}
instants = st.integers(0, 5).map(lambda day: DAY_ZERO + timedelta(days=day))


def _confirmed_is_granted(record: ConsentRecord) -> ConsentRecord:
    """As `record` and `merge` make them: who confirmed a grant gave one."""
    said = [at for at in (record.granted_at, record.confirmed_at) if at]
    return dataclasses.replace(record, granted_at=max(said, default=None))


records = st.builds(
    ConsentRecord, **{slot.name: st.none() | instants for slot in dataclasses.fields(ConsentRecord)}
).map(_confirmed_is_granted)
standings = st.builds(
    Standing,
    record=records,
    remote=st.none() | st.sampled_from(ConsentState),
    grant=st.none() | st.just(GRANT),
)


def _change(operation: Operation, **more: Any) -> Change:
    return dataclasses.replace(Change(contact_key=1, operation=operation, address="ada@shop.example"), **more)


@settings(deadline=None, max_examples=25)
@given(st.lists(records, min_size=1, max_size=20))
def test_a_set_is_decided_by_the_function_that_decides_for_one(some: list[ConsentRecord]) -> None:
    known = [(record, regime) for record in some for regime in Regime]
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'").fetchall()
    columns = ", ".join(f"{name} TIMESTAMP" for name in INSTANTS)
    con.execute(f"CREATE TABLE records (contact_key BIGINT, law VARCHAR, {columns})").fetchall()
    con.executemany(
        f"INSERT INTO records VALUES (?, ?{', ?' * len(INSTANTS)})",
        [
            [key, regime.value, *(at and at.replace(tzinfo=None) for at in dataclasses.astuple(record))]
            for key, (record, regime) in enumerate(known)
        ],
    ).fetchall()
    decide(con, "records", "states", regime="law")
    rows = con.execute("SELECT contact_key, state FROM states").fetchall()
    decided = dict(rows)
    assert len(rows) == len(known)
    con.execute("CREATE VIEW fewer AS SELECT * EXCLUDE (confirmed_at, resident_at) FROM records").fetchall()
    decide(con, "fewer", "states")
    plain = dict(con.execute("SELECT contact_key, state FROM states").fetchall())
    con.close()
    assert decided == {key: effective(record, regime).value for key, (record, regime) in enumerate(known)}
    assert plain == {key: effective(record).value for key, (record, _) in enumerate(known)}


@given(records, st.sampled_from(Regime))
def test_no_law_lets_anybody_be_mailed_who_left_or_was_asked(record: ConsentRecord, regime: Regime) -> None:
    """A project's regimes can only take the grant's place: of whom anything else is known, opt-in decides."""
    asked = effective(record)
    if asked is not ConsentState.UNKNOWN:
        assert effective(record, Regime.OPT_OUT) is asked
    assert (asked in DEPARTED) == (effective(record, regime) in DEPARTED)
    if effective(record, Regime.DOUBLE_OPT_IN) is ConsentState.SUBSCRIBED:
        assert record.confirmed_at is not None


@given(standings, st.sampled_from(["US", "FR", None]), st.booleans())
def test_a_create_without_a_grant_rests_on_the_law_of_its_country_and_nothing_else(
    standing: Standing, country: str | None, double_opt_in: bool
) -> None:
    regime = Regime.OPT_OUT if country == "US" else Regime.OPT_IN
    basis = basis_in(country, regime, DAY_ZERO)
    standing = dataclasses.replace(standing, regime=regime, basis=basis)
    answer = admit(_change(Operation.CREATE), standing, double_opt_in=double_opt_in)
    if isinstance(answer, Change) and answer.grant is not GRANT:
        assert effective(standing.record) is ConsentState.UNKNOWN
        assert standing.remote not in DEPARTED
        assert answer.grant is not None
        assert answer.grant.evidence == {"country": "US", "setting": "consent.regimes.US: opt_out"}
        certify([answer])
    if effective(standing.record) is ConsentState.UNKNOWN and standing.record.resident_at is not None:
        assert isinstance(answer, Outcome)


def test_an_opt_out_law_without_a_basis_creates_nobody() -> None:
    standing = Standing(record=ConsentRecord(), remote=None, grant=None, regime=Regime.OPT_OUT)
    assert isinstance(admit(_change(Operation.CREATE), standing, double_opt_in=False), Outcome)
    assert basis_in("FR", Regime.OPT_IN, DAY_ZERO) is None
    assert basis_in(None, Regime.OPT_OUT, DAY_ZERO) is None


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


@given(standings, st.sampled_from([Operation.UPDATE, Operation.READDRESS]))
def test_where_silence_is_mailed_an_update_needs_a_yes(standing: Standing, operation: Operation) -> None:
    """HubSpot and Klaviyo mail whoever is there: more data, or a list, would be what mails them."""
    silent = dataclasses.replace(standing, shows_consent=False)
    if isinstance(admit(_change(operation), silent, double_opt_in=False), Change):
        assert effective(standing.record) is ConsentState.SUBSCRIBED


@given(standings)
def test_the_opt_out_of_a_plan_and_an_untag_always_pass(standing: Standing) -> None:
    out = admit(_change(Operation.OPT_OUT), standing, double_opt_in=True)
    assert isinstance(out, Change)
    assert out.consent is ConsentState.UNSUBSCRIBED
    untag = _change(Operation.UNTAG, tags=("segue: VIP",))
    assert admit(untag, standing, double_opt_in=True) is untag


@given(standings)
def test_an_opt_out_that_waited_ends_no_newer_yes(standing: Standing) -> None:
    waited = dataclasses.replace(standing, urged=True)
    out = admit(_change(Operation.OPT_OUT), waited, double_opt_in=True)
    assert isinstance(out, Outcome) is (effective(standing.record) is ConsentState.SUBSCRIBED)


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
