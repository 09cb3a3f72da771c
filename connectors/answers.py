"""Reads answers off the wire: their bytes under a time limit, their JSON, and the headers that say when to come back.

What an answer means for a request is not decided here.
"""

import json
import re
from codecs import lookup
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Final

import orjson
import requests

from .turns import Feedback

_CHUNK: Final = 65_536
_LARGEST: Final = 64 * 2**20  # bytes; what is beyond is no answer to anything that we ask
_EPOCH_FROM: Final = 1e9  # a larger "reset" is an instant, a smaller one a number of seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer, as it came."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class OverdueError(Exception):
    """The answer did not end in time, although something of it kept coming."""


class OversizeError(Exception):
    """The answer did not end at the size of any answer that makes sense."""


def read(response: requests.Response, *, deadline: float, now: Callable[[], float]) -> Reply:
    """Read a response that was asked for with `stream=True` to its end, a piece at a time.

    Raises OverdueError, OversizeError, and whatever urllib3 raises when it breaks off.
    """
    pieces, size = [], 0
    while piece := response.raw.read1(_CHUNK, decode_content=True):
        size += len(piece)
        if size > _LARGEST:
            raise OversizeError
        if now() > deadline:
            raise OverdueError
        pieces.append(piece)
    return Reply(status=response.status_code, headers=response.headers, content=b"".join(pieces))


def parse(reply: Reply) -> tuple[Any, bool]:
    """Give the parsed JSON body and whether there was one."""
    kind = Message()
    kind["Content-Type"] = reply.headers.get("Content-Type", "")
    if "json" not in kind.get_content_type():
        return None, False
    charset = kind.get_content_charset("utf-8")
    if charset == "utf-8":
        # Far faster than json, which then takes what this one is too strict for.
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(reply.content), True
    try:
        # Without a declared charset, or with the right one, json finds out which UTF it is.
        unicode = lookup(charset).name.startswith("utf")
        return json.loads(reply.content if unicode else reply.content.decode(charset)), True
    except (ValueError, LookupError, RecursionError):
        return None, False


def retry_after(reply: Reply) -> float | None:
    """Give the seconds that `Retry-After` asks for, in either of its forms; None when unsaid or unreadable."""
    text = reply.headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - _sent_at(reply.headers)).total_seconds()
        except (ValueError, TypeError):  # no date either, or one with a zone against one without
            return None
    return max(0.0, seconds) if isfinite(seconds) else None


def rate_limit_headers(headers: Mapping[str, str]) -> Feedback | None:
    """Read how many requests are left and until when, from the headers that most vendors use.

    `RateLimit` as the IETF drafts have it, one header or several, or the same with an `X-` before it. The "reset" of
    some is an instant, of others a number of seconds.
    """
    if combined := headers.get("RateLimit"):
        left = re.search(r"\b(?:r|remaining)=(\d+)", combined)
        reset = re.search(r"\b(?:t|reset)=(\d+)", combined)
        said = (left and left[1], reset and reset[1])
    else:
        said = next(
            (
                (headers[f"{name}-Remaining"], headers.get(f"{name}-Reset"))
                for name in ("RateLimit", "X-RateLimit", "X-Rate-Limit")
                if f"{name}-Remaining" in headers
            ),
            (None, None),
        )
    try:
        remaining, seconds = int(said[0] or ""), float(said[1] or "")
        if seconds >= _EPOCH_FROM:
            seconds -= _sent_at(headers).timestamp()
    except (ValueError, TypeError):
        return None
    if remaining < 0 or not isfinite(seconds):
        return None
    return Feedback(remaining=remaining, reset_seconds=max(0.0, seconds))


def _sent_at(headers: Mapping[str, str]) -> datetime:
    """Give the server's own time where it says it: its clock and ours may differ."""
    sent = headers.get("Date")
    return parsedate_to_datetime(sent) if sent else datetime.now(UTC)
