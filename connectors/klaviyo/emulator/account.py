"""The emulated Klaviyo account: everything that it holds, and how a call finds its way to it.

Endpoints are elsewhere; this is what they all stand on.
"""

import json
from datetime import timedelta
from functools import cache
from typing import Any

from ...emulator import Call, Clock, RefusedError
from ..facts import endpoints
from .answers import invalid, missing, refused
from .events import OWN_METRICS, Events
from .jobs import Errands, Jobs
from .lists import Lists, MailingList, OptIn
from .profiles import Profile, ProfileError, Profiles, Write
from .settings import Settings
from .shapes import Check, check_of
from .standing import Standings


class Account:
    """One account. What was accepted before a change of settings keeps its time."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.standings = Standings()
        self.profiles = Profiles(self.standings)
        self.lists = Lists()
        self.events = Events()
        self.jobs = Jobs()
        self.errands = Errands()
        self.lists.make("Sandbox", self.opt_in, clock.now(), list_id=settings.list_id)
        self.change(settings)

    def change(self, settings: Settings) -> None:
        """Put other settings in force."""
        self.settings = settings
        if settings.permissive:
            for name in OWN_METRICS:
                self.events.metric(name, self.clock.now(), own=True)

    @property
    def opt_in(self) -> OptIn:
        """How one gets onto a list that does not say."""
        return "double_opt_in" if self.settings.double_optin else "single_opt_in"

    @property
    def worst(self) -> bool:
        """Whether what no source settles goes the worst way."""
        return not self.settings.permissive

    def tick(self) -> None:
        """Carry out whatever is due by now."""
        now, settings = self.clock.now(), self.settings
        self.errands.tick(now)
        self.jobs.tick(now, seconds=settings.job_seconds, cancel=settings.cancel_jobs)

    def later(self) -> timedelta:
        """How long what is asynchronous takes, jobs and subscriptions aside."""
        return timedelta(seconds=self.settings.async_seconds)

    def write(self, request: int | None, *, held: bool = False) -> Write:
        """Give the circumstances of a write that happens now."""
        return Write(now=self.clock.now(), request=request, worst=self.worst, held=held)

    def body_of(self, call: Call) -> Any:
        """Read the `data` of a body that the specification allows, or refuse."""
        try:
            body = json.loads(call.body, parse_constant=_no_number)
            if b"\\ud" in call.body.lower():
                json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except (ValueError, RecursionError):
            raise invalid("The body is not valid JSON.", pointer="/data") from None
        if (problem := _check(f"{call.method} {call.template}")(body, "")) is not None:
            pointer, detail = problem
            raise invalid(detail, pointer=pointer)
        return body["data"]

    def list_of(self, list_id: str) -> MailingList:
        """Find a list, or refuse with 404."""
        if (found := self.lists.by_id.get(list_id)) is None:
            raise missing("list", list_id)
        return found

    def profile_of(self, profile_id: str) -> Profile:
        """Find a profile, or refuse with 404."""
        if (found := self.profiles.by_id.get(profile_id)) is None:
            raise missing("profile", profile_id)
        return found

    def erase(self, profile: Profile) -> None:
        """Delete a profile, its events and what is known of its address."""
        self.lists.off_all(profile)
        self.events.erase(profile.id)
        self.profiles.drop(profile)
        if profile.email is not None:
            self.standings.erase(profile.email)


def _no_number(text: str) -> None:
    raise ValueError(text)


@cache
def _check(endpoint: str) -> Check:
    return check_of(endpoints()[endpoint]["body"])


def refused_profile(error: ProfileError, at: str = "/data") -> RefusedError:
    """Refuse a request for what is wrong with the profile that stands at a pointer."""
    meta = {} if error.duplicate is None else {"duplicate_profile_id": error.duplicate}
    return RefusedError(
        refused(error.status, error.code, error.title, error.detail, pointer=at + error.pointer, meta=meta)
    )
