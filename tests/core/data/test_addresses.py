"""One spelling for each address; the expression in SQL and the validator agree where both can judge."""

import ibis
import pyarrow as pa
import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from segue.core.data import addresses
from segue.core.data.engine import connect


def normalised(con: Backend, *texts: str) -> list[str | None]:
    spelled = ibis.memtable(pa.table({"text": texts, "place": range(len(texts))}))
    spelled = con.create_table("spelled", spelled.mutate(address=addresses.spelled(spelled.text)), temp=True)
    judged = addresses.normalise(spelled.select("address").distinct())
    found = spelled.left_join(judged, "address").order_by("place")
    return list(found.normalised.to_pyarrow().to_pylist())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Anna@Shop.COM\u00a0", "anna@shop.com"),
        ("o'brien+news@x-y.co.uk", "o'brien+news@x-y.co.uk"),
        ("x@Müller.de", "x@xn--mller-kva.de"),
        ("x@xn--mller-kva.de", "x@xn--mller-kva.de"),
        ("x@straße.de", "x@xn--strae-oqa.de"),
        ("jürgen@x.de", "jürgen@x.de"),
        ("anna", None),
        ("anna@", None),
        ("@x.de", None),
        ("anna@x", None),
        ("anna@x..de", None),
        ("a..b@x.de", None),
        (".a@x.de", None),
        ("a b@x.de", None),
        ("a@x.de; b@x.de", None),
        ("a@-x.de", None),
        ("a@1.2.3.4", None),
        ("a@x_y.de", None),
        ("a@xn--bad-.de", None),
        ('"a b"@x.de', None),
        ("a" * 65 + "@x.de", None),
        ("a@" + "x" * 64 + ".de", None),
        ("a@" + ("x" * 60 + ".") * 5 + "de", None),
    ],
)
def test_an_address_is_normalised_or_refused(con: Backend, text: str, address: str | None) -> None:
    assert normalised(con, text) == [address]


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.from_regex(r"[a-zA-Z.+'-]{1,8}@[a-z0-9.-]{1,10}\.(de|com|museum)", fullmatch=True),
        min_size=1,
        max_size=40,
    )
)
def test_the_bulk_expression_agrees_with_the_validator(texts: list[str]) -> None:
    def validated(text: str) -> str | None:
        try:
            return validate_email(text.lower(), check_deliverability=False).normalized
        except EmailNotValidError:
            return None

    connection = connect()
    plain = [text for text in texts if "xn--" not in text and "--" not in text]
    if plain:
        assert normalised(connection, *plain) == [validated(text) for text in plain]
    connection.disconnect()
