"""Two accounts of the local Mailchimp that run for all tests here."""

from collections.abc import Iterator, Sequence

import pytest

from segue.connectors.mailchimp.testing import Sandbox, running_sandbox


@pytest.fixture(scope="session")
def two_processes() -> Iterator[Sequence[Sandbox]]:
    with running_sandbox() as one, running_sandbox() as other:
        yield one, other


@pytest.fixture
def two_accounts(two_processes: Sequence[Sandbox], monkeypatch: pytest.MonkeyPatch) -> Sequence[Sandbox]:
    monkeypatch.setenv("SANDBOX_KEY", two_processes[0].key)
    return two_processes
