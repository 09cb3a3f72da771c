"""The closed list of named transforms: what a mapping may do to a value on its way to a field.

Lives here: each transform with what it takes, what it gives, its argument, one sentence and one example that a test
runs. Must not: expressions that users write. A value that needs more than this list is a trait to compute.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any, Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..core.config import suggest
from .money import Style, amount
from .values import ELLIPSIS, NUMERIC, TIMES, Kind, Value, answer, cleaned, day, decimal, joined, written

JsonSchema = dict[str, Any]

_DATE_PARTS: Final = {"YYYY": "%Y", "YY": "%y", "MM": "%m", "DD": "%d"}
_TEXT_SCHEMA: Final[JsonSchema] = {"type": "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One use: the step as YAML, the canonical text that goes in, and what comes out."""

    step: str
    given: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One named transform. `read` parses the argument (None: none was given), `apply` builds the expression.

    Both raise ValueError with the end of a sentence that begins with the transform's name. `gives` is None when
    the value stays what it is; `argument` is the argument's JSON Schema, None for a transform that takes none.
    """

    name: str
    takes: frozenset[Kind]
    gives: Kind | None
    description: str
    example: Example
    apply: Callable[[Value, Any], ir.Value]
    read: Callable[[object], object]
    argument: JsonSchema | None = None
    argument_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transform with its argument, read and checked."""

    transform: Transform
    argument: object = None

    def on(self, value: Value) -> Value:
        """Apply the step. Raises ValueError when the transform does not take this kind of value."""
        name = self.transform.name
        if value.kind not in self.transform.takes:
            takes = ", ".join(kind for kind in Kind if kind in self.transform.takes)
            raise ValueError(f'transform "{name}" takes {takes}, and here it gets {value.kind}.')
        try:
            expression = self.transform.apply(value, self.argument)
        except ValueError as error:
            raise ValueError(f'transform "{name}" {error}.') from None
        kind = self.transform.gives or value.kind
        # A price that became a text has no use for its currency any more.
        return Value(expression=expression, kind=kind, currency=value.currency if kind in NUMERIC else None)


def read_steps(raw: object) -> tuple[Step, ...]:
    """Read what stands under `transform`: a name, a name with its argument, or a list of these.

    Raises ValueError with a sentence that names the transform.

    >>> [step.transform.name for step in read_steps(["lower", {"truncate": "20"}])]
    ['lower', 'truncate']
    """
    if raw is None:
        return ()
    return tuple(_read_step(item) for item in (raw if isinstance(raw, list | tuple) else [raw]))


def _read_step(raw: object) -> Step:
    match raw:
        case Step():
            return raw
        case str():
            name, argument = raw, None
        case dict() if len(raw) == 1:
            name, argument = next(iter(raw.items()))
        case _:
            raise ValueError("a transform is a name, or a name with its argument such as `round: 2`.")
    transform = TRANSFORMS.get(str(name))
    if transform is None:
        hint = suggest(str(name), TRANSFORMS) or f"Known are: {', '.join(TRANSFORMS)}."
        raise ValueError(f'"{name}" is not a transform. {hint}')
    try:
        return Step(transform=transform, argument=transform.read(argument))
    except ValueError as error:
        raise ValueError(f'transform "{name}" {error}, as in `{transform.example.step}`.') from None


def step_schema() -> JsonSchema:
    """Give the JSON Schema of what may stand under `transform`."""
    bare = [transform.name for transform in TRANSFORMS.values() if not transform.argument_required]
    with_argument: list[JsonSchema] = [
        {
            "type": "object",
            "description": transform.description,
            "properties": {transform.name: transform.argument},
            "required": [transform.name],
            "additionalProperties": False,
        }
        for transform in TRANSFORMS.values()
        if transform.argument is not None
    ]
    step: JsonSchema = {"anyOf": [{"enum": bare}, *with_argument]}
    return {"anyOf": [*step["anyOf"], {"type": "array", "items": step}]}


def _nothing(raw: object) -> None:
    if raw is not None:
        raise ValueError("takes no argument")


def _separator(raw: object) -> str:
    if raw is None:
        return ", "
    if not isinstance(raw, str) or not raw.isprintable() or not raw:
        raise ValueError("needs a text to put between the items")
    return raw


def _whole(least: int, most: int, otherwise: int | None = None) -> Callable[[object], int]:
    def read(raw: object) -> int:
        if raw is None and otherwise is not None:
            return otherwise
        if not re.fullmatch(r"\d{1,6}", str(raw)) or not least <= int(str(raw)) <= most:
            raise ValueError(f"needs a whole number from {least} to {most}")
        return int(str(raw))

    return read


def _one_text(raw: object) -> str:
    text = " ".join(str(raw).split()) if isinstance(raw, str) else ""
    if not text.isprintable() or not text:
        raise ValueError("needs a text or a number")
    return text


def _pairs(raw: object) -> dict[str, str]:
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError("needs a new text for each old one")
    return {" ".join(str(old).split()): _one_text(new) for old, new in raw.items()}


def _yes_no_words(raw: object) -> tuple[str, str]:
    if raw is None:
        return "yes", "no"
    if not isinstance(raw, Sequence) or isinstance(raw, str) or len(raw) != 2:
        raise ValueError("needs two texts")
    return _one_text(raw[0]), _one_text(raw[1])


def _number(raw: object) -> Decimal:
    try:
        number = Decimal(str(raw))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) >= 10**15 or round(number, 6) != number:
        raise ValueError(f'needs numbers, and "{raw}" is none')
    return number


def _bands(raw: object) -> tuple[tuple[Decimal, str], ...]:
    """Read lower edges with labels; the first label, at minus infinity, is for what lies below them all."""
    if isinstance(raw, Mapping) and raw:
        edges = [(_number(edge), _one_text(label)) for label, edge in raw.items()]
    elif isinstance(raw, list) and raw:
        numbers = [_number(edge) for edge in raw]
        ends: list[Decimal | None] = [*numbers[1:], None]
        labels = [
            f"{edge}+" if end is None else f"{edge}-{end}" for edge, end in zip(numbers, ends, strict=True)
        ]
        edges = [(Decimal("-Infinity"), f"below {numbers[0]}"), *zip(numbers, labels, strict=True)]
    else:
        raise ValueError("needs the lower edges of the bands, smallest first")
    if any(this >= following for (this, _), (following, _) in pairwise(edges)):
        raise ValueError("needs edges that rise")
    return tuple(edges)


def _style(raw: object) -> Style:
    match raw:
        case None:
            return Style()
        case str():
            return Style(code=raw)
        case {**settings} if settings.keys() <= {"code", "locale"} and all(settings.values()):
            return Style(**{str(key): str(value) for key, value in settings.items()})
        case _:
            raise ValueError("needs a currency code, or `code` and `locale`")


def _date_format(raw: object) -> str:
    """Turn DD.MM.YYYY into what strftime knows; nothing but these parts and marks between them."""
    if (
        not isinstance(raw, str)
        or not re.fullmatch(r"(YYYY|YY|MM|DD|[-./, ])+", raw)
        or not raw.strip("-./, ")
    ):
        raise ValueError(
            "needs YYYY, YY, MM and DD with dots, dashes, slashes, commas or spaces between them"
        )
    return re.sub("YYYY|YY|MM|DD", lambda part: _DATE_PARTS[part[0]], raw.strip())


def _text(value: Value) -> ir.StringValue:
    return written(value)


def _title(value: Value, _: object) -> ir.Value:
    return _text(value).split(" ").map(lambda word: word.capitalize()).join(" ")


def _humanise(value: Value, _: object) -> ir.Value:
    words = cleaned(_text(value).replace("_", " "))
    return words[:1].upper() + words[1:]


def _truncate(value: Value, most: int) -> ir.Value:
    text = _text(value)
    head = rf".{{{most // 2},{most - 1}}}"
    shortened = text.re_replace(rf"^(?:({head}) .*|(.{{{most - 1}}}).*)$", rf"\1\2{ELLIPSIS}")
    return (text.length() > most).ifelse(shortened, text)


def _replace(value: Value, pairs: dict[str, str]) -> ir.Value:
    text = _text(value)
    return text.cases(*pairs.items(), else_=text)


def _default(value: Value, text: str) -> ir.Value:
    if value.kind not in NUMERIC:
        return value.expression.fill_null(ibis.literal(text))
    number = _number(text)
    if value.kind is Kind.INTEGER:
        if number != int(number):
            raise ValueError(f'needs a whole number here, and "{text}" is none')
        return value.expression.fill_null(ibis.literal(int(number), dt.int64))
    return decimal(value).fill_null(ibis.literal(number, dt.Decimal(38, 6)))


def _round(value: Value, places: int) -> ir.Value:
    return decimal(value).round(places)


def _percent(value: Value, places: int) -> ir.Value:
    # Six places are what a share has; times a hundred they must not overflow DECIMAL(38).
    share = decimal(value).try_cast(dt.Decimal(28, 6))
    number = Value(expression=(share * ibis.literal(100, dt.int16)).round(places), kind=Kind.NUMBER)
    return written(number) + ibis.literal("%")


def _band(value: Value, edges: tuple[tuple[Decimal, str], ...]) -> ir.Value:
    number = decimal(value)
    cases = [
        (
            number.notnull() if not edge.is_finite() else number >= ibis.literal(edge, dt.Decimal(38, 6)),
            ibis.literal(label),
        )
        for edge, label in reversed(edges)
    ]
    return ibis.cases(*cases)


def _first(value: Value, _: object) -> ir.Value:
    items: Any = value.expression
    return cleaned(items.filter(lambda item: item.notnull())[0])


def _yes_no(value: Value, words: tuple[str, str]) -> ir.Value:
    condition: Any = value.expression
    return answer(condition, *words)


_WORDS = frozenset({Kind.TEXT})

_ALL: Final = (
    Transform(
        name="lower",
        takes=_WORDS,
        gives=None,
        description="Small letters.",
        example=Example(step="lower", given="Wall Decor", result="wall decor"),
        read=_nothing,
        apply=lambda value, _: _text(value).lower(),
    ),
    Transform(
        name="upper",
        takes=_WORDS,
        gives=None,
        description="Capital letters.",
        example=Example(step="upper", given="Wall Decor", result="WALL DECOR"),
        read=_nothing,
        apply=lambda value, _: _text(value).upper(),
    ),
    Transform(
        name="title",
        takes=_WORDS,
        gives=None,
        description="Each word with a capital first letter, the others small.",
        example=Example(step="title", given="WHITE HANGING HEART", result="White Hanging Heart"),
        read=_nothing,
        apply=_title,
    ),
    Transform(
        name="humanise",
        takes=_WORDS,
        gives=None,
        description="A name as words: underscores become spaces, the first letter a capital.",
        example=Example(step="humanise", given="wall_decor", result="Wall decor"),
        read=_nothing,
        apply=_humanise,
    ),
    Transform(
        name="truncate",
        takes=_WORDS,
        gives=None,
        description="At most so many characters, cut at a word, with an ellipsis.",
        example=Example(
            step="truncate: 20", given="White hanging heart light holder", result="White hanging heart…"
        ),
        argument={"type": "integer", "minimum": 4, "maximum": 500},
        argument_required=True,
        read=_whole(4, 500),
        apply=_truncate,
    ),
    Transform(
        name="replace",
        takes=frozenset({Kind.TEXT, Kind.INTEGER, Kind.BOOLEAN}),
        gives=Kind.TEXT,
        description="Other words for known values; a value that is not listed stays.",
        example=Example(
            step="replace: {champions: Our best customers}", given="champions", result="Our best customers"
        ),
        argument={
            "type": "object",
            "additionalProperties": {"type": ["string", "number"]},
            "minProperties": 1,
        },
        argument_required=True,
        read=_pairs,
        apply=_replace,
    ),
    Transform(
        name="default",
        takes=NUMERIC | {Kind.TEXT},
        gives=None,
        description="A value of our own for contacts that have none; the field's `default` leaves them empty.",
        example=Example(step="default: 0", given="", result="0"),
        argument={"type": ["string", "number"]},
        argument_required=True,
        read=_one_text,
        apply=_default,
    ),
    Transform(
        name="round",
        takes=NUMERIC,
        gives=None,
        description="So many decimals, none when not said; halves go away from zero.",
        example=Example(step="round: 1", given="12.25", result="12.3"),
        argument={"type": "integer", "minimum": 0, "maximum": 4},
        read=_whole(0, 4, otherwise=0),
        apply=_round,
    ),
    Transform(
        name="percent",
        takes=frozenset({Kind.NUMBER}),
        gives=Kind.TEXT,
        description="A share from 0 to 1 in hundredths, with so many decimals, none when not said.",
        example=Example(step="percent", given="0.425", result="43%"),
        argument={"type": "integer", "minimum": 0, "maximum": 4},
        read=_whole(0, 4, otherwise=0),
        apply=_percent,
    ),
    Transform(
        name="band",
        takes=NUMERIC,
        gives=Kind.TEXT,
        description="The band that a number lies in, by lower edges or by label and lower edge; an edge belongs to the band above it.",
        example=Example(step="band: [0, 100, 500]", given="100", result="100-500"),
        argument={
            "anyOf": [
                {"type": "array", "items": {"type": "number"}, "minItems": 1},
                {"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 1},
            ]
        },
        argument_required=True,
        read=_bands,
        apply=_band,
    ),
    Transform(
        name="currency",
        takes=NUMERIC,
        gives=Kind.TEXT,
        description="An amount with its sign, as the locale (`en` when not said) writes it; a product's price knows its own currency.",
        example=Example(step="currency: {code: EUR, locale: de}", given="1234.5", result="1.234,50\xa0€"),
        argument={
            "anyOf": [
                _TEXT_SCHEMA,
                {
                    "type": "object",
                    "properties": {"code": _TEXT_SCHEMA, "locale": _TEXT_SCHEMA},
                    "additionalProperties": False,
                },
            ]
        },
        read=_style,
        apply=amount,
    ),
    Transform(
        name="yes_no",
        takes=frozenset({Kind.BOOLEAN}),
        gives=Kind.TEXT,
        description="Two words for true and false; yes and no when not said.",
        example=Example(step="yes_no: [Ja, Nein]", given="yes", result="Ja"),
        argument={"type": "array", "items": _TEXT_SCHEMA, "minItems": 2, "maxItems": 2},
        read=_yes_no_words,
        apply=_yes_no,
    ),
    Transform(
        name="date",
        takes=TIMES,
        gives=Kind.TEXT,
        description="A day as a text for readers; a field of type `date` needs none of this.",
        example=Example(step="date: DD.MM.YYYY", given="2011-12-09", result="09.12.2011"),
        argument={"type": "string", "pattern": "^(YYYY|YY|MM|DD|[-./, ])+$"},
        argument_required=True,
        read=_date_format,
        apply=lambda value, form: day(value).strftime(form),
    ),
    Transform(
        name="month_day",
        takes=TIMES,
        gives=Kind.TEXT,
        description="A day without its year as a text; a field of type `birthday` needs none of this.",
        example=Example(step="month_day", given="1984-02-29", result="02/29"),
        read=_nothing,
        apply=lambda value, _: day(value).strftime("%m/%d"),
    ),
    Transform(
        name="join",
        takes=frozenset({Kind.TEXT_LIST}),
        gives=Kind.TEXT,
        description="A list as one text, with a comma and a space between the items when not said.",
        example=Example(step='join: " / "', given="wall_decor, garden", result="wall_decor / garden"),
        argument=_TEXT_SCHEMA,
        read=_separator,
        apply=lambda value, separator: joined(value.expression, separator),
    ),
    Transform(
        name="first",
        takes=frozenset({Kind.TEXT_LIST}),
        gives=Kind.TEXT,
        description="The first item of a list.",
        example=Example(step="first", given="wall_decor, garden", result="wall_decor"),
        read=_nothing,
        apply=_first,
    ),
)

TRANSFORMS: Final[dict[str, Transform]] = {transform.name: transform for transform in _ALL}
