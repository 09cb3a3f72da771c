"""What was pulled, in the next build: values as traits, opens and clicks as events, by contact, and none of it early."""

import shutil
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.core.config import load_project
from segue.core.errors import ConfigError
from segue.core.personalize import build
from segue.core.snapshot import Snapshot
from segue.sync import jobs
from segue.sync.check import check
from segue.sync.inbound.learnt import learnt_by
from segue.sync.jobs import utc_now
from segue.sync.report import Report

from ..shop import MAPPING_YML, SEGUE_YML, Shop

PULLED = "  - {direction: pull, tag: TOPIC, trait: topic, label: Topic, purpose: test}\n"
FIRST, SECOND = "c00000@shop.example", "c00001@shop.example"


@pytest.fixture(autouse=True)
def told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop of two that pulls a topic, opens and clicks, and has segments of both."""
    more = (
        "  hats: {{where: topic = 'hats'}}\n  sleepers: {{where: \"times('email_opened', '30 days') = 0\"}}\n"
    )
    monkeypatch.setattr("tests.shop.SEGUE_YML", SEGUE_YML.replace("destinations:", more + "destinations:"))
    shop.more = "    engagement: true\n"
    shop.mapping = MAPPING_YML.replace("tags:", PULLED + "tags:").replace("segments: all", "segments: [big]")
    shop.sandbox.sdk().lists.add_list_merge_field(
        shop.sandbox.audience, {"name": "Topic", "tag": "TOPIC", "type": "text"}
    )
    shop.stock(2)
    shop.run()


def pull(shop: Shop) -> Report:
    with ExitStack() as stack:
        return jobs.pull(shop.job(stack), lambda *_: None)


def built(shop: Shop, as_of: datetime | None = None) -> Snapshot:
    """Build from files, as `segue build` does."""
    rows = "".join(f"{each.contact_id},{each.address}\n" for each in shop.customers.values())
    (shop.folder / "customers.csv").write_text(f"contact_id,email\n{rows}")
    project = load_project(shop.folder)
    shutil.rmtree(project.state_folder / "snapshots")  # published without a build, and so without a history
    return build(project, as_of=as_of or utc_now(), progress=lambda *_: None, learnt=learnt_by(project))


def rows(snapshot: Snapshot, query: str) -> list[tuple[Any, ...]]:
    con = snapshot.connect()
    try:
        found: list[tuple[Any, ...]] = con.raw_sql(query).fetchall()
        return found
    finally:
        con.disconnect()


def like(shop: Shop, address: str, topic: str) -> None:
    members = {each["email_address"]: each["id"] for each in shop.members().values()}
    shop.sandbox.sdk().lists.update_list_member(
        shop.sandbox.audience, members[address], {"merge_fields": {"TOPIC": topic}}
    )


def test_a_pulled_value_is_a_trait_and_a_row_to_look_at(shop: Shop) -> None:
    like(shop, FIRST, "hats")
    pull(shop)
    snapshot = built(shop)
    assert rows(snapshot, "select contact_id, topic from profiles order by 1") == [
        ("c00000", "hats"),
        ("c00001", None),
    ]
    assert rows(snapshot, "select contact_id, destination, tag, value from pulled") == [
        ("c00000", "newsletter", "TOPIC", "hats")
    ]
    assert rows(snapshot, "select contact_id from segments where segment = 'hats'") == [("c00000",)]
    assert check(load_project(shop.folder)).problems == ()


def test_opens_and_clicks_are_events_that_rules_can_use(shop: Shop) -> None:
    campaign = shop.sandbox.emulator.send_campaign()
    shop.sandbox.emulator.act(PersonAct.OPEN, address=FIRST)
    shop.sandbox.emulator.act(PersonAct.CLICK, address=SECOND)
    assert pull(shop).engagement == 2
    assert pull(shop).engagement == 0
    snapshot = built(shop)
    found = rows(snapshot, "select contact_id, event_type, campaign_id from events order by 1")
    assert found == [("c00000", "email_opened", campaign), ("c00001", "email_clicked", campaign)]
    assert rows(snapshot, "select contact_id from segments where segment = 'sleepers'") == [("c00001",)]


def test_what_was_learnt_later_is_not_known_at_an_earlier_moment(shop: Shop) -> None:
    before = utc_now() - timedelta(seconds=2)
    like(shop, FIRST, "hats")
    shop.sandbox.emulator.act(PersonAct.OPEN, address=FIRST)
    pull(shop)
    snapshot = built(shop, before)
    assert rows(snapshot, "select count(*) from pulled") == [(0,)]
    assert rows(snapshot, "select count(*) from events") == [(0,)]


def test_what_was_learnt_stays_with_who_moves_there(shop: Shop) -> None:
    like(shop, FIRST, "hats")
    shop.sandbox.emulator.act(PersonAct.OPEN, address=FIRST)
    pull(shop)
    member = shop.members()[FIRST]["id"]
    shop.sandbox.sdk().lists.update_list_member(
        shop.sandbox.audience, member, {"email_address": "new@shop.example"}
    )
    pull(shop)
    snapshot = built(shop)
    assert rows(snapshot, "select topic from profiles where contact_id = 'c00000'") == [("hats",)]
    assert rows(snapshot, "select contact_id from events") == [("c00000",)]


def test_a_project_that_pulls_nothing_learns_nothing(shop: Shop) -> None:
    shop.more, shop.mapping = "", MAPPING_YML
    shop.build()
    assert learnt_by(load_project(shop.folder)) is None


def test_a_trait_has_one_origin(shop: Shop) -> None:
    shop.mapping = shop.mapping.replace("trait: topic", "trait: recency_days")
    shop.customers["c00000"].spent = 51.0
    shop.build()
    with pytest.raises(ConfigError, match="recency_days"):
        built(shop)


def test_reports_that_cannot_be_read_keep_nobody_from_being_known_to_have_left(shop: Shop) -> None:
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    shop.customers["c00000"].spent = 51.0
    shop.build()
    broken = Fault(kind=FaultKind.ERROR, method="GET", path="/reports")
    shop.sandbox.emulator.faults.arm([broken])
    report = pull(shop)
    assert report.left == 1
    assert any("Opens and clicks" in line for line in report.warnings)
    assert report.exit_code == 0


def test_no_report_is_asked_for_unless_the_destination_says_so(shop: Shop) -> None:
    shop.more = ""
    shop.build()
    shop.sandbox.referee.exchanges.clear()
    pull(shop)
    assert not any("/reports" in each.path for each in shop.sandbox.referee.exchanges)
