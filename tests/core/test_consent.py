"""The consent rules as properties, and the same properties held against broken rules, which they must catch."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from segue.core import consent
from segue.core.consent import ConsentAct, ConsentEntry, ConsentRecord, ConsentState, Regime

DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)
PROOF = {"form": "checkout", "text": "v3"}
CONFIRMED = {"form": "checkout", "confirmed_at": "2026-01-01T10:00:00Z"}

# Few distinct instants, so that ties and every order of acts come up all the time.
instants = st.integers(0, 6).map(lambda day: DAY_ZERO + timedelta(days=day))
entries = st.builds(
    ConsentEntry,
    act=st.sampled_from(ConsentAct),
    occurred_at=instants,
    source=st.sampled_from(["shop", "mailchimp", "import"]),
    evidence=st.sampled_from([{}, {"form": "  "}, PROOF, CONFIRMED]),
)
histories = st.lists(entries, max_size=6)
records = st.builds(
    ConsentRecord,
    **{slot.name: st.none() | instants for slot in dataclasses.fields(ConsentRecord)},
)


@dataclasses.dataclass(frozen=True)
class Rules:
    """The three functions under test, so that a property can be held against a broken set of them."""

    record: Callable[[ConsentEntry], ConsentRecord] = consent.record
    merge: Callable[[ConsentRecord, ConsentRecord], ConsentRecord] = consent.merge
    effective: Callable[[ConsentRecord], ConsentState] = consent.effective

    def merged(self, history: list[ConsentEntry]) -> ConsentRecord:
        return reduce(self.merge, map(self.record, history), ConsentRecord())

    def state(self, history: list[ConsentEntry]) -> ConsentState:
        return self.effective(self.merged(history))


RULES = Rules()
Property = Callable[[Rules], None]
# No shrinking: the broken rules below fail on purpose, hundreds of times.
quickly = settings(max_examples=120, deadline=None, database=None, derandomize=True, phases=[Phase.generate])


def _counts(entry: ConsentEntry) -> bool:
    return any(value.strip() for value in entry.evidence.values())


def merging_is_commutative(rules: Rules) -> None:
    @quickly
    @given(records, records)
    def check(one: ConsentRecord, other: ConsentRecord) -> None:
        assert rules.merge(one, other) == rules.merge(other, one)

    check()


def merging_is_associative(rules: Rules) -> None:
    @quickly
    @given(records, records, records)
    def check(one: ConsentRecord, two: ConsentRecord, three: ConsentRecord) -> None:
        assert rules.merge(rules.merge(one, two), three) == rules.merge(one, rules.merge(two, three))

    check()


def merging_twice_is_merging_once(rules: Rules) -> None:
    @quickly
    @given(records, records)
    def check(one: ConsentRecord, other: ConsentRecord) -> None:
        once = rules.merge(one, other)
        assert rules.merge(once, other) == once
        assert rules.merge(one, one) == one

    check()


def order_of_arrival_changes_nothing(rules: Rules) -> None:
    @quickly
    @given(histories, st.randoms(use_true_random=False))
    def check(history: list[ConsentEntry], random: object) -> None:
        shuffled = list(history)
        random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis types its Random loosely
        assert rules.state(shuffled) is rules.state(history)

    check()


def withdrawal_beats_every_grant_that_is_not_newer(rules: Rules) -> None:
    @quickly
    @given(histories, instants)
    def check(history: list[ConsentEntry], left_at: datetime) -> None:
        left = ConsentEntry(act=ConsentAct.WITHDRAWAL, occurred_at=left_at, source="mailchimp")
        newer = [e for e in history if e.act is ConsentAct.GRANT and _counts(e) and e.occurred_at > left_at]
        if not newer:
            assert rules.state([*history, left]) is not ConsentState.SUBSCRIBED

    check()


def nobody_is_subscribed_without_an_evidenced_grant(rules: Rules) -> None:
    @quickly
    @given(histories)
    def check(history: list[ConsentEntry]) -> None:
        granted = any(e.act is ConsentAct.GRANT and _counts(e) for e in history)
        assert granted or rules.state(history) is not ConsentState.SUBSCRIBED

    check()


def suppression_ends_only_by_a_later_release(rules: Rules) -> None:
    @quickly
    @given(histories, instants)
    def check(history: list[ConsentEntry], bounced_at: datetime) -> None:
        bounced = ConsentEntry(act=ConsentAct.SUPPRESSION, occurred_at=bounced_at, source="mailchimp")
        if not any(e.act is ConsentAct.RELEASE and e.occurred_at > bounced_at for e in history):
            assert rules.state([*history, bounced]) is ConsentState.SUPPRESSED

    check()


def a_release_grants_nothing(rules: Rules) -> None:
    @quickly
    @given(instants, instants, instants)
    def check(granted_at: datetime, bounced_at: datetime, released_at: datetime) -> None:
        granted = ConsentEntry(act=ConsentAct.GRANT, occurred_at=granted_at, source="shop", evidence=PROOF)
        bounced = ConsentEntry(act=ConsentAct.SUPPRESSION, occurred_at=bounced_at, source="mailchimp")
        released = ConsentEntry(act=ConsentAct.RELEASE, occurred_at=released_at, source="console")
        if rules.state([granted, bounced, released]) is ConsentState.SUBSCRIBED:
            assert granted_at > bounced_at
            assert released_at > bounced_at

    check()


def a_newer_evidenced_grant_returns_who_left(rules: Rules) -> None:
    @quickly
    @given(instants, st.integers(1, 5))
    def check(left_at: datetime, days: int) -> None:
        left = ConsentEntry(act=ConsentAct.WITHDRAWAL, occurred_at=left_at, source="mailchimp")
        back = ConsentEntry(
            act=ConsentAct.GRANT, occurred_at=left_at + timedelta(days=days), source="shop", evidence=PROOF
        )
        assert rules.state([left, back]) is ConsentState.SUBSCRIBED

    check()


def hearing_more_without_a_grant_never_raises(rules: Rules) -> None:
    severity = [
        ConsentState.SUBSCRIBED,
        ConsentState.PENDING,
        ConsentState.UNKNOWN,
        ConsentState.UNSUBSCRIBED,
        ConsentState.SUPPRESSED,
    ]

    @quickly
    @given(histories, st.sampled_from([ConsentAct.WITHDRAWAL, ConsentAct.SUPPRESSION]), instants)
    def check(history: list[ConsentEntry], act: ConsentAct, when: datetime) -> None:
        more = ConsentEntry(act=act, occurred_at=when, source="mailchimp")
        assert severity.index(rules.state([*history, more])) >= severity.index(rules.state(history))

    check()


PROPERTIES: list[Property] = [
    merging_is_commutative,
    merging_is_associative,
    merging_twice_is_merging_once,
    order_of_arrival_changes_nothing,
    withdrawal_beats_every_grant_that_is_not_newer,
    nobody_is_subscribed_without_an_evidenced_grant,
    suppression_ends_only_by_a_later_release,
    a_release_grants_nothing,
    a_newer_evidenced_grant_returns_who_left,
    hearing_more_without_a_grant_never_raises,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda prop: prop.__name__)
def test_property(holds: Property) -> None:
    holds(RULES)


def _newest_speaker_wins(one: ConsentRecord, other: ConsentRecord) -> ConsentRecord:
    """The classic bug: what arrives last replaces what was known."""
    return other if other != ConsentRecord() else one


def _forgets_withdrawals(one: ConsentRecord, other: ConsentRecord) -> ConsentRecord:
    return dataclasses.replace(consent.merge(one, other), withdrawn_at=one.withdrawn_at)


def _earliest_withdrawal(one: ConsentRecord, other: ConsentRecord) -> ConsentRecord:
    both = [at for at in (one.withdrawn_at, other.withdrawn_at) if at]
    return dataclasses.replace(consent.merge(one, other), withdrawn_at=min(both, default=None))


def _grant_wins_a_tie(known: ConsentRecord) -> ConsentState:
    if known.granted_at and known.granted_at == known.withdrawn_at and not known.suppressed_at:
        return ConsentState.SUBSCRIBED
    return consent.effective(known)


def _grant_ends_suppression(known: ConsentRecord) -> ConsentState:
    if known.granted_at and known.suppressed_at and known.granted_at > known.suppressed_at:
        return ConsentState.SUBSCRIBED
    return consent.effective(known)


def _release_revives_old_grants(known: ConsentRecord) -> ConsentState:
    if known.released_at and known.suppressed_at and known.released_at > known.suppressed_at:
        return consent.effective(dataclasses.replace(known, suppressed_at=None))
    return consent.effective(known)


def _unknown_is_subscribed(known: ConsentRecord) -> ConsentState:
    state = consent.effective(known)
    return ConsentState.SUBSCRIBED if state is ConsentState.UNKNOWN else state


def _grant_needs_no_evidence(entry: ConsentEntry) -> ConsentRecord:
    if entry.act is ConsentAct.GRANT:
        return ConsentRecord(granted_at=entry.occurred_at)
    return consent.record(entry)


def _never_forgives(known: ConsentRecord) -> ConsentState:
    return ConsentState.UNSUBSCRIBED if known.withdrawn_at else consent.effective(known)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Rules(merge=_newest_speaker_wins), id="newest_speaker_wins"),
        pytest.param(Rules(merge=_forgets_withdrawals), id="forgets_withdrawals"),
        pytest.param(Rules(merge=_earliest_withdrawal), id="earliest_withdrawal"),
        pytest.param(Rules(effective=_grant_wins_a_tie), id="grant_wins_a_tie"),
        pytest.param(Rules(effective=_grant_ends_suppression), id="grant_ends_suppression"),
        pytest.param(Rules(effective=_release_revives_old_grants), id="release_revives_old_grants"),
        pytest.param(Rules(effective=_unknown_is_subscribed), id="unknown_is_subscribed"),
        pytest.param(Rules(effective=_never_forgives), id="never_forgives"),
        pytest.param(Rules(record=_grant_needs_no_evidence), id="grant_needs_no_evidence"),
    ],
)
def test_a_broken_rule_fails_a_property(broken: Rules) -> None:
    def fails(holds: Property) -> bool:
        try:
            holds(broken)
        except AssertionError:
            return True
        return False

    assert any(map(fails, PROPERTIES))


def test_a_person_and_an_address_merge_like_any_two_records() -> None:
    person = ConsentRecord(granted_at=DAY_ZERO)
    address = ConsentRecord(withdrawn_at=DAY_ZERO + timedelta(days=1))
    assert consent.effective(consent.merge(person, address)) is ConsentState.UNSUBSCRIBED


def test_nothing_known_is_unknown() -> None:
    assert consent.effective(consent.merge_all([])) is ConsentState.UNKNOWN


@pytest.mark.parametrize(
    ("text", "state"),
    [
        *(
            (text, ConsentState.SUBSCRIBED)
            for text in ("2026-02-03T10:05:00Z", "03.02.2026", "Feb 3, 2026", "20260203")
        ),
        *(
            (text, ConsentState.PENDING)
            for text in ("", "N/A", "-", "false", "yes", "1", "0000-00-00", "0001-01-01", "03.02.")
        ),
    ],
)
def test_a_confirmation_without_a_date_confirms_nothing(text: str, state: ConsentState) -> None:
    said = ConsentEntry(
        act=ConsentAct.GRANT,
        occurred_at=DAY_ZERO,
        source="shop",
        evidence={"form": "x", "confirmed_at": text},
    )
    assert consent.effective(consent.record(said), Regime.DOUBLE_OPT_IN) is state


def test_a_request_is_pending_until_it_is_confirmed() -> None:
    asked = ConsentRecord(requested_at=DAY_ZERO)
    assert consent.effective(asked) is ConsentState.PENDING
    confirmed = consent.merge(asked, ConsentRecord(granted_at=DAY_ZERO + timedelta(hours=1)))
    assert consent.effective(confirmed) is ConsentState.SUBSCRIBED


DEPARTED = {ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED}


@quickly
@given(histories)
def test_a_confirmed_grant_is_a_grant(history: list[ConsentEntry]) -> None:
    known = RULES.merged(history)
    assert known.confirmed_at is None or (known.granted_at and known.granted_at >= known.confirmed_at)


@quickly
@given(histories, st.sampled_from(Regime))
def test_who_left_has_left_under_every_regime(history: list[ConsentEntry], regime: Regime) -> None:
    known = RULES.merged(history)
    assert (consent.effective(known, regime) in DEPARTED) == (consent.effective(known) in DEPARTED)


@quickly
@given(histories)
def test_silence_is_the_only_thing_that_an_opt_out_law_reads_otherwise(history: list[ConsentEntry]) -> None:
    known = RULES.merged(history)
    asked = consent.effective(known)
    silent = asked is ConsentState.UNKNOWN and not any(e.act is ConsentAct.RESIDENCE for e in history)
    expected = ConsentState.SUBSCRIBED if silent else asked
    assert consent.effective(known, Regime.OPT_OUT) is expected


@quickly
@given(histories)
def test_under_double_opt_in_nobody_is_subscribed_who_did_not_confirm(history: list[ConsentEntry]) -> None:
    known = RULES.merged(history)
    confirmed = any(e.act is ConsentAct.GRANT and "confirmed_at" in e.evidence for e in history)
    state = consent.effective(known, Regime.DOUBLE_OPT_IN)
    assert confirmed or state is not ConsentState.SUBSCRIBED
    if consent.effective(known) is ConsentState.SUBSCRIBED:
        assert state in {ConsentState.SUBSCRIBED, ConsentState.PENDING}


@quickly
@given(histories)
def test_a_basis_written_down_changes_nothing(history: list[ConsentEntry]) -> None:
    without = [each for each in history if each.act is not ConsentAct.BASIS]
    assert RULES.merged(without) == RULES.merged(history)


@quickly
@given(histories, st.sampled_from(Regime))
def test_the_act_that_decides_is_one_of_those_that_are_known(
    history: list[ConsentEntry], regime: Regime
) -> None:
    decided = consent.verdict(RULES.merged(history), regime)
    said = {(each.act, each.occurred_at) for each in history}
    assert decided.act is None or (decided.act, decided.at) in said
