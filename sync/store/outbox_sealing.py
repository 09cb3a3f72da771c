"""How outbox rows lie in the store when it is encrypted: address and payload sealed together, in the payload's column.

Together, because one sealing costs as much as another and a claim reads all of them. Nothing else is here.
"""

from collections.abc import Mapping, Sequence

from .schema import outbox
from .sealing import Sealing

_END = "\0"  # which JSON never holds as it is


def seal_changes(
    sealing: Sealing, destination: str, columns: Mapping[str, Sequence[object]]
) -> Mapping[str, Sequence[object]]:
    """Give the columns of changes as they are stored."""
    if not sealing.is_on:
        return columns
    rows = zip(columns["contact_key"], columns["address"], columns["payload"], strict=True)
    sealed = [seal_change(sealing, destination, *row) for row in rows]
    return {**columns, "address": [""] * len(sealed), "payload": sealed}


def seal_change(
    sealing: Sealing, destination: str, contact_key: object, address: object, payload: object
) -> str:
    """Give what the payload's column holds for one change."""
    return sealing.seal_text(f"{payload}{_END}{address}", outbox.name, destination, contact_key)


def unseal_change(
    sealing: Sealing, destination: str, contact_key: int, address: str, payload: str
) -> tuple[str, str]:
    """Give the address and the payload of one change as they were before they were stored."""
    payload, end, sealed_address = sealing.unseal_text(
        payload, outbox.name, destination, contact_key
    ).partition(_END)
    return (sealed_address if end else address), payload
