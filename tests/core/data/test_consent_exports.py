"""Exports of consent platforms, as ugly as they come: what each row means, and that no mistake raises anybody."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from segue.core.config import load_project
from segue.core.data.consents import ReadConsents, read_consents
from segue.core.data.engine import connect
from segue.core.data.erased import Erased
from segue.core.errors import ConfigError, DataError
from segue.core.shapes import Shape, load_shape, shipped

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ONETRUST = (
    "Data Subject Identifier,Identifier Type,Purpose Name,Transaction Type,Interaction Date,Receipt ID\n"
)

Read = Callable[..., tuple[ReadConsents, list[dict[str, Any]]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a file's bytes with a shape; give what was found, and the canonical rows."""
    (tmp_path / "segue.yml").write_text(
        "project: p\ntimezone: Europe/Berlin\nsources: {customers: [{path: c.csv}]}\n"
    )
    project = load_project(tmp_path)

    def run(content: str | bytes, shape: Shape, erased: Erased = lambda _: False) -> Any:
        path = tmp_path / "export.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        con = connect()
        identity = con.create_table("merged", schema={"contact_id": "string", "survivor_id": "string"})
        found = read_consents(
            con, project, path, shape, source="platform", identity=identity, moment=NOW, erased=erased
        )
        return found, found.consents.order_by("email", "occurred_at", "act").to_pyarrow().to_pylist()

    return run


def _shape(**more: Any) -> Shape:
    return Shape.model_validate(load_shape("onetrust").model_dump() | more)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_shape_says_who_did_what_and_when(name: str) -> None:
    columns = load_shape(name).columns
    assert {"email", "act", "occurred_at"} <= columns.keys()


def test_a_grant_counts_for_mail_only_where_its_purpose_is_named(read: Read) -> None:
    rows = (
        ONETRUST + "ada@shop.example,Email,Newsletter,CONFIRMED,2026-01-02T03:04:05Z,r1\n"
        "bob@shop.example,Email,Analytics,CONFIRMED,2026-01-02T03:04:05Z,r2\n"
        "cyd@shop.example,Email,,CONFIRMED,2026-01-02T03:04:05Z,r3\n"
    )
    found, consents = read(rows, _shape(marketing=("newsletter",)))
    assert {row["email"][:3]: row["purpose"] for row in consents} == {
        "ada": "marketing",
        "bob": "analytics",
        "cyd": "unnamed",
    }
    assert json.loads(consents[0]["evidence"])["receipt"] == "r1"
    assert (found.rows, found.ignored, found.refused) == (3, 0, {})


@pytest.mark.parametrize(
    ("word", "act"),
    [
        ("Confirmed", "grant"),
        ("PENDING", "request"),
        ("NOTGIVEN", "withdrawal"),
        ("Withdrawn", "withdrawal"),
        ("hard_opt_out", "withdrawal"),
    ],
)
def test_the_words_of_a_platform_are_translated_in_any_case(read: Read, word: str, act: str) -> None:
    _, consents = read(ONETRUST + f"ada@shop.example,Email,News,{word},2026-01-02,r1\n", _shape())
    assert [row["act"] for row in consents] == [act]


def test_a_word_that_nobody_knows_stops_an_import_and_is_a_withdrawal(read: Read) -> None:
    found, consents = read(ONETRUST + "ada@shop.example,Email,News,MAYBE,2026-01-02,r1\n", _shape())
    assert found.refused == {"unknown_act": 1}
    assert [row["act"] for row in consents] == ["withdrawal"]


def test_a_grant_without_proof_is_no_evidence(read: Read) -> None:
    _, consents = read(ONETRUST + "ada@shop.example,Email,News,CONFIRMED,2026-01-02, \n", _shape())
    assert [row["evidence"] for row in consents] == [None]


def test_other_identifiers_than_addresses_are_left_out_and_counted(read: Read) -> None:
    rows = (
        ONETRUST
        + "+49 30 1234,Phone,News,CONFIRMED,2026-01-02,r1\nada@shop.example,Email,News,NO_CHOICE,2026-01-02,r2\n"
    )
    found, consents = read(rows, _shape())
    assert (consents, found.rows, found.ignored) == ([], 2, 2)


@pytest.mark.parametrize("kind", ["", "Email ID", "E-Mail Adresse", "e_mail"])
def test_who_leaves_is_heard_however_the_export_calls_an_address_and_nobody_is_raised_by_that(
    read: Read, kind: str
) -> None:
    shape = _shape(only={"Identifier Type": ["Email"]})
    for word, acts in {
        "WITHDRAWN": ["withdrawal"],
        "what": ["withdrawal"],
        "CONFIRMED": [],
        "Opt In": [],
    }.items():
        _, consents = read(ONETRUST + f"ada@shop.example,{kind},News,{word},2026-01-02,r1\n", shape)
        assert [row["act"] for row in consents] == acts


def test_who_leaves_another_channel_is_left_out_and_so_is_what_is_no_address(read: Read) -> None:
    rows = (
        ONETRUST
        + "ada@shop.example,SMS,News,WITHDRAWN,2026-01-02,r1\n+49 30 1234,,News,WITHDRAWN,2026-01-02,r1\n"
    )
    found, consents = read(rows, _shape())
    assert (consents, found.ignored, found.refused) == ([], 2, {})


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%Y-%m-%d %H:%M %z", "2026-01-02 12:00 +0200"),
        ("%d/%m/%Y %H:%M %Z", "02/01/2026 05:00 America/New_York"),
        ("%Y-%m-%d %H:%M", "2026-01-02 11:00"),
        ("%Y-%m-%d %H:%M%%z", "2026-01-02 11:00%z"),
    ],
)
def test_a_time_that_says_its_zone_is_read_in_that_and_another_in_the_projects(
    read: Read, form: str, text: str
) -> None:
    row = f"ada@shop.example,Email,News,WITHDRAWN,{text},r1\n"
    _, consents = read(ONETRUST + row, _shape(time_format=form))
    assert consents[0]["occurred_at"] == datetime(2026, 1, 2, 10, tzinfo=UTC)


def test_a_byte_order_mark_semicolons_and_german_dates_are_read(read: Read) -> None:
    text = "\ufeff" + (ONETRUST + "Ada@Shop.Example ,Email,News,CONFIRMED,02.01.2026 10:00,r1\n").replace(
        ",", ";"
    )
    _, consents = read(text, _shape())
    assert consents[0]["email"] == "ada@shop.example"
    assert consents[0]["occurred_at"] == datetime(2026, 1, 2, 9, tzinfo=UTC)  # Berlin's ten o'clock


def test_another_encoding_is_told_and_not_guessed(read: Read) -> None:
    content = (ONETRUST + "jürgen@shop.example,Email,News,WITHDRAWN,2026-01-02,r1\n").encode("windows-1252")
    with pytest.raises(DataError, match="utf-8"):
        read(content, _shape())
    _, consents = read(content, _shape(encoding="windows-1252"))
    assert consents[0]["email"] == "jürgen@shop.example"


def test_a_date_that_half_the_world_reads_otherwise_is_refused_until_its_form_is_named(read: Read) -> None:
    row = ONETRUST + "ada@shop.example,Email,News,CONFIRMED,03/04/2025 01:30 PM,r1\n"
    found, consents = read(row, _shape())
    assert consents == []
    assert [(each.row, each.column, each.rule) for each in found.first(10)] == [
        (1, "occurred_at", "missing_value"),
        (1, "occurred_at", "wrong_type"),
    ]
    _, consents = read(row, _shape(time_format="%m/%d/%Y %I:%M %p", timezone="UTC"))
    assert consents[0]["occurred_at"] == datetime(2025, 3, 4, 13, 30, tzinfo=UTC)


def test_who_was_erased_does_not_come_back_by_an_export_and_stops_nobody_elses_import(read: Read) -> None:
    def erased(con: duckdb.DuckDBPyConnection) -> bool:
        con.execute("create temp macro is_erased_contact(text) as false").fetchall()
        con.execute("create temp macro is_erased_address(text) as text = 'ada@shop.example'").fetchall()
        return True

    rows = (
        ONETRUST
        + " Ada@shop.example,Email,News,CONFIRMED,2026-01-02,r1\nbob@shop.example,Email,News,CONFIRMED,2026-01-02,r2\n"
    )
    found, consents = read(rows, _shape(), erased=erased)
    assert [row["email"] for row in consents] == ["bob@shop.example"]
    assert (found.refused, found.noted) == ({}, {"erased": 1})


def test_a_grant_from_the_future_is_refused(read: Read) -> None:
    found, consents = read(ONETRUST + "ada@shop.example,Email,News,CONFIRMED,2030-01-02,r1\n", _shape())
    assert (consents, found.refused) == ([], {"future_grant": 1})


def test_a_withdrawal_without_a_time_counts_from_the_first_reading(read: Read) -> None:
    found, consents = read(ONETRUST + "ada@shop.example,Email,News,WITHDRAWN,,r1\n", _shape())
    assert consents[0]["occurred_at"] == NOW
    assert (found.refused, found.noted) == ({}, {"withdrawal_without_time": 1})


def test_bad_rows_are_told_by_row_column_and_rule_and_never_by_value(read: Read) -> None:
    rows = (
        ONETRUST + "nobody,Email,News,WITHDRAWN,2026-01-02,r1\n"
        "ada@shop.example,Email,News,CONFIRMED,2026-01-02,r2\nbob@shop.example,too,many,columns,2026-01-02,r3,r4\n"
    )
    found, consents = read(rows, _shape())
    told = [(each.row, each.column, each.rule, each.value_class) for each in found.first(10)]
    assert told == [
        (1, "email", "invalid_email", "text"),
        (1, None, "missing_key", "neither contact nor address"),
        (3, None, "unreadable_row", "too many columns"),
    ]
    assert [row["email"] for row in consents] == ["ada@shop.example"]


def test_a_file_without_a_column_that_is_needed_says_what_is_expected_and_what_there_is(read: Read) -> None:
    with pytest.raises(DataError) as error:
        read("Mail,State,When\nada@shop.example,CONFIRMED,2026-01-02\n", _shape())
    said = error.value.message
    assert "no column for act: none is called Transaction Type" in said
    assert "no column for email" in said
    assert "It has Mail, State, When" in said
    assert "ada" not in said


def test_consent_to_cookies_is_not_about_mail(read: Read) -> None:
    rows = "Email,Marketing,Consent Date,Consent ID\nada@shop.example,true,2026-01-02,k1\nbob@shop.example,false,2026-01-02,k2\n"
    _, consents = read(rows, load_shape("cookiebot"))
    assert {row["channel"] for row in consents} == {"cookies"}


def test_what_follows_from_data_and_settings_is_nobodys_word_when_our_own_export_comes_back(
    read: Read,
) -> None:
    rows = (
        "contact_id,email,channel,purpose,act,occurred_at,source,evidence\n"
        'c1,,email,marketing,residence,2026-01-02T00:00:00.000000Z,segue.yml,"{""country"": ""DE""}"\n'
        'c1,,email,marketing,basis,2026-01-02T00:00:00.000000Z,segue.yml,"{""country"": ""US""}"\n'
        'c1,,email,marketing,grant,2026-01-02T00:00:00.000000Z,shop,"{""form"": ""x""}"\n'
    )
    found, consents = read(rows, load_shape("segue"))
    assert [(row["act"], row["source"]) for row in consents] == [("grant", "shop")]
    assert found.ignored == 2


def test_a_mapping_file_is_read_with_its_mistakes_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("columns: {email: Mail, act: [State, Status], occurred_at: When}\nacts: {ja: grant}\n")
    assert load_shape(path).columns["act"] == ("State", "Status")
    path.write_text("columns: {email: Mail}\nacts: {ja: granted}\n")
    with pytest.raises(ConfigError, match=r"mine\.yml:2"):
        load_shape(path)
    with pytest.raises(ConfigError, match='Did you mean "onetrust"'):
        load_shape("one trust")
