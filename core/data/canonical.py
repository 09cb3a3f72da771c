"""The canonical tables: the one shape into which every source is brought and on which everything else stands.

Column names and types are a contract. A source may lack optional columns (they come as nulls) and customers may
have more (they become traits).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

TIMESTAMP: Final = dt.Timestamp(timezone="UTC")
MONEY: Final = dt.Decimal(18, 4)  # sums of DOUBLE differ between two equal runs on several threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: `required` ones are never null in a canonical table."""

    name: str
    type: dt.DataType
    description: str
    required: bool = False


class LineKind(StrEnum):
    """What an order line is; each line has exactly one kind, decided by `core.data.lines`."""

    SALE = "sale"  # merchandise, quantity and price above zero, in an order, and not taken back whole
    REVERSED = "reversed"  # such a line, cancelled later by the same contact: same product and quantity
    REVERSAL = "reversal"  # the cancellation line that took it back whole
    RETURN = "return"  # any other merchandise line with a negative quantity in a cancellation
    FEE = "fee"  # postage, manual, bank charges: not merchandise
    FREE = "free"  # merchandise at price zero
    ADJUSTMENT = (
        "adjustment"  # write-offs and bookkeeping: negative outside a cancellation, or a negative price
    )


CUSTOMERS: Final = (
    Column(name="contact_id", type=dt.string, required=True, description="the shop's own key of the person"),
    Column(
        name="email",
        type=dt.string,
        description="normalised address; null when there is none or it is refused",
    ),
    Column(name="first_name", type=dt.string, description="given name"),
    Column(name="last_name", type=dt.string, description="family name"),
    Column(name="phone", type=dt.string, description="telephone number as the shop has it"),
    Column(name="gender", type=dt.string, description="as the shop records it, in lower case"),
    Column(name="birth_date", type=dt.date, description="date of birth"),
    Column(name="country", type=dt.string, description="ISO 3166-1 alpha-2 code"),
    Column(name="city", type=dt.string, description="town"),
    Column(name="postal_code", type=dt.string, description="postal code"),
    Column(name="language", type=dt.string, description="BCP 47 tag"),
    Column(name="currency", type=dt.string, description="ISO 4217 code"),
    Column(name="created_at", type=TIMESTAMP, description="when the shop first knew the person"),
    Column(name="updated_at", type=TIMESTAMP, description="when the shop last changed the row"),
)

PRODUCTS: Final = (
    Column(name="product_id", type=dt.string, required=True, description="the shop's own key"),
    Column(name="name", type=dt.string, description="what a customer reads"),
    Column(name="category", type=dt.string, description="one category per product"),
    Column(name="url", type=dt.string, description="product page"),
    Column(name="image_url", type=dt.string, description="product picture"),
    Column(name="price", type=MONEY, description="list price"),
    Column(name="currency", type=dt.string, description="ISO 4217 code"),
    Column(name="in_stock", type=dt.boolean, description="null: unknown"),
    Column(
        name="is_merchandise",
        type=dt.boolean,
        required=True,
        description="false: a fee line, never a product",
    ),
)

ORDERS: Final = (
    Column(name="order_id", type=dt.string, required=True, description="the document's number"),
    Column(name="contact_id", type=dt.string, description="null: a guest"),
    Column(name="ordered_at", type=TIMESTAMP, required=True, description="when"),
    Column(name="kind", type=dt.string, required=True, description="order, cancellation or adjustment"),
    Column(name="country", type=dt.string, description="ISO 3166-1 alpha-2 code of the delivery"),
    Column(name="currency", type=dt.string, description="ISO 4217 code"),
)

ORDER_ITEMS: Final = (
    Column(name="order_id", type=dt.string, required=True, description="the order"),
    Column(name="line_no", type=dt.int64, required=True, description="position in the order"),
    Column(name="product_id", type=dt.string, required=True, description="the product"),
    Column(name="quantity", type=dt.int64, required=True, description="negative: sent back or written off"),
    Column(name="unit_price", type=MONEY, required=True, description="per piece, in the order's currency"),
    Column(name="line_kind", type=dt.string, required=True, description="a LineKind"),
)

EVENTS: Final = (
    Column(name="event_id", type=dt.string, required=True, description="unique; the same twice is one event"),
    Column(name="contact_id", type=dt.string, required=True, description="who"),
    Column(name="event_type", type=dt.string, required=True, description="snake_case, e.g. product_viewed"),
    Column(name="occurred_at", type=TIMESTAMP, required=True, description="when"),
    Column(name="product_id", type=dt.string, description="the product, where there is one"),
    Column(name="url", type=dt.string, description="path or address of the page, where there is one"),
    Column(name="campaign_id", type=dt.string, description="the mailing, for opens and clicks"),
)

CONSENTS: Final = (
    Column(
        name="contact_id", type=dt.string, description="the person; may be null when the address is given"
    ),
    Column(
        name="email", type=dt.string, description="normalised address; may be null when the person is given"
    ),
    Column(name="channel", type=dt.string, required=True, description="email, sms ..."),
    Column(name="purpose", type=dt.string, required=True, description="topic, `marketing` by default"),
    Column(name="act", type=dt.string, required=True, description="a ConsentAct"),
    Column(name="occurred_at", type=TIMESTAMP, required=True, description="when the person acted"),
    Column(name="source", type=dt.string, required=True, description="where it was recorded"),
    Column(
        name="evidence", type=dt.string, description="JSON object of texts: form, text version, IP, reference"
    ),
)

TABLES: Final = {
    "customers": CUSTOMERS,
    "products": PRODUCTS,
    "orders": ORDERS,
    "order_items": ORDER_ITEMS,
    "events": EVENTS,
    "consents": CONSENTS,
}

# Known event types, with what a marketer calls them. Others are kept and can be named in rules.
EVENT_TYPES: Final = {
    "product_viewed": "viewed a product",
    "cart_added": "put something in the cart",
    "cart_removed": "took something out of the cart",
    "checkout_started": "started the checkout",
    "page_viewed": "visited a page",
    "email_opened": "opened an e-mail",
    "email_clicked": "clicked in an e-mail",
}


def schema_of(table: str) -> ibis.Schema:
    """Give the Ibis schema of a canonical table, without a customer's extra columns."""
    return ibis.schema({column.name: column.type for column in TABLES[table]})


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalTables:
    """The canonical tables of one build, as Ibis tables on one backend."""

    customers: ir.Table
    products: ir.Table
    orders: ir.Table
    order_items: ir.Table
    events: ir.Table
    consents: ir.Table
