"""What commands print: tables and progress for people, JSON for machines, errors as one paragraph.

Lives here: form alone. Must not: decide what is said. Results go to stdout; progress and errors go to stderr, so
that a pipe gets results and nothing else.
"""

import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from ...core.errors import SegueError
from ..plain import plain

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, float], None]


def _float_in_words(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _instant_in_words(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M") + (" UTC" if value.utcoffset() == timedelta() else "")


_WORDS: tuple[tuple[type | types.UnionType, Callable[[Any], str]], ...] = (
    (type(None), lambda _: ""),
    (bool, lambda value: "yes" if value else "no"),
    (Enum, lambda value: str(value.value)),
    (int, lambda value: f"{value:,}"),
    (float, _float_in_words),
    (Decimal, lambda value: f"{value:,.2f}"),
    (datetime, _instant_in_words),
    (list | tuple, lambda value: ", ".join(words(below) for below in value)),
)


def words(value: Any) -> str:
    """Write one value for a person: whole numbers in thousands, nothing for nothing, yes and no.

    >>> words(1234567), words(True), words(None), words(["a", "b"])
    ('1,234,567', 'yes', '', 'a, b')
    """
    return next((write(value) for kind, write in _WORDS if isinstance(value, kind)), str(value))


class Output:
    """Where one command prints to. With `as_json` only `json` prints anything."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console: Console | None = None

    @property
    def console(self) -> "Console":
        """The terminal, or a pipe, where lines are not cut to a width."""
        if self._console is None:
            from rich.console import Console

            width = None if sys.stdout.isatty() else 200
            self._console = Console(highlight=False, width=width, soft_wrap=not sys.stdout.isatty())
        return self._console

    def json(self, value: Any) -> None:
        """Print the machine's answer, once per command."""
        if self.as_json:
            json.dump(plain(value), sys.stdout, ensure_ascii=False, indent=2)
            sys.stdout.write("\n")

    def json_rows(self, rows: Iterator[Mapping[str, Any]]) -> None:
        """Print rows as one JSON array without holding them."""
        if not self.as_json:
            return
        lead = "["
        for row in rows:
            sys.stdout.write(f"{lead}\n  {json.dumps(plain(row), ensure_ascii=False)}")
            lead = ","
        sys.stdout.write("[]\n" if lead == "[" else "\n]\n")

    def say(self, text: str = "", *, style: str = "") -> None:
        """Print a paragraph. Square brackets in it are text, not markup."""
        if not self.as_json:
            self.console.print(text, style=style or None, markup=False)

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = ""
    ) -> None:
        """Print a table. Columns of numbers stand to the right."""
        if self.as_json:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, caption=caption or None, box=box.SIMPLE, title_justify="left")
        for index, column in enumerate(columns):
            numeric = all(
                isinstance(row[index], int | float | Decimal | None) and not isinstance(row[index], bool)
                for row in rows
            )
            table.add_column(column, justify="right" if numeric and rows else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(words(value)) for value in row))
        self.console.print(table)

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """Give a function (stage, share done from 0 to 1): a bar on a terminal, else one line per stage."""
        if not sys.stderr.isatty():
            yield self._lines(what)
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(what, total=1.0)
            yield lambda stage, share: bars.update(task, description=f"{what}: {stage}", completed=share)

    def _lines(self, what: str) -> Progress:
        said: list[str] = []

        def report(stage: str, share: float) -> None:
            if not self.as_json and stage not in said[-1:]:
                said.append(stage)
                sys.stderr.write(f"{what}: {stage} ({share:.0%})\n")

        return report


def show_error(error: SegueError, code: int, *, as_json: bool) -> None:
    """Print one error with all its problems: to stderr for people, to stdout for machines."""
    if as_json:
        told = {
            "kind": type(error).__name__,
            "message": error.message,
            "exit_code": code,
            "problems": [plain(problem) for problem in error.problems],
        }
        sys.stdout.write(json.dumps({"error": told}, ensure_ascii=False, indent=2) + "\n")
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        lead = Text("Error: ", style="bold red").append(error.message, style="default")
        Console(stderr=True, highlight=False).print(lead)
    else:
        sys.stderr.write(f"Error: {error.message}\n")
