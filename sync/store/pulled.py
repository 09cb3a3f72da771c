"""What was pulled from a destination besides consent: values that others write, who is who there, opens and clicks.

Nothing here decides what a value or an absence means; `pulling` does.

Decisions. Values are sealed as all that the store keeps of people; a contact whom the destination knows under a name of
its own is told by a keyed hash of it. A change of address is kept as the value of the one field that every contact has,
under `ADDRESS`: what the shop knows as the old address is mailed at the new one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
import pyarrow as pa
import sqlalchemy as sa

from ...core.consent import ConsentState
from ...core.model import Engagement
from .audit import Audit
from .baselines import end
from .database import Database, among, insert_columns, plain_among, remove
from .keys import ContactKeys
from .leases import Lease, check
from .schema import engagement, instant_of, microseconds, pulled_value, remote, remote_identity
from .sealing import Sealing

ADDRESS: Final = "EMAIL"
"""The tag under which an address is kept that a contact has at the destination and not in the data."""

ENGAGEMENT: Final = pa.schema(
    [
        ("destination", pa.string()),
        ("address_key", pa.int64()),
        ("kind", pa.string()),
        ("occurred_at", pa.timestamp("us", "UTC")),
        ("campaign", pa.string()),
    ]
)
_ROWS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledValue:
    """A value that others wrote, None for one that they cleared. `over` is what we had confirmed there before."""

    value: str | None
    over: str | None = None
    changed_at: datetime


class Pulled:
    """Stores and gives what was pulled."""

    def __init__(self, database: Database, keys: ContactKeys, sealing: Sealing, audit: Audit) -> None:
        self._database = database
        self._keys = keys
        self._sealing = sealing
        self._audit = audit

    # Who is who

    def known_as(self, destination: str, names: Iterable[str]) -> dict[str, int]:
        """Give the address keys under which contacts were seen last, by the names that the destination has for them."""
        keys = {self._name_key(destination, name): name for name in names}
        query = sa.select(remote_identity.c.name_key, remote_identity.c.address_key).where(
            remote_identity.c.destination == destination
        )
        with self._database.read() as connection:
            return {
                keys[name_key]: address_key
                for name_key, address_key in plain_among(connection, query, remote_identity.c.name_key, keys)
            }

    def name(self, destination: str, address_keys: Mapping[str, int]) -> None:
        """Store at which addresses contacts are, by the names that the destination has for them."""
        columns = {
            "name_key": [self._name_key(destination, name) for name in address_keys],
            "address_key": list(address_keys.values()),
        }
        with self._database.write() as connection:
            insert_columns(
                connection, remote_identity, columns, {"destination": destination}, on_conflict="replace"
            )

    def _name_key(self, destination: str, name: str) -> int:
        return self._keys.contact_key(f"{destination}\0{name}")

    # Who is there no more

    def count_unseen(
        self, destination: str, since: datetime, states: Iterable[ConsentState]
    ) -> tuple[int, int]:
        """Count the addresses last seen in some states: those not seen since then, and all."""
        query = sa.select(
            sa.func.coalesce(sa.func.sum(sa.case((remote.c.seen_at < since, 1), else_=0)), 0),
            sa.func.count(),
        ).where(remote.c.destination == destination, remote.c.state.in_([state.value for state in states]))
        with self._database.read() as connection:
            unseen, known = connection.execute(query).one()
            return unseen, known

    def unseen(self, destination: str, since: datetime) -> Iterator[dict[int, ConsentState]]:
        """Give the addresses not seen since then with their last states, a batch at a time."""
        after = -1
        while True:
            query = (
                sa.select(remote.c.address_key, remote.c.state)
                .where(
                    remote.c.destination == destination,
                    remote.c.seen_at < since,
                    remote.c.address_key > after,
                )
                .order_by(remote.c.address_key)
                .limit(_ROWS)
            )
            with self._database.read() as connection:
                found = {key: ConsentState(state) for key, state in connection.execute(query)}
            if not found:
                return
            yield found
            after = max(found)

    def forget(self, lease: Lease, address_keys: Sequence[int], contact_keys: Sequence[int]) -> None:
        """Forget addresses that a destination no longer has, with all that was pulled of them, and end the baselines of
        the contacts who were there, in one transaction.
        """
        destination = lease.destination
        with self._database.write() as connection:
            check(connection, lease)
            end(connection, destination, contact_keys)
            for table in (remote, pulled_value):
                gone = sa.delete(table).where(table.c.destination == destination)
                remove(connection, gone, table.c.address_key, address_keys)
            subjects = {"address": address_keys, "contact": contact_keys}
            self._audit.append(connection, "gone", destination=destination, subjects=subjects)

    # Values that others write

    def values(self, destination: str, address_keys: Iterable[int]) -> dict[tuple[int, str], PulledValue]:
        """Give what is stored of a batch of addresses, by address key and tag."""
        query = _VALUES.where(pulled_value.c.destination == destination)
        with self._database.read() as connection:
            return {
                (row.address_key, row.tag): self._value(destination, row, instant_of(row.changed_at))
                for row in among(connection, query, pulled_value.c.address_key, address_keys)
            }

    def stream_values(
        self, destination: str, tags: Iterable[str]
    ) -> Iterator[list[tuple[int, str, PulledValue]]]:
        """Give all that is stored under some tags as (address key, tag, value), a batch at a time."""
        query = _VALUES.where(pulled_value.c.destination == destination, pulled_value.c.tag.in_(list(tags)))
        for rows in self._database.stream(query):
            yield [(row.address_key, row.tag, self._value(destination, row, row.changed_at)) for row in rows]

    def put_values(self, destination: str, values: Mapping[tuple[int, str], PulledValue]) -> None:
        """Store values by address key and tag."""
        columns: dict[str, list[Any]] = {
            "address_key": [key for key, _ in values],
            "tag": [tag for _, tag in values],
            "value": [
                self._sealing.seal(
                    orjson.dumps([each.value, each.over]), pulled_value.name, destination, *place
                )
                for place, each in values.items()
            ],
            "changed_at": [microseconds(each.changed_at) for each in values.values()],
        }
        with self._database.write() as connection:
            insert_columns(
                connection, pulled_value, columns, {"destination": destination}, on_conflict="replace"
            )

    def drop_values(self, destination: str, tag: str, address_keys: Sequence[int]) -> None:
        """Forget the values of some addresses under a tag."""
        gone = sa.delete(pulled_value).where(
            pulled_value.c.destination == destination, pulled_value.c.tag == tag
        )
        with self._database.write() as connection:
            remove(connection, gone, pulled_value.c.address_key, address_keys)

    def _value(self, destination: str, row: sa.Row[Any], changed_at: datetime) -> PulledValue:
        place = (pulled_value.name, destination, row.address_key, row.tag)
        value, over = orjson.loads(self._sealing.unseal(row.value, *place))
        return PulledValue(value=value, over=over, changed_at=changed_at)

    # Opens and clicks

    def put_engagement(self, destination: str, found: Sequence[Engagement]) -> int:
        """Store opens and clicks and give how many were new."""
        columns: dict[str, list[Any]] = {
            "address_key": [self._keys.address_key(each.address) for each in found],
            "kind": [each.kind.value for each in found],
            "occurred_at": [microseconds(each.occurred_at) for each in found],
            "campaign": [each.campaign for each in found],
        }
        with self._database.write() as connection:
            return insert_columns(
                connection, engagement, columns, {"destination": destination}, on_conflict="ignore"
            )

    def stream_engagement(self) -> Iterator[pa.RecordBatch]:
        """Give all opens and clicks of all destinations as batches of ENGAGEMENT."""
        query = sa.select(*(engagement.c[name] for name in ENGAGEMENT.names))
        for rows in self._database.stream(query):
            columns = zip(*rows, strict=True)
            yield pa.record_batch(
                [pa.array(column, kind.type) for column, kind in zip(columns, ENGAGEMENT, strict=True)],
                schema=ENGAGEMENT,
            )


_VALUES: Final[sa.Select[*tuple[Any, ...]]] = sa.select(
    pulled_value.c.address_key, pulled_value.c.tag, pulled_value.c.value, pulled_value.c.changed_at
)
