"""A first project, written from a folder of exports: working, commented, and open about what it guessed.

Lives here: the text of that project. Must not: look at data (`core.exports`) or know a destination beyond the mapping
that is handed in.

Everything is decided before the first file is written, and the files are written as new ones only: a project that is
there already is never touched.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final

from .config import PROJECT_FILE
from .data.canonical import TABLES
from .data.engine import connect
from .errors import ConfigError, DataError, StoreError
from .exports import DataFile, Exports, look
from .features.compute import FEATURES
from .headers import folded
from .reading import TableName
from .scores.rfm import RFM

_STALE: Final = timedelta(days=30)
_MAPPING: Final = "mappings/mailchimp.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What was written, what each file was taken for, and what a person should look at."""

    written: tuple[Path, ...]
    files: tuple[DataFile, ...]
    guesses: tuple[str, ...]
    open_questions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """A segment that most shops use, and the tables without which it would be empty."""

    name: str
    description: str
    where: str
    needs: tuple[TableName, ...] = ("orders", "order_items")


# The eleven RFM cells in the order of a customer's life; together they hold everyone who ever ordered.
_STAGES: Final = (
    ("champions", "Bought lately, often and for much"),
    ("loyal", "Buy often and well"),
    ("potential_loyalist", "Lately here, and more than once"),
    ("new_customers", "Bought for the first time lately"),
    ("promising", "Lately here, little bought so far"),
    ("need_attention", "Middling in everything: about to choose"),
    ("about_to_sleep", "Less and less"),
    ("at_risk", "Were good customers, not seen for long"),
    ("cannot_lose_them", "Were among the best, and are leaving"),
    ("hibernating", "Long ago, little and seldom"),
    ("lost", "The longest gone"),
)

_SEGMENTS: Final = (
    *(
        _Segment(name=name, description=description, where=f"rfm_cell = '{name}'")
        for name, description in _STAGES
    ),
    _Segment(
        name="second_order_due",
        description="Ordered once, one to three months ago: the moment for a second order",
        where="orders_count = 1 and recency_days between 30 and 90",
    ),
    _Segment(
        name="lapsing_regulars",
        description="Ordered at least three times, and not for three months",
        where="orders_count >= 3 and recency_days > 90",
    ),
    _Segment(
        name="many_returns",
        description="Sent back a third or more of ten pieces or more",
        where="items_count >= 10 and return_rate >= 0.33",
    ),
    _Segment(
        name="never_ordered",
        description="Known to the shop, and no order so far",
        where="orders_count = 0",
    ),
    _Segment(
        name="looking_not_buying",
        description="Viewed more than three products in a week and ordered nothing",
        where="times('product_viewed', '7 days') > 3 and times('order_placed', '7 days') = 0",
        needs=("orders", "order_items", "events"),
    ),
    _Segment(
        name="cart_left_behind",
        description="Put something in the cart this week and did not order within a day",
        where="unanswered('cart_added', 'order_placed', '24 hours', '7 days') >= 1",
        needs=("orders", "order_items", "events"),
    ),
)
_HEAD: Final = """\
# A Segue project, made by `segue init`. Everything in it is yours to change; `segue check` finds mistakes.
# Completion in editors: `segue schema > segue.schema.json`, and in the first line
# yaml-language-server: $schema=segue.schema.json
"""
_DESTINATION: Final = f"""\
# Where it goes. Nothing is sent before `segue apply` or `segue run`; `segue plan` shows what would be.
# To try it without an account: `segue sandbox mailchimp --port 8025` says which key and audience to set.
destinations:
  newsletter:
    connector: mailchimp
    mapping: {_MAPPING}
    settings:
      api_key: env:MAILCHIMP_API_KEY      # secrets come from the environment or a file, never from here
      audience: env:MAILCHIMP_AUDIENCE    # the audience's id
      # base_url: http://127.0.0.1:8025/3.0
    guardrails:
      max_change_share: 0.5       # of the contacts known there; above it a person must say yes
"""
_IGNORED: Final = """\
# Snapshots, the store and the key of its hashes: state, not config.
.segue/
"""


def init(folder: Path, data_folder: Path, *, now: datetime, mapping: str) -> Started:
    """Write a project for the files of `data_folder`. `mapping` is the text of the starter mapping.

    Raises ConfigError when a project is there already, DataError when the data cannot make one.
    """
    folder = folder.absolute()
    taken = [name for name in (PROJECT_FILE, _MAPPING) if (folder / name).exists()]
    if taken:
        raise ConfigError(
            f"{folder}: {' and '.join(taken)} {'is' if len(taken) == 1 else 'are'} there already. Nothing was changed; name a new folder."
        )
    backend = connect()
    try:
        exports = look(backend, data_folder.absolute())
    finally:
        backend.disconnect()
    if not exports.of("customers"):
        raise DataError(
            "\n".join(
                ["no file with customers was found; one with a customer's key is needed."]
                + [f"{file.path.name}: {file.table or file.why}." for file in exports.files]
            )
        )
    project = _Project(exports=exports, folder=folder, now=now)
    texts = {PROJECT_FILE: project.text(), _MAPPING: _fitted(mapping, project)}
    if not (folder / ".gitignore").exists():
        texts[".gitignore"] = _IGNORED
    return Started(
        written=_write(folder, texts),
        files=exports.files,
        guesses=tuple(project.guesses()),
        open_questions=tuple(project.open_questions()),
    )


def _write(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    """Write new files, all or none."""
    written: list[Path] = []
    try:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        why = (error.strerror or "cannot be written").lower()
        raise StoreError(
            f"{folder}: {why}. Nothing was left behind; choose another folder or free some space."
        ) from None
    return tuple(written)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Project:
    """What is decided, before it becomes text."""

    exports: Exports
    folder: Path
    now: datetime

    def segments(self) -> list[_Segment]:
        return [segment for segment in _SEGMENTS if all(self.exports.of(table) for table in segment.needs)]

    def groups(self) -> tuple[str, ...]:
        return ("lifecycle",) if self._has("orders", "order_items") else ()

    def recommendations(self) -> tuple[str, ...]:
        named = any("name" in file.columns for file in self.exports.of("products"))
        return ("for_you",) if named and self._has("orders", "order_items") else ()

    def as_of(self) -> datetime | None:
        """Give the midnight after the newest order when the data is a past sample."""
        newest = self.exports.newest_order
        if newest is None or self.now - newest < _STALE:
            return None
        return datetime.combine(newest.astimezone(UTC).date() + timedelta(days=1), time(), UTC)

    def guesses(self) -> Iterator[str]:
        found = self.exports
        if found.country is not None:
            yield f"country {found.country}, the most frequent one"
        if found.timezone is not None:
            yield f"time zone {found.timezone}, the country's"
        if found.currency is not None:
            yield f"currency {found.currency}"
        if (moment := self.as_of()) is not None:
            yield f"a past sample: everything is computed for {moment:%Y-%m-%d}, the day after the newest order"
        for file in found.files:
            if file.decimal == ",":
                yield f"{file.path.name} writes numbers with a decimal comma"
            if file.encoding is not None:
                yield f"{file.path.name} is in {file.encoding}"

    def open_questions(self) -> Iterator[str]:
        found = self.exports
        if not any("email" in file.columns for file in found.of("customers")):
            yield "no column with e-mail addresses among the customers: segments can be built, nobody can be synced"
        if not found.of("consents"):
            yield "no file with consents: nobody is created as subscribed without a recorded grant"
        if found.of("order_items") and not found.of("orders"):
            yield "order lines without orders: they count for nothing until the orders are there"
        if found.currency is None:
            yield "no currency: set `currency` in segue.yml"
        if found.timezone is None:
            yield "no time zone: UTC is used until `timezone` is set in segue.yml"
        for file in found.files:
            if file.table is None:
                yield f"{file.path.name}: {file.why}"
            for doubt in file.doubts:
                yield f"{file.path.name}: {doubt}"

    def text(self) -> str:
        parts = [
            _HEAD,
            *self._shop(),
            *self._sources(),
            *self._traits(),
            *self._segments(),
            *self._recommendations(),
        ]
        return "\n".join([*parts, _DESTINATION])

    def _has(self, *tables: TableName) -> bool:
        return all(self.exports.of(table) for table in tables)

    def _shop(self) -> Iterator[str]:
        found = self.exports
        yield f"project: {_quoted(re.sub(r'[^A-Za-z0-9_-]+', '_', self.folder.name).strip('_-') or 'shop')}"
        if (moment := self.as_of()) is not None:
            yield f"as_of: {moment:%Y-%m-%dT%H:%M:%SZ}    # the newest order is from the day before; remove for live data"
        yield f"timezone: {found.timezone or 'UTC'}    # of times in the data that have no zone"
        yield (
            f"currency: {found.currency}"
            if found.currency
            else "# currency: EUR    # of prices without a currency"
        )
        yield (
            f"country: {found.country}    # of customers without a country"
            if found.country
            else "# country: DE"
        )
        yield ""

    def _sources(self) -> Iterator[str]:
        yield "# The shop's data, by canonical table. `columns` says ours: theirs; columns of the same name need no line."
        yield "sources:"
        for table in TABLES:
            files = self.exports.of(table)  # type: ignore[arg-type]  # TABLES has the names of TableName, tested
            if files:
                yield f"  {table}:"
            for file in files:
                yield from self._source(file)
        for file in self.exports.files:
            if file.table is None:
                yield f"  # not used: {file.path.name}: {file.why}"
        yield ""

    def _source(self, file: DataFile) -> Iterator[str]:
        yield f"    - path: {_quoted(Path(os.path.relpath(file.path, self.folder)).as_posix())}"
        if file.delimiter not in {None, ","}:
            yield f"      delimiter: {json.dumps(file.delimiter)}"
        if file.encoding is not None:
            yield f"      encoding: {file.encoding}"
        if file.decimal == ",":
            yield '      decimal: ","'
        extra = _trait_names(file.extra) if file.table == "customers" else {}
        renamed = {ours: theirs for ours, theirs in {**file.columns, **extra}.items() if ours != theirs}
        if renamed:
            yield "      columns:"
        for ours, theirs in renamed.items():
            yield f"        {ours}: {_quoted(theirs)}"
        if file.extra and file.table != "customers":
            yield f"      # not used: {', '.join(_quoted(name) for name in file.extra)}"
        for doubt in file.doubts:
            yield f"      # look at this: {doubt}"

    def _traits(self) -> Iterator[str]:
        extra = {
            ours: (theirs, file.path.name)
            for file in self.exports.of("customers")
            for ours, theirs in _trait_names(file.extra).items()
        }
        if not extra:
            return
        yield "# Further columns of customers are traits, too. What marketers read of them:"
        yield "traits:"
        for ours, (theirs, file) in extra.items():
            yield f"  {ours}: {{description: {json.dumps(f'{theirs}, from {file}', ensure_ascii=False)}}}"
        yield ""

    def _segments(self) -> Iterator[str]:
        yield "# Who belongs together. `segue traits` lists what rules can use, `segue segments explain NAME` says it in words."
        yield "segments:" if self.segments() else "segments: {}"
        for segment in self.segments():
            yield f"  {segment.name}:"
            yield f"    description: {json.dumps(segment.description)}"
            yield f"    where: {segment.where}"
        if self.groups():
            yield ""
            yield "# A contact is in the first of these that fits: its stage in the customer's life."
            yield "groups:"
            yield "  lifecycle:"
            yield f"    segments: [{', '.join(name for name, _ in _STAGES)}]"
        yield ""

    def _recommendations(self) -> Iterator[str]:
        if self.recommendations():
            yield "recommendations:"
            yield "  for_you:"
            yield "    kind: popular_in_category"
            yield "    slots: 3"
            yield "    window: 30 days"
            yield ""


def _trait_names(headers: Sequence[str]) -> dict[str, str]:
    """Name the traits of further customer columns, ours -> theirs, beside all names that are taken."""
    taken = {trait.name for trait in (*FEATURES, *RFM)} | {column.name for column in TABLES["customers"]}
    names: dict[str, str] = {}
    for header in headers:
        words = "_".join(filter(None, (folded(word) for word in re.split(r"[^\w]+|_", header))))
        name = words if words[:1].isalpha() else f"column_{words}".rstrip("_")
        if name in taken:
            name = f"shop_{name}"
        while name in names:
            name = f"{name}_2"
        names[name] = header
    return names


def _quoted(text: str) -> str:
    """Write a text for YAML, in quotes only where it needs them."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./ -]*", text) and not text.endswith(" ") and text.isascii()
    return (
        text
        if plain and text.casefold() not in {"null", "true", "false"}
        else json.dumps(text, ensure_ascii=False)
    )


def _fitted(mapping: str, project: _Project) -> str:
    """Comment out the mapping's fields whose group or recommendation this project does not have."""
    missing = [
        rf"  - group: (?!({'|'.join(project.groups()) or '-'})\b)",
        rf"  - recommendation: (?!({'|'.join(project.recommendations()) or '-'})\b)",
    ]
    lines: list[str] = []
    inside = False
    for line in mapping.splitlines():
        if line.startswith("  - ") or not line.startswith("    "):
            inside = any(re.match(pattern, line) for pattern in missing)
        lines.append(f"# {line}" if inside else line)
    return "\n".join(lines) + "\n"
