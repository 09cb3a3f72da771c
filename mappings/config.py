"""A mapping file as models: what can be said in `mappings/*.yml`.

Lives here: shapes and what one field alone can get wrong. Must not: what depends on the project or the destination
(`mapping.py` checks that).
"""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from ..core.model import FieldType
from ..core.yamlfile import FileModel, Section, mistake
from .transforms import Step, read_steps, step_schema

Direction = Literal["push", "pull", "both"]
Conflict = Literal["ours", "theirs", "newest"]
Drift = Literal["repair", "accept"]
Attribute = Literal["name", "url", "image_url", "price", "reason", "product_id"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Count = Annotated[int, Field(ge=0)]

_SOURCES = ("trait", "group", "segment", "recommendation")


def _steps(raw: object) -> tuple[Step, ...]:
    try:
        return read_steps(raw)
    except ValueError as error:
        raise mistake(str(error)) from None


def _all_or_list(raw: object) -> object:
    if isinstance(raw, str) and raw != "all":
        raise mistake(f'must be `all` or a list of segments, and is "{raw}".')
    return raw


class FieldConfig(Section):
    """One field at the destination and where its value comes from: a trait, a group, a segment or a recommendation.

    With `direction: pull` the value comes from there, and becomes the trait.
    """

    trait: Text | None = None
    """A trait; `segue traits` lists them."""
    group: Text | None = None
    """A group: the value is the name of the contact's segment in it."""
    segment: Text | None = None
    """A segment: the value is yes or no."""
    recommendation: Text | None = None
    """A recommendation, with `slot` and `attribute`."""
    slot: Annotated[int, Field(ge=1)] | None = None
    """Which of the recommended products: 1 is the first."""
    attribute: Attribute | None = None
    """What of the recommended product."""
    label: Text
    """What marketers read."""
    purpose: Text
    """What the value is used for. A value without a purpose has no reason to leave the shop."""
    type: FieldType | None = None
    """The kind of field; it follows from the value when not given."""
    transform: Annotated[tuple[Step, ...], PlainValidator(_steps), WithJsonSchema(step_schema())] = ()
    """A named transform or a list of them, applied in order; docs/mappings.md lists them."""
    default: Annotated[str, StringConstraints(strip_whitespace=True)] = ""
    """What the destination shows when a contact has no value."""
    tag: Text | None = None
    """Pins the tag; made from the source's name when not given."""
    claim: bool = False
    """Take over a field of this tag that others made."""
    drift: Drift = "repair"
    """What becomes of a value that somebody changed at the destination, once `segue verify` saw it."""
    direction: Direction = "push"
    """`push`: from us there. `pull`: from there to us, and never written. `both`: ours, unless others change it there."""
    conflict: Conflict | None = None
    """Whose value counts once others changed it there, for `both`: ours, theirs, or whichever changed last."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"has {' and '.join(given)}" if given else "says from nowhere where its value comes from"
            raise mistake(
                f"{what}.", next_step="Give exactly one of trait, group, segment and recommendation."
            )
        if self.recommendation is not None and (self.slot is None or self.attribute is None):
            raise mistake(
                "a recommendation needs a slot and an attribute.",
                next_step="Add `slot: 1` and `attribute: name`.",
            )
        if self.recommendation is None:
            for name in ("slot", "attribute"):
                if getattr(self, name) is not None:
                    raise mistake("belongs to a recommendation alone.", name, next_step="Remove it.")
        if self.direction == "pull":
            self._refuse_what_is_written()
        if (self.conflict is None) is (self.direction == "both"):
            raise mistake(
                "`direction: both` and `conflict` belong together.",
                next_step="Add `conflict: theirs`, `ours` or `newest` to a field of both directions, and to no other.",
            )
        if self.conflict in {"theirs", "newest"} and self.drift == "accept":
            raise mistake("says what `conflict` says already.", "drift", next_step="Remove it.")
        if self.claim and self.tag is None:
            raise mistake("only a field with a pinned tag can be claimed.", "claim", next_step="Add `tag`.")
        return self

    def _refuse_what_is_written(self) -> None:
        if self.trait is None or self.tag is None:
            raise mistake(
                "a field that is pulled needs `tag`, its name there, and `trait`, what it becomes here."
            )
        if re.fullmatch(r"[a-z][a-z0-9_]*", self.trait) is None:
            raise mistake(
                f'"{self.trait}" is no name for a trait.', "trait", next_step="Write it like shoe_size."
            )
        for name in ("type", "transform", "default", "claim", "drift"):
            if name in self.model_fields_set:
                raise mistake(
                    "is about writing, and a field that is pulled is not written.",
                    name,
                    next_step="Remove it.",
                )

    @property
    def name(self) -> str:
        """The field's own name, from which its tag is made."""
        if self.recommendation is not None:
            return f"{self.recommendation}_{self.slot}_{self.attribute}"
        if self.segment is not None:
            return f"in_{self.segment}"
        return self.trait or self.group or ""


class TagsConfig(Section):
    """Which segments a contact carries as tags."""

    segments: Annotated[Literal["all"] | list[Text], BeforeValidator(_all_or_list)]
    """`all`, or the names of segments."""
    purpose: Text
    """What the tags are used for."""
    drift: Drift = "repair"
    """What becomes of a tag that somebody added or took away at the destination, once `segue verify` saw it."""


class MappingConfig(FileModel):
    """What of ours goes to one kind of destination, and where."""

    connector: Text
    """Which platform this mapping is for, e.g. mailchimp."""
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{0,3}$")] = "SG"
    """Our fields' tags start with it and an underscore: one to four capital letters and digits."""
    tag_prefix: Annotated[str, StringConstraints(min_length=1)] = "segue: "
    """Our tags start with it; it keeps them apart from those that others made."""
    field_slots: Annotated[int, Field(ge=1)] | None = None
    """How many fields the account's plan allows; the smallest plan's number when not given."""
    reserve: Count = 0
    """How many of the slots are left to others."""
    fields: list[FieldConfig] = Field(default_factory=list)
    """In order of importance: the first ones get the slots."""
    tags: TagsConfig | None = None
    """None: no tags are written."""
