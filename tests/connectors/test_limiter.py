"""Who goes next in one process: the row, the lanes, what refusals teach, threads and forks. All waits but one's own
thread's are on events; nothing here measures time.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import sleep

import pytest

from segue.connectors.limiter import Limiter, NoTurnError, urgent
from segue.connectors.turns import Feedback, Turns
from segue.core.errors import StoreError
from segue.core.model import RateLimit

from .conftest import Hours


class Waiter:
    """A thread that takes one turn, and says when it stands in the row and when it has it."""

    def __init__(self, limiter: Limiter, name: str, order: list[str], *, opt_out: bool = False) -> None:
        def take() -> None:
            with ExitStack() as stack:
                if opt_out:
                    stack.enter_context(urgent())
                with limiter.slot():
                    order.append(name)

        before = len(limiter._row)
        self.thread = threading.Thread(target=take, daemon=True)
        self.thread.start()
        while len(limiter._row) == before and self.thread.is_alive() and name not in order:
            sleep(0.001)


def test_a_window_is_never_overfilled_and_no_slower_than_the_limits_force(hours: Hours) -> None:
    limiter = Limiter(
        1, [RateLimit(count=3, seconds=10), RateLimit(count=4, seconds=60)], clock=hours.clock()
    )
    turns = []
    for _ in range(9):
        with limiter.slot():
            turns.append(hours.seconds)
    for seconds, count in ((10, 3), (60, 4)):
        for start in turns:
            assert sum(start <= turn < start + seconds for turn in turns) <= count
    assert turns[-1] - turns[0] == 120


def test_no_more_requests_at_once_than_allowed() -> None:
    limiter, order = Limiter(2), list[str]()
    with limiter.slot():
        with limiter.slot():
            third = Waiter(limiter, "third comes in", order)
            order.append("one goes out")
        third.thread.join(10)
    assert order == ["one goes out", "third comes in"]


def test_an_opt_out_takes_the_place_that_others_leave() -> None:
    limiter = Limiter(3)
    with limiter.slot(), limiter.slot():
        with pytest.raises(NoTurnError), limiter.slot(within=0.01):
            pass
        with urgent(), limiter.slot():
            pass


def test_opt_outs_that_wait_go_before_others_and_those_in_order() -> None:
    limiter, order = Limiter(1), list[str]()
    with limiter.slot():
        waiters = [
            Waiter(limiter, "first", order),
            Waiter(limiter, "second", order),
            Waiter(limiter, "opt-out", order, opt_out=True),
        ]
    for waiter in waiters:
        waiter.thread.join(10)
    assert order == ["opt-out", "first", "second"]


def test_urgency_is_of_one_thread_and_ends_with_its_block(hours: Hours) -> None:
    limiter = Limiter(3)
    with urgent():
        pass
    with limiter.slot(), limiter.slot(), pytest.raises(NoTurnError), limiter.slot(within=0.01):
        pass


def test_who_cannot_wait_is_told_when_to_come_back_without_having_waited(hours: Hours) -> None:
    limiter = Limiter(1, [RateLimit(count=1, seconds=10)], clock=hours.clock())
    with limiter.slot():
        pass
    with pytest.raises(NoTurnError) as caught, limiter.slot(within=1):
        pass
    assert (caught.value.seconds, hours.slept) == (10, [])
    with limiter.slot(within=11):
        pass
    assert hours.slept == [10]


def test_a_turn_that_was_given_up_is_nobodys(hours: Hours) -> None:
    limiter = Limiter(1, clock=hours.clock())
    with pytest.raises(KeyboardInterrupt), limiter.slot():
        raise KeyboardInterrupt
    with limiter.slot():
        pass


def test_a_refusal_that_names_a_time_closes_the_account_and_costs_no_places(hours: Hours) -> None:
    limiter = Limiter(9, clock=hours.clock())
    with limiter.slot() as turn:
        limiter.answered(turn, throttled=True, retry_after=7)
    assert limiter.ordinary == 8
    with limiter.slot():
        assert hours.slept == [7]


def test_a_place_that_is_refused_again_and_again_without_a_time_is_given_up() -> None:
    limiter = Limiter(9)
    for _ in range(3):
        with ExitStack() as stack:
            turns = [stack.enter_context(limiter.slot()) for _ in range(limiter.ordinary)]
            limiter.answered(turns[4], throttled=True, retry_after=0)
    assert limiter.ordinary == 4


def test_what_the_account_says_is_left_is_heeded(hours: Hours) -> None:
    limiter = Limiter(9, clock=hours.clock())
    with limiter.slot() as turn:
        limiter.answered(turn, feedback=Feedback(remaining=0, reset_seconds=5))
    with limiter.slot():
        assert hours.slept == [5]


def test_many_threads_never_pass_the_cap_and_all_come_through() -> None:
    limiter, lock = Limiter(4), threading.Lock()
    out, most, done = 0, 0, 0

    def work(number: int) -> None:
        nonlocal out, most, done
        for _ in range(20):
            with ExitStack() as stack:
                if number % 5 == 0:
                    stack.enter_context(urgent())
                turn = stack.enter_context(limiter.slot())
                with lock:
                    out, most = out + 1, max(most, out + 1)
                limiter.answered(turn)
                with lock:
                    out, done = out - 1, done + 1

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (done, most <= 4) == (600, True)


def test_a_fork_in_the_middle_of_everything_leaves_the_child_a_limiter_that_works() -> None:
    limiter, order = Limiter(1), list[str]()
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        with limiter._changed:
            locked.set()
            over.wait(30)

    with limiter.slot():
        waiter = Waiter(limiter, "waits", order)
        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        locked.wait(30)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a child that waits for a lock that nobody has ends by this
            try:
                limiter.start_anew()
                with limiter.slot():
                    os._exit(7)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        over.set()
    waiter.thread.join(30)
    assert (os.waitstatus_to_exitcode(status), order) == (7, ["waits"])


class Broken:
    """Shared turns whose store fails when it is told to."""

    holder = "me"

    def __init__(self) -> None:
        self.turns, self.broken = Turns(), False

    @contextmanager
    def change(self, account: str) -> Iterator[tuple[Turns, float]]:
        if self.broken:
            raise StoreError("the disk is full")
        yield self.turns, 50.0


def test_a_store_that_fails_at_the_end_of_a_turn_does_not_hide_the_answer(hours: Hours) -> None:
    limiter, shared = Limiter(1, clock=hours.clock()), Broken()
    limiter.share(shared, "account")
    with limiter.slot():
        shared.broken = True
    with pytest.raises(StoreError), limiter.slot():
        pass
    shared.broken = False
    with limiter.slot():  # the end that could not be stored is told now
        assert len(shared.turns.holders()) == 1
    assert shared.turns.holders() == set()


def test_shared_turns_count_by_their_own_clock(hours: Hours) -> None:
    limiter, shared = Limiter(1, [RateLimit(count=1, seconds=10)], clock=hours.clock()), Broken()
    limiter.share(shared, "account")
    with limiter.slot():
        pass
    with pytest.raises(NoTurnError) as caught, limiter.slot(within=1):
        pass
    assert caught.value.seconds == 10
