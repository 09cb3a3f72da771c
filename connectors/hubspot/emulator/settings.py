"""The settings of the emulated portal."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ....core.model import RateLimit
from ...emulator_settings import SandboxSettings


class Tier(StrEnum):
    """What the portal pays for, which decides how many requests it takes."""

    STARTER = "starter"
    PROFESSIONAL = "professional"
    ENTERPRISE = "enterprise"


LIMITS: Final = {
    Tier.STARTER: (RateLimit(count=100, seconds=10), RateLimit(count=250_000, seconds=86_400)),
    Tier.PROFESSIONAL: (RateLimit(count=190, seconds=10), RateLimit(count=650_000, seconds=86_400)),
    Tier.ENTERPRISE: (RateLimit(count=190, seconds=10), RateLimit(count=1_000_000, seconds=86_400)),
}
"""Ten seconds, and a day; https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines."""
SEARCHES: Final = RateLimit(count=5, seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SandboxSettings):
    """What the sandbox portal is like.

    While `limited` is off, no request is refused for being one too many. `search_lag` is how many seconds of the
    emulator's clock pass until a search shows a change. With `data_privacy` a subscription needs a legal basis.
    """

    token: str = "sandbox-token"  # noqa: S105 - the sandbox's own
    portal: int = 145000001
    tier: Tier = Tier.STARTER
    limited: bool = True
    search_lag: float = 0.0
    data_privacy: bool = False
