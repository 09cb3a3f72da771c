"""How long it takes from a person leaving at one account to their changed state at another. Prints one JSON object.

Two local Mailchimp accounts with the vendor's limit of ten connections, and `segue serve` with a webhook from the first:
people leave there one after the other, and the moment is noted when the second account no longer mails them. First
with nothing else going on, then while `segue run` loads 100,000 more contacts into the second account and so holds its
lease, from its first look at the account over its plan to its last batch. `missed` counts who is still mailed at the end,
and is to be 0.

Without options: 200 people each time, 100,000 contacts. Use --people and --contacts for less.
"""

import argparse
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.emulator.audience import Happening
from segue.connectors.mailchimp.testing import Sandbox, running_sandbox
from tests.acceptance.served import serving
from tests.shop import Shop

SEGUE = Path(sys.executable).with_name("segue")
GAP = 0.3  # seconds between two people
PATIENCE = 60.0  # seconds for the last one
OTHER = """\
    webhooks: {{token: env:HOOK_TOKEN}}
  other:
    connector: mailchimp
    mapping: mapping.yml
    settings:
      api_key: env:SANDBOX_KEY
      audience: {audience}
      base_url: {base_url}
serve: {{port: {port}, public_url: "http://127.0.0.1:{port}", poll_every: 1 day}}
"""


def address_of(number: int) -> str:
    return f"c{number:05}@shop.example"


class Watch:
    """Notes when somebody is mailed no longer at an account."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.left: dict[str, float] = {}
        sandbox.emulator.audience.listener = self.hear

    def hear(self, happening: Happening) -> None:
        if happening.after is not None and happening.after.status == "unsubscribed":
            self.left.setdefault(happening.after.address, monotonic())


def leave(
    sandbox: Sandbox, people: Sequence[int], watch: Watch, going_on: Callable[[], bool]
) -> dict[str, Any]:
    """Have people leave one after the other while something goes on; give how long each took to be out of the other."""
    left: dict[str, float] = {}
    for number in people:
        if not going_on():
            break
        left[address_of(number)] = monotonic()
        sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=address_of(number))
        sleep(GAP)
    deadline = monotonic() + PATIENCE
    while left.keys() - watch.left.keys() and monotonic() < deadline:
        sleep(0.05)
    times = sorted(watch.left[address] - at for address, at in left.items() if address in watch.left)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "people": len(left),
        "missed": len(left.keys() - watch.left.keys()),
        "p50_seconds": round(cuts[49], 2),
        "p95_seconds": round(cuts[94], 2),
        "max_seconds": round(times[-1], 2),
    }


def segue(*arguments: str | Path) -> None:
    subprocess.run([SEGUE, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--people", type=int, default=200)
    options.add_argument("--contacts", type=int, default=100_000)
    options.add_argument("--latency", type=float, default=0.2, help="seconds that the accounts take at least")
    chosen = options.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as name, running_sandbox() as first, running_sandbox() as second:
        for sandbox in (first, second):
            sandbox.settings(latency=chosen.latency)
        os.environ |= {"SANDBOX_KEY": first.key, "HOOK_TOKEN": secrets.token_urlsafe(32)}
        shop = Shop(Path(name), first, "sqlite")
        shop.more = OTHER.format(audience=second.audience, base_url=second.base_url, port=port)
        shop.stock(chosen.people * 2)
        shop.build()
        segue("run", "--no-build", "--override-guardrails", "--project", shop.folder)
        watch = Watch(second)
        with serving(shop.folder):
            segue("webhooks", "install", "newsletter", "--project", shop.folder)
            alone = leave(first, range(chosen.people), watch, lambda: True)
            shop.stock(chosen.contacts)
            shop.build()
            began = monotonic()
            command = [SEGUE, "run", "other", "--no-build", "--override-guardrails", "--project", shop.folder]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
                rest = range(chosen.people, chosen.people * 2)
                loading = leave(first, rest, watch, lambda: run.poll() is None)
                code = run.wait()
            seconds = monotonic() - began
    report = {
        "alone": alone,
        "during_a_run": loading
        | {"contacts": chosen.contacts, "run_seconds": round(seconds, 1), "exit_code": code},
        "latency_seconds": chosen.latency,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
