"""YAML files as pydantic models, every mistake at once, each with its line and what was probably meant.

Lives here: reading, lines, duplicate keys, the plain words for what pydantic found. Must not: any setting of ours.

Every scalar reaches the model as the text that stands in the file, and the model's type decides what it is; only a
bare `null`, `~` or nothing at all is None. YAML's own guessing was the loser: it reads the Mailchimp audience
`12345e6789` as infinity and drops the zero of a postal code. So a model types its fields; under `Any` or
`int | str` a number stays a text.
"""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, Union

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_core import ValidationError as CoreValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .errors import ConfigError, Problem

PROJECT_FILE = "segue.yml"

_MOST_VALUES = 100_000
_ABSENT: Any = object()
_NULL = "tag:yaml.org,2002:null"
_SECRET_WORDS = ("key", "token", "secret", "password", "passwd", "credential")
_QUOTING = (
    "A value that starts with a quote, or holds a colon and a space, stands in double quotes as a whole "
    "or on its own line below `>-`."
)


def suggest(name: str, known: Iterable[str]) -> str:
    """Give a sentence with the known name that was probably meant, or an empty text.

    >>> suggest("segmets", ["segments", "groups"])
    'Did you mean "segments"?'
    >>> suggest("lapsing", ["promising", "lapsing_regulars"])
    'Did you mean "lapsing_regulars"?'
    >>> suggest("zebra", ["segments", "groups"])
    ''
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    folded = name.casefold()
    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.8)
    if not near and len(folded) >= 3:
        # "lapsing" for "lapsing_regulars" is far as an edit distance and obvious to a person.
        near = [candidate for candidate in by_folded if folded in candidate][:1]
    near = near or difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return f'Did you mean "{by_folded[near[0]]}"?' if near else ""


def is_secret_key(name: str) -> bool:
    """Say whether a key of this name holds a secret, which is then neither written in YAML nor ever printed.

    >>> is_secret_key("api_key"), is_secret_key("contact_key"), is_secret_key("merge_on")
    (True, True, False)
    """
    return any(word in name.casefold() for word in _SECRET_WORDS)


class Document:
    """One parsed YAML file that still knows its lines. Keys and indexes lead to values and to places."""

    def __init__(self, path: Path, root: Node | None) -> None:
        self.path = path
        self.shown = _shown(path)
        self._root = root
        self.data: Any = None if root is None else _plain(root)

    @classmethod
    def read(cls, path: Path) -> tuple[Self, list[Problem]]:
        """Parse a file. Returns the document with the problems that do not keep it from being read further.

        Raises ConfigError when there is nothing to go on with: no file, no UTF-8, no YAML.
        """
        shown = _shown(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise ConfigError.of([Problem(where=shown, message="there is no such file.")]) from None
        except UnicodeDecodeError as error:
            raise ConfigError.of(
                [
                    Problem(
                        where=shown,
                        message=f"byte {error.start} is not UTF-8.",
                        next_step="Save the file as UTF-8.",
                    )
                ]
            ) from None
        except OSError as error:
            raise ConfigError.of(
                [Problem(where=shown, message=f"cannot be read: {error.strerror}.")]
            ) from None
        try:
            root = YAML(typ="safe", pure=True).compose(text)
            faults = (
                list(_entered(root, shown, (), {}, 1, iter(range(_MOST_VALUES)))) if root is not None else []
            )
        except YAMLError as error:
            raise ConfigError.of([_syntax_problem(shown, error)]) from None
        except RecursionError:
            raise ConfigError.of(
                [Problem(where=shown, message="is nested too deeply.", next_step="Is it the right file?")]
            ) from None
        if any(fault.fatal for fault in faults):
            raise ConfigError.of([fault.problem for fault in faults])
        return cls(path, root), [fault.problem for fault in faults]

    def place(self, *keys: str | int) -> str:
        """Give `file:line` of the value under these keys, or of the nearest one above it that is there."""
        node, line = self._root, None if self._root is None else self._root.start_mark.line + 1
        for key in keys:
            step = _step(node, key)
            if step is None:
                break
            node, line = step
        return self.shown if line is None else f"{self.shown}:{line}"

    def mapping(self, *keys: str | int) -> Mapping[str, Any]:
        """Give the mapping under these keys, an empty one when something else or nothing is there."""
        value = self.data
        for key in keys:
            value = _child(value, key)
        return value if isinstance(value, dict) else {}


class Section(BaseModel):
    """A part of a YAML file of ours: unknown keys are mistakes, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class FileModel(Section):
    """The top of a YAML file of ours. It remembers its file, so that later checks can say where."""

    _document: Document | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path:
        """The absolute path of the file this was read from."""
        if self._document is None:
            raise ValueError(f"this {type(self).__name__} was not read from a file")
        return self._document.path

    def place(self, *keys: str | int) -> str:
        """Give `file:line` of the value under these keys, e.g. `place("segments", "vip", "where")`."""
        return "" if self._document is None else self._document.place(*keys)


M = TypeVar("M", bound=FileModel)


def read_model(path: Path, model: type[M]) -> M:
    """Read a YAML file into a model. Raises ConfigError with every problem, each at its line."""
    document, problems = Document.read(path.absolute())
    loaded, more = validate(document, model)
    if loaded is None or problems:
        raise ConfigError.of(in_order([*problems, *more]))
    return loaded


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort the problems of one file by line."""

    def line(problem: Problem) -> int:
        number = problem.where.rpartition(":")[2]
        return int(number) if number.isdigit() else 0

    return sorted(problems, key=line)


def validate(document: Document, model: type[M]) -> tuple[M | None, list[Problem]]:
    """Bring a document into a model's shape, or say everything that keeps it from it."""
    try:
        loaded = model.model_validate({} if document.data is None else document.data)
    except ValidationError as error:
        return None, _problems(document, model, error)
    loaded._document = document  # noqa: SLF001  (a private attribute of our own base class)
    return loaded, []


def mistake(message: str, *keys: str | int, next_step: str = "") -> PydanticCustomError:
    """Build the error that a validator raises for a value further down, at `keys` below its own place."""
    text = f"{message} {next_step}".strip()
    return PydanticCustomError("segue", "{text}", {"text": text, "keys": keys})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    problem: Problem
    fatal: bool = False


def _shown(path: Path) -> str:
    """Name a file as its project does: relative to the folder with segue.yml, where there is one."""
    for folder in path.parents:
        if (folder / PROJECT_FILE).is_file():
            return path.relative_to(folder).as_posix()
    return path.name


def _syntax_problem(shown: str, error: YAMLError) -> Problem:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Problem(where=shown, message="holds a character that YAML does not allow.")
    mark = error.problem_mark
    context = f" {error.context}" if error.context else ""
    return Problem(
        where=f"{shown}:{mark.line + 1}",
        message=f"not YAML{context}: {error.problem} (column {mark.column + 1}).",
        next_step="Indent with spaces, not with tabs." if r"\t" in str(error.problem) else _QUOTING,
    )


def _faults(
    node: Node, shown: str, keys: tuple[str | int, ...], above: Mapping[int, int], left: Iterator[int]
) -> Iterator[_Fault]:
    """Find what YAML allows and we do not: duplicate keys, keys that are no texts, values within themselves.

    `above` leads from the nodes around this one, by identity, to the line in which each was entered. `left` ends when
    the file holds too much: a few lines of anchors within anchors stand for billions of values.
    """
    if isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            yield from _entered(value, shown, (*keys, index), above, value.start_mark.line + 1, left)
    if isinstance(node, MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            where = f"{shown}:{line}"
            if not isinstance(key, ScalarNode):
                message = f"{dotted(keys)}: a key must be a word, here it is a list or a mapping."
                yield _Fault(problem=Problem(where=where, message=message), fatal=True)
                continue
            if key.value in first:
                message = (
                    f"{dotted((*keys, key.value))}: stands here twice, first in line {first[key.value]}."
                )
                yield _Fault(problem=Problem(where=where, message=message, next_step="Keep one of them."))
            first.setdefault(key.value, line)
            yield from _entered(value, shown, (*keys, key.value), above, line, left)


def _entered(
    node: Node,
    shown: str,
    keys: tuple[str | int, ...],
    above: Mapping[int, int],
    line: int,
    left: Iterator[int],
) -> Iterator[_Fault]:
    if next(left, None) is None:
        message = (
            f"holds more than {_MOST_VALUES:,} values, those of anchors counted each time they are named."
        )
        raise ConfigError.of([Problem(where=shown, message=message, next_step="Is it the right file?")])
    if id(node) in above:
        message = f"{dotted(keys)}: holds itself through the anchor in line {above[id(node)]}."
        yield _Fault(problem=Problem(where=f"{shown}:{line}", message=message), fatal=True)
        return
    yield from _faults(node, shown, keys, {**above, id(node): line}, left)


def _child(value: Any, key: str | int) -> Any:
    if isinstance(value, list):
        return value[key] if isinstance(key, int) and key < len(value) else _ABSENT
    return value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT


def _plain(node: Node) -> Any:
    match node:
        case MappingNode():
            return {key.value: _plain(value) for key, value in node.value}
        case SequenceNode():
            return [_plain(value) for value in node.value]
        case _:
            return None if node.tag == _NULL else node.value


def _step(node: Node | None, key: str | int) -> tuple[Node, int] | None:
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if name.value == str(key):
                return value, name.start_mark.line + 1
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key].start_mark.line + 1
    return None


def dotted(keys: Sequence[str | int]) -> str:
    """Write a path of keys as a person does.

    >>> dotted(("sources", "orders", 0, "path"))
    'sources.orders[0].path'
    """
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
    return text or "the file"


def _problems(document: Document, model: type[BaseModel], error: CoreValidationError) -> list[Problem]:
    found: dict[tuple[str, str], Problem] = {}
    for detail in error.errors(include_url=False):
        keys = _keys_in(document, detail)
        message, next_step = _in_words(detail, model, keys)
        where = document.place(*keys)
        text = f"{dotted(keys)}: {message}"
        # One wrong value under a union gives one error for each of its types.
        found.setdefault(
            (where, dotted(keys)), Problem(where=where, message=text, next_step=next_step or None)
        )
    return list(found.values())


def _keys_in(document: Document, detail: ErrorDetails) -> tuple[str | int, ...]:
    """Keep of pydantic's location what is in the file: it also names union members and dictionary keys."""
    keys: list[str | int] = []
    value = document.data
    last = len(detail["loc"]) - 1
    for position, key in enumerate(detail["loc"]):
        if (below := _child(value, key)) is not _ABSENT:
            value = below
        elif not (position == last and detail["type"] == "missing"):
            continue
        keys.append(key)
    return (*keys, *detail.get("ctx", {}).get("keys", ()))


# pydantic's word for a mistake -> ours and the next step; `{is}` is the value as it may be shown.
_WORDS = {
    "missing": ("is missing.", "Add it."),
    "int_parsing": ("must be a whole number and is {is}.", ""),
    "int_from_float": ("must be a whole number and is {is}.", ""),
    "int_type": ("must be a whole number and is {is}.", ""),
    "float_parsing": ("must be a number with a decimal point and is {is}.", ""),
    "float_type": ("must be a number with a decimal point and is {is}.", ""),
    "bool_parsing": ("must be true or false and is {is}.", ""),
    "bool_type": ("must be true or false and is {is}.", ""),
    "string_type": ("must be a text and is {is}.", ""),
    "path_type": ("must be a path and is {is}.", ""),
    "string_too_short": ("must not be empty.", ""),
    "too_short": ("must not be empty.", ""),
    "list_type": ("must be a list and is {is}.", "Write `- ` before each of its items."),
    "dict_type": ("must hold keys with values and is {is}.", ""),
    "model_type": ("must hold keys with values and is {is}.", ""),
    "model_attributes_type": ("must hold keys with values and is {is}.", ""),
}


def _in_words(detail: ErrorDetails, model: type[BaseModel], keys: tuple[str | int, ...]) -> tuple[str, str]:
    context = detail.get("ctx", {})
    value = _quoted(detail["input"], keys)
    if detail["type"] in _WORDS:
        message, next_step = _WORDS[detail["type"]]
        return message.replace("{is}", value), next_step
    match detail["type"]:
        case "segue":
            return str(context["text"]), ""
        case "extra_forbidden":
            known = _known_keys(model, keys[:-1])
            hint = suggest(str(keys[-1]), known) or f"Known here: {', '.join(known)}."
            return "is not a key that Segue knows.", hint
        case "literal_error" | "enum":
            allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            one_of = ", ".join(f'"{value}"' for value in allowed)
            hint = suggest(str(detail["input"]), allowed) or f"It must be one of {one_of}."
            return f"{value} is not known here.", hint
        case _:
            said = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
            return f"{said}, and is {value}.", ""


def _quoted(value: object, keys: Sequence[str | int]) -> str:
    """Show a value as it may be shown: never one that could be a secret, never a whole block."""
    match value:
        case None:
            return "empty"
        case dict():
            return "a block of keys"
        case list():
            return "a list"
        case _ if any(isinstance(key, str) and is_secret_key(key) for key in keys):
            return "a value that is not shown"
        case _:
            text = str(value)
            return f'"{text if len(text) <= 80 else text[:77] + "..."}"'


def _known_keys(model: type[BaseModel], keys: Sequence[str | int]) -> list[str]:
    """List the keys that a model allows at a path, by walking its annotations."""
    candidates: list[Any] = [model]
    for key in keys:
        candidates = [below for candidate in candidates for below in _below(candidate, key)]
    names: dict[str, None] = {}
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            names |= dict.fromkeys(field.alias or name for name, field in candidate.model_fields.items())
    return list(names)


def _below(annotation: Any, key: str | int) -> list[Any]:
    for model in _members(annotation):
        if isinstance(model, type) and issubclass(model, BaseModel):
            for name, field in model.model_fields.items():
                if (field.alias or name) == key:
                    return _members(field.annotation)
        arguments = typing.get_args(model)
        if typing.get_origin(model) is not None and arguments:
            return _members(arguments[-1] if isinstance(key, str) else arguments[0])
    return []


def _members(annotation: Any) -> list[Any]:
    """Open unions and annotated types."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [member for part in typing.get_args(annotation) for member in _members(part)]
    return [annotation]
