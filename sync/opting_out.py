"""Sends the opt-outs that wait for one destination, and nothing else: with its lease, or ahead of who has that.

Who is opted out is decided before; `fanout` puts them in.
"""

from collections.abc import Sequence

import structlog

from ..core.model import Operation
from .delivery.apply import deliver
from .delivery.courier import Courier
from .jobs import Job, recorded
from .report import Report
from .store.database import grouped
from .store.outbox import OutboxRow

_LOG = structlog.get_logger(__name__)


def send_opt_outs(job: Job) -> Report:
    """Send the opt-outs of a destination that wait, and nothing else.

    Raises StoreError while a run of another process holds the lease. Raises what stops it, after the report is stored.
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


def send_ahead(job: Job, rows: Sequence[OutboxRow]) -> None:
    """Send opt-outs while somebody else holds the lease, and may be busy with a plan for long. Raises DestinationError.

    Nothing is stored, and they stay in the outbox: whoever has the lease sends them again, after a create that may be
    under way, and stores what came of it. An opt-out may be repeated, and only lowers.
    """
    courier = Courier(
        job.connector,
        job.store,
        job.destination,
        double_opt_in=False,
        regimes=job.project.consent,
        run_id="",  # of no run: nothing is stored
        clock=job.clock,
    )
    for batch in grouped(rows, job.connector.capabilities.batch_sizes[Operation.OPT_OUT]):
        delivery = courier.carry(batch, troubled=False)
        if delivery.error is not None:
            raise delivery.error
    _LOG.info("opt_outs_sent_ahead", destination=job.destination, opt_outs=len(rows))
