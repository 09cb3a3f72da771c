"""The settings of a HubSpot destination: what they are, and everything that can be wrong with them."""

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
from .paths import NUMBERED, VERSIONS

LARGEST_BATCH: Final = 100
SEARCHES: Final = RateLimit(count=5, seconds=1)

# https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines, of private apps: ten seconds, and a day.
TIERS: Final = {
    "starter": (RateLimit(count=100, seconds=10), RateLimit(count=250_000, seconds=86_400)),
    "pro": (RateLimit(count=190, seconds=10), RateLimit(count=650_000, seconds=86_400)),
    "enterprise": (RateLimit(count=190, seconds=10), RateLimit(count=1_000_000, seconds=86_400)),
}
# https://developers.hubspot.com/docs/api-reference/legacy/communication-preferences/guide
_BASES: Final = (
    "LEGITIMATE_INTEREST_PQL",
    "LEGITIMATE_INTEREST_CLIENT",
    "LEGITIMATE_INTEREST_OTHER",
    "PERFORMANCE_OF_CONTRACT",
    "CONSENT_WITH_NOTICE",
    "NON_GDPR",
    "PROCESS_AND_STORE",
)
_KNOWN: Final = ("token", "tier", "api", "tags", "subscription", "legal_basis", *COMMON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One portal. `rate_limits` are the tier's, unless `rate_limit` says ours are lower.

    `api` is the family of paths. `tags` says whether our tags are options of one property, or static lists.
    `subscription` is the id of the subscription type to which whoever is made is subscribed, with `legal_basis`; empty
    where contacts are made without one.
    """

    token: str
    base_url: str
    tier: str
    api: str
    tags: str
    subscription: str
    legal_basis: str
    batch_size: int
    rate_limits: tuple[RateLimit, ...]
    retry_wait: float

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """Read a destination's settings, secrets already resolved. Raises ConfigError with all problems."""
        if problems := list(_problems(given)):
            raise ConfigError.of(problems)
        tier = given.get("tier", "starter")
        return cls(
            token=given["token"],
            base_url=given.get("base_url", "https://api.hubapi.com"),
            tier=tier,
            api=given.get("api", NUMBERED),
            tags=given.get("tags", "property"),
            subscription=given.get("subscription", ""),
            legal_basis=given.get("legal_basis", "CONSENT_WITH_NOTICE"),
            batch_size=int(given.get("batch_size", LARGEST_BATCH)),
            rate_limits=(*TIERS[tier], *rate_limits(given)),
            retry_wait=retry_wait(given),
        )


def _problems(given: Mapping[str, str]) -> Iterator[Problem]:
    yield from unknown(given, _KNOWN, label="HubSpot")
    yield from missing_secret(given, "token", variable="HUBSPOT_TOKEN")
    if base := given.get("base_url"):
        yield from wrong_base(base, vendor="hubapi.com", path="", example="http://127.0.0.1:8026")
    yield from not_among(given, "tier", TIERS, "starter")
    yield from not_among(given, "api", VERSIONS, NUMBERED)
    yield from not_among(given, "tags", ("property", "lists"), "property")
    yield from not_among(given, "legal_basis", _BASES, "CONSENT_WITH_NOTICE")
    subscription = given.get("subscription", "1")
    if not subscription.isdecimal():
        yield Problem(
            where="settings.subscription",
            message=f'"{subscription}" is no number.',
            next_step="It is the id of a subscription type, as HubSpot shows it under Settings, Marketing, Email.",
        )
    yield from wrong_common(given, largest_batch=LARGEST_BATCH, what="contacts")
