"""A sync through a storm ends as if there had been none.

A short one: 8 runs are killed and each kind of fault strikes 30 times. `benchmarks/bench_chaos.py` lets 20 be killed
and each strike 100 times, for as many seeds as it is told.
"""

from pathlib import Path

import pytest

from .ending import survive

SEED = 20261122


@pytest.mark.slow
@pytest.mark.parametrize(("database", "mode"), [("sqlite", "adversarial"), ("postgresql", "permissive")])
def test_a_sync_through_a_storm_ends_as_if_there_had_been_none(
    database: str, mode: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_KEY", "sandbox-us19")
    if database == "postgresql":
        monkeypatch.setenv("STORE_URL", request.getfixturevalue("postgres_database"))
    store = "env:STORE_URL" if database == "postgresql" else "sqlite"
    tale = survive(tmp_path, store, seed=SEED, mode=mode, contacts=3_000, kills=8, strikes=30)
    assert tale.violations == [], tale
    assert tale.doubles == [], tale
    assert tale.wrong == [], tale
