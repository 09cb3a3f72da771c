"""What the emulated Klaviyo account is like. Only its settings live here."""

from dataclasses import dataclass

from ...emulator_settings import EmulatorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EmulatorSettings):
    """What the sandbox account is like; seconds are of the emulator's clock. `list_id` is the list it starts with.

    * `double_optin` is the account's own setting, and so that of lists which do not say.
    * Subscribing takes effect after `consent_seconds`; so does unsubscribing, but at the worst it does at once, and is
      overtaken by a subscription that was accepted before it. Merges, deletions and events take `async_seconds`.
    * A job takes `job_seconds`; with 0 it moves on one state each second, and each time it is looked at.
      While `cancel_jobs` is on, jobs end as cancelled, half done; without `pointers` their errors name nobody.
    * `limits` switches the limits of each endpoint. How many lists an account can have, `max_lists`, is hearsay.
    * Webhooks exist with `advanced_kdp` alone. They are delivered to `deliver_to` instead of their URL's own host, where
      it is set, for a local receiver has no public https; their header's time is `webhook_skew_seconds` off, as was seen.
    """

    key: str = "pk_sandbox"
    list_id: str = "LSANDB"
    double_optin: bool = True
    consent_seconds: float = 1.0
    async_seconds: float = 1.0
    job_seconds: float = 0.0
    cancel_jobs: bool = False
    pointers: bool = True
    limits: bool = True
    max_lists: int = 1000
    advanced_kdp: bool = False
    webhook_skew_seconds: float = 18000.0
    deliver_to: str = ""
