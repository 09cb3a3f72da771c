"""A running local HubSpot for tests, ours and other people's: one process-wide emulator, a fresh portal per test."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import requests

from ..emulation import running
from .emulator import HubSpotEmulator, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A running portal. `base_url` is what the connector's setting of that name wants."""

    connector: ClassVar[str] = "hubspot"
    emulator: HubSpotEmulator
    base_url: str

    @property
    def destination(self) -> Mapping[str, str]:
        """The settings of a destination that means this portal; its token comes from the environment's SANDBOX_KEY."""
        return {"token": "env:SANDBOX_KEY", "base_url": self.base_url}

    @property
    def key(self) -> str:
        """What SANDBOX_KEY must be."""
        return self.token

    @property
    def token(self) -> str:
        """The private app's token."""
        return self.emulator.options.token

    def settings(self, **changes: Any) -> None:
        """Change settings until the end of the test, as in `sandbox.settings(mode="permissive")`."""
        self.emulator.change_settings(changes)

    def sdk(self, **options: Any) -> Any:
        """Give the vendor's own client, unpatched, pointed here."""
        from hubspot import HubSpot

        return HubSpot(access_token=self.token, host=self.base_url, **options)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Make one plain call."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.request(
            method, self.base_url + path, json=body, params=query, headers=headers, timeout=5
        )

    @contextmanager
    def fresh(self) -> Iterator["Sandbox"]:
        """Reset the portal for one test."""
        self.emulator.reset()
        yield self


@contextmanager
def running_sandbox(settings: Settings | None = None) -> Iterator[Sandbox]:
    """Run an emulator for the length of the block; starting takes a moment, so share one and call `fresh` per test."""
    emulator = HubSpotEmulator(settings)
    with running(emulator) as origin:
        yield Sandbox(emulator=emulator, base_url=origin)
