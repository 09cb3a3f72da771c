"""What the settings of all connectors share: their words for limits, waits and addresses, and what can be wrong with them.

No ESP's settings are here, and no value is looked up; a secret is judged by its shape and never repeated.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ..core.errors import Problem
from ..core.model import RateLimit
from .patience import Patience

COMMON: Final = ("base_url", "batch_size", "rate_limit", "retry_wait")
"""What every connector can be told: where the API is, how much one request holds, how fast to go, how long to wait."""

_RATE: Final = re.compile(r"([1-9]\d{0,8}) per (?:([1-9]\d{0,4}) )?(second|minute)s?")
_WAIT: Final = re.compile(r"(\d{1,2}(?:\.\d{1,3})?)(?: seconds?)?")


def unknown(given: Iterable[str], known: Sequence[str], *, label: str) -> Iterator[Problem]:
    """Find settings that the ESP does not have, with the one that was meant."""
    for name in sorted(set(given) - set(known)):
        close = get_close_matches(name, known, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else f"Settings are: {', '.join(known)}."
        yield Problem(where=f"settings.{name}", message=f"{label} has no such setting.", next_step=hint)


def missing_secret(given: Mapping[str, str], name: str, *, variable: str) -> Iterator[Problem]:
    """Find a secret that is not there."""
    if not given.get(name):
        yield Problem(
            where=f"settings.{name}",
            message="it is missing.",
            next_step=f"Set {name}: env:{variable} and export that variable.",
        )


def not_among(given: Mapping[str, str], name: str, choices: Iterable[str], default: str) -> Iterator[Problem]:
    """Find a word that is none of the choices."""
    known = list(choices)
    if (said := given.get(name, default)) not in known:
        yield Problem(
            where=f"settings.{name}",
            message=f'"{said}" is none that we know.',
            next_step=f"Choose one of: {', '.join(known)}.",
        )


def wrong_common(given: Mapping[str, str], *, largest_batch: int, what: str) -> Iterator[Problem]:
    """Find what is wrong with `batch_size`, `rate_limit` and `retry_wait`; `what` is what a batch holds."""
    size = given.get("batch_size", "1")
    if re.fullmatch(r"[0-9]{1,5}", size) is None or not 1 <= int(size) <= largest_batch:
        yield Problem(
            where="settings.batch_size",
            message=f'"{size}" is no number of {what} from 1 to {largest_batch}.',
            next_step=f"Leave it out: {largest_batch} costs the fewest requests.",
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


def wrong_base(base_url: str, *, vendor: str, path: str, example: str) -> Iterator[Problem]:
    """Find an address that is none, holds a key, or would send one unsealed to the vendor. `path` is how it must end."""
    url = _split(base_url)
    if url is not None:
        named = url.scheme in {"http", "https"} and bool(url.hostname) and not (url.username or url.password)
        # Plain http to the real thing would show the key to everyone on the way.
        safe = url.scheme == "https" or not str(url.hostname).endswith(vendor)
        if named and safe and url.path.rstrip("/").endswith(path) and not (url.query or url.fragment):
            return
    yield Problem(
        where="settings.base_url",
        message=f"it must read http(s)://host{path}, without a key in it.",
        next_step=f"For the sandbox: {example}.",
    )


def _split(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
        _ = url.port  # reading it is what checks it
    except ValueError:
        return None
    return url


def rate_limits(given: Mapping[str, str]) -> tuple[RateLimit, ...]:
    """Read `rate_limit`, such as "100 per 10 seconds"; none where it is not set."""
    match = _RATE.fullmatch(given.get("rate_limit", ""))
    if match is None:
        return ()
    count, span, unit = match.groups()
    return (RateLimit(count=int(count), seconds=float(span or 1) * (60 if unit == "minute" else 1)),)


def retry_wait(given: Mapping[str, str]) -> float:
    """Read `retry_wait`, in seconds."""
    return _wait(given.get("retry_wait", "")) or Patience().first_wait


def _wait(text: str) -> float:
    match = _WAIT.fullmatch(text)
    return float(match[1]) if match else 0.0
