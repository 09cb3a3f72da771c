"""The settings of a Klaviyo destination: what they are, and everything that can be wrong with them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from ...core.errors import ConfigError, Problem
from ...core.model import RateLimit
from ..settings import (
    COMMON,
    missing_secret,
    not_among,
    rate_limits,
    retry_wait,
    unknown,
    wrong_base,
    wrong_common,
)

LARGEST_BATCH: Final = 10_000
_KNOWN: Final = ("api_key", "list", "tags", *COMMON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One account. `rate_limits` stand in the place of the published ones of every endpoint, where Klaviyo raised them.

    `list_id` is the list onto which whoever is made is subscribed, "" for none. `tags` says whether our tags are values of
    one property, or lists.
    """

    api_key: str
    base_url: str
    list_id: str
    tags: str
    batch_size: int
    rate_limits: tuple[RateLimit, ...]
    retry_wait: float

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """Read a destination's settings, secrets already resolved. Raises ConfigError with all problems."""
        if problems := list(_problems(given)):
            raise ConfigError.of(problems)
        return cls(
            api_key=given["api_key"],
            base_url=given.get("base_url", "https://a.klaviyo.com"),
            list_id=given.get("list", ""),
            tags=given.get("tags", "property"),
            batch_size=int(given.get("batch_size", LARGEST_BATCH)),
            rate_limits=rate_limits(given),
            retry_wait=retry_wait(given),
        )


def _problems(given: Mapping[str, str]) -> Iterator[Problem]:
    yield from unknown(given, _KNOWN, label="Klaviyo")
    yield from missing_secret(given, "api_key", variable="KLAVIYO_API_KEY")
    if base := given.get("base_url"):
        yield from wrong_base(base, vendor="klaviyo.com", path="", example="http://127.0.0.1:8027")
    if re.fullmatch(r"\w{4,20}", given.get("list", "LIST")) is None:
        yield Problem(
            where="settings.list",
            message=f'"{given["list"]}" is no id of a list.',
            next_step="Klaviyo shows it in the address of the list's page, such as VxSGZi.",
        )
    yield from not_among(given, "tags", ("property", "lists"), "property")
    yield from wrong_common(given, largest_batch=LARGEST_BATCH, what="contacts")
