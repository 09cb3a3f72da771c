from datetime import UTC, datetime, timedelta

import pyarrow as pa

from segue.core.consent import ConsentState
from segue.sync.store.columns import ROWS
from segue.sync.store.destinations import REMOTE
from segue.sync.store.store import Store


def remote(store: Store, destination: str) -> dict[int, str]:
    tables = list(store.destinations.stream_remote(destination))
    assert all(batch.schema == REMOTE for batch in tables)
    return {row["address_key"]: row["state"] for batch in tables for row in batch.to_pylist()}


def test_the_state_seen_last_counts_and_destinations_are_apart(store: Store) -> None:
    store.destinations.record_remote(
        "d", [(1, ConsentState.SUBSCRIBED, None), (2, ConsentState.PENDING, None)]
    )
    store.destinations.record_remote("d", iter([(1, ConsentState.UNSUBSCRIBED, None)]))
    store.destinations.record_remote("other", [(1, ConsentState.SUBSCRIBED, None)])
    assert remote(store, "d") == {1: "unsubscribed", 2: "pending"}
    assert remote(store, "nowhere") == {}


def test_of_one_address_twice_in_a_batch_the_later_counts(store: Store) -> None:
    store.destinations.record_remote(
        "d", [(1, ConsentState.SUBSCRIBED, None), (1, ConsentState.SUPPRESSED, None)]
    )
    assert remote(store, "d") == {1: "suppressed"}


def test_a_time_of_opting_in_stays_until_another_one_is_told(store: Store) -> None:
    at = datetime(2026, 5, 3, tzinfo=UTC)
    store.destinations.record_remote(
        "d", [(1, ConsentState.SUBSCRIBED, at), (2, ConsentState.SUBSCRIBED, None)]
    )
    store.destinations.record_moved("d", 7, 1, ConsentState.SUBSCRIBED, at + timedelta(days=1))
    store.destinations.record_remote("d", [(1, ConsentState.UNSUBSCRIBED, None)])
    opt_ins = store.destinations.opt_ins("d", [1, 2, 3])
    assert (opt_ins[1].seen, opt_ins[1].stated) == (at, at + timedelta(days=1))
    assert (opt_ins[2].seen, opt_ins[2].stated) == (None, None)
    assert 3 not in opt_ins
    assert remote(store, "d") == {1: "unsubscribed", 2: "subscribed"}
    assert store.destinations.written_for("d", [1, 2, 3]) == {1: 7}


def test_more_than_one_group_of_remote_contacts_streams_back_whole(store: Store) -> None:
    count = 2 * ROWS + 5_000
    store.destinations.record_remote("d", ((key, ConsentState.SUBSCRIBED, None) for key in range(count)))
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
