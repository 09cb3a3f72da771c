"""Who is in which segment now, which one of each group fits, and since when: all segments of a project at once.

Nothing here knows a tag, a destination or a file. The history is an argument and a result; who keeps it is not said.

Decision: a segment below its minimum size disappears from what is synced (`segments`, `groups`) and from nothing
else. Its members stay members for `in_segment` and in the history, so that a segment that hovers around its minimum
does not make everybody leave and enter again. In a group such a contact has no segment at all, rather than one further
down the list that says something else about them.

Decision: the history is what was true before as_of, and as_of adds today. Whatever the previous history says of as_of
or later is taken back first. So the same build twice gives the same history, and a build for an earlier day gives the
history of that day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from ..config import Project
from ..data.canonical import TIMESTAMP
from .check import parse_rules
from .compile import Flags, flags
from .rule import as_moment

_MEMBERSHIPS: Final = ibis.schema(
    {"contact_id": dt.string, "segment": dt.string, "entered_at": TIMESTAMP, "left_at": TIMESTAMP}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTables:
    """What a build keeps of segments. Tables are unsorted and live on the backend of the profiles.

    `sizes` counts the members of every segment, also of those in `too_small`, which `segments` and `groups` leave out.
    """

    segments: ir.Table  # contact_id, segment
    groups: ir.Table  # contact_id, group_name, segment
    memberships: ir.Table  # contact_id, segment, entered_at, left_at (null: still in)
    sizes: Mapping[str, int]
    too_small: tuple[str, ...]


def evaluate(
    project: Project,
    profiles: ir.Table,
    timeline: ir.Table,
    as_of: datetime,
    previous: ir.Table | None = None,
) -> SegmentTables:
    """Hold all rules of a project against all contacts. `previous` is the `memberships` of the snapshot before.

    The rules are free of mistakes: `check_segments` found none against the traits of these profiles. Contacts that are
    no longer in the profiles lose their history.
    """
    rules, _ = parse_rules(project)
    flagged = _kept(flags(rules, profiles, timeline, as_of), profiles.get_backend())
    sizes = _sizes(flagged)
    too_small = tuple(
        name for name, segment in project.segments.items() if sizes[name] < segment.minimum_size
    )
    members = _members(flagged, tuple(rules))
    return SegmentTables(
        segments=members.filter(members.segment.notin(too_small)) if too_small else members,
        groups=_groups(project, flagged, too_small),
        memberships=_history(members, flagged.table, previous, as_moment(as_of)),
        sizes=sizes,
        too_small=too_small,
    )


def _kept(flagged: Flags, backend: BaseBackend) -> Flags:
    """Compute the flags once, into a table that ends with the connection; everything else reads it.

    Not Ibis's own cache: that one is dropped with its Python object, while the results here are still to be read.
    """
    name = f"segue_flags_{uuid4().hex}"
    return Flags(table=backend.create_table(name, flagged.table, temp=True), columns=flagged.columns)


def _sizes(flagged: Flags) -> dict[str, int]:
    if not flagged.columns:
        return {}
    counts = flagged.table.agg(
        **{column: flagged.table[column].sum().fill_null(0) for column in flagged.columns.values()}
    )
    row = counts.to_pyarrow().to_pylist()[0]
    return {name: int(row[column]) for name, column in flagged.columns.items()}


def _members(flagged: Flags, names: tuple[str, ...]) -> ir.Table:
    """Turn a column per segment into a row per contact and segment."""
    if not names:
        return _nobody(flagged.table).select("contact_id", segment=ibis.literal(""))
    parts = [
        flagged.table.filter(flagged.table[flagged.columns[name]]).select(
            "contact_id", segment=ibis.literal(name)
        )
        for name in names
    ]
    return ibis.union(*parts) if len(parts) > 1 else parts[0]


def _groups(project: Project, flagged: Flags, too_small: tuple[str, ...]) -> ir.Table:
    table = flagged.table
    parts: list[ir.Table] = []
    for name, group in project.groups.items():
        first = ibis.cases(
            *((table[flagged.columns[segment]], ibis.literal(segment)) for segment in group.segments)
        )
        chosen = table.select("contact_id", group_name=ibis.literal(name), segment=first)
        parts.append(chosen.filter(chosen.segment.notnull(), chosen.segment.notin([*too_small, ""])))
    if not parts:
        return _nobody(table).select("contact_id", group_name=ibis.literal(""), segment=ibis.literal(""))
    return ibis.union(*parts) if len(parts) > 1 else parts[0]


def _history(members: ir.Table, contacts: ir.Table, previous: ir.Table | None, now: datetime) -> ir.Table:
    instant = ibis.literal(now, type=TIMESTAMP)
    still_in = ibis.null(TIMESTAMP)
    if previous is None:
        return members.mutate(entered_at=instant, left_at=still_in).cast(_MEMBERSHIPS)
    told = previous.cast(_MEMBERSHIPS).semi_join(contacts, "contact_id")
    before = told.filter(told.entered_at < instant)
    before = before.mutate(left_at=(before.left_at >= instant).ifelse(still_in, before.left_at))
    closed = before.filter(before.left_at.notnull())
    open_ = before.filter(before.left_at.isnull())
    keys = ["contact_id", "segment"]
    stayed = open_.semi_join(members, keys)
    left = open_.anti_join(members, keys).mutate(left_at=instant)
    entered = members.anti_join(open_, keys).mutate(entered_at=instant, left_at=still_in)
    columns = list(_MEMBERSHIPS)
    return ibis.union(*(part.select(columns).cast(_MEMBERSHIPS) for part in (closed, stayed, left, entered)))


def _nobody(table: ir.Table) -> ir.Table:
    return table.filter(ibis.literal(False))
