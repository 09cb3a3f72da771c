"""What a plan costs: its write requests and its time, from what an ESP declares.

Nothing here looks at a contact, and no limit is decided.
"""

import math
from collections.abc import Mapping

from ...core.model import Capabilities, DestinationSchema, Operation


def write_requests(
    operations: Mapping[str, int],
    tags_removed: Mapping[str, int],
    capabilities: Capabilities,
    lacking: DestinationSchema,
    *,
    unmade: int = 0,
) -> dict[str, int]:
    """Count the write requests: the least that the ESP's batch sizes allow. `unmade` is the account's."""
    sizes = capabilities.batch_sizes
    schema = len(lacking.fields) + bool(capabilities.makes_tags and lacking.tags)
    counts = {"schema": schema + (unmade if operations else 0)} | {
        operation: math.ceil(count / sizes[Operation(operation)])
        for operation, count in operations.items()
        if operation != Operation.UNTAG
    }
    counts[Operation.UNTAG] = sum(
        math.ceil(count / sizes[Operation.UNTAG]) for count in tags_removed.values()
    )
    return {str(name): count for name, count in counts.items() if count}


def seconds_of(requests: int, capabilities: Capabilities) -> float:
    """Estimate the time of so many requests one after the other, or at the declared limit if that is slower."""
    limited = max((requests * limit.seconds / limit.count for limit in capabilities.rate_limits), default=0.0)
    return round(max(limited, requests * capabilities.seconds_per_request), 1)
