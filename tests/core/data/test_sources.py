"""Every kind of source gives the same rows, and every way to be unreadable is an error with its place."""

import gzip
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segue.core.config import load_project
from segue.core.data.engine import connect
from segue.core.data.ingest import check_sources, ingest
from segue.core.errors import ConfigError, DataError, SegueError, StoreError

from .conftest import Folder, found, rows

CSV = "contact_id,email,tier\nc1,a@x.de,gold\nc2,,\n"


def customers(ingested: Any) -> list[Any]:
    return rows(ingested.tables.customers, "contact_id", "email", "tier")


EXPECTED = [("c1", "a@x.de", "gold"), ("c2", None, None)]


def refusal(folder: Folder, sources: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(SegueError) as error:
        folder.ingest(sources, **sections)
    return error.value.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", CSV.encode()),
        ("c.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("c.csv", CSV.replace(",", ";").encode()),
        ("c.tsv", CSV.replace(",", "\t").encode()),
        ("c.csv", CSV.replace("\n", "\r\n").encode()),
        ("c.csv", CSV.replace("gold", '"gold"').encode()),
        ("c.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("c.jsonl", b'{"contact_id":"c1","email":"a@x.de","tier":"gold"}\n{"contact_id":"c2","tier":null}\n'),
    ],
    ids=["csv", "byte order mark", "semicolon", "tab", "windows line ends", "quotes", "gzip", "jsonl"],
)
def test_files_of_every_kind_give_the_same_rows(folder: Folder, name: str, content: bytes) -> None:
    assert customers(folder.ingest({"customers": {"path": folder.write(name, content)}})) == EXPECTED


def test_a_parquet_file_gives_the_same_rows(folder: Folder) -> None:
    table = pa.table({"contact_id": ["c1", "c2"], "email": ["a@x.de", None], "tier": ["gold", None]})
    pq.write_table(table, folder.path / "c.parquet")
    assert customers(folder.ingest({"customers": {"path": "c.parquet"}})) == EXPECTED


def test_a_sqlite_query_gives_the_same_rows(folder: Folder) -> None:
    with sqlite3.connect(folder.path / "shop.db") as database:
        database.execute("create table people (contact_id, email text, tier)")
        database.executemany(
            "insert into people values (?, ?, ?)", [("c1", "a@x.de", "gold"), ("c2", None, None)]
        )
    database.close()
    source = {"url": "sqlite:///shop.db", "query": "select * from people;"}
    assert customers(folder.ingest({"customers": source})) == EXPECTED


def test_a_postgresql_query_gives_the_same_rows_and_its_own_types(
    folder: Folder, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres_database) as database:
        database.execute(
            "create table people (contact_id int, email text, tier text, tags text[], seen timestamptz, paid numeric(12,2))"
        )
        database.execute(
            "insert into people values (1, 'a@x.de', 'gold', '{x,\"y, z\"}', '2026-01-01 10:00+02', 1234.50), (2, null, null, null, null, null)"
        )
    monkeypatch.setenv("SHOP_DB", postgres_database)
    ingested = folder.ingest({"customers": {"url": "env:SHOP_DB", "query": "select * from people"}})
    assert customers(ingested) == [("1", "a@x.de", "gold"), ("2", None, None)]
    first = ingested.tables.customers.order_by("contact_id").to_pyarrow().to_pylist()[0]
    assert first["tags"] == ["x", "y, z"]
    assert first["seen"].isoformat() == "2026-01-01T08:00:00+00:00"
    assert first["paid"] == 1234.5


def test_more_rows_than_a_batch_come_in_their_order(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue.core.data.feeds.BATCH_ROWS", 7)
    with sqlite3.connect(folder.path / "shop.db") as database:
        database.execute("create table people (contact_id text, created_at text)")
        database.executemany(
            "insert into people values (?, ?)", [(f"c{n}", "x" if n == 23 else None) for n in range(1, 41)]
        )
    database.close()
    ingested = folder.ingest({"customers": {"url": "sqlite:///shop.db", "query": "select * from people"}})
    assert len(rows(ingested.tables.customers, "contact_id")) == 40
    assert found(ingested) == [("wrong_type", 23, "created_at", "value left out")]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_stdin_gives_the_same_rows(folder: Folder, kind: str, tmp_path: Path) -> None:
    text = (
        CSV if kind == "csv" else '{"contact_id":"c1","email":"a@x.de","tier":"gold"}\n{"contact_id":"c2"}\n'
    )
    (tmp_path / "piped").write_text(text)
    project = folder.project({"customers": {"stdin": kind}})
    with (tmp_path / "piped").open("rb") as stream:
        assert customers(ingest(project, folder.connect(), stdin=stream)) == EXPECTED


def test_stdin_without_a_pipe_says_so(folder: Folder) -> None:
    assert "nothing is piped in" in refusal(folder, {"customers": {"stdin": "csv"}})


FUNCTIONS = """
import pyarrow as pa
TABLE = pa.table({"contact_id": ["c1", "c2"], "email": ["a@x.de", None], "tier": ["gold", None]})
def table(): return TABLE
def reader(): return TABLE.to_reader()
def batches():
    for batch in TABLE.to_batches(max_chunksize=1): yield batch
def broken():
    raise ValueError("anna@x.de is not welcome")
def nothing(): return iter(())
def rows(): return [{"contact_id": "c1"}]
def leaving():
    raise SystemExit(0)
def empty(): return pa.table({})
def twice(): return pa.Table.from_arrays([["a"], ["b"]], names=["contact_id", "contact_id"])
"""


@pytest.mark.parametrize("function", ["table", "reader", "batches"])
def test_a_python_function_gives_the_same_rows(folder: Folder, function: str) -> None:
    folder.write("sources.py", FUNCTIONS)
    assert customers(folder.ingest({"customers": {"python": f"sources.py:{function}"}})) == EXPECTED


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("broken", "broken failed with ValueError, line 9."),
        ("nothing", "gave no batch at all"),
        ("rows", "gave dict objects"),
        ("typo", 'has no function "typo"'),
        ("leaving", "leaving failed with SystemExit, line 13."),
        ("empty", "gives no columns"),
        ("twice", 'has two columns called "contact_id"'),
    ],
)
def test_a_failing_function_says_where_and_never_what_the_data_was(
    folder: Folder, function: str, said: str
) -> None:
    folder.write("sources.py", FUNCTIONS)
    message = refusal(folder, {"customers": {"python": f"sources.py:{function}"}})
    assert said in message
    assert "anna" not in message


def test_the_example_of_a_python_source_works() -> None:
    example = Path(__file__).parents[3] / "examples" / "python_source"
    con = connect()
    ingested = ingest(load_project(example), con)
    assert rows(ingested.tables.orders, "order_id", "contact_id") == [("1001", "anna"), ("1002", "ben")]
    assert not found(ingested)
    con.disconnect()


def test_another_encoding_is_read_when_it_is_named(folder: Folder) -> None:
    text = "Kundennr;E-Mail;Vorname;Land\n1;a@x.de;Jürgen;Österreich\n"
    name = folder.write("kunden.csv", text.encode("windows-1252"))
    columns = {"contact_id": "Kundennr", "email": "E-Mail", "first_name": "Vorname", "country": "Land"}
    ingested = folder.ingest({"customers": {"path": name, "encoding": "windows-1252", "columns": columns}})
    assert rows(ingested.tables.customers, "first_name", "country") == [("Jürgen", "AT")]


@pytest.mark.parametrize("place", ["header", "far behind"])
def test_a_wrong_encoding_is_an_error_that_names_the_setting(folder: Folder, place: str) -> None:
    text = (
        "contact_id,Größe\n1,x\n"
        if place == "header"
        else "contact_id,name\n" + "1,x\n" * 20_000 + "2,Größe\n"
    )
    message = refusal(folder, {"customers": {"path": folder.write("c.csv", text.encode("latin-1"))}})
    assert "c.csv: is not in the encoding utf-8" in message
    assert ("its header" if place == "header" else "row 20001") in message
    assert "encoding:" in message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.csv", b"", "is empty: it has no header line"),
        ("c.parquet", b"not parquet", "is no Parquet file, or a damaged one"),
        ("c.csv.gz", b"\x1f\x8b\x08 damaged", "damaged"),
        ("c.csv.gz", gzip.compress(b"contact_id\n1\n", mtime=0)[:10] + b"\xff" * 20, "a damaged gzip file"),
        ("c.csv", b"x" * 2_000_000, "has no header that can be read"),
        ("c.csv", b'contact_id,"' + b"x\n" * 600_000, "has no header that can be read"),
        ("c.jsonl", b'{"contact_id": 1, "": 2}\n', "has a column without a name"),
        ("c.csv", b"contact_id,Name,name\n", 'has two columns called "name"'),
        ("c.csv", b"contact_id,segue_row\n", "which is a name of ours"),
    ],
)
def test_an_unreadable_file_is_an_error_with_a_next_step(
    folder: Folder, name: str, content: bytes, said: str
) -> None:
    message = refusal(folder, {"customers": {"path": folder.write(name, content)}})
    assert message.startswith("segue.yml:")
    assert name in message
    assert said in message


def test_a_parquet_file_damaged_behind_a_sound_footer_is_an_error(folder: Folder) -> None:
    pq.write_table(pa.table({"contact_id": [f"c{n}" for n in range(5000)]}), folder.path / "c.parquet")
    data = bytearray((folder.path / "c.parquet").read_bytes())
    data[20 : len(data) // 2] = bytes(len(data) // 2 - 20)
    (folder.path / "c.parquet").write_bytes(data)
    assert "damaged" in refusal(folder, {"customers": {"path": "c.parquet"}})


def test_an_engine_without_room_is_no_fault_of_the_data(folder: Folder) -> None:
    name = folder.write("c.csv", "contact_id,city\n" + "".join(f"c{n},{'x' * 90}\n" for n in range(200_000)))
    con = folder.connect()
    con.raw_sql("set memory_limit = '12MB'; set temp_directory = ''").fetchall()
    with pytest.raises(StoreError, match="ran out of memory"):
        ingest(folder.project({"customers": {"path": name}}), con)


def test_a_missing_file_and_a_missing_column_are_reported_together(folder: Folder) -> None:
    sources = {
        "customers": {"path": folder.write("c.csv", "id,e_mail\n1,a@x.de\n"), "columns": {"email": "emial"}},
        "orders": {"path": "nowhere.csv"},
    }
    lines = refusal(folder, sources).splitlines()
    assert len(lines) == 3
    assert 'there is no column "emial". Did you mean "e_mail"?' in lines[0]
    assert 'has no column "contact_id", which customers need. ' in lines[1]
    assert "columns: {contact_id: THEIRS}" in lines[1]
    assert "nowhere.csv: there is no such file" in lines[2]


def test_a_column_of_ours_that_does_not_exist_is_a_mistake(folder: Folder) -> None:
    folder.write("c.csv", "contact_id\n1\n")
    folder.write("o.csv", "order_id,contact_id,ordered_at,country\n")
    sources = {"customers": {"path": "c.csv"}, "orders": {"path": "o.csv", "columns": {"contry": "country"}}}
    assert 'orders has no column "contry". Did you mean "country"?' in refusal(folder, sources)


@pytest.mark.parametrize("url", ["sqlite:///shop.db", "sqlite:///missing.db"])
def test_a_failing_query_is_an_error(folder: Folder, url: str) -> None:
    sqlite3.connect(folder.path / "shop.db").close()
    message = refusal(folder, {"customers": {"url": url, "query": "select * from orders_2019"}})
    assert "no such table: orders_2019" in message or "no such SQLite file" in message


def test_a_failing_postgresql_query_shows_no_address(
    folder: Folder, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DB", postgres_database)
    source = {"url": "env:SHOP_DB", "query": "select * from orders_2019"}
    assert 'relation "orders_2019" does not exist' in refusal(folder, {"customers": source})
    source["query"] = "select 1 / (n - 1) as contact_id from generate_series(1, 2) n"
    assert "the query failed: DivisionByZero" in refusal(folder, {"customers": source})
    monkeypatch.setenv("SHOP_DB", "postgresql://shop:hunter2@127.0.0.1:1/shop")
    message = refusal(folder, {"customers": source})
    assert "cannot be reached" in message
    assert "hunter2" not in message


def test_a_secret_that_is_not_set_is_named(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_DB", raising=False)
    message = refusal(folder, {"customers": {"url": "env:SHOP_DB", "query": "select 1"}})
    assert "SHOP_DB is not set" in message


def test_lines_that_do_not_fit_the_header_are_quarantined_and_the_rest_keep_their_row_numbers(
    folder: Folder,
) -> None:
    text = 'contact_id,first_name,created_at\nc1,a,x\nc2\nc3,b\nc4,c,d,e\nc5,"two\nlines",x\n'
    ingested = folder.ingest_csv({"customers": text})
    assert rows(ingested.tables.customers, "contact_id", "first_name") == [("c1", "a"), ("c5", "two\nlines")]
    assert found(ingested) == [
        ("unreadable_row", 2, None, "row left out"),
        ("unreadable_row", 3, None, "row left out"),
        ("unreadable_row", 4, None, "row left out"),
        ("wrong_type", 1, "created_at", "value left out"),
        ("wrong_type", 5, "created_at", "value left out"),
    ]
    assert ingested.report.sources[0].rows_read == 5
    assert ingested.report.sources[0].rows_accepted == 2


def test_lines_that_are_no_json_object_are_quarantined(folder: Folder) -> None:
    text = '{"contact_id": 1}\n{"contact_id": \n[1]\n{"contact_id": 4, "name": "x"}\n'
    ingested = folder.ingest({"customers": {"path": folder.write("c.jsonl", text)}})
    assert rows(ingested.tables.customers, "contact_id", "name") == [("1", None), ("4", "x")]
    assert [row[:2] for row in found(ingested)] == [("unreadable_row", 2), ("unreadable_row", 3)]


def test_an_empty_jsonl_file_is_an_empty_table(folder: Folder) -> None:
    sources = {
        "customers": {"path": folder.write("c.csv", "contact_id\nc1\n")},
        "events": {"path": folder.write("e.jsonl", "")},
    }
    assert rows(folder.ingest(sources).tables.events, "event_id") == []


def test_several_sources_of_a_table_are_one_table(folder: Folder) -> None:
    sources = {
        "customers": [
            {"path": folder.write("a.csv", "contact_id,points\n1,10\n")},
            {"path": folder.write("b.jsonl", '{"contact_id": 2, "points": 1.5}\n{"contact_id": null}\n')},
        ]
    }
    ingested = folder.ingest(sources)
    assert rows(ingested.tables.customers, "contact_id", "points") == [("1", 10.0), ("2", 1.5)]
    assert rows(ingested.quarantine, "source", "row_number", "rule") == [("b.jsonl", 2, "missing_key")]
    assert [source.rows_accepted for source in ingested.report.sources] == [1, 1]


def test_a_source_has_a_time_zone_of_its_own_and_else_the_projects(folder: Folder) -> None:
    text = "order_id,ordered_at\n{},2026-07-01 12:00\n"
    orders = [
        {"path": folder.write("a.csv", text.format("a"))},
        {"path": folder.write("b.csv", text.format("b")), "timezone": "America/New_York"},
    ]
    customers = {"path": folder.write("c.csv", "contact_id\n")}
    ingested = folder.ingest({"customers": customers, "orders": orders}, timezone="Europe/Berlin")
    assert [str(time) for _, time in rows(ingested.tables.orders, "order_id", "ordered_at")] == [
        "2026-07-01 10:00:00+00:00",
        "2026-07-01 16:00:00+00:00",
    ]


def test_checking_sources_lists_all_that_would_stop_a_build(folder: Folder) -> None:
    sources = {
        "customers": {"path": folder.write("c.csv", "contact_id,loyalty\n1,gold\n")},
        "orders": {"path": folder.write("o.csv", "order_id\n")},
        "events": {"stdin": "jsonl"},
    }
    project = folder.project(
        sources,
        traits={"loyalti": {"type": "text"}},
        quality={"rules": {"missing_key": "off", "invalid_mail": "warn"}},
    )
    messages = [str(problem) for problem in check_sources(project)]
    assert len(messages) == 4
    assert "missing_key: this rule cannot be off" in messages[0]
    assert 'no rule "invalid_mail". Did you mean "invalid_email"?' in messages[1]
    assert 'has no column "ordered_at"' in messages[2]
    assert 'customers have no column "loyalti". Did you mean "loyalty"?' in messages[3]
    assert all(message.startswith("segue.yml:") for message in messages)


def test_a_project_without_customers_is_a_mistake(folder: Folder) -> None:
    folder.write("p.csv", "product_id\n1\n")
    with pytest.raises(ConfigError, match="there are no customers"):
        folder.ingest({"products": {"path": "p.csv"}})


def test_nothing_is_left_in_the_temporary_folder_or_the_current_one(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = tmp_path / "spill"
    spill.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spill))
    before = sorted(Path().iterdir())
    folder.ingest({"customers": {"path": folder.write("c.csv", CSV.encode("utf-16")), "encoding": "utf-16"}})
    torn = CSV.encode("utf-16") + b"x"
    with pytest.raises(DataError):
        folder.ingest({"customers": {"path": folder.write("d.csv", torn), "encoding": "utf-16"}})
    assert list(spill.iterdir()) == []
    assert sorted(Path().iterdir()) == before
