"""The first gate of a rule: its text cut into tokens, and what no rule can contain refused at its exact character.

Nothing here knows what a rule means; `core.segments.language` builds the tree out of the tokens that got through.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

from ..errors import ConfigError, Problem
from .rule import FUNCTIONS

FUNCTION_LIST: Final = f"Functions: {', '.join(FUNCTIONS)}."
OPERATOR_LIST: Final = "Operators: = != < <= > >= + - * /, and, or, not, in, between, like, ilike, is null."

_LONGEST: Final = 20_000  # characters of a rule
_MARKS: Final = frozenset(
    {
        TokenType.IDENTIFIER, TokenType.STRING, TokenType.NUMBER, TokenType.L_PAREN, TokenType.R_PAREN,
        TokenType.COMMA, TokenType.EQ, TokenType.NEQ, TokenType.GT, TokenType.GTE, TokenType.LT, TokenType.LTE,
        TokenType.PLUS, TokenType.DASH, TokenType.STAR, TokenType.SLASH,
    }
)  # fmt: skip
# Texts with a letter before the quote: what stands between the quotes may look like a word.
_PREFIXED: Final = frozenset(
    {
        TokenType.NATIONAL_STRING, TokenType.BYTE_STRING, TokenType.RAW_STRING, TokenType.UNICODE_STRING,
        TokenType.BIT_STRING, TokenType.HEX_STRING, TokenType.HEREDOC_STRING,
    }
)  # fmt: skip
# SQL's own words that sqlglot would read as part of something larger; a trait of such a name stands in double quotes.
_REFUSED_WORDS: Final = frozenset(
    {
        "alter", "array", "case", "cast", "collate", "create", "delete", "distinct", "div", "drop", "else", "escape",
        "except", "exists", "from", "glob", "having", "insert", "intersect", "interval", "join", "over", "regexp",
        "rlike", "select", "similar", "symmetric", "then", "try_cast", "union", "unknown", "unnest", "update", "using",
        "when", "where", "with", "xor",
    }
)  # fmt: skip
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One mistake in a rule: `at` is its character in the text, from 0."""

    at: int
    message: str
    next_step: str = ""

    def problem(self, place: str, name: str) -> Problem:
        """Say it for a person: `place` is file and line, `name` what the rule is called there."""
        return Problem(
            where=place,
            message=f"{name}, character {self.at + 1}: {self.message}",
            next_step=self.next_step or None,
        )


class RuleError(ConfigError):
    """A text that is no rule; `faults` hold the places."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.at))
        problems = [fault.problem("the rule", "where") for fault in self.faults]
        super().__init__("\n".join(map(str, problems)), problems=problems)


def tokens_of(text: str) -> list[Token]:
    """Cut the text into tokens and refuse, at its exact character, every one that no rule can contain."""
    if not text.strip():
        raise RuleError(
            [Fault(at=0, message="the rule is empty.", next_step="Write e.g. recency_days > 30.")]
        )
    if len(text) > _LONGEST:
        message = f"the rule has {len(text)} characters; at most {_LONGEST} can be read."
        raise RuleError([Fault(at=_LONGEST, message=message, next_step="Split it with in_segment('name').")])
    try:
        tokens = Tokenizer().tokenize(text)
    except TokenError:
        raise RuleError([_unclosed(text)]) from None
    faults = [fault for token in tokens if (fault := _refused(token))]
    end = 0
    for token in tokens:
        faults += _comment(text, end, token.start)
        end = token.end + 1
    faults += _comment(text, end, len(text))
    if faults := faults or [*_brackets(tokens), *_nulls(tokens)]:
        raise RuleError(faults)
    return tokens


def _refused(token: Token) -> Fault | None:
    if token.token_type in _MARKS:
        return None
    # Any other word may be the name of a trait: sqlglot has words of its own for far more than rules use.
    if (
        _WORD.fullmatch(token.text)
        and token.text.lower() not in _REFUSED_WORDS
        and token.token_type not in _PREFIXED
    ):
        return None
    if token.token_type is TokenType.SEMICOLON:
        return Fault(
            at=token.start, message='";" ends a statement; a rule is one condition.', next_step="Remove it."
        )
    if token.token_type is TokenType.SELECT:
        message = f'"{token.text}" begins a query; a rule is a condition over traits and events.'
        return Fault(at=token.start, message=message, next_step=FUNCTION_LIST)
    hint = f"{OPERATOR_LIST} A trait of such a name stands in double quotes."
    message = f'"{token.text}" is not part of the rule language.'
    return Fault(
        at=token.start, message=message, next_step=hint if _WORD.match(token.text) else OPERATOR_LIST
    )


def _brackets(tokens: list[Token]) -> list[Fault]:
    opened: list[int] = []
    faults: list[Fault] = []
    for token in tokens:
        if token.token_type is TokenType.L_PAREN:
            opened.append(token.start)
        elif token.token_type is TokenType.R_PAREN and opened:
            opened.pop()
        elif token.token_type is TokenType.R_PAREN:
            faults.append(Fault(at=token.start, message='")" closes nothing.', next_step="Remove it."))
    return faults + [Fault(at=at, message='"(" is never closed.', next_step='Add ")".') for at in opened]


def _nulls(tokens: list[Token]) -> list[Fault]:
    """Find each null that does not follow `is` or `is not`: SQL would take it and never be true."""
    kinds = [None, None, *(token.token_type for token in tokens)]
    return [
        Fault(at=token.start, message="nothing equals null.", next_step="Write `is null` or `is not null`.")
        for token, before, one_before in zip(tokens, kinds[1:], kinds, strict=False)
        if token.token_type is TokenType.NULL
        and before is not TokenType.IS
        and (one_before, before) != (TokenType.IS, TokenType.NOT)
    ]


def _comment(text: str, start: int, end: int) -> list[Fault]:
    between = text[start:end]
    if not between.strip():
        return []
    at = start + len(between) - len(between.lstrip())
    next_step = "Remove it; YAML's # comments can stand above the rule."
    return [Fault(at=at, message="a rule cannot hold comments.", next_step=next_step)]


def _unclosed(text: str) -> Fault:
    """Find the quote that is never closed; a quote within a text is written twice, which keeps the count right."""
    at, quote = 0, ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            at, quote = position, character
    if not quote:
        return Fault(at=0, message="a comment is not closed.", next_step="A rule cannot hold comments.")
    what = "text" if quote == "'" else "name"
    next_step = f"Close it with {quote}; write {quote}{quote} for a {quote} within."
    return Fault(at=at, message=f"the {what} that begins here has no end.", next_step=next_step)
