"""What is held of a person as one HTML page for that person: no network, no script, light and dark, prints well.

It shows what `access` gathered and gathers nothing. All text is escaped by the template.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..plain import plain
from .access import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the page: a title, a sentence, and a table whose columns are all that its rows have."""

    title: str
    words: str = ""
    rows: Sequence[Mapping[str, Any]] = ()

    @property
    def heads(self) -> list[str]:
        """The columns that any row has a value in."""
        return list(
            dict.fromkeys(name for row in self.rows for name, value in row.items() if value is not None)
        )


def page(held: Held) -> str:
    """Give the whole page."""
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = Path(__file__).with_name("access.html").read_text(encoding="utf-8")
    parts = [part for part in _parts(held) if part.rows]
    return template.from_string(text).render(held=held, parts=parts, show=_show)


def _parts(held: Held) -> Iterator[Part]:
    yield Part(
        title="What was computed of you",
        words="From your orders and visits, with what each value means.",
        rows=held.traits,
    )
    yield Part(
        title="Segments",
        words="Groups of customers that you are in, and the rule of each.",
        rows=held.segments,
    )
    yield Part(title="Groups", rows=held.groups)
    yield Part(title="Products that would be recommended to you", rows=held.recommendations)
    yield Part(
        title="What you agreed to, and took back",
        words=f"What follows from it now: {held.consent.state}. {held.consent.why}",
        rows=[
            {
                "when": line.occurred_at,
                "act": line.act.value,
                "about": f"{line.channel}, {line.purpose}",
                "source": line.source,
                "evidence": line.evidence,
            }
            for line in held.consent.entries
        ],
    )
    for name, side in held.destinations.items():
        yield Part(title=f"Sent to {name}, and confirmed by it", rows=side.confirmed)
        yield Part(
            title=f"What {name} uses it for",
            rows=[{"field": label, "purpose": purpose} for label, purpose in side.purposes.items()],
        )
        for table, rows in side.rows.items():
            yield Part(title=f"{name}: {table}", rows=rows)
        yield Part(
            title=f"Read from {name}",
            rows=[{"field": tag, "value": value} for tag, value in side.pulled.items()],
        )
    for name, rows in held.tables.items():
        yield Part(title=f"From the shop's data: {name}", rows=rows)
    yield Part(
        title="Planned", words="What plans of the last days mean to do, or leave out.", rows=held.plans
    )
    yield Part(title="Messages of email platforms that wait", rows=held.webhooks)
    yield Part(
        title="What was done",
        rows=[
            {
                "when": row.at,
                "act": row.act,
                "by": row.who,
                "where": row.destination,
                "as": ", ".join(filter(None, row.concerns)),
            }
            for row in held.audit
        ],
    )


def _show(value: Any) -> str:
    """Write one value for a person."""
    match plain(value):
        case None:
            return ""
        case bool(known):
            return "yes" if known else "no"
        case dict(known):
            return "; ".join(f"{name}: {_show(each)}" for name, each in known.items() if each is not None)
        case list(known):
            return ", ".join(map(_show, known))
        case known:
            return str(known)
