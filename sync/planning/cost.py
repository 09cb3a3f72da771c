"""What a plan costs: its requests and its time, from what an ESP declares.

Nothing here looks at a contact, and no limit is decided. The figures are the least that a plan takes when nothing fails:
a job that takes its time is asked of more often than once, on the schedule of `Jobs`.
"""

import math
from collections.abc import Mapping

from ...core.model import Capabilities, DestinationSchema, Operation


def requests_of(
    operations: Mapping[str, int],
    tags_removed: Mapping[str, int],
    capabilities: Capabilities,
    lacking: DestinationSchema,
    *,
    unmade: int = 0,
    whole_bytes: int = 0,
) -> tuple[dict[str, int], dict[str, int]]:
    """Count write requests and reads, by what they are for: the least that the ESP's batch sizes allow.

    `unmade` is the account's; `whole_bytes` is how much contacts take up that are written for the first time. Reads have
    one more line, `jobs`, of how often jobs are asked whether they are done.
    """
    items = {Operation(name): [count] for name, count in operations.items() if name != Operation.UNTAG}
    items[Operation.UNTAG] = list(tags_removed.values())
    if capabilities.makes_first:  # and what it has to say follows
        waves = (
            operations.get(Operation.UPDATE, 0),
            operations.get(Operation.CREATE, 0),
        )  # never in one request
        items[Operation.UPDATE] = [count for count in waves if count]
    made = len(lacking.fields) if capabilities.makes_fields else 0
    tags = bool(capabilities.makes_tags and lacking.tags)
    writes = {"schema": made + tags + (unmade if operations else 0)}
    reads = {"schema": capabilities.schema_reads if made else 0}
    polls = 0
    for operation, counts in items.items():
        jobs, single = 0, 0
        for count in counts:
            more_jobs, more_single = _batches(operation, count, capabilities)
            jobs, single = jobs + more_jobs, single + more_single
        if operation is Operation.UPDATE and capabilities.jobs and jobs:
            jobs = max(jobs, math.ceil(whole_bytes / capabilities.jobs.request_bytes))
        writes[operation] = jobs + single
        polls += jobs
        if asked := capabilities.reads.get(operation):
            size = asked.contacts or capabilities.batch_sizes[operation]
            reads[operation] = asked.requests * sum(math.ceil(count / size) for count in counts)
    reads["jobs"] = polls
    return _some(writes), _some(reads)


def seconds_of(requests: int, capabilities: Capabilities) -> float:
    """Estimate the time of so many requests one after the other, or at the declared limit if that is slower."""
    limited = max((requests * limit.seconds / limit.count for limit in capabilities.rate_limits), default=0.0)
    return round(max(limited, requests * capabilities.seconds_per_request), 1)


def _batches(operation: Operation, count: int, capabilities: Capabilities) -> tuple[int, int]:
    """Give how many requests are jobs, and how many are not."""
    full, rest = divmod(count, capabilities.batch_sizes[operation])
    jobs = capabilities.jobs
    if jobs is None or operation not in jobs.operations:
        return 0, full + bool(rest)
    return (full, rest) if rest <= jobs.singly else (full + 1, 0)


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items() if count}
