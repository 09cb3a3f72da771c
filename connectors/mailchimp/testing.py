"""A running local Mailchimp for tests: one process-wide emulator, a fresh account per test, all traffic judged.

For tests alone, ours and other people's. Two fixtures are all it takes:

    @pytest.fixture(scope="session")
    def mailchimp_process():
        with running_sandbox() as sandbox:
            yield sandbox

    @pytest.fixture
    def mailchimp(mailchimp_process):
        with mailchimp_process.fresh():
            yield mailchimp_process
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import requests

from ..emulation import running
from ..referee import Referee, judged
from .emulator import MailchimpEmulator, Settings
from .specification import specification


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A running account. `base_url` is what the connector's setting of that name wants."""

    connector: ClassVar[str] = "mailchimp"
    emulator: MailchimpEmulator
    origin: str
    referee: Referee

    @property
    def base_url(self) -> str:
        """The API's address, version included."""
        return f"{self.origin}/3.0"

    @property
    def destination(self) -> Mapping[str, str]:
        """The settings of a destination that means this account; its key comes from the environment's SANDBOX_KEY."""
        return {"api_key": "env:SANDBOX_KEY", "audience": self.audience, "base_url": self.base_url}

    @property
    def audience(self) -> str:
        """The id of the audience that the account starts with."""
        return self.emulator.audience.id

    @property
    def key(self) -> str:
        """The account's API key."""
        return self.emulator.account.settings.key

    def settings(self, **changes: Any) -> None:
        """Change settings until the end of the test, as in `sandbox.settings(mode="permissive")`."""
        self.emulator.change_settings(changes)

    def sdk(self, key: str | None = None) -> Any:
        """Give the vendor's own client, unpatched, pointed here."""
        import mailchimp_marketing

        client = mailchimp_marketing.Client()
        client.set_config({"api_key": key or self.key, "timeout": 5})
        client.api_client.host = self.base_url
        return client

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """Make one plain call; the path is relative to the version, or to the audience when it starts with a dot."""
        if path.startswith("."):
            path = f"/lists/{self.audience}{path[1:]}"
        url = self.base_url + path
        return requests.request(method, url, json=body, params=query, auth=("any", self.key), timeout=5)

    @contextmanager
    def fresh(self) -> Iterator["Sandbox"]:
        """Reset the account for one test, and at its end fail for all traffic that the specification forbids."""
        self.emulator.reset()
        with judged(self.emulator, self.referee):
            yield self


@contextmanager
def running_sandbox(settings: Settings | None = None) -> Iterator[Sandbox]:
    """Run an emulator for the length of the block; starting takes a moment, so share one and call `fresh` per test."""
    emulator = MailchimpEmulator(settings)
    with running(emulator) as origin:
        yield Sandbox(emulator=emulator, origin=origin, referee=Referee(specification()))
