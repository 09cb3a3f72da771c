"""A running local HubSpot for tests: one process-wide emulator, a fresh account per test.

For tests alone, ours and other people's. Two fixtures are all it takes:

    @pytest.fixture(scope="session")
    def hubspot_process():
        with running_sandbox() as sandbox:
            yield sandbox

    @pytest.fixture
    def hubspot(hubspot_process):
        with hubspot_process.fresh():
            yield hubspot_process
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import requests

from ..emulation import running
from .emulator import HubSpotEmulator, Settings
from .webhooks import WATCHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A running account. `base_url` is what the connector's setting of that name wants."""

    connector: ClassVar[str] = "hubspot"
    emulator: HubSpotEmulator
    origin: str

    @property
    def destination(self) -> Mapping[str, str]:
        """The settings of a destination that means this account; its token comes from the environment's SANDBOX_KEY."""
        return {"token": "env:SANDBOX_KEY", "base_url": self.base_url}

    @property
    def key(self) -> str:
        """What SANDBOX_KEY must be."""
        return self.token

    @property
    def base_url(self) -> str:
        """The API's address: versions are in its paths."""
        return self.origin

    @property
    def token(self) -> str:
        """The account's access token."""
        return self.emulator.account.settings.token

    def settings(self, **changes: Any) -> None:
        """Change settings until the end of the test, as in `sandbox.settings(mode="permissive")`."""
        self.emulator.change_settings(changes)

    def sdk(self, token: str | None = None, **more: Any) -> Any:
        """Give the vendor's own client, unpatched, pointed here; keywords are its own."""
        import hubspot

        return hubspot.HubSpot(access_token=token or self.token, host=self.origin, **more)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Make one plain call. A path that starts with a dot is relative to the contacts of v3."""
        if path.startswith("."):
            path = f"/crm/v3/objects/contacts{path[1:]}"
        headers = {"authorization": f"Bearer {self.token}"}
        return requests.request(
            method, self.origin + path, json=body, params=query, headers=headers, timeout=5
        )

    def watch(self, url: str) -> str:
        """Have all that concerns consent posted to an address, as is done by hand in HubSpot; give the secret that signs."""
        settings = self.emulator.account.settings
        app, key = f"/webhooks/v3/{settings.app_id}", settings.developer_key
        target = {"targetUrl": url, "throttling": {"maxConcurrentRequests": 10}}
        self.call("PUT", f"{app}/settings", target, hapikey=key).raise_for_status()
        wanted: list[dict[str, str]] = [
            {"eventType": "contact.propertyChange", "propertyName": name} for name in (*WATCHED, "email")
        ]
        wanted += [{"eventType": f"contact.{kind}"} for kind in ("deletion", "privacyDeletion", "merge")]
        for each in wanted:
            subscription = {**each, "active": True}
            self.call("POST", f"{app}/subscriptions", subscription, hapikey=key).raise_for_status()
        return settings.client_secret

    @contextmanager
    def fresh(self) -> Iterator["Sandbox"]:
        """Reset the account for one test."""
        self.emulator.reset()
        yield self


@contextmanager
def running_sandbox(settings: Settings | None = None) -> Iterator[Sandbox]:
    """Run an emulator for the length of the block; starting takes a moment, so share one and call `fresh` per test."""
    emulator = HubSpotEmulator(settings)
    with running(emulator) as origin:
        yield Sandbox(emulator=emulator, origin=origin)
