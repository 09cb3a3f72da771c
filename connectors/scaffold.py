"""A connector package to begin with: the CSV connector under another name, with the contract in place and passing.

The author replaces the file by their ESP piece by piece, and the tests say what is still to do. Nothing is installed.
"""

import re
from pathlib import Path
from typing import Final

from ..core.errors import ConfigError
from . import csvfile
from .registry import GROUP, OURS

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,30}")

_PROJECT: Final = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "segue-{name}"
version = "0.1.0"
description = "A Segue connector for {title}"
requires-python = ">=3.11"
dependencies = ["segue"]

[project.optional-dependencies]
testing = ["segue[testing]"]

[project.entry-points."{group}"]
{name} = "segue_{name}.connector:{title}"

[tool.setuptools]
packages = ["segue_{name}"]
"""

_TEST: Final = '''\
"""{title} keeps Segue's contract. What it does not do yet stands in `notimpl`, what it never can in `never`."""

import csv
from pathlib import Path

import pytest
from segue.connectors.emulator import Person, PersonAct
from segue.connectors.testing import ConnectorContract, ContractAccount
from segue.core.consent import ConsentState

from segue_{name}.connector import {title}

STATES = {{
    PersonAct.UNSUBSCRIBE: "unsubscribed",
    PersonAct.COMPLAIN: "suppressed",
    PersonAct.BOUNCE: "suppressed",
    PersonAct.SUBSCRIBE: "subscribed",
}}


class Account:
    """What is at the ESP, seen and changed behind the connector's back. Replace it with a sandbox of yours."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def people(self) -> list[Person]:
        return [
            Person(
                name=row["address"],
                address=row["address"],
                state=ConsentState(row["state"]),
                fields={{column.partition(":")[0]: text for column, text in row.items()}},
                tags=frozenset(filter(None, row["tags"].split(";"))),
            )
            for row in self.rows()
        ]

    def act(self, act: PersonAct, address: str) -> None:
        before = {{row["address"]: row for row in self.rows()}}
        row = before.pop(address, {{"address": address, "tags": ""}})
        rows = list(before.values())
        if act is not PersonAct.ERASE:
            rows.append(row | {{"state": STATES[act]}})
        head = list(dict.fromkeys(column for each in [row, *rows] for column in each)) or ["address", "state", "tags"]
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, head, restval="")
            writer.writeheader()
            writer.writerows(rows)


class Test{title}(ConnectorContract):
    never = {{"test_the_base_url_is_a_setting": "it is a file"}}

    @pytest.fixture
    def account(self, tmp_path: Path):
        there = Account(tmp_path / "contacts.csv")
        connector = {title}.from_settings({{"path": str(there.path)}})
        with connector.transport:
            yield ContractAccount(connector=connector, people=there.people, act=there.act)
'''


def make(name: str, folder: Path) -> list[Path]:
    """Write the package `segue-NAME` into a folder and give its files.

    Raises ConfigError for a name that is none or that is ours, and where something is in the way.
    """
    if not _NAME.fullmatch(name) or name in OURS:
        raise ConfigError(
            f'"{name}" cannot be the name of a new connector: use 2 to 31 small letters, digits and underscores,'
            f" and none of {', '.join(sorted(OURS))}."
        )
    root, title = folder / f"segue-{name}", "".join(part.capitalize() for part in name.split("_"))
    if root.exists():
        raise ConfigError(f"{root} is there already. Remove it, or choose another name.")
    package = root / f"segue_{name}"
    files = {
        root / "pyproject.toml": _PROJECT.format(name=name, title=title, group=GROUP),
        package / "__init__.py": f'"""A Segue connector for {title}."""\n',
        package / "connector.py": _source(name, title),
        root / "tests" / "test_contract.py": _TEST.format(name=name, title=title),
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)


def _source(name: str, title: str) -> str:
    text = Path(csvfile.__file__).read_text(encoding="utf-8")
    text = re.sub(r"^from \.\.core", "from segue.core", text, flags=re.MULTILINE)
    text = re.sub(r"^from \.", "from segue.connectors.", text, flags=re.MULTILINE)
    text = text.replace("class CsvFile", f"class {title}").replace('name = "csvfile"', f'name = "{name}"')
    return text.replace('label = "CSV file"', f'label = "{title}"')
