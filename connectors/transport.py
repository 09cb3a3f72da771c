"""The one way out to an ESP: a session per account, timeouts, retry, status -> error, events, redaction.

No ESP's words and no decision about a contact live here: a connector adds rows to the error table and reads answers.
When a request may go is the limiter's and the circuit's; how bytes become an answer, `answers.py`'s.

Three decisions. A request that could raise somebody's consent is sent once (`retry=False`): a resend would carry an
answer of the consent gate that is older than the person's last word, so it goes back to the gate instead. An answer
that never came, or came mangled, is not a failure: for such a request it is `OutcomeUnknownError`; every other write
is safe to repeat, is repeated, and ends as `RetryableError`. Being told to slow down costs no attempt, only time, and
holds back all threads of the account; the loser, a wait per thread, sends the whole crowd into the same closed door.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from ipaddress import ip_address
from typing import Any, Final, NoReturn, Self
from urllib.parse import urlsplit
from weakref import WeakSet

import requests
import structlog
from orjson import dumps
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from tenacity import Retrying, retry_if_exception_type
from urllib3.exceptions import HTTPError, NewConnectionError

from ..core.errors import (
    AuthenticationError,
    DestinationError,
    OutcomeUnknownError,
    RejectedBatchError,
    RetryableError,
)
from .answers import OverdueError, OversizeError, read
from .circuit import REST, Circuit
from .limiter import Limiter, NoTurnError
from .meter import QUERY, READS, Meter, Traffic
from .patience import Budget, PassingError, Patience
from .turns import SharedTurns
from .verdicts import HARMLESS, SILENCE, Dialect, Heard, Verdict, judge

_LOG = structlog.get_logger(__name__)

_GATED_WAIT: Final = 1.0
"""Seconds that a request that can raise consent waits for its turn: the gate's answer grows old meanwhile."""

# Hashes of addresses, and addresses, that an ESP wants in a path. Neither belongs in a message.
_PERSONAL: Final = re.compile(r"(?<=/)(?:[0-9a-fA-F]{32,}|[^/]*(?:@|%40)[^/]*)")

_Query = Mapping[str, Any] | Sequence[tuple[str, Any]]


class RefusedRequestError(RejectedBatchError):
    """The ESP understood a request and refused its contents. `body` is its parsed answer: personal, never printed."""

    def __init__(self, message: str, *, status: int, code: str, body: Any) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to connect, to wait for the next byte, and until the last byte of the answer.

    An ESP's own limit should end first, with a clear answer.
    """

    connect: float = 10.0
    read: float = 130.0
    total: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A success. `body` is parsed JSON, None where the ESP says nothing by design (204)."""

    status: int
    body: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    params: _Query | None
    data: bytes | None
    retry: bool
    asks: bool
    lane: str

    @property
    def place(self) -> str:
        """Give what a message may say of this request: no address, no hash of one, no query, no contents."""
        return f"{self.method} {self.shown_path}"

    @property
    def shown_path(self) -> str:
        """Give the path without addresses and hashes of them."""
        return _PERSONAL.sub("…", self.path)


class Transport:
    """One account's way out. Safe to share between threads, and after a fork; close it, or use it in a `with`.

    `lanes` are limits of their own, by name, of requests that do not count in the account's.
    """

    def __init__(
        self,
        base_url: str,
        *,
        dialect: Dialect,
        auth: AuthBase | tuple[str, str],
        limiter: Limiter,
        lanes: Mapping[str, Limiter] | None = None,
        timeouts: Timeouts | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._host = urlsplit(self.base_url).hostname or ""
        self._local = _is_loopback(self._host)
        self._auth = auth
        self._limiter = limiter
        self._lanes = {"": limiter, **(lanes or {})}
        self._dialect = dialect
        self._content = {"Content-Type": dialect.media_type}
        self._timeouts = timeouts or Timeouts()
        self.patience = patience or Patience()
        self._start()
        _OPEN.add(self)

    def _start(self) -> None:
        self.recount()
        self.on_attempt: Callable[[str, int, float], None] | None = None
        """Called after each attempt with its method, its HTTP status (0 without a whole answer) and its seconds."""
        self._circuit = Circuit(self._limiter.clock)
        self._session = requests.Session()
        self._session.auth = self._auth
        self._session.headers.update(
            {"User-Agent": "segue", "Accept": self._dialect.media_type, **self._dialect.headers}
        )
        # Threads share the session: without cookies it holds nothing that one request could leave for another.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.trust_env = not self._local  # a company's proxy cannot reach this machine's sandbox
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self._limiter.concurrency)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def start_anew(self) -> None:
        """Begin as a new process's own after a fork: two processes on one connection would get each other's answers."""
        for limiter in self._lanes.values():
            limiter.start_anew()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    @property
    def account(self) -> str:
        """Who the ESP takes us for, told by a hash: all that share a limit there have the same. Not to be shown.

        Where the credentials change by themselves it is the ESP's address alone, so that accounts share what they need
        not.
        """
        whose = ":".join(self._auth) if isinstance(self._auth, tuple) else getattr(self._auth, "whose", "")
        return sha256(f"{self.base_url}\n{whose}".encode()).hexdigest()[:32]

    @property
    def places(self) -> int:
        """How many ordinary requests can be out at once, as far as is known now."""
        return self._limiter.ordinary

    def share(self, turns: SharedTurns) -> None:
        """Keep to the account's limits together with other processes. Call it before the first request."""
        for lane, limiter in self._lanes.items():
            limiter.share(turns, f"{self.account}/{lane}" if lane else self.account)

    def traffic(self) -> Traffic:
        """Give a snapshot of the counters since the transport was made, or since `recount`."""
        return self._meter.traffic()

    def recount(self) -> None:
        """Begin to count anew, where one process does several runs."""
        self._meter = Meter(self._limiter.clock.now(), self._limiter.rate_limits)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: _Query | None = None,
        json: Any = None,
        retry: bool = True,
        asks: bool = False,
        lane: str = "",
    ) -> Answer:
        """Send one request below the base URL and give its success, trying again where that is safe.

        `retry=False` is for requests that can raise consent: sent at most once and without a long wait, and raises
        OutcomeUnknownError when nobody can say what became of it. `asks` says of a POST that it changes nothing. Raises RetryableError when patience ended or the
        account is left alone for a while, AuthenticationError, RefusedRequestError, or DestinationError when the answer
        makes no sense.
        """
        data = None if json is None else dumps(json)
        request = _Request(
            method=method, path=path, params=params, data=data, retry=retry, asks=asks, lane=lane
        )
        budget = Budget(self.patience, self._limiter.clock)
        retrying = Retrying(
            retry=retry_if_exception_type(PassingError),
            wait=budget.wait,
            stop=budget.stop if retry else lambda _: True,
            before_sleep=lambda _: self._meter.retry(),
            sleep=self._limiter.clock.sleep,
            reraise=True,
        )
        try:
            return retrying(self._attempt, request, budget)
        except PassingError as passing:
            if passing.may_have_happened and not retry and method not in READS:
                raise OutcomeUnknownError(
                    f"{passing.error.message} Whether it happened is not known; it is asked before anything is sent again."
                ) from None
            raise passing.error from None

    def _attempt(self, request: _Request, budget: Budget) -> Answer:
        budget.attempt += 1
        if rest := self._circuit.rest():
            self._log("circuit_open", request, budget, seconds=round(rest, 1))
            raise RetryableError(
                f"{self._dialect.label}: {request.place} is not sent, because one request after the other failed. "
                f"The account is asked again in {rest:.0f} seconds.",
                retry_after=rest,
            )
        try:
            limiter = self._lanes[request.lane]
            with limiter.slot(within=budget.left() if request.retry else _GATED_WAIT) as turn:
                heard = self._exchange(request, budget)
                throttled = heard.verdict is Verdict.THROTTLED
                budget.told = f" ({heard.status})" if throttled else ""
                limiter.answered(
                    turn,
                    throttled=throttled,
                    retry_after=heard.retry_after if throttled else None,
                    feedback=self._dialect.feedback_of(heard.headers),
                )
        except NoTurnError as none:
            self._pass(
                request,
                f"is told to wait{budget.told}",
                retry_after=none.seconds,
                throttled=True,
                happened=False,
            )
        if heard.verdict is not None:
            self._fail(request, heard, heard.verdict)
        return Answer(status=heard.status, body=heard.body)

    def _exchange(self, request: _Request, budget: Budget) -> Heard:
        """Send, read the whole answer, say what it means, and write down how it went."""
        clock, heard = self._limiter.clock, SILENCE
        sent = clock.now()
        try:
            with self._session.request(
                request.method,
                self.base_url + request.path,
                params=request.params,
                data=request.data,
                headers=self._content if request.data else None,
                timeout=(self._timeouts.connect, self._timeouts.read),
                allow_redirects=False,  # would turn a POST into a GET, and carry the key elsewhere
                stream=True,
            ) as response:
                reply = read(response, deadline=sent + self._timeouts.total, now=clock.now)
                heard = judge(reply, self._dialect)
        except (requests.RequestException, HTTPError, OverdueError, OversizeError) as error:
            self._judge_silence(request, error)
        finally:
            self._write_down(request, budget, heard, sent)
        return heard

    def _write_down(self, request: _Request, budget: Budget, heard: Heard, sent: float) -> None:
        seconds = self._limiter.clock.now() - sent
        throttled, failed = heard.verdict is Verdict.THROTTLED, heard.verdict is Verdict.TRANSIENT
        self._meter.count(
            QUERY if request.asks else request.method,
            sent=sent,
            seconds=seconds,
            status=heard.status,
            throttled=throttled,
            failed=failed,
        )
        if self.on_attempt is not None:
            self.on_attempt(request.method, heard.status, seconds)
        self._log(
            "throttled" if throttled else "failed" if failed else "request",
            request,
            budget,
            status=heard.status,
            milliseconds=round(seconds * 1000),
            request_id=heard.request_id,
        )
        if failed:
            if self._circuit.failed():
                self._log("circuit_open", request, budget, seconds=REST)
        elif not throttled:
            self._circuit.succeeded()

    def _log(self, event: str, request: _Request, budget: Budget, **more: object) -> None:
        """Log one event about an attempt. `call` is our own id, the same for all attempts of one call."""
        if not structlog.is_configured():  # as it comes, structlog prints to standard output
            return
        write = _LOG.debug if event == "request" else _LOG.warning
        write(
            event,
            esp=self._dialect.label,
            method=request.method,
            path=request.shown_path,
            call=budget.call,
            attempt=budget.attempt,
            **more,
        )

    def _judge_silence(self, request: _Request, error: Exception) -> NoReturn:
        """Turn a missing answer into an error. What cannot have reached the ESP did not happen."""
        reason = getattr(error.args[0], "reason", None) if error.args else None
        match error:
            case requests.exceptions.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise DestinationError(
                    f"{self._dialect.label}: {self._host} shows a certificate that this machine does not trust. "
                    "Check the base URL, or add the proxy's certificate to REQUESTS_CA_BUNDLE."
                ) from None
            case requests.exceptions.ConnectionError() if self._local and isinstance(
                reason, NewConnectionError
            ):
                # Nobody starts a program on this machine while we wait.
                raise RetryableError(
                    f"{self._dialect.label}: cannot reach {self.base_url}. Is the sandbox running? Start it, then run again."
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
                | HTTPError()  # urllib3's own, while the body is read
                | OverdueError()
                | OversizeError()
            ):
                self._pass(request, f"got no whole answer ({type(error).__name__})", happened=True)
            case _:
                raise DestinationError(
                    f"{self._dialect.label}: {request.place} cannot be sent ({type(error).__name__}). Check the base URL."
                ) from None

    def _fail(self, request: _Request, heard: Heard, verdict: Verdict) -> NoReturn:
        status, after = heard.status, heard.retry_after
        said = f"{status} {heard.code if HARMLESS.fullmatch(heard.code) else ''}".strip()
        said += f", request {heard.request_id}" if heard.request_id else ""
        match verdict:
            case Verdict.TRANSIENT if status < 300:
                self._pass(request, f"got a mangled answer ({status})", happened=True)
            case Verdict.THROTTLED:
                what = f"is told to slow down ({said})"
                self._pass(request, what, retry_after=after, throttled=True, happened=False)
            case Verdict.TRANSIENT:
                # A server that names a time to come back, or never got the whole request, did not carry it out.
                unavailable = status == HTTPStatus.SERVICE_UNAVAILABLE and after is not None
                happened = not unavailable and status not in {408, 425}
                self._pass(request, f"failed ({said})", retry_after=after, happened=happened)
            case Verdict.AUTHENTICATION:
                raise AuthenticationError(
                    f"{self._dialect.label} refuses the key ({said} on {request.place}). "
                    "Check that the key is complete, active and belongs to this account."
                )
            # A 404 that is no problem document speaks of the address we call, not of what we ask for.
            case Verdict.REFUSED if heard.body is not None or status != HTTPStatus.NOT_FOUND:
                raise RefusedRequestError(
                    f"{self._dialect.label} refuses {request.place} ({said}).",
                    status=status,
                    code=heard.code,
                    body=heard.body,
                )
            case Verdict.REFUSED | Verdict.BROKEN:
                raise DestinationError(
                    f"{self._dialect.label}: {request.place} is not understood ({said}). Check the base URL."
                )

    def _pass(
        self,
        request: _Request,
        what: str,
        *,
        happened: bool,
        retry_after: float | None = None,
        throttled: bool = False,
    ) -> NoReturn:
        message = f"{self._dialect.label}: {request.place} {what}."
        raise PassingError(
            RetryableError(message, retry_after=retry_after, throttled=throttled), may_have_happened=happened
        ) from None


_OPEN: WeakSet[Transport] = WeakSet()


def _after_fork() -> None:
    for transport in _OPEN:
        transport.start_anew()


os.register_at_fork(after_in_child=_after_fork)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
