import pytest

from segue.core.errors import ConfigError
from segue.sync.store.store import Store
from segue.sync.store.tokens import Role

from ...conftest import Clock


def test_a_token_is_recognised_by_its_secret_and_by_nothing_else(store: Store, clock: Clock) -> None:
    secret = store.tokens.create("grafana", Role.ADMIN)
    other = store.tokens.create("mia", Role.MARKETER)
    assert other != secret
    known = store.tokens.recognise(secret)
    assert known is not None
    assert (known.name, known.role, known.made_at) == ("grafana", Role.ADMIN, clock())
    for nobody in ("", "grafana", secret[:-1], f"{secret}a", secret.upper(), "\udc80"):
        assert store.tokens.recognise(nobody) is None


def test_the_store_holds_no_secret(store: Store) -> None:
    secret = store.tokens.create("grafana", Role.ADMIN)
    with store._database.read() as connection:
        (row,) = connection.exec_driver_sql("select * from token").all()
    assert secret not in str(tuple(row))
    assert secret.encode() not in row.token_hash
    assert secret not in str(store.tokens.all())


def test_a_name_is_one_token_until_it_is_revoked(store: Store) -> None:
    first = store.tokens.create("mia", Role.MARKETER)
    with pytest.raises(ConfigError, match="mia"):
        store.tokens.create("mia", Role.ADMIN)
    assert store.tokens.revoke("mia")
    assert not store.tokens.revoke("mia")
    assert store.tokens.recognise(first) is None
    second = store.tokens.create("mia", Role.ADMIN)
    assert store.tokens.recognise(first) is None
    assert store.tokens.recognise(second) is not None
    assert [each.role for each in store.tokens.all()] == [Role.ADMIN]
    assert [row.act for row in store.audit.show(limit=10) if row.act.startswith("token")] == [
        "token made",
        "token revoked",
        "token made",
    ]
