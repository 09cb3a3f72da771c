"""The columns of a timeline, for tests that make one by hand."""

import pyarrow as pa

TIMELINE = pa.schema(
    {
        "contact_id": pa.string(),
        "event_type": pa.string(),
        "occurred_at": pa.timestamp("us", tz="UTC"),
        "product_id": pa.string(),
        "category": pa.string(),
        "url": pa.string(),
        "campaign_id": pa.string(),
        "quantity": pa.int64(),
        "amount": pa.decimal128(18, 4),
    }
)
