"""Sends the opt-outs that wait for one destination, and nothing else: with its lease, or ahead of who has that.

Who is opted out is decided before; `fanout` puts them in.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from ..core.errors import DestinationError
from ..core.model import Operation
from .delivery.apply import deliver
from .delivery.courier import Courier
from .jobs import Job, recorded
from .report import Report
from .store.database import grouped
from .store.outbox_row import OutboxRow

_LOG = structlog.get_logger(__name__)


def send_opt_outs(job: Job) -> Report:
    """Send the opt-outs of a destination that wait, and nothing else.

    Raises LeaseHeldError while a run of another process holds it. Raises what stops it, after the report is stored.
    """
    with recorded(job, "opt_out") as (lease, report):
        deliver(
            job.connector,
            job.store,
            lease,
            people=job.people,
            double_opt_in=False,
            regimes=job.project.consent,
            run_id=report.run_id,
            clock=job.clock,
            progress=lambda *_: None,
            tally=report.tally,
            permitted=lambda _: frozenset({Operation.OPT_OUT}),
        )
    return report


def send_ahead(job: Job, rows: Sequence[OutboxRow], *, sent: Callable[[list[int]], None]) -> None:
    """Send opt-outs while somebody else holds the lease, and may be busy with a plan for long. Raises DestinationError.

    Nothing is stored, and they stay in the outbox: whoever has the lease sends them again, after a create that may be
    under way, and stores what came of it. An opt-out may be repeated, and only lowers. `sent` is told the ids of each
    batch that went.
    """
    if not rows:
        return
    courier = Courier(
        job.connector,
        job.store,
        job.destination,
        double_opt_in=False,
        regimes=job.project.consent,
        run_id="",  # of no run: nothing is stored
        clock=job.clock,
    )
    limits = job.connector.capabilities
    batches = list(grouped(rows, limits.batch_sizes[Operation.OPT_OUT]))
    with ThreadPoolExecutor(min(limits.concurrency, len(batches)), thread_name_prefix="ahead") as pool:
        error: DestinationError | None = None
        for batch, delivery in zip(
            batches, pool.map(lambda batch: courier.carry(batch, troubled=False), batches), strict=True
        ):
            error = error or delivery.error
            if delivery.error is None:
                sent([row.id for row in batch])
    if error is not None:
        raise error
    _LOG.info("opt_outs_sent_ahead", destination=job.destination, opt_outs=len(rows))
