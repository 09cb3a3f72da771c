"""Which destinations a person has paused, since when and why: written by a command, asked before each claim.

Nothing here stops anything; `sync.jobs` and `sync.delivery` do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from .audit import Audit
from .database import Database, insert
from .schema import pause as pauses


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A destination that nobody writes to. `opt_outs`: not even those, which otherwise always go."""

    destination: str
    reason: str
    opt_outs: bool
    who: str
    since: datetime


class Pauses:
    """Remembers pauses, one a destination: the newest word counts."""

    def __init__(self, database: Database, audit: Audit, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def pause(self, destination: str, *, reason: str, opt_outs: bool, who: str) -> Pause:
        """Pause a destination, at once and also for a run that is at work."""
        made = Pause(destination=destination, reason=reason, opt_outs=opt_outs, who=who, since=self._clock())
        row = {name: getattr(made, name) for name in Pause.__slots__}
        with self._database.write() as connection:
            connection.execute(insert(connection, pauses, on_conflict="replace"), row)
            detail = {"reason": reason, "opt_outs": opt_outs}
            self._audit.append(connection, "paused", who=who, destination=destination, detail=detail)
        return made

    def resume(self, destination: str) -> bool:
        """End a destination's pause; say whether there was one."""
        with self._database.write() as connection:
            ended = connection.execute(sa.delete(pauses).where(pauses.c.destination == destination))
            if ended.rowcount:
                self._audit.append(connection, "resumed", destination=destination)
            return ended.rowcount > 0

    def of(self, destination: str) -> Pause | None:
        """Give a destination's pause, None when it is not paused."""
        query = sa.select(pauses).where(pauses.c.destination == destination)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return Pause(**row) if row else None
