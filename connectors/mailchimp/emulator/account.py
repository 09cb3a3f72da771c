"""The emulated Mailchimp account: its settings, its audiences, and how a call finds its way to them.

Endpoints are elsewhere; this is what they all stand on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ...emulator import Call, Clock, RefusedError
from ...emulator_settings import EmulatorSettings
from .answers import invalid, missing, problem, truth
from .audience import Audience, Member, Rules
from .schema import mismatch


class Plan(StrEnum):
    """The account's plan, which decides how many merge fields an audience can have."""

    STANDARD = "standard"
    PREMIUM = "premium"


class Throttle(StrEnum):
    """How "too many simultaneous connections" is said. All three were seen with the real one."""

    PROBLEM = "problem"  # 429 with a JSON body
    BODILESS = "bodiless"  # 429 without a body
    FORBIDDEN = "forbidden"  # 403 without a body
    MIXED = "mixed"  # each in turn


FIELD_SLOTS: Mapping[Plan, int] = {Plan.STANDARD: 30, Plan.PREMIUM: 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EmulatorSettings):
    """What the sandbox account is like. `audience` is the id of the one list it starts with.

    No more than `rate_count` requests are taken in any `rate_seconds` of the emulator's clock, 0 meaning no limit
    (Mailchimp documents none); a refused one does not count. Webhooks made while `sign_webhooks` is
    off are unsigned for good, as those from before 2026 are.
    """

    key: str = "sandbox-us19"
    audience: str = "b1234567ab"
    plan: Plan = Plan.STANDARD
    double_optin: bool = False
    refuse_fake_addresses: bool = False
    localized: bool = False
    connections: int = 10
    throttle: Throttle = Throttle.MIXED
    rate_count: int = 0
    rate_seconds: float = 10.0
    sign_webhooks: bool = True


class Account:
    """Everything the account holds. `settings` may be replaced at any time; audiences outlive that."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.audiences: dict[str, Audience] = {}
        self.add_audience("Sandbox", list_id=settings.audience)

    def add_audience(self, name: str, *, list_id: str | None = None, double_optin: bool = False) -> Audience:
        """Make an audience with the standard fields."""
        number = len(self.audiences) + 1
        audience = Audience(
            list_id or f"a{number:09x}",
            name,
            number=number,
            created=self.clock.now(),
            double_optin=double_optin,
        )
        self.audiences[audience.id] = audience
        return audience

    def double_optin(self, audience: Audience) -> bool:
        """Whether signing up asks for a confirmation."""
        return audience.double_optin or self.settings.double_optin

    def audience_of(self, call: Call) -> Audience:
        """Find the audience that a path names, or refuse with 404."""
        audience = self.audiences.get(call.parameters["list_id"])
        if audience is None:
            raise missing(call)
        audience.double_optin = self.double_optin(audience)
        return audience

    def member_of(self, call: Call, audience: Audience, *, hash_only: bool = False) -> Member:
        """Find the member that a path names by hash, address or contact id, or refuse with 404.

        Tags, events, segments and erasing document the hash alone.
        """
        key = call.parameters["subscriber_hash"]
        member = audience.members.get(key) if hash_only else audience.find(key)
        if member is None:
            raise missing(call)
        return member

    def rules(self, call: Call) -> Rules:
        """Give the rules for the writes of one call."""
        return Rules(
            permissive=self.settings.permissive,
            refuse_fake_addresses=self.settings.refuse_fake_addresses,
            skip_required=truth(call.query.get("skip_merge_validation")),
        )

    def json_of(self, call: Call) -> dict[str, Any]:
        """Read the body as a JSON object whose known keys hold the right types, or refuse."""
        try:
            body = json.loads(call.body or b"{}")
        except ValueError:
            raise RefusedError(
                problem(
                    400,
                    "JSON Parse Exception",
                    "We encountered an unspecified JSON parsing error.",
                    number=call.number,
                )
            ) from None
        if not isinstance(body, dict):
            raise invalid(call, "", "Schema describes object, found instead")
        if (wrong := mismatch(body)) is not None:
            raise invalid(call, *wrong)
        return body

    def list_in(self, call: Call, body: Mapping[str, Any], name: str, *, maximum: int = 500) -> list[Any]:
        """Read a list out of a body, or refuse when it is none or too long."""
        items = body.get(name, [])
        if not isinstance(items, list):
            raise invalid(call, name, f"Schema describes array, {type(items).__name__} found instead")
        if len(items) > maximum:
            raise invalid(call, name, f"Array must contain no more than {maximum} items")
        return items
