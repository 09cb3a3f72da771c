"""What a connector can do, in words: for `segue connectors describe` and the capability matrix of the docs.

Everything is read off the class and its `Capabilities`; nothing is known of any ESP here.
"""

from collections.abc import Mapping
from typing import Any

from ..core.model import Capabilities, Operation
from .base import Connector


def described(kind: type[Connector]) -> Mapping[str, Any]:
    """Give what a connector can do, by what a reader asks."""
    can = kind.capabilities
    webhooks = "none"
    if kind.webhooks is not None:
        webhooks = "made by Segue" if _does(kind, "installed_webhooks") else "made by hand"
        webhooks += ", signed" if kind.webhooks.signs else ", not signed"
    return {
        "name": kind.name,
        "label": kind.label,
        "fields": ", ".join(sorted(each.value for each in can.field_types)),
        "most fields": ", ".join(f"{plan} {slots}" for plan, slots in can.field_slots.items()),
        "a field in a mail": can.field_syntax.format(tag="FIELD"),
        "longest text in bytes": can.text_bytes,
        "longest tag": can.tag_length,
        "contacts of a request": ", ".join(
            f"{operation.value} {can.batch_sizes[operation]}"
            for operation in Operation
            if operation in can.batch_sizes
        ),
        "works off later": _jobs(can),
        "requests at once": can.concurrency,
        "published limits": ", ".join(f"{limit.count} in {limit.seconds:g} s" for limit in can.rate_limits)
        or "none published",
        "mails": "who agreed there" if can.shows_consent else "whoever is there and never refused",
        "opens and clicks": _yes(_does(kind, "engagement")),
        "erasing by API": _yes(_does(kind, "erase")),
        "webhooks": webhooks,
    }


def _jobs(can: Capabilities) -> str:
    """Say what jobs take, and of what size."""
    if can.jobs is None:
        return "nothing"
    names = ", ".join(operation.value for operation in Operation if operation in can.jobs.operations)
    return f"{names}, from {can.jobs.singly + 1} contacts on, up to {can.jobs.request_bytes / 1e6:g} MB a job"


def _does(kind: type[Connector], method: str) -> bool:
    return getattr(kind, method) is not getattr(Connector, method)


def _yes(does: bool) -> str:  # noqa: FBT001 - reads as what it says
    return "yes" if does else "unsupported"
