"""The consent ledger as real processes: shown, imported, exported, and changed by a person's word at the desk."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from ..shop import Customer, Shop
from .test_cli_sync import segue, told

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)

ADA = "c00000@shop.example"
US_OPT_OUT = "\nconsent:\n  regimes: {US: opt_out}\n"


def consent(shop: Shop, *arguments: str, code: int = 0) -> Any:
    """Run a command of the ledger and give its JSON."""
    done = segue(shop, "consent", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def state(shop: Shop, who: str) -> str:
    return str(consent(shop, "show", who)["state"])


def statuses(shop: Shop) -> dict[str, str]:
    return {address.partition("@")[0]: member["status"] for address, member in shop.members().items()}


def written(shop: Shop, name: str, *lines: str, encoding: str = "utf-8") -> str:
    path = shop.folder / name
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return str(path)


def test_who_calls_to_leave_is_out_everywhere_and_stays_out(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    done = consent(shop, "withdraw", "c00000", "--evidence", "call=ticket 4711", "--by", "Ada at the desk")
    assert (done["state"], done["opt_outs"]) == ("unsubscribed", {"newsletter": 1})
    seen = consent(shop, "show", ADA)
    decides = [line for line in seen["entries"] if line["decides"]]
    assert {(line["act"], line["of"], line["source"]) for line in decides} == {
        ("withdrawal", "contact", "desk"),
        ("withdrawal", "address", "desk"),
    }
    assert decides[0]["evidence"] == {"call": "ticket 4711", "recorded_by": "Ada at the desk"}
    assert "is not newer" in seen["why"]
    shop.run(rebuild=False)
    assert statuses(shop) == {"c00000": "unsubscribed", "c00001": "subscribed"}
    shop.customers["c00000"].consents.append(("grant", 50, '{"form": "stale file"}'))
    shop.run()
    assert statuses(shop)["c00000"] == "unsubscribed"
    text = segue(shop, "consent", "show", "c00000").stdout
    assert "unsubscribed: Left on" in text
    assert "newsletter: unsubscribed, with fields of ours" in text


def test_an_address_that_is_in_no_snapshot_can_leave_before_it_comes(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    assert consent(shop, "show", "Later@Shop.Example")["entries"] == []
    consent(shop, "withdraw", " Later@shop.example", "--evidence", "letter of 3 May")
    assert consent(shop, "show", "later@shop.example")["entries"][0]["evidence"]["reference"]
    shop.customers["later"] = Customer("later")
    shop.run()
    assert statuses(shop) == {"c00000": "subscribed"}
    assert state(shop, "later") == "unsubscribed"


def test_the_ledger_is_there_before_the_first_build(shop: Shop) -> None:
    (shop.folder / "mapping.yml").write_text(shop.mapping)
    shop.stock(1)
    shop.build()
    for part in ("snapshots",):
        (shop.folder / ".segue" / part).rename(shop.folder / "moved away")
    consent(shop, "withdraw", ADA)
    assert state(shop, ADA) == "unsubscribed"


def test_a_contact_id_that_nobody_knows_is_an_error_and_no_silence(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    assert "contact id" in told(segue(shop, "consent", "withdraw", "c0000"), 2)


def test_a_grant_at_the_desk_needs_evidence_and_counts_from_its_time(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[])
    shop.build()
    assert "needs evidence" in told(segue(shop, "consent", "grant", "ada"), 2)
    assert "to come" in told(
        segue(shop, "consent", "grant", "ada", "--evidence", "form=card", "--at", "2999-01-01T00:00:00Z"), 2
    )
    assert "time zone" in told(segue(shop, "consent", "withdraw", "ada", "--at", "2026-01-01T00:00:00"), 2)
    assert state(shop, "ada") == "unknown"
    consent(shop, "grant", "ada", "--evidence", "form=card in the shop", "--at", "2026-01-02T10:00:00Z")
    shop.run()
    assert statuses(shop) == {"ada": "subscribed"}
    older = consent(shop, "withdraw", "ada", "--at", "2026-01-01T10:00:00Z")
    assert older["state"] == "subscribed"


def test_a_release_ends_a_suppression_and_grants_nothing(shop: Shop) -> None:
    shop.customers["ada"] = Customer(
        "ada", consents=[("grant", 100, '{"form": "x"}'), ("suppression", 50, "")]
    )
    shop.run()
    seen = consent(shop, "show", "ada")
    assert seen["state"] == "suppressed"
    assert "consent release" in seen["why"]
    assert consent(shop, "release", "ada", "--evidence", "mailbox is back")["state"] == "unsubscribed"
    shop.run(rebuild=False)
    assert statuses(shop) == {}
    consent(shop, "grant", "ada", "--evidence", "form=new card")
    shop.run(rebuild=False)
    assert statuses(shop) == {"ada": "subscribed"}


ONETRUST = "Data Subject Identifier,Purpose Name,Transaction Type,Interaction Date,Receipt ID"


def test_an_export_with_bad_rows_is_imported_not_at_all_or_as_far_as_told(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[])
    shop.customers["bob"] = Customer("bob")
    shop.run()
    file = written(
        shop,
        "onetrust.csv",
        ONETRUST,
        "ada@shop.example,Newsletter,CONFIRMED,2026-02-01T10:00:00Z,r1",
        "bob@shop.example,Whatever,WITHDRAWN,2026-02-01T10:00:00Z,r2",
        "nobody,Newsletter,CONFIRMED,2026-02-01T10:00:00Z,r3",
    )
    command = ("import", file, "--source", "onetrust", "--shape", "onetrust", "--marketing", "Newsletter")
    told_errors = consent(shop, *command, code=2)["error"]
    assert any(
        problem["where"] == "onetrust.csv, row 3" and "invalid_email" in problem["message"]
        for problem in told_errors["problems"]
    )
    assert "nobody" not in json.dumps(told_errors["problems"][:-1])
    assert (state(shop, "ada"), state(shop, "bob")) == ("unknown", "subscribed")
    done = consent(shop, *command, "--partly", code=1)
    assert (done["rows"], done["new"], done["opt_outs"]) == (3, 3, {"newsletter": 1})
    assert (state(shop, "ada"), state(shop, "bob")) == ("subscribed", "unsubscribed")
    assert consent(shop, *command, "--partly", code=1)["new"] == 0
    shop.run(rebuild=False)
    assert statuses(shop) == {"ada": "subscribed", "bob": "unsubscribed"}


def test_the_same_file_again_adds_nothing_and_a_stale_one_raises_nobody(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[])
    shop.build()
    untimed = written(shop, "left.csv", "email,act,occurred_at,evidence", "ada@shop.example,withdrawn,,x")
    assert "not an encoding" in told(
        segue(shop, "consent", "import", untimed, "--source", "list", "--encoding", "latin-99"), 2
    )
    assert consent(shop, "import", untimed, "--source", "list")["new"] == 2  # the person and the address
    assert consent(shop, "import", untimed, "--source", "list")["new"] == 0
    stale = written(
        shop, "old.csv", "email,act,occurred_at,evidence", "ada@shop.example,granted,2024-01-01,form 3"
    )
    assert consent(shop, "import", stale, "--source", "list")["new"] == 1
    assert state(shop, "ada") == "unsubscribed"


def test_a_mapping_file_reads_any_other_form(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[])
    shop.build()
    mapping = written(
        shop,
        "ours.yml",
        "columns: {contact_id: Kunde, act: Status, occurred_at: Wann}",
        "evidence: {confirmed_at: DOI}",
        "acts: {angemeldet: grant, abgemeldet: withdrawal}",
        'time_format: "%d/%m/%Y %H:%M"',
        "encoding: windows-1252",
    )
    file = written(
        shop,
        "liste.csv",
        "Kunde;Status;Wann;DOI;Größe",
        "ada;angemeldet;03/02/2026 10:00;03.02.2026;ü",
        encoding="windows-1252",
    )
    assert consent(shop, "import", file, "--source", "liste", "--map", mapping)["new"] == 1
    line = consent(shop, "show", "ada")["entries"][0]
    assert (line["occurred_at"], line["evidence"]) == (
        "2026-02-03T10:00:00Z",
        {"confirmed_at": "03.02.2026"},
    )


def test_the_ledger_goes_out_under_keys_and_comes_in_again(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    consent(shop, "withdraw", "c00000", "--evidence", "call")
    lines = list(csv.DictReader(io.StringIO(segue(shop, "consent", "export").stdout)))
    assert {line["act"] for line in lines} == {"grant", "withdrawal"}
    assert "shop.example" not in json.dumps(lines)
    assert {len(line["subject"]) for line in lines} == {16}
    rows = segue(shop, "consent", "export", "--format", "jsonl", "--with-contacts").stdout.splitlines()
    named = [json.loads(row) for row in rows]
    assert {(row["contact_id"], row["email"]) for row in named if row["act"] == "withdrawal"} == {
        ("c00000", ADA),
        (None, ADA),
    }
    out = str(shop.folder / "ledger.csv")
    assert consent(shop, "export", "--out", out, "--with-contacts")["entries"] == len(lines)
    assert Path(out).stat().st_mode & 0o777 == 0o600
    assert "exists" in told(segue(shop, "consent", "export", "--out", out), 2)
    consent(shop, "import", out, "--source", "unused")
    assert consent(shop, "import", out, "--source", "unused")["new"] == 0
    assert (state(shop, "c00000"), state(shop, "c00001")) == ("unsubscribed", "subscribed")


def test_an_opt_out_country_is_mailed_without_a_grant_and_the_ledger_says_on_which_law(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[], country="US")
    shop.customers["bob"] = Customer("bob", consents=[], country="DE")
    shop.customers["cyd"] = Customer("cyd", consents=[])
    shop.customers["dan"] = Customer("dan", consents=[("withdrawal", 10, "")], country="US")
    shop.more = US_OPT_OUT
    shop.run()
    assert statuses(shop) == {"ada": "subscribed"}
    seen = consent(shop, "show", "ada")
    assert (seen["regime"], seen["state"]) == ("opt_out", "subscribed")
    assert "segue.yml says opt_out for US" in seen["why"]
    assert [(line["act"], line["evidence"]) for line in seen["entries"]] == [
        ("basis", {"country": "US", "setting": "consent.regimes.US: opt_out"})
    ]
    consent(shop, "withdraw", "ada")
    shop.run()
    assert statuses(shop) == {"ada": "unsubscribed"}


def test_another_country_in_tomorrows_data_raises_nobody(shop: Shop) -> None:
    shop.customers["bob"] = Customer("bob", consents=[], country="DE")
    shop.more = US_OPT_OUT
    shop.run()
    shop.customers["bob"].country = "US"
    shop.run()
    assert statuses(shop) == {}
    assert "the data had them in DE once" in consent(shop, "show", "bob")["why"]
    del shop.customers["bob"]
    shop.customers["bob again"] = Customer("bob again", email="bob@shop.example", consents=[], country="US")
    shop.run()
    assert statuses(shop) == {}


def test_a_law_that_is_struck_from_the_settings_after_the_plan_creates_nobody(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[], country="US")
    shop.more = US_OPT_OUT
    plan = shop.plan()
    assert plan.operations == {"create": 1}
    shop.more = ""
    shop.build()
    config = shop.folder / "segue.yml"
    config.write_text(config.read_text().replace("consent:", "").replace("regimes: {US: opt_out}", ""))
    report = shop.apply(plan.plan_id)
    assert statuses(shop) == {}
    assert [(status, code) for status, code, _ in report.tally.codes] == [("withheld", "no_grant")]


def test_double_opt_in_asks_for_a_confirmed_grant_when_planned_and_when_packed(shop: Shop) -> None:
    proof = '{"form": "x", "confirmed_at": "2026-01-01T00:00:00Z"}'
    shop.customers["ada"] = Customer("ada", country="DE")
    shop.customers["bob"] = Customer("bob", country="DE", consents=[("grant", 10, proof)])
    shop.customers["cyd"] = Customer("cyd", country="DE", consents=[("grant", 10, proof)])
    shop.more = "\nconsent:\n  regimes: {DE: double_opt_in}\n"
    plan = shop.plan()
    assert plan.withheld == {"pending": 1}
    consent(shop, "withdraw", "cyd", "--at", "2026-02-25T00:00:00Z")
    consent(shop, "grant", "cyd", "--evidence", "form=card", "--at", "2026-02-26T00:00:00Z")
    shop.apply(plan.plan_id)
    assert statuses(shop) == {"bob": "subscribed"}
    assert "nothing shows that it was confirmed" in consent(shop, "show", "cyd")["why"]


def test_what_is_said_of_cookies_neither_grants_nor_stops_mail(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[])
    shop.customers["bob"] = Customer("bob")
    shop.build()
    shop.run()
    file = written(
        shop,
        "cookiebot.csv",
        "Email,Marketing,Consent Date,Consent ID",
        "ada@shop.example,true,2026-02-01T10:00:00Z,k1",
        "bob@shop.example,false,2026-02-01T10:00:00Z,k2",
    )
    done = consent(shop, "import", file, "--source", "cookiebot", "--shape", "cookiebot")
    assert (done["new"] > 0, done["opt_outs"]) == (True, {})
    assert (state(shop, "ada"), state(shop, "bob")) == ("unknown", "subscribed")
    assert "not about e-mail marketing" in segue(shop, "consent", "show", "ada").stdout
