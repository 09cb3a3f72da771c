"""A row of the outbox as it is handed out, and what it is made of. Nothing is stored here."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa

from ...core.model import Change, Operation
from .outbox_sealing import unseal_change
from .sealing import Sealing

ITEMS: Final = pa.schema(
    [
        ("contact_key", pa.int64()),
        ("operation", pa.string()),
        ("group_key", pa.string()),  # the tag of an untag, else empty
        ("rank", pa.int32()),  # wave: a lower one is sent before a higher one
        ("address", pa.string()),
        ("address_key", pa.int64()),
        (
            "payload",
            pa.string(),
        ),  # JSON object: fields, tags, previous_address, each if any; the engine may add its own
        ("before_hash", pa.binary()),  # null: the plan saw no baseline
        ("desired_hash", pa.binary()),  # null: the change aims at no whole state (an opt-out)
    ]
)

STEP: Final = {operation.value: place for place, operation in enumerate(Operation)}
"""The order of sending within a wave."""

URGENT: Final = "urgent"
"""The plan id of what `Outbox.urge` put in: no plan's end takes it away."""

OPERATIONS: Final = tuple(Operation)
"""By their place in that order."""


class OutboxRow(NamedTuple):
    """One claimed row. Its id is good for one settlement. The last four are what a batch has in common."""

    id: int
    plan_id: str
    contact_key: int
    address: str
    address_key: int
    payload: str
    before_hash: bytes | None
    desired_hash: bytes | None
    attempts: int
    destination: str
    operation: Operation
    group_key: str
    rank: int

    def opened(self, sealing: Sealing) -> "OutboxRow":
        """Give a row as it was before it was stored."""
        address, payload = unseal_change(
            sealing, self.destination, self.contact_key, self.address, self.payload
        )
        return self._replace(address=address, payload=payload)

    def said(self) -> dict[str, Any]:
        """Read the payload."""
        said: dict[str, Any] = orjson.loads(self.payload)
        return said

    def change(self, said: Mapping[str, Any] | None = None) -> Change:
        """Give the row as a change, with no decision of the gate yet; `said` is its payload where that was read before."""
        if said is None:
            said = self.said()
        return Change(
            contact_key=self.contact_key,
            operation=self.operation,
            address=self.address,
            fields=said.get("fields", {}),
            tags=tuple(said.get("tags", ())),
            previous_address=said.get("previous_address"),
        )
