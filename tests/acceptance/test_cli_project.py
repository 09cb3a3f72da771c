"""The commands around a project, as the processes that a person or a schedule starts."""

import csv
import io
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest

from .ugly_shop import segue

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
        (["sandbox", "hubspot", "--port", "0"], "Invalid value for '--port'"),
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


@pytest.mark.parametrize("of", ["project", "mapping"])
def test_the_schema_accepts_what_init_writes(built: Path, of: str) -> None:
    from ruamel.yaml import YAML

    schema = json.loads(segue("schema", of).out)
    yaml = YAML(typ="safe", pure=True)
    yaml.constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
    file = "segue.yml" if of == "project" else "mappings/mailchimp.yml"
    jsonschema.validate(json.loads(json.dumps(yaml.load((built / file).read_text(encoding="utf-8")))), schema)


def test_connectors_are_listed_and_described() -> None:
    rows = segue("connectors", "list", "--json").json()
    ours = ("csvfile", "hubspot", "klaviyo", "mailchimp")
    assert {row["name"]: row["wrong"] for row in rows} == dict.fromkeys(ours, "")
    assert segue("connectors", "describe", "hubspot", "--json").json()["label"] == "HubSpot"
    assert "Did you mean" in segue("connectors", "describe", "hubspott").err
