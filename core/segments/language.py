"""The rule language's front door: text in, tree out, or every reason why not, each with its character.

sqlglot reads the SQL; only what `core.segments.rule` has a node for gets through. Nothing here knows which traits
exist (`core.segments.check` does) and nothing here asks a database.

Decision: two gates. Tokens first, because sqlglot keeps no position for most operators and drops comments: whatever
no rule can contain is named at its exact character. Then the tree, node by node, where the unknown is refused. The
parser runs with sqlglot's own function table emptied, so that a function of ours never turns into one of SQL's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Final, cast

from sqlglot import exp
from sqlglot.errors import ParseError
from sqlglot.parser import Parser
from sqlglot.tokenizer_core import Token

from ..settings import parse_duration
from ..yamlfile import suggest
from .rule import (
    FUNCTIONS,
    Among,
    And,
    Arithmetic,
    ArithmeticOperator,
    Between,
    Comparison,
    Constant,
    DaysSince,
    Expression,
    Function,
    Holds,
    InSegment,
    Like,
    Measure,
    Measuring,
    Missing,
    Name,
    Not,
    Operator,
    Or,
    Parameter,
    Rule,
    as_date,
)
from .tokens import FUNCTION_LIST, OPERATOR_LIST, Fault, RuleError, tokens_of

_DEEPEST: Final = 60  # parentheses, `not`s and sums within each other
_LONGEST_WINDOW: Final = timedelta(days=36_525)
_MOST_DIGITS: Final = 15

_COMPARISONS: Final[dict[type[exp.Expr], Operator]] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_ARITHMETIC: Final[dict[type[exp.Expr], ArithmeticOperator]] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
}
# Every node that a rule can have, with all that may hang on it. sqlglot keeps the rest of SQL in further arguments
# (ESCAPE, SYMMETRIC, a subquery after IN): an argument that is not listed is refused, never dropped.
_ARGUMENTS: Final[Mapping[str, frozenset[str]]] = {
    key: frozenset(arguments)
    for arguments, keys in {
        ("this",): ("paren", "not", "neg", "column", "boolean"),
        ("this", "expression"): (
            *("and", "or", "is", "like", "ilike", "eq", "neq", "lt", "lte", "gt", "gte"),
            *("add", "sub", "mul", "div"),
        ),
        ("this", "low", "high"): ("between",),
        ("this", "expressions", "field"): ("in",),
        ("this", "is_string"): ("literal",),
        ("this", "to"): ("cast",),
        ("this", "expressions"): ("anonymous",),
    }.items()
    for key in keys
}


def parse(text: str) -> Rule:
    """Read a rule. Raises RuleError with every place where the text says what a rule cannot say.

    >>> parse("recency_days > 30").condition.operator
    '>'
    """
    tokens = tokens_of(text)
    try:
        return _Builder(text=text, tokens=tokens).rule()
    except RecursionError:
        raise RuleError([_TOO_DEEP]) from None


_TOO_DEEP: Final = Fault(
    at=0,
    message="the rule is nested too deeply.",
    next_step="Give a part of it a name as a segment of its own and use in_segment('name').",
)


class _RuleParser(Parser):
    """sqlglot's parser without SQL's functions: every call stays a call by the name that was written."""

    FUNCTIONS: ClassVar[Any] = {}
    FUNCTION_PARSERS: ClassVar[Any] = {}
    NO_PAREN_FUNCTIONS: ClassVar[Any] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[Any] = {}


@dataclass(slots=True, kw_only=True)
class _Builder:
    """Turns one parsed text into our tree; collects what it has no node for."""

    text: str
    tokens: list[Token]
    faults: list[Fault] = field(default_factory=list)
    depth: int = 0

    def rule(self) -> Rule:
        try:
            parsed = _RuleParser().parse_into(exp.Condition, self.tokens, self.text)
        except ParseError as error:
            raise RuleError([self._syntax(error)]) from None
        tree = parsed[0] if len(parsed) == 1 else None
        if tree is None:
            raise RuleError([Fault(at=0, message="this is not one condition.", next_step=OPERATOR_LIST)])
        condition = self.build(tree)
        if self.faults:
            raise RuleError(self.faults)
        return Rule(text=self.text, condition=condition)

    def _syntax(self, error: ParseError) -> Fault:
        detail = error.errors[0] if error.errors else {}
        place = (detail.get("line"), detail.get("col"))
        token = next((token for token in self.tokens if (token.line, token.col) == place), self.tokens[-1])
        shown = f'"{self.text[token.start : token.end + 1]}"'
        if "missing" in detail.get("description", ""):
            # sqlglot names the last token that it understood, which may stand before the gap or after it.
            return Fault(
                at=token.start, message=f"something is missing beside {shown}.", next_step=OPERATOR_LIST
            )
        next_step = "Join conditions with and/or; put texts in single quotes."
        return Fault(at=token.start, message=f"{shown} does not fit here.", next_step=next_step)

    # One method per gate would hide that this list is closed: what is not matched here is refused.
    def build(self, tree: exp.Expr) -> Expression:  # noqa: C901, PLR0911, PLR0912  (one match over the whole grammar)
        self.depth += 1
        try:
            if self.depth > _DEEPEST:
                raise RuleError([_TOO_DEEP])
            at = self._at(tree)
            if tree.args.get("negate"):  # sqlglot's way to say `not like`
                positive = tree.copy()
                positive.set("negate", None)
                return Not(condition=self.build(positive), at=at)
            if not _given(tree) <= _ARGUMENTS.get(tree.key, frozenset()):
                self._unknown(tree, at)
                return _NOTHING
            match tree:
                case exp.Paren(this=inner):
                    return self.build(inner)
                case exp.And() | exp.Or():
                    parts = tuple(self.build(part) for part in tree.flatten())
                    return (
                        And(conditions=parts, at=at)
                        if isinstance(tree, exp.And)
                        else Or(conditions=parts, at=at)
                    )
                case exp.Not(this=inner):
                    return Not(condition=self.build(inner), at=at)
                case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                    left, right = self.build(tree.this), self.build(tree.expression)
                    return Comparison(operator=_COMPARISONS[type(tree)], left=left, right=right, at=at)
                case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
                    left, right = self.build(tree.this), self.build(tree.expression)
                    return Arithmetic(operator=_ARITHMETIC[type(tree)], left=left, right=right, at=at)
                case exp.Neg(this=inner):
                    return self._negative(inner, at)
                case exp.Between():
                    low, high = self.build(tree.args["low"]), self.build(tree.args["high"])
                    return Between(value=self.build(tree.this), low=low, high=high, at=at)
                case exp.In():
                    return self._in(tree, at)
                case exp.Is():
                    return self._is(tree, at)
                case exp.Like() | exp.ILike():
                    return self._like(tree, at)
                case exp.Column(this=exp.Identifier()):
                    return Name(name=tree.this.name, at=at)
                case exp.Literal() | exp.Boolean() | exp.Cast():
                    return self._constant(tree, at)
                case exp.Anonymous():
                    return self._call(tree, at)
                case _:
                    self._unknown(tree, at)
        finally:
            self.depth -= 1
        return _NOTHING

    def _negative(self, inner: exp.Expr, at: int) -> Expression:
        value = self.build(inner)
        if isinstance(value, Constant) and isinstance(value.value, int | Decimal):
            return Constant(value=-value.value, at=at)
        return Arithmetic(operator="-", left=Constant(value=0, at=at), right=value, at=at)

    def _in(self, tree: exp.In, at: int) -> Expression:
        within = tree.args.get("field")
        options = tree.expressions
        if len(options) == 1 and isinstance(options[0], exp.Column):
            within, options = options[0], []
        if within is not None and not options:
            return self._holds(tree.this, within, at)
        if within is not None or not options:
            self._fault(
                at, "`in` needs a list of values or a list trait.", "Write e.g. country in ('GB', 'FR')."
            )
            return _NOTHING
        value = self.build(tree.this)
        constants: list[Constant] = []
        for option in options:
            built = self.build(option)
            if isinstance(built, Constant):
                constants.append(built)
            else:
                self._fault(self._at(option), "only values can stand in the list of `in`.", _JOIN_WITH_OR)
        return Among(value=value, options=tuple(constants), at=at)

    def _holds(self, item: exp.Expr, within: exp.Expr, at: int) -> Expression:
        said = len(self.faults)
        value, name = self.build(item), self.build(within)
        if isinstance(value, Constant) and isinstance(name, Name):
            return Holds(within=name, value=value, at=at)
        if said == len(self.faults):
            self._fault(
                at, "`in` needs a value before a list trait.", "Write e.g. 'electronics' in top_categories."
            )
        return _NOTHING

    def _is(self, tree: exp.Is, at: int) -> Expression:
        value = self.build(tree.this)
        match tree.expression:
            case exp.Null():
                return Missing(value=value, at=at)
            case exp.Boolean(this=truth):
                return Comparison(operator="=", left=value, right=Constant(value=bool(truth), at=at), at=at)
            case _:
                self._fault(at, "`is` goes with null, true or false only.", "Compare values with =.")
                return _NOTHING

    def _like(self, tree: exp.Expr, at: int) -> Expression:
        said = len(self.faults)
        value, pattern = self.build(tree.this), self.build(tree.expression)
        if isinstance(pattern, Constant) and isinstance(pattern.value, str):
            return Like(value=value, pattern=pattern.value, ignore_case=isinstance(tree, exp.ILike), at=at)
        if said == len(self.faults):
            self._fault(at, "`like` needs a text as its pattern.", "Write e.g. url like '/pricing%'.")
        return _NOTHING

    def _constant(self, tree: exp.Expr, at: int) -> Expression:  # noqa: PLR0911  (a value or a reason why not)
        match tree:
            case exp.Boolean(this=truth):
                return Constant(value=bool(truth), at=at)
            case exp.Literal(this=text) if tree.is_string:
                return Constant(value=text, at=at)
            case exp.Cast(this=exp.Literal(this=text, is_string=True)):
                if (
                    tree.to.this in (exp.DType.DATE, exp.DType.TIMESTAMP)
                    and (value := as_date(text)) is not None
                ):
                    return Constant(value=value, at=at)
                self._fault(at, f"'{text}' is no date.", "Write it as '2024-03-01'.")
            case exp.Literal(this=text):
                try:
                    number = Decimal(text)
                except InvalidOperation:
                    self._fault(at, f"{text} is no number.")
                    return _NOTHING
                _, digits, exponent = number.as_tuple()
                if len(digits) > _MOST_DIGITS or not -_MOST_DIGITS <= cast("int", exponent) <= _MOST_DIGITS:
                    self._fault(
                        at, f"{text} has more digits than a rule can compare ({_MOST_DIGITS}).", "Shorten it."
                    )
                    return _NOTHING
                return Constant(value=int(number) if number == int(number) else number, at=at)
            case _:
                self._unknown(tree, at)
        return _NOTHING

    def _call(self, tree: exp.Anonymous, at: int) -> Expression:
        name = str(tree.this).lower()
        function = FUNCTIONS.get(name)
        if function is None:
            self._fault(at, f'there is no function "{tree.this}".', suggest(name, FUNCTIONS) or FUNCTION_LIST)
            return _NOTHING
        arguments = list(tree.expressions)
        first = arguments[0] if arguments else None
        if name == "days_since" and isinstance(first, exp.Column):
            return self._days_since_trait(function, arguments, at)
        taken: dict[Parameter, Any] = {}
        for parameter in function.required:
            if not arguments or not _is_text(arguments[0]):
                return self._misused(function, self._at(arguments[0]) if arguments else at)
            taken[parameter] = arguments.pop(0)
        for parameter in function.optional:
            if arguments and _is_text(arguments[0]) is (parameter is Parameter.WINDOW):
                taken[parameter] = arguments.pop(0)
        if arguments:
            return self._misused(function, self._at(arguments[0]))
        if function.measuring is None:
            return InSegment(segment=taken[Parameter.SEGMENT].this, at=at)
        return self._measure(function, function.measuring, taken, at)

    def _days_since_trait(self, function: Function, arguments: list[exp.Expr], at: int) -> Expression:
        value = self.build(arguments[0])
        if len(arguments) > 1:
            return self._misused(function, self._at(arguments[1]))
        return DaysSince(value=value, at=at) if isinstance(value, Name) else _NOTHING

    def _measure(
        self, function: Function, measuring: Measuring, taken: dict[Parameter, Any], at: int
    ) -> Expression:
        window = self._duration(taken.get(Parameter.WINDOW))
        wait = self._duration(taken.get(Parameter.WAIT))
        if window is not None and wait is not None and window <= wait:
            self._fault(
                self._at(taken[Parameter.WINDOW]),
                "the window is not longer than the wait, so nothing could ever count.",
                "Give a longer window or none.",
            )
        where = taken.get(Parameter.FILTER)
        answer = taken.get(Parameter.ANSWER)
        measure = Measure(
            measuring=measuring,
            event=taken[Parameter.EVENT].this,
            window=window,
            where=None if where is None else self.build(where),
            answer=None if answer is None else answer.this,
            wait=wait,
            at=at,
        )
        if function.name == "ever":
            return Comparison(operator=">=", left=measure, right=Constant(value=1, at=at), at=at)
        return measure

    def _duration(self, tree: exp.Expr | None) -> timedelta | None:
        if tree is None:
            return None
        try:
            length = parse_duration(tree.this)
        except ValueError as error:
            message, _, advice = str(error).partition(": ")
            self._fault(self._at(tree), f"{message}.", f"{advice[:1].upper()}{advice[1:]}.")
            return None
        if length > _LONGEST_WINDOW:
            self._fault(
                self._at(tree), f"'{tree.this}' is more than 100 years.", "Leave the window out for all time."
            )
            return None
        return length

    def _misused(self, function: Function, at: int) -> Expression:
        self._fault(at, f"{function.name} is not called like this.", f"Write {function.signature}.")
        return _NOTHING

    def _unknown(self, tree: exp.Expr, at: int) -> None:
        what = _UNKNOWN_WORDS.get(tree.key, f'"{tree.key}"')
        self._fault(at, f"{what} is not part of the rule language.", OPERATOR_LIST)

    def _fault(self, at: int, message: str, next_step: str = "") -> None:
        self.faults.append(Fault(at=at, message=message, next_step=next_step))

    def _at(self, tree: exp.Expr) -> int:
        """Find where a node begins: sqlglot marks names, values and calls, from which the leftmost is taken."""
        return min((node.meta["start"] for node in tree.walk() if "start" in node.meta), default=0)


_NOTHING: Final = Constant(value=False)  # stands for what was refused; the faults keep it from being used
_UNKNOWN_WORDS: Final = {
    "attimezone": '"at time zone"',
    "concat": "a text right after a text",
    "star": '"*" without two numbers',
    "tuple": "a list outside of `in`",
}
_JOIN_WITH_OR: Final = "Join comparisons with `or`."


def _given(tree: exp.Expr) -> frozenset[str]:
    return frozenset(name for name, value in tree.args.items() if value not in (None, False, []))


def _is_text(tree: exp.Expr) -> bool:
    return isinstance(tree, exp.Literal) and tree.is_string
