from datetime import UTC, datetime, timedelta

import pyarrow as pa

from segue.core.consent import ConsentState
from segue.core.model import RemoteContact
from segue.sync.store.columns import ROWS
from segue.sync.store.destinations import REMOTE
from segue.sync.store.store import Store


def remote(store: Store, destination: str) -> dict[int, str]:
    tables = list(store.destinations.stream_remote(destination))
    assert all(batch.schema == REMOTE for batch in tables)
    return {row["address_key"]: row["state"] for batch in tables for row in batch.to_pylist()}


def seen(state: ConsentState, opted_in_at: datetime | None = None, record_id: str = "") -> RemoteContact:
    return RemoteContact(address="", state=state, status="", opted_in_at=opted_in_at, record_id=record_id)


def test_the_state_seen_last_counts_and_destinations_are_apart(store: Store) -> None:
    store.destinations.record_remote("d", {1: seen(ConsentState.SUBSCRIBED), 2: seen(ConsentState.PENDING)})
    store.destinations.record_remote("d", {1: seen(ConsentState.UNSUBSCRIBED)})
    store.destinations.record_remote("other", {1: seen(ConsentState.SUBSCRIBED)})
    assert remote(store, "d") == {1: "unsubscribed", 2: "pending"}
    assert remote(store, "nowhere") == {}


def test_a_time_of_opting_in_stays_until_another_one_is_told(store: Store) -> None:
    at = datetime(2026, 5, 3, tzinfo=UTC)
    there = {1: seen(ConsentState.SUBSCRIBED, at), 2: seen(ConsentState.SUBSCRIBED)}
    store.destinations.record_remote("d", there)
    store.destinations.record_moved("d", 7, 1, seen(ConsentState.SUBSCRIBED, at + timedelta(days=1)))
    store.destinations.record_remote("d", {1: seen(ConsentState.UNSUBSCRIBED)})
    opt_ins = store.destinations.opt_ins("d", [1, 2, 3])
    assert (opt_ins[1].seen, opt_ins[1].stated) == (at, at + timedelta(days=1))
    assert (opt_ins[2].seen, opt_ins[2].stated) == (None, None)
    assert 3 not in opt_ins
    assert remote(store, "d") == {1: "unsubscribed", 2: "subscribed"}
    assert store.destinations.written_for("d", [1, 2, 3]) == {1: 7}


def test_the_id_of_a_record_stays_until_another_one_is_told(store: Store) -> None:
    there = {1: seen(ConsentState.SUBSCRIBED, record_id="501"), 2: seen(ConsentState.SUBSCRIBED)}
    store.destinations.record_remote("d", there)
    store.destinations.record_remote("d", {1: seen(ConsentState.UNSUBSCRIBED)})
    assert store.destinations.record_ids("d", [1, 2, 3]) == {1: "501"}
    store.destinations.record_moved("d", 7, 3, seen(ConsentState.SUBSCRIBED, record_id="501"))
    store.destinations.forget_remote("d", [1])
    assert store.destinations.record_ids("d", [1, 2, 3]) == {3: "501"}


def test_more_than_one_group_of_remote_contacts_streams_back_whole(store: Store) -> None:
    count = 2 * ROWS + 5_000
    store.destinations.record_remote("d", dict.fromkeys(range(count), seen(ConsentState.SUBSCRIBED)))
    batches = list(store.destinations.stream_remote("d"))
    assert max(batch.num_rows for batch in batches) <= ROWS
    assert sorted(pa.Table.from_batches(batches)["address_key"].to_pylist()) == list(range(count))


def test_what_we_made_is_remembered_by_kind(store: Store) -> None:
    store.destinations.own("d", "field", {"SG_RFM": None, "SG_TIER": "17"})
    store.destinations.own("d", "field", {"SG_RFM": "18"})
    store.destinations.own("d", "tag", {"segue: loyal": "9"})
    store.destinations.own("d", "tag", {})
    assert store.destinations.owned("d", "field") == {"SG_RFM": "18", "SG_TIER": "17"}
    assert store.destinations.owned("d", "tag") == {"segue: loyal": "9"}
    assert store.destinations.owned("other", "tag") == {}


def test_a_cursor_moves(store: Store) -> None:
    assert store.destinations.cursor("d", "pull") is None
    for value in ("1", "2"):
        store.destinations.set_cursor("d", "pull", value)
    assert store.destinations.cursor("d", "pull") == "2"
    assert store.destinations.cursor("d", "other") is None
