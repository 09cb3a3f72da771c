"""What a rule sounds like. Each pair is a golden one: read it aloud before changing it."""

import pytest

from segue.core.model import Trait, TraitType
from segue.core.segments.explain import explain
from segue.core.segments.language import parse

LABELS = {"vip": "Very important"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "times('product_viewed', '7 days') > 3 and times('order_placed', '7 days') = 0",
            "Contacts who viewed a product more than 3 times in the last 7 days and placed no order in the last 7 days.",
        ),
        (
            "recency_days > 30 and 'electronics' in top_categories",
            'Contacts whose recency days is more than 30 and top categories include "electronics".',
        ),
        (
            (
                "gender = 'female' and age_years between 25 and 34 "
                "and ever('product_bought', '30 days', category = 'athletic wear')"
            ),
            (
                'Contacts whose gender is "female", age years is between 25 and 34 and who bought a product '
                '(category is "athletic wear") at least once in the last 30 days.'
            ),
        ),
        (
            "recency_days > 90 and ever('page_viewed', '7 days', url like '/pricing%')",
            (
                'Contacts whose recency days is more than 90 and who visited a page (url starts with "/pricing") '
                "at least once in the last 7 days."
            ),
        ),
        (
            "unanswered('cart_added', 'order_placed', '24 hours', '7 days') >= 1",
            (
                "Contacts who put something in the cart (and placed no order within 24 hours after it) at least once "
                "in the last 7 days."
            ),
        ),
        (
            "unanswered('cart_added', 'order_placed', '1 day') = 0",
            "Contacts who at no time put something in the cart (and placed no order within 24 hours after it).",
        ),
        (
            "in_segment('vip') and not in_segment('lapsing_regulars')",
            'Contacts who are in the segment "Very important" and are not in the segment "lapsing regulars".',
        ),
        (
            "days_since('order_placed') > 90 and days_since('page_viewed', url = '/x') <= 7",
            (
                'Contacts who last placed an order more than 90 days ago and last visited a page (url is "/x") '
                "at most 7 days ago."
            ),
        ),
        (
            "days_since('order_placed') is null or not days_since('order_placed') is null",
            "Contacts who never placed an order or placed an order at least once.",
        ),
        (
            "not days_since('order_placed') > 90",
            "Contacts whose number of days since they last placed an order is not more than 90 (or is missing).",
        ),
        (
            "(a = 1 or b = 2) and (c = 3 or (d = 4 and e = 5 and f = 6))",
            "Contacts (whose a is 1 or b is 2) and (whose c is 3 or (whose d is 4, e is 5 and f is 6)).",
        ),
        (
            "not (country = 'GB' or recency_days > 30) and (ever('email_clicked') and accepts or spend < 5)",
            (
                'Contacts whose country is not "GB" (or is missing), recency days is not more than 30 (or is missing) '
                "and ((who clicked in an e-mail at least once and whose accepts is true) or whose spend is less than 5)."
            ),
        ),
        (
            "country not in ('GB', 'FR', 'DE') and city is not null and not accepts",
            (
                'Contacts whose country is not "GB", "FR" or "DE" (or is missing), city is known and accepts is false '
                "(or is missing)."
            ),
        ),
        (
            "accepts is false or accepts is not true",
            "Contacts whose accepts is false or accepts is not true (or is missing).",
        ),
        (
            "created_at >= '2024-01-01' and not birth_date > date '1980-01-01'",
            (
                'Contacts whose created at is not before "2024-01-01" and birth date is not after 1980-01-01 '
                "(or is missing)."
            ),
        ),
        ("days_since(created_at) <= 30", "Contacts whose number of days since created at is at most 30."),
        ("30 < recency_days", "Contacts whose recency days is more than 30."),
        (
            "revenue / orders_count > 50.5",
            "Contacts whose (revenue divided by orders count) is more than 50.5.",
        ),
        (
            "total('order_placed', '90 days') >= 250 and distinct_products('product_viewed', '2 weeks') between 2 and 4",
            (
                "Contacts whose total amount over all times they placed an order in the last 90 days is at least 250 and "
                "number of different products over all times they viewed a product in the last 14 days is between 2 and 4."
            ),
        ),
        (
            "times('order_placed') = 1 and times('order_placed', '30 days') < 2 and not times('page_viewed') > 5",
            (
                "Contacts who placed an order exactly once, placed an order fewer than 2 times in the last 30 days and "
                "visited a page at most 5 times."
            ),
        ),
        ("not ever('order_placed')", "Contacts who never placed an order."),
        ("ever('order_placed') = false", "Contacts who never placed an order."),
        (
            "times('webinar_joined', '2 days') = 0 and ever('webinar_joined')",
            (
                'Contacts who had no event "webinar_joined" in the last 2 days and had the event "webinar_joined" '
                "at least once."
            ),
        ),
        (
            "times('page_viewed', (url like '%shoe%' or category = 'shoes') and not product_id is null) < 2",
            (
                'Contacts who visited a page ((url contains "shoe" or category is "shoes") and product id is known) '
                "fewer than 2 times."
            ),
        ),
        (
            "email not ilike '%@EXAMPLE.com' and name like 'J_n'",
            (
                'Contacts whose email does not end with "@EXAMPLE.com" (in capitals or not) (or is missing) '
                "and name fits the pattern J_n."
            ),
        ),
        (
            "times('product_viewed', '7 days') > times('product_viewed', '30 days') / 2",
            (
                "Contacts whose number of times they viewed a product in the last 7 days is more than "
                "(number of times they viewed a product in the last 30 days divided by 2)."
            ),
        ),
        ("true", "All contacts."),
        ("false", "No contacts."),
    ],
)
def test_a_rule_reads_as_a_sentence(text: str, sentence: str) -> None:
    assert explain(parse(text), labels=LABELS) == sentence


def test_traits_are_explained_after_the_sentence() -> None:
    traits = [
        Trait(
            name="recency_days",
            type=TraitType.INTEGER,
            description="Whole days since the last order",
            null_means="never ordered",
        ),
        Trait(name="rfm_score", type=TraitType.TEXT, description="RFM score from 111 to 555."),
        Trait(name="unused", type=TraitType.TEXT, description="Not in the rule"),
    ]
    assert explain(parse("recency_days > 30 and rfm_score = '555'"), traits) == (
        'Contacts whose recency days is more than 30 and rfm score is "555". '
        "Recency days: whole days since the last order; missing: never ordered. "
        "Rfm score: RFM score from 111 to 555."
    )
