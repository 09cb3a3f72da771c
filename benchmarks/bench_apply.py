"""Contacts per second through the whole apply path, beside a bare loop that posts the same bodies.

A first load of 20,000 contacts in batches of 500, from a plan that is made: enqueue, claim, gate, send, store. Store on
SQLite, emulator in a process of its own, without latency. The bare loop is one session that posts the bodies of such
a load one after the other. Both in turn, several times; prints one JSON object with medians, `ratio` of the two times.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).parents[1]))

from segue.connectors.mailchimp.testing import running_sandbox
from segue.connectors.traffic import READS, Exchange
from tests.shop import Shop

SERVE = (
    "from segue.connectors.mailchimp.emulator import serve_sandbox;"
    "serve_sandbox(0, announce=lambda url: print(url, flush=True))"
)

Posts = list[tuple[str, bytes]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--contacts", type=int, default=20_000)
    options.add_argument("--times", type=int, default=3)
    chosen = options.parse_args()
    with running_sandbox() as sandbox:
        os.environ["SANDBOX_KEY"] = sandbox.key
        fields, members = recorded(sandbox, chosen.contacts)
        account = {"key": sandbox.key, "audience": sandbox.audience}
    bare, whole = [], []
    with serving() as url:
        for _ in range(chosen.times):
            bare.append(posted(url, account["key"], fields, members))
            whole.append(applied(url, account["audience"], chosen.contacts))
    ratio = median(whole) / median(bare)
    print(
        json.dumps(
            {
                "contacts": chosen.contacts,
                "requests": len(members),
                "bare_seconds": [round(each, 3) for each in bare],
                "apply_seconds": [round(each, 3) for each in whole],
                "bare_contacts_per_second": round(chosen.contacts / median(bare)),
                "apply_contacts_per_second": round(chosen.contacts / median(whole)),
                "ratio": round(ratio, 3),
                "target": 2.5,
            }
        )
    )


def recorded(sandbox: Any, contacts: int) -> tuple[Posts, Posts]:
    """Give what a first load posts, the making of fields apart from the members: path and body of each."""
    posts: Posts = []

    def record(exchange: Exchange) -> None:
        if exchange.method not in READS:
            posts.append((exchange.path, json.dumps(exchange.body, separators=(",", ":")).encode()))

    sandbox.emulator.traffic.recorder = record
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), sandbox, "sqlite")
        shop.stock(contacts)
        assert shop.run().exit_code == 0
    return [post for post in posts if "merge-fields" in post[0]], [
        post for post in posts if "merge-fields" not in post[0]
    ]


def posted(url: str, key: str, fields: Posts, members: Posts) -> float:
    """Post the members' bodies in a bare loop, and give the seconds."""
    reset(url)
    origin = url.removesuffix("/3.0")
    with requests.Session() as session:
        session.auth = ("any", key)
        session.trust_env = False  # as the transport does on this machine
        session.headers["Content-Type"] = "application/json"
        for path, body in fields:
            session.post(origin + path, data=body, timeout=60).raise_for_status()
        started = time.perf_counter()
        for path, body in members:
            answer = session.post(origin + path, data=body, timeout=60)
            assert answer.json()["error_count"] == 0
        return time.perf_counter() - started


def applied(url: str, audience: str, contacts: int) -> float:
    """Load the same contacts through Segue, and give the seconds of its apply phase."""
    reset(url)
    with tempfile.TemporaryDirectory() as folder:
        account: Any = SimpleNamespace(audience=audience, base_url=url)
        shop = Shop(Path(folder), account, "sqlite")
        shop.stock(contacts)
        report = shop.run()
    assert report.exit_code == 0, report.as_json()
    return report.phases["apply"]


def reset(url: str) -> None:
    requests.post(url.removesuffix("/3.0") + "/_control/reset", timeout=60).raise_for_status()


@contextmanager
def serving() -> Iterator[str]:
    """Run an emulator as a process and give its address."""
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
