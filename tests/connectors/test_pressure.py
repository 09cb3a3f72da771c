"""How much an account bears: simulated accounts that refuse without a word why, on a clock of their own."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import pytest

from segue.connectors.pressure import Pressure

LATENCY: Final = 0.05
PLACES: Final = 8

Refuses = Callable[[int, float], bool]
"""Whether an account refuses a request, by how many it has in hand, this one included, and the time."""


@dataclass
class Load:
    """Eight threads that send so many requests, and send each one that was refused again after up to half a second."""

    refuses: Refuses
    pressure: Pressure = field(default_factory=lambda: Pressure(9))
    now: float = 0.0
    refused: int = 0
    longest_pause: float = 0.0

    def send(self, requests: int) -> "Load":
        dice, order = random.Random(1), count()
        ready, out, served, sleeps = PLACES, 0, 0, False
        due: list[tuple[float, int, Callable[[], None]]] = []  # what happens next, soonest first

        def at(when: float, happens: Callable[[], None]) -> None:
            heapq.heappush(due, (when, next(order), happens))

        def answer(number: int, taken: float, *, no: bool) -> None:
            nonlocal ready, out, served
            out -= 1
            if no:
                self.refused += 1
                self.pressure.refused(out=number, taken=taken, now=self.now)
                at(self.now + dice.uniform(0, 0.5), rest)
            else:
                served, ready = served + 1, ready + 1
                self.pressure.served(out=number, taken=taken, now=self.now)

        def rest() -> None:
            nonlocal ready
            ready += 1

        def wake() -> None:
            nonlocal sleeps
            sleeps = False

        while served < requests:
            while ready and not sleeps and out < min(self.pressure.places, PLACES):
                if pause := self.pressure.pause(self.now):
                    self.longest_pause = max(self.longest_pause, pause)
                    sleeps = True  # the first of those who wait, and nobody goes before it
                    at(self.now + pause, wake)
                    break
                ready, out = ready - 1, out + 1
                self.pressure.sent(self.now)
                no, taken, number = self.refuses(out, self.now), self.now, out
                took = LATENCY / 10 if no else LATENCY * dice.uniform(0.8, 1.2)
                at(
                    self.now + took,
                    lambda number=number, taken=taken, no=no: answer(number, taken, no=no),  # type: ignore[misc]
                )
            when, _, happens = heapq.heappop(due)
            self.now = max(self.now, when)
            happens()
        return self


def by_chance(share: float, *, seed: int) -> Refuses:
    dice = random.Random(seed)
    return lambda _number, _now: dice.random() < share


def above(most: int) -> Refuses:
    return lambda number, _now: number > most


def more_than(most: int, seconds: float) -> Refuses:
    """Refuse what is too much in a rolling window; what is refused does not count."""
    recent: deque[float] = deque()

    def refuses(_number: int, now: float) -> bool:
        while recent and now - recent[0] >= seconds:
            recent.popleft()
        if len(recent) >= most:
            return True
        recent.append(now)
        return False

    return refuses


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("share", "slower"), [(0.01, 0.2), (0.05, 0.5)])
def test_refusals_by_chance_cost_little_and_no_pause(share: float, slower: float, seed: int) -> None:
    calm = Load(above(PLACES)).send(2000)
    load = Load(by_chance(share, seed=seed)).send(2000)
    assert load.now < calm.now * (1 + slower)
    assert load.longest_pause == 0


@pytest.mark.parametrize("bears", [1, 2, 4, 7])
def test_few_are_refused_by_an_account_that_bears_less_at_once(bears: int) -> None:
    load = Load(above(bears)).send(10_000)
    assert load.refused < 10_000 * 0.002
    assert load.now < 10_000 * LATENCY / bears * 1.01
    assert load.pressure.places == bears


def test_an_account_that_bears_less_and_refuses_by_chance_too_is_used_all_the_same() -> None:
    chance, limit = by_chance(0.05, seed=1), above(4)
    load = Load(lambda number, now: limit(number, now) or chance(number, now)).send(10_000)
    assert load.now < 10_000 * LATENCY / 4 * 1.15


def test_an_account_that_bears_more_again_is_used_again() -> None:
    load = Load(above(2)).send(1000)
    load.refuses = above(PLACES)
    load.send(3000)
    assert load.pressure.places == 9


@pytest.mark.parametrize(("most", "seconds"), [(10, 1), (100, 10), (20, 10), (100, 30), (600, 60)])
def test_a_rate_that_nobody_declared_is_found(most: int, seconds: float) -> None:
    load = Load(more_than(most, seconds)).send(3000)
    assert load.now < (3000 - most) / most * seconds * 1.3
    assert load.refused < 3000 * 0.02


def test_an_hour_without_a_request_does_not_count_in_the_rate() -> None:
    load = Load(more_than(100, 10)).send(50)
    load.now += 3600
    started = load.now
    load.send(1000)
    assert load.now - started < 120


def test_a_rate_does_not_keep_the_places_that_it_cost() -> None:
    load = Load(more_than(100, 10)).send(1000)
    assert load.pressure.places == 9


def test_a_rate_that_is_no_longer_there_is_forgotten() -> None:
    load = Load(more_than(10, 1)).send(200)
    load.refuses = above(PLACES)
    load.send(15_000)
    started = load.now
    load.send(1000)
    assert load.now - started < 1000 * LATENCY / PLACES * 1.1


def test_refusals_in_a_row_are_about_time_only_when_one_request_is_out() -> None:
    pressure = Pressure(9)
    for out in (2, 3, 4, 5) * 5:
        pressure.refused(out=out, taken=1, now=1)
    assert (pressure.places, pressure.pause(1)) == (1, 0)
    for _ in range(3):
        pressure.refused(out=1, taken=1, now=1)
    assert pressure.pause(1) > 0


def test_while_it_is_about_time_one_request_asks_ever_more_seldom() -> None:
    pressure, now, pauses = Pressure(9), 0.0, []
    for _ in range(14):
        now += pressure.pause(now)
        pressure.sent(now)
        pressure.refused(out=1, taken=now, now=now)
        pauses.append(pressure.pause(now))
    assert pauses[:6] == [0, 0, 0.25, 0.5, 1, 2]
    assert pauses[-1] == 30
    assert pressure.places == 1


def test_a_place_that_was_not_used_is_not_tried_again() -> None:
    pressure = Pressure(8)
    for _ in range(3):
        pressure.refused(out=8, taken=1, now=1)
    for _ in range(1000):
        pressure.served(out=6, taken=2, now=2)
    assert pressure.places == 7
    for _ in range(64):
        pressure.served(out=7, taken=2, now=2)
    assert pressure.places == 8


def test_a_number_that_is_borne_again_is_given_up_at_the_next_refusal() -> None:
    pressure = Pressure(8)
    for _ in range(3):
        pressure.refused(out=8, taken=1, now=1)
    for _ in range(64):
        pressure.served(out=7, taken=2, now=2)
    pressure.served(out=8, taken=2, now=2)
    assert pressure.places == 8
    pressure.refused(out=8, taken=2, now=2)
    assert pressure.places == 7


def held(pressure: Pressure, now: float = 100.0) -> None:
    """Have an account refuse three in a row that were alone."""
    for _ in range(3):
        pressure.sent(now)
        pressure.refused(out=1, taken=now, now=now)


def test_answers_to_what_went_before_the_hold_neither_end_nor_prolong_it() -> None:
    pressure = Pressure(9)
    held(pressure)
    pressure.served(out=1, taken=99, now=100.1)
    pressure.refused(out=1, taken=99, now=100.2)
    assert (pressure.places, pressure.pause(100)) == (1, 0.25)


def test_the_distance_is_never_longer_than_the_hold_was() -> None:
    pressure = Pressure(9)
    for now in range(0, 100, 20):
        pressure.sent(now)
        pressure.served(out=1, taken=now, now=now + 1)
    held(pressure)
    pressure.sent(101)
    pressure.served(out=1, taken=101, now=102)
    assert pressure.pause(101) == 2


def paced() -> Pressure:
    """Give the pressure of an account that served ten in ten seconds, and again after a hold."""
    pressure = Pressure(9)
    for now in range(90, 100):
        pressure.sent(now)
        pressure.served(out=1, taken=now, now=now)
    held(pressure)
    pressure.sent(101)
    pressure.served(out=1, taken=101, now=101)
    return pressure


def test_refused_together_is_slower_once() -> None:
    pressure = paced()
    assert pressure.pause(101) == 1
    for out in (1, 2):
        pressure.refused(out=out, taken=102, now=103)
    assert pressure.pause(101) == 1 + 1 / 16


def test_who_is_refused_however_slow_keeps_no_distance() -> None:
    pressure = paced()
    for now in range(110, 150):
        pressure.refused(out=2 + now % 7, taken=now, now=now)
        pressure.served(out=1, taken=now, now=now)
    assert pressure.pause(101) == 0


def test_what_was_refused_before_a_hold_says_nothing_of_places() -> None:
    pressure = Pressure(8)
    for _ in range(2):
        pressure.refused(out=8, taken=1, now=1)
    held(pressure)
    pressure.sent(101)
    pressure.served(out=1, taken=101, now=102)
    pressure.refused(out=8, taken=103, now=104)
    assert pressure.places == 8
