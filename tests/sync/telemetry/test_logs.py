"""One line an event, JSON or text, ours and the libraries' alike, and nothing where nothing was asked for."""

import json
import logging
from typing import Any

import pytest
import structlog

from segue.sync.telemetry.logs import LogFormat, LogLevel, configure, quiet_unless_configured
from segue.sync.telemetry.redaction import HIDDEN

pytestmark = pytest.mark.usefixtures("own_log")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    written = capsys.readouterr()
    assert written.out == ""
    return [json.loads(line) for line in written.err.splitlines()]


def test_an_event_is_one_line_of_json_with_time_level_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogFormat.JSON, LogLevel.INFO)
    with structlog.contextvars.bound_contextvars(run_id="r1", destination="newsletter"):
        structlog.get_logger().info("planned", changes={"create": 3}, reason="one\ntwo")
    (line,) = lines(capsys)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    assert {name: line[name] for name in line if name != "time"} == {
        "level": "info",
        "event": "planned",
        "changes": {"create": 3},
        "reason": "one\ntwo",
        "run_id": "r1",
        "destination": "newsletter",
    }


def test_a_librarys_lines_go_the_same_way_and_through_the_same_wall(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LogFormat.JSON, LogLevel.INFO)
    with structlog.contextvars.bound_contextvars(run_id="r1"):
        logging.getLogger("urllib3").warning("Retrying %s", "/members/ann%40shop.example")
    (line,) = lines(capsys)
    assert (line["event"], line["logger"], line["run_id"]) == (f"Retrying {HIDDEN}", "urllib3", "r1")


@pytest.mark.parametrize("log", ["structlog", "logging"])
def test_an_error_is_told_by_its_kind_and_place_and_not_by_its_words(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LogFormat.JSON, LogLevel.INFO)
    logger: Any = structlog.get_logger() if log == "structlog" else logging.getLogger("scheduler")
    try:
        int("Ann Smith")
    except ValueError:
        logger.exception("failed")
    written = capsys.readouterr().err
    line = json.loads(written)
    assert "Smith" not in written
    assert line["error"] == "ValueError"
    assert line["where"][0].startswith("sync/telemetry/test_logs.py:")


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogFormat.JSON, LogLevel.WARNING)
    structlog.get_logger().info("planned")
    logging.getLogger("alembic").info("migrating")
    structlog.get_logger().warning("throttled")
    assert [line["event"] for line in lines(capsys)] == ["throttled"]


def test_none_writes_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogFormat.NONE, LogLevel.DEBUG)
    structlog.get_logger().error("failed")
    structlog.get_logger().critical("failed")
    logging.getLogger("urllib3").critical("failed")
    assert capsys.readouterr() == ("", "")


def test_console_lines_pass_the_wall(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogFormat.CONSOLE, LogLevel.INFO)
    structlog.get_logger().info("told", to="ann@shop.example")
    written = capsys.readouterr().err
    assert "told" in written
    assert "ann" not in written


def test_used_as_a_library_nothing_is_printed_unless_the_program_decides(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet_unless_configured()
    structlog.get_logger().warning("throttled")
    assert capsys.readouterr() == ("", "")
    configure(LogFormat.JSON, LogLevel.INFO)
    quiet_unless_configured()
    structlog.get_logger().warning("throttled")
    assert len(lines(capsys)) == 1
