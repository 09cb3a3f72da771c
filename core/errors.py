"""Every error that Segue raises, grouped by what to do about it; the command line turns the class into an exit code.

    SegueError
    ├── ConfigError            fix segue.yml, a mapping or a secret            exit 2
    ├── DataError              fix the shop's data or where it is read from    exit 2
    ├── StoreError             fix the machine: disk, store, snapshot folder   exit 2
    ├── DestinationError       one account is at fault; others go on           exit 3
    │   ├── AuthenticationError    renew the key
    │   ├── RetryableError         wait, then run again
    │   └── UnsupportedFeatureError  change the mapping; said at plan time
    ├── GuardrailError         look at the plan, then override or fix          exit 4
    ├── ConsentError           never retried, always loud                      exit 3
    └── BugError               the fault is ours: report it                    exit 70

A message says what was wrong, with which value, and the next step. It never holds a token or a person's data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in one place. `where` reads like `segue.yml:12` or `orders.csv, column ordered_at`."""

    where: str
    message: str
    next_step: str | None = None

    def __str__(self) -> str:
        hint = f" {self.next_step}" if self.next_step else ""
        return f"{self.where}: {self.message}{hint}"


class SegueError(Exception):
    """The root; catch it at the edge of the program only."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> "SegueError":
        """Build one error that lists all problems, a line each."""
        return cls("\n".join(str(problem) for problem in problems), problems=problems)


class ConfigError(SegueError):
    """The project's own files or secrets are wrong; nothing was read or sent."""


class DataError(SegueError):
    """A source cannot be read, lacks a column, or has too many refused rows; no snapshot was written."""


class StoreError(SegueError):
    """The store or the snapshot folder cannot be read or written; what was committed before stays."""


class DestinationError(SegueError):
    """One account is at fault. Stops that destination; the others go on."""

    exit_code = 3


class AuthenticationError(DestinationError):
    """The account refused the key. Never retried."""


class RetryableError(DestinationError):
    """The account or the network failed in a way that passes. `retry_after` is in seconds, None when unsaid."""

    def __init__(self, message: str, *, retry_after: float | None = None, throttled: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.throttled = throttled


class OutcomeUnknownError(DestinationError):
    """The request went out and no answer came back: it may or may not have happened."""


class UnsupportedFeatureError(DestinationError):
    """The mapping asks for something that this ESP cannot do."""


class RejectedBatchError(DestinationError):
    """The ESP refused a whole request for its contents: one poisoned item hides in it."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class GuardrailError(SegueError):
    """The plan looks wrong enough that a person should look first. Nothing was sent."""

    exit_code = 4


class ConsentError(SegueError):
    """A request would have raised somebody's consent. A bug: loud, never retried."""

    exit_code = 3


class BugError(SegueError):
    """Something that nobody foresaw. What was stored before is untouched."""

    exit_code = 70  # EX_SOFTWARE
