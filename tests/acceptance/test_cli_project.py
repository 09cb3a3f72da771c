"""The commands around a project, as the processes that a person or a schedule starts."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest

EXPORT = {
    "kunden.csv": (
        "Kundennr;Vorname;E-Mail;Land;Kunde seit;Umsatz bisher\n"
        "K-1;Jörg;joerg@beispiel.de;Deutschland;01.02.2025;1.234,50\n"
        "K-2;Zoë;zoe@beispiel.de;Österreich;03.04.2025;7,00\n"
        "K-3;Ana;ANA@beispiel.de ;Deutschland;05.06.2025;0,99\n"
        "K-4;Ana;ana@beispiel.de;Deutschland;06.06.2025;3,00\n"
        "K-5;Ida;keine Adresse;Deutschland;06.06.2025;4,00\n"
    ),
    "bestellungen.csv": (
        "Bestellnr;Kundennr;Bestelldatum\n"
        "B-1;K-1;30.12.2025 10:00\nB-2;K-1;31.12.2025 11:30\nB-3;K-3;01.11.2025 08:00\n"
    ),
    "bestellpositionen.csv": (
        "Bestellnr;Pos;Artikelnr;Menge;Einzelpreis\n"
        "B-1;1;A-1;2;12,50\nB-1;2;A-2;1;1.099,00\nB-2;1;A-1;1;12,50\nB-3;1;A-2;1;1.099,00\n"
    ),
    "artikel.csv": (
        "Artikelnr;Bezeichnung;Warengruppe;Preis\nA-1;Becher;Küche;12,50\nA-2;Tisch;Möbel;1.099,00\n"
    ),
}
QUALITY = "quality:\n  max_rejected_share: 0.5\n"
SECRETS = {
    "MAILCHIMP_API_KEY": "0123456789abcdef0123456789abcdef-us1",
    "MAILCHIMP_AUDIENCE": "b1234567ab",
}
HEAVY = (
    "ibis",
    "duckdb",
    "pyarrow",
    "pandas",
    "sqlalchemy",
    "pydantic",
    "mailchimp_marketing",
    "sqlglot",
    "babel",
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a process left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def segue(*arguments: str | Path, env: dict[str, str] | None = None, stdin: str = "") -> Ended:
    ended = subprocess.run(
        [Path(sys.executable).with_name("segue"), *arguments],
        env={**{key: value for key, value in os.environ.items() if key not in SECRETS}, **(env or {})},
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return Ended(code=ended.returncode, out=ended.stdout, err=ended.stderr)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    for name, text in EXPORT.items():
        (folder / name).write_bytes(text.encode("windows-1252"))
    return folder


@pytest.fixture(scope="module")
def built(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made by init from ugly exports, checked, and built."""
    folder = tmp_path_factory.mktemp("projects") / "shop"
    assert segue("init", folder, "--data", export).code == 0
    config = folder / "segue.yml"
    # One address in five is broken here; a real shop that has as many should stop and look.
    config.write_text(f"{config.read_text(encoding='utf-8')}\n{QUALITY}", encoding="utf-8")
    checked = segue("check", "-p", folder, env=SECRETS)
    assert checked.code == 0, checked.err
    ended = segue("build", "-p", folder)
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def broken(built: Path, tmp_path: Path) -> Path:
    """A copy of the project to break, without its snapshot."""
    folder = tmp_path / "copy"
    (folder / "mappings").mkdir(parents=True)
    text = (built / "segue.yml").read_text(encoding="utf-8")
    export = next(line for line in text.splitlines() if "kunden.csv" in line).split(": ", 1)[1]
    absolute = (built / Path(export).parent).resolve()
    text = text.replace(str(Path(export).parent), str(absolute))
    (folder / "segue.yml").write_text(text, encoding="utf-8")
    mapping = (built / "mappings" / "mailchimp.yml").read_text(encoding="utf-8")
    (folder / "mappings" / "mailchimp.yml").write_text(mapping, encoding="utf-8")
    return folder


@pytest.fixture
def rebuildable(built: Path, broken: Path) -> Path:
    """A copy of the project to break, with its snapshot."""
    shutil.copytree(built / ".segue", broken / ".segue")
    return broken


def replaced(folder: Path, old: str, new: str) -> None:
    path = folder / "segue.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_help_lists_the_commands_and_exit_codes() -> None:
    shown = segue("--help")
    assert shown.code == 0
    assert segue().out == shown.out
    for word in ("init", "check", "schema", "build", "sql", "quarantine", "identity", "segments", "traits"):
        assert f" {word} " in shown.out
    assert "Exit codes: 0 clean" in shown.out


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from segue.sync.cli import main; main(['--help']); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert ended.stderr.strip() == "[]"


def test_version_is_that_of_the_distribution() -> None:
    assert segue("--version").out == f"segue {version('segue')}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["buld"], "Did you mean 'build'?"),
        (["build", "--as-off", "x"], "No such option: --as-off"),
        (["init"], "Missing argument 'folder'"),
        (["segments"], "Missing command"),
        (["sandbox", "mailchimp", "--port", "70000"], "Invalid value for '--port'"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], told: str) -> None:
    ended = segue(*arguments)
    assert ended.code == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert ended.out == ""


def test_an_error_with_json_is_json_on_stdout(tmp_path: Path) -> None:
    ended = segue("traits", "-p", tmp_path, "--json")
    assert ended.code == 2
    error = ended.json()["error"]
    assert (error["kind"], error["exit_code"]) == ("ConfigError", 2)
    assert "segue init" in error["message"]
    assert ended.err == ""


def test_init_says_what_it_guessed_and_refuses_to_overwrite(export: Path, tmp_path: Path) -> None:
    first = segue("init", tmp_path / "shop", "--data", export)
    assert first.code == 0
    for told in (
        "kunden.csv",
        "customers",
        "country DE",
        "Europe/Berlin",
        "currency EUR",
        "consents",
        "segue check",
    ):
        assert told in first.out
    before = (tmp_path / "shop" / "segue.yml").read_bytes()
    second = segue("init", tmp_path / "shop", "--data", export, "--json")
    assert second.code == 2
    assert "are there already" in second.json()["error"]["message"]
    assert (tmp_path / "shop" / "segue.yml").read_bytes() == before


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


def test_sql_prints_a_table_csv_or_json(built: Path) -> None:
    query = "select contact_id, orders_count from profiles order by 1 limit 2"
    assert "K-1" in segue("sql", query, "-p", built).out
    rows = list(csv.reader(io.StringIO(segue("sql", query, "-p", built, "--csv").out)))
    assert rows == [["contact_id", "orders_count"], ["K-1", "2"], ["K-2", "0"]]
    assert segue("sql", f"{query[:-1]}0", "-p", built, "--json").json() == []
    assert segue("sql", query, "-p", built, "--csv", "--json").code == 2


@pytest.mark.parametrize(
    "query",
    [
        "copy profiles to 'stolen.csv'",
        "create table x (a int)",
        "select 1; select 2",
        "select * from read_csv('/etc/hosts')",
        "select * from read_text('segue.yml')",
        "attach 'other.db'",
        "set enable_external_access = true",
        "install httpfs",
        "pragma database_list; drop view profiles",
        "",
    ],
)
def test_sql_only_reads_the_snapshot(built: Path, query: str) -> None:
    before = sorted(built.rglob("*"))
    ended = segue("sql", query, "-p", built)
    assert ended.code == 2
    assert ended.out == ""
    assert sorted(built.rglob("*")) == before


def test_a_failing_query_does_not_quote_data(built: Path) -> None:
    ended = segue("sql", "select email::int from profiles", "-p", built)
    assert ended.code == 2
    assert "beispiel" not in ended.err
    assert "try_cast" in ended.err


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("select timestamptz 'infinity'", "a value that cannot be shown"),
        ("select timestamp '294247-01-10'", "a value that cannot be shown"),
        ("select 1 as a, 2 as a", "two columns are called"),
    ],
)
def test_an_answer_that_cannot_be_written_is_said(built: Path, query: str, told: str) -> None:
    ended = segue("sql", query, "-p", built, "--json")
    assert ended.code == 2
    assert told in ended.out


@pytest.mark.parametrize("command", ["runs", "rejected", "run"])
def test_an_unknown_destination_is_a_mistake_and_not_an_empty_answer(broken: Path, command: str) -> None:
    ended = segue(command, "nosuch", "-p", broken)
    assert ended.code == 2
    assert 'There is no destination "nosuch"' in ended.err


def test_sql_names_the_likely_column(built: Path) -> None:
    assert "orders_count" in segue("sql", "select order_count from profiles", "-p", built).err


def test_results_that_cannot_be_written_end_with_code_2_and_a_broken_pipe_quietly(built: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    command = [
        str(Path(sys.executable).with_name("segue")),
        "sql",
        "select * from range(100000)",
        f"-p{built}",
    ]
    for form in ("--json", "--csv"):
        with full.open("w") as out:
            ended = subprocess.run(
                [*command, form], stdout=out, stderr=subprocess.PIPE, encoding="utf-8", check=False
            )
        assert ended.returncode == 2
        assert ended.stderr == (
            "Error: no space left on device. Free some space and run the same command again.\n"
        )
    with subprocess.Popen([*command, "--csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as piped:
        assert piped.stdout is not None
        assert piped.stderr is not None
        piped.stdout.readline()
        piped.stdout.close()
        assert piped.wait() == 141
        assert piped.stderr.read() == b""


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ("exec {segue} traits -p {folder} >&-", 0),
        ("exec {segue} traits --json -p {folder} >&-", 0),
        ("exec {segue} nonsense >&-", 2),
        ("PYTHONIOENCODING=ascii exec {segue} --help", 0),
        ("PYTHONIOENCODING=ascii exec {segue} sql \"select 'ä'\" -p {folder}", 0),
        ("exec {segue} sql \"$(printf '\\377')\" -p {folder}", 2),
    ],
)
def test_a_closed_output_and_a_poor_locale_are_no_bugs(built: Path, start: str, code: int) -> None:
    command = start.format(segue=Path(sys.executable).with_name("segue"), folder=built)
    ended = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (ended.returncode, b"Traceback" in ended.stderr, b"bug" in ended.stderr) == (code, False, False)


def test_quarantine_counts_by_rule_and_shows_rows_without_their_values(built: Path) -> None:
    told = segue("quarantine", "-p", built, "--rows", "5", "--json").json()
    by_rule = {count["rule"]: count["n"] for count in told["counts"]}
    assert by_rule["invalid_email"] == 1
    row = next(row for row in told["rows"] if row["rule"] == "invalid_email")
    assert (row["row_number"], row["column_name"]) == (5, "email")
    assert "keine" not in json.dumps(told)
    assert "invalid_email" in segue("quarantine", "-p", built).out


def test_segments_are_listed_and_explained(built: Path) -> None:
    listed = segue("segments", "list", "-p", built, "--json").json()["segments"]
    assert {row["segment"]: row["contacts"] for row in listed}["never_ordered"] == 2
    told = segue("segments", "explain", "lapsing_regulars", "-p", built)
    assert "Contacts whose orders count is at least 3" in told.out
    assert 'Did you mean "lapsing_regulars"?' in segue("segments", "explain", "lapsing", "-p", built).err


def test_traits_say_how_many_contacts_have_a_value(built: Path) -> None:
    traits = {row["trait"]: row for row in segue("traits", "-p", built, "--json").json()["traits"]}
    assert traits["umsatz_bisher"]["filled"] == 1.0
    assert traits["email"]["filled"] == 0.75
    assert traits["recency_days"]["type"] == "integer"


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


@pytest.mark.parametrize("of", ["project", "mapping"])
def test_the_schema_accepts_what_init_writes(built: Path, of: str) -> None:
    from ruamel.yaml import YAML

    schema = json.loads(segue("schema", of).out)
    yaml = YAML(typ="safe", pure=True)
    yaml.constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
    file = "segue.yml" if of == "project" else "mappings/mailchimp.yml"
    jsonschema.validate(json.loads(json.dumps(yaml.load((built / file).read_text(encoding="utf-8")))), schema)


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
