"""Which customers are one contact: found by address, reported, and undone on request.

Lives here: the merge of customers and the list of those who are kept apart. Must not: merge on names, or change the
shop's own data.

Customers with one normalised address are one contact. The newest (or oldest) of them survives with its key and
values; what is empty there is filled from the others in the same order, and everything that names a merged customer
is pointed to the survivor.

The undo is a file in the project's folder, so that it is reviewed and versioned like the rest of the project and the
next build honours it. Customers kept apart stay as they are, with the address that they share; a destination that
knows people by address then withholds them and says so.
"""

import csv
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ..errors import DataError

KEEP_APART_FILE: Final = "identity.keep_apart.csv"
RULE: Final = "same_email"
_SCHEMA: Final = ibis.schema(
    {"contact_id": "string", "survivor_id": "string", "rule": "string", "merged_columns": "array<string>"}
)

# Its own key and address do not come from the others.
_OWN: Final = frozenset({"contact_id", "email"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """One customer that became part of another, and which of its values the other took over."""

    contact_id: str
    survivor_id: str
    rule: str
    merged_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """The customers after merging, and (contact_id, survivor_id, rule, merged_columns) of each that was merged away."""

    customers: ir.Table
    identity: ir.Table


def merge(
    customers: ir.Table, *, keep: Literal["newest", "oldest"], apart: frozenset[str], on_email: bool = True
) -> Identified:
    """Merge customers with the same address, except those of `apart`.

    Age is that of updated_at, else created_at (for `oldest` the other way round); who has neither comes last, and
    equal ones go by their key.
    """
    listed = ibis.memtable(pa.table({"contact_id": pa.array(sorted(apart), pa.string())}))
    able = customers.filter(customers.email.notnull()).anti_join(listed, "contact_id")
    shared = able.group_by("email").agg(people=able.count()).filter(lambda group: group.people > 1)
    if not on_email or not shared.count().to_pyarrow().as_py():
        nobody = ibis.memtable(_SCHEMA.to_pyarrow().empty_table(), schema=_SCHEMA)
        return Identified(customers=customers, identity=nobody)
    ranked = able.semi_join(shared, "email").select(customers.columns)
    if keep == "newest":
        age = ibis.desc(ibis.coalesce(ranked.updated_at, ranked.created_at), nulls_first=False)
    else:
        age = ibis.asc(ibis.coalesce(ranked.created_at, ranked.updated_at), nulls_first=False)
    group = ibis.window(group_by="email", order_by=[age, ranked.contact_id])
    ranked = ranked.mutate(
        segue_rank=ibis.row_number().over(group),
        segue_survivor=ranked.contact_id.first().over(group),
    )
    fillable = [column for column in customers.columns if column not in _OWN]
    survivors = ranked.group_by("email").agg(
        contact_id=ranked.segue_survivor.min(),
        **{column: ranked[column].first(order_by=ranked.segue_rank) for column in fillable},
    )
    return Identified(
        customers=customers.anti_join(ranked, "contact_id").union(survivors.select(customers.columns)),
        identity=_identity(ranked, fillable),
    )


def _identity(ranked: ir.Table, fillable: list[str]) -> ir.Table:
    everyone = ibis.window(group_by="email")
    giver = {
        # The rank of the first that has a value: whose value the survivor shows.
        f"segue_from_{column}": ranked[column]
        .notnull()
        .ifelse(ranked.segue_rank, ibis.null("int64"))
        .min()
        .over(everyone)
        for column in fillable
    }
    ranked = ranked.mutate(**giver)
    given = ibis.array(
        [
            (ranked[f"segue_from_{column}"] == ranked.segue_rank).ifelse(column, ibis.null("string"))
            for column in fillable
        ]
    ).filter(lambda column: column.notnull())
    merged = ranked.mutate(merged_columns=given).filter(ranked.segue_rank > 0)
    return merged.select(
        "contact_id",
        survivor_id=merged.segue_survivor,
        rule=ibis.literal(RULE),
        merged_columns=merged.merged_columns,
    )


def point_to_survivor(table: ir.Table, identity: ir.Table) -> ir.Table:
    """Give a table with the survivor in its contact_id wherever a merged customer stood."""
    survivors = identity.select(segue_merged=identity.contact_id, segue_survivor=identity.survivor_id)
    joined = table.left_join(survivors, table.contact_id == survivors.segue_merged)
    pointed = joined.mutate(contact_id=ibis.coalesce(joined.segue_survivor, joined.contact_id))
    return pointed.select(table.columns)


def report(identity: ir.Table, *, limit: int | None = None) -> list[Merge]:
    """Give what was merged, by survivor and key: the rows of a snapshot's identity table."""
    ordered = identity.order_by("survivor_id", "contact_id")
    rows = ordered if limit is None else ordered.limit(limit)
    return [
        Merge(**{**row, "merged_columns": tuple(row["merged_columns"])})
        for row in rows.to_pyarrow().to_pylist()
    ]


def kept_apart(project_folder: Path) -> frozenset[str]:
    """Read who is kept apart; nobody when there is no such file. Raises DataError."""
    path = project_folder / KEEP_APART_FILE
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if "contact_id" not in (rows.fieldnames or ()):
                raise DataError(f'{KEEP_APART_FILE}: its first line must be "contact_id".')
            return frozenset(row["contact_id"].strip() for row in rows if (row["contact_id"] or "").strip())
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{KEEP_APART_FILE} cannot be read as CSV in UTF-8. Correct it or remove it."
        ) from error


def keep_apart(project_folder: Path, contact_id: str) -> bool:
    """Undo a merge from the next build on: this customer is never merged with another. False when it stood there.

    The file is replaced in one step. Raises DataError when it cannot be written.
    """
    known = kept_apart(project_folder)
    if contact_id in known:
        return False
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=KEEP_APART_FILE, dir=project_folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(
                    [["contact_id"], *([key] for key in sorted({*known, contact_id}))]
                )
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(project_folder / KEEP_APART_FILE)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(f"{KEEP_APART_FILE} cannot be written: {error.strerror}.") from error
    return True
