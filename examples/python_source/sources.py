"""Orders from anywhere: a function that yields Arrow record batches. Segue calls it at each build."""

from collections.abc import Iterator

import pyarrow as pa


def orders() -> Iterator[pa.RecordBatch]:
    for page in fetch_pages():
        yield pa.RecordBatch.from_pylist(page)


def fetch_pages() -> Iterator[list[dict[str, str | int]]]:
    """Stand-in for a shop's API, which gives a page of orders at a time."""
    yield [{"order_id": 1001, "contact_id": "anna", "ordered_at": "2026-01-05T10:00:00Z"}]
    yield [{"order_id": 1002, "contact_id": "ben", "ordered_at": "2026-01-06T18:30:00Z"}]
