"""What an answer means: a success, or what to do about it. No request is made and nothing is waited for here.

No ESP's words: a connector brings rows of its own, and says where in its answers the code of an error stands.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from .answers import Reply, parse, rate_limit_headers, retry_after
from .turns import Feedback

HARMLESS: Final = re.compile(r"[A-Za-z0-9_.:' -]{1,80}")
"""What a code or an id may look like to be repeated."""


class Verdict(StrEnum):
    """What to do about an answer that is no success: the recovery, not the place where it went wrong."""

    AUTHENTICATION = "authentication"  # the key is refused: stop
    THROTTLED = "throttled"  # not carried out: slow down, costs no attempt
    TRANSIENT = "transient"  # passes by itself; may have been carried out
    REFUSED = "refused"  # understood, and refused for its contents
    BROKEN = "broken"  # the two sides do not speak the same language: stop


STATUS_VERDICTS: Final[Mapping[int, Verdict]] = {
    400: Verdict.REFUSED,
    401: Verdict.AUTHENTICATION,
    403: Verdict.AUTHENTICATION,
    404: Verdict.REFUSED,
    408: Verdict.TRANSIENT,
    409: Verdict.REFUSED,
    410: Verdict.REFUSED,
    413: Verdict.REFUSED,
    422: Verdict.REFUSED,
    423: Verdict.TRANSIENT,
    425: Verdict.TRANSIENT,
    429: Verdict.THROTTLED,
    501: Verdict.BROKEN,
}
"""What each status means; other 5xx are transient and anything else is broken. Connectors add (status, code) rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came back and what it means; `verdict` is None for a success."""

    status: int = 0  # 0: no whole answer
    verdict: Verdict | None = Verdict.TRANSIENT
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    body: Any = None
    retry_after: float | None = None

    @property
    def request_id(self) -> str:
        """The ESP's own id of the request, empty when there is none that can be repeated."""
        found = self.headers.get("X-Request-Id", "")
        return found if HARMLESS.fullmatch(found) else ""


SILENCE: Final = Heard()


def problem_title(body: Any) -> str:
    """Give the stable code of an RFC 9457 problem document, empty for anything else."""
    return str(body["title"]) if isinstance(body, dict) and body.get("title") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How an ESP speaks. `label` is how messages name it, `headers` go with every request.

    `errors` adds rows to `STATUS_VERDICTS`, keyed by status and by the code that `code_of` finds in an error's body.
    `feedback_of` finds in an answer's headers how much the account has left.
    """

    label: str
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[tuple[int, str], Verdict] = field(default_factory=dict)
    code_of: Callable[[Any], str] = problem_title
    feedback_of: Callable[[Mapping[str, str]], Feedback | None] = rate_limit_headers


def judge(reply: Reply, dialect: Dialect) -> Heard:
    """Say what a whole answer means. A success that is no JSON, and not silent by design, is mangled."""
    status = reply.status
    body, parsed = parse(reply)
    code = ""
    if 200 <= status < 300:
        silent = status in {HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT}
        verdict = None if parsed or (silent and not reply.content) else Verdict.TRANSIENT
    elif not parsed and reply.content and "json" in reply.headers.get("Content-Type", ""):
        # Half of a refusal says nothing about what is refused.
        verdict = Verdict.THROTTLED if status == HTTPStatus.TOO_MANY_REQUESTS else Verdict.TRANSIENT
    else:
        code = dialect.code_of(body) if parsed else ""
        row = dialect.errors.get((status, code)) or STATUS_VERDICTS.get(status)
        verdict = row or (Verdict.TRANSIENT if 500 <= status < 600 else Verdict.BROKEN)
    return Heard(
        status=status,
        headers=reply.headers,
        verdict=verdict,
        code=code,
        body=body,
        retry_after=retry_after(reply),
    )
