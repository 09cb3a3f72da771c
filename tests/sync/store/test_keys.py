from collections.abc import Iterator
from pathlib import Path

import duckdb
import ibis
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segue.core.errors import ConfigError
from segue.sync.store.keys import ContactKeys, load_or_create_key

KEYS = ContactKeys(bytes(range(32)))

# No surrogates: they are no text that a database could hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        KEYS.install(connection)
        yield connection


@given(st.lists(TEXTS, min_size=1, max_size=20))
@example(["", " a@b.c ", "A@B.C", "ΟΔΟΣ@x.gr", "İ@x.tr", "ẞ@x.de", "a\0b", "\xa0"])
def test_duckdb_and_python_give_the_same_keys(engine: duckdb.DuckDBPyConnection, texts: list[str]) -> None:
    for kind, key in (("contact", KEYS.contact_key), ("address", KEYS.address_key)):
        rows = engine.execute(f"select {kind}_key(unnest(?::varchar[]))", [texts]).fetchall()
        assert [row[0] for row in rows] == [key(text) for text in texts]


@given(TEXTS)
def test_a_key_fits_a_signed_bigint(text: str) -> None:
    assert 0 <= KEYS.contact_key(text) < 2**63


def test_a_key_is_the_head_of_the_published_hmac() -> None:
    # `printf 'contact\0abc' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102...1f`, first 63 bits
    assert KEYS.contact_key("abc") == 2132250971792087613


def test_no_value_has_no_key(engine: duckdb.DuckDBPyConnection) -> None:
    assert engine.execute("select contact_key(null), address_key(null)").fetchone() == (None, None)


def test_ibis_calls_the_installed_functions() -> None:
    backend = ibis.duckdb.connect()
    KEYS.install(backend.con)

    @ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]  # Ibis is untyped
    def contact_key(value: str) -> int:  # type: ignore[empty-body]  # Ibis reads its types alone
        ...

    people = ibis.memtable(pa.table({"contact_id": ["abc"]}))
    assert backend.to_pyarrow(contact_key(people.contact_id)).to_pylist() == [KEYS.contact_key("abc")]
    backend.disconnect()


def test_a_contact_and_an_address_of_one_text_have_different_keys() -> None:
    assert KEYS.contact_key("ann@shop.test") != KEYS.address_key("ann@shop.test")


def test_another_secret_gives_other_keys() -> None:
    assert ContactKeys(b"x" * 32).contact_key("abc") != KEYS.contact_key("abc")


def test_case_and_spaces_of_an_address_make_no_difference() -> None:
    assert KEYS.address_key(" Ann@Shop.TEST ") == KEYS.address_key("ann@shop.test")


def test_a_new_store_gets_a_key_file_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "contact.key"
    made = load_or_create_key(path, new_store=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_key(path, new_store=False).fingerprint() == made.fingerprint()
    assert [each.name for each in path.parent.iterdir()] == ["contact.key"]


def test_a_key_file_that_is_there_is_kept_for_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "contact.key"
    first = load_or_create_key(path, new_store=True)
    assert load_or_create_key(path, new_store=True).fingerprint() == first.fingerprint()


def test_the_missing_key_of_an_old_store_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        load_or_create_key(tmp_path / "contact.key", new_store=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "not hexadecimal", "abcd", "0" * 63, "0" * 66])
def test_a_malformed_secret_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        ContactKeys.parse(text)
    assert not text or text not in str(error.value)


def test_keys_do_not_show_their_secret() -> None:
    assert bytes(range(32)).hex() not in repr(KEYS) + KEYS.fingerprint()
