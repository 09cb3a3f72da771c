"""Plain calls to the local Klaviyo."""

import pytest

from segue.connectors.klaviyo.testing import Sandbox

from .api import Api


@pytest.fixture
def api(klaviyo: Sandbox) -> Api:
    """Plain calls to a Klaviyo whose clock stands still, without limits."""
    return Api(klaviyo)
