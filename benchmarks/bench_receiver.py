"""Posts signed webhooks to a real `segue serve`, kills it in the middle, and then attacks it. Prints one JSON object.

Load: so many events a second at their own times (an answer that is late delays nobody), each on a connection of its own
as ESPs do; whatever is not answered with 200 is sent again, as ESPs do too. In the middle the server is killed with
SIGKILL and started again. `lost` counts what was acknowledged and is not in the store, and is to be 0. The time of an
answer is given next to what the store itself does in the same minute on the same disk: a commit of one message, and
messages in groups of a hundred.

Attack: hostile requests of every kind of tests/acceptance/hostile.py, with bodies of 10 MB and bodies and headers that
never end among them. `taken` and `server_errors` are to be 0, and the memory is to stay as it was.

Without options: 500 a second for a minute, and 10,000 attacks. Use --seconds and --attacks for less.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import requests

from segue.connectors.mailchimp.testing import running_sandbox
from segue.connectors.mailchimp.webhooks import MailchimpWebhooks
from segue.core.config import load_project
from segue.sync.store.inbox import Message
from segue.sync.store.store import Store
from tests.acceptance.hostile import FORM, LOST, Target, body, kinds, large, proof, silent, slow
from tests.shop import Shop

SEGUE = Path(sys.executable).with_name("segue")
CONTACTS = 1_000
PATIENCE = 10.0  # seconds for one answer: senders give up then
GROUP = 100
LASTING = 60  # attacks of each kind that takes the server's patience, or 10 MB


class Server:
    """`segue serve`, which may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        command = [SEGUE, "serve", "--project", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert "Listening" in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def memory(self) -> float:
        """Give its resident memory in MiB."""
        said = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(said.partition("VmRSS:")[2].split()[0]) / 1024


class Load:
    """The senders of one run."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.times: list[float] = []
        self.calm: list[float] = []  # of these, before the server was killed
        self.acknowledged: set[int] = set()
        self.again = 0

    async def run(self, rate: int, seconds: int, server: Server) -> None:
        began = monotonic()
        waiting: set[asyncio.Task[None]] = set()
        killing: asyncio.Task[None] | None = None
        for number in range(rate * seconds):
            await asyncio.sleep(max(0.0, began + number / rate - monotonic()))
            task = asyncio.create_task(self.deliver(number))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            if number == rate * seconds // 2:
                killing = asyncio.create_task(asyncio.to_thread(self.replace, server))
        if killing is not None:
            await killing
        await asyncio.gather(*waiting)

    def replace(self, server: Server) -> None:
        self.calm = list(self.times)
        server.kill()
        server.start()

    async def deliver(self, number: int) -> None:
        for attempt in count():
            sent = monotonic()
            try:
                status = await asyncio.wait_for(self.post(body(number)), PATIENCE)
            except (OSError, TimeoutError):
                status = LOST
            if status == 200:
                self.times.append(monotonic() - sent)
                self.acknowledged.add(number)
                return
            self.again += 1
            await asyncio.sleep(random.uniform(0.5, 1) * min(2**attempt, 16))

    async def post(self, content: bytes) -> int:
        target = self.target
        reader, writer = await asyncio.open_connection(target.host, target.port)
        try:
            headers = {"host": target.host, "connection": "close", "content-type": FORM}
            headers |= {"content-length": str(len(content))} | proof(content, target.secret)
            lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
            answer = (await reader.read(64)).split()
            return int(answer[1]) if len(answer) > 1 else LOST
        finally:
            writer.close()


def message(destination: str, content: bytes) -> Message:
    (event,) = MailchimpWebhooks().read(content, FORM)
    return Message(destination=destination, name=event.key, content_type=FORM, body=content)


def lost(store: Store, numbers: Sequence[int]) -> int:
    """Count what is not in the inbox: what is there already is not stored again."""
    return store.inbox.put([message("newsletter", body(number)) for number in numbers]) if numbers else 0


def store_alone(store: Store, messages: int) -> dict[str, float]:
    """Measure what the inbox takes by itself."""
    singles = []
    for number in range(100):
        began = monotonic()
        store.inbox.put([message("alone", body(number))])
        singles.append(monotonic() - began)
    began = monotonic()
    for first in range(100, 100 + messages, GROUP):
        store.inbox.put([message("alone", body(number)) for number in range(first, first + GROUP)])
    return {
        "commit_of_one_p50_ms": quantiles(singles)["p50_ms"],
        "grouped_inserts_per_second": round(messages / (monotonic() - began)),
    }


def quantiles(times: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=1000, method="inclusive")
    found = {"p50": cuts[499], "p95": cuts[949], "p99": cuts[989], "max": max(times)}
    return {f"{name}_ms": round(value * 1000, 1) for name, value in found.items()}


def attacked(target: Target, attacks: int) -> dict[str, Any]:
    """Attack; give how many attacks of each kind were answered how."""
    ordinary, heard = kinds(target), Counter[tuple[str, int]]()
    lasting = {"10 MB": large, "a slow body": slow, "slow headers": silent}
    each = min(LASTING, attacks // 20)

    def one(name: str, number: int) -> None:
        status = lasting[name](target, number) if name in lasting else ordinary[name](number)
        heard[name, status] += 1

    with ThreadPoolExecutor(each * 2) as patient, ThreadPoolExecutor(16) as pool:
        tasks = [patient.submit(one, name, number) for number in range(each) for name in lasting]
        names = list(ordinary)
        tasks += [
            pool.submit(one, names[number % len(names)], number) for number in range(attacks - len(tasks))
        ]
        for task in tasks:
            task.result()
    statuses = Counter[str]()
    for (_, status), number in heard.items():
        statuses[str(status) if status else "closed"] += number
    return {
        "requests": heard.total(),
        "statuses": dict(sorted(statuses.items())),
        "taken": sum(number for (_, status), number in heard.items() if 200 <= status < 400),
        "server_errors": sum(number for (_, status), number in heard.items() if status >= 500),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=int, default=500)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--attacks", type=int, default=10_000)
    chosen = options.parse_args()
    secret, token = secrets.token_hex(32), secrets.token_urlsafe(32)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    target = Target(host="127.0.0.1", port=port, path=f"/webhooks/newsletter/{token}", secret=secret)
    with tempfile.TemporaryDirectory() as name, running_sandbox() as sandbox:
        os.environ |= {"SANDBOX_KEY": sandbox.key, "HOOK_TOKEN": token, "HOOK_SECRET": secret}
        shop = Shop(Path(name), sandbox, "sqlite")
        shop.more = (
            "    webhooks: {token: env:HOOK_TOKEN, secrets: [env:HOOK_SECRET]}\n"
            f"serve: {{port: {port}, poll_every: 1 day}}\n"
        )
        shop.stock(CONTACTS)
        shop.build()
        server, load = Server(shop.folder), Load(target)
        asyncio.run(load.run(chosen.rate, chosen.seconds, server))
        with Store.of(load_project(shop.folder)) as store:
            behind = store.inbox.counts("newsletter").waiting
            while store.inbox.counts("newsletter").waiting:
                sleep(0.1)
            answers = quantiles(load.calm)
            gone = lost(store, sorted(load.acknowledged))
            alone = store_alone(store, 10_000)
        before = server.memory()
        attack = attacked(target, chosen.attacks)
        after = server.memory()
        health = requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).status_code
        server.stop()
    grouped = alone["grouped_inserts_per_second"]
    report = {
        "load": {
            "events": chosen.rate * chosen.seconds,
            "per_second": chosen.rate,
            "acknowledged": len(load.acknowledged),
            "sent_again": load.again,
            "lost": gone,
            "waiting_at_the_end": behind,
            "answer": answers,
            "answer_with_those_after_the_kill": quantiles(load.times),
            "store_alone": alone,
            "share_of_the_grouped_insert_rate": round(chosen.rate / grouped, 3),
            "p95_in_commits_of_one": round(answers["p95_ms"] / alone["commit_of_one_p50_ms"], 1),
        },
        "attack": attack | {"memory_before_mib": round(before, 1), "memory_after_mib": round(after, 1)},
        "healthy_at_the_end": health == 200,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
