import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from segue.core.config import (
    Project,
    load_project,
    parse_duration,
    project_schema,
    read_model,
    resolve_secret,
)
from segue.core.data.canonical import TABLES
from segue.core.errors import ConfigError
from segue.core.reading import TableName
from segue.core.yamlfile import FileModel

COMPLETE = """\
project: shop
as_of: 2011-12-10T01:00:00+01:00
timezone: Europe/London
currency: GBP
country: GB
store: env:SEGUE_STORE_URL
contact_key: env:SEGUE_CONTACT_KEY
sources:
  customers:
    - path: data/customers.parquet
      columns: {contact_id: customer_id}
  consents:
    - path: data/consents.txt
      format: csv
      delimiter: ";"
      encoding: windows-1252
      decimal: ","
      timezone: UTC
      max_age: 2 days
  events:
    - url: env:SHOP_DB_URL
      query: select * from events
    - stdin: jsonl
    - python: sources.py:events
quality:
  max_rejected_share: 0.02
  rules: {order_without_customer: warn, country_currency: off}
identity:
  merge_on: [email]
  keep: oldest
traits:
  loyalty_tier: {type: text, description: Tier of the loyalty card}
segments:
  lapsing_regulars:
    description: Bought often, not lately
    where: orders_count >= 3 and recency_days > 90
    minimum_size: 20
  vip:
    label: Best of all
    where: >-
      revenue > 1000
groups:
  lifecycle:
    segments: [vip, lapsing_regulars]
recommendations:
  for_you: {kind: popular_in_category, slots: 3, window: 2 weeks}
destinations:
  newsletter:
    connector: mailchimp
    mapping: mappings/mailchimp.yml
    settings:
      api_key: env:MAILCHIMP_API_KEY
      audience: 12345e6789
    guardrails: {max_change_share: 0.4}
"""
SMALLEST = "project: shop\nsources:\n  customers:\n    - path: customers.csv\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "mailchimp.yml").touch()
    return tmp_path


def written(folder: Path, text: str) -> Path:
    (folder / "segue.yml").write_text(text, encoding="utf-8")
    return folder


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_project(written(folder, text))
    assert len(caught.value.problems) == len(str(caught.value).splitlines())
    return [str(problem) for problem in caught.value.problems]


def test_every_setting_of_the_contract_is_read(folder: Path) -> None:
    project = load_project(written(folder, COMPLETE))
    assert project.as_of == datetime(2011, 12, 10, tzinfo=UTC)
    assert project.sources["customers"][0].columns == {"contact_id": "customer_id"}
    consents = project.sources["consents"][0]
    assert (consents.file_format, consents.delimiter, consents.max_age) == ("csv", ";", timedelta(days=2))
    assert [source.label for source in project.sources["events"]] == [
        "database",
        "stdin",
        "sources.py:events",
    ]
    assert project.quality.rules["country_currency"] == "off"
    assert project.segments["vip"].where == "revenue > 1000"
    assert project.recommendations["for_you"].window == timedelta(weeks=2)
    assert project.destinations["newsletter"].guardrails.max_change_share == 0.4


def test_the_smallest_project_has_defaults(folder: Path) -> None:
    project = load_project(written(folder, SMALLEST))
    assert project.as_of is None
    assert project.timezone == "UTC"
    assert project.folder == folder
    assert project.state_folder == folder / ".segue"
    assert project.store_url() == f"sqlite:///{folder}/.segue/store.db"
    assert project.identity.merge_on == ("email",)
    assert project.quality.max_rejected_share == 0.02


def test_a_project_is_found_by_its_folder_or_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(folder, SMALLEST)
    monkeypatch.chdir(folder)
    assert load_project(Path()).folder == load_project(Path("segue.yml")).folder == folder


def test_a_label_comes_from_the_name_unless_it_is_given(folder: Path) -> None:
    segments = load_project(written(folder, COMPLETE)).segments
    assert segments["lapsing_regulars"].label == "Lapsing regulars"
    assert segments["vip"].label == "Best of all"


def test_an_audience_that_yaml_would_read_as_infinity_stays_as_written(folder: Path) -> None:
    settings = load_project(written(folder, COMPLETE)).destinations["newsletter"].settings
    assert settings["audience"] == "12345e6789"


def test_country_no_is_norway(folder: Path) -> None:
    assert load_project(written(folder, f"{SMALLEST}country: NO\n")).country == "NO"


@pytest.mark.parametrize("country", ["EU", "UK", "ZZ", "gb", "GBR", "001"])
def test_what_is_no_country_is_refused(folder: Path, country: str) -> None:
    (told,) = mistakes(folder, f"{SMALLEST}country: {country}\n")
    assert told.startswith("segue.yml:5: country: ")


def test_later_checks_find_the_line_of_a_value(folder: Path) -> None:
    project = load_project(written(folder, COMPLETE))
    lines = COMPLETE.splitlines()
    assert project.place("segments", "vip", "where") == f"segue.yml:{lines.index('    where: >-') + 1}"
    assert project.place("sources", "events", 1) == f"segue.yml:{lines.index('    - stdin: jsonl') + 1}"
    assert project.place("segments", "vip", "minimum_size") == project.place("segments", "vip")
    assert project.place("nothing") == "segue.yml:1"


@pytest.mark.parametrize("cut", range(1, COMPLETE.count("\n")))
def test_a_project_cut_off_anywhere_is_an_error_with_a_place_or_a_valid_project(
    folder: Path, cut: int
) -> None:
    text = "\n".join(COMPLETE.splitlines()[:cut])
    places = ["segue.yml"]
    try:
        load_project(written(folder, text))
    except ConfigError as error:
        places = [problem.where for problem in error.problems]
    assert all(place.startswith("segue.yml") for place in places)
    assert places


def test_all_mistakes_are_told_at_once_each_with_line_and_next_step(folder: Path) -> None:
    told = mistakes(
        folder,
        """\
project: shop
timezone: Europe/Lodnon
currency: EURO
country: Deutschland
as_of: 2011-12-10
sources:
  custmers:
    - path: a.csv
  orders:
    - path: orders.dat
    - {path: orders.csv, delimter: ";"}
    - {url: env:DB}
    - {}
    - {path: orders.parquet, decimal: ";", delimiter: ";"}
quality: {max_rejected_share: 2, rules: {order: maybe}}
segments:
  vip: {wher: a, minimum_size: two}
  Big Spenders: {where: x}
groups:
  stage: {segments: [vop, vip, vip]}
  vip: {segments: []}
recommendations: {for_you: {kind: popular, window: 1 month}}
destinations:
  newsletter: {connector: mailchimp, mapping: mappings/mailchmp.yml}
segmnts: {}
""",
    )
    assert told == [
        'segue.yml:2: timezone: "Europe/Lodnon" is not a time zone. Did you mean "Europe/London"?',
        'segue.yml:3: currency: "EURO" is not an ISO 4217 currency code. Write three capitals, e.g. "EUR".',
        'segue.yml:4: country: "Deutschland" is not an ISO 3166 country code. Write two capitals, e.g. "DE" or "GB".',
        'segue.yml:5: as_of: "2011-12-10" has no time zone. Write "2011-12-10T00:00:00Z" for UTC.',
        'segue.yml:7: sources.custmers: "custmers" is not known here. Did you mean "customers"?',
        (
            'segue.yml:10: sources.orders[0].path: "orders.dat" does not say its format by its name. '
            "Add `format: csv`, `parquet` or `jsonl`."
        ),
        'segue.yml:11: sources.orders[1].delimter: is not a key that Segue knows. Did you mean "delimiter"?',
        "segue.yml:12: sources.orders[2]: url and query belong together. Give both or neither.",
        (
            "segue.yml:13: sources.orders[3]: says from nowhere where to read. "
            "Give exactly one of path, url, stdin and python."
        ),
        'segue.yml:14: sources.orders[4].decimal: ";" is not known here. It must be one of ".", ",".',
        'segue.yml:15: quality.max_rejected_share: should be less than or equal to 1, and is "2".',
        'segue.yml:15: quality.rules.order: "maybe" is not known here. It must be one of "refuse", "warn", "off".',
        "segue.yml:17: segments.vip.where: is missing. Add it.",
        'segue.yml:17: segments.vip.minimum_size: must be a whole number and is "two".',
        'segue.yml:17: segments.vip.wher: is not a key that Segue knows. Did you mean "where"?',
        (
            'segue.yml:18: segments.Big Spenders: "Big Spenders" is not a name. '
            "Names are small letters, digits and underscores, and start with a letter."
        ),
        'segue.yml:20: groups.stage.segments[0]: no segment is called "vop". Did you mean "vip"?',
        'segue.yml:20: groups.stage.segments[2]: "vip" stands in this group twice. Keep one of them.',
        "segue.yml:21: groups.vip.segments: must not be empty.",
        (
            'segue.yml:22: recommendations.for_you.kind: "popular" is not known here. '
            'Did you mean "popular_in_category"?'
        ),
        (
            'segue.yml:22: recommendations.for_you.window: "1 month" is no length of time: '
            'write e.g. "30 days", "24 hours", "2 weeks".'
        ),
        (
            'segue.yml:24: destinations.newsletter.mapping: there is no file "mappings/mailchmp.yml". '
            'Did you mean "mappings/mailchimp.yml"?'
        ),
        'segue.yml:25: segmnts: is not a key that Segue knows. Did you mean "segments"?',
    ]


# A few lines of anchors within anchors: ten million values.
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{inner}'] * 10)}]\n" for inner, name in pairwise("abcdefg")
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("project: [shop\nsources: {}\n", "segue.yml:2: not YAML"),
        ("project: shop\nsegments:\n  vip:\n    where: 'a' in b\n", "segue.yml:4: not YAML"),
        ("\tproject: shop\n", "segue.yml:1: not YAML"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(900)), "segue.yml: is nested too deeply."),
        (BOMB, "segue.yml: holds more than 100,000 values"),
        ("as_of: 9999-12-31T00:00:00Z\n", 'segue.yml:1: as_of: "9999-12-31T00:00:00Z" is far'),
        (
            "sources:\n  orders: [{stdin: csv}]\n  events: [{stdin: csv}]\n",
            "segue.yml:3: sources.events[0]: stdin can be read once, and sources.orders[0]",
        ),
        (
            "sources:\n  orders:\n    - path: o.csv\n      delimiter: '\"'\n",
            "segue.yml:4: sources.orders[0].delimiter: must not be what ends",
        ),
        ("project: *shop\n", "segue.yml:1: not YAML"),
        ("project: shop\n---\nproject: shop\n", "segue.yml:2: not YAML"),
        ("project: \x00\n", "segue.yml: holds a character that YAML does not allow."),
        ("? [a]\n: b\n", "segue.yml:1: the file: a key must be a word"),
        ("segments: &a\n  vip: *a\n", "segue.yml:2: segments.vip: holds itself"),
        ("- project\n", "segue.yml:1: the file: must hold keys with values and is a list."),
        ("", "segue.yml: project: is missing."),
    ],
)
def test_what_is_no_yaml_or_no_mapping_is_said_with_its_line(folder: Path, text: str, told: str) -> None:
    assert any(mistake.startswith(told) for mistake in mistakes(folder, text))


def test_a_file_that_is_not_utf8_is_said(folder: Path) -> None:
    (folder / "segue.yml").write_bytes(b"project: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"segue\.yml: byte 12 is not UTF-8"):
        load_project(folder)


def test_a_byte_order_mark_is_no_mistake(folder: Path) -> None:
    (folder / "segue.yml").write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert load_project(folder).project == "shop"


def test_a_folder_without_a_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no segue\.yml in .*segue init"):
        load_project(tmp_path)


def test_a_key_that_stands_twice_is_a_mistake_naming_both_lines(folder: Path) -> None:
    told = mistakes(
        folder, f"{SMALLEST}segments:\n  vip: {{where: a}}\n  vip: {{where: b}}\nproject: other\n"
    )
    assert told == [
        "segue.yml:7: segments.vip: stands here twice, first in line 6. Keep one of them.",
        "segue.yml:8: project: stands here twice, first in line 1. Keep one of them.",
    ]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("contact_key: hunter2", "contact_key"),
        ("store: postgresql://shop:hunter2@db/segue", "store"),
        ("store: postgresql://db/segue?password=hunter2", "store"),
        ("store: {hunter2: hunter2}", "store"),
        (
            "destinations: {n: {connector: c, mapping: mappings/mailchimp.yml, settings: {api_key: hunter2}}}",
            "destinations.n.settings.api_key",
        ),
        (
            "destinations: {n: {connector: c, mapping: mappings/mailchimp.yml, settings: {Token: [hunter2]}}}",
            "destinations.n.settings.Token",
        ),
    ],
)
def test_a_secret_in_yaml_is_refused_and_not_repeated(folder: Path, line: str, place: str) -> None:
    (told,) = mistakes(folder, f"{SMALLEST}{line}\n")
    assert told.startswith(f"segue.yml:5: {place}: ")
    assert "hunter2" not in told


def test_no_error_of_any_file_repeats_what_stands_under_a_secret_key(tmp_path: Path) -> None:
    class Odd(FileModel):
        token: int
        size: int

    (tmp_path / "odd.yml").write_text("token: hunter2\nsize: large\n")
    with pytest.raises(ConfigError) as caught:
        read_model(tmp_path / "odd.yml", Odd)
    assert [str(problem) for problem in caught.value.problems] == [
        "odd.yml:1: token: must be a whole number and is a value that is not shown.",
        'odd.yml:2: size: must be a whole number and is "large".',
    ]


def test_a_database_source_with_a_password_is_refused_and_not_repeated(folder: Path) -> None:
    source = "{url: 'postgresql://shop:hunter2@db/shop', query: select 1}"
    (told,) = mistakes(folder, f"project: shop\nsources: {{events: [{source}]}}\n")
    assert "password does not stand in YAML" in told
    assert "hunter2" not in told


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "from-env")
    (tmp_path / "key").write_text("from-file\n")
    assert resolve_secret("env:SHOP_KEY", tmp_path) == "from-env"
    assert resolve_secret("file:key", tmp_path) == "from-file"
    assert resolve_secret("plain", tmp_path) == "plain"


@pytest.mark.parametrize("text", ["env:SHOP_KEY", "file:missing", "file:empty", "file:folder", "file:bytes"])
def test_a_missing_secret_names_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SHOP_KEY", "  ")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=text.partition(":")[2]):
        resolve_secret(text, tmp_path)


def test_all_missing_secrets_of_a_destination_are_told_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    settings = "{api_key: env:NO_KEY, audience: file:none, base_url: http://localhost}"
    destination = f"{{connector: mailchimp, mapping: mappings/mailchimp.yml, settings: {settings}}}"
    project = load_project(written(folder, f"{SMALLEST}destinations:\n  n: {destination}\n"))
    with pytest.raises(ConfigError) as caught:
        project.destination_settings("n")
    assert [problem.where for problem in caught.value.problems] == ["segue.yml:6", "segue.yml:6"]
    assert "NO_KEY" in str(caught.value)


def test_a_relative_sqlite_store_lies_in_the_project(folder: Path) -> None:
    project = load_project(written(folder, f"{SMALLEST}store: sqlite:///state/s.db\n"))
    assert project.store_url() == f"sqlite:///{folder}/state/s.db"


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30 days", timedelta(days=30)),
        ("1 day", timedelta(days=1)),
        ("24 Hours", timedelta(hours=24)),
        ("2weeks", timedelta(weeks=2)),
        (" 90 minutes ", timedelta(minutes=90)),
    ],
)
def test_lengths_of_time_are_read(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text", ["", "30", "days", "1 month", "1 year", "-3 days", "0 days", "1.5 days", "9999999 weeks"]
)
def test_what_has_no_fixed_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no length of time"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_length_of_time_or_a_value_error(text: str) -> None:
    try:
        length = parse_duration(text)
    except ValueError:
        return
    assert length > timedelta()


def test_a_project_does_not_change_after_reading(folder: Path) -> None:
    project = load_project(written(folder, SMALLEST))
    with pytest.raises(ValueError, match="frozen"):
        project.currency = "EUR"


def test_the_tables_that_sources_may_fill_are_the_canonical_ones() -> None:
    assert get_args(TableName) == tuple(TABLES)


def _as_an_editor_reads(text: str) -> Any:
    """YAML as a language server gives it to its schema check: times are texts."""
    yaml = YAML(typ="safe", pure=True)
    yaml.constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
    return json.loads(json.dumps(yaml.load(text)))


@pytest.mark.parametrize("text", [COMPLETE, SMALLEST])
def test_the_schema_accepts_what_segue_accepts(text: str) -> None:
    schema = project_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(_as_an_editor_reads(text), schema)


@pytest.mark.parametrize(
    "text",
    [
        f"{SMALLEST}segmnts: {{}}\n",
        f"{SMALLEST}segments: {{vip: {{where: a, minimum_size: two}}}}\n",
        f"{SMALLEST}recommendations: {{r: {{kind: popular_in_category, window: 1 month}}}}\n",
        "project: shop\nsources: {custmers: [{path: a.csv}]}\n",
    ],
)
def test_the_schema_refuses_what_segue_refuses(folder: Path, text: str) -> None:
    assert mistakes(folder, text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(_as_an_editor_reads(text), project_schema())


def test_every_setting_is_described_in_the_schema() -> None:
    schema = project_schema()
    assert schema["title"] == Project.__name__
    undescribed = {
        f"{name}.{key}"
        for name, model in [("Project", schema), *schema["$defs"].items()]
        for key, setting in model.get("properties", {}).items()
        if "description" not in setting and "$ref" not in setting
    }
    assert undescribed == set()
