"""Who may write to a destination: one lease each, with a fencing token that grows with every holder.

Nothing here is about what is written.

A lease ends by release, by time, or at once when its holder was a process of this machine that is gone, so that a
killed run can be started again without waiting. The token makes a wrong guess harmless to the store: claims and
settlements of an older token are refused.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any, Final

import sqlalchemy as sa
import structlog

from ...core.errors import StoreError
from .database import Database, insert
from .schema import EPOCH
from .schema import lease as leases

_LOG = structlog.get_logger(__name__)

# After so long without a word from another machine its work is taken over.
_TTL: Final = timedelta(seconds=90)
_BEAT: Final = 20.0  # seconds
# What holds a lease for moments: whoever has more to do waits so long for them, and they wait for nobody's work.
_BRIEF: Final = frozenset({"pull", "opt_out"})
_WAIT: Final = 120.0  # seconds
_GLANCE: Final = 0.2  # seconds
_TOKEN: Final = (
    sa.select(leases.c.token).where(leases.c.destination == sa.bindparam("destination")).with_for_update()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to write to one destination until `expires_at`, unless prolonged before."""

    destination: str
    holder: str
    token: int
    ttl: timedelta
    expires_at: datetime


class LeaseHeldError(StoreError):
    """Another process is at work on a destination; `brief`: on something that is over soon."""

    def __init__(self, message: str, *, brief: bool) -> None:
        super().__init__(message)
        self.brief = brief


class Leases:
    """Hands out, prolongs and takes back leases."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    @contextmanager
    def hold(self, destination: str, kind: str = "run") -> Iterator[Lease]:
        """Take the lease, prolong it for as long as the block runs, however slow that is, and give it back.

        Raises LeaseHeldError naming the holder while another one has it. `kind` is that of the run: one that is over soon
        is waited for, so that what `segue serve` does now and then makes no scheduled run fail.
        """
        holder = f"{kind} by {this_process()}" if kind in _BRIEF else this_process()
        deadline = monotonic() + (0 if kind == "opt_out" else _WAIT)
        while True:
            try:
                lease = self.acquire(destination, _TTL, holder=holder)
                break
            except LeaseHeldError as error:
                if not error.brief or monotonic() > deadline:
                    raise
                sleep(_GLANCE)
        over = Event()

        def beat() -> None:
            while not over.wait(_BEAT):
                try:
                    self.heartbeat(lease)
                except StoreError as error:
                    # If it is for good, the next claim or settlement says it to the run.
                    _LOG.warning("lease_not_prolonged", destination=destination, reason=error.message)

        thread = Thread(target=beat, name=f"lease of {destination}", daemon=True)
        thread.start()
        try:
            yield lease
        finally:
            over.set()
            thread.join()
            self.release(lease)

    def acquire(self, destination: str, ttl: timedelta, *, holder: str | None = None) -> Lease:
        """Take the lease. Raises LeaseHeldError naming the holder while another one has it.

        `holder` is this process by default.
        """
        holder = holder or this_process()
        with self._database.write() as connection:
            now = self._clock()
            held = lock(connection, destination)
            if held.holder and held.expires_at > now and not is_gone(held.holder):
                raise LeaseHeldError(
                    f'destination "{destination}": another run is at work ({held.holder}, last seen '
                    f"{held.heartbeat:%Y-%m-%d %H:%M:%S} UTC). Wait until it ends; if it is dead, its lease ends "
                    f"at {held.expires_at:%H:%M:%S} UTC.",
                    brief=held.holder.partition(" by ")[0] in _BRIEF,
                )
            lease = Lease(
                destination=destination, holder=holder, token=held.token + 1, ttl=ttl, expires_at=now + ttl
            )
            connection.execute(
                sa.update(leases)
                .where(leases.c.destination == destination)
                .values(holder=holder, token=lease.token, expires_at=lease.expires_at, heartbeat=now)
            )
        return lease

    def heartbeat(self, lease: Lease) -> Lease:
        """Prolong the lease by its `ttl` from now. Raises StoreError when another holder has it."""
        with self._database.write(durable=False) as connection:
            now = self._clock()
            check(connection, lease)
            connection.execute(
                sa.update(leases)
                .where(leases.c.destination == lease.destination)
                .values(expires_at=now + lease.ttl, heartbeat=now)
            )
        return replace(lease, expires_at=now + lease.ttl)

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens when another holder has it already."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(leases)
                .where(leases.c.destination == lease.destination, leases.c.token == lease.token)
                .values(holder="", expires_at=EPOCH)
            )


def lock(connection: sa.Connection, destination: str) -> sa.Row[Any]:
    """Keep others from taking the lease, claiming and settling until this write ends; give the lease's row."""
    free = {
        "destination": destination,
        "holder": "",
        "token": 0,
        "expires_at": EPOCH,
        "heartbeat": EPOCH,
    }
    connection.execute(insert(connection, leases, on_conflict="ignore"), free)
    return connection.execute(
        sa.select(leases).where(leases.c.destination == destination).with_for_update()
    ).one()


def check(connection: sa.Connection, lease: Lease) -> None:
    """Prove inside a write that the lease is still this one, and keep others from taking it until the write ends.

    On PostgreSQL the row lock also puts the claims of several threads in a row, so that none overlooks rows that
    another is about to take.
    """
    token = connection.execute(_TOKEN, {"destination": lease.destination}).scalar()
    if token != lease.token:
        raise StoreError(
            f'destination "{lease.destination}": another run took over while this one was silent. '
            "Nothing of this step was stored; the other run goes on with the work."
        )


@cache
def _machine() -> str:
    """Name the machine, so that equal process numbers of two machines or containers are not taken for one."""
    parts = [platform.node() or "unknown"]
    for place in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        path = Path(place)
        if path.is_symlink():
            parts.append(str(path.readlink()).partition("[")[2].rstrip("]"))
        elif path.exists():
            parts.append(path.read_text(encoding="ascii").strip()[:8])
    return "-".join(parts)


def this_process() -> str:
    """Name this process as a holder."""
    return f"{_machine()} process {os.getpid()}"


def is_gone(holder: str) -> bool:
    """Say whether a holder was a process of this machine that no longer runs. When in doubt, False."""
    machine, _, number = holder.rpartition(" process ")
    if machine.rpartition(" by ")[2] != _machine() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
