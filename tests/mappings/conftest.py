"""A destination's limits, a shop's traits, and a way to load and project a mapping written in a test."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pytest

from segue.core.data.engine import connect
from segue.core.model import Capabilities, FieldType, Trait, TraitType
from segue.mappings.mapping import Mapping as FieldMapping
from segue.mappings.mapping import load_mapping

LIMITS = Capabilities(
    field_types=frozenset(FieldType),
    field_tag_length=10,
    field_tag_pattern=r"[A-Z][A-Z0-9_]*",
    field_slots={"standard": 30, "premium": 80},
    reserved_tags=frozenset({"EMAIL", "UNSUB"}),
    text_bytes=255,
    tag_length=100,
    batch_sizes={},
    concurrency=10,
)
TYPES = {
    "recency_days": TraitType.INTEGER,
    "revenue": TraitType.MONEY,
    "return_rate": TraitType.NUMBER,
    "top_category": TraitType.TEXT,
    "top_categories": TraitType.TEXT_LIST,
    "vip": TraitType.BOOLEAN,
    "birth_date": TraitType.DATE,
    "last_seen_at": TraitType.TIMESTAMP,
    "first_name": TraitType.TEXT,
    "homepage": TraitType.TEXT,
}
ARROW = {
    TraitType.INTEGER: pa.int64(),
    TraitType.MONEY: pa.decimal128(18, 4),
    TraitType.NUMBER: pa.float64(),
    TraitType.TEXT: pa.string(),
    TraitType.TEXT_LIST: pa.list_(pa.string()),
    TraitType.BOOLEAN: pa.bool_(),
    TraitType.DATE: pa.date32(),
    TraitType.TIMESTAMP: pa.timestamp("us", "UTC"),
}
TRAITS = [Trait(name=name, type=type_, description=f"What {name} is") for name, type_ in TYPES.items()]


class Loader:
    """Writes a mapping file and loads it against the shop above."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, text: str, **changes: Any) -> FieldMapping:
        path = self.folder / "mailchimp.yml"
        path.write_text(text, encoding="utf-8")
        known: dict[str, Any] = {
            "traits": TRAITS,
            "segments": ["lapsing", "loyal"],
            "groups": ["lifecycle"],
            "recommendations": {"for_you": 3},
            "capabilities": LIMITS,
            **changes,
        }
        return load_mapping(path, **known)

    def fields(self, *lines: str, **changes: Any) -> FieldMapping:
        """Load a mapping of fields written as YAML flow mappings, label and purpose added."""
        entries = "\n".join(
            f"  - {{{line}, label: Field {index}, purpose: tests}}" for index, line in enumerate(lines)
        )
        return self(f"connector: mailchimp\nfields:\n{entries}\n", **changes)


class Snapshot:
    """The four tables that a mapping reads, on the engine of real builds."""

    def __init__(self) -> None:
        self.con = connect()

    def project(
        self,
        mapping: FieldMapping,
        profiles: list[dict[str, Any]],
        **others: list[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        expression = mapping.project(**self.tables(profiles, **others))
        rows: list[dict[str, Any]] = self.con.to_pyarrow(expression.order_by("contact_id")).to_pylist()
        return rows

    def values(
        self, mapping: FieldMapping, profiles: list[dict[str, Any]], **others: Any
    ) -> list[Mapping[str, str]]:
        return [json.loads(row["fields"]) for row in self.project(mapping, profiles, **others)]

    def tables(
        self,
        profiles: list[dict[str, Any]],
        segments: list[dict[str, Any]] | None = None,
        groups: list[dict[str, Any]] | None = None,
        recommendations: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        text = pa.string()
        products = {
            "contact_id": text,
            "recommendation": text,
            "slot": pa.int64(),
            "product_id": text,
            "name": text,
            "url": text,
            "image_url": text,
            "price": pa.decimal128(18, 4),
            "currency": text,
            "reason": text,
        }
        people = {"contact_id": text, "email": text} | {name: ARROW[type_] for name, type_ in TYPES.items()}
        rows = [{"contact_id": f"{index:06}", **profile} for index, profile in enumerate(profiles)]
        shapes = {
            "profiles": (rows, people),
            "segments": (segments, {"contact_id": text, "segment": text}),
            "groups": (groups, {"contact_id": text, "group_name": text, "segment": text}),
            "recommendations": (recommendations, products),
        }
        return {
            name: self.register(
                name, pa.Table.from_pylist(content or [], schema=pa.schema(list(shape.items())))
            )
            for name, (content, shape) in shapes.items()
        }

    def register(self, name: str, table: pa.Table) -> ir.Table:
        self.con.con.register(name, table)
        return self.con.table(name)


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture(scope="session")
def snapshot() -> Iterator[Snapshot]:
    opened = Snapshot()
    yield opened
    opened.con.disconnect()
