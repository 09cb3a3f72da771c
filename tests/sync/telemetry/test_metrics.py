"""The figures come from the store: they survive processes, lose no destination's lines and parse as Prometheus reads."""

import stat
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from segue.connectors.faults import Fault, FaultKind
from segue.core.errors import SegueError
from segue.sync.store.store import Store
from segue.sync.telemetry import metrics

from ...conftest import Clock
from ...shop import Shop

Samples = dict[tuple[str, ...], float]
_numbers = count()


def samples(text: bytes | str) -> Samples:
    """Parse an exposition: (name, label values in order of their names) to value."""
    text = text.decode() if isinstance(text, bytes) else text
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    assert len({family.name for family in families}) == len(families)
    found = [sample for family in families for sample in family.samples]
    assert all(sample.name.startswith("segue_") for sample in found)
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for sample in found
    }


def ran(
    store: Store, clock: Clock, destination: str = "newsletter", *, kind: str = "run", **report: Any
) -> str:
    """Store a run that ended, as a job does."""
    code = report.pop("exit_code", 0)
    run_id = f"r{next(_numbers)}"
    store.runs.start(run_id, destination, kind)
    clock.advance(timedelta(seconds=10))
    store.runs.finish(run_id, exit_code=code, report=report)
    metrics.keep(store, destination)
    clock.advance(timedelta(hours=1))
    return run_id


def test_counters_grow_from_run_to_run_and_survive_processes(store: Store, clock: Clock) -> None:
    for _ in range(3):
        ran(
            store,
            clock,
            outcomes={"update": {"applied": 5, "rejected": 2}},
            reasons=[{"status": "rejected", "code": "fake", "reason": "…", "count": 2}],
            requests={"read": 4, "write": 1, "by_status": {"2xx": 4, "4xx": 1}, "retried": 1, "throttled": 1},
            phases={"plan": 2.0, "apply": 100.0},
        )
    found = samples(metrics.exposition(store, ["newsletter"]))
    assert found["segue_changes_total", "newsletter", "update", "applied"] == 15
    assert found["segue_rejected_changes_total", "fake", "newsletter"] == 6
    assert found["segue_requests_total", "newsletter", "read"] == 12
    assert found["segue_answers_total", "newsletter", "4xx"] == 3
    assert found["segue_retried_requests_total", "newsletter"] == 3
    assert found["segue_throttled_requests_total", "newsletter"] == 3
    assert found["segue_runs_total", "newsletter", "0", "run"] == 3
    assert found["segue_phase_duration_seconds_count", "newsletter", "plan"] == 3
    assert found["segue_phase_duration_seconds_sum", "newsletter", "apply"] == 300
    assert found["segue_phase_duration_seconds_bucket", "newsletter", "60.0", "apply"] == 0
    assert found["segue_phase_duration_seconds_bucket", "newsletter", "300.0", "apply"] == 3
    assert found["segue_phase_duration_seconds_bucket", "newsletter", "+Inf", "apply"] == 3


def test_asking_twice_counts_nothing_twice(store: Store, clock: Clock) -> None:
    ran(store, clock, outcomes={"update": {"applied": 5}})
    first = metrics.exposition(store, ["newsletter"])
    metrics.keep(store, "newsletter")
    assert metrics.exposition(store, ["newsletter"]) == first


def test_a_run_whose_process_died_before_it_could_count_is_counted_by_the_next(
    store: Store, clock: Clock
) -> None:
    store.runs.start("killed", "newsletter", "run")
    clock.advance(timedelta(hours=1))
    ran(store, clock)
    found = samples(metrics.exposition(store, ["newsletter"]))
    assert found["segue_runs_total", "newsletter", "interrupted", "run"] == 1
    assert found["segue_runs_total", "newsletter", "0", "run"] == 1


def test_a_failed_run_moves_the_exit_code_and_not_the_last_success(store: Store, clock: Clock) -> None:
    ran(store, clock)
    well = samples(metrics.exposition(store, ["newsletter"]))
    ran(store, clock, exit_code=3)
    found = samples(metrics.exposition(store, ["newsletter"]))
    key = ("segue_last_success_timestamp_seconds", "newsletter")
    assert found[key] == well[key]
    assert found["segue_last_run_exit_code", "newsletter"] == 3
    ended = ("segue_last_run_timestamp_seconds", "newsletter")
    assert found[ended] - well[ended] == 3610


def test_a_look_is_no_success(store: Store, clock: Clock) -> None:
    ran(store, clock, kind="plan", plan_id="p", withheld={"no_grant": 7}, snapshot_id="20260301T000000Z-ab")
    found = samples(metrics.exposition(store, ["newsletter"]))
    assert ("segue_last_success_timestamp_seconds", "newsletter") not in found
    assert ("segue_last_run_exit_code", "newsletter") not in found
    assert found["segue_withheld_contacts", "newsletter", "no_grant"] == 7
    assert found["segue_snapshot_timestamp_seconds", "newsletter"] == 1772323200


def test_codes_of_an_esp_do_not_become_endless_lines(store: Store, clock: Clock) -> None:
    for number in range(100):
        ran(
            store,
            clock,
            reasons=[{"status": "rejected", "code": f"code {number}", "reason": "…", "count": 1}],
        )
    found = samples(metrics.exposition(store, ["newsletter"]))
    codes = {key: value for key, value in found.items() if key[0] == "segue_rejected_changes_total"}
    assert len(codes) <= 41
    assert sum(codes.values()) == 100


def test_a_label_that_needs_escaping_is_read_back_as_it_was(store: Store, clock: Clock) -> None:
    code = 'a "quoted" \\ code\nof two lines'
    ran(store, clock, reasons=[{"status": "rejected", "code": code, "reason": "…", "count": 1}])
    assert ("segue_rejected_changes_total", code, "newsletter") in samples(
        metrics.exposition(store, ["newsletter"])
    )


def test_the_textfile_holds_every_destination(store: Store, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "collector" / "segue.prom"
    for name in ("one", "two"):
        ran(store, clock, name, outcomes={"update": {"applied": 1}})
        metrics.write_textfile(path, store, ["one", "two"])
    found = samples(path.read_text())
    assert {key[1] for key in found if key[0] == "segue_changes_total"} == {"one", "two"}
    assert [each.name for each in path.parent.iterdir()] == ["segue.prom"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_run_that_ends_while_another_writes_the_file_is_not_lost(
    store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one writes first, and this one, which did not know of it, over it."""
    path, read = tmp_path / "segue.prom", metrics.exposition

    def meanwhile(store: Store, names: Any) -> bytes:
        text = read(store, names)
        if not path.exists():
            ran(store, clock, "two", outcomes={"update": {"applied": 1}})
            path.write_bytes(read(store, names))
        return text

    ran(store, clock, "one")
    monkeypatch.setattr(metrics, "exposition", meanwhile)
    metrics.write_textfile(path, store, ["one", "two"])
    assert samples(path.read_text())["segue_changes_total", "two", "update", "applied"] == 1


def test_a_file_that_cannot_be_replaced_leaves_no_draft(store: Store, tmp_path: Path) -> None:
    (tmp_path / "segue.prom" / "in_the_way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"segue\.prom"):
        metrics.write_textfile(tmp_path / "segue.prom", store, ["one"])
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".tmp"] == []


@pytest.fixture
def collected(shop: Shop) -> Path:
    """A shop whose runs write a textfile, on each database in turn."""
    shop.stock(6)
    shop.customers["c00003"].consents = []
    shop.build()
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("metrics: {textfile: collector/segue.prom}\n")
    return shop.folder / "collector" / "segue.prom"


def test_a_run_writes_what_it_did(shop: Shop, collected: Path) -> None:
    report = shop.run(rebuild=False)
    found = samples(collected.read_text())
    assert report.warnings == []
    assert found["segue_changes_total", "newsletter", "create", "applied"] == 5
    assert found["segue_withheld_contacts", "newsletter", "no_grant"] == 1
    assert found["segue_requests_total", "newsletter", "write"] == report.writes
    assert found["segue_answers_total", "newsletter", "2xx"] == report.traffic.requests
    assert found["segue_waiting_changes", "newsletter"] == 0
    assert {key[2] for key in found if key[0] == "segue_phase_duration_seconds_count"} == {
        "pull",
        "plan",
        "apply",
    }
    assert "shop.example" not in collected.read_text()


def test_a_run_that_failed_writes_it_too(shop: Shop, collected: Path) -> None:
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.ERROR, count=20)])
    with pytest.raises(SegueError):
        shop.run(rebuild=False)
    assert samples(collected.read_text())["segue_last_run_exit_code", "newsletter"] == 3


def test_a_textfile_that_cannot_be_written_is_a_warning_and_no_failure(shop: Shop, collected: Path) -> None:
    collected.parent.write_text("in the way")
    report = shop.run(rebuild=False)
    assert report.exit_code == 0
    assert len(report.warnings) == 1
    with ExitStack() as stack:
        (run,) = shop.job(stack).store.runs.newest(1)
    assert run.report["warnings"] == report.warnings
