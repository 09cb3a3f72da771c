"""The settings of a Mailchimp destination: what they are, and everything that can be wrong with them.

No value is looked up and nothing is sent here; a secret is judged by its shape and never repeated.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from ...core.errors import ConfigError, Problem
from ...core.model import RateLimit
from ..settings import COMMON, not_among, rate_limits, retry_wait, unknown, wrong_base, wrong_common

API_VERSION: Final = "3.0"
FIELD_SLOTS: Final = {"standard": 30, "premium": 80}  # merge fields per audience, by plan of the account

LARGEST_BATCH: Final = 500

_KNOWN: Final = ("api_key", "audience", "plan", *COMMON)
_KEY: Final = re.compile(r"[^\s-]+-([a-z]{2}\d+)")  # ends with the data centre
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
            rate_limits=rate_limits(given),
            retry_wait=retry_wait(given),
        )


def _problems(given: Mapping[str, str]) -> Iterator[Problem]:
    yield from unknown(given, _KNOWN, label="Mailchimp")
    key, base = given.get("api_key", ""), given.get("base_url", "")
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
    if base:
        example = f"http://127.0.0.1:8025/{API_VERSION}"
        yield from wrong_base(base, vendor="mailchimp.com", path=f"/{API_VERSION}", example=example)
    yield from not_among(given, "plan", FIELD_SLOTS, "standard")
    yield from wrong_common(given, largest_batch=LARGEST_BATCH, what="members")
