"""A planner of people made up in the test: on data alone, without a store and without an ESP."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segue.core.config import ConsentConfig, Guardrails
from segue.core.consent import ConsentRecord
from segue.core.model import (
    Account,
    Capabilities,
    ContactState,
    DestinationSchema,
    FieldType,
    Operation,
)
from segue.sync.gate import INSTANTS
from segue.sync.planning.diff import Known
from segue.sync.planning.plan import Plan, build_plan
from segue.sync.store.keys import ContactKeys

KEYS = ContactKeys(b"k" * 32)
NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
GRANTED = ConsentRecord(granted_at=NOW - timedelta(days=30))
LEFT = ConsentRecord(granted_at=NOW - timedelta(days=30), withdrawn_at=NOW - timedelta(days=1))
CAPABILITIES = Capabilities(
    field_types=frozenset(FieldType),
    field_tag_length=10,
    field_tag_pattern="[A-Z0-9_]+",
    field_slots={"standard": 30},
    text_bytes=255,
    tag_length=100,
    batch_sizes={
        Operation.CREATE: 500,
        Operation.UPDATE: 500,
        Operation.UNTAG: 500,
        Operation.OPT_OUT: 1,
        Operation.READDRESS: 1,
    },
    concurrency=10,
)
ACCOUNT = Account(label="shop", audience="a", contacts=0)


@dataclasses.dataclass
class Person:
    """One contact as desired, as confirmed, as the ESP shows it and as the ledger knows it."""

    name: str
    address: str | None = ""
    country: str | None = None
    fields: dict[str, str] = dataclasses.field(default_factory=lambda: {"SG_RFM": "555"})
    tags: tuple[str, ...] = ("segue: VIP",)
    baseline: ContactState | None = None
    remote: str | None = None
    remote_address: str | None = None
    consent: ConsentRecord = GRANTED
    address_consent: ConsentRecord | None = None
    gone: bool = False
    refused: str = ""  # the operation that was

    def __post_init__(self) -> None:
        if self.address == "":
            self.address = f"{self.name}@shop.example"

    @property
    def key(self) -> int:
        return KEYS.contact_key(self.name)

    def desired(self) -> ContactState:
        assert self.address
        return ContactState(address=self.address, fields=self.fields, tags=frozenset(self.tags))


def settled(name: str, **more: Any) -> Person:
    """A contact that the destination has just as desired."""
    person = Person(name, remote="subscribed")
    return dataclasses.replace(person, baseline=person.desired(), **more)


def moving(name: str, old: str, new: str, remote: str | None = "subscribed", **more: Any) -> Person:
    """A contact that was confirmed at one address and has another one now."""
    before = ContactState(address=old, fields={"SG_RFM": "555"}, tags=frozenset({"segue: VIP"}))
    return Person(name, address=new, baseline=before, remote=remote, remote_address=old, **more)


def _batch(
    rows: Sequence[tuple[object, ...]], names: str, types: Sequence[pa.DataType]
) -> list[pa.RecordBatch]:
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    return [
        pa.record_batch(
            [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)], names=names.split()
        )
    ]


def known(
    people: Sequence[Person],
    asked: list[int] | None = None,
    regimes: ConsentConfig | None = None,
    customers: Path | None = None,
) -> Known:
    def payloads(keys: Iterable[int]) -> Iterable[pa.RecordBatch]:
        wanted = list(keys)
        if asked is not None:
            asked.extend(wanted)
        rows = [(p.key, p.baseline.canonical()) for p in people if p.baseline and p.key in set(wanted)]
        yield from _batch(rows, "contact_key payload", [pa.int64(), pa.string()])

    consents = [(p.key, *dataclasses.astuple(p.consent)) for p in people] + [
        (KEYS.address_key(p.address or ""), *dataclasses.astuple(p.address_consent))
        for p in people
        if p.address_consent
    ]
    names = "subject_key " + " ".join(slot.name for slot in dataclasses.fields(ConsentRecord))
    return Known(
        baseline=_batch(
            [(p.key, p.baseline.digest()) for p in people if p.baseline],
            "contact_key row_hash",
            [pa.int64(), pa.binary()],
        ),
        remote=_batch(
            list(
                {
                    KEYS.address_key(p.remote_address or p.address or ""): p.remote
                    for p in people
                    if p.remote
                }.items()
            ),
            "address_key state",
            [pa.int64(), pa.string()],
        ),
        consents=_batch(consents, names, [pa.int64(), *[pa.timestamp("us", "UTC")] * len(INSTANTS)]),
        rejections=_batch(
            [(p.key, p.refused, p.desired().digest()) for p in people if p.refused],
            "contact_key operation payload_hash",
            [pa.int64(), pa.string(), pa.binary()],
        ),
        payloads=payloads,
        regimes=regimes or ConsentConfig(),
        customers=customers,
    )


class Planner:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        *people: Person,
        account: Account = ACCOUNT,
        guardrails: Guardrails | None = None,
        capabilities: Capabilities = CAPABILITIES,
        schema: DestinationSchema | None = None,
        asked: list[int] | None = None,
        regimes: ConsentConfig | None = None,
    ) -> Plan:
        rows = [p for p in people if not p.gone]
        texts = [
            json.dumps(dict(sorted(p.fields.items())), ensure_ascii=False, separators=(",", ":"))
            for p in rows
        ]
        desired = self.folder / "desired.parquet"
        pq.write_table(
            pa.table(
                {
                    "contact_id": pa.array([p.name for p in rows], pa.string()),
                    "address": pa.array([p.address for p in rows], pa.string()),
                    "fields": pa.array(texts, pa.string()),
                    "tags": pa.array([sorted(p.tags) for p in rows], pa.list_(pa.string())),
                }
            ),
            desired,
        )
        customers = self.folder / "customers.parquet"
        pq.write_table(
            pa.table(
                {
                    "contact_id": pa.array([p.name for p in rows], pa.string()),
                    "country": pa.array([p.country for p in rows], pa.string()),
                }
            ),
            customers,
        )
        return build_plan(
            destination="newsletter",
            snapshot_id="s1",
            desired=desired,
            schema=schema or DestinationSchema(),
            known=known(people, asked, regimes, customers),
            account=account,
            capabilities=capabilities,
            guardrails=guardrails or Guardrails(),
            keys=KEYS,
            folder=self.folder / "plans",
            now=NOW,
        )


def steps(plan: Plan) -> list[tuple[str, str | None, str]]:
    rows = pq.read_table(plan.steps).to_pylist()
    return [(row["operation"], row["contact_id"], row["group_key"]) for row in rows]


def reasons(plan: Plan) -> dict[str, str]:
    return {row["contact_id"]: row["reason"] for row in pq.read_table(plan.withheld_contacts).to_pylist()}
