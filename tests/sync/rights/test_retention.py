"""What is older than its limit goes, and nothing that still counts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from segue.core.config import load_project
from segue.core.model import Engagement, EngagementKind
from segue.core.snapshot import current, history
from segue.sync.rights.retention import purge
from segue.sync.store import schema
from segue.sync.store.erasures import Subject
from segue.sync.store.inbox import Message
from segue.sync.store.store import Store

from ...shop import Shop

YEARS = timedelta(days=3650)


def click(year: int) -> Engagement:
    at = datetime(year, 1, 1, tzinfo=UTC)
    return Engagement(address="a@shop.example", kind=EngagementKind.CLICK, occurred_at=at, campaign="c")


def rows(store: Store, table: sa.Table) -> int:
    with store._database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def aged(shop: Shop) -> Shop:
    """A shop that ran twice, with something in every table that has a limit."""
    shop.stock(2)
    shop.run()
    shop.customers["c00001"].spent = 500
    shop.run()
    with Store.of(load_project(shop.folder)) as store:
        store.pulled.put_engagement("newsletter", [click(2020), click(2026)])
        store.inbox.put([Message(destination="newsletter", name="m", content_type="x", body=b"x")])
        store.inbox.give_up([1], problem="unreadable")
        made = store.erasures.request(
            Subject(contact_ids=("gone",), addresses=()), who="x", now=datetime.now(UTC)
        )
        store.erasures.finish(made, made.receipt)
    return shop


def test_what_counts_stays_however_old_it_is(shop: Shop) -> None:
    aged(shop)
    loaded = load_project(shop.folder)
    with Store.of(loaded) as store:
        confirmed = store.baselines.count("newsletter")
        said = rows(store, schema.consent_record)
        done = purge(loaded, store, now=datetime.now(UTC) + YEARS, dry_run=False)
        assert done["snapshots"] == 1
        assert done["plans"] == 1
        assert done["plan_files"] == 1  # nobody was withheld by either plan: that file is still named
        assert done["runs"] == 1
        assert done["engagement"] == 2
        assert done["dead_webhooks"] == 1
        assert done["receipts"] == 1
        assert done["audit"] > 0
        assert store.audit.verify().problems == ()
        assert (store.baselines.count("newsletter"), rows(store, schema.consent_record)) == (confirmed, said)
        assert store.tombstones.erased_at(["gone"], []) is not None
        newest = store.plans.latest("newsletter")
        assert newest is not None
        assert Path(newest.manifest["steps"]).exists()
    assert history(loaded.state_folder) == (current(loaded.state_folder),)
    assert shop.plan().empty


def test_what_is_young_stays(shop: Shop) -> None:
    aged(shop)
    loaded = load_project(shop.folder)
    with Store.of(loaded) as store:
        done = purge(loaded, store, now=datetime.now(UTC), dry_run=False)
    assert {name: count for name, count in done.items() if count} == {"engagement": 1}


def test_a_dry_run_says_the_same_and_removes_nothing(shop: Shop) -> None:
    aged(shop)
    loaded = load_project(shop.folder)
    later = datetime.now(UTC) + YEARS
    with Store.of(loaded) as store:
        said = purge(loaded, store, now=later, dry_run=True)
        assert purge(loaded, store, now=later, dry_run=True) == said
        done = purge(loaded, store, now=later, dry_run=False)
        assert {name: done[name] for name in said} == said
        again = purge(loaded, store, now=later, dry_run=False)
        assert {name: again[name] for name in said} == dict.fromkeys(said, 0)
