"""A build makes everything or changes nothing, and says in the manifest what it made."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from segue.core.config import load_project
from segue.core.errors import ConfigError, DataError, StoreError
from segue.core.personalize import available_traits, build
from segue.core.snapshot import Snapshot, current

EXAMPLE = Path(__file__).parents[2] / "examples" / "planted"
AS_OF = datetime(2026, 3, 31, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a copy of the planted example that a test may spoil."""
    copy = tmp_path / "planted"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns(".segue"))
    return copy


@pytest.fixture
def built(planted: Path, tmp_path: Path) -> Path:
    """Give a copy of the planted example with its snapshot of AS_OF."""
    return Path(shutil.copytree(planted, tmp_path / "built"))


def made(folder: Path, as_of: datetime = AS_OF) -> Snapshot:
    return build(load_project(folder), as_of=as_of, progress=lambda _what, _share: None)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def query(snapshot: Snapshot, sql: str) -> Any:
    con = snapshot.connect()
    rows = con.raw_sql(sql).fetchall()
    con.disconnect()
    return rows


def left_over(folder: Path) -> list[str]:
    root = folder / ".segue" / "snapshots"
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.exists() else []


def test_the_same_build_twice_is_one_snapshot(built: Path) -> None:
    first, second = current(built / ".segue"), made(built)
    assert first.id == second.id
    assert left_over(built) == [first.id]


def test_progress_goes_from_nothing_to_all(folder: Path) -> None:
    told = []
    build(load_project(folder), as_of=AS_OF, progress=lambda what, share: told.append((what, share)))
    shares = [share for _, share in told]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
    assert all(what for what, _ in told)


def test_the_manifest_is_json_and_tells_what_the_build_made(planted: Path) -> None:
    snapshot = current(planted / ".segue")
    manifest = json.loads((snapshot.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest == snapshot.manifest
    assert manifest["as_of"] == AS_OF.isoformat()
    assert manifest["tables"]["customers"]["rows"] == 30
    assert manifest["groups"]["stage"][0] == "abandoned_cart"
    assert {found["rule"] for found in manifest["quarantine"]} == {"future_date"}
    assert manifest["report"]["sources"][0]["rows_read"] == 30
    sizes = {segment["name"]: segment["size"] for segment in manifest["segments"]}
    assert (sizes["readers"], sizes["never_bought"]) == (1, 10)


def test_the_traits_known_before_a_build_are_those_that_it_makes(planted: Path) -> None:
    assert available_traits(load_project(planted)) == current(planted / ".segue").traits


def test_history_is_carried_on_from_build_to_build(built: Path) -> None:
    """Uwe ordered 25 hours after filling the cart; a month later his cart no longer counts, and later he is in again."""
    later = AS_OF + timedelta(days=40)
    edit(built / "data" / "events.csv", "e001,", "e900,uwe,cart_added,2026-05-08T12:00:00Z,watch,,\ne001,")
    made(built, later - timedelta(days=2))
    last = made(built, later)
    history = query(
        last,
        "select entered_at at time zone 'UTC', left_at at time zone 'UTC' from memberships "
        "where contact_id = 'uwe' and segment = 'abandoned_cart' order by 1",
    )
    naive = [moment.replace(tzinfo=None) for moment in (AS_OF, later - timedelta(days=2), later)]
    assert history == [(naive[0], naive[1]), (naive[2], None)]


def test_a_build_for_the_past_in_between_does_not_lose_history(built: Path) -> None:
    made(built, AS_OF - timedelta(days=10))
    last = made(built, AS_OF + timedelta(days=1))
    entered = query(last, "select distinct entered_at = timestamptz '2026-03-31 12:00Z' from memberships")
    assert (True,) in entered
    assert query(
        last, "select count(*) from memberships where entered_at < timestamptz '2026-03-31 12:00Z'"
    ) == [(0,)]


def test_a_damaged_history_is_said_and_does_not_stop_a_build(built: Path) -> None:
    current(built / ".segue").table("memberships").write_bytes(b"spoilt")
    snapshot = made(built)
    assert any("damaged" in warning for warning in snapshot.manifest["warnings"])
    assert snapshot.rows("memberships") > 0


def test_a_source_that_is_gone_leaves_the_old_snapshot_and_no_trace(built: Path) -> None:
    before = current(built / ".segue")
    (built / "data" / "orders.csv").unlink()
    with pytest.raises(DataError, match=r"orders\.csv"):
        made(built)
    assert current(built / ".segue") == before
    assert left_over(built) == [before.id]


def test_too_many_rejected_rows_write_no_snapshot(folder: Path) -> None:
    path = folder / "data" / "orders.csv"
    edit(path, "2026-03-20T18:30:00Z", "yesterday")
    edit(path, "2026-03-05T07:10:00Z", "today")
    with pytest.raises(DataError, match="rejected"):
        made(folder)
    assert left_over(folder) == []
    with pytest.raises(StoreError, match="segue build"):
        current(folder / ".segue")


def test_a_rule_with_an_unknown_trait_is_found_before_anything_is_written(folder: Path) -> None:
    edit(folder / "segue.yml", "opens_30d >= 2", "opens_30 >= 2")
    with pytest.raises(ConfigError, match=r'segue\.yml:\d+.*opens_30.*Did you mean "opens_30d"') as raised:
        made(folder)
    assert len(raised.value.problems) == 1
    assert left_over(folder) == []


def test_a_customer_column_may_not_have_the_name_of_a_computed_trait(folder: Path) -> None:
    edit(folder / "data" / "customers.csv", "loyalty_tier", "revenue")
    edit(folder / "segue.yml", "loyalty_tier: {", "revenue: {")
    for attempt in (lambda: made(folder), lambda: available_traits(load_project(folder))):
        with pytest.raises(ConfigError, match=r'segue\.yml:\d+.*"revenue".*computed trait.*shop_revenue'):
            attempt()


def test_orders_in_two_currencies_are_said(folder: Path) -> None:
    path = folder / "data" / "orders.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    head, first, *rest = lines
    path.write_text(
        "\n".join([f"{head},currency", f"{first},CHF", *(f"{line},EUR" for line in rest)]) + "\n",
        encoding="utf-8",
    )
    edit(folder / "segue.yml", "sources:", 'quality:\n  rules: {country_currency: "off"}\n\nsources:')
    assert any("CHF" in warning and "exchange" in warning for warning in made(folder).manifest["warnings"])


def test_a_build_for_the_past_knows_only_the_past(folder: Path) -> None:
    past = made(folder, datetime(2026, 3, 11, 12, tzinfo=UTC))
    # Jana's shoes were sold on the 10th and come back on the 12th.
    assert query(past, "select orders_count, recency_days from profiles where contact_id = 'jana'") == [
        (1, 1)
    ]
    assert query(past, "select max(views_90d) from profiles") == [(None,)]
    assert any("orders lie after" in warning for warning in past.manifest["warnings"])


def test_a_project_without_segments_and_recommendations_is_built(folder: Path) -> None:
    text = (folder / "segue.yml").read_text(encoding="utf-8")
    (folder / "segue.yml").write_text(text.partition("segments:")[0], encoding="utf-8")
    snapshot = made(folder)
    empty = ("segments", "groups", "memberships", "recommendations")
    assert [snapshot.rows(table) for table in empty] == [0, 0, 0, 0]
    columns = [name for name, *_ in query(snapshot, "describe recommendations")]
    assert columns[:4] == ["contact_id", "recommendation", "slot", "product_id"]
