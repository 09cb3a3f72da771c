"""Reading back: what others changed of ours is seen, and repaired or accepted as the mapping says."""

from contextlib import ExitStack

import pytest

from segue.connectors.emulator import PersonAct
from segue.core.consent import ConsentState
from segue.core.model import RemoteContact
from segue.sync import jobs
from segue.sync.report import Report
from segue.sync.verify import Drift, DriftKind

from ..shop import Shop
from .marketer import delete_field, delete_tag, edit, member, tag

_SPENT = Drift(kind=DriftKind.FIELD, name="SG_SPENT")


@pytest.fixture(params=["sample", "all"])
def size(request: pytest.FixtureRequest) -> int | None:
    """How many are read back: both ways of reading must find the same."""
    return 1_000 if request.param == "sample" else None


def verify(shop: Shop, size: int | None, *, dry_run: bool = False) -> Report:
    with ExitStack() as stack:
        return jobs.verify(shop.job(stack), lambda *_: None, sample=size, dry_run=dry_run)


def found(report: Report) -> dict[Drift, int]:
    assert report.verified is not None
    return dict(report.verified.counts)


def accept(shop: Shop) -> None:
    """Let the mapping leave what others change, from the next build on."""
    shop.mapping = shop.mapping.replace("purpose: test}", "purpose: test, drift: accept}")


def test_right_after_a_sync_nothing_has_drifted(shop: Shop, size: int | None) -> None:
    shop.stock(20)
    shop.customers["c00001"].spent = 1234.5678
    shop.customers["c00002"].spent = 0.0
    shop.customers["c00003"].last_name = "Ünsal-Ødegård " * 40  # longer than a field holds
    shop.run()
    report = verify(shop, size)
    assert report.verified is not None
    assert (report.exit_code, report.verified.checked, found(report)) == (0, 20, {})


def test_a_value_that_somebody_changed_is_seen_and_repaired(shop: Shop, size: int | None) -> None:
    shop.stock(5)
    shop.run()
    edit(shop, "c00001", SG_SPENT=7)
    edit(shop, "c00002", SG_SPENT="")
    report = verify(shop, size)
    assert (report.exit_code, found(report)) == (4, {_SPENT: 2})
    assert verify(shop, size).exit_code == 0
    assert shop.run().writes == 1
    assert {member(shop, f"c0000{number}")["merge_fields"]["SG_SPENT"] for number in range(5)} == {50}
    assert verify(shop, size).exit_code == 0


def test_a_field_of_ours_that_others_fill_is_emptied_again(shop: Shop, size: int | None) -> None:
    shop.stock(2)
    shop.customers["c00001"].last_name = ""
    shop.run()
    edit(shop, "c00001", SG_NAME="Jones")
    assert found(verify(shop, size)) == {Drift(kind=DriftKind.FIELD, name="SG_NAME"): 1}
    shop.run()
    assert member(shop, "c00001")["merge_fields"]["SG_NAME"] == ""


def test_others_fields_and_tags_are_nobodys_drift(shop: Shop, size: int | None) -> None:
    shop.stock(2)
    shop.run()
    edit(shop, "c00001", FNAME="Ada")
    tag(shop, "c00001", vip=True)
    assert found(verify(shop, size)) == {}


def test_tags_of_ours_are_put_back_and_taken_away(shop: Shop, size: int | None) -> None:
    shop.stock(4)
    shop.customers["c00003"].spent = 200.0
    shop.run()
    tag(shop, "c00000", segue_small=False)
    tag(shop, "c00001", segue_big=True)
    assert found(verify(shop, size)) == {
        Drift(kind=DriftKind.TAG_MISSING, name="segue: small"): 1,
        Drift(kind=DriftKind.TAG_EXTRA, name="segue: big"): 1,
    }
    shop.run()
    assert [member(shop, f"c0000{number}")["tags"] for number in range(2)] == [["segue: small"]] * 2
    assert verify(shop, size).exit_code == 0


def test_accepted_drift_stays_until_our_own_value_changes(shop: Shop, size: int | None) -> None:
    accept(shop)
    shop.stock(3)
    shop.run()
    edit(shop, "c00001", SG_SPENT=7)
    edit(shop, "c00002", SG_SPENT=8)
    tag(shop, "c00001", segue_small=False)
    report = verify(shop, size)
    assert report.exit_code == 0
    assert found(report) == {
        Drift(kind=DriftKind.FIELD, name="SG_SPENT", accepted=True): 2,
        Drift(kind=DriftKind.TAG_MISSING, name="segue: small", accepted=True): 1,
    }
    assert shop.run().writes == 0
    shop.customers["c00001"].spent = 60.0
    shop.run()
    assert member(shop, "c00001")["merge_fields"]["SG_SPENT"] == 60
    assert member(shop, "c00002")["merge_fields"]["SG_SPENT"] == 8


def test_a_dry_run_stores_nothing(shop: Shop, size: int | None) -> None:
    shop.stock(2)
    shop.run()
    edit(shop, "c00001", SG_SPENT=7)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00000@shop.example")
    for _ in range(2):
        report = verify(shop, size, dry_run=True)
        assert (report.exit_code, report.left) == (4, 0)
        assert found(report) == {_SPENT: 1, Drift(kind=DriftKind.CONSENT): 1}
    assert verify(shop, size).left == 1


def test_who_left_is_known_from_the_look_on(shop: Shop, size: int | None) -> None:
    shop.stock(2)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00001@shop.example")
    report = verify(shop, size)
    assert (report.exit_code, report.left) == (0, 1)  # people may leave: that is no drift
    with ExitStack() as stack:
        store = shop.job(stack).store
        key = store.keys.address_key("c00001@shop.example")
        assert store.destinations.states("newsletter", [key])[key] is ConsentState.UNSUBSCRIBED
        assert store.consents.records([key])[key].withdrawn_at is not None
    assert found(verify(shop, size)) == {}


def test_who_was_deleted_is_said_and_not_made_again(shop: Shop, size: int | None) -> None:
    shop.stock(3)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.ERASE, address="c00001@shop.example")
    report = verify(shop, size)
    assert (report.exit_code, found(report)) == (4, {Drift(kind=DriftKind.GONE): 1})
    shop.run()
    assert "c00001@shop.example" not in shop.members()


def test_a_sample_is_as_large_as_asked(shop: Shop) -> None:
    shop.stock(30)
    shop.run()
    report = verify(shop, 7)
    assert report.verified is not None
    assert (report.verified.checked, report.reads) == (
        7,
        7 + 4,
    )  # and the key, the audience, its fields, its tags
    assert report.writes == 0


def test_all_are_read_page_by_page(shop: Shop) -> None:
    shop.stock(30)
    shop.run()
    report = verify(shop, None)
    assert report.verified is not None
    assert report.verified.checked == 30
    assert report.reads < 10


def test_tags_that_are_not_shown_in_full_are_not_called_missing(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    for number in range(55):
        tag(shop, "c00000", **{f"theirs{number}": True})
    report = verify(shop, 1)
    assert report.verified is not None
    assert (found(report), report.verified.uncertain) == ({}, 1)
    assert RemoteContact(address="a", state=ConsentState.SUBSCRIBED, status="").tags is None


@pytest.mark.parametrize("delete", [delete_field, delete_tag])
def test_what_somebody_deleted_is_made_again_with_its_values(shop: Shop, delete: object) -> None:
    shop.stock(12)
    shop.run()
    before = {address: (found["merge_fields"], found["tags"]) for address, found in shop.members().items()}
    if delete is delete_field:
        delete_field(shop, "SG_SPENT")
    else:
        delete_tag(shop, "segue: small")
    report = shop.run()
    assert "deleted" in report.notes[0]
    assert {a: (found["merge_fields"], found["tags"]) for a, found in shop.members().items()} == before
    assert shop.run().writes == 0
    assert verify(shop, 100).exit_code == 0


def test_a_tag_that_nobody_carries_is_not_missed(shop: Shop) -> None:
    shop.stock(2)
    assert shop.run().notes == []
    assert shop.run().notes == []
