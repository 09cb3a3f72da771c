"""`segue audit` and `segue store rotate-key` as a person types them."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from segue.core.config import load_project
from segue.core.errors import ConfigError
from segue.sync.cli import main
from segue.sync.store.schema import audit
from segue.sync.store.store import Store

from ...shop import Shop

OLD, NEW = "ab" * 32, "cd" * 32


def typed(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    assert main([str(each) for each in arguments]) == code
    return capsys.readouterr().out


def test_a_person_is_found_by_id_and_by_address_with_what_became_of_them(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.stock(3)
    report = shop.run()
    where = ("--project", shop.folder, "--json")
    for who in ("c00001", "c00001@shop.example", "C00001@Shop.Example "):
        rows = json.loads(typed(capsys, "audit", "show", who, *where))
        assert {(row["act"], tuple(row["concerns"])) for row in rows} == {
            ("settled", ("create applied",)),
            ("consents recorded", ("grant",)),
        }
        assert {row["who"] for row in rows} == {f"run {report.run_id}"}
    assert json.loads(typed(capsys, "audit", "show", "nobody", *where)) == []
    of_run = json.loads(typed(capsys, "audit", "show", "--run", report.run_id, *where))
    assert [row["act"] for row in of_run[::-1]] == [
        "run started",
        "consents recorded",
        "planned",
        "made ours",
        "made ours",
        "settled",
        "run ended",
    ]
    shown = " ".join(typed(capsys, "audit", "show", "c00001", "--project", shop.folder).split())
    assert "create applied" in shown
    assert "create applied 3" not in shown


def test_the_head_of_a_report_proves_the_audit_and_a_change_ends_with_4(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.stock(2)
    head = shop.run().as_json()["audit"]
    where = ("--project", shop.folder)
    assert head in typed(capsys, "report", *where)
    assert "The audit is whole" in typed(capsys, "audit", "verify", "--head", head, *where)
    with Store.of(load_project(shop.folder)) as store, store._database.write() as connection:
        connection.execute(sa.delete(audit).where(audit.c.number == int(head.partition(":")[0])))
    said = json.loads(typed(capsys, "audit", "verify", *where, "--json", code=4))
    assert not said["whole"]
    assert [each["number"] for each in said["problems"]] == [int(head.partition(":")[0])] * 1
    typed(capsys, "audit", "verify", "--head", "nonsense", *where, code=2)


def test_a_project_is_encrypted_and_its_key_rotated(
    shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(3)
    first = shop.run()
    assert first.plan is not None
    assert not first.plan.file_key
    shop.more += "encryption_key: env:SEGUE_ENCRYPTION_KEY\n"
    monkeypatch.setenv("SEGUE_ENCRYPTION_KEY", OLD)
    shop.customers["c00001"].spent = 150.0
    second = shop.run()
    assert second.exit_code == 0
    assert second.plan is not None
    assert second.plan.file_key
    assert b"c00001@shop.example" not in second.plan.steps.read_bytes()
    done = json.loads(typed(capsys, "store", "rotate-key", "--project", shop.folder, "--json"))
    assert done["values"]["baseline_payload"] == 2
    monkeypatch.setenv("SEGUE_ENCRYPTION_KEY", NEW)
    with pytest.raises(ConfigError, match="Give the missing key too"):
        shop.run()
    monkeypatch.setenv("SEGUE_ENCRYPTION_KEY", f"{NEW} {OLD}")
    typed(capsys, "store", "rotate-key", "--project", shop.folder)
    monkeypatch.setenv("SEGUE_ENCRYPTION_KEY", NEW)
    undone = json.loads(typed(capsys, "rollback", second.run_id, "--yes", "--project", shop.folder, "--json"))
    assert undone
    assert shop.members()["c00001@shop.example"]["merge_fields"]["SG_SPENT"] == 50
    typed(capsys, "audit", "verify", "--project", shop.folder)


def test_a_plan_of_an_encrypted_store_is_applied_canary_first(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segue.sync.planning.canary import Canary

    monkeypatch.setenv("SEGUE_ENCRYPTION_KEY", NEW)
    shop.more += "encryption_key: env:SEGUE_ENCRYPTION_KEY\n"
    shop.stock(6)
    shop.customers["none"] = shop.customers.pop("c00005")
    shop.customers["none"].consents = []
    plan = shop.plan()
    shop.apply(plan.plan_id, canary=Canary.parse("2"))
    assert len(shop.members()) == 2
    shop.apply(plan.plan_id)
    assert len(shop.members()) == 5
    assert shop.run().writes == 0
