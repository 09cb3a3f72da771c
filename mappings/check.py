"""Everything that can be wrong with a mapping once its shape is right: names, kinds, types, tags, slots.

Lives here: one function per question, each giving problems and raising nothing. Must not: reading files, projecting.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import ibis
import ibis.expr.datatypes as dt
from pydantic import ValidationError

from ..core.config import suggest
from ..core.data.staging import TRAIT_TYPES
from ..core.errors import Problem
from ..core.model import Capabilities, FieldSpec, FieldType, Trait, TraitType
from ..core.yamlfile import Document, dotted
from .budget import Claimant, assign, over_budget, wrong_tags
from .config import FieldConfig, MappingConfig
from .fields import ATTRIBUTE_KINDS, check_holds, transformed, usual_type
from .projection import FieldSource, MappedField, Origin
from .values import Kind, Value, from_column


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the project has: traits by name, segments, groups, and the recommendations with their slots."""

    traits: Mapping[str, Trait]
    segments: Sequence[str]
    groups: Sequence[str]
    recommendations: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The part of a file whose shape is right. `positions` are the places of its fields in the file's list."""

    document: Document
    config: MappingConfig
    positions: tuple[int, ...]

    @classmethod
    def of(cls, document: Document) -> "Draft":
        """Keep each key and each field that is right by itself, so that later checks can look at it."""
        raw = document.mapping()
        # The connector is the one key without a default; which one it is plays no part in the checks.
        sound: dict[str, Any] = {"connector": "any"}
        for key, value in raw.items():
            if key != "fields" and _is_sound(MappingConfig, {**sound, key: value}):
                sound[key] = value
        listed = raw.get("fields")
        fields = listed if isinstance(listed, list) else []
        positions = tuple(index for index, field in enumerate(fields) if _is_sound(FieldConfig, field))
        config = MappingConfig.model_validate({**sound, "fields": [fields[index] for index in positions]})
        return cls(document=document, config=config, positions=positions)

    @property
    def written(self) -> list[tuple[int, FieldConfig]]:
        """The fields that we write, with their places."""
        return [each for each in self._placed() if each[1].direction != "pull"]

    @property
    def pulled(self) -> list[tuple[int, FieldConfig]]:
        """The fields that others write, with their places."""
        return [each for each in self._placed() if each[1].direction == "pull"]

    def _placed(self) -> Iterator[tuple[int, FieldConfig]]:
        return zip(self.positions, self.config.fields, strict=True)

    def problem(self, keys: Sequence[str | int], message: str, next_step: str = "") -> Problem:
        """Say what is wrong with the value under these keys of the file."""
        return Problem(
            where=self.document.place(*keys),
            message=f"{dotted(keys)}: {message}",
            next_step=next_step or None,
        )


def _is_sound(model: type[MappingConfig | FieldConfig], raw: object) -> bool:
    try:
        model.model_validate(raw)
    except ValidationError:
        return False
    return True


def checked(
    draft: Draft, known: Known, capabilities: Capabilities
) -> tuple[list[MappedField], list[Problem]]:
    """Give the fields with their tags and types, as far as they are right, and everything that is not."""
    fields: list[MappedField] = []
    problems: list[Problem] = []
    for position, config in draft.written:
        field, wrong = _field(draft, position, config, known, capabilities)
        problems += wrong
        if field is not None:
            fields.append(field)
    problems += _same_labels(draft)
    claimants = [
        Claimant(
            name=config.name,
            label=config.label,
            where=draft.document.place("fields", position),
            pinned=config.tag,
            claim=config.claim,
        )
        for position, config in draft.written
    ]
    tags, wrong = assign(claimants, prefix=draft.config.prefix, capabilities=capabilities)
    problems += wrong
    problems += _slots(draft, claimants, capabilities)
    problems += _tags(draft, known, capabilities)
    problems += _pulled(draft, tags)
    if len(fields) == len(tags):
        fields = [
            replace(field, spec=replace(field.spec, tag=tag)) for field, tag in zip(fields, tags, strict=True)
        ]
    return fields, problems


def tagged_segments(config: MappingConfig, known: Known) -> tuple[str, ...]:
    """Give the segments that become tags, in the order of the project or of the list."""
    if config.tags is None:
        return ()
    return (
        tuple(known.segments) if config.tags.segments == "all" else tuple(dict.fromkeys(config.tags.segments))
    )


def _field(
    draft: Draft, position: int, config: FieldConfig, known: Known, capabilities: Capabilities
) -> tuple[MappedField | None, list[Problem]]:
    keys = ("fields", position)
    origin, _ = _origin(config)
    source, description, null_means, wrong = _source(draft, keys, config, known)
    if source is None:
        return None, wrong
    try:
        value = transformed(_typical(source, known), config.transform)
    except ValueError as error:
        return None, [draft.problem((*keys, "transform"), str(error))]
    field_type = config.type or usual_type(value.kind, capabilities.field_types)
    if field_type not in capabilities.field_types:
        offered = ", ".join(sorted(capabilities.field_types))
        wrong.append(
            draft.problem(
                (*keys, "type"),
                f"the destination has no fields of type {field_type}.",
                f"It has: {offered}.",
            )
        )
    try:
        check_holds(value.kind, field_type)
    except ValueError as error:
        wrong.append(draft.problem((*keys, "type" if config.type else origin), str(error)))
    fault = _wrong_default(config.default, field_type, capabilities)
    if fault:
        wrong.append(draft.problem((*keys, "default"), f'"{config.default}" {fault}'))
    spec = FieldSpec(
        tag="",
        label=config.label,
        type=field_type,
        purpose=config.purpose,
        default=config.default,
        claim=config.claim,
    )
    field = MappedField(
        spec=spec,
        source=source,
        kind=value.kind,
        steps=config.transform,
        description=description,
        null_means=null_means,
        accepts_drift=config.drift == "accept",
        conflict=config.conflict,
    )
    return field, wrong


def _origin(config: FieldConfig) -> tuple[Origin, str]:
    for origin in Origin:
        name = getattr(config, origin.value)
        if name is not None:
            return origin, name
    raise AssertionError("FieldConfig has exactly one source")


def _source(
    draft: Draft, keys: tuple[str | int, ...], config: FieldConfig, known: Known
) -> tuple[FieldSource | None, str, str, list[Problem]]:
    """Find the source: with its description and what its null means, or the problem that it is not there."""
    origin, name = _origin(config)
    names: Mapping[Origin, Sequence[str]] = {
        Origin.TRAIT: list(known.traits),
        Origin.GROUP: known.groups,
        Origin.SEGMENT: known.segments,
        Origin.RECOMMENDATION: list(known.recommendations),
    }
    if name not in names[origin]:
        hint = suggest(name, names[origin])
        if not hint:
            hint = (
                "`segue traits` lists them."
                if origin is Origin.TRAIT
                else f"Define it in segue.yml under `{origin}s`."
            )
        return None, "", "", [draft.problem((*keys, origin), f'no {origin} is called "{name}".', hint)]
    match origin:
        case Origin.TRAIT:
            trait = known.traits[name]
            source = FieldSource(origin=origin, name=name, kind=Kind(trait.type.value))
            return source, trait.description, trait.null_means, []
        case Origin.GROUP:
            source = FieldSource(origin=origin, name=name, kind=Kind.TEXT)
            return source, "the contact's segment in the group", "in none of its segments", []
        case Origin.SEGMENT:
            source = FieldSource(origin=origin, name=name, kind=Kind.BOOLEAN)
            return source, "whether the contact is in the segment", "", []
        case Origin.RECOMMENDATION:
            return _recommended(draft, keys, config, known)


def _recommended(
    draft: Draft, keys: tuple[str | int, ...], config: FieldConfig, known: Known
) -> tuple[FieldSource | None, str, str, list[Problem]]:
    name, slot, attribute = config.recommendation or "", config.slot or 0, config.attribute or ""
    slots = known.recommendations[name]
    source = FieldSource(
        origin=Origin.RECOMMENDATION,
        name=name,
        kind=ATTRIBUTE_KINDS.get(attribute, Kind.TEXT),
        slot=slot,
        attribute=attribute,
    )
    wrong = []
    if slot > slots:
        wrong.append(
            draft.problem(
                (*keys, "slot"),
                f'"{name}" has {slots} slots, and this is slot {slot}.',
                "Use a smaller slot, or raise `slots` in segue.yml.",
            )
        )
    return source, f"{attribute} of recommended product {slot}", "no product to recommend", wrong


def _typical(source: FieldSource, known: Known) -> Value:
    """Give a value of the source's kind over a table without rows, to build expressions on."""
    trait = known.traits.get(source.name)
    if source.origin is Origin.TRAIT and trait is not None:
        column_type = TRAIT_TYPES[trait.type]
    elif source.kind is Kind.MONEY:
        column_type = TRAIT_TYPES[TraitType.MONEY]
    elif source.kind is Kind.BOOLEAN:
        column_type = dt.boolean
    else:
        column_type = dt.string
    table = ibis.table({"value": column_type, "currency": dt.string}, name="typical")
    value = from_column(table["value"], source.kind, "UTC")
    # Only a product's price has its currency beside it.
    return replace(value, currency=table["currency"]) if source.attribute == "price" else value


def _wrong_default(default: str, field_type: FieldType, capabilities: Capabilities) -> str:
    """Give the end of a sentence on what keeps a default from being one, or an empty text."""
    if not default:
        return ""
    if not default.isprintable():
        return "holds a line break or a control character."
    if len(default.encode()) > capabilities.text_bytes:
        return f"has more than {capabilities.text_bytes} bytes."
    fits_type, sentence = _DEFAULTS.get(field_type, (bool, ""))
    return "" if fits_type(default) else sentence


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _is_web_address(text: str) -> bool:
    return re.fullmatch(r"https?://[^\s/]\S*", text) is not None


def _is_birthday(text: str) -> bool:
    return _is_date(f"2000-{text.replace('/', '-')}")


_DEFAULTS: Final[Mapping[FieldType, tuple[Callable[[str], bool], str]]] = {
    FieldType.NUMBER: (_is_number, "is not a number with a decimal point."),
    FieldType.DATE: (_is_date, "is not a date: write YYYY-MM-DD."),
    FieldType.BIRTHDAY: (_is_birthday, "is not a birthday: write MM/DD."),
    FieldType.URL: (_is_web_address, "is not a web address: write https://..."),
    FieldType.IMAGE_URL: (_is_web_address, "is not a web address: write https://..."),
}


def _same_labels(draft: Draft) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, config in zip(draft.positions, draft.config.fields, strict=True):
        folded = config.label.casefold()
        if folded in first:
            place = draft.document.place("fields", first[folded], "label")
            yield draft.problem(
                ("fields", position, "label"),
                f'"{config.label}" is the label of two fields, first at {place}.',
                "Readers choose fields by their label: change one of them.",
            )
        first.setdefault(folded, position)


def _pulled(draft: Draft, written: Sequence[str]) -> Iterator[Problem]:
    """Find fields of others that we write as well, and two for one tag or one trait."""
    taken: dict[str, dict[str, str]] = {"tag": dict.fromkeys(written, "written"), "trait": {}}
    for position, config in draft.pulled:
        for key, name in (("tag", config.tag or ""), ("trait", config.trait or "")):
            if name in taken[key]:
                yield draft.problem(
                    ("fields", position, key),
                    f'"{name}" is {taken[key][name]} already.',
                    "A field has one direction: for both, write `direction: both` in the one entry.",
                )
            taken[key].setdefault(name, "pulled")


def _slots(draft: Draft, claimants: Sequence[Claimant], capabilities: Capabilities) -> list[Problem]:
    plans = capabilities.field_slots
    slots = draft.config.field_slots
    if slots is None:
        slots = min(plans.values())
    elif slots not in plans.values():
        offered = ", ".join(f"{number} ({plan})" for plan, number in plans.items())
        message = f"{slots} is not what any of the destination's plans allows."
        return [draft.problem(("field_slots",), message, f"They allow: {offered}.")]
    where = draft.document.place("fields")
    return over_budget(claimants, field_slots=slots, reserve=draft.config.reserve, where=where)


def _tags(draft: Draft, known: Known, capabilities: Capabilities) -> list[Problem]:
    config = draft.config
    problems = []
    if config.tags is not None and config.tags.segments != "all":
        for index, name in enumerate(config.tags.segments):
            if name not in known.segments:
                hint = suggest(name, known.segments) or "Define it in segue.yml under `segments`."
                problems.append(
                    draft.problem(("tags", "segments", index), f'no segment is called "{name}".', hint)
                )
    where = draft.document.place("tags", "segments")
    tagged = tagged_segments(config, known)
    return problems + wrong_tags(tagged, tag_prefix=config.tag_prefix, capabilities=capabilities, where=where)
