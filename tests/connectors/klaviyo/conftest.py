"""The local Klaviyo, by plain calls and by a connector."""

from collections.abc import Iterator

import pytest

from segue.connectors.klaviyo.testing import Sandbox

from .account import Account
from .api import Api


@pytest.fixture
def api(klaviyo: Sandbox) -> Api:
    """Plain calls to a Klaviyo whose clock stands still, without limits."""
    return Api(klaviyo)


@pytest.fixture
def account(klaviyo: Sandbox) -> Iterator[Account]:
    """A connector on a Klaviyo in which no write may have raised anybody's consent."""
    opened = Account(klaviyo)
    with opened.connector.transport:
        yield opened
    assert opened.emulator.raises == []
