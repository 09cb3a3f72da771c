"""Makes the invented parts of this example from the real ones, always the same; README.md lists them.

Run it from anywhere: `python examples/online_retail/invent.py [FOLDER WITH THE FOUR PARQUET FILES]`.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

HERE = Path(__file__).parent / "data"
LAST_DAY = datetime(2011, 12, 9, 23, tzinfo=UTC)
FIRST_NAMES = [
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gwen",
    "Hugo",
    "Isla",
    "Jack",
    "Kate",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tess",
    "Umar",
    "Vera",
    "Will",
    "Yara",
    "Zoe",
]
LAST_NAMES = [
    "Adams",
    "Bell",
    "Clark",
    "Dixon",
    "Ellis",
    "Ford",
    "Green",
    "Hall",
    "Irwin",
    "Jones",
    "Knight",
    "Lane",
    "Moore",
    "Nash",
    "Owen",
    "Price",
    "Reed",
]


def chance(customer_id: str, about: str) -> float:
    """Draw a number in [0, 1) that depends on the customer and the question alone."""
    return int.from_bytes(hashlib.sha256(f"{about}:{customer_id}".encode()).digest()[:6]) / 2**48


def pick(names: list[str], customer_id: str, about: str) -> str:
    """Choose one of the names."""
    return names[int(chance(customer_id, about) * len(names))]


def customers(real: pa.Table) -> pa.Table:
    """Add names and addresses; a few addresses are broken, missing, shouted or shared, as in any shop."""
    rows = []
    for row in real.sort_by("customer_id").to_pylist():
        customer_id = row["customer_id"]
        first, last = (
            pick(names, customer_id, what) for names, what in ((FIRST_NAMES, "first"), (LAST_NAMES, "last"))
        )
        address = f"{first}.{last}.{customer_id}@customers.example".lower()
        luck = chance(customer_id, "address")
        if luck < 0.010:
            address = address.replace("@", " at ")
        elif luck < 0.025:
            address = ""
        elif luck < 0.040:
            address = f" {address.upper()} "
        elif luck < 0.045 and rows:  # the same person, registered twice
            first, last, address = (rows[-1][name] for name in ("first_name", "last_name", "email"))
        rows.append(
            {
                "customer_id": customer_id,
                "email": address,
                "first_name": first,
                "last_name": last,
                "country": row["country"],
                "first_seen_at": row["first_seen_at"].isoformat(),
            }
        )
    return pa.Table.from_pylist(rows)


def consents(real: pa.Table) -> pa.Table:
    """Give most customers a recorded grant, some none, and let some leave again."""

    def acts() -> Iterator[dict[str, str]]:
        for row in real.sort_by("customer_id").to_pylist():
            customer_id, met_at = row["customer_id"], row["first_seen_at"].replace(tzinfo=UTC)
            luck = chance(customer_id, "consent")

            def act(
                what: str, when: datetime, customer_id: str = customer_id, **proof: str
            ) -> dict[str, str]:
                return {
                    "contact_id": customer_id,
                    "act": what,
                    "occurred_at": when.isoformat(),
                    "source": "shop",
                    "evidence": json.dumps(proof) if proof else "",
                }

            if luck < 0.80:
                yield act("grant", met_at, form="checkout", text_version="2010-11")
            elif luck < 0.83:
                yield act("grant", met_at)  # ticked by a clerk: nothing proves it
            if luck < 0.06:
                stayed = timedelta(days=1 + int(chance(customer_id, "left") * 300))
                yield act("withdrawal", min(met_at + stayed, LAST_DAY))
            elif luck < 0.07:
                yield act("suppression", min(met_at + timedelta(days=2), LAST_DAY))

    return pa.Table.from_pylist(list(acts()))


def products(real: pa.Table) -> pa.Table:
    """Add a page and a picture to each product and give its name in title case."""
    rows = [
        {
            "product_id": row["product_id"],
            "name": (row["description"] or "").strip().title(),
            "category": "" if row["derived_category"] == "other" else row["derived_category"],
            "price": row["list_price"],
            "is_merchandise": row["is_merchandise"],
            "url": f"https://shop.example/p/{row['product_id'].lower()}",
            "image_url": f"https://shop.example/i/{row['product_id'].lower()}.jpg",
        }
        for row in real.sort_by("product_id").to_pylist()
    ]
    return pa.Table.from_pylist(rows)


def main(real: Path) -> None:
    """Write the three invented files beside the real ones."""
    for name, table in {
        "customers": customers(pq.read_table(real / "customers.parquet")),
        "consents": consents(pq.read_table(real / "customers.parquet")),
        "products": products(pq.read_table(real / "products.parquet")),
    }.items():
        pa.csv.write_csv(table, HERE / f"{name}.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
