"""The contacts of a plan that go first, so that a person can look before the rest does: a part, or people by name.

Nothing here sends; `sync.jobs` does.

A part is chosen by contact key, which is a keyed hash: the same people in every plan, and nobody can tell who. Whoever
shares an address with another contact of the plan waits for the rest: one moves away and another moves in, and half
of that would write one person's values over another's.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Self

import duckdb

from ...core.config import parse_part
from ...core.errors import ConfigError
from ...core.scratch import scratch
from ..store.keys import ContactKeys
from ..store.store import Store
from .plan import Plan
from .plan_files import attach

_KEYS = 2**63  # contact keys are below it, evenly spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What was asked for: below 1 a share of all contacts, from 1 on that many of the plan's, or `seeds` by key."""

    part: float = 0.0
    seeds: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "2%" or "50". Raises ConfigError."""
        try:
            return cls(part=parse_part(text))
        except ValueError as error:
            raise ConfigError(f"canary: {error}.") from None

    @classmethod
    def named(cls, text: str, keys: ContactKeys) -> Self:
        """Read contact ids from a file, one a line, or from the text itself, with commas. Raises ConfigError."""
        try:
            path = Path(text)
            found = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"seeds: {text} cannot be read: {getattr(error, 'strerror', error)}.") from None
        ids = {each.strip() for each in found} - {""}
        if not ids:
            raise ConfigError("seeds: there is no contact id. Write one a line, or some with commas.")
        return cls(seeds=frozenset(keys.contact_key(each) for each in ids))

    def of(self, plan: Plan, store: Store) -> Callable[[int], bool]:
        """Give the function that says of a contact key of this plan whether it goes first."""
        with scratch() as con:
            store.keys.install(con)
            attach(con, plan.steps, plan.file_key, store.sealing)
            con.execute(_LINKS).fetchall()
            tied = frozenset(_column(con.execute(_TIED)))
            upto = self._upto(con)
        return lambda key: (key <= upto or key in self.seeds) and key not in tied

    def _upto(self, con: duckdb.DuckDBPyConnection) -> int:
        """Give the highest key of the part; -1 when there is nobody to choose from."""
        if not self.part:
            return -1
        if self.part < 1:
            lowest = con.execute(f"SELECT min(contact_key) FROM ({_FREE})").fetchone()
            return -1 if not lowest or lowest[0] is None else max(int(self.part * _KEYS), int(lowest[0]))
        chosen = _column(con.execute(f"{_FREE} ORDER BY 1 LIMIT {ceil(self.part)}"))
        return max(chosen, default=-1)

    def remembered(self, plan: Plan) -> str:
        """Give the text by which a later run knows who of a plan went first."""
        return json.dumps({"plan_id": plan.plan_id, "part": self.part, "seeds": sorted(self.seeds)})

    @classmethod
    def recalled(cls, plan: Plan, text: str | None) -> Self | None:
        """Read `remembered` back, None when it is of another plan."""
        raw: dict[str, Any] = json.loads(text) if text else {}
        if raw.get("plan_id") != plan.plan_id:
            return None
        return cls(part=raw["part"], seeds=frozenset(raw["seeds"]))


_LINKS = """
CREATE TEMP TABLE links AS
SELECT contact_key, address_key FROM steps WHERE operation <> 'opt_out'
UNION
SELECT contact_key, address_key(before ->> '$.address') FROM steps
WHERE operation <> 'opt_out' AND before IS NOT NULL
"""
_TIED = """
SELECT DISTINCT contact_key FROM links WHERE address_key IN (
    SELECT address_key FROM links GROUP BY 1 HAVING count(DISTINCT contact_key) > 1
)
"""
_FREE = f"SELECT contact_key FROM links EXCEPT ({_TIED})"


def _column(found: duckdb.DuckDBPyConnection) -> Iterable[int]:
    return [key for (key,) in found.fetchall()]
