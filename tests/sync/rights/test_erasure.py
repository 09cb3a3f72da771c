"""Erasure: nobody and nothing of them is left, anywhere, and they cannot come back."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.core.config import Project, load_project
from segue.core.consent import ConsentState, effective
from segue.core.model import Engagement, EngagementKind, RemoteContact
from segue.core.snapshot import current, history
from segue.sync import contact, jobs
from segue.sync.inbound.observing import observe
from segue.sync.ledger.desk import find
from segue.sync.rights import erasure, plans
from segue.sync.rights.access import held_of
from segue.sync.rights.receipt import as_json, as_text
from segue.sync.rights.whom import whom
from segue.sync.store import erasures, schema
from segue.sync.store.erasures import Erasure
from segue.sync.store.inbox import Message
from segue.sync.store.pulled import PulledValue
from segue.sync.store.store import Store

from ...acceptance.ugly_shop import Ended, segue
from ...shop import AS_OF, Customer, Shop

ADA, NAME = "c00001@shop.example", "Lovelace"


@contextmanager
def opened(shop: Shop) -> Iterator[tuple[Project, Store]]:
    project = load_project(shop.folder)
    with Store.of(project) as store:
        yield project, store


def stocked(shop: Shop) -> Shop:
    """Three customers, synced, of whom Ada is everywhere: two snapshots, plans, pulled values, clicks and webhooks."""
    shop.stock(3)
    ada = shop.customers["c00001"]
    ada.last_name, ada.spent = NAME, 500
    shop.run()
    ada.spent = 600
    shop.run()
    ada.spent = 700
    shop.plan()
    with opened(shop) as (_, store):
        key = store.keys.address_key(ADA)
        store.pulled.put_values("newsletter", {(key, "SHOE"): PulledValue(value="43", changed_at=AS_OF)})
        click = Engagement(address=ADA, kind=EngagementKind.CLICK, occurred_at=AS_OF, campaign="may")
        store.pulled.put_engagement("newsletter", [click])
        store.pulled.name("newsletter", {"their-name": key})
        body = f"type=profile&fired_at=2026-03-01+00%3A00%3A00&data%5Bemail%5D={ADA}&data%5Blist_id%5D=x&data%5Bid%5D=1"
        form = "application/x-www-form-urlencoded"
        store.inbox.put([Message(destination="newsletter", name="m", content_type=form, body=body.encode())])
    return shop


def forget(shop: Shop, who: str = ADA) -> Erasure:
    with opened(shop) as (project, store):
        return erasure.erase(project, store, whom(project, store, who), who="the officer")


def desk(shop: Shop, *words: str, code: int = 0) -> Ended:
    """Say something at the desk, as a command."""
    done = segue("consent", *words, "--json", "--project", shop.folder)
    assert done.code == code, done.out + done.err
    return done


def left_in_files(shop: Shop, *words: str) -> list[Path]:
    """The files below the state folder in which any of these words stands."""
    return [
        path
        for path in (shop.folder / ".segue").rglob("*")
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words)
    ]


def left_in_store(shop: Shop, *words: str) -> set[str]:
    """The tables in which any of these words stands."""
    found = set()
    with opened(shop) as (_, store), store._database.read() as connection:
        for table in schema.METADATA.sorted_tables:
            for row in connection.execute(sa.select(table)):
                if any(
                    word in str(value) or word.encode() in _bytes(value) for value in row for word in words
                ):
                    found.add(table.name)
    return found


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def test_nothing_of_an_erased_person_is_left(shop: Shop) -> None:
    stocked(shop)
    assert left_in_store(shop, ADA) >= {"baseline_payload", "inbox"}
    done = forget(shop)
    assert done.finished_at is not None
    assert ADA not in shop.members()
    assert left_in_store(shop, ADA, NAME, "c00001") == set()
    with opened(shop) as (project, store):
        for snapshot in history(project.state_folder):
            con = snapshot.connect()
            for table in snapshot.tables:
                rows = con.table(table).to_pyarrow().to_pylist()
                assert not any({ADA, NAME, "c00001"} & set(map(str, row.values())) for row in rows)
            con.disconnect()
        held = held_of(project, store, ADA)
        assert held.is_empty
        assert held.erased_at == done.requested_at
        assert "keyed hashes" in held.sentence()
    assert left_in_files(shop, ADA, NAME) == []


def test_in_an_encrypted_store_nothing_is_left_either(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "ab" * 32)
    shop.more = "encryption_key: env:ENCRYPTION_KEY\n"
    stocked(shop)
    with opened(shop) as (project, store), store.leases.hold("newsletter"):
        begun = erasure.erase(project, store, whom(project, store, ADA), who="x")
        assert begun.finished_at is None
        assert left_in_store(shop, ADA, "c00001") == set()  # whom it is about is sealed until it is done
    with opened(shop) as (project, store):
        (waiting,) = store.erasures.unfinished()
        assert waiting.subject is not None
        assert waiting.subject.addresses == (ADA,)
        assert plans.count(store, waiting.subject) > 0
        assert erasure.resume(project, store, waiting).finished_at is not None
        assert plans.count(store, waiting.subject) == 0
        assert held_of(project, store, ADA).is_empty
    assert ADA not in shop.members()


def test_a_run_can_still_be_taken_back_when_somebody_was_erased_since(shop: Shop) -> None:
    stocked(shop)
    shop.customers["c00002"].spent = 900
    run = shop.run()
    forget(shop)
    with ExitStack() as stack:
        job = shop.job(stack)
        with jobs.recorded(job, "plan") as (lease, report):
            _, undoing = job.plan_rollback(run.run_id, lease, report, lambda *_: None)
    assert undoing.restored == 1


def test_everybody_else_stays_as_they_were(shop: Shop) -> None:
    stocked(shop)
    forget(shop)
    assert set(shop.members()) == {"c00000@shop.example", "c00002@shop.example"}
    del shop.customers["c00001"]
    assert shop.plan().empty


def test_an_erased_person_is_not_mailed_again_though_the_data_still_has_them(shop: Shop) -> None:
    stocked(shop)
    forget(shop)
    shop._built = {}  # the shop's export knows nothing of it
    report = shop.run()
    assert ADA not in shop.members()
    assert report.tally.outcomes == {}
    with opened(shop) as (_, store):
        keys = [store.keys.contact_key("c00001"), store.keys.address_key(ADA)]
        assert {effective(record) for record in store.consents.records(keys).values()} == {
            ConsentState.SUPPRESSED
        }


def test_the_receipt_says_all_and_names_nobody(shop: Shop) -> None:
    stocked(shop)
    done = forget(shop)
    step = done.receipt["steps"]["newsletter"]
    assert step["answers"] == [{"was_there": True, "answer": "204", "is_gone": True}]
    assert step["rows"].keys() >= {"baseline", "baseline_payload", "remote", "pulled_value", "engagement"}
    text = as_text(done, "small") + json.dumps(as_json(done), default=str)
    assert "the officer" in text
    assert "erased (answer 204), and read back as gone" in text
    assert not any(word in text for word in (ADA, NAME, "c00001"))
    with opened(shop) as (_, store):
        assert store.erasures.get(done.erasure_id) == done
        acts = [row.act for row in store.audit.show(keys=[store.keys.contact_key("c00001")])]
        assert acts[0] == "erased"
        assert store.audit.verify().problems == ()


def test_the_outlook_changes_nothing(shop: Shop) -> None:
    stocked(shop)
    with opened(shop) as (project, store):
        found = erasure.outlook(project, store, whom(project, store, "c00001"))
        assert found["destinations"]["newsletter"]["note"] == Mailchimp.erasing
        assert found["snapshot_rows"]["profiles"] == 1
        assert found["plan_rows"] > 0
        assert found["messages"] == 1
        assert store.erasures.unfinished() == []
        assert store.tombstones.erased_at(["c00001"], [ADA]) is None
    assert ADA in shop.members()


def waiting(begun: Erasure) -> list[str]:
    return [name for name, step in begun.receipt["steps"].items() if "waits_for" in step]


def test_a_run_that_holds_the_destination_keeps_only_its_part_waiting(shop: Shop) -> None:
    stocked(shop)
    with opened(shop) as (project, store), store.leases.hold("newsletter"):
        begun = erasure.erase(project, store, whom(project, store, ADA), who="x")
        assert begun.finished_at is None
        assert set(waiting(begun)) == {"newsletter", "here"}
        assert store.tombstones.erased_at([], [ADA]) is not None
        assert ADA in shop.members()
    with opened(shop) as (project, store):
        (left,) = store.erasures.unfinished()
        assert erasure.resume(project, store, left).finished_at is not None
        assert store.erasures.unfinished() == []
    assert ADA not in shop.members()


def test_an_account_that_does_not_answer_keeps_only_its_part_waiting(shop: Shop) -> None:
    stocked(shop)
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE)])
    begun = forget(shop)
    assert set(waiting(begun)) == {"newsletter"}
    assert begun.receipt["steps"]["newsletter"]["exit_code"] == 3
    shop.sandbox.emulator.faults.arm(())
    with opened(shop) as (project, store):
        assert erasure.resume(project, store, begun).finished_at is not None
    assert ADA not in shop.members()


def test_what_is_here_is_removed_once_more_after_the_last_account(shop: Shop) -> None:
    """A run in between finds them at the account that did not answer, and names them in the files of its plan."""
    stocked(shop)
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE)])
    begun = forget(shop)
    shop.sandbox.emulator.faults.arm(())
    shop.run()
    with opened(shop) as (project, store):
        done = erasure.resume(project, store, begun)
        assert done.finished_at is not None
        assert "done_at" in done.receipt["steps"]["here"]
        assert (
            done.receipt["steps"]["here"]["snapshot_rows"] == begun.receipt["steps"]["here"]["snapshot_rows"]
        )
    assert "done, and once more when the other parts are" in as_text(begun, "shop")
    for path in (shop.folder / ".segue" / "plans").rglob("*.parquet"):
        assert ADA.encode() not in path.read_bytes()
    with opened(shop) as (project, store):
        assert plans.count(store, whom(project, store, ADA)) == 0


def test_who_moved_at_the_account_is_found_by_the_address_there(shop: Shop) -> None:
    stocked(shop)
    new = "ada.new@shop.example"
    audience = shop.sandbox.sdk().lists
    audience.update_list_member(shop.sandbox.audience, ADA, {"email_address": new})
    with ExitStack() as stack:
        jobs.pull(shop.job(stack), lambda *_: None)
    with opened(shop) as (project, store):
        theirs = whom(project, store, new)
    assert "c00001" in theirs.contact_ids
    assert set(theirs.addresses) >= {ADA, new}


def test_the_news_of_our_own_erasure_is_no_evidence(shop: Shop) -> None:
    """The account tells of every deletion, ours too, and perhaps when all is done."""
    stocked(shop)
    assert forget(shop).finished_at is not None
    with ExitStack() as stack:
        job = shop.job(stack)
        gone = RemoteContact(
            address=ADA, state=ConsentState.UNSUBSCRIBED, status="unsubscribe", changed_at=jobs.utc_now()
        )
        observe(
            job.store, "newsletter", [gone], people=job.people, now=jobs.utc_now(), run_id=None, told=True
        )
    with opened(shop) as (project, store):
        assert held_of(project, store, ADA).is_empty


STEPS = ("_at_destination", "_here")


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_any_step_the_same_again_completes_it(
    shop: Shop, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked(shop)

    with monkeypatch.context() as patched:
        real = getattr(erasure, step)

        def does_it_and_dies(*given: object) -> None:
            real(*given)
            raise KeyboardInterrupt

        patched.setattr(erasure, step, does_it_and_dies)
        with pytest.raises(KeyboardInterrupt):
            forget(shop)
    with opened(shop) as (project, store):
        (left,) = store.erasures.unfinished()
        assert erasure.resume(project, store, left).finished_at is not None
    assert ADA not in shop.members()
    assert left_in_store(shop, ADA, NAME, "c00001") == set()


def test_whoever_shares_the_address_is_the_same_person(shop: Shop) -> None:
    shop.stock(2)
    shop.customers["c00001"].email = "c00000@shop.example"
    shop.build()
    with opened(shop) as (project, store):
        assert whom(project, store, "c00001").contact_ids == ("c00000", "c00001")


def test_an_address_of_before_goes_too_unless_somebody_else_has_it_now(shop: Shop) -> None:
    shop.stock(2)
    shop.customers["c00000"].email = "old@shop.example"
    shop.customers["c00001"].email = "older@shop.example"
    shop.build()
    shop.customers["c00000"].email = "new@shop.example"
    shop.build()
    with opened(shop) as (project, store):
        assert whom(project, store, "c00000").addresses == ("new@shop.example", "old@shop.example")
    shop.customers["c00001"].email = "old@shop.example"
    shop.build()
    with opened(shop) as (project, store):
        assert whom(project, store, "c00000").addresses == ("new@shop.example",)


def test_every_column_that_is_about_a_person_is_among_those_that_are_erased() -> None:
    known = {(each.table.name, each.name) for each in (*erasures.OF_CONTACT, *erasures.OF_ADDRESS)}
    about = {
        (table.name, column.name)
        for table in schema.METADATA.sorted_tables
        for column in table.columns
        if column.name in {"contact_key", "address_key", "subject_key", "subjects", "written_for"}
        and table.name not in erasures.KEPT
    }
    assert about - known == {("remote", "written_for")}  # emptied and not removed: somebody else has the row


def test_a_snapshot_without_the_person_is_still_current(shop: Shop) -> None:
    stocked(shop)
    forget(shop)
    with opened(shop) as (project, _):
        assert current(project.state_folder).rows("profiles") == 2
        assert current(project.state_folder).as_of == AS_OF


def test_an_account_that_left_segue_yml_while_its_part_waited_keeps_no_erasure_open(shop: Shop) -> None:
    stocked(shop)
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE)])
    begun = forget(shop, "stranger@shop.example")  # of whom nothing is known at the account
    assert waiting(begun) == ["newsletter"]
    with opened(shop) as (project, store):
        without = project.model_copy(update={"destinations": {}})
        done = erasure.resume(without, store, begun)
    assert done.finished_at is not None
    assert done.receipt["steps"]["newsletter"]["by_hand"]


def test_an_id_that_looks_like_an_address_gets_its_tombstones(shop: Shop) -> None:
    """Also when the data has it no longer, and beside the address that the person has today."""
    was, now = "ada@old.example", "ada@new.example"
    shop.customers[was] = Customer(was, email=now)
    shop.run()
    with opened(shop) as (project, store):
        theirs = whom(project, store, was)
        assert (theirs.contact_ids, theirs.addresses) == ((was,), (now, was))
    del shop.customers[was]
    shop.stock(1)
    for snapshot in history(shop.folder / ".segue"):
        shutil.rmtree(snapshot.path)
    shop.build()
    forget(shop, was)
    with opened(shop) as (_, store):
        assert store.tombstones.erased_at([was], []) is not None
        assert store.tombstones.erased_at([], [was]) is not None


def test_who_was_erased_may_leave_once_more_and_no_proof_of_it_is_kept(shop: Shop) -> None:
    """They signed up again at the platform by themselves, and ask the shop to be left alone."""
    stocked(shop)
    forget(shop)
    with opened(shop) as (_, store):
        there = RemoteContact(address=ADA, state=ConsentState.SUBSCRIBED, status="subscribed")
        store.destinations.record_remote("newsletter", {store.keys.address_key(ADA): there})
    for who in ("c00001", ADA):
        said = desk(shop, "withdraw", who, "--evidence", "call=4711")
    assert said.json()["opt_outs"] == {"newsletter": 1}
    desk(shop, "grant", "c00001", "--evidence", "call=4711", code=2)
    with opened(shop) as (_, store):
        keys = [store.keys.contact_key("c00001"), store.keys.address_key(ADA)]
        assert not any(each.entry.evidence for each in store.consents.history(keys))


def test_a_release_that_is_refused_leaves_the_erasure_as_it_is(shop: Shop) -> None:
    stocked(shop)
    forget(shop)
    for wrong in (["--at", "yesterday"], ["--at", "2999-01-01T00:00:00Z"]):
        desk(shop, "release", ADA, "--erased", *wrong, code=2)
    desk(shop, "release", ADA, code=2)
    with opened(shop) as (_, store):
        assert store.tombstones.erased_at([], [ADA]) is not None


def test_every_way_to_ask_finds_who_moved_at_the_account(shop: Shop) -> None:
    stocked(shop)
    new = "ada.new@shop.example"
    shop.sandbox.sdk().lists.update_list_member(shop.sandbox.audience, ADA, {"email_address": new})
    with ExitStack() as stack:
        jobs.pull(shop.job(stack), lambda *_: None)
    with opened(shop) as (project, store):
        snapshot = current(project.state_folder)
        assert contact.view(project, snapshot, store, new).contact_id == "c00001"
        assert store.keys.contact_key("c00001") in contact.keys_of(project, store, new)
        assert set(find(project, store, snapshot, new).contacts) == {"c00001"}


def test_whoever_has_the_address_that_is_anothers_id_hides_no_address(shop: Shop) -> None:
    """Both are found by it, and what either said of leaving counts."""
    shop.customers["ada@a.example"] = Customer("ada@a.example", email="ada@b.example")
    shop.customers["z"] = Customer("z", email="ada@a.example")
    shop.build()
    with opened(shop) as (project, store):
        person = find(project, store, current(project.state_folder), "ada@a.example")
    assert set(person.addresses.values()) == {"ada@a.example", "ada@b.example"}
    assert person.here is not None
    assert person.addresses[person.here] == "ada@a.example"
