"""The one way out to an ESP: a session per account, timeouts, retry, status -> error, counters, redaction.

No ESP's words and no decision about a contact live here: a connector adds rows to the error table and reads answers.

Three decisions. A request that could raise somebody's consent is sent once (`retry=False`): a resend would carry an
answer of the consent gate that is older than the person's last word, so it goes back to the gate instead. An answer
that never came, or came mangled, is not a failure: for such a request it is `OutcomeUnknownError`; every other write
is safe to repeat, is repeated, and ends as `RetryableError`. Being told to slow down costs no attempt, only time, and
holds back all threads of the account; the loser, a wait per thread, sends the whole crowd into the same closed door.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from ipaddress import ip_address
from json import dumps, loads
from math import isfinite
from threading import Lock
from typing import Any, Final, NoReturn, Self
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter, wait_random
from urllib3.exceptions import NewConnectionError

from ..core.errors import (
    AuthenticationError,
    DestinationError,
    OutcomeUnknownError,
    RejectedBatchError,
    RetryableError,
)
from .limiter import Clock, Limiter

_LOG = logging.getLogger(__name__)

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# Hashes of addresses, and addresses, that an ESP wants in a path. Neither belongs in a message.
_PERSONAL: Final = re.compile(r"(?<=/)(?:[0-9a-fA-F]{32,}|[^/]*(?:@|%40)[^/]*)")
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_.:' -]{1,80}")  # what a code or an id may look like to be repeated

_Query = Mapping[str, Any] | Sequence[tuple[str, Any]]


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


class RefusedRequestError(RejectedBatchError):
    """The ESP understood a request and refused its contents. `body` is its parsed answer: personal, never printed."""

    def __init__(self, message: str, *, status: int, code: str, body: Any) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one call goes on. Waits double from `first_wait`; no attempt starts after `total_seconds`."""

    attempts: int = 5
    total_seconds: float = 180.0
    first_wait: float = 0.5
    longest_wait: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to connect and to wait for the next byte; an ESP's own limit should end first, with a clear answer."""

    connect: float = 10.0
    read: float = 130.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A success. `body` is parsed JSON, None where the ESP says nothing by design (204)."""

    status: int
    body: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What went out so far. Every attempt is a request; `seconds` is the sum over simultaneous requests."""

    by_method: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    throttled: int = 0
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """All requests."""
        return sum(self.by_method.values())

    @property
    def reads(self) -> int:
        """Requests that change nothing."""
        return sum(count for method, count in self.by_method.items() if method in READS)

    @property
    def writes(self) -> int:
        """Requests that may change something."""
        return self.requests - self.reads


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    params: _Query | None
    data: bytes | None
    retry: bool

    @property
    def place(self) -> str:
        """Give what a message may say of this request: no address, no hash of one, no query, no contents."""
        return f"{self.method} {_PERSONAL.sub('…', self.path)}"


class _PassingError(Exception):
    """One attempt failed in a way that passes, and the ESP may or may not have carried it out."""

    def __init__(self, error: RetryableError, *, may_have_happened: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.may_have_happened = may_have_happened


class _Budget:
    """Decides for one call whether and when to try again."""

    def __init__(self, patience: Patience, clock: Clock) -> None:
        self._patience = patience
        self._clock = clock
        self._started = clock.now()
        self._spent = 0
        self._backoff = wait_exponential_jitter(multiplier=patience.first_wait, max=patience.longest_wait)
        self._spread = wait_random(0, 1)  # those who were told the same second do not come back in it

    def wait(self, state: RetryCallState) -> float:
        after = _failure(state).error.retry_after
        return self._backoff(state) if after is None else after + self._spread(state)

    def stop(self, state: RetryCallState) -> bool:
        if not _failure(state).error.throttled:
            self._spent += 1
        elapsed = self._clock.now() - self._started
        return (
            self._spent >= self._patience.attempts
            or elapsed + state.upcoming_sleep > self._patience.total_seconds
        )


def _failure(state: RetryCallState) -> _PassingError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _PassingError)  # noqa: S101 - the only error that `Retrying` is told to catch
    return error


def problem_title(body: Any) -> str:
    """Give the stable code of an RFC 9457 problem document, empty for anything else."""
    return str(body["title"]) if isinstance(body, dict) and body.get("title") else ""


class Transport:
    """One account's way out. Safe to share between threads; close it, or use it as a context manager.

    `errors` adds rows to `STATUS_VERDICTS`, keyed by status and by the code that `code_of` finds in an error's parsed
    body (empty when the body is no JSON). `label` is how messages name the ESP.
    """

    def __init__(
        self,
        base_url: str,
        *,
        label: str,
        auth: AuthBase | tuple[str, str],
        limiter: Limiter,
        errors: Mapping[tuple[int, str], Verdict] | None = None,
        code_of: Callable[[Any], str] = problem_title,
        timeouts: Timeouts | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._host = urlsplit(self.base_url).hostname or ""
        self._local = _is_loopback(self._host)
        self._label = label
        self._limiter = limiter
        self._errors = dict(errors or {})
        self._code_of = code_of
        self._timeouts = timeouts or Timeouts()
        self._patience = patience or Patience()
        self._lock = Lock()
        self._methods = Counter[str]()
        self._retries = self._throttled = 0
        self._seconds = 0.0
        self._session = requests.Session()
        self._session.auth = auth
        self._session.headers.update({"User-Agent": "segue", "Accept": "application/json"})
        # Threads share the session: without cookies it holds nothing that one request could leave for another.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.trust_env = not self._local  # a company's proxy cannot reach this machine's sandbox
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=limiter.concurrency)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def traffic(self) -> Traffic:
        """Give a snapshot of the counters since the transport was made."""
        with self._lock:
            return Traffic(
                by_method=dict(self._methods),
                retries=self._retries,
                throttled=self._throttled,
                seconds=self._seconds,
            )

    def request(
        self, method: str, path: str, *, params: _Query | None = None, json: Any = None, retry: bool = True
    ) -> Answer:
        """Send one request below the base URL and give its success, trying again where that is safe.

        `retry=False` is for requests that can raise consent: sent at most once, and raises OutcomeUnknownError when
        nobody can say what became of it. Raises RetryableError when patience ended, AuthenticationError,
        RefusedRequestError, or DestinationError when the answer makes no sense.
        """
        data = None if json is None else dumps(json, ensure_ascii=False, separators=(",", ":")).encode()
        request = _Request(method=method, path=path, params=params, data=data, retry=retry)
        budget = _Budget(self._patience, self._limiter.clock)
        retrying = Retrying(
            retry=retry_if_exception_type(_PassingError),
            wait=budget.wait,
            stop=budget.stop if retry else lambda _: True,
            before_sleep=self._count_retry,
            sleep=self._limiter.clock.sleep,
            reraise=True,
        )
        try:
            return retrying(self._attempt, request)
        except _PassingError as passing:
            if passing.may_have_happened and not retry and method not in READS:
                raise OutcomeUnknownError(
                    f"{passing.error.message} Whether it happened is not known; it is asked before anything is sent again."
                ) from None
            raise passing.error from None

    def _attempt(self, request: _Request) -> Answer:
        if not request.retry and (closed := self._limiter.closed_for()):
            self._pass(request, "is told to wait", retry_after=closed, throttled=True, happened=False)
        with self._limiter.slot():
            started = self._limiter.clock.now()
            try:
                response = self._session.request(
                    request.method,
                    self.base_url + request.path,
                    params=request.params,
                    data=request.data,
                    headers={"Content-Type": "application/json"} if request.data else None,
                    timeout=(self._timeouts.connect, self._timeouts.read),
                    allow_redirects=False,  # would turn a POST into a GET, and carry the key elsewhere
                )
            except requests.RequestException as error:
                self._judge_silence(request, error)
            finally:
                with self._lock:
                    self._methods[request.method] += 1
                    self._seconds += self._limiter.clock.now() - started
        _LOG.debug("%s: %s answered %d", self._label, request.place, response.status_code)
        return self._judge(request, response)

    def _judge_silence(self, request: _Request, error: requests.RequestException) -> NoReturn:
        """Turn a missing answer into an error. What cannot have reached the ESP did not happen."""
        reason = getattr(error.args[0], "reason", None) if error.args else None
        match error:
            case requests.exceptions.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise DestinationError(
                    f"{self._label}: {self._host} shows a certificate that this machine does not trust. "
                    "Check the base URL, or add the proxy's certificate to REQUESTS_CA_BUNDLE."
                ) from None
            case requests.exceptions.ConnectionError() if self._local and isinstance(
                reason, NewConnectionError
            ):
                # Nobody starts a program on this machine while we wait.
                raise RetryableError(
                    f"{self._label}: cannot reach {self.base_url}. Is the sandbox running? Start it, then run again."
                ) from None
            case requests.exceptions.ConnectTimeout() | requests.exceptions.ProxyError():
                self._pass(request, f"cannot reach {self._host}", happened=False)
            case requests.exceptions.ConnectionError() if isinstance(reason, NewConnectionError):
                self._pass(request, f"cannot reach {self._host}", happened=False)
            case (
                requests.exceptions.ConnectionError()
                | requests.exceptions.Timeout()
                | requests.exceptions.ChunkedEncodingError()
                | requests.exceptions.ContentDecodingError()
            ):
                self._pass(request, f"got no whole answer ({type(error).__name__})", happened=True)
            case _:
                raise DestinationError(
                    f"{self._label}: {request.place} cannot be sent ({type(error).__name__}). Check the base URL."
                ) from None

    def _judge(self, request: _Request, response: requests.Response) -> Answer:
        status = response.status_code
        body, parsed = _parse(response)
        if not 200 <= status < 300:
            self._judge_failure(request, response, self._code_of(body) if parsed else "", body)
        silent = status in {HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT}
        if not parsed and not (silent and not response.content):
            self._pass(request, f"got a mangled answer ({status})", happened=True)
        return Answer(status=status, body=body)

    def _judge_failure(
        self, request: _Request, response: requests.Response, code: str, body: Any
    ) -> NoReturn:
        status = response.status_code
        said = f"{status} {code if _HARMLESS.fullmatch(code) else ''}".strip() + _request_id(response)
        after = _retry_after(response)
        match self._verdict(status, code):
            case Verdict.THROTTLED:
                self._limiter.feedback(retry_after=after)
                with self._lock:
                    self._throttled += 1
                what = f"is told to slow down ({said})"
                self._pass(request, what, retry_after=after, throttled=True, happened=False)
            case Verdict.TRANSIENT:
                # A server that names a time to come back, or never got the whole request, did not carry it out.
                unavailable = status == HTTPStatus.SERVICE_UNAVAILABLE and after is not None
                happened = not unavailable and status not in {408, 425}
                self._pass(request, f"failed ({said})", retry_after=after, happened=happened)
            case Verdict.AUTHENTICATION:
                raise AuthenticationError(
                    f"{self._label} refuses the key ({said} on {request.place}). "
                    "Check that the key is complete, active and belongs to this account."
                )
            # A 404 that is no problem document speaks of the address we call, not of what we ask for.
            case Verdict.REFUSED if body is not None or status != HTTPStatus.NOT_FOUND:
                raise RefusedRequestError(
                    f"{self._label} refuses {request.place} ({said}).", status=status, code=code, body=body
                )
            case Verdict.REFUSED | Verdict.BROKEN:
                raise DestinationError(
                    f"{self._label}: {request.place} is not understood ({said}). Check the base URL."
                )

    def _verdict(self, status: int, code: str) -> Verdict:
        row = self._errors.get((status, code)) or STATUS_VERDICTS.get(status)
        return row or (Verdict.TRANSIENT if 500 <= status < 600 else Verdict.BROKEN)

    def _pass(
        self,
        request: _Request,
        what: str,
        *,
        happened: bool,
        retry_after: float | None = None,
        throttled: bool = False,
    ) -> NoReturn:
        message = f"{self._label}: {request.place} {what}."
        raise _PassingError(
            RetryableError(message, retry_after=retry_after, throttled=throttled), may_have_happened=happened
        ) from None

    def _count_retry(self, _: RetryCallState) -> None:
        with self._lock:
            self._retries += 1


def _parse(response: requests.Response) -> tuple[Any, bool]:
    """Give the parsed JSON body and whether there was one."""
    if "json" not in response.headers.get("Content-Type", ""):
        return None, False
    try:
        return loads(response.content), True
    except ValueError:  # also what is not UTF-8
        return None, False


def _retry_after(response: requests.Response) -> float | None:
    """Give the seconds that `Retry-After` asks for, in either of its forms; None when unsaid or unreadable."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            sent = response.headers.get("Date")
            now = parsedate_to_datetime(sent) if sent else datetime.now(UTC)
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (ValueError, TypeError):  # no date either, or one with a zone against one without
            return None
    return max(0.0, seconds) if isfinite(seconds) else None


def _request_id(response: requests.Response) -> str:
    found = response.headers.get("X-Request-Id", "")
    return f", request {found}" if _HARMLESS.fullmatch(found) else ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
