"""A shop whose data are files that people may edit, as a project that builds and syncs, and the shell of its server.

What the pages of the docs tell a person to type is typed here: `/srv/myshop` is the project's folder, `/srv/segue`
is where Segue is installed, and a wrong word in a page fails a test.
"""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from segue.connectors.mailchimp.testing import Sandbox
from segue.core.config import load_project
from segue.core.personalize import build
from segue.core.snapshot import current
from segue.sync.jobs import Job, run
from segue.sync.report import Report
from segue.sync.store.store import Store

from ..forked import forked_segue

BIN = Path(sys.executable).parent
DOCS = Path(__file__).parents[2] / "docs"

SEGUE_YML = """\
project: myshop
timezone: Europe/Berlin
currency: EUR
country: DE
store: {store}
sources:
  customers: [{{path: customers.csv}}]
  consents: [{{path: consents.csv}}]
segments:
  berliners: {{where: city = 'Berlin'}}
destinations:
  newsletter:
    connector: mailchimp
    mapping: mapping.yml
    settings:
      api_key: env:MAILCHIMP_KEY
      audience: {audience}
      base_url: {base_url}
      retry_wait: 0.02 seconds
"""
MAPPING_YML = """\
connector: mailchimp
fields:
  - {trait: city, label: City, tag: SG_CITY, purpose: test}
tags: {segments: all, purpose: test}
"""


class FilesShop:
    """The project's folder, its local Mailchimp and a shell in that folder."""

    def __init__(self, folder: Path, sandbox: Sandbox, *, store: str = "sqlite") -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.cities: dict[str, str] = {}
        self.left: set[str] = set()
        self.environment = {
            "PATH": f"{forked_segue().parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        folder.mkdir(exist_ok=True)
        (folder / "segue.yml").write_text(
            SEGUE_YML.format(store=store, audience=sandbox.audience, base_url=sandbox.base_url)
        )
        (folder / "mapping.yml").write_text(MAPPING_YML)
        self.secrets(MAILCHIMP_KEY=sandbox.key)

    def secrets(self, **values: str) -> None:
        """Write what `.env` holds."""
        self._secrets = values
        (self.folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in values.items()))
        (self.folder / ".env").chmod(0o600)

    def stock(self, names: Iterable[str], city: str = "Berlin") -> None:
        """Let customers live in a city."""
        self.cities |= dict.fromkeys(names, city)
        self.export()

    def export(self) -> None:
        """Write the files that the shop's nightly export would."""
        with (self.folder / "customers.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [
                    ("contact_id", "email", "city"),
                    *((name, f"{name}@myshop.example", city) for name, city in self.cities.items()),
                ]
            )
        with (self.folder / "consents.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [
                    ("contact_id", "act", "occurred_at", "source", "evidence"),
                    *(
                        (name, "grant", "2025-01-10T09:00:00Z", "shop", '{"form":"a"}')
                        for name in self.cities
                    ),
                    *((name, "withdraw", "2026-01-10T09:00:00Z", "shop", "") for name in self.left),
                ]
            )

    def build(self) -> None:
        """Build as `segue build` does, without the time that a process takes to start."""
        build(load_project(self.folder), as_of=datetime.now(UTC), progress=lambda *_: None)

    def sync(self, *, override: bool = False) -> Report:
        """Build and run as `segue run` does, without the time that a process takes to start."""
        self.build()
        with ExitStack() as stack:
            stack.enter_context(patch.dict(os.environ, self._secrets))
            project = load_project(self.folder)
            store = stack.enter_context(Store.of(project))
            job = stack.enter_context(Job(project, "newsletter", store, current(project.state_folder)))
            return run(job, lambda *_: None, override=override)

    def shell(
        self, command: str, *, by: str = "/bin/sh", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Type a line of the docs into the shell of the server, in an environment as empty as cron's."""
        return subprocess.run(
            [by, "-c", self.here(command)],
            cwd=self.folder,
            env=self.environment | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def segue(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a `segue` command with the secrets of `.env` set."""
        return self.shell(f"set -a; . ./.env; {line}")

    def here(self, text: str) -> str:
        """Put the places of this machine for those of the docs."""
        return text.replace("/srv/myshop", str(self.folder)).replace(
            "/srv/segue/bin", str(forked_segue().parent)
        )

    def members(self) -> Mapping[str, Any]:
        """The members of the local Mailchimp by name, behind Segue's back."""
        return {each["email_address"].partition("@")[0]: each for each in self.audience()["members"]}

    def audience(self) -> Mapping[str, Any]:
        """The audience as the emulator has it, with every raise of consent that it saw."""
        state = self.sandbox.emulator.state(count=100_000, offset=0, address=None)
        audience: Mapping[str, Any] = state["audiences"][self.sandbox.audience]
        return audience


def block(page: str, heading: str, language: str, *, number: int = 0) -> str:
    """Give a block of code of a page, by the heading that it stands below."""
    text = (DOCS / page).read_text()
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no heading {heading!r}"
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)
    assert len(blocks) > number, f"{page}, {heading}: no such block of {language}"
    return str(blocks[number])


def follow(
    shop: FilesShop, page: str, heading: str, *, number: int = 0, **words: str
) -> list[subprocess.CompletedProcess[str]]:
    """Type the commands of a block of a page, and hold what they answer against the lines below each.

    In those lines "…" stands for anything. `words` are what a person puts in for the page's capitals, e.g. RUN.
    """
    done: list[subprocess.CompletedProcess[str]] = []
    for line in block(page, heading, "console", number=number).splitlines():
        if line.startswith("$ "):
            command = line.removeprefix("$ ")
            for word, value in words.items():
                command = re.sub(rf"\b{word}\b", value, command)
            done.append(shop.segue(command))
            continue
        answer = " ".join((done[-1].stdout + done[-1].stderr).split())
        wanted = ".*".join(re.escape(" ".join(part.split())) for part in line.split("…"))
        assert re.search(wanted, answer), f"{heading}: {line!r} is not in {answer!r}"
    return done
