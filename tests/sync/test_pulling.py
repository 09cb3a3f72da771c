"""What a pull learns: who changed, who is gone, who moved; nobody missed, nobody raised, nothing twice."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from segue.connectors.base import Page
from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.members import Members
from segue.connectors.mailchimp.payload import subscriber_hash
from segue.core.config import load_project
from segue.core.consent import ConsentState, effective, merge_all
from segue.core.errors import GuardrailError
from segue.core.snapshot import current
from segue.sync import jobs, pulling
from segue.sync.jobs import Job
from segue.sync.store.store import Store

from ..shop import Shop
from .pulls import FIRST, NEW, move, pull, synced


def consent(job: Job, address: str, contact_id: str | None = None) -> ConsentState:
    keys = [job.store.keys.address_key(address)]
    keys += [job.store.keys.contact_key(contact_id)] if contact_id else []
    return effective(merge_all(job.store.consents.records(keys).values()))


def confirmed(shop: Shop) -> int:
    with ExitStack() as stack:
        return shop.job(stack).store.baselines.count("newsletter")


def is_known(job: Job, address: str) -> bool:
    key = job.store.keys.address_key(address)
    return key in job.store.destinations.states("newsletter", [key])


def mailed(shop: Shop) -> set[str]:
    return {address for address, member in shop.members().items() if member["status"] == "subscribed"}


def test_who_changes_in_the_second_of_the_cursor_or_is_shown_late_is_not_missed(shop: Shop) -> None:
    """Mailchimp's filter leaves out the very second that is asked for."""
    shop.stock(2)
    shop.sandbox.emulator.clock.set(shop.sandbox.emulator.clock.now())
    shop.run()
    pull(shop)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    assert pull(shop).left == 1
    with shop.sandbox.emulator.lock:  # a change of four minutes ago becomes visible now
        shop.sandbox.emulator.clock.advance(timedelta(minutes=-4))
        shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00001@shop.example")
        shop.sandbox.emulator.clock.advance(timedelta(minutes=4))
    assert pull(shop).left == 1


def test_what_was_seen_changes_nothing_when_it_is_seen_again(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    assert pull(shop).left == 1
    again = pull(shop)
    assert again.pulled
    assert again.left == 0


def test_a_clock_of_ours_that_is_days_ahead_hides_nobody(shop: Shop) -> None:
    """Cursors are on the ESP's clock alone."""
    shop.sandbox.emulator.clock.advance(timedelta(days=-3))
    shop.stock(2)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    assert pull(shop).left == 1


class Killed(BaseException):
    """As a kill: nothing of ours catches it."""


def test_a_pull_that_is_killed_goes_on_behind_the_last_page_that_it_stored(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(3)
    for number in range(2500):
        shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=f"stranger{number}@shop.example")
        shop.sandbox.emulator.clock.advance(timedelta(seconds=1))
    whole = Mailchimp.pull
    killed_at = 2

    def dies(self: Mailchimp, cursor: str | None, **more: object) -> Iterator[Page]:
        for number, page in enumerate(whole(self, cursor, only=())):
            if number == killed_at:
                raise Killed
            yield page

    for full in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(Mailchimp, "pull", dies)
            with pytest.raises(Killed):
                pull(shop, full=full)
        # Two pages of three are stored, the last of which is read again but for the overlap.
        report = pull(shop, full=full)
        assert 500 < report.pulled < 2000
        with ExitStack() as stack:
            job = shop.job(stack)
            assert all(is_known(job, f"stranger{number}@shop.example") for number in range(2500))
        assert report.gone == 0


def test_a_pull_that_makes_room_for_others_is_gone_on_with(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1_500):
        shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=f"stranger{number}@shop.example")
        shop.sandbox.emulator.clock.advance(timedelta(seconds=1))
    shop.stock(1)
    shop.build()
    with ExitStack() as stack:
        job = shop.job(stack)
        read, left = 0, 3
        while (report := jobs.pull(job, lambda *_: None, seconds=0)).unfinished and left:
            read, left = read + report.pulled, left - 1
        assert left
        assert read >= 1_000
        assert all(is_known(job, f"stranger{number}@shop.example") for number in range(1_500))


def test_who_leaves_while_the_archive_is_read_is_seen_by_the_next_pull(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive's newest member is younger than a change on the list that came behind the reading of the list."""
    clock = shop.sandbox.emulator.clock
    shop.stock(3)
    shop.run()
    whole = Members.everyone

    def meanwhile(self: Members, *given: object) -> Iterator[object]:
        for name, page in whole(self, *given):  # type: ignore[arg-type]
            yield name, page
            if name == "listed":
                clock.advance(timedelta(minutes=1))
                shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
                clock.advance(timedelta(hours=1))
                archive(shop, "c00002@shop.example")

    with monkeypatch.context() as patch:
        patch.setattr(Members, "everyone", meanwhile)
        assert pull(shop).left == 1
    assert pull(shop).left == 1


def archive(shop: Shop, address: str) -> None:
    shop.sandbox.sdk().lists.delete_list_member(shop.sandbox.audience, subscriber_hash(address))


def test_who_was_deleted_is_found_by_a_full_pull_and_not_made_again(shop: Shop) -> None:
    shop.stock(4)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.ERASE, address=FIRST)
    shop.sandbox.emulator.act(PersonAct.ERASE, address="c00001@shop.example")
    assert pull(shop).gone == 0
    report = pull(shop, full=True)
    assert (report.gone, report.left) == (2, 2)
    assert confirmed(shop) == 2
    with ExitStack() as stack:
        job = shop.job(stack)
        assert not is_known(job, FIRST)
        assert consent(job, FIRST, "c00000") is ConsentState.UNSUBSCRIBED
    shop.customers["c00000"].spent = 70.0
    shop.customers["c00001"].email = NEW
    assert shop.run().writes == 0
    assert len(mailed(shop)) == 2
    assert pull(shop, full=True).gone == 0


def test_who_was_deleted_and_says_yes_later_may_come(shop: Shop) -> None:
    shop.sandbox.settings(mode="permissive")  # otherwise Mailchimp refuses whoever was deleted for good
    shop.stock(2)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.ERASE, address=FIRST)
    pull(shop, full=True)
    at = jobs.utc_now() + timedelta(milliseconds=1)
    shop.acts.append({"contact_id": "c00000", "act": "grant", "at": at, "evidence": '{"form": "again"}'})
    shop.run()
    assert FIRST in mailed(shop)


def test_many_that_are_gone_at_once_need_a_persons_word(shop: Shop) -> None:
    shop.stock(60)
    shop.run()
    for number in range(20):
        shop.sandbox.emulator.act(PersonAct.ERASE, address=f"c{number:05}@shop.example")
    with pytest.raises(GuardrailError, match="20 of the 60"):
        pull(shop, full=True)
    with ExitStack() as stack:
        assert consent(shop.job(stack), FIRST, "c00000") is ConsentState.SUBSCRIBED
    assert confirmed(shop) == 60
    assert pull(shop, full=True, override=True).gone == 20
    assert confirmed(shop) == 40


def test_who_slipped_through_a_full_pull_is_asked_for_before_they_count_as_gone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(3)
    shop.run()
    whole = Mailchimp.pull

    def forgetful(self: Mailchimp, cursor: str | None, **more: object) -> Iterator[Page]:
        for page in whole(self, cursor, only=()):
            yield Page(contacts=[c for c in page.contacts if c.address != FIRST], cursor=page.cursor)

    monkeypatch.setattr(Mailchimp, "pull", forgetful)
    assert pull(shop, full=True).gone == 0
    assert confirmed(shop) == 3


def test_an_address_changed_there_is_kept_and_written_at(shop: Shop) -> None:
    shop.stock(2)
    synced(shop)
    move(shop, FIRST, NEW)
    shop.customers["c00000"].spent = 70.0
    report = shop.run()
    assert report.moved == 1
    assert report.plan is not None
    assert dict(report.plan.operations) == {"update": 1}
    assert mailed(shop) == {NEW, "c00001@shop.example"}
    assert shop.members()[NEW]["merge_fields"]["SG_SPENT"] == 70
    assert shop.run().writes == 0
    assert pull(shop, full=True).gone == 0


def test_a_third_address_in_the_data_wins_over_one_changed_there(shop: Shop) -> None:
    shop.stock(2)
    synced(shop)
    move(shop, FIRST, NEW)
    shop.run()
    move(shop, NEW, "newer@shop.example")
    shop.run()
    assert mailed(shop) == {"newer@shop.example", "c00001@shop.example"}
    shop.customers["c00000"].email = "third@shop.example"
    shop.run()
    assert mailed(shop) == {"third@shop.example", "c00001@shop.example"}
    assert shop.run().writes == 0


def test_who_goes_back_to_the_old_address_there_is_written_at_it(shop: Shop) -> None:
    shop.stock(2)
    synced(shop)
    move(shop, FIRST, NEW)
    shop.run()
    move(shop, NEW, FIRST)
    shop.customers["c00000"].spent = 70.0
    shop.run()
    assert shop.members()[FIRST]["merge_fields"]["SG_SPENT"] == 70
    assert mailed(shop) == {FIRST, "c00001@shop.example"}


def test_who_left_and_moved_between_two_pulls_has_left_as_a_person(shop: Shop) -> None:
    shop.stock(2)
    synced(shop)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    move(shop, FIRST, NEW)
    pull(shop)
    with ExitStack() as stack:
        job = shop.job(stack)
        assert consent(job, FIRST) is ConsentState.UNSUBSCRIBED
        assert consent(job, "elsewhere@shop.example", "c00000") is ConsentState.UNSUBSCRIBED
    shop.customers["c00000"].email = "third@shop.example"
    shop.run()
    assert mailed(shop) == {"c00001@shop.example"}


def test_who_left_here_is_opted_out_at_the_address_that_they_moved_to(shop: Shop) -> None:
    shop.stock(2)
    synced(shop)
    shop.customers["c00000"].consents += [("withdrawal", 1, "")]
    move(shop, FIRST, NEW)
    shop.run()
    assert mailed(shop) == {"c00001@shop.example"}
    assert shop.members()[NEW]["status"] == "unsubscribed"


def test_a_withdrawal_of_an_address_alone_goes_along_with_it(shop: Shop) -> None:
    """Nobody in the data has it, and the ESP does not know that it was said."""
    shop.stock(1)
    stranger = "stranger@shop.example"
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=stranger)
    synced(shop)
    shop.acts.append({"email": stranger, "act": "withdrawal"})
    move(shop, stranger, NEW)
    shop.run()
    with ExitStack() as stack:
        assert consent(shop.job(stack), NEW) is ConsentState.UNSUBSCRIBED
    shop.run()
    assert NEW not in mailed(shop)


def test_a_move_of_our_own_is_none_of_theirs(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    pull(shop)
    shop.customers["c00000"].email = NEW
    shop.customers["c00001"].email = FIRST  # somebody else has the old address now
    shop.run()
    assert shop.run().moved == 0
    assert mailed(shop) == {NEW, FIRST}
    assert shop.run().writes == 0


OTHER = """\
  other:
    connector: mailchimp
    mapping: mapping.yml
    settings:
      api_key: env:SANDBOX_KEY
      audience: {audience}
      base_url: {base_url}
"""


def test_who_left_is_told_to_the_others_although_the_pull_that_saw_it_was_killed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.sandbox.emulator.lock:
        other = shop.sandbox.emulator.account.add_audience("Other")
    shop.more = OTHER.format(audience=other.id, base_url=shop.sandbox.base_url)
    shop.stock(2)
    shop.build()
    shop.run()
    with ExitStack() as stack:
        project = load_project(shop.folder)
        store = stack.enter_context(Store.of(project))
        job = stack.enter_context(Job(project, "other", store, current(project.state_folder)))
        jobs.run(job, lambda *_: None, override=True)
        shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)

        def dies(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(pulling, "fan_out", dies)
            with pytest.raises(Killed):
                pull(shop)
        assert store.outbox.urgent("other", 10) == []
        pull(shop)
        assert [row.address for row in store.outbox.urgent("other", 10)] == [FIRST]
