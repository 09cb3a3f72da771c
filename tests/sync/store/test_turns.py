"""Turns of one account, taken by several limiters and processes over one store."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from segue.connectors.limiter import Limiter, NoTurnError
from segue.connectors.turns import Turns
from segue.core.model import RateLimit
from segue.sync.store.keys import ContactKeys
from segue.sync.store.leases import this_process
from segue.sync.store.store import Store

SECRET = bytes(range(32))
LIMITS = (RateLimit(count=30, seconds=1),)

# Takes turns until it has so many, each held a moment, and prints from when to when it held them.
WORKER = """
import json, sys, threading, time
from segue.connectors.limiter import Limiter
from segue.core.model import RateLimit
from segue.sync.store.keys import ContactKeys
from segue.sync.store.store import Store

url, count = sys.argv[1], int(sys.argv[2])
held = []
with Store.open(url, key=lambda _: ContactKeys(bytes(range(32)))) as store:
    limiter = Limiter(5, (RateLimit(count=30, seconds=1),))
    limiter.share(store.turns, "account")
    print("ready", flush=True)
    sys.stdin.readline()
    def work():
        for _ in range(count // 5):
            with limiter.slot():
                start = time.time()
                time.sleep(0.001)
                held.append((start, time.time()))
    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(json.dumps(held))
"""

DYING = """
import os, sys
from segue.connectors.limiter import Limiter
from segue.sync.store.keys import ContactKeys
from segue.sync.store.store import Store

store = Store.open(sys.argv[1], key=lambda _: ContactKeys(bytes(range(32))))
limiter = Limiter(1)
limiter.share(store.turns, "account")
with limiter.slot():
    os._exit(9)
"""


@pytest.fixture
def turns_store(store_url: str) -> Iterator[Store]:
    """A store whose clock runs."""
    with Store.open(store_url, key=lambda _: ContactKeys(SECRET), busy_seconds=30) as opened:
        yield opened


def limiter(store: Store, places: int = 1, limits: tuple[RateLimit, ...] = ()) -> Limiter:
    made = Limiter(places, limits)
    made.share(store.turns, "account")
    return made


def test_two_limiters_share_one_accounts_places(turns_store: Store) -> None:
    one, other = limiter(turns_store), limiter(turns_store)
    with one.slot(), pytest.raises(NoTurnError), other.slot(within=0.06):
        pass
    with other.slot():
        pass


def test_accounts_do_not_share(turns_store: Store) -> None:
    one, other = limiter(turns_store), Limiter(1)
    other.share(turns_store.turns, "another account")
    with one.slot(), other.slot(within=0.01):
        pass


def test_two_limiters_share_one_accounts_rate(turns_store: Store) -> None:
    limits = (RateLimit(count=2, seconds=50),)
    one, other = (limiter(turns_store, 2, limits) for _ in range(2))
    for each in (one, other):
        with each.slot():
            pass
    for each in (one, other):
        with pytest.raises(NoTurnError) as caught, each.slot(within=1):
            pass
        assert 45 < caught.value.seconds <= 50


def test_an_account_that_was_closed_by_one_process_is_closed_to_all(turns_store: Store) -> None:
    one, other = limiter(turns_store), limiter(turns_store)
    with one.slot() as turn:
        one.answered(turn, throttled=True, retry_after=30)
    with pytest.raises(NoTurnError) as caught, other.slot(within=1):
        pass
    assert 25 < caught.value.seconds <= 30


def test_a_place_is_seen_to_be_free_while_its_last_holder_waits_for_something_else(
    turns_store: Store,
) -> None:
    limits = (RateLimit(count=1, seconds=0.5),)
    one, other = limiter(turns_store, 1, limits), limiter(turns_store)
    with one.slot():
        waits = threading.Thread(target=lambda: one.slot().__enter__(), daemon=True)
        waits.start()
    with other.slot(within=5):
        pass
    waits.join(10)
    assert not waits.is_alive()


def test_a_killed_process_gives_its_place_back_at_once(turns_store: Store, store_url: str) -> None:
    ended = subprocess.run([sys.executable, "-c", DYING, store_url], check=False, timeout=60)
    assert ended.returncode == 9
    with turns_store.turns._database.read() as connection:
        state = connection.exec_driver_sql("select state from account_turns").scalar_one()
    assert len(Turns.parse(state).holders()) == 1
    with limiter(turns_store).slot(within=0.5):
        pass


def test_the_holder_is_this_process(turns_store: Store) -> None:
    assert turns_store.turns.holder == this_process()


def test_what_was_taken_in_a_change_that_fails_was_not_taken(turns_store: Store) -> None:
    def interrupted() -> None:
        with turns_store.turns.change("account") as (turns, now):
            turns.close(now + 30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with limiter(turns_store).slot(within=0.5):
        pass


def test_postgresql_gives_the_time_because_machines_disagree(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(postgres_database, key=lambda _: ContactKeys(SECRET)) as store:
        monkeypatch.setattr(time, "time", lambda: 5.0)
        with store.turns.change("account") as (_, now):
            pass
        with psycopg.connect(postgres_database) as connection:
            row = connection.execute("select extract(epoch from now())").fetchone()
        assert row is not None
        assert abs(float(row[0]) - now) < 60


def test_two_processes_never_pass_the_limits_together_and_each_gets_through(
    turns_store: Store, store_url: str
) -> None:
    count = 60
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER, store_url, str(count)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=Path(__file__).parent,
                )
            )
            for _ in range(2)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        held = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    assert [len(each) for each in held] == [count, count]
    both = sorted(tuple(turn) for each in held for turn in each)
    for at, _ in both:
        assert sum(start <= at < end for start, end in both) <= 5
        # Whenever the account counts a request between its start and its end.
        assert sum(start <= at < end + 1 for start, end in both) <= 30
    # Neither was done before the other had a good part of its turns.
    ends = [max(end for _, end in each) for each in held]
    assert all(sum(end <= min(ends) for _, end in each) >= count / 4 for each in held)
