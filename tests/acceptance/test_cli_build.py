"""`segue check` and `segue build`, as the processes that a person or a schedule starts."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .ugly_shop import QUALITY, SECRETS, replaced, segue


def test_a_build_reads_the_ugly_exports_right(built: Path) -> None:
    found = segue(
        "sql",
        "select contact_id, email, country, umsatz_bisher, revenue, orders_count, last_order_date, created_at"
        " from profiles order by contact_id",
        "-p",
        built,
        "--json",
    ).json()
    assert [row["contact_id"] for row in found] == ["K-1", "K-2", "K-4", "K-5"]
    assert found[0] == {
        "contact_id": "K-1",
        "email": "joerg@beispiel.de",
        "country": "DE",
        "umsatz_bisher": 1234.5,
        "revenue": "1136.5000",
        "orders_count": 2,
        "last_order_date": "2025-12-31",
        "created_at": "2025-01-31T23:00:00Z",
    }
    assert [row["email"] for row in found][1:] == ["zoe@beispiel.de", "ana@beispiel.de", None]
    # K-3 and K-4 have one address: the newer survives, with the other's order.
    assert found[2]["orders_count"] == 1


def test_a_merge_is_reported_and_can_be_undone(rebuildable: Path) -> None:
    merged = segue("identity", "report", "-p", rebuildable, "--json").json()["merged"]
    assert [(row["contact_id"], row["survivor_id"]) for row in merged] == [("K-3", "K-4")]
    assert segue("identity", "undo", "K-1", "-p", rebuildable).code == 2
    assert segue("identity", "undo", "K-3", "-p", rebuildable).code == 0
    assert segue("build", "-p", rebuildable).code == 0
    assert segue("identity", "report", "-p", rebuildable, "--json").json()["merged"] == []
    assert segue("sql", "select count(*) as n from profiles", "-p", rebuildable, "--json").json() == [
        {"n": 5}
    ]


def test_check_tells_everything_about_secrets_at_once_and_shows_none(broken: Path) -> None:
    told = segue("check", "-p", broken).err
    assert "MAILCHIMP_API_KEY" in told
    assert "MAILCHIMP_AUDIENCE" in told
    wrong = segue("check", "-p", broken, env={**SECRETS, "MAILCHIMP_API_KEY": "hunter2"})
    assert "hunter2" not in wrong.err + wrong.out


# What stands in the project, what a mistake makes of it, and what is said of it: mistakes of one group at once.
MISTAKES: dict[str, list[tuple[str, str, str]]] = {
    "config": [
        ("timezone: Europe/Berlin", "timezone: Europe/Berlln", '"Europe/Berlin"'),
        ("sources:", "sorces:", '"sources"'),
        ("segments: [champions,", "segments: [champion,", '"champions"'),
    ],
    "yaml": [("project: ", "project: [", "not YAML")],
    "rules": [
        ("where: orders_count = 0", "where: order_count = 0", '"orders_count"'),
        ("where: rfm_cell = 'lost'", "where: rfm_cell = = 'lost'", "segments.lost.where"),
        ("where: rfm_cell = 'loyal'", "where: drop table profiles", "segments.loyal.where"),
    ],
    "data": [
        ("artikel.csv", "artikl.csv", "no such file"),
        ("contact_id: Kundennr", "contact_id: Kundennummer", '"Kundennr"'),
        (QUALITY, f"{QUALITY}  rules: {{invalid_mail: warn}}\n", '"invalid_email"'),
    ],
}


@pytest.mark.parametrize("group", MISTAKES)
@pytest.mark.parametrize("command", ["check", "build"])
def test_mistakes_are_told_at_once_with_place_and_next_step(broken: Path, command: str, group: str) -> None:
    for old, new, _ in MISTAKES[group]:
        replaced(broken, old, new)
    ended = segue(command, "-p", broken, env=SECRETS)
    assert ended.code == 2, ended.err
    error = ended.err[ended.err.index("Error: ") + len("Error: ") :]
    assert all(line.startswith("segue.yml:") for line in error.splitlines())
    # A build stops at the first kind of mistake, a check looks for all kinds.
    found = [told in error for _, _, told in MISTAKES[group]]
    assert all(found) if command == "check" else any(found)
    assert ended.out == ""
    assert not list((broken / ".segue").rglob("*.parquet"))


def test_an_unknown_connector_and_a_missing_mapping_are_said(broken: Path) -> None:
    mapping = broken / "mappings" / "mailchimp.yml"
    replaced(broken, "connector: mailchimp\n", "connector: mailchmp\n")
    assert 'Did you mean "mailchimp"?' in segue("check", "-p", broken, env=SECRETS).err
    replaced(broken, "connector: mailchmp\n", "connector: mailchimp\n")
    mapping.write_text(mapping.read_text().replace("connector: mailchimp", "connector: klaviyo"))
    assert "is for klaviyo and not for mailchimp" in segue("check", "-p", broken, env=SECRETS).err
    mapping.unlink()
    assert "mappings/mailchimp.yml" in segue("check", "-p", broken, env=SECRETS).err


def test_a_failed_build_leaves_the_snapshot_before(rebuildable: Path) -> None:
    pointer = (rebuildable / ".segue" / "snapshots" / "CURRENT").read_text()
    files = sorted((rebuildable / ".segue").rglob("*"))
    replaced(rebuildable, QUALITY, "")
    ended = segue("build", "-p", rebuildable)
    assert ended.code == 2
    assert (rebuildable / ".segue" / "snapshots" / "CURRENT").read_text() == pointer
    assert sorted((rebuildable / ".segue").rglob("*")) == files


def test_rows_can_come_through_a_pipe(broken: Path) -> None:
    replaced(
        broken,
        "segments:\n  champions:",
        "segments:\n  seen:\n    where: ever('product_viewed')\n  champions:",
    )
    replaced(broken, "sources:\n", "sources:\n  events:\n    - stdin: jsonl\n")
    line = {"contact_id": "K-2", "event_type": "product_viewed", "occurred_at": "2025-12-31T10:00:00Z"}
    ended = segue("build", "-p", broken, "--json", stdin=json.dumps(line) + "\n")
    assert ended.code == 0, ended.out
    sizes = {
        row["segment"]: row["contacts"]
        for row in segue("segments", "list", "-p", broken, "--json").json()["segments"]
    }
    assert sizes["seen"] == 1


def test_as_of_can_be_given_and_must_have_a_zone(broken: Path) -> None:
    assert segue("build", "-p", broken, "--as-of", "2025-12-01").code == 2
    assert segue("build", "-p", broken, "--as-of", "2025-12-01T00:00:00Z").code == 0
    found = segue("sql", "select orders_count from profiles where contact_id = 'K-1'", "-p", broken, "--json")
    assert found.json() == [{"orders_count": 0}]


@pytest.mark.parametrize(("signalled", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_build_that_is_told_to_stop_leaves_no_trace(
    broken: Path, signalled: signal.Signals, code: int
) -> None:
    replaced(broken, "sources:\n", "sources:\n  events:\n    - stdin: jsonl\n")
    with subprocess.Popen(
        [Path(sys.executable).with_name("segue"), "build", "-p", broken],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        # A shell without job control starts its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stderr is not None
        assert "Reading the sources" in process.stderr.readline()
        process.send_signal(signalled)
        _, err = process.communicate()
    assert process.returncode == code
    assert err == ""
    assert not list((broken / ".segue").rglob(".building-*"))
    assert not list((broken / ".segue").rglob("*.parquet"))


def test_an_error_in_a_function_of_the_project_does_not_quote_data(broken: Path) -> None:
    (broken / "crash.py").write_text("def rows():\n    raise KeyError('ana@beispiel.de')\n")
    replaced(broken, "sources:\n", "sources:\n  events:\n    - python: crash.py:rows\n")
    ended = segue("build", "-p", broken)
    assert ended.code == 2
    assert "crash.py:rows" in ended.err
    assert "ana@beispiel.de" not in ended.err
