"""What of ours goes where: a mapping file, checked against the project and the destination, and what it makes.

Lives here: loading with every problem at once, and the answers a mapping gives: schema, projection, report,
dictionary. Must not: any ESP's name, template syntax, HTTP.

What is wrong in one field never hides what is wrong in another: fields whose shape is right are checked against the
project even when others are not. The loser was one check after the other, which shows a new user one mistake per run.
"""

from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from ..core.config import suggest
from ..core.errors import ConfigError, Problem
from ..core.model import Capabilities, DestinationSchema, FieldType, Trait
from ..core.yamlfile import Document, validate
from .check import Draft, Known, checked, tagged_segments
from .config import MappingConfig
from .fields import FieldText
from .projection import MappedField, Origin, PulledField, Tables, field_texts, json_object, yielded
from .values import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldEntry:
    """What a marketer wants to know of one field. `shortened_above` is in bytes, None when the value is never cut."""

    tag: str
    label: str
    type: FieldType
    purpose: str
    source: str
    description: str
    null_means: str
    default: str
    shortened_above: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCount:
    """How many contacts have a value in a field, how many values were cut, and how many were of no use to it."""

    tag: str
    label: str
    filled: int
    cut: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A checked mapping. Its fields are in the order of the file; `tagged` are the segments that become tags.

    `fields` are those that we write, `pulled` those that others do.
    """

    connector: str
    fields: tuple[MappedField, ...]
    pulled: tuple[PulledField, ...]
    tag_prefix: str
    tagged: tuple[str, ...]
    tags_purpose: str
    tags_accept_drift: bool
    text_bytes: int
    timezone: str

    @property
    def yielding(self) -> tuple[str, ...]:
        """The tags of fields of ours in which others may have the last word."""
        return tuple(field.spec.tag for field in self.fields if field.conflict in {"theirs", "newest"})

    @property
    def read_back(self) -> tuple[str, ...]:
        """The tags whose values a pull asks for."""
        both = (field.spec.tag for field in self.fields if field.conflict is not None)
        return (*both, *(field.tag for field in self.pulled))

    def schema(self) -> DestinationSchema:
        """Give the fields and tags that must exist at the destination before the first contact is written."""
        return DestinationSchema(
            fields=tuple(field.spec for field in self.fields),
            tags=tuple(f"{self.tag_prefix}{segment}" for segment in self.tagged),
        )

    def project(
        self,
        profiles: ir.Table,
        segments: ir.Table,
        groups: ir.Table,
        recommendations: ir.Table,
        theirs: ir.Table | None = None,
    ) -> ir.Table:
        """Give what the destination shall hold: (contact_id, address, fields, tags), one row per profile.

        `theirs` are the values that others changed in fields that may yield to them: (contact_id, tag, value, over).

        `fields` is the JSON text that `ContactState.canonical` writes, `tags` is sorted and never null; `address` is
        null for a profile without one. Raises DataError when the snapshot lacks a trait.
        """
        table, texts = self._texts(
            Tables(profiles=profiles, segments=segments, groups=groups, recommendations=recommendations)
        )
        if theirs is not None:
            table, texts = yielded(table, self.fields, texts, theirs)
        tags = [field.spec.tag for field in self.fields]
        return table.select("contact_id", "address", fields=json_object(tags, texts), tags=table["tags"])

    def count(
        self, profiles: ir.Table, segments: ir.Table, groups: ir.Table, recommendations: ir.Table
    ) -> tuple[FieldCount, ...]:
        """Count per field, in one pass over the profiles, what `project` fills, cuts and drops."""
        if not self.fields:
            return ()
        table, texts = self._texts(
            Tables(profiles=profiles, segments=segments, groups=groups, recommendations=recommendations)
        )
        counts: dict[str, ir.IntegerScalar] = {}
        for index, each in enumerate(texts):
            counts[f"filled_{index}"] = each.text.count()
            for what, rows in (("cut", each.cut), ("dropped", each.dropped)):
                if rows is not None:
                    counts[f"{what}_{index}"] = rows.cast("int64").sum()
        # A sum over no rows is null.
        row = {
            name: number or 0
            for name, number in table.aggregate(**counts).to_pyarrow().to_pylist()[0].items()
        }
        return tuple(
            FieldCount(
                tag=field.spec.tag,
                label=field.spec.label,
                filled=row[f"filled_{index}"],
                cut=row.get(f"cut_{index}", 0),
                dropped=row.get(f"dropped_{index}", 0),
            )
            for index, field in enumerate(self.fields)
        )

    def dictionary(self) -> tuple[FieldEntry, ...]:
        """Give what a marketer needs to know of each field, in the order of the file. Data only: no template syntax."""
        return tuple(self._entry(field) for field in self.fields)

    def _texts(self, tables: Tables) -> tuple[ir.Table, list[FieldText]]:
        return field_texts(
            tables,
            self.fields,
            tag_prefix=self.tag_prefix,
            tagged=self.tagged,
            limit=self.text_bytes,
            zone=self.timezone,
        )

    def _entry(self, field: MappedField) -> FieldEntry:
        source, spec = field.source, field.spec
        where = f" {source.slot}, {source.attribute}" if source.origin is Origin.RECOMMENDATION else ""
        is_text = (
            spec.type in {FieldType.TEXT, FieldType.PHONE, FieldType.ZIP} and source.kind is not Kind.URL
        )
        return FieldEntry(
            tag=spec.tag,
            label=spec.label,
            type=spec.type,
            purpose=spec.purpose,
            source=f"{source.origin} {source.name}{where}",
            description=field.description,
            null_means=field.null_means,
            default=spec.default,
            shortened_above=self.text_bytes if is_text else None,
        )


def load_mapping(
    path: Path,
    *,
    traits: Sequence[Trait],
    segments: Sequence[str],
    groups: Sequence[str],
    recommendations: MappingOf[str, int],
    capabilities: Capabilities,
    timezone: str = "UTC",
) -> Mapping:
    """Read a mapping and check it against what the project has and the destination can do.

    `recommendations` gives the number of slots by name; `timezone` is the shop's, in which a timestamp has its day.
    Raises ConfigError with every problem, each at its line.
    """
    document, problems = Document.read(path.absolute())
    whole, misshapen = validate(document, MappingConfig)
    problems += misshapen
    draft = Draft.of(document)
    known = Known(
        traits={trait.name: trait for trait in traits},
        segments=segments,
        groups=groups,
        recommendations=recommendations,
    )
    fields, wrong = checked(draft, known, capabilities)
    problems += wrong
    if whole is None or problems:
        raise ConfigError.of(sorted(problems, key=_line_of))
    return Mapping(
        connector=whole.connector,
        fields=tuple(fields),
        pulled=tuple(
            PulledField(
                tag=config.tag or "", trait=config.trait or "", label=config.label, purpose=config.purpose
            )
            for _, config in draft.pulled
        ),
        tag_prefix=whole.tag_prefix,
        tagged=tagged_segments(whole, known),
        tags_purpose="" if whole.tags is None else whole.tags.purpose,
        tags_accept_drift=whole.tags is not None and whole.tags.drift == "accept",
        text_bytes=capabilities.text_bytes,
        timezone=timezone,
    )


def mapping_schema() -> dict[str, Any]:
    """Give the JSON Schema of a mapping file, for completion in editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **MappingConfig.model_json_schema()}


def starter(connector: str) -> Path:
    """Give the commented mapping that a new project begins with. Raises ConfigError when there is none."""
    folder = Path(__file__).parent
    path = folder / f"{connector}.yml"
    known = sorted(found.stem for found in folder.glob("*.yml"))
    if connector not in known:
        raise ConfigError(
            f'there is no starter mapping for "{connector}". {suggest(connector, known)}'.strip()
        )
    return path


def _line_of(problem: Problem) -> int:
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdigit() else 0
