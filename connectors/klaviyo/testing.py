"""A running local Klaviyo for tests: one process-wide emulator, a fresh account per test, all traffic judged.

For tests alone, ours and other people's. Two fixtures are all it takes:

    @pytest.fixture(scope="session")
    def klaviyo_process():
        with running_sandbox() as sandbox:
            yield sandbox

    @pytest.fixture
    def klaviyo(klaviyo_process):
        with klaviyo_process.fresh():
            yield klaviyo_process

Misfortune is armed beforehand, as for every emulator. This is the guard against robots which now and then answers 403:

    klaviyo.emulator.faults.arm([Fault(kind=FaultKind.CHALLENGED, count=1, path="/api/profile-import")])
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import requests

from ..emulation import running
from ..referee import Referee, judged
from .emulator import KlaviyoEmulator, Settings
from .specification import MEDIA_TYPE, specification

REVISION = "2026-07-15"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A running account. `base_url` is what the connector's setting of that name wants."""

    connector: ClassVar[str] = "klaviyo"
    emulator: KlaviyoEmulator
    origin: str
    referee: Referee

    @property
    def destination(self) -> Mapping[str, str]:
        """The settings of a destination that means this account; its key comes from the environment's SANDBOX_KEY.

        The limits are the emulator's own: switch them off there, and nobody waits.
        """
        return {"api_key": "env:SANDBOX_KEY", "base_url": self.base_url, "rate_limit": "1000 per 1 second"}

    @property
    def base_url(self) -> str:
        """The API's address; every path begins with /api."""
        return self.origin

    @property
    def list_id(self) -> str:
        """The id of the list that the account starts with."""
        return self.emulator.account.settings.list_id

    @property
    def key(self) -> str:
        """The account's private key."""
        return self.emulator.account.settings.key

    def settings(self, **changes: Any) -> None:
        """Change settings until the end of the test, as in `sandbox.settings(mode="permissive")`."""
        self.emulator.change_settings(changes)

    def call(
        self, method: str, path: str, body: Any = None, *, headers: Any = None, **query: Any
    ) -> requests.Response:
        """Make one plain call; the path is relative to /api, and so is a whole address that an answer gave.

        Names of the query with brackets come as `**{"page[size]": 1}`; a header that is None is left out.
        """
        url = path if path.startswith(self.origin) else f"{self.origin}/api{path}"
        sent = {"authorization": f"Klaviyo-API-Key {self.key}", "revision": REVISION}
        if body is not None:
            sent["content-type"] = MEDIA_TYPE
        data = None if body is None else json.dumps(body).encode()
        given = {name: text for name, text in {**sent, **(headers or {})}.items() if text is not None}
        return requests.request(method, url, data=data, params=query, headers=given, timeout=30)

    @contextmanager
    def fresh(self) -> Iterator["Sandbox"]:
        """Reset the account for one test, and at its end fail for all traffic that the specification forbids."""
        self.emulator.reset()
        with judged(self.emulator, self.referee):
            yield self


@contextmanager
def running_sandbox(settings: Settings | None = None) -> Iterator[Sandbox]:
    """Run an emulator for the length of the block; starting takes a moment, so share one and call `fresh` per test."""
    emulator = KlaviyoEmulator(settings)
    with running(emulator) as origin:
        yield Sandbox(emulator=emulator, origin=origin, referee=Referee(specification()))
