"""A file of contacts as a destination: the smallest connector that keeps the whole contract, and the one to copy.

For platforms that take contacts by file, and for whoever writes a connector: `segue connectors new` begins from here.
One row a contact: address, state, tags, then a column for each field. Whoever edits the file is the ESP; a state that is
changed to unsubscribed is an opt-out that the next pull finds. It is written whole at each batch, and replaced at once,
so that it fits thousands of contacts and not millions.
"""

import csv
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Final, Self

from ..core.consent import LEFT, ConsentState
from ..core.errors import ConfigError, DestinationError
from ..core.model import (
    Account,
    Capabilities,
    Change,
    DestinationSchema,
    FieldType,
    Operation,
    Outcome,
    OutcomeStatus,
    RemoteContact,
)
from .base import Connector, Erased, Page, guard
from .limiter import Limiter
from .transport import Transport
from .verdicts import Dialect

_OWN: Final = ("address", "state", "tags")
_BATCH: Final = 1_000
_APPLIED: Final = Outcome(status=OutcomeStatus.APPLIED)
_UNCHANGED: Final = Outcome(status=OutcomeStatus.UNCHANGED)
_VANISHED: Final = Outcome(
    status=OutcomeStatus.REJECTED, code="vanished", reason="This contact is no longer in the file."
)
_TAKEN: Final = Outcome(
    status=OutcomeStatus.REJECTED, code="address_taken", reason="Another row of the file has the address."
)

Row = dict[str, str]


class CsvFile(Connector):
    """One CSV file with a head, in UTF-8."""

    name = "csvfile"
    label = "CSV file"
    capabilities: Capabilities = Capabilities(
        field_types=frozenset({FieldType.TEXT, FieldType.NUMBER, FieldType.DATE}),
        field_tag_length=60,
        field_tag_pattern=r"[a-z][a-z0-9_]*",
        field_slots={"file": 200},
        reserved_tags=frozenset(_OWN),
        text_bytes=10_000,
        tag_length=100,
        batch_sizes=dict.fromkeys(Operation, _BATCH),
        concurrency=1,
        field_syntax="{{{{ {tag} }}}}",
    )
    remedies: ClassVar[Mapping[str, str]] = {
        "left": "Nothing: only the person can come back.",
        "vanished": "Nothing, if the row was deleted on purpose.",
        "address_taken": "Delete one of the two rows, then `segue retry`.",
    }
    erasing = "The row is removed from the file; copies of the file are yours to remove."

    def __init__(self, path: Path) -> None:
        self._path = path
        # Nothing goes out: a file has no limits. The engine counts requests there, and finds none.
        self._transport = Transport(
            "http://127.0.0.1", dialect=Dialect(label=self.label), auth=("", ""), limiter=Limiter(1)
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Self:
        """Read `path`, the file."""
        if unknown := sorted(settings.keys() - {"path"}):
            raise ConfigError(f"settings: a CSV file has no {', '.join(unknown)}. It has: path.")
        if not settings.get("path"):
            raise ConfigError("settings.path: it is missing. Name the file, such as exports/contacts.csv.")
        return cls(Path(settings["path"]))

    @property
    def transport(self) -> Transport:
        """The way out, which nothing takes."""
        return self._transport

    def check(self) -> Account:
        """Say what the file holds; one that is not there yet is empty."""
        head, rows = self._read()
        return Account(
            label=str(self._path),
            audience=self._path.name,
            audience_id=str(self._path),
            contacts=len(rows),
            fields={_tag_of(column): _type_of(column) for column in head if column not in _OWN},
            tags=frozenset(tag for row in rows.values() for tag in _tags(row)),
        )

    def ensure(self, schema: DestinationSchema) -> None:
        """Add the missing columns. A number and a date carry their type in the head, as in `sg_spent:number`."""
        head, rows = self._read()
        missing = [
            _column(spec.tag, spec.type) for spec in schema.fields if spec.tag not in map(_tag_of, head)
        ]
        self._write([*head, *missing], rows)

    def write(self, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        """Change rows, all in one go."""
        guard(operation, changes, self.capabilities)
        if not changes:
            return []
        head, rows = self._read()
        outcomes = [self._changed(rows, change) for change in changes]
        self._write(head, rows)
        return outcomes

    def pull(self, cursor: str | None, *, only: Collection[str] | None = None) -> Iterator[Page]:
        """Give everyone, unless the file is as it was: a row does not tell when it changed."""
        digest = sha256(self._path.read_bytes() if self._path.exists() else b"").hexdigest()
        _, rows = self._read()
        found = [] if digest == cursor else [_contact(row, only) for row in rows.values()]
        yield Page(contacts=found, cursor=digest)

    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Give rows by address."""
        _, rows = self._read()
        found = [rows.get(address.lower()) for address in addresses]
        return [None if row is None else _contact(row, None) for row in found]

    def erase(self, address: str) -> Erased:
        """Remove a row."""
        head, rows = self._read()
        gone = rows.pop(address.lower(), None)
        self._write(head, rows)
        return Erased(was_there=gone is not None, answer="removed" if gone else "", is_gone=True)

    def _changed(  # noqa: PLR0911  # one answer per line reads better than a ladder
        self, rows: dict[str, Row], change: Change
    ) -> Outcome:
        key = change.address.lower()
        row = rows.get((change.previous_address or change.address).lower()) or rows.get(key)
        if row is None:
            return self._made(rows, change)
        contact = _contact(row, None)
        if change.operation is Operation.OPT_OUT:
            if contact.state in LEFT:
                return _UNCHANGED
            row["state"] = ConsentState.UNSUBSCRIBED.value
            return _APPLIED
        if change.operation is Operation.UNTAG:
            kept = [tag for tag in _tags(row) if tag not in change.tags]
            row["tags"] = ";".join(kept)
            return _APPLIED
        if contact.state in LEFT:
            reason = "This contact has unsubscribed."
            return Outcome(status=OutcomeStatus.REJECTED, code="left", reason=reason, seen=contact)
        if change.operation is Operation.CREATE:
            return Outcome(status=OutcomeStatus.EXISTS, seen=contact)
        if row["address"].lower() != key:
            if key in rows:
                return _TAKEN
            del rows[row["address"].lower()]
            row["address"] = change.address
            rows[key] = row
        _fill(row, change)
        return _APPLIED

    def _made(self, rows: dict[str, Row], change: Change) -> Outcome:
        if change.operation in {Operation.OPT_OUT, Operation.UNTAG}:
            return _UNCHANGED
        if change.operation is not Operation.CREATE or change.consent is None:
            return _VANISHED
        rows[change.address.lower()] = row = {
            "address": change.address,
            "state": change.consent.value,
            "tags": "",
        }
        _fill(row, change)
        return _APPLIED

    def _read(self) -> tuple[list[str], dict[str, Row]]:
        if not self._path.exists():
            return list(_OWN), {}
        try:
            with self._path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                head = list(reader.fieldnames or _OWN)
                rows = {
                    row["address"].lower(): {_tag_of(k): v or "" for k, v in row.items()} for row in reader
                }
        except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError) as error:
            raise DestinationError(f"{self._path} cannot be read as a file of contacts: {error}.") from None
        return head, rows

    def _write(self, head: Sequence[str], rows: Mapping[str, Row]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=self._path.parent, delete=False
        ) as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows([row.get(_tag_of(column), "") for column in head] for row in rows.values())
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self._path)


def _fill(row: Row, change: Change) -> None:
    row.update({tag: text or "" for tag, text in change.fields.items()})
    row["tags"] = ";".join(dict.fromkeys([*_tags(row), *change.tags]))


def _contact(row: Row, only: Collection[str] | None) -> RemoteContact:
    try:
        state = ConsentState(row["state"])
    except ValueError:
        state = ConsentState.UNSUBSCRIBED  # whatever somebody wrote there, it is no yes
    fields = {tag: text for tag, text in row.items() if text and tag not in _OWN}
    return RemoteContact(
        address=row["address"],
        state=state,
        status=row["state"],
        fields=fields if only is None else {tag: fields[tag] for tag in only if tag in fields},
        tags=frozenset(_tags(row)),
    )


def _tags(row: Row) -> list[str]:
    return [tag for tag in row.get("tags", "").split(";") if tag]


def _column(tag: str, kind: FieldType) -> str:
    return tag if kind is FieldType.TEXT else f"{tag}:{kind.value}"


def _tag_of(column: str) -> str:
    return column.partition(":")[0]


def _type_of(column: str) -> FieldType | None:
    kind = column.partition(":")[2] or FieldType.TEXT.value
    return FieldType(kind) if kind in {each.value for each in FieldType} else None
