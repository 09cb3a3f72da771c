"""What an emulated HubSpot account is like: its keys, its tier with the limits that follow, and what is not settled.

Nothing here acts; the words of every setting are in `Settings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ...emulator_settings import EmulatorSettings


class Tier(StrEnum):
    """The account's subscription."""

    STARTER = "starter"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class SignatureVersion(StrEnum):
    """How webhooks are signed."""

    V1 = "v1"  # SHA-256 of secret and body
    V3 = "v3"  # HMAC of method, URI, body and time


BURST_SECONDS = 10.0
_BURSTS: Mapping[Tier, int] = {Tier.STARTER: 100, Tier.PRO: 190, Tier.ENTERPRISE: 190}
_DAILY: Mapping[Tier, int] = {Tier.STARTER: 250_000, Tier.PRO: 650_000, Tier.ENTERPRISE: 1_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EmulatorSettings):
    """What the sandbox account is like.

    `tier` gives requests per ten seconds and per day; `burst` and `daily` replace its figures where they are not 0, and
    `searches` are taken per second beside that. `limits` switches all of them off. With `data_privacy` nobody is mailed
    who was not asked, and each write of a status needs a legal basis; without, everybody is who did not leave. What was
    written reaches the search `index_lag` seconds of the emulator's clock later. `signature` is that of the webhooks.
    """

    token: str = "sandbox-token"  # noqa: S105 - the sandbox's own
    developer_key: str = "sandbox-developer-key"
    client_secret: str = "sandbox-client-secret"  # noqa: S105 - the sandbox's own
    app_id: int = 1160452
    portal_id: int = 62515
    tier: Tier = Tier.STARTER
    burst: int = 0
    daily: int = 0
    searches: int = 5
    limits: bool = True
    data_privacy: bool = False
    index_lag: float = 5.0
    signature: SignatureVersion = SignatureVersion.V1

    @property
    def per_burst(self) -> int:
        """Requests that are taken in ten seconds."""
        return self.burst or _BURSTS[self.tier]

    @property
    def per_day(self) -> int:
        """Requests that are taken in a day."""
        return self.daily or _DAILY[self.tier]
