"""The rules by which one account's requests go, on a clock that is a number."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.connectors.turns import LONGEST_HOLD, LONGEST_TURN, Demand, Feedback, Turns
from segue.core.model import RateLimit

TEN_IN_TEN = (RateLimit(count=10, seconds=10),)
HUNDRED_IN_TEN = (RateLimit(count=100, seconds=10),)


def demand(turn: object, limiter: str = "one", **more: object) -> Demand:
    given = {"holder": limiter, "urgent": False, "places": 1000, "limits": (), **more}
    return Demand(turn=str(turn), limiter=limiter, **given)  # type: ignore[arg-type]


def burst(turns: Turns, count: int, at: float, limits: tuple[RateLimit, ...]) -> None:
    for number in range(count):
        assert turns.take(demand(f"{at}.{number}", limits=limits), at) == 0
        turns.end(f"{at}.{number}", at)


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.floats(0, 20)), min_size=1, max_size=60),
    count=st.integers(1, 30),
)
def test_no_window_is_ever_overfilled_whenever_the_account_counts_a_request(
    steps: list[tuple[float, bool, float]], count: int
) -> None:
    limits = (RateLimit(count=count, seconds=10),)
    turns, now, sent, out = Turns(), 0.0, list[tuple[float, float]](), list[tuple[str, float, float]]()
    for number, (pause, urgent, lasts) in enumerate(steps):
        now += pause
        for name, start, end in [each for each in out if each[2] <= now]:
            turns.end(name, end)
            sent.append((start, end))
            out.remove((name, start, end))
        if turns.take(demand(number, urgent=urgent, limits=limits), now) == 0:
            out.append((str(number), now, now + lasts))
    sent += [(start, end) for _, start, end in out]
    for _, end in sent:
        # The worst account counts the early ones as late as it can, and the late ones as early as it can.
        window = [start for start, ended in sent if ended >= end and start < end + 10]
        assert len(window) <= count + sum(start < end for start in window)
    for at in {start for start, _ in sent}:
        assert sum(start <= at < end + 10 for start, end in sent) <= count


def test_a_request_counts_until_a_window_after_its_answer_and_not_after_it_was_sent() -> None:
    turns = Turns()
    limits = (RateLimit(count=1, seconds=10),)
    assert turns.take(demand("slow", limits=limits), 0) == 0
    assert turns.take(demand("next", limits=limits), 20) == inf  # it may be counted at any moment
    turns.end("slow", 25)
    assert turns.take(demand("next", limits=limits), 25) == 10
    assert turns.take(demand("next", limits=limits), 35) == 0


def test_ordinary_requests_leave_a_twentieth_of_a_rate_to_opt_outs() -> None:
    turns = Turns()
    burst(turns, 95, 0, HUNDRED_IN_TEN)
    assert turns.take(demand("a", limits=HUNDRED_IN_TEN), 1) > 0
    for number in range(5):
        assert turns.take(demand(number, urgent=True, limits=HUNDRED_IN_TEN), 1) == 0
    assert turns.take(demand("b", urgent=True, limits=HUNDRED_IN_TEN), 1) > 0


def test_the_reserve_is_used_when_the_next_place_comes_free_within_a_moment() -> None:
    turns, now, taken = Turns(), 0.0, 0
    while now < 100:
        if delay := turns.take(demand(taken, limits=HUNDRED_IN_TEN), now):
            now += delay
        else:
            turns.end(str(taken), now)
            taken += 1
    assert taken == 1000  # all that the limit allows


def test_a_small_rate_has_no_reserve() -> None:
    burst(Turns(), 10, 0, TEN_IN_TEN)


@pytest.mark.parametrize(("places", "ordinary"), [(1, 1), (2, 2), (3, 2), (9, 8)])
def test_ordinary_requests_leave_one_of_at_least_three_places(places: int, ordinary: int) -> None:
    turns = Turns()
    for number in range(ordinary):
        assert turns.take(demand(number, places=places), 0) == 0
    assert turns.take(demand("more", places=places), 0) == inf
    assert (turns.take(demand("opt-out", urgent=True, places=places), 0) == 0) is (ordinary < places)


def test_a_closed_account_is_closed_to_everybody_and_for_a_minute_at_most() -> None:
    turns = Turns()
    turns.close(5)
    turns.close(3)
    assert turns.take(demand("a", urgent=True), 0) == 5
    turns.close(1e9)
    assert turns.take(demand("a"), 0) == LONGEST_HOLD


def test_when_the_account_says_that_little_is_left_requests_wait_until_it_counts_anew() -> None:
    turns = Turns()
    turns.heard(Feedback(remaining=2, reset_seconds=7), 0)
    assert turns.take(demand("a"), 0) == 0
    assert turns.take(demand("b"), 1) == 6  # the last one is an opt-out's
    assert turns.take(demand("c", urgent=True), 1) == 0
    assert turns.take(demand("d", urgent=True), 1) == 6
    assert turns.take(demand("b"), 7) == 0


def test_requests_that_are_still_out_may_not_be_in_the_accounts_count_yet() -> None:
    turns = Turns()
    for number in range(3):
        turns.take(demand(number), 0)
    turns.heard(Feedback(remaining=4, reset_seconds=7), 0)
    assert turns.take(demand("a"), 0) == 7


def test_an_older_answer_of_the_same_window_does_not_give_back_what_was_used() -> None:
    turns = Turns()
    turns.heard(Feedback(remaining=1, reset_seconds=7), 0)
    turns.heard(Feedback(remaining=50, reset_seconds=7), 0.1)
    assert turns.take(demand("a"), 0.2) > 0
    turns.heard(Feedback(remaining=50, reset_seconds=10), 7)
    assert turns.take(demand("a"), 7) == 0


def test_whoever_waited_longer_in_another_process_is_left_a_place() -> None:
    turns = Turns()
    assert turns.take(demand("a1", "a", places=2), 0) == 0
    assert turns.take(demand("a2", "a", places=2), 0) == 0
    assert turns.take(demand("b1", "b", places=2), 1) == inf
    turns.end("a1", 1.1)
    assert turns.take(demand("a3", "a", places=2), 1.1) == inf
    assert turns.take(demand("b1", "b", places=2), 1.2) == 0
    turns.end("a2", 1.3)
    assert turns.take(demand("b2", "b", places=2), 1.3) == inf  # now it is the other way round
    assert turns.take(demand("a3", "a", places=2), 1.4) == 0


def test_nobody_is_waited_for_who_does_not_come_back() -> None:
    turns = Turns()
    turns.take(demand("a1", "a", places=1), 0)
    turns.take(demand("b1", "b", places=1), 0)
    turns.end("a1", 0.1)
    assert turns.take(demand("a2", "a", places=1), 0.1) == inf
    assert turns.take(demand("a2", "a", places=1), 1.2) == 0


def test_an_opt_out_in_another_process_goes_first() -> None:
    turns = Turns()
    turns.take(demand("a1", "a", places=1), 0)
    turns.take(demand("b1", "b", places=1), 0)
    turns.take(demand("c1", "c", places=1, urgent=True), 0.1)
    turns.end("a1", 0.2)
    assert turns.take(demand("b1", "b", places=1), 0.2) == inf
    assert turns.take(demand("c1", "c", places=1, urgent=True), 0.2) == 0


def test_a_dead_holders_turns_end_at_once_and_still_count_in_the_window() -> None:
    turns = Turns()
    limits = (RateLimit(count=1, seconds=10),)
    turns.take(demand("a1", "a", places=1, limits=limits), 0)
    turns.take(demand("b1", "b", places=1, limits=limits), 0)
    assert turns.holders() == {"a", "b"}
    turns.release("a", 2)
    assert turns.holders() == {"b"}
    assert turns.take(demand("b1", "b", places=1, limits=limits), 2) == 10


def test_a_turn_that_nobody_ends_ends_by_time() -> None:
    turns = Turns()
    turns.take(demand("a1", "a", places=1), 0)
    assert turns.take(demand("b1", "b", places=1), LONGEST_TURN - 1) == inf
    assert turns.take(demand("b1", "b", places=1), LONGEST_TURN) == 0
    turns.end("a1", LONGEST_TURN + 1)
    assert turns.take(demand("b2", "b", places=1), LONGEST_TURN + 1) == inf


def test_a_clock_that_was_set_back_holds_nobody_longer_than_the_limits_do() -> None:
    turns = Turns()
    limits = (RateLimit(count=1, seconds=10),)
    turns.take(demand("a", limits=limits), 10_000)
    turns.end("a", 10_000)
    turns.close(10_005)
    turns.heard(Feedback(remaining=0, reset_seconds=5), 10_000)
    assert turns.take(demand("b", limits=limits), 0) <= LONGEST_HOLD
    assert turns.take(demand("b", limits=limits), LONGEST_HOLD) == 0


def test_turns_that_are_kept_as_one_leave_the_window_with_the_last_of_them() -> None:
    turns = Turns()
    limits = (RateLimit(count=2, seconds=10),)
    for name, at in (("a", 0.0), ("b", 0.04)):
        turns.take(demand(name, limits=limits), at)
        turns.end(name, at)
    assert turns.take(demand("c", limits=limits), 10.02) > 0
    assert turns.take(demand("c", limits=limits), 10.04) == 0


def test_the_state_stays_small_however_large_the_limit_is() -> None:
    turns = Turns()
    limits = (RateLimit(count=100_000, seconds=10),)
    for number in range(20_000):
        assert turns.take(demand(number, limits=limits), number / 2000) == 0
        turns.end(str(number), number / 2000)
    assert len(turns.as_text()) < 20_000


def test_what_is_written_down_says_the_same_when_it_is_read_back() -> None:
    turns = Turns()
    assert Turns.parse(turns.as_text()).as_text() == turns.as_text()
    burst(turns, 99 - 4, 0, HUNDRED_IN_TEN)
    turns.take(demand("out", "b", limits=HUNDRED_IN_TEN, urgent=True), 1)
    turns.take(demand("waits", limits=HUNDRED_IN_TEN), 1)
    turns.close(3)
    turns.heard(Feedback(remaining=5, reset_seconds=30), 1)
    again = Turns.parse(turns.as_text())
    assert again.as_text() == turns.as_text()
    for now in (1, 4, 12, 40):
        same = [each.take(demand("x", limits=HUNDRED_IN_TEN), now) for each in (turns, again)]
        assert same[0] == same[1]
