"""Each named rule, at each of its levels: what leaves, what is emptied, what stays, and what is counted."""

import json
from decimal import Decimal
from typing import Any

import pytest

from segue.core.data.rules import RULES, Effect
from segue.core.errors import ConfigError, DataError

from .conftest import AS_OF, Folder, found, rows

PRODUCTS = "product_id,name,price\np1,Lamp,10\np2,Vase,5\n"
ORDERS = "order_id,contact_id,ordered_at\no1,c1,2026-01-01\n"
ITEMS = "order_id,product_id,quantity,unit_price\n"


def warn(*rules: str, **levels: str) -> dict[str, Any]:
    return {"max_rejected_share": 1, "rules": {**dict.fromkeys(rules, "warn"), **levels}}


def test_a_row_without_its_key_is_left_out(folder: Folder) -> None:
    ingested = folder.ingest_csv({"customers": "contact_id,city\nc1,Ulm\n ,Bonn\n"})
    assert rows(ingested.tables.customers, "contact_id") == ["c1"]
    assert found(ingested) == [("missing_key", 2, "contact_id", "row left out")]


def test_a_broken_value_is_left_out_and_the_row_stays_where_it_can(folder: Folder) -> None:
    ingested = folder.ingest_csv(
        {
            "customers": "contact_id,birth_date\nc1,12/31/1980\nc2,1980-12-31\n",
            "orders": "order_id,contact_id,ordered_at\no1,c1,01/02/2026\no2,c1,2026-01-02\n",
        }
    )
    assert rows(ingested.tables.customers, "contact_id") == ["c1", "c2"]
    assert rows(ingested.tables.orders, "order_id") == ["o2"]
    assert found(ingested) == [
        ("wrong_type", 1, "birth_date", "value left out"),
        ("wrong_type", 1, "ordered_at", "row left out"),
    ]


def test_of_one_key_the_newest_row_stays_else_the_last(folder: Folder) -> None:
    customers = (
        "contact_id,city,updated_at\nc1,new,2026-02-01\nc1,old,2026-01-01\nc1,undated,\nc2,first,\nc2,last,\n"
    )
    ingested = folder.ingest_csv({"customers": customers, "products": "product_id,name\np1,old\np1,new\n"})
    assert rows(ingested.tables.customers, "contact_id", "city") == [("c1", "new"), ("c2", "last")]
    assert rows(ingested.tables.products, "name") == ["new"]
    assert [row[1] for row in found(ingested) if row[0] == "duplicate_key"] == [1, 2, 3, 4]


def test_the_same_event_twice_is_one_event_with_or_without_an_id(folder: Folder) -> None:
    events = "event_id,contact_id,event_type,occurred_at\n"
    lines = "e1,c1,Product Viewed,2026-01-01\ne1,c1,Product Viewed,2026-01-01\n"
    lines += ",c1,cart-added,2026-01-02\n,c1,cart-added,2026-01-02\n,c1,cart-added,2026-01-03\n"
    ingested = folder.ingest_csv({"events": events + lines}, quality={"max_rejected_share": 0})
    assert rows(ingested.tables.events, "event_type") == ["cart_added", "cart_added", "product_viewed"]
    assert [row[:2] for row in found(ingested)] == [("duplicate_event", 1), ("duplicate_event", 3)]


def test_an_event_of_nobody_known_is_left_out_and_not_counted(folder: Folder) -> None:
    events = "contact_id,event_type,occurred_at\nc1,view,2026-01-01\n,view,2026-01-01\nc9,view,2026-01-01\n"
    ingested = folder.ingest_csv({"events": events}, quality={"max_rejected_share": 0})
    assert rows(ingested.tables.events, "contact_id") == ["c1"]
    assert [row[:2] for row in found(ingested)] == [
        ("event_without_customer", 2),
        ("event_without_customer", 3),
    ]
    assert ingested.report.sources[1].rows_left_out == 2
    assert ingested.report.sources[1].rows_rejected == 0


def test_a_broken_address_costs_the_address_and_not_the_customer(folder: Folder) -> None:
    ingested = folder.ingest_csv({"customers": "contact_id,email\nc1, Anna@Shop.Example \nc2,anna@\nc3,\n"})
    assert rows(ingested.tables.customers, "contact_id", "email") == [
        ("c1", "anna@shop.example"),
        ("c2", None),
        ("c3", None),
    ]
    assert found(ingested) == [("invalid_email", 2, "email", "value left out")]
    assert "anna@" not in json.dumps(ingested.quarantine.to_pyarrow().to_pylist())


@pytest.mark.parametrize(
    ("level", "expected"), [("refuse", ["o1"]), ("warn", ["o1", "o2"]), ("off", ["o1", "o2"])]
)
def test_an_order_of_an_unknown_customer(folder: Folder, level: str, expected: list[str]) -> None:
    orders = ORDERS + "o2,c9,2026-01-01\n"
    ingested = folder.ingest_csv({"orders": orders}, quality=warn(order_without_customer=level))
    assert rows(ingested.tables.orders, "order_id") == expected
    assert "c9" not in rows(ingested.tables.orders, "contact_id")
    assert len(found(ingested)) == (level != "off")


def test_a_guest_keeps_the_order(folder: Folder) -> None:
    ingested = folder.ingest_csv({"orders": ORDERS + "o2,,2026-01-01\n"})
    assert rows(ingested.tables.orders, "order_id", "contact_id") == [("o1", "c1"), ("o2", None)]
    assert not found(ingested)


def test_an_order_line_needs_an_order_and_may_miss_a_product(folder: Folder) -> None:
    items = ITEMS + "o1,p1,1,10\no9,p1,1,10\no1,p9,1,10\n"
    ingested = folder.ingest_csv({"products": PRODUCTS, "orders": ORDERS, "order_items": items})
    assert rows(ingested.tables.order_items, "product_id", "line_kind") == [("p1", "sale"), ("p9", "sale")]
    assert found(ingested) == [
        ("item_without_order", 2, "order_id", "row left out"),
        ("item_without_product", 3, "product_id", "kept"),
    ]


def test_lines_of_an_order_that_was_left_out_leave_with_it(folder: Folder) -> None:
    tables = {
        "products": PRODUCTS,
        "orders": "order_id,ordered_at\no1,never\n",
        "order_items": ITEMS + "o1,p1,1,10\n",
    }
    assert rows(folder.ingest_csv(tables).tables.order_items, "order_id") == []


@pytest.mark.parametrize(
    ("level", "lines", "listed"), [("refuse", [1, 3], [2]), ("warn", [1, 2, 3], [2]), ("off", [1, 2, 3], [])]
)
def test_an_exact_duplicate_line_leaves_and_the_first_stays(
    folder: Folder, level: str, lines: list[int], listed: list[int]
) -> None:
    items = ITEMS + "o1,p1,1,10\no1,p1,1,10.00\no1,p1,2,10\n"
    tables = {"products": PRODUCTS, "orders": ORDERS, "order_items": items}
    ingested = folder.ingest_csv(tables, quality=warn(exact_duplicate_line=level))
    assert rows(ingested.tables.order_items, "line_no") == lines
    assert [row[1] for row in found(ingested)] == listed


def test_impossible_quantities_leave(folder: Folder) -> None:
    items = ITEMS + "o1,p1,0,10\no1,p1,1000001,10\no1,p1,80995,10\no1,p2,1.5,10\n"
    ingested = folder.ingest_csv({"products": PRODUCTS, "orders": ORDERS, "order_items": items})
    assert rows(ingested.tables.order_items, "quantity") == [80995]
    assert rows(ingested.quarantine, "rule", "value_class") == [
        ("impossible_quantity", "number"),
        ("impossible_quantity", "zero"),
        ("wrong_type", "number"),
    ]


@pytest.mark.parametrize("level", ["refuse", "warn"])
def test_amounts_too_large_to_be_summed_leave(folder: Folder, level: str) -> None:
    items = ITEMS + "o1,p1,1,99999999999999.9999\no1,p1,-9223372036854775808,10\no1,p1,1,999999999999\n"
    quality = warn(impossible_amount=level, impossible_quantity="warn")
    ingested = folder.ingest_csv(
        {"products": PRODUCTS, "orders": ORDERS, "order_items": items}, quality=quality
    )
    assert rows(ingested.tables.order_items, "quantity") == [1]
    assert [row[:2] for row in found(ingested) if row[0] == "impossible_amount"] == [
        ("impossible_amount", 1),
        ("impossible_amount", 2),
    ]


def test_a_product_without_a_price_is_kept_and_a_fee_needs_none(folder: Folder) -> None:
    products = "product_id,price,is_merchandise\np1,0,yes\np2,,ja\np3,,nein\np4,1,\n"
    ingested = folder.ingest_csv({"products": products})
    assert [row[:2] for row in found(ingested)] == [
        ("product_without_price", 1),
        ("product_without_price", 2),
    ]
    assert rows(ingested.tables.products, "product_id", "is_merchandise")[2:] == [("p3", False), ("p4", True)]


def test_a_country_is_read_in_many_languages_and_never_filled_in_over_an_unknown_one(folder: Folder) -> None:
    names = [
        "EIRE",
        "Österreich",
        "uk",
        "USA",
        "RSA",
        "Allemagne",
        "Channel Islands",
        "DEU",
        "",
        "European Community",
    ]
    customers = "contact_id,country\n" + "".join(f"c{place},{name}\n" for place, name in enumerate(names))
    ingested = folder.ingest_csv({"customers": customers}, country="GB")
    expected = ["IE", "AT", "GB", "US", "ZA", "DE", "JE", "DE", "GB", None]
    assert [country for _, country in rows(ingested.tables.customers, "contact_id", "country")] == expected
    assert found(ingested) == [("unknown_country", 10, "country", "value left out")]


def test_a_currency_is_the_shops_where_none_is_given(folder: Folder) -> None:
    products = "product_id,price,currency\np1,1,\np2,1,usd\np3,1,€\np4,1,Taler\n"
    ingested = folder.ingest_csv({"products": products}, currency="GBP")
    assert [code for _, code in rows(ingested.tables.products, "product_id", "currency")] == [
        "GBP",
        "USD",
        "EUR",
        None,
    ]
    assert found(ingested) == [("unknown_currency", 4, "currency", "value left out")]


@pytest.mark.parametrize(("level", "kept"), [("warn", 5), ("refuse", 4), ("off", 5)])
def test_a_currency_must_be_the_countrys_or_the_shops(folder: Folder, level: str, kept: int) -> None:
    orders = "order_id,ordered_at,country,currency\n"
    orders += "o1,2026-01-01,DE,EUR\no2,2026-01-01,DE,GBP\no3,2026-01-01,DE,USD\no4,2026-01-01,,USD\no5,2026-01-01,HR,EUR\n"
    ingested = folder.ingest_csv({"orders": orders}, currency="GBP", quality=warn(country_currency=level))
    assert len(rows(ingested.tables.orders, "order_id")) == kept
    assert [row[:2] for row in found(ingested)] == ([] if level == "off" else [("country_currency", 3)])


def test_kinds_of_document_are_read_in_shops_own_words(folder: Folder) -> None:
    words = ["", "Sale", "refund", "Credit Note", "adjustment", "mystery"]
    orders = "order_id,ordered_at,kind\n" + "".join(
        f"o{place},2026-01-01,{word}\n" for place, word in enumerate(words)
    )
    ingested = folder.ingest_csv({"orders": orders})
    kinds = [kind for _, kind in rows(ingested.tables.orders, "order_id", "kind")]
    assert kinds == ["order", "order", "cancellation", "cancellation", "adjustment"]
    assert found(ingested) == [("unknown_kind", 6, "kind", "row left out")]


def test_a_birth_date_beyond_reason_is_emptied(folder: Folder) -> None:
    customers = "contact_id,birth_date\nc1,1899-12-31\nc2,2030-01-01\nc3,1980-05-05\n"
    ingested = folder.ingest_csv({"customers": customers})
    assert [day for _, day in rows(ingested.tables.customers, "contact_id", "birth_date")][:2] == [None, None]
    assert [row[:2] for row in found(ingested)] == [
        ("impossible_birth_date", 1),
        ("impossible_birth_date", 2),
    ]


def test_a_row_of_the_future_is_kept_and_does_not_make_the_data_look_fresh(folder: Folder) -> None:
    ingested = folder.ingest_csv({"orders": ORDERS + "o2,c1,2099-01-01\n"})
    assert found(ingested) == [("future_date", 2, "ordered_at", "kept")]
    assert str(ingested.report.newest) == "2026-01-01 00:00:00+00:00"


CONSENTS = "contact_id,email,act,occurred_at,evidence\n"


def consents(folder: Folder, *lines: str, **sections: Any) -> Any:
    return folder.ingest_csv({"consents": CONSENTS + "".join(line + "\n" for line in lines)}, **sections)


def test_a_consent_has_defaults_and_its_evidence_is_a_json_object_of_texts(folder: Folder) -> None:
    ingested = consents(
        folder,
        'c1,,Subscribed,2026-01-01,"{""form"": ""checkout"", ""version"": 3, ""ip"": null}"',
        "c2,,opt-in,2026-01-02,paper form 17",
        "c3,,grant,2026-01-03,[1]",
        'c4,,granted,2026-01-04,"{""form"": "" ""}"',
    )
    assert (
        rows(ingested.tables.consents, "act", "channel", "purpose", "source")
        == [("grant", "email", "marketing", "consents.csv")] * 4
    )
    evidence = [
        text and json.loads(text) for _, text in rows(ingested.tables.consents, "contact_id", "evidence")
    ]
    assert evidence == [
        {"form": "checkout", "version": "3", "ip": ""},
        {"reference": "paper form 17"},
        {"reference": "[1]"},
        None,
    ]
    assert found(ingested) == [("grant_without_evidence", 4, "evidence", "kept")]


def test_an_unknown_act_is_a_withdrawal_and_counts_as_rejected(folder: Folder) -> None:
    ingested = consents(folder, "c1,,whatever,2026-01-01,x", "c1,,,2026-01-02,")
    assert rows(ingested.tables.consents, "act") == ["withdrawal", "withdrawal"]
    assert [row[0] for row in found(ingested)] == ["unknown_act", "unknown_act"]
    assert ingested.report.sources[1].rows_rejected == 2
    with pytest.raises(DataError, match="unknown_act"):
        consents(folder, "c1,,whatever,2026-01-01,x", quality={"max_rejected_share": 0.5})


def test_a_withdrawal_without_a_time_counts_from_now_and_a_grant_without_one_does_not(folder: Folder) -> None:
    ingested = consents(
        folder, "c1,,unsubscribed,,", "c2,,bounced,03/04/2026,", "c3,,grant,,x", "c4,,request,soon,"
    )
    times = [(act, str(time)) for act, time in rows(ingested.tables.consents, "act", "occurred_at")]
    assert times == [
        ("suppression", "2026-03-01 12:00:00+00:00"),
        ("withdrawal", "2026-03-01 12:00:00+00:00"),
    ]
    assert AS_OF.startswith("2026-03-01T12:00:00")


def test_a_grant_of_the_future_is_refused_and_a_withdrawal_of_the_future_kept(folder: Folder) -> None:
    ingested = consents(
        folder,
        "c1,,grant,2099-01-01,x",
        "c1,,release,2099-01-01,x",
        "c1,,request,2099-01-01,",
        "c1,,withdrawal,2099-01-01,",
    )
    assert rows(ingested.tables.consents, "act") == ["withdrawal"]
    assert [row[:2] for row in found(ingested)] == [
        ("future_date", 4), ("future_grant", 1), ("future_grant", 2), ("future_grant", 3),
    ]  # fmt: skip


def test_a_consent_needs_a_contact_or_an_address(folder: Folder) -> None:
    ingested = consents(
        folder,
        ",A@X.de,withdrawal,2026-01-01,",
        ",nonsense,withdrawal,2026-01-01,",
        "c1,nonsense,withdrawal,2026-01-01,",
    )
    assert rows(ingested.tables.consents, "contact_id", "email") == [("c1", None), (None, "a@x.de")]
    assert ("missing_key", 2, None, "row left out") in found(ingested)


def test_too_many_rejected_rows_stop_the_build_with_all_counts(folder: Folder) -> None:
    tables = {
        "customers": "contact_id,email\nc1,a@\nc2,b@x.de\n",
        "orders": ORDERS + "o2,c9,2026-01-01\n",
    }
    with pytest.raises(DataError) as error:
        folder.ingest_csv(tables, quality={"max_rejected_share": 0.4})
    assert len(error.value.problems) == 2
    assert "1 of 2 rows of customers are rejected (50.0%), more than the 40.0%" in error.value.message
    assert "order_without_customer 1 in orders.csv" in error.value.message
    allowed = folder.ingest_csv(tables, quality={"max_rejected_share": 0.5})
    assert allowed.report.sources[0].rows_rejected == 1


def test_a_warning_never_stops_a_build(folder: Folder) -> None:
    quality = {"max_rejected_share": 0, "rules": {"invalid_email": "warn"}}
    ingested = folder.ingest_csv({"customers": "contact_id,email\nc1,a@\n"}, quality=quality)
    assert ingested.report.rules[0].level == "warn"
    assert (ingested.report.rules[0].rows, ingested.report.rules[0].effect) == (1, "value left out")


@pytest.mark.parametrize(
    "rule", [rule.name for rule in RULES.values() if rule.warned is Effect.ROW] + ["unknown_act"]
)
def test_a_rule_that_leaves_rows_out_cannot_be_off(folder: Folder, rule: str) -> None:
    with pytest.raises(ConfigError, match="cannot be off"):
        folder.ingest_csv({}, quality={"rules": {rule: "off"}})


def test_prices_with_a_decimal_comma_and_a_sign(folder: Folder) -> None:
    text = "product_id;price\np1;1.234,50 €\np2;0,99\n"
    source = {"path": folder.write("p.csv", text), "decimal": ","}
    ingested = folder.ingest(
        {"customers": {"path": folder.write("c.csv", "contact_id\n")}, "products": source}
    )
    assert rows(ingested.tables.products, "price") == [Decimal("0.99"), Decimal("1234.5")]
