"""The connector, on the sandbox and on an ESP that is told by hand."""

from collections.abc import Iterator

import pytest
import responses

from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.testing import Sandbox

from .changes import connected


@pytest.fixture
def connector(mailchimp: Sandbox) -> Iterator[Mailchimp]:
    with connected(mailchimp) as made:
        yield made


@pytest.fixture
def told_by_hand() -> Iterator[tuple[responses.RequestsMock, Mailchimp]]:
    """Answers that no source promises and the sandbox does not give, written down here."""
    base = "https://us19.api.mailchimp.com/3.0"
    with responses.RequestsMock() as esp:
        esp.get(f"{base}/lists/b1/merge-fields", json={"merge_fields": []})
        connector = Mailchimp.from_settings({"api_key": "0123-us19", "audience": "b1"})
        yield esp, connector
        connector.transport.close()
