"""What a destination has too little of: slots for fields, and letters for their tags.

Lives here: how a field gets its tag, and which fields and tags do not fit. Must not: any value of a contact.

A tag is a function of the field's own name alone, so that adding, removing or moving other fields never renames one
that a template already uses. A name that fits becomes the tag as it is; any other keeps four telling letters and
three of a hash of the full name. Two names that still meet are an error that asks for `tag:`. The loser was to
number the colliding ones: then the order of the file decides what a template prints.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import Problem
from ..core.model import Capabilities

_STEM = 4
_HASH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """A field that wants a slot and a tag. `pinned` is the tag that the file gives it; `where` reads file:line."""

    name: str
    label: str
    where: str
    pinned: str | None = None
    claim: bool = False


def tag_of(name: str, prefix: str, length: int) -> str:
    """Give the tag of a field that has no pinned one: at most `length` of A-Z, 0-9 and _, to be written as the ESP wants.

    >>> tag_of("revenue", "SG", 10)
    'SG_REVENUE'
    >>> tag_of("recency_days", "SG", 10)
    'SG_REDAR5R'
    """
    room = length - len(prefix) - 1
    if len(name) <= room and re.fullmatch(r"[a-z0-9_]+", name):
        return f"{prefix}_{name.upper()}"
    digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
    return f"{prefix}_{_stem(name, room - _HASH)}{base64.b32encode(digest).decode()[:_HASH]}"


def _stem(name: str, length: int) -> str:
    """Shorten a name to at most `length` letters: the first of each word, then more of the words from the left.

    Of many words the first and the last ones count: they tell `for_you_1_name` from `for_you_2_url`.
    """
    words = re.findall(r"[A-Z0-9]+", name.upper())
    if len(words) > length:
        words = [words[0], *words[len(words) - length + 1 :]]
    taken = [1] * len(words)
    spare = length - len(words)
    for index, word in enumerate(words):
        more = min(len(word) - 1, -(-spare // (len(words) - index)))
        taken[index] += more
        spare -= more
    return "".join(word[:count] for word, count in zip(words, taken, strict=True))


def assign(
    claimants: Sequence[Claimant], *, prefix: str, capabilities: Capabilities
) -> tuple[list[str], list[Problem]]:
    """Give each field its tag, in order, and the problems: wrong, foreign or reserved pins, and two of the same."""
    problems: list[Problem] = []
    tags = [claimant.pinned or _made(claimant.name, prefix, capabilities) for claimant in claimants]
    for claimant, tag in zip(claimants, tags, strict=True):
        problem = _wrong_pin(claimant, prefix, capabilities)
        if problem is not None:
            problems.append(problem)
        for other, taken in zip(claimants, tags, strict=True):
            if other is claimant:
                break
            if tag == taken:
                problems.append(
                    Problem(
                        where=claimant.where,
                        message=f'"{claimant.label}" and "{other.label}" ({other.where}) have the same tag {tag}.',
                        next_step=f"Give one of them another one, e.g. `tag: {_free(claimant, tags, prefix, capabilities)}`.",
                    )
                )
                break
    return tags, problems


def _wrong_pin(claimant: Claimant, prefix: str, capabilities: Capabilities) -> Problem | None:
    tag = claimant.pinned
    if tag is None:
        return None
    message = next_step = ""
    if len(tag) > capabilities.field_tag_length or not re.fullmatch(capabilities.field_tag_pattern, tag):
        message = f'"{tag}" cannot be a tag.'
        letters = "small" if _is_small(capabilities) else "capital"
        next_step = f"Use at most {capabilities.field_tag_length} {letters} letters, digits and underscores."
    elif tag in capabilities.reserved_tags:
        message = f'"{tag}" has a meaning of its own at the destination, and no field can have it.'
        next_step = "Choose another tag, or leave `tag` out."
    elif not tag.startswith(ours := _cased(f"{prefix}_", capabilities)) and not claimant.claim:
        message = f'"{tag}" does not start with our prefix {ours}, so it may be a field that others made.'
        next_step = "Add `claim: true` if Segue shall write that field from now on, or choose another tag."
    return Problem(where=claimant.where, message=message, next_step=next_step) if message else None


def _made(name: str, prefix: str, capabilities: Capabilities) -> str:
    return _cased(tag_of(name, prefix, capabilities.field_tag_length), capabilities)


def _cased(text: str, capabilities: Capabilities) -> str:
    return text.lower() if _is_small(capabilities) else text


def _is_small(capabilities: Capabilities) -> bool:
    """Whether tags are written in small letters there."""
    return re.fullmatch(capabilities.field_tag_pattern, "A") is None


def _free(claimant: Claimant, tags: Sequence[str], prefix: str, capabilities: Capabilities) -> str:
    """Propose a tag that nobody has."""
    candidates = (
        _made(f"{claimant.name}_{number}", prefix, capabilities) for number in range(2, len(tags) + 3)
    )
    return next(candidate for candidate in candidates if candidate not in tags)


def over_budget(
    claimants: Sequence[Claimant], *, field_slots: int, reserve: int, where: str
) -> list[Problem]:
    """Say which fields, in the order of the file, find no slot. A claimed field counts too: it may not exist yet."""
    room = max(field_slots - reserve, 0)
    left_over = [claimant.label for claimant in claimants[room:]]
    if not left_over:
        return []
    names = ", ".join(f'"{label}"' for label in left_over)
    return [
        Problem(
            where=where,
            message=f"{len(claimants)} fields want {room} slots ({field_slots} less {reserve} in reserve). These find none: {names}.",
            next_step="Remove fields, move the important ones up, lower `reserve`, or raise `field_slots` if the account's plan has more.",
        )
    ]


def wrong_tags(
    segments: Sequence[str], *, tag_prefix: str, capabilities: Capabilities, where: str
) -> list[Problem]:
    """Say which segments have a name that is too long for a tag."""
    return [
        Problem(
            where=where,
            message=f'the tag "{tag_prefix}{segment}" has {len(tag_prefix + segment)} characters; {capabilities.tag_length} is the most.',
            next_step="Rename the segment, or shorten `tag_prefix`.",
        )
        for segment in segments
        if len(tag_prefix + segment) > capabilities.tag_length
    ]
