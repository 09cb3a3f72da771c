"""What a person and a log collector get from the commands, as real processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ...forked import forked_segue
from ...shop import Shop

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


def segue(shop: Shop, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [forked_segue(), *arguments, "--project", shop.folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_run_logs_json_lines_and_keeps_stdout_one_clean_document(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(4)
    shop.customers["c00002"].consents = []
    shop.build()
    monkeypatch.setenv("SEGUE_LOG_FORMAT", "json")
    monkeypatch.setenv("SEGUE_LOG_LEVEL", "debug")
    done = segue(shop, "run", "--no-build", "--json")
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    told = events(done)
    ours = [line for line in told if line.get("run_id") == report["run_id"] and line["event"] != "request"]
    assert [line["event"] for line in ours if "logger" not in line] == [
        "run_started",
        "pulled",
        "planned",
        "batch_settled",
        "run_finished",
    ]
    assert all(line["destination"] == "newsletter" for line in ours)
    settled, finished = ours[-2:]
    assert (settled["operation"], settled["outcomes"]) == ("create", {"applied": 3})
    assert isinstance(settled["milliseconds"], int)
    assert (finished["exit_code"], finished["changes"], finished["writes"]) == (
        0,
        {"applied": 3},
        report["requests"]["write"],
    )
    requests = [line for line in told if line["event"] == "request"]
    assert len(requests) == report["requests"]["read"] + report["requests"]["write"]
    # Also those that a courier sent on a thread of its own.
    assert {line["run_id"] for line in requests} == {report["run_id"]}
    assert not any(word in done.stderr for word in ("shop.example", "%40", "Smith", shop.sandbox.key))


def test_a_run_that_failed_says_so_in_its_last_line(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    shop.sandbox.settings(key="another")
    done = segue(shop, "--log-format", "json", "run", "--no-build", "--json")
    assert done.returncode == 3
    assert "error" in json.loads(done.stdout)
    last = events(done)[-1]
    assert (last["event"], last["level"], last["exit_code"]) == ("run_finished", "error", 3)
    assert last["error"] == "AuthenticationError"


def test_nothing_is_logged_unless_it_is_asked_for(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    assert segue(shop, "run", "--no-build", "--json").stderr == ""


def test_report_says_what_happened_and_writes_the_page(shop: Shop, tmp_path: Path) -> None:
    shop.stock(3)
    shop.build()
    assert "No run yet" in segue(shop, "report").stderr
    run = json.loads(segue(shop, "run", "--no-build", "--json").stdout)[0]
    segue(shop, "plan")  # the newest run that sends something is shown
    shown = segue(shop, "report", "--html", tmp_path / "run.html")
    assert shown.returncode == 0, shown.stderr
    assert "3 changes arrived." in shown.stdout
    page = (tmp_path / "run.html").read_text()
    assert run["run_id"] in page
    assert "shop.example" not in page
    told = json.loads(segue(shop, "report", run["run_id"], "--json").stdout)
    assert told["report"]["outcomes"] == {"create": {"applied": 3}}
    assert set(told["report"]["phases"]) == {"pull", "plan", "apply"}
    assert sum(told["report"]["requests"]["timeline"]["requests"]) == sum(
        run["requests"][k] for k in ("read", "write")
    )
    assert "There is no run nowhere" in segue(shop, "report", "nowhere").stderr


def test_alert_says_who_is_told_and_that_a_test_was_not_taken(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.build()
    assert "tells nobody" in segue(shop, "alert").stdout
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("alerts: [{url: env:HOOK}]\n")
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/a-secret-path")
    assert json.loads(segue(shop, "alert", "--json").stdout) == [
        {"url": "env:HOOK", "format": "slack", "destinations": ["newsletter"]}
    ]
    done = segue(shop, "alert", "--test")
    assert done.returncode == 3
    assert "was not delivered: ConnectionError" in done.stderr
    assert "a-secret-path" not in done.stderr


def test_help_imports_nothing_heavy(shop: Shop) -> None:
    del shop
    script = (
        "import sys; from segue.sync.cli.app import load_groups; load_groups(); "
        "print(sorted({'structlog', 'prometheus_client', 'jinja2', 'matplotlib', 'requests', 'opentelemetry'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
