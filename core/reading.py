"""The settings of where a shop's data is read from, and of how much of it may be bad.

Their shape alone lives here; `core.data` does the reading.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from .settings import DatabaseUrl, Duration, Encoding, OneCharacter, Share, Text, TimeZone
from .yamlfile import Section, mistake

TableName = Literal["customers", "products", "orders", "order_items", "events", "consents"]
FileFormat = Literal["csv", "parquet", "jsonl"]
RuleAction = Literal["refuse", "warn", "off"]

_SUFFIXES: Mapping[str, FileFormat] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl",
}


def format_of(path: str) -> FileFormat | None:
    """Give the format that a file's name says, None when it says none.

    >>> format_of("data/orders.csv.gz"), format_of("notes.txt")
    ('csv', None)
    """
    return next((form for suffix, form in _SUFFIXES.items() if path.lower().endswith(suffix)), None)


class Source(Section):
    """One place that rows of a canonical table come from: exactly one of path, url, stdin and python."""

    path: Text | None = None
    """A file, relative to the folder of segue.yml."""
    url: DatabaseUrl | None = None
    """A database: env:NAME, sqlite:///path or postgresql://... without a password."""
    query: Text | None = None
    """The SELECT that is sent to the database."""
    stdin: Literal["csv", "jsonl"] | None = None
    """The format of what is piped into `segue build`."""
    python: Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_]\w*$")] | None = None
    """file.py:function; the function takes nothing and gives an Arrow table or record batches."""
    format: FileFormat | None = None
    """Of the file, when its name does not say so."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Ours: theirs. Columns of the same name need no line."""
    delimiter: OneCharacter | None = None
    """Of a CSV file; found out when not given."""
    encoding: Encoding | None = None
    """Of a CSV file; UTF-8 when not given."""
    decimal: Literal[".", ","] = "."
    """What stands before the cents: "," for numbers like 1.234,50."""
    timezone: TimeZone | None = None
    """Of times without a zone; the project's when not given."""
    max_age: Duration | None = None
    """How old the newest row may be before a sync stops."""

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        given = [name for name in ("path", "url", "stdin", "python") if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"has {' and '.join(given)}" if given else "says from nowhere where to read"
            raise mistake(f"{what}.", next_step="Give exactly one of path, url, stdin and python.")
        if (self.query is None) is (self.url is not None):
            raise mistake("url and query belong together.", next_step="Give both or neither.")
        if self.path is not None and self.format is None and format_of(self.path) is None:
            raise mistake(
                f'"{self.path}" does not say its format by its name.',
                "path",
                next_step="Add `format: csv`, `parquet` or `jsonl`.",
            )
        if self.format is not None and self.path is None:
            raise mistake("only a file has a format.", "format", next_step="Remove it.")
        if self.file_format != "csv":
            for name in ("delimiter", "encoding"):
                if getattr(self, name) is not None:
                    raise mistake("is for CSV alone.", name, next_step="Remove it.")
        return self

    @property
    def file_format(self) -> FileFormat | None:
        """The format of the file or of stdin; None for a database or a function."""
        return self.format or self.stdin or (None if self.path is None else format_of(self.path))

    @property
    def label(self) -> str:
        """What messages call this source: the path, `stdin`, the function, or `database` without its address."""
        return self.path or self.python or ("stdin" if self.stdin else "database")


class Quality(Section):
    """How much bad data a build accepts."""

    max_rejected_share: Share = 0.02
    """Of a table's rows; above it the build fails and the old snapshot stays."""
    rules: dict[str, RuleAction] = Field(default_factory=dict)
    """What a named rule does with a row that breaks it."""


class Identity(Section):
    """When two customers are one contact."""

    merge_on: tuple[Literal["email"], ...] = ("email",)
    """Customers with the same address are one contact; an empty list merges nobody."""
    keep: Literal["newest", "oldest"] = "newest"
    """Whose key and values survive."""
