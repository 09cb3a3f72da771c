"""A small shop as a real project on disk, whose snapshots are published without a build, and its local ESP."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segue.connectors.emulator import Person
from segue.core.config import load_project
from segue.core.data.engine import connect
from segue.core.snapshot import current, writing
from segue.sync import jobs
from segue.sync.jobs import Job, utc_now
from segue.sync.planning.canary import Canary
from segue.sync.planning.plan import Plan
from segue.sync.report import Report
from segue.sync.store.store import Store

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
LAST_ORDER = date(2026, 2, 19)
REPORT = {
    "sources": [{"source": "customers.csv", "table_name": "customers", "newest": "2026-02-25T00:00:00Z"}]
}
TRAITS = [
    {"name": name, "type": kind, "description": name, "null_means": ""}
    for name, kind in {
        "contact_id": "text",
        "email": "text",
        "last_name": "text",
        "revenue": "money",
        "orders_count": "integer",
        "last_order_date": "date",
    }.items()
]

SEGUE_YML = """\
project: small
store: {store}
sources:
  customers: [{{path: customers.csv, max_age: {max_age}}}]
segments:
  big: {{where: revenue >= 100}}
  small: {{where: revenue < 100}}
destinations:
  newsletter:
    connector: {connector}
    mapping: mapping.yml
    settings:
{settings}
      retry_wait: 0.02 seconds
"""

MAPPING_YML = """\
connector: mailchimp
fields:
  - {trait: revenue, label: Spent, tag: SG_SPENT, purpose: test}
  - {trait: orders_count, label: Orders, tag: SG_ORDERS, purpose: test}
  - {trait: last_order_date, label: Last order, tag: SG_LAST, purpose: test}
  - {trait: last_name, label: Name, tag: SG_NAME, purpose: test}
tags: {segments: all, purpose: test}
"""


def mapping_for(connector: str) -> str:
    """Give the mapping of the small shop; Mailchimp alone writes names in capital letters."""
    text = MAPPING_YML.replace("connector: mailchimp", f"connector: {connector}")
    return text if connector == "mailchimp" else re.sub(r"SG_\w+", lambda tag: tag[0].lower(), text)


@dataclass
class Customer:
    """One customer with one order of `spent`; `consents` are (act, days before AS_OF, evidence)."""

    contact_id: str
    spent: float = 50.0
    email: str | None = None
    last_name: str | None = "Smith"
    country: str | None = None
    delivered_to: str | None = None  # the country of the order
    segments: Sequence[str] | None = None  # None: the one that follows from what was spent
    consents: list[tuple[str, int, str]] = field(
        default_factory=lambda: [("grant", 100, '{"form": "checkout"}')]
    )

    @property
    def address(self) -> str:
        return f"{self.contact_id}@shop.example" if self.email is None else self.email

    @property
    def belongs_to(self) -> Sequence[str]:
        return ("big" if self.spent >= 100 else "small",) if self.segments is None else self.segments


@cache
def _engine() -> Any:
    """Open what all shops of a process are built with: to open one takes longer than to build one."""
    return connect()


class Shop:
    """A project folder, its local ESP, and the job that syncs them."""

    def __init__(self, folder: Path, sandbox: Any, store: str) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.store = store
        self.max_age = "10000 days"
        self.mapping = mapping_for(sandbox.connector)
        self.more = ""  # further lines of the destination in segue.yml
        self.batch_size: int | None = None
        self.settings: dict[str, str] = {}  # further ones of the destination
        self.customers: dict[str, Customer] = {}
        self.acts: list[
            dict[str, Any]
        ] = []  # more rows of the consents table, of which any column may be missing; `at` is an exact instant
        self._built: dict[str, pa.Table] = {}

    def stock(self, count: int, **more: Any) -> None:
        """Add so many customers."""
        for number in range(len(self.customers), len(self.customers) + count):
            self.customers[f"c{number:05}"] = Customer(f"c{number:05}", **more)

    def build(self) -> None:
        """Write the project and publish a snapshot of the customers, as a build would have computed it."""
        settings = {**self.sandbox.destination, **self.settings}
        if self.batch_size:
            settings["batch_size"] = str(self.batch_size)
        (self.folder / "segue.yml").write_text(
            SEGUE_YML.format(
                max_age=self.max_age,
                store=self.store,
                connector=self.sandbox.connector,
                settings="\n".join(f"      {name}: {value}" for name, value in settings.items()),
            )
            + self.more
        )
        (self.folder / "mapping.yml").write_text(self.mapping)
        people = list(self.customers.values())
        tables = {
            "customers": pa.table(
                {
                    "contact_id": pa.array([c.contact_id for c in people], pa.string()),
                    "country": pa.array([c.country for c in people], pa.string()),
                }
            ),
            "profiles": pa.table(
                {
                    "contact_id": pa.array([c.contact_id for c in people], pa.string()),
                    "email": pa.array([c.address or None for c in people], pa.string()),
                    "last_name": pa.array([c.last_name for c in people], pa.string()),
                    "country": pa.array([c.country or c.delivered_to for c in people], pa.string()),
                    "revenue": pa.array([Decimal(str(c.spent)) for c in people], pa.decimal128(18, 4)),
                    "orders_count": pa.array([1] * len(people), pa.int64()),
                    "last_order_date": pa.array([LAST_ORDER] * len(people), pa.date32()),
                }
            ),
            "segments": pa.table(
                {
                    "contact_id": pa.array([c.contact_id for c in people for _ in c.belongs_to], pa.string()),
                    "segment": pa.array([name for c in people for name in c.belongs_to], pa.string()),
                }
            ),
            "consents": self._consents(),
            "groups": pa.table(
                dict.fromkeys(("contact_id", "group_name", "segment"), pa.array([], pa.string()))
            ),
            "recommendations": pa.table(
                {
                    **dict.fromkeys(
                        (
                            "contact_id",
                            "recommendation",
                            "product_id",
                            "name",
                            "url",
                            "image_url",
                            "currency",
                            "reason",
                        ),
                        pa.array([], pa.string()),
                    ),
                    "slot": pa.array([], pa.int64()),
                    "price": pa.array([], pa.decimal128(18, 4)),
                }
            ),
        }
        if tables == self._built:  # a build that changes nothing publishes the snapshot that is there
            return
        con = _engine()
        with writing(self.folder / ".segue", con) as draft:
            for name, table in tables.items():
                pq.write_table(table, self.folder / f"{name}.parquet")
                draft.write(name, con.read_parquet(str(self.folder / f"{name}.parquet")))
            draft.publish(
                AS_OF,
                {
                    "project": "small",
                    "timezone": "UTC",
                    "currency": "GBP",
                    "traits": TRAITS,
                    "report": REPORT,
                },
            )
        self._built = tables

    def _consents(self) -> pa.Table:
        rows = [
            {"contact_id": c.contact_id, "act": act, "days": days, "evidence": proof or None}
            for c in self.customers.values()
            for act, days, proof in c.consents
        ] + self.acts
        return pa.table(
            {
                **{
                    name: pa.array([row.get(name) for row in rows], pa.string())
                    for name in ("contact_id", "email")
                },
                "channel": pa.array([row.get("channel", "email") for row in rows], pa.string()),
                "purpose": pa.array([row.get("purpose", "marketing") for row in rows], pa.string()),
                "act": pa.array([row["act"] for row in rows], pa.string()),
                "occurred_at": pa.array(
                    [row.get("at") or AS_OF - timedelta(days=row.get("days", 1)) for row in rows],
                    pa.timestamp("us", "UTC"),
                ),
                "source": pa.array(["shop" for _ in rows], pa.string()),
                "evidence": pa.array([row.get("evidence") for row in rows], pa.string()),
            }
        )

    def job(self, stack: ExitStack, clock: Callable[[], datetime] = utc_now) -> Job:
        """Open the destination's job until the stack closes."""
        project = load_project(self.folder)
        store = stack.enter_context(Store.of(project))
        return stack.enter_context(
            Job(project, "newsletter", store, current(project.state_folder), clock=clock)
        )

    def plan(self) -> Plan:
        """Build and plan, as `segue plan` does."""
        self.build()
        with ExitStack() as stack:
            job = self.job(stack)
            with jobs.recorded(job, "plan") as (lease, report):
                return job.plan(lease, report, lambda *_: None)

    def apply(
        self, plan_id: str | None = None, *, override: bool = True, canary: Canary | None = None
    ) -> Report:
        """Apply a stored plan, as `segue apply --override-guardrails` does."""
        with ExitStack() as stack:
            return jobs.apply(self.job(stack), plan_id, lambda *_: None, override=override, canary=canary)

    def run(
        self, *, rebuild: bool = True, override: bool = True, clock: Callable[[], datetime] = utc_now
    ) -> Report:
        """Build and run, as a schedule does."""
        if rebuild:
            self.build()
        with ExitStack() as stack:
            return jobs.run(self.job(stack, clock), lambda *_: None, override=override)

    def run_much_later(self, *, rebuild: bool = True) -> Report:
        """Run when nobody waits any longer for whom an ESP may have accepted to make."""
        return self.run(rebuild=rebuild, clock=lambda: utc_now() + timedelta(hours=7))

    def people(self) -> Mapping[str, Person]:
        """Everybody at the ESP who is not archived, by address, behind Segue's back."""
        return {each.address: each for each in self.sandbox.emulator.people() if not each.archived}

    def members(self) -> Mapping[str, Any]:
        """The members of the local Mailchimp by address, behind Segue's back."""
        found = self.audience()["members"]
        return {member["email_address"]: member for member in found}

    def audience(self) -> Mapping[str, Any]:
        """The audience as the emulator has it, with every raise of consent that it saw."""
        state = self.sandbox.emulator.state(count=100_000, offset=0, address=None)
        audience: Mapping[str, Any] = state["audiences"][self.sandbox.audience]
        return audience
