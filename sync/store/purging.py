"""Removes what was kept long enough from the store's tables, in grouped transactions.

Lives here: which rows of a table are old, and which old ones are still needed. Must not: say how long anything is kept.

What people said about consent has no place here, nor have baselines and tombstones: they count for as long as they are
true.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from .audit import Audit
from .database import ROWS_PER_TRANSACTION, Database
from .schema import engagement, erasure, inbox, outbox, plan, rejection, run

_DEAD: Final = "dead"  # of the inbox: given up


def _old_runs(before: datetime) -> sa.ColumnElement[bool]:
    """All but the newest of each kind of a destination: they say how it stands."""
    newer = run.alias("newer")
    is_newer = sa.exists().where(
        newer.c.destination == run.c.destination,
        newer.c.kind == run.c.kind,
        newer.c.started_at > run.c.started_at,
    )
    return sa.and_(run.c.started_at < before, is_newer)


def _old_plans(before: datetime) -> sa.ColumnElement[bool]:
    """All but the newest of each status of a destination, and those of which something is still to be sent."""
    newer = plan.alias("newer")
    is_newer = sa.exists().where(
        newer.c.destination == plan.c.destination,
        newer.c.status == plan.c.status,
        newer.c.created_at > plan.c.created_at,
    )
    waits = sa.exists().where(outbox.c.plan_id == plan.c.plan_id)
    return sa.and_(plan.c.created_at < before, is_newer, ~waits)


_OLD: Final[Mapping[str, tuple[sa.Table, Callable[[datetime], sa.ColumnElement[bool]]]]] = {
    "plans": (plan, _old_plans),
    "runs": (run, _old_runs),
    "rejections": (rejection, lambda before: rejection.c.last_at < before),
    "dead_webhooks": (inbox, lambda before: sa.and_(inbox.c.status == _DEAD, inbox.c.received_at < before)),
    "engagement": (engagement, lambda before: engagement.c.occurred_at < before),
    "receipts": (erasure, lambda before: erasure.c.finished_at < before),
}

TABLES: Final = tuple(_OLD)


class Purging:
    """Counts and removes what is older than a moment."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def count(self, name: str, before: datetime) -> int:
        """Count what `remove` would remove."""
        table, old = _OLD[name]
        with self._database.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table).where(old(before))) or 0

    def remove(self, name: str, before: datetime) -> int:
        """Remove what is older than a moment, and give how many rows. Killed, it is simply called again."""
        table, old = _OLD[name]
        key = list(table.primary_key)
        some = sa.select(*key).where(old(before)).limit(ROWS_PER_TRANSACTION)
        removed = 0
        while True:
            with self._database.write() as connection:
                count = connection.execute(sa.delete(table).where(sa.tuple_(*key).in_(some))).rowcount
                removed += count
                if count:
                    detail: dict[str, Any] = {"what": name, "rows": count, "before": before.isoformat()}
                    self._audit.append(connection, "purged", detail=detail)
            if count < ROWS_PER_TRANSACTION:
                return removed
