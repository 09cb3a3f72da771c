"""A project folder made in the test: files, a segue.yml, and the ingest of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from segue.core.config import Project, load_project
from segue.core.data.engine import connect
from segue.core.data.ingest import Ingested, ingest

AS_OF = "2026-03-01T12:00:00Z"


class Folder:
    """The folder of a project."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Backend] = []

    def connect(self) -> Backend:
        self.connections.append(connect())
        return self.connections[-1]

    def write(self, name: str, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        (self.path / name).write_bytes(data)
        return name

    def project(self, sources: dict[str, Any], **sections: Any) -> Project:
        """YAML is a superset of JSON. Every bad row may be rejected unless a test says otherwise."""
        document = {
            "project": "test",
            "as_of": AS_OF,
            "quality": {"max_rejected_share": 1},
            **sections,
            "sources": {
                table: [source] if isinstance(source, dict) else source for table, source in sources.items()
            },
        }
        self.write("segue.yml", json.dumps(document, indent=1))
        return load_project(self.path)

    def ingest(self, sources: dict[str, Any], **sections: Any) -> Ingested:
        return ingest(self.project(sources, **sections), self.connect())

    def ingest_csv(self, tables: dict[str, str], **sections: Any) -> Ingested:
        """Ingest tables given as CSV texts; customers are one, called c1, when not given."""
        texts = {"customers": "contact_id\nc1\n", **tables}
        sources = {name: {"path": self.write(f"{name}.csv", text)} for name, text in texts.items()}
        return self.ingest(sources, **sections)


@pytest.fixture
def con() -> Iterator[Backend]:
    connection = connect()
    yield connection
    connection.disconnect()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    yield made
    for connection in made.connections:
        connection.disconnect()


def rows(table: ir.Table, column: str, *more: str) -> list[Any]:
    """Give the values of one column, or tuples of several, in order."""
    columns = [column, *more]
    chosen = table.select(columns).order_by(columns).to_pyarrow().to_pylist()
    return [tuple(row.values()) if more else row[column] for row in chosen]


def found(ingested: Ingested) -> list[tuple[str, int, str | None, str]]:
    """Give (rule, row number, column, effect) of the quarantine."""
    return rows(ingested.quarantine, "rule", "row_number", "column_name", "effect")
