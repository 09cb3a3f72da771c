"""An account that has people, fields and tags of its own already."""

import pytest

from ..shop import Shop

THEIRS = 500


def fill(shop: Shop) -> None:
    """Give the account 500 members with a field and a tag of its own; every fifth has left."""
    lists = f"/lists/{shop.sandbox.audience}"
    shop.sandbox.call(
        "POST", f"{lists}/merge-fields", {"name": "Shoe size", "tag": "SHOE", "type": "number"}
    ).raise_for_status()
    members = [
        {
            "email_address": f"c{number:05}@shop.example",
            "status": "unsubscribed" if number % 5 == 0 else "subscribed",
            "merge_fields": {"FNAME": "Ada", "SHOE": 40 + number % 5},
        }
        for number in range(THEIRS)
    ]
    shop.sandbox.call("POST", lists, {"members": members}).raise_for_status()
    some = [member["email_address"] for member in members[:50]]
    shop.sandbox.call("POST", f"{lists}/segments", {"name": "VIP", "static_segment": some}).raise_for_status()


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_a_filled_account_is_adopted_by_address_and_what_is_theirs_stays(shop: Shop) -> None:
    fill(shop)
    before = shop.members()
    assert len(before) == THEIRS
    shop.stock(THEIRS + 20)  # all of them, and 20 that the account does not have
    report = shop.run()
    assert report.exit_code == 0
    assert report.plan is not None
    assert (report.plan.new_contacts, report.plan.adopted) == (20, THEIRS * 4 // 5)
    after = shop.members()
    assert len(after) == THEIRS + 20
    for address, member in before.items():
        now = after[address]
        assert now["status"] == member["status"]
        assert {tag: now["merge_fields"][tag] for tag in ("FNAME", "SHOE")} == {
            tag: member["merge_fields"][tag] for tag in ("FNAME", "SHOE")
        }
        assert set(now["tags"]) - {"segue: small"} == set(member["tags"])
        left = member["status"] == "unsubscribed"
        assert now["merge_fields"].get("SG_SPENT", "") == ("" if left else 50)
    assert shop.run().writes == 0


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_a_claimed_field_is_taken_over_and_nobody_elses_value_is_lost(shop: Shop) -> None:
    """Where we have a value ours counts; where we have none, theirs stays."""
    fill(shop)
    shop.mapping = shop.mapping.replace("tag: SG_ORDERS,", "tag: SHOE, claim: true,")
    shop.stock(10)
    shop.run()
    members = shop.members()
    assert members["c00001@shop.example"]["merge_fields"]["SHOE"] == 1
    assert members["c00011@shop.example"]["merge_fields"]["SHOE"] == 41
    assert shop.run().writes == 0
