"""One running local HubSpot for all tests, a fresh account for each."""

from collections.abc import Iterator

import pytest

from segue.connectors.hubspot.testing import Sandbox, running_sandbox

from .calls import Contacts


@pytest.fixture(scope="session")
def hubspot_process() -> Iterator[Sandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def hubspot(hubspot_process: Sandbox) -> Iterator[Sandbox]:
    with hubspot_process.fresh():
        yield hubspot_process


@pytest.fixture
def contacts(hubspot: Sandbox) -> Contacts:
    return Contacts(hubspot)
