"""The audit's chain: what goes in, who is found in it, and that no change of it goes unnoticed."""

from datetime import timedelta
from multiprocessing.synchronize import Barrier

import pytest
import sqlalchemy as sa

from segue.core.errors import ConfigError, StoreError
from segue.sync.store import audit as audit_module
from segue.sync.store.audit import HEAD_LOST, Audit, Head, acting
from segue.sync.store.database import Database, parse_url
from segue.sync.store.keys import ContactKeys
from segue.sync.store.schema import audit, fact
from segue.sync.store.store import Store

from ...conftest import SECRET, Clock
from .workers import PROCESSES


def fill(store: Store, rows: int) -> None:
    for number in range(rows):
        with store._database.write() as connection:
            subjects = {"update applied": [number, number + 1], "opt_out applied": [1000 + number]}
            store.audit.append(
                connection, "settled", who=f"run r{number}", destination="d", subjects=subjects
            )


def tamper(store: Store, *statements: sa.Executable) -> None:
    with store._database.write() as connection:
        for statement in statements:
            connection.execute(statement)


def problems(store: Store, *heads: Head) -> dict[int, str]:
    return dict(store.audit.verify(heads).problems)


def test_a_whole_chain_verifies_and_has_no_gaps(store: Store) -> None:
    fill(store, 5)
    proof = store.audit.verify([store.audit.head()])
    assert (proof.first, proof.last, proof.problems) == (1, 5, ())
    assert [row.number for row in store.audit.show()] == [5, 4, 3, 2, 1]


def test_a_chain_that_is_wiped_as_a_whole_is_missed_also_when_another_begins(store: Store) -> None:
    fill(store, 3)
    tamper(store, sa.delete(audit), sa.delete(fact).where(fact.c.name.like("audit%")))
    assert problems(store) == {0: "the kept head was changed or is missing"}
    store.audit.begin()
    assert problems(store)
    fill(store, 1)
    assert list(problems(store)) == [1]


def test_a_purge_stops_at_a_forged_row_and_leaves_it_to_be_seen(store: Store, clock: Clock) -> None:
    fill(store, 3)
    clock.advance(timedelta(days=10))
    fill(store, 3)
    tamper(store, sa.update(audit).where(audit.c.number == 4).values(at=clock.now - timedelta(days=10)))
    with pytest.raises(StoreError, match="row 4"):
        store.audit.purge(clock.now)
    assert list(problems(store)) == [4]


def test_a_purge_vouches_for_no_checkpoint_that_somebody_wrote(store: Store, clock: Clock) -> None:
    fill(store, 3)
    clock.advance(timedelta(days=10))
    fill(store, 1)
    forged = {"name": "audit_checkpoint", "value": f"1:{'0' * 64}:{'0' * 64}"}
    tamper(store, sa.delete(audit).where(audit.c.number == 1), sa.insert(fact).values(forged))
    with pytest.raises(StoreError, match="row 2"):
        store.audit.purge(clock.now)


def test_a_purge_that_is_killed_has_told_of_what_it_removed(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 5)
    clock.advance(timedelta(days=10))
    fill(store, 1)
    monkeypatch.setattr(audit_module, "ROWS_PER_TRANSACTION", 2)
    assert store.audit.purge(clock.now) == 5
    told = [row.detail["rows"] for row in store.audit.show() if row.act == "audit purged"]
    assert told == [1, 2, 2]
    assert problems(store) == {}


def test_an_empty_audit_is_whole(store: Store) -> None:
    assert store.audit.verify().problems == ()
    assert store.audit.show() == []


@pytest.mark.parametrize(
    "change",
    [
        {"detail": "{}"},
        {"who": "run other"},
        {"act": "nothing"},
        {"destination": None},
        {"subjects": b""},
        {"at": Clock().now + timedelta(microseconds=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_edited_row_is_named(store: Store, change: dict[str, object]) -> None:
    fill(store, 4)
    tamper(store, sa.update(audit).where(audit.c.number == 2).values(**change))
    assert list(problems(store)) == [2]


def test_a_removed_row_is_named(store: Store) -> None:
    fill(store, 5)
    tamper(store, sa.delete(audit).where(audit.c.number.in_([2, 3])))
    assert problems(store) == {2: "rows 2 to 3 are missing; so row 4 cannot be proved"}


def test_the_first_row_cannot_go_unnoticed(store: Store) -> None:
    fill(store, 3)
    tamper(store, sa.delete(audit).where(audit.c.number == 1))
    assert list(problems(store)) == [1]


def test_removed_and_renumbered_rows_are_named(store: Store) -> None:
    fill(store, 4)
    move = sa.update(audit).where(audit.c.number == 3).values(number=2)
    tamper(store, sa.delete(audit).where(audit.c.number == 2), move)
    assert set(problems(store)) == {2, 3}


def test_reordered_rows_are_named(store: Store) -> None:
    fill(store, 4)
    swap = [sa.update(audit).where(audit.c.number == a).values(number=b) for a, b in ((2, 9), (3, 2), (9, 3))]
    tamper(store, *swap)
    assert set(problems(store)) == {2, 3, 4}


def test_rows_cut_off_at_the_end_are_named(store: Store) -> None:
    fill(store, 5)
    tamper(store, sa.delete(audit).where(audit.c.number > 3))
    assert problems(store) == {4: "rows 4 to 5 are missing at the end"}


def test_a_cut_end_stays_known_when_the_chain_goes_on(store: Store) -> None:
    fill(store, 5)
    tamper(store, sa.delete(audit).where(audit.c.number > 3))
    fill(store, 1)
    assert list(problems(store)) == [4]


def test_a_cut_end_without_its_kept_head_stays_known_when_the_chain_goes_on(store: Store) -> None:
    fill(store, 5)
    tamper(
        store,
        sa.delete(audit).where(audit.c.number > 3),
        sa.delete(fact).where(fact.c.name == "audit_head"),
    )
    assert list(problems(store)) == [3]
    fill(store, 1)
    assert list(problems(store)) == [4]
    assert store.audit.show(limit=2)[1].act == HEAD_LOST


def test_a_kept_head_that_somebody_wrote_is_no_head(store: Store) -> None:
    fill(store, 5)
    with store._database.read() as connection:
        mac = connection.execute(sa.select(audit.c.mac).where(audit.c.number == 3)).scalar_one()
    forged = sa.update(fact).where(fact.c.name == "audit_head").values(value=f"3:{mac.hex()}:{'0' * 64}")
    tamper(store, sa.delete(audit).where(audit.c.number > 3), forged)
    assert problems(store) == {3: "the kept head was changed or is missing"}


def test_a_store_that_was_put_back_is_found_by_a_head_that_was_printed(store: Store) -> None:
    fill(store, 3)
    with store._database.read() as connection:
        earlier = connection.execute(sa.select(fact.c.value).where(fact.c.name == "audit_head")).scalar_one()
    fill(store, 2)
    printed = store.audit.head()
    back = sa.update(fact).where(fact.c.name == "audit_head").values(value=earlier)
    tamper(store, sa.delete(audit).where(audit.c.number > 3), back)
    assert problems(store) == {}
    assert problems(store, printed) == {5: "missing: a report names it"}
    fill(store, 2)
    with store._database.write() as connection:
        store.audit.append(connection, "other", who="me")
    assert problems(store, Head(number=5, mac="0" * 16)) == {
        5: "another row than the one that a report names"
    }


def test_a_row_without_the_key_is_no_row(store: Store) -> None:
    fill(store, 2)
    row = {
        "number": 3,
        "at": Clock().now,
        "act": "settled",
        "who": "run r",
        "destination": "d",
        "subjects": b"",
        "detail": "{}",
        "mac": bytes(32),
    }
    tamper(store, sa.insert(audit).values(row))
    assert list(problems(store)) == [3]


def test_a_row_is_there_with_what_it_tells_or_neither(store: Store) -> None:
    def fail(connection: sa.Connection) -> None:
        store.audit.append(connection, "settled", who="run r")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), store._database.write() as connection:
        fail(connection)
    assert store.audit.show() == []
    fill(store, 1)
    assert [row.number for row in store.audit.show()] == [1]


def test_a_person_is_found_by_any_key_with_what_became_of_them(store: Store) -> None:
    fill(store, 4)
    found = store.audit.show(keys=[1002])
    assert [(row.number, row.concerns) for row in found] == [(3, ("opt_out applied",))]
    assert [row.number for row in store.audit.show(keys=[0, 4])] == [4, 1]
    assert store.audit.show(keys=[77]) == []


def test_nobody_is_found_across_the_bounds_of_two_keys(store: Store) -> None:
    two = [0x0102030405060708, 0x1112131415161718]
    with store._database.write() as connection:
        store.audit.append(connection, "settled", who="run r", subjects=two)
    assert store.audit.show(keys=[0x0506070811121314]) == []
    assert [row.number for row in store.audit.show(keys=[two[1]])] == [1]


def test_rows_are_found_by_run_destination_and_time(store: Store, clock: Clock) -> None:
    fill(store, 2)
    clock.advance(timedelta(hours=1))
    with store._database.write() as connection:
        store.audit.append(connection, "paused", who="ann", destination="e")
    assert [row.number for row in store.audit.show(run_id="r1")] == [2]
    assert [row.number for row in store.audit.show(destination="e")] == [3]
    assert [row.number for row in store.audit.show(since=clock.now)] == [3]
    assert [row.number for row in store.audit.show(limit=1)] == [3]


def test_who_acts_is_known_where_nobody_says_it(store: Store) -> None:
    with acting("webhook"), store._database.write() as connection:
        store.audit.append(connection, "settled")
    assert store.audit.show()[0].who == "webhook"


def test_a_purge_leaves_a_chain_that_still_proves(store: Store, clock: Clock) -> None:
    fill(store, 3)
    printed = store.audit.head()
    clock.advance(timedelta(days=400))
    fill(store, 2)
    assert store.audit.purge(clock.now - timedelta(days=1)) == 3
    proof = store.audit.verify([printed])
    assert (proof.first, proof.last, proof.problems) == (4, 6, ())
    assert store.audit.show(limit=1)[0].act == "audit purged"
    assert store.audit.purge(clock.now - timedelta(days=1)) == 0
    tamper(store, sa.delete(audit).where(audit.c.number == 4))
    assert list(problems(store)) == [4]


def test_a_purge_of_everything_leaves_the_newest_row(store: Store, clock: Clock) -> None:
    fill(store, 3)
    assert store.audit.purge(clock.now + timedelta(days=1)) == 2
    assert store.audit.verify().problems == ()


def test_a_checkpoint_that_somebody_wrote_is_none(store: Store, clock: Clock) -> None:
    fill(store, 4)
    with store._database.read() as connection:
        mac = connection.execute(sa.select(audit.c.mac).where(audit.c.number == 2)).scalar_one()
    forged = sa.insert(fact).values(name="audit_checkpoint", value=f"2:{mac.hex()}:{'0' * 64}")
    tamper(store, sa.delete(audit).where(audit.c.number <= 2), forged)
    assert problems(store) == {2: "the checkpoint that a purge left was changed"}


def test_another_key_proves_nothing(store: Store, store_url: str, clock: Clock) -> None:
    fill(store, 2)
    database = Database(parse_url(store_url), busy_seconds=5)
    try:
        other = Audit(database, ContactKeys(bytes(32)).derived("audit"), clock)
        assert {number for number, _ in other.verify().problems} == {1, 2}
    finally:
        database.close()


def test_a_head_that_is_none_is_refused() -> None:
    for text in ("", "12", "x:9f86d081884c7d65", "12:9f86"):
        with pytest.raises(ConfigError):
            Head.parse(text)
    assert str(Head.parse("12:9F86d081884c7d65")) == "12:9f86d081884c7d65"


def append_many(url: str, rows: int, start: Barrier) -> None:
    """Append before and after another row is locked: with the head locked at once, two of these would wait for each other."""
    with Store.open(url, key=lambda _: ContactKeys(SECRET), busy_seconds=60) as store:
        start.wait()
        for number in range(rows):
            with store._database.write() as connection:
                if number % 2:
                    store.audit.append(connection, "first", who="p", subjects=[number])
                connection.execute(sa.update(fact).where(fact.c.name == "shared").values(value=str(number)))
                if not number % 2:
                    store.audit.append(connection, "last", who="p", subjects=[number])


def test_processes_that_append_at_once_make_one_chain(store: Store, store_url: str) -> None:
    tamper(store, sa.insert(fact).values(name="shared", value=""))
    start = PROCESSES.Barrier(2)
    processes = [PROCESSES.Process(target=append_many, args=(store_url, 100, start)) for _ in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    assert [each.exitcode for each in processes] == [0, 0]
    proof = store.audit.verify()
    assert (proof.last, proof.problems) == (200, ())
