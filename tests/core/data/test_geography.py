"""Names of countries in the languages of shops, and the money of each."""

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from segue.core.data import geography


def countries(con: Backend, *names: str) -> list[str | None]:
    given = ibis.memtable(pa.table({"name": names, "place": range(len(names))}))
    given = given.mutate(spelling=geography.key(given.name))
    coded = given.left_join(geography.country_names(), "spelling").order_by("place")
    return list(con.to_pyarrow(coded)["country"].to_pylist())


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("DE", "de", "DEU", "Germany", "Deutschland", "ALLEMAGNE", "Alemania", "Duitsland", "Niemcy"), "DE"),
        (("GB", "UK", "U.K.", "United Kingdom", "England", "Great Britain", "Royaume-Uni"), "GB"),
        (("IE", "EIRE", "Éire", "Republic of Ireland", "Irland"), "IE"),
        (("US", "U.S.A.", "United States of America", "Vereinigte Staaten", "États-Unis"), "US"),
        (("RSA", "South Africa", "Südafrika"), "ZA"),
        (("Czech Republic", "Czechia", "Tschechien"), "CZ"),
        (("Côte d'Ivoire", "Cote d\u2019Ivoire", "Ivory Coast"), "CI"),
        (("Channel Islands", "Jersey"), "JE"),
        (("Norway", "NO", "Norge"), "NO"),
    ],
)
def test_one_country_has_many_names(con: Backend, names: tuple[str, ...], code: str) -> None:
    assert countries(con, *names) == [code] * len(names)


def test_what_is_no_country_has_no_code(con: Backend) -> None:
    assert countries(con, "European Community", "Unspecified", "Europe", "EU", "ZZ", "??", "1") == [None] * 7


def test_a_spelling_means_one_country(con: Backend) -> None:
    names = geography.country_names()
    assert con.to_pyarrow(names.count() - names.spelling.nunique()).as_py() == 0


def test_old_and_new_money_of_a_country_are_both_its_own(con: Backend) -> None:
    pairs = con.to_pyarrow(geography.currencies_by_country()).to_pylist()
    known = {(pair["country"], pair["currency"]) for pair in pairs}
    assert {("HR", "HRK"), ("HR", "EUR"), ("DE", "EUR"), ("JE", "GBP"), ("US", "USD")} <= known
    assert ("DE", "GBP") not in known
    assert len(pairs) == len(known)
