"""What happened to each house in a storm, line by line: told when it ended badly, because no storm comes twice.

Only writes that name an address are kept, with who had which address in the data. Nothing is judged here.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from segue.connectors.traffic import READS, Exchange

from .book import addresses_of, house_of

_ADDRESS = re.compile(r"[a-z]\d+\.[a-z]@shop\.example")


class Chronicle:
    """Keeps the lines of every house."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}
        self._hashes: dict[str, str] = {}
        self._data: dict[str, str] = {}  # the address of each person, as told last

    def tell(self, house: str, line: str) -> None:
        """Add a line."""
        self._lines.setdefault(house, []).append(line)

    def publish(self, run: int, addresses: Mapping[str, str]) -> None:
        """Tell who moved in the data, came or went, before the run after `run`."""
        for person in sorted(addresses.keys() | self._data.keys()):
            before, after = self._data.get(person), addresses.get(person)
            if before != after:
                self.tell(house_of(person) or "", f"data after run {run}: {person} {before} -> {after}")
        self._data = dict(addresses)

    def saw(self, run: int, exchange: Exchange) -> None:
        """Tell a write, and what became of it, to the houses that it names."""
        if exchange.method in READS:
            return
        said = f"run {run} request {exchange.number}: {exchange.method} {exchange.path} {exchange.status} {exchange.fault}"
        hashed = self._hashes.get(exchange.path.split("/members/")[-1].split("/")[0])
        for item in _items(exchange.body):
            text = json.dumps(item)
            found = {*_ADDRESS.findall(text), *([hashed] if hashed else [])}
            for house in {house_of(address) or "" for address in found}:
                self.tell(house, f"{said} {text}")

    def know(self, house: str) -> None:
        """Know a house's addresses by the hash that Mailchimp's paths name them by."""
        for address in addresses_of(house):
            self._hashes[hashlib.md5(address.encode(), usedforsecurity=False).hexdigest()] = address

    def written_in(self, run: int) -> list[str]:
        """Give the houses that a run wrote to."""
        return [
            house
            for house, lines in self._lines.items()
            if any(f"run {run} request" in each for each in lines)
        ]

    def of(self, house: str) -> list[str]:
        """Give the lines of a house."""
        return self._lines.get(house, [])


def _items(body: Any) -> list[Any]:
    """Give the parts of a body that are about one contact each."""
    if not isinstance(body, dict):
        return []
    if not isinstance(members := body.get("members"), list):
        return [body]
    flags = {key: value for key, value in body.items() if key != "members"}
    return [{**flags, "member": member} for member in members]
