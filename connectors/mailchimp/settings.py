"""The settings of a Mailchimp destination: what they are, and everything that can be wrong with them.

No value is looked up and nothing is sent here; a secret is judged by its shape and never repeated.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Self
from urllib.parse import urlsplit

from ...core.errors import ConfigError, Problem
from ...core.model import RateLimit
from ..patience import Patience

API_VERSION: Final = "3.0"
FIELD_SLOTS: Final = {"standard": 30, "premium": 80}  # merge fields per audience, by plan of the account

LARGEST_BATCH: Final = 500

_KNOWN: Final = ("api_key", "audience", "base_url", "plan", "batch_size", "rate_limit", "retry_wait")
_KEY: Final = re.compile(r"[^\s-]+-([a-z]{2}\d+)")  # ends with the data centre
_RATE: Final = re.compile(r"([1-9]\d{0,8}) per (?:([1-9]\d{0,4}) )?(second|minute)s?")
_WAIT: Final = re.compile(r"(\d{1,2}(?:\.\d{1,3})?)(?: seconds?)?")
_WHERE_AUDIENCE: Final = "It stands in Mailchimp under Audience, Settings, Audience name and defaults."


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One audience of one account. `base_url` follows from the key unless a sandbox is meant.

    `batch_size` caps how many members one request holds. `rate_limit` is ours to keep: Mailchimp documents none, but a
    shop whose other tools use the same account may leave them room. `retry_wait` is in seconds.
    """

    api_key: str
    audience: str
    base_url: str
    plan: str
    batch_size: int
    rate_limits: tuple[RateLimit, ...]
    retry_wait: float

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """Read a destination's settings, secrets already resolved. Raises ConfigError with all problems."""
        if problems := list(_problems(given)):
            raise ConfigError.of(problems)
        key = given["api_key"]
        centre = key.rpartition("-")[2]
        return cls(
            api_key=key,
            audience=given["audience"],
            base_url=given.get("base_url") or f"https://{centre}.api.mailchimp.com/{API_VERSION}",
            plan=given.get("plan", "standard"),
            batch_size=int(given.get("batch_size", LARGEST_BATCH)),
            rate_limits=_rate_limits(given.get("rate_limit")),
            retry_wait=_wait(given.get("retry_wait", "")) or Patience().first_wait,
        )


def _problems(given: Mapping[str, str]) -> Iterator[Problem]:
    for name in sorted(given.keys() - set(_KNOWN)):
        close = get_close_matches(name, _KNOWN, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else f"Settings are: {', '.join(_KNOWN)}."
        yield Problem(where=f"settings.{name}", message="Mailchimp has no such setting.", next_step=hint)
    key, base, plan = given.get("api_key", ""), given.get("base_url", ""), given.get("plan", "standard")
    if not key:
        yield Problem(
            where="settings.api_key",
            message="the key is missing.",
            next_step="Set api_key: env:MAILCHIMP_API_KEY and export that variable.",
        )
    elif not base and _KEY.fullmatch(key) is None:
        yield Problem(
            where="settings.api_key",
            message="this is no whole Mailchimp key: it must end with a dash and the data centre, such as -us19.",
            next_step="Copy it again from Mailchimp under Account, Extras, API keys.",
        )
    if re.fullmatch(r"[0-9A-Za-z]+", given.get("audience", "")) is None:
        yield Problem(
            where="settings.audience",
            message="the audience's id, letters and digits, is missing or malformed.",
            next_step=_WHERE_AUDIENCE,
        )
    if base and not _is_base(base):
        yield Problem(
            where="settings.base_url",
            message=f"it must read http(s)://host/{API_VERSION}, without a key in it.",
            next_step=f"For the sandbox: http://127.0.0.1:8025/{API_VERSION}.",
        )
    if plan not in FIELD_SLOTS:
        known = ", ".join(FIELD_SLOTS)
        yield Problem(
            where="settings.plan", message=f'"{plan}" is no plan we know.', next_step=f"Plans are: {known}."
        )
    size = given.get("batch_size", "1")
    if re.fullmatch(r"[0-9]{1,3}", size) is None or not 1 <= int(size) <= LARGEST_BATCH:
        yield Problem(
            where="settings.batch_size",
            message=f'"{size}" is no number of members from 1 to {LARGEST_BATCH}.',
            next_step=f"Leave it out: {LARGEST_BATCH} costs the fewest requests.",
        )
    rate = given.get("rate_limit")
    if rate is not None and _RATE.fullmatch(rate) is None:
        yield Problem(
            where="settings.rate_limit",
            message=f'"{rate}" does not say how many requests in which time.',
            next_step="Write it like: 100 per 10 seconds.",
        )
    pause = given.get("retry_wait")
    if pause is not None and not _wait(pause):
        yield Problem(
            where="settings.retry_wait",
            message=f'"{pause}" is no number of seconds above 0 and below 100.',
            next_step=f"Leave it out for {Patience().first_wait:g} seconds, or write it like: 0.05 seconds.",
        )


def _rate_limits(text: str | None) -> tuple[RateLimit, ...]:
    match = _RATE.fullmatch(text or "")
    if match is None:
        return ()
    count, span, unit = match.groups()
    return (RateLimit(count=int(count), seconds=float(span or 1) * (60 if unit == "minute" else 1)),)


def _wait(text: str) -> float:
    match = _WAIT.fullmatch(text)
    return float(match[1]) if match else 0.0


def _is_base(text: str) -> bool:
    try:
        url = urlsplit(text)
        _ = url.port  # reading it is what checks it
    except ValueError:
        return False
    named = url.scheme in {"http", "https"} and bool(url.hostname) and not (url.username or url.password)
    # Plain http to the real thing would show the key to everyone on the way.
    safe = url.scheme == "https" or not str(url.hostname).endswith("mailchimp.com")
    return (
        named
        and safe
        and url.path.rstrip("/").endswith(f"/{API_VERSION}")
        and not (url.query or url.fragment)
    )
