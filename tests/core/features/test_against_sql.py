"""The traits equal those of the hand-written SQL that is also the yardstick for speed: two definitions, one answer."""

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from segue.core.data.engine import connect
from segue.core.features.compute import FEATURES

ROOT = Path(__file__).parents[3]
NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_features", ROOT / "benchmarks" / "bench_features.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def both(bench: ModuleType, folder: Path, as_of: datetime, zone: str) -> Any:
    """Build the traits in both ways from canonical tables in a folder; give the rows of each by contact."""
    bench.build(folder, as_of, zone)
    bench.build_reference(folder, as_of, zone)
    con = connect()
    found = []
    for name in ("features", "reference"):
        rows = con.to_pyarrow(con.read_parquet(str(folder / f"{name}.parquet"))).to_pylist()
        found.append({row["contact_id"]: row for row in rows})
        assert len(found[-1]) == len(rows)
    con.disconnect()
    return found


def differences(ours: Any, reference: Any, trait: str) -> list[Any]:
    """List what differs; only the mean and spread of gaps may, in the last digits, as the SQL sums doubles."""
    assert ours.keys() == reference.keys()
    pairs = [(who, row[trait], reference[who][trait]) for who, row in ours.items()]
    if trait in {"mean_gap_days", "sd_gap_days"}:
        pairs = [
            pair for pair in pairs if pair[1] is None or pair[2] is None or abs(pair[1] - pair[2]) > 1e-5
        ]
    return [pair for pair in pairs if pair[1] != pair[2]]


@pytest.mark.parametrize("as_of", [datetime(2011, 12, 10, tzinfo=UTC), datetime(2011, 6, 15, 9, tzinfo=UTC)])
def test_on_the_whole_of_online_retail(bench: ModuleType, canonical: Path, as_of: datetime) -> None:
    ours, reference = both(bench, canonical, as_of, "Europe/London")
    assert len(ours) > 4000
    wrong = {trait.name: found for trait in FEATURES if (found := differences(ours, reference, trait.name))}
    assert wrong == {}


@pytest.fixture(scope="module")
def canonical(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("canonical")
    bench.prepare(folder)
    return folder


@pytest.mark.parametrize("seed", [1, 2])
def test_on_shops_where_everything_happens(
    bench: ModuleType, make_shop: Any, tmp_path: Path, seed: int
) -> None:
    shop = make_shop()
    shop.fill(NOON, seed=seed)
    for name in bench.TABLES:
        table = shop.con.to_pyarrow(getattr(shop.tables(), name))
        pq.write_table(table, tmp_path / f"{name}.parquet")
    for days in (0, 60):
        ours, reference = both(bench, tmp_path, NOON - timedelta(days=days), "America/New_York")
        wrong = {
            trait.name: found for trait in FEATURES if (found := differences(ours, reference, trait.name))
        }
        assert wrong == {}
