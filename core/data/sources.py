"""A source of segue.yml, opened: its rows as a raw table, and which of its columns is which of ours.

Lives here: where rows come from and how columns are matched by name. Must not: look at a value.

A column is found by the name that `columns:` gives it, else by its own, apart from capitals and separators
(`Contact ID` is contact_id). Whatever customers have beyond the canonical columns becomes a trait; further columns of
other tables are listed and ignored.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from ..config import Project, Source
from ..errors import ConfigError, DataError, Problem, SegueError
from ..settings import resolve_secret
from ..yamlfile import suggest
from . import feeds, files
from .canonical import TABLES
from .files import RawTable

# What `core.data.staging` fills in when a source has no such column.
DEFAULTED: Final[Mapping[str, frozenset[str]]] = {
    "customers": frozenset(),
    "products": frozenset({"is_merchandise"}),
    "orders": frozenset({"kind"}),
    "order_items": frozenset({"line_no"}),
    "events": frozenset({"event_id"}),
    "consents": frozenset({"channel", "purpose", "source"}),
}
_COMPUTED: Final = frozenset({"line_kind"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A source that can be read. `columns` is ours -> theirs, `traits` a trait's name -> theirs.

    `ignored` are the columns of the source that nothing of ours takes.
    """

    table_name: str
    place: int
    label: str
    source: Source
    raw: RawTable
    columns: Mapping[str, str]
    traits: Mapping[str, str]
    ignored: tuple[str, ...]

    def rows(self, con: Backend) -> ir.Table:
        """Give the raw rows: the source's own columns and `files.ROW`."""
        return con.table(self.raw.name)


def open_all(
    project: Project, con: Backend, *, stdin: BinaryIO | None = None, head: int | None = None
) -> tuple[list[Opened], list[Problem]]:
    """Open every source of a project, with what is wrong with those that cannot be opened.

    `head` limits the rows; a source on stdin is left out then, as it can be read only once.
    """
    opened: list[Opened] = []
    problems: list[Problem] = []
    for table_name, sources in project.sources.items():
        for place, source in enumerate(sources):
            if source.stdin is not None and head is not None:
                continue
            where = f"{project.place('sources', table_name, place)}, {source.label}"
            label = source.label
            if sum(other.label == label for other in sources) > 1:
                label = f"{label} ({place + 1})"
            name = f"raw_{table_name}_{place}"
            try:
                raw = _read(project, source, con, name, stdin=stdin, head=head)
            except SegueError as error:
                problems.append(Problem(where=where, message=error.message))
                continue
            columns, traits, wrong = _match(table_name, source, raw.columns)
            problems += [Problem(where=where, message=message, next_step=step) for message, step in wrong]
            used = {*columns.values(), *traits.values()}
            opened.append(
                Opened(
                    table_name=table_name,
                    place=place,
                    label=label,
                    source=source,
                    raw=raw,
                    columns=columns,
                    traits=traits,
                    ignored=tuple(column for column in raw.columns if column not in used),
                )
            )
    return opened, problems


def _read(
    project: Project, source: Source, con: Backend, name: str, *, stdin: BinaryIO | None, head: int | None
) -> RawTable:
    if source.url is not None and source.query is not None:
        url = resolve_secret(source.url, project.folder)
        return feeds.read_database(con, name, url, source.query, project.folder, head=head)
    if source.python is not None:
        return feeds.read_function(con, name, source.python, project.folder, head=head)
    if source.stdin is not None and stdin is None:
        raise DataError("nothing is piped in. Run e.g. `shop-export | segue build`.")
    if source.path is not None:
        given: AbstractContextManager[Path] = nullcontext(project.folder / source.path)
    elif stdin is not None:
        given = files.spooled(stdin, f".{source.stdin}")
    else:
        raise ConfigError("says from nowhere where to read.")
    with given as path:
        return _read_file(source, con, name, path, head)


def _read_file(source: Source, con: Backend, name: str, path: Path, head: int | None) -> RawTable:
    match source.file_format:
        case "parquet":
            return files.read_parquet(con, name, path, head=head)
        case "jsonl":
            return files.read_jsonl(con, name, path, head=head)
        case _:
            return files.read_csv(
                con, name, path, delimiter=source.delimiter, encoding=source.encoding, head=head
            )


def _match(
    table_name: str, source: Source, theirs: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, str], list[tuple[str, str]]]:
    """Give ours -> theirs, trait -> theirs, and (message, next step) for all that does not match."""
    ours = [column.name for column in TABLES[table_name] if column.name not in _COMPUTED]
    by_folded = {folded(name): name for name in reversed(theirs)}
    named = {
        name: their_name if their_name in theirs else by_folded.get(folded(their_name))
        for name, their_name in source.columns.items()
    }
    chosen = {name: found for name, found in named.items() if found is not None}
    for name in ours:
        same = name if name in theirs else by_folded.get(name)
        if name not in named and same is not None and same not in chosen.values():
            chosen[name] = same
    if table_name == "customers":
        for their_name in theirs:
            name = folded(their_name)
            if their_name not in chosen.values() and name not in [*chosen, *ours] and not _is_reserved(name):
                chosen[name] = their_name
    columns = {name: found for name, found in chosen.items() if name in ours}
    traits = {name: found for name, found in chosen.items() if name not in ours and table_name == "customers"}
    wrong = list(_misnamed(table_name, source, ours))
    # A file of no lines has no keys to find: an empty JSONL file is an empty table.
    if theirs:
        wrong += [
            (
                f'columns: there is no column "{source.columns[name]}".',
                suggest(source.columns[name], theirs) or f"It has {_listed(theirs)}.",
            )
            for name, found in named.items()
            if found is None
        ]
        free = [name for name in theirs if name not in columns.values()]
        wrong += _missing(table_name, {*columns, *named}, free)
    return columns, traits, wrong


def _misnamed(table_name: str, source: Source, ours: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in source.columns:
        if _is_reserved(name):
            yield f'columns: "{name}" is kept for Segue itself.', "Choose another name."
        elif table_name == "customers" and name != folded(name):
            yield f'columns: "{name}" is no name for a trait.', f'Write "{folded(name)}".'
        elif table_name != "customers" and name not in ours:
            hint = suggest(name, ours) or f"{table_name} has {', '.join(ours)}."
            yield f'columns: {table_name} has no column "{name}".', hint


def _is_reserved(name: str) -> bool:
    """Whether a name could be one of the columns that the steps of an ingest add for themselves."""
    return name.startswith("segue_")


def _missing(table_name: str, present: Iterable[str], free: list[str]) -> Iterable[tuple[str, str]]:
    present = set(present)
    needed = [
        column.name
        for column in TABLES[table_name]
        if column.required and column.name not in DEFAULTED[table_name] | _COMPUTED | present
    ]
    if table_name == "consents" and not present & {"contact_id", "email"}:
        needed.append("email")
    for name in needed:
        near = suggest(name, free) or f"It has {_listed(free) or 'no further column'}."
        yield (
            f'has no column "{name}", which {table_name} need.',
            f"{near} Say which it is: `columns: {{{name}: THEIRS}}`.",
        )


def folded(name: str) -> str:
    """Give a column's name in the form of ours.

    >>> folded("Loyalty-Tier"), folded("2nd e-mail")
    ('loyalty_tier', 'c_2nd_e_mail')
    """
    text = re.sub(r"\W+", "_", name.strip().lower(), flags=re.ASCII).strip("_") or "column"
    return text if text[0].isalpha() else f"c_{text}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
