import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from segue.core.config import load_project
from segue.core.data.canonical import TABLES
from segue.core.errors import ConfigError, DataError
from segue.core.headers import NEEDED, WORDS, folded, readings
from segue.core.starter import Started, init

ONLINE_RETAIL = Path(__file__).parents[2] / "../shared/data/online_retail"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
MAPPING = """\
connector: mailchimp
fields:
  - trait: recency_days
    label: Days since last order
    purpose: win-back
  # the stage
  - group: lifecycle
    label: Stage
    purpose: win-back
  - recommendation: for_you
    slot: 1
    attribute: name
    label: Product
    purpose: cross-sell
tags:
  segments: all
  purpose: selection
"""

KUNDEN = """\
Kundennr;Vorname;Nachname;E-Mail;Land;Kunde seit;Umsatz bisher;Treue-Stufe
K-1;Jörg;Müller;joerg@beispiel.de;Deutschland;01.02.2025;1.234,50;Gold
K-2;Zoë;Groß;zoe@beispiel.de;Österreich;03.04.2025;7,00;Silber
K-3;Ana;Peña;ana@beispiel.de;Deutschland;05.06.2025;0,99;Gold
"""
BESTELLUNGEN = """\
Bestellnr;Kundennr;Bestelldatum;Status
B-1;K-1;30.12.2025 10:00;bezahlt
B-2;K-2;31.12.2025 11:30;offen
"""
POSITIONEN = """\
Bestellnr;Pos;Artikelnr;Menge;Einzelpreis
B-1;1;A-1;2;12,50
B-1;2;A-2;1;1.099,00
B-2;1;A-1;1;12,50
"""
ARTIKEL = """\
Artikelnr;Bezeichnung;Warengruppe;Preis
A-1;Becher;Küche;12,50
A-2;Tisch;Möbel;1.099,00
"""


@pytest.fixture
def german(tmp_path: Path) -> Path:
    """Exports as a German shop system writes them: semicolons, decimal commas, dotted dates, Windows letters."""
    folder = tmp_path / "export"
    folder.mkdir()
    for name, text in {
        "kunden.csv": KUNDEN,
        "bestellungen.csv": BESTELLUNGEN,
        "bestellpositionen.csv": POSITIONEN,
        "artikel.csv": ARTIKEL,
    }.items():
        (folder / name).write_bytes(text.encode("windows-1252"))
    return folder


def made(tmp_path: Path, data: Path) -> tuple[Started, str]:
    started = init(tmp_path / "shop", data, now=NOW, mapping=MAPPING)
    return started, (tmp_path / "shop" / "segue.yml").read_text(encoding="utf-8")


def table_of(started: Started) -> dict[str, str | None]:
    return {file.path.name: file.table for file in started.files}


def test_german_exports_become_a_project(tmp_path: Path, german: Path) -> None:
    started, _ = made(tmp_path, german)
    assert table_of(started) == {
        "artikel.csv": "products",
        "bestellpositionen.csv": "order_items",
        "bestellungen.csv": "orders",
        "kunden.csv": "customers",
    }
    project = load_project(tmp_path / "shop")
    assert (project.country, project.timezone, project.currency) == ("DE", "Europe/Berlin", "EUR")
    assert project.as_of == datetime(2026, 1, 1, tzinfo=UTC)
    (customers,) = project.sources["customers"]
    assert (customers.delimiter, customers.encoding, customers.decimal) == (";", "windows-1252", ",")
    assert customers.columns == {
        "contact_id": "Kundennr",
        "email": "E-Mail",
        "first_name": "Vorname",
        "last_name": "Nachname",
        "country": "Land",
        "created_at": "Kunde seit",
        "umsatz_bisher": "Umsatz bisher",
        "treue_stufe": "Treue-Stufe",
    }
    (items,) = project.sources["order_items"]
    assert items.decimal == ","
    assert items.columns["unit_price"] == "Einzelpreis"
    assert project.traits.keys() == {"umsatz_bisher", "treue_stufe"}


def test_a_status_is_not_taken_for_the_kind_of_document(tmp_path: Path, german: Path) -> None:
    made(tmp_path, german)
    (orders,) = load_project(tmp_path / "shop").sources["orders"]
    assert "kind" not in orders.columns


@pytest.mark.skipif(
    not ONLINE_RETAIL.is_dir(), reason="the shared Online Retail data is not beside this checkout"
)
def test_online_retail_becomes_a_project(tmp_path: Path) -> None:
    started, text = made(tmp_path, ONLINE_RETAIL)
    project = load_project(tmp_path / "shop")
    assert set(project.sources) == {"customers", "products", "orders", "order_items"}
    assert (project.country, project.timezone, project.currency) == ("GB", "Europe/London", "GBP")
    assert project.as_of == datetime(2011, 12, 10, tzinfo=UTC)
    (products,) = project.sources["products"]
    assert products.columns == {"name": "description", "category": "derived_category", "price": "list_price"}
    # A column that is called like a computed trait gets a name of its own.
    (customers,) = project.sources["customers"]
    assert customers.columns["shop_last_seen_at"] == "last_seen_at"
    assert any("e-mail" in question for question in started.open_questions)
    assert any("consents" in question for question in started.open_questions)
    assert "# not used: n_lines, amount" in text


def test_a_project_that_is_there_is_never_touched(tmp_path: Path, german: Path) -> None:
    shop = tmp_path / "shop"
    (shop / "mappings").mkdir(parents=True)
    (shop / "mappings" / "mailchimp.yml").write_text("mine")
    with pytest.raises(ConfigError, match=r"mappings/mailchimp\.yml is there already"):
        made(tmp_path, german)
    assert [path.name for path in shop.rglob("*") if path.is_file()] == ["mailchimp.yml"]
    assert (shop / "mappings" / "mailchimp.yml").read_text() == "mine"


def test_an_ignore_file_that_is_there_stays(tmp_path: Path, german: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / ".gitignore").write_text("mine")
    started, _ = made(tmp_path, german)
    assert (tmp_path / "shop" / ".gitignore").read_text() == "mine"
    assert len(started.written) == 2


def test_data_without_customers_makes_no_project_and_says_what_was_seen(tmp_path: Path, german: Path) -> None:
    (german / "kunden.csv").unlink()
    with pytest.raises(DataError, match=r"no file with customers.*\n.*artikel\.csv: products"):
        made(tmp_path, german)
    assert not (tmp_path / "shop").exists()


@pytest.mark.parametrize("files", [{}, {"readme.txt": "hello"}])
def test_a_folder_without_data_is_said(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "export").mkdir()
    for name, text in files.items():
        (tmp_path / "export" / name).write_text(text)
    with pytest.raises(DataError, match="holds no CSV, Parquet or JSONL file"):
        made(tmp_path, tmp_path / "export")


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or directory"):
        made(tmp_path, tmp_path / "nowhere")


def test_files_that_cannot_be_used_are_comments_with_their_reason(tmp_path: Path, german: Path) -> None:
    (german / "broken.parquet").write_bytes(b"PAR?")
    (german / "lager.csv").write_text("Regal;Fach\n1;2\n")
    (german / "leer.csv").touch()
    (german / "sales_export.csv").write_text(
        "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID\n1,A,1,2025-01-01,1.0,K-1\n"
    )
    (german / "alte_kunden.csv").write_text("Kundennr;Telefon\nK-9;1\n")
    _, text = made(tmp_path, german)
    for name in ("broken.parquet", "lager.csv", "leer.csv", "sales_export.csv", "alte_kunden.csv"):
        assert f"  # not used: {name}: " in text
    assert load_project(tmp_path / "shop").sources["customers"][0].path == "../export/kunden.csv"


def test_parts_of_one_export_are_sources_of_one_table(tmp_path: Path, german: Path) -> None:
    (german / "bestellungen_alt.csv").write_bytes((german / "bestellungen.csv").read_bytes())
    made(tmp_path, german)
    orders = load_project(tmp_path / "shop").sources["orders"]
    assert [source.path for source in orders] == [
        "../export/bestellungen.csv",
        "../export/bestellungen_alt.csv",
    ]


def test_parquet_jsonl_and_packed_csv_are_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    people = [{"customer_id": "1", "email": "ada@shop.test", "country": "France", "tags": ["a", "b"]}]
    (folder / "customers.jsonl").write_text("\n".join(json.dumps(person) for person in people))
    with gzip.open(folder / "orders.csv.gz", "wt") as file:
        file.write("order_id,customer_id,created_at\n1,1,2026-02-27T10:00:00Z\n")
    lines = pa.table({"order_id": ["1"], "sku": ["A"], "qty": [1], "price": [2.5]})
    pyarrow.parquet.write_table(lines, folder / "line_items.parquet")
    started, _ = made(tmp_path, folder)
    assert set(table_of(started).values()) == {"customers", "orders", "order_items"}
    project = load_project(tmp_path / "shop")
    assert (project.country, project.timezone, project.currency) == ("FR", "Europe/Paris", "EUR")
    assert project.as_of is None  # the newest order is of this week: live data


def test_without_orders_nothing_is_written_that_needs_them(tmp_path: Path, german: Path) -> None:
    for name in ("bestellungen.csv", "bestellpositionen.csv", "artikel.csv"):
        (german / name).unlink()
    made(tmp_path, german)
    project = load_project(tmp_path / "shop")
    assert not project.segments
    assert not project.groups
    assert not project.recommendations
    mapping = (tmp_path / "shop" / "mappings" / "mailchimp.yml").read_text()
    assert "  - trait: recency_days\n    label: Days since last order\n" in mapping
    assert "#   - group: lifecycle\n#     label: Stage\n#     purpose: win-back\n" in mapping
    assert "#   - recommendation: for_you\n" in mapping
    assert "\ntags:\n  segments: all\n" in mapping


def test_values_that_a_build_would_refuse_are_said(tmp_path: Path, german: Path) -> None:
    text = BESTELLUNGEN.replace("30.12.2025 10:00", "12/30/2025").replace("31.12.2025 11:30", "12/31/2025")
    (german / "bestellungen.csv").write_text(text)
    started, written = made(tmp_path, german)
    assert "bestellungen.csv: 100% of Bestelldatum cannot be read as times (ISO 8601, or 31.12.2011)" in (
        started.open_questions
    )
    assert "# look at this: 100% of Bestelldatum" in written


def test_odd_headers_and_paths_survive_yaml(tmp_path: Path) -> None:
    folder = tmp_path / 'ex: "port" #1'
    folder.mkdir()
    header = 'Kunden Nr.,E-Mail,"size: ""L"" # no",null,Größe,GROESSE,2nd'
    (folder / "kunden.csv").write_text(f"{header}\n1,a@shop.test,x,y,z,w,v\n")
    made(tmp_path, folder)
    project = load_project(tmp_path / "shop")
    (customers,) = project.sources["customers"]
    assert customers.path == '../ex: "port" #1/kunden.csv'
    assert customers.columns == {
        "contact_id": "Kunden Nr.",
        "email": "E-Mail",
        "size_l_no": 'size: "L" # no',
        "grosse": "Größe",
        "groesse": "GROESSE",
        "column_2nd": "2nd",
    }
    assert project.traits.keys() == {"size_l_no", "null", "grosse", "groesse", "column_2nd"}


def test_the_vocabulary_names_columns_that_exist_and_is_folded() -> None:
    assert WORDS.keys() == TABLES.keys() == NEEDED.keys()
    for table, columns in WORDS.items():
        assert columns.keys() <= {column.name for column in TABLES[table]}
        assert set(NEEDED[table]) <= columns.keys()
        for words in columns.values():
            assert all(word == folded(word) for word in words.split())


@pytest.mark.parametrize("table", list(TABLES))
def test_a_file_with_our_own_names_is_that_table(table: str) -> None:
    headers = [column.name for column in TABLES[table] if column.name != "line_kind"]
    best = readings(Path(f"{table}.csv"), headers)[0]
    assert (best.table, best.lacking, best.unused) == (table, (), ())
    assert all(ours == theirs for ours, theirs in best.columns.items())
