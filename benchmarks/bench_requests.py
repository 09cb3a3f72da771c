"""How many write requests a sync costs, against the fewest that Mailchimp's batches of 500 force.

A first load, a run in which nothing changed, and one in which 1% of the contacts changed a field and a tag. Counted at
the emulator. Prints one JSON object; each ratio is of write requests to the minimum, to be 1.02 at most; where the
minimum is none, it is 1 for none and null for any.
"""

import json
import os
import random
import sys
import tempfile
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from segue.connectors.mailchimp.testing import running_sandbox
from tests.shop import Shop

CONTACTS = 5_000
FIELDS = 4


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_sandbox() as sandbox:
        os.environ["SANDBOX_KEY"] = sandbox.key
        shop = Shop(Path(folder), sandbox, "sqlite")
        shop.stock(CONTACTS)
        sent: dict[str, int] = {}
        codes: list[int] = []
        sent["first_load"], seconds = _run(shop, codes)
        sent["nothing_changed"], _ = _run(shop, codes)
        for contact_id in random.Random(1).sample(sorted(shop.customers), CONTACTS // 100):
            shop.customers[contact_id].spent = 200.0  # another segment: one tag comes, one goes
        sent["one_percent"], _ = _run(shop, codes)
    least = {
        "first_load": ceil(CONTACTS / 500) + FIELDS,
        "nothing_changed": 0,
        "one_percent": ceil(CONTACTS / 100 / 500) + 1,  # and the removal of one tag
    }
    print(
        json.dumps(
            {
                "contacts": CONTACTS,
                "sent": sent,
                "least": least,
                "ratio": {phase: _ratio(sent[phase], least[phase]) for phase in least},
                "target": 1.02,
                "exit_codes": codes,
                "first_load_seconds": round(seconds, 2),
            }
        )
    )


def _ratio(sent: int, least: int) -> float | None:
    return round(sent / least, 3) if least else None if sent else 1.0


def _run(shop: Shop, codes: list[int]) -> tuple[int, float]:
    before = shop.sandbox.emulator.traffic.writes
    report = shop.run()
    codes.append(report.exit_code)
    return shop.sandbox.emulator.traffic.writes - before, report.seconds


if __name__ == "__main__":
    main()
