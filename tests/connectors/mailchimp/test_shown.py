"""What a member shows of a value that we wrote, in whatever form Mailchimp keeps it."""

import pytest

from segue.connectors.mailchimp.connector import Mailchimp
from segue.core.model import Operation

from .changes import SCHEMA, address, change, write

VALUES = {
    "SG_TEXT": ["plain", "Ünsal & Co <b>", '"quoted"', "007", "1e3"],
    "SG_NUM": ["0", "50", "-5", "49.5", "19.99", "0.000001", "123456789012.123456", "1234567.1"],
    "SG_DATE": ["2026-02-19", "0999-01-01"],
    "SG_BIRTH": ["2000-02-29", "2000-12-01"],
    "SG_URL": ["https://shop.example/a?b=c#d"],
}


@pytest.mark.parametrize(("tag", "text"), [(tag, text) for tag, texts in VALUES.items() for text in texts])
def test_a_value_is_read_back_as_it_is_said_to_be_shown(connector: Mailchimp, tag: str, text: str) -> None:
    connector.ensure(SCHEMA)
    connector.check()
    write(connector, change(Operation.CREATE, fields={tag: text}))
    (seen,) = connector.read([address(0)])
    assert seen is not None
    assert seen.fields[tag] == connector.shown({tag: text})[tag]
