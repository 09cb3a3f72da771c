"""How many requests a load into HubSpot costs, and how long it takes under 190 requests in 10 seconds.

A portal that is empty, a run in which nothing changed, and one in which 1% of the contacts changed a field and a tag.
Counted at the emulator, which is another's work than the connector; Segue runs as the process that a schedule calls.
Ratios of writes are to the fewest that batches of 100 force, to be 1.02 at most. The ratio of time is of that between the
first and the last create to what the limit forces, to be 1.1 at most: its window rolls, so that each 190 requests come 10
seconds after the 190 before. Prints one JSON object; `bench_hubspot.py 20000` takes fewer contacts than 100,000.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from math import ceil
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from segue.connectors.hubspot.testing import running_sandbox
from segue.connectors.traffic import Exchange
from tests.shop import Shop

SEGUE = Path(sys.executable).with_name("segue")
CONTACTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
COUNT, SECONDS = 190, 10.0
SCHEMA = 4 + 3  # our fields, their group, the customer's id and the property of our tags
READS = ("/search", "/batch/read")


def segue(shop: Shop, *words: str) -> Any:
    command = [SEGUE, *words, "--json", "--project", shop.folder]
    return json.loads(subprocess.run(command, capture_output=True, check=False).stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_sandbox() as sandbox:
        os.environ["SANDBOX_KEY"] = sandbox.key
        sandbox.settings(tier="pro")
        shop = Shop(Path(folder), sandbox, "sqlite")
        shop.settings |= {"tier": "pro"}
        shop.stock(CONTACTS)
        writes: Counter[str] = Counter()
        reads: Counter[str] = Counter()
        times: list[float] = []
        statuses: Counter[int] = Counter()
        phase = "first_load"

        def record(exchange: Exchange) -> None:
            statuses[exchange.status] += 1
            if exchange.method == "GET" or exchange.path.endswith(READS):
                reads[phase] += 1
                return
            writes[phase] += 1
            if phase == "first_load" and exchange.path.endswith("batch/create"):
                times.append(monotonic())

        sandbox.emulator.traffic.recorder = record
        planned, reports = [], []
        for name in ("first_load", "nothing_changed", "one_percent"):
            if name == "one_percent":
                for contact_id in random.Random(1).sample(sorted(shop.customers), CONTACTS // 100):
                    shop.customers[contact_id].spent = 200.0  # another segment: one tag comes, one goes
            shop.build()
            phase = "planning"
            planned.append(sum(segue(shop, "plan")["requests"].values()))
            phase = name
            reports += segue(shop, "run", "--no-build", "--override-guardrails")
    batches = ceil(CONTACTS / 100 / 100)
    least = {
        "first_load": ceil(CONTACTS / 100) + SCHEMA,
        "nothing_changed": 0,
        "one_percent": 2 * batches,  # the updates, and the removal of one tag
    }
    sent = writes["first_load"] + reads["first_load"]
    took, bound = times[-1] - times[0], SECONDS * (ceil(sent / COUNT) - 1)
    print(
        json.dumps(
            {
                "contacts": CONTACTS,
                "writes": dict(writes),
                "planned": planned,
                "least": least,
                "ratio": {name: round(writes[name] / few, 3) for name, few in least.items() if few},
                "reads": dict(reads),
                "target": 1.02,
                "seconds": round(took, 1),
                "bound_by_the_limit": round(bound, 1),
                "ratio_of_time": round(took / bound, 3) if bound else None,
                "target_of_time": 1.1,
                "statuses": dict(statuses),
                "exit_codes": [report["exit_code"] for report in reports],
                "phases": reports[0]["phases"],
            }
        )
    )


if __name__ == "__main__":
    main()
