"""Keeps the turns of accounts where all processes on one store see them: a row of text for each account.

The rules are `connectors.turns`'; here is only who may change them when. A row per turn lost: it would say the rules once
more in SQL, and cost a row's life per request where now one small row is written again.

PostgreSQL gives the time, because machines disagree about it; on SQLite all processes are on one machine. Nothing of
this must survive a power cut, in which all requests end.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from ...connectors.turns import Turns
from .database import Database, insert
from .leases import is_gone, this_process
from .schema import account_turns

_SELECT = sa.select(account_turns.c.state).where(account_turns.c.account == sa.bindparam("account"))
_UPDATE = sa.update(account_turns).where(account_turns.c.account == sa.bindparam("of"))
_NOW = sa.text("select extract(epoch from clock_timestamp())::float8")


class AccountTurns:
    """The turns of every account that this store's destinations write to."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def holder(self) -> str:
        """This process."""
        return this_process()

    @contextmanager
    def change(self, account: str) -> Iterator[tuple[Turns, float]]:
        """Give an account's turns, to this caller alone until the block ends, and the time of their clock.

        Whoever held a turn and is gone from this machine holds none any more.
        """
        with self._database.write(durable=False) as connection:
            query, row = _SELECT.with_for_update(), {"account": account}
            state = connection.execute(query, row).scalar()
            if state is None:
                first = insert(connection, account_turns, on_conflict="ignore")
                connection.execute(first, {**row, "state": Turns().as_text()})
                state = connection.execute(query, row).scalar_one()
            # Asked only now: it took time to get the row.
            now = (
                time.time() if connection.dialect.name == "sqlite" else connection.execute(_NOW).scalar_one()
            )
            turns = Turns.parse(state)
            for holder in turns.holders():
                if is_gone(holder):
                    turns.release(holder, now)
            yield turns, now
            connection.execute(_UPDATE, {"of": account, "state": turns.as_text()})
