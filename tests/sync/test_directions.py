"""Fields that others write: pulled, or written from both sides, and whose value counts then."""

from contextlib import ExitStack
from datetime import timedelta
from itertools import chain

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.payload import subscriber_hash
from segue.sync import jobs
from segue.sync.verify import Verification

from ..shop import MAPPING_YML, Shop
from .pulls import FIRST, NEW, move, pull, synced

PULLED = "  - {direction: pull, tag: TOPIC, trait: topic, label: Topic, purpose: test}\n"


def change(shop: Shop, address: str, **fields: str) -> None:
    """Change values at Mailchimp, as a preference centre or a marketer there does."""
    shop.sandbox.sdk().lists.update_list_member(
        shop.sandbox.audience, subscriber_hash(address), {"merge_fields": fields}
    )


def both(conflict: str) -> str:
    """The shop's mapping with a last name that others may change too."""
    return MAPPING_YML.replace("SG_NAME, ", f"SG_NAME, direction: both, conflict: {conflict}, ")


def verify(shop: Shop) -> Verification:
    with ExitStack() as stack:
        report = jobs.verify(shop.job(stack), lambda *_: None, sample=None, dry_run=True)
    assert report.verified is not None
    return report.verified


def asked_for(shop: Shop) -> list[str]:
    """The fields asked for in each request for a page of members."""
    return [
        dict(each.query)["fields"]
        for each in shop.sandbox.referee.exchanges
        if each.method == "GET" and each.path.endswith("/members")
    ]


def test_a_value_that_others_changed_is_kept(shop: Shop) -> None:
    shop.mapping = both("theirs")
    shop.stock(2)
    shop.run()
    change(shop, FIRST, SG_NAME="Jones")
    shop.customers["c00000"].spent = 70.0
    shop.customers["c00000"].last_name = "Brown"
    assert shop.run().values == 1
    assert shop.members()[FIRST]["merge_fields"]["SG_NAME"] == "Jones"
    assert shop.members()[FIRST]["merge_fields"]["SG_SPENT"] == 70
    again = shop.run()
    assert (again.writes, again.values) == (0, 0)
    assert verify(shop).drifted == 0
    shop.customers["c00001"].last_name = "Brown"  # nobody else touched theirs
    shop.run()
    assert shop.members()["c00001@shop.example"]["merge_fields"]["SG_NAME"] == "Brown"


def test_a_value_that_others_cleared_stays_cleared(shop: Shop) -> None:
    shop.mapping = both("theirs")
    shop.stock(2)
    shop.run()
    change(shop, FIRST, SG_NAME="")
    assert shop.run().values == 1
    assert shop.run().writes == 0
    assert shop.members()[FIRST]["merge_fields"]["SG_NAME"] == ""


def test_a_value_that_others_changed_is_overwritten_where_ours_counts(shop: Shop) -> None:
    shop.mapping = both("ours")
    shop.stock(2)
    shop.run()
    change(shop, FIRST, SG_NAME="Jones")
    shop.run()
    assert shop.members()[FIRST]["merge_fields"]["SG_NAME"] == "Smith"
    assert shop.run().writes == 0


def test_whichever_changed_last_counts(shop: Shop) -> None:
    shop.mapping = both("newest")
    shop.stock(2)
    shop.run()
    change(shop, FIRST, SG_NAME="Jones")
    shop.run()
    change(shop, FIRST, SG_NAME="Miller")
    shop.run()
    assert shop.members()[FIRST]["merge_fields"]["SG_NAME"] == "Miller"
    assert shop.run().writes == 0
    assert verify(shop).drifted == 0
    shop.customers["c00000"].last_name = "Brown"
    shop.run()
    assert shop.members()[FIRST]["merge_fields"]["SG_NAME"] == "Brown"
    assert shop.run().writes == 0
    change(shop, FIRST, SG_NAME="Jones")
    shop.run()
    assert shop.members()[FIRST]["merge_fields"]["SG_NAME"] == "Jones"
    assert shop.run().writes == 0


def test_an_echo_of_our_own_write_is_no_change_of_theirs(shop: Shop) -> None:
    shop.mapping = both("theirs").replace("SG_SPENT, ", "SG_SPENT, direction: both, conflict: theirs, ")
    shop.stock(2, spent=12.5)
    shop.run()
    assert shop.run().values == 0
    shop.customers["c00000"].spent = 70.0
    shop.run()
    assert shop.run().values == 0
    assert shop.members()[FIRST]["merge_fields"]["SG_SPENT"] == 70


def test_what_others_had_written_before_we_came_is_kept(shop: Shop) -> None:
    sdk = shop.sandbox.sdk()
    sdk.lists.add_list_member(
        shop.sandbox.audience,
        {"email_address": FIRST, "status": "subscribed", "merge_fields": {"LNAME": "Jones"}},
    )
    shop.mapping = both("theirs").replace("SG_NAME, ", "LNAME, claim: true, ")
    shop.stock(2)
    shop.run()
    assert shop.members()[FIRST]["merge_fields"]["LNAME"] == "Jones"
    assert shop.members()["c00001@shop.example"]["merge_fields"]["LNAME"] == "Smith"
    assert shop.run().writes == 0


def test_values_go_along_with_who_moves(shop: Shop) -> None:
    shop.mapping = both("theirs")
    shop.stock(2)
    synced(shop)
    change(shop, FIRST, SG_NAME="Jones")
    shop.run()
    move(shop, FIRST, NEW)
    shop.customers["c00000"].last_name = "Brown"
    shop.run()
    assert shop.members()[NEW]["merge_fields"]["SG_NAME"] == "Jones"
    assert shop.run().writes == 0


def test_a_pulled_field_is_never_written_or_made_and_its_values_are_known(shop: Shop) -> None:
    shop.mapping = MAPPING_YML.replace("tags:", PULLED + "tags:")
    shop.stock(2)
    shop.run()
    assert "TOPIC" not in shop.audience()["fields"]
    shop.sandbox.sdk().lists.add_list_merge_field(
        shop.sandbox.audience, {"name": "Topic", "tag": "TOPIC", "type": "text"}
    )
    change(shop, FIRST, TOPIC="hats")
    assert shop.run().values == 1
    assert shop.run().writes == 0
    with ExitStack() as stack:
        store = shop.job(stack).store
        found = list(chain.from_iterable(store.pulled.stream_values("newsletter", ["TOPIC"])))
        assert [(key, tag, each.value) for key, tag, each in found] == [
            (store.keys.address_key(FIRST), "TOPIC", "hats")
        ]


def test_a_field_that_is_read_for_the_first_time_is_read_of_everyone(shop: Shop) -> None:
    shop.sandbox.sdk().lists.add_list_merge_field(
        shop.sandbox.audience, {"name": "Topic", "tag": "TOPIC", "type": "text"}
    )
    shop.stock(2)
    shop.run()
    change(shop, FIRST, TOPIC="hats")
    shop.sandbox.emulator.clock.advance(timedelta(hours=1))
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00001@shop.example")
    shop.run()
    shop.mapping = MAPPING_YML.replace("tags:", PULLED + "tags:")
    assert shop.run().values == 1


def test_merge_fields_are_asked_for_only_where_a_mapping_reads_them(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    shop.sandbox.referee.exchanges.clear()
    before = pull(shop)
    assert not any("merge_fields." in fields for fields in asked_for(shop))
    shop.mapping = both("theirs")
    shop.sandbox.referee.exchanges.clear()
    after = pull(shop)
    assert all(fields.count("merge_fields.") == 1 for fields in asked_for(shop))
    assert after.reads == before.reads
