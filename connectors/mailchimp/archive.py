"""Who was archived since the engine last looked: the members that an update must not touch.

A member batch without a status may bring an archived member back as subscribed (not documented, so taken for true).
One read of those archived lately, almost always an empty page, goes before each update batch. Times are Mailchimp's
own, never this machine's: a clock that is off would hide exactly the newest.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from ...core.model import RemoteContact
from .pages import members
from .payload import remote_contact


class Archive:
    """Members seen archived by this process, by lower-cased address."""

    def __init__(self, endpoint: Callable[..., Any], audience: str, *, overlap: timedelta) -> None:
        self._endpoint = endpoint
        self._audience = audience
        self._overlap = overlap
        self._archived: dict[str, str] = {}  # when they last changed, as Mailchimp writes it
        self._seen_until: datetime | None = None  # None: nothing was looked at yet, so all of them are read
        self._lock = Lock()
        self._looking = Lock()
        self._begun = self._ended = 0  # looks

    def after(
        self, pull: Iterator[tuple[str, list[dict[str, Any]]]], since: datetime | None
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Pass a pull's pages on. Whoever it showed as archived is the engine's to know; only later ones are ours."""
        newest = since
        for name, page in pull:
            moments = [datetime.fromisoformat(member["last_changed"]) for member in page]
            newest = max(moments if newest is None else [newest, *moments])
            yield name, page
        with self._lock:
            self._archived.clear()
            self._seen_until = newest

    def back(self, addresses: frozenset[str]) -> None:
        """Forget those who were created again, with a grant."""
        with self._lock:
            for address in addresses:
                self._archived.pop(address, None)

    def among(self, addresses: Iterable[str]) -> dict[str, RemoteContact]:
        """Look again, and give those of some lower-cased addresses that are archived."""
        begun = self._begun
        with self._looking:
            if (
                self._ended <= begun
            ):  # else one that began after we were asked has ended meanwhile: that will do
                self._look()
        with self._lock:
            return {
                address: remote_contact(
                    {"email_address": address, "status": "archived", "last_changed": self._archived[address]}
                )
                for address in addresses
                if address in self._archived
            }

    def _look(self) -> None:
        self._begun += 1
        since = None if self._seen_until is None else self._seen_until - self._overlap
        for page in members(self._endpoint, self._audience, since=since, status="archived"):
            with self._lock:
                self._archived |= {member["email_address"].lower(): member["last_changed"] for member in page}
                newest = datetime.fromisoformat(page[-1]["last_changed"])
                self._seen_until = newest if self._seen_until is None else max(newest, self._seen_until)
        self._ended = self._begun
