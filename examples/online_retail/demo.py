"""The demo: a year of a real shop's orders becomes fields and tags of a local Mailchimp, HubSpot and Klaviyo.

Runs the same `segue` commands that you would type, in a copy of this folder, against `segue sandbox ...`. One person
leaves at Klaviyo, and is out of the two others by the next run.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
PROJECT = HERE.parents[1] / ".demo"
SEGUE = (str(Path(sys.executable).with_name("segue")),)
# Four contacts of four kinds.
PEOPLE = NEW, ON_THE_LIST, LEFT_THERE, NEVER_AGREED = "14911", "12349", "13089", "12748"
ESPS = {"mailchimp": 8025, "hubspot": 8026, "klaviyo": 8027}  # the ports in segue.yml
KEYS = {
    "MAILCHIMP_API_KEY": "sandbox-us19",
    "HUBSPOT_TOKEN": "sandbox-token",
    "KLAVIYO_API_KEY": "pk_sandbox",
}
SHOWN = (
    "FNAME",
    "SG_STAGE",
    "SG_RFM",
    "SG_SPENT",
    "SG_RECENCY",
    "SG_TOPCAT",
    "SG_LASTBUY",
    "SG_P1_NAME",
    "SG_P1_WHY",
)


def main() -> None:
    """Build, plan, apply, look, and run again."""
    started = time.monotonic()
    ports = free_ports()
    port = ports["mailchimp"]
    prepare(ports)
    environment = {**os.environ, **KEYS}

    def segue(*arguments: str, quiet: bool = False) -> Any:
        """Run one command as a person would; with `quiet` give its JSON instead."""
        command = [*SEGUE, *arguments, "--project", str(PROJECT), *(["--json"] if quiet else [])]
        if not quiet:
            print(f"\n$ segue {' '.join(arguments)}", flush=True)
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE if quiet else None)
        return json.loads(done.stdout) if quiet else None

    segue("build")
    segue("segments", "explain", "overdue")
    with ExitStack() as stack:
        for esp in ESPS:
            stack.enter_context(sandbox(esp, ports[esp], environment))
        addresses = {who: segue("contact", "show", who, quiet=True)["traits"]["email"] for who in PEOPLE}
        print("\nTwo customers signed up at Mailchimp's own form earlier, and one of them has left again.")
        act(port, "subscribe", addresses[ON_THE_LIST])
        act(port, "subscribe", addresses[LEFT_THERE])
        act(port, "unsubscribe", addresses[LEFT_THERE])
        before = {who: at_mailchimp(port, address) for who, address in addresses.items()}
        segue("plan", "newsletter")
        segue("apply", "newsletter")
        print("\nFour contacts, as Mailchimp has them:")
        for who, address in addresses.items():
            ledger = segue("contact", "show", who, quiet=True)["history"]
            show(who, ledger, before[who], at_mailchimp(port, address))
        print("\nNow all three destinations at once:")
        segue("run", "--no-build")
        leaver = addresses[NEW]
        print(f"\nContact {NEW} unsubscribes at Klaviyo, by a link in a mail, and the next run comes:")
        act(ports["klaviyo"], "unsubscribe", leaver)
        segue("run", "--no-build")
        standing = {esp: at_sandbox(ports[esp], leaver) for esp in ESPS}
        print("\n" + "\n".join(f"  {esp:<10} {state}" for esp, state in standing.items()))
        print("\nAnd again, now that nothing has changed:")
        segue("run", "--no-build")
        writes = sum(run["report"]["requests"]["write"] for run in segue("runs", quiet=True)[: len(ESPS)])
    project = PROJECT.relative_to(Path.cwd()) if PROJECT.is_relative_to(Path.cwd()) else PROJECT
    program = Path(SEGUE[0])
    program = program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program
    print(
        f"\nThe last run sent {writes} write requests. The whole demo took {time.monotonic() - started:.0f} s."
        f"\nLook around: {program} segments list --project {project}"
        f"\n             {program} contact show {NEW} --project {project}"
    )
    if writes:
        sys.exit("The last run should have sent none.")
    if set(standing.values()) != {"unsubscribed"}:
        sys.exit("Who left at one should be out of all.")


def prepare(ports: dict[str, int]) -> None:
    """Copy the project afresh and point it at the sandboxes' ports."""
    shutil.rmtree(PROJECT, ignore_errors=True)
    shutil.copytree(HERE, PROJECT, ignore=shutil.ignore_patterns("*.py", "__pycache__", ".segue"))
    config = PROJECT / "segue.yml"
    text = config.read_text()
    for esp, port in ports.items():
        text = text.replace(f"127.0.0.1:{ESPS[esp]}", f"127.0.0.1:{port}")
    config.write_text(text)


@contextmanager
def sandbox(esp: str, port: int, environment: dict[str, str]) -> Any:
    """Run a local ESP while the demo needs it."""
    print(f"\n$ segue sandbox {esp} --port {port} &", flush=True)
    command = [*SEGUE, "sandbox", esp, "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def act(port: int, what: str, address: str) -> None:
    """Let a person do something at the sandbox by themselves."""
    body = json.dumps({"act": what, "address": address}).encode()
    urlopen(
        Request(f"http://127.0.0.1:{port}/_control/people", body, {"Content-Type": "application/json"})
    ).close()


def at_mailchimp(port: int, address: str) -> dict[str, Any] | None:
    """Look a contact up in the sandbox's own state, behind Segue's back."""
    with urlopen(f"http://127.0.0.1:{port}/_control/state?address={quote(address)}") as answer:
        audiences = json.load(answer)["audiences"].values()
    return next((member for audience in audiences for member in audience["members"]), None)


def at_sandbox(port: int, address: str) -> str:
    """Say how somebody stands at a sandbox, in the words that all of them share."""
    with urlopen(f"http://127.0.0.1:{port}/_control/people?address={quote(address)}") as answer:
        people = json.load(answer)["people"]
    return str(people[0]["state"]) if people else "not there"


def show(
    who: str,
    ledger: list[dict[str, Any]],
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    """Print one contact before and after the sync, and what the ledger says of consent."""
    acts = [
        f"{e['act']} on {e['occurred_at'][:10]} ({e['source']})" for e in (line["entry"] for line in ledger)
    ]
    print(f"\nContact {who}")
    print(f"  consent    {', '.join(dict.fromkeys(acts)) or 'none recorded'}")
    print(f"  before     {in_words(before)}\n  after      {in_words(after)}")
    if after is None or after["status"] != "subscribed":
        no_grant = "withheld: nobody is written who has not agreed"
        print(f"  why        {no_grant if after is None else 'withheld: leaving beats every older grant'}")
        return
    for tag in SHOWN:
        print(f"  {tag:<10} {after['merge_fields'].get(tag, '')}")
    print(f"  tags       {', '.join(sorted(after['tags']))}")


def in_words(member: dict[str, Any] | None) -> str:
    """Say how somebody stands at the sandbox."""
    if member is None:
        return "not on the list"
    filled = sum(1 for value in member["merge_fields"].values() if value not in ("", None))
    return f"{member['status']}, {filled} fields filled, {len(member['tags'])} tags"


def free_ports() -> dict[str, int]:
    """Find a port for each ESP that nobody uses."""
    with ExitStack() as stack:
        probes = {esp: stack.enter_context(socket.socket()) for esp in ESPS}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {esp: int(probe.getsockname()[1]) for esp, probe in probes.items()}


if __name__ == "__main__":
    main()
