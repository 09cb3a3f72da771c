import errno
import json
from pathlib import Path

import duckdb
import pytest

from segue.core.errors import BugError, ConfigError, GuardrailError, Problem
from segue.sync.cli import main
from segue.sync.cli.app import app
from segue.sync.cli.output import show_error, words
from segue.sync.plain import plain
from segue.sync.unforeseen import bug_of, of_machine


def test_an_unforeseen_error_is_called_a_bug_with_its_place_and_without_its_text() -> None:
    people: dict[str, int] = {}
    with pytest.raises(KeyError) as caught:
        people["ada@shop.test"]
    told = bug_of(caught.value).message
    assert "KeyError in sync/cli/test_errors.py:" in told
    assert "ada@shop.test" not in told
    assert "\n" not in told


def test_a_bug_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash() -> None:
        raise KeyError("ada@shop.test")

    monkeypatch.delenv("SEGUE_TRACEBACK", raising=False)
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    app.command("crash", hidden=True)(crash)
    assert main(["crash"]) == BugError.exit_code
    printed = capsys.readouterr()
    assert "ada@shop.test" not in printed.err + printed.out
    monkeypatch.setenv("SEGUE_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["crash"])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "state/x"),
            "no space left on device: state/x. Free",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "state"),
            "permission denied: state. Give this user",
        ),
        (OSError(errno.EROFS, "Read-only file system", "state"), "read-only file system: state. The disk"),
        (OSError("odd"), "oserror. What was there before is untouched."),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_the_stores_error_with_a_next_step(error: Exception, told: str) -> None:
    shown = of_machine(error)
    assert shown is not None
    assert shown.message.startswith(told)
    assert shown.exit_code == 2


@pytest.mark.parametrize(
    ("query", "told"),
    [("select 'x'::int", None), ("from read_parquet('{}')", "a Parquet file of the snapshot")],
)
def test_what_the_engine_cannot_compute_is_a_bug_and_what_it_cannot_read_is_not(
    tmp_path: Path, query: str, told: str | None
) -> None:
    damaged = tmp_path / "x.parquet"
    damaged.write_bytes(b"short")
    with pytest.raises(duckdb.Error) as caught:
        duckdb.connect().execute(query.format(damaged)).fetchall()
    shown = of_machine(caught.value)
    assert (shown is None) if told is None else (shown is not None and shown.message.startswith(told))


def test_an_error_for_machines_lists_its_problems(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem(where="segue.yml:3", message="project: is missing.", next_step="Add it.")
    show_error(ConfigError.of([problem]), 2, as_json=True)
    assert json.loads(capsys.readouterr().out)["error"] == {
        "kind": "ConfigError",
        "message": "segue.yml:3: project: is missing. Add it.",
        "exit_code": 2,
        "problems": [{"where": "segue.yml:3", "message": "project: is missing.", "next_step": "Add it."}],
    }


def test_an_error_for_people_keeps_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(GuardrailError("sources.orders[0] [bold]x[/bold]"), 4, as_json=False)
    assert capsys.readouterr().err == "Error: sources.orders[0] [bold]x[/bold]\n"


def test_values_for_machines_have_the_shapes_of_json() -> None:
    from datetime import UTC, date, datetime, timedelta
    from decimal import Decimal

    given = {
        "instant": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "length": timedelta(minutes=2),
        "money": Decimal("1.50"),
        "path": Path("a/b"),
        "nothing": float("nan"),
        "key": b"\x01",
        "many": (1, {"b"}),
    }
    assert plain(given) == {
        "instant": "2026-01-02T03:00:00Z",
        "day": "2026-01-02",
        "length": 120.0,
        "money": "1.50",
        "path": "a/b",
        "nothing": None,
        "key": "01",
        "many": [1, ["b"]],
    }
    assert json.dumps(plain(given))


def test_values_for_people_read_well() -> None:
    from datetime import UTC, datetime
    from decimal import Decimal

    given = [1234567, Decimal("1234.5"), 0.25, 12345.6, None, False, datetime(2026, 1, 2, 3, 4, tzinfo=UTC)]
    told = ["1,234,567", "1,234.50", "0.25", "12,346", "", "no", "2026-01-02 03:04 UTC"]
    assert [words(value) for value in given] == told
