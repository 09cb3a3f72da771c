"""How many requests a load into Klaviyo costs, by kind, against what the plan states and the fewest that there can be.

An empty account, a run in which nothing changed, and one in which 1% of the contacts changed a field and a tag. Counted
at the emulator, which is another's work than the connector, without limits of time; a job there is done when it is asked
for the first time. Ratios of writes are to be 1.02 at most. Prints one JSON object; `bench_klaviyo.py 20000` takes fewer
contacts than 100,000.
"""

import json
import os
import random
import sys
import tempfile
from collections import Counter
from math import ceil
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parents[1]))

from segue.connectors.klaviyo.testing import running_sandbox
from segue.connectors.traffic import Exchange
from tests.shop import Shop

CONTACTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_sandbox() as sandbox:
        os.environ["SANDBOX_KEY"] = sandbox.key
        sandbox.settings(limits=False, consent_seconds=0.01, job_seconds=0.01)
        shop = Shop(Path(folder), sandbox, "sqlite")
        shop.stock(CONTACTS)
        sent: dict[str, Counter[str]] = {}
        phase = ""

        def record(exchange: Exchange) -> None:
            sent.setdefault(phase, Counter())[exchange.endpoint] += 1

        sandbox.emulator.traffic.recorder = record
        reports, seconds = {}, {}
        for phase in ("first_load", "nothing_changed", "one_percent"):
            if phase == "one_percent":
                for contact_id in random.Random(1).sample(sorted(shop.customers), CONTACTS // 100):
                    shop.customers[contact_id].spent = 200.0  # another segment: one tag comes, one goes
            started = monotonic()
            reports[phase] = shop.run()
            seconds[phase] = round(monotonic() - started, 1)
    changed = ceil(CONTACTS / 100 / 10_000)
    least = {
        "first_load": ceil(CONTACTS / 1_000) + ceil(CONTACTS / 10_000),
        "nothing_changed": 0,
        "one_percent": 2 * changed,  # the updates, and the removal of one tag
    }
    writes = {phase: report.writes for phase, report in reports.items()}
    print(
        json.dumps(
            {
                "contacts": CONTACTS,
                "writes": writes,
                "planned": {phase: report.plan and report.plan.writes for phase, report in reports.items()},
                "least": least,
                "ratio": {name: round(writes[name] / few, 3) for name, few in least.items() if few},
                "target": 1.02,
                "reads_planned": {
                    phase: report.plan and dict(report.plan.reads) for phase, report in reports.items()
                },
                "sent": {phase: dict(counts) for phase, counts in sent.items()},
                "seconds": seconds,
                "exit_codes": [report.exit_code for report in reports.values()],
            }
        )
    )


if __name__ == "__main__":
    main()
