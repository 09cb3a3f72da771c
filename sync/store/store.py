"""`Store`: the one door to what Segue remembers. It opens the database and proves that the contact key fits it.

What is remembered, and how, is in the modules that its attributes come from.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from ...core.config import Project, resolve_secret
from ...core.errors import ConfigError
from ...core.model import ContactState
from .audit import Audit
from .baselines import Baselines
from .consents import Consents
from .database import Database, insert, parse_url
from .destinations import Destinations
from .encryption import Rotation, prove, rotate
from .erasures import Erasures
from .inbox import Inbox
from .keys import ContactKeys, load_or_create_key
from .leases import Leases
from .outbox import Outbox
from .pauses import Pauses
from .pulled import Pulled
from .purging import Purging
from .runs import Plans, Runs
from .schema import fact
from .sealing import Sealing, parse_keys
from .settlement import Settlements
from .tokens import Tokens
from .tombstones import Tombstones
from .turns import AccountTurns

_FINGERPRINT = "contact_key_fingerprint"
_FINGERPRINT_QUERY = sa.select(fact.c.value).where(fact.c.name == _FINGERPRINT)
_TOLD_FOR_WHOM = "told_for_whom_addresses_were_written"


def _now() -> datetime:
    return datetime.now(UTC)


class Store:
    """An open store. Safe to share between threads; close it, or use it in a `with`."""

    def __init__(
        self, database: Database, keys: ContactKeys, sealing: Sealing, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self.keys = keys
        self.sealing = sealing
        self.audit = Audit(database, keys.derived("audit"), clock)
        self.baselines = Baselines(database, sealing)
        self.destinations = Destinations(database, self.audit, clock)
        self.consents = Consents(database, keys.derived("consent entries"), sealing, self.audit, clock)
        self.plans = Plans(database, self.audit)
        self.outbox = Outbox(database, sealing, self.audit, clock)
        self.inbox = Inbox(database, sealing, clock)
        self.tokens = Tokens(database, self.audit, clock)
        self.settlements = Settlements(database, sealing, self.audit, clock)
        self.runs = Runs(database, self.audit, clock)
        self.leases = Leases(database, clock)
        self.turns = AccountTurns(database)
        self.pauses = Pauses(database, self.audit, clock)
        self.pulled = Pulled(database, keys, sealing, self.audit)
        self.tombstones = Tombstones(database, keys, self.audit, clock)
        self.purging = Purging(database, self.audit)
        self.erasures = Erasures(database, keys, sealing, self.audit, self.tombstones, clock)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        key: Callable[[bool], ContactKeys],
        encryption: Sequence[bytes] = (),
        clock: Callable[[], datetime] = _now,
        busy_seconds: float = 30,
    ) -> "Store":
        """Open or make a store, with its tables brought up to date.

        `key` is asked for the contact keys and told whether the store is new. `encryption` are the keys of what is
        encrypted, the newest first. `busy_seconds` is how long to wait for another process that writes. Raises
        StoreError when the database cannot be used, and ConfigError when the keys are not the store's.
        """
        database = Database(parse_url(url), busy_seconds=busy_seconds)
        try:
            sealing = prove(database, encryption, new_store=_fingerprint(database) is None)
            store = cls(database, _proved(database, key), sealing, clock)
            store.audit.begin()
            store._tell_for_whom()
        except BaseException:
            database.close()
            raise
        return store

    @classmethod
    def of(cls, project: Project) -> "Store":
        """Open a project's store. A new store's key file is made when the project names a file that is not there."""

        def key(new_store: bool) -> ContactKeys:  # noqa: FBT001 - the one thing that it is told
            if path := project.contact_key_file():
                return load_or_create_key(path, new_store=new_store)
            return ContactKeys.parse(resolve_secret(project.contact_key, project.folder))

        secret = project.encryption_key
        encryption = parse_keys(resolve_secret(secret, project.folder)) if secret else ()
        return cls.open(project.store_url(), key=key, encryption=encryption)

    def _tell_for_whom(self) -> None:
        """Have an older store say for whom addresses were written, which takes the secret; once, and safe to kill."""
        told = {"name": _TOLD_FOR_WHOM, "value": "yes"}
        with self._database.read() as connection:
            if connection.execute(sa.select(fact.c.value).where(fact.c.name == _TOLD_FOR_WHOM)).scalar():
                return
        for destination in self.baselines.destinations():
            keys = (
                key
                for batch in self.baselines.stream(destination)
                for key in batch.column("contact_key").to_pylist()
            )
            for batch in self.baselines.stream_payloads(destination, keys):
                rows = zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
                self.destinations.tell_written_for(
                    destination,
                    {self.keys.address_key(ContactState.parse(text).address): key for key, text in rows},
                )
        with self._database.write() as connection:
            connection.execute(insert(connection, fact, on_conflict="ignore"), told)

    def rotate_key(self, progress: Callable[[str, int], None]) -> Rotation:
        """Bring every sealed value under the newest key; nobody else may write to the store with an older one."""
        return rotate(self._database, self.sealing, self.audit, progress)

    def close(self) -> None:
        """Let the database go."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fingerprint(database: Database) -> str | None:
    with database.read() as connection:
        return connection.execute(_FINGERPRINT_QUERY).scalar()


def _proved(database: Database, key: Callable[[bool], ContactKeys]) -> ContactKeys:
    known = _fingerprint(database)
    keys = key(known is None)
    if known is None:
        with database.write() as connection:
            row = {"name": _FINGERPRINT, "value": keys.fingerprint()}
            connection.execute(insert(connection, fact, on_conflict="ignore"), row)
            known = connection.execute(_FINGERPRINT_QUERY).scalar_one()
    if known != keys.fingerprint():
        raise ConfigError(
            "contact_key: the contact key does not match this store. Restore the key that the store was made with, "
            "or point `store` at another one; with this key Segue would recognise nobody."
        )
    return keys
