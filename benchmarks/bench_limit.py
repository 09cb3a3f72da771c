"""How long a sync takes under a rate limit, against what the limit forces, and how many of its requests are refused.

The local Mailchimp takes 100 requests in any 10 seconds, and the destination says so. The ratio is of the time between
the first and the last request to (requests - burst) / rate, where the burst is what the first window takes at once.
Prints one JSON object, and takes two minutes.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parents[1]))

from segue.connectors.mailchimp.testing import running_sandbox
from segue.connectors.traffic import Exchange
from tests.shop import Shop

REQUESTS = 1_180
BATCH = 4
COUNT, SECONDS = 100, 10.0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_sandbox() as sandbox:
        os.environ["SANDBOX_KEY"] = sandbox.key
        sandbox.settings(rate_count=COUNT, rate_seconds=SECONDS)
        shop = Shop(Path(folder), sandbox, "sqlite")
        shop.stock(REQUESTS * BATCH)
        shop.batch_size = BATCH
        shop.more = f"      rate_limit: {COUNT} per {SECONDS:g} seconds\n"
        times: list[float] = []

        def record(exchange: Exchange) -> None:
            if exchange.method != "GET":
                times.append(monotonic())

        sandbox.emulator.traffic.recorder = record
        report = shop.run()
        traffic = sandbox.emulator.traffic
        assert report.exit_code == 0, report.as_json()
    refused = traffic.by_status[429] + traffic.by_status[403]
    took = times[-1] - times[0]
    least = (len(times) - COUNT) / (COUNT / SECONDS)
    print(
        json.dumps(
            {
                "requests": traffic.requests,
                "writes": len(times),
                "limit": f"{COUNT} per {SECONDS:g} seconds",
                "seconds": round(took, 1),
                "least_seconds": round(least, 1),
                "ratio": round(took / least, 3),
                "refused": refused,
                "refused_share": round(refused / traffic.requests, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
