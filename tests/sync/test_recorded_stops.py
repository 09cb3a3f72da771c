"""Who left by the shop's own word, in its data or in an import, is opted out wherever they are mailed."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segue.core.shapes import load_shape
from segue.sync.inbound import recorded_stops
from segue.sync.jobs import recorded, utc_now
from segue.sync.ledger import files

from ..shop import Shop
from .test_consent_paths import ADDRESS, killed, sign_up

pytestmark = pytest.mark.both


def urged(shop: Shop) -> list[str]:
    """The addresses of the opt-outs that wait ahead of all else."""
    with ExitStack() as stack:
        rows = shop.job(stack).store.outbox.urgent("newsletter", 100)
        return sorted(row.address for row in rows)


def imported(shop: Shop, file: Path) -> files.Imported:
    """Take a file into the ledger, in this process."""
    with ExitStack() as stack:
        job = shop.job(stack)
        return files.import_file(
            job.project,
            job.store,
            job.snapshot,
            file,
            load_shape("segue"),
            source="crm",
            partly=False,
            by="ada",
            now=utc_now(),
            progress=lambda *_: None,
        )


def left(folder: Path, *rows: str) -> Path:
    """Write a file of withdrawals, each `contact_id,email`."""
    lines = [f"{row},withdrawal,{utc_now().isoformat()}" for row in rows]
    path = folder / "left.csv"
    path.write_text("\n".join(["contact_id,email,act,occurred_at", *lines]))
    return path


def test_who_is_no_customer_and_leaves_by_the_shops_own_consents_is_opted_out(shop: Shop) -> None:
    shop.stock(1)
    sign_up(shop, "eve@shop.example")
    sign_up(shop, "dan@shop.example")
    shop.run()
    shop.acts = [{"email": "eve@shop.example", "act": "withdrawal", "at": utc_now()}]
    shop.build()
    with ExitStack() as stack:
        job = shop.job(stack)
        with recorded(job, "pull") as (_, report):
            job._record_consents(report)
    assert urged(shop) == ["eve@shop.example"]
    shop.run()
    statuses = {address: member["status"] for address, member in shop.members().items()}
    assert statuses == {
        ADDRESS: "subscribed",
        "eve@shop.example": "unsubscribed",
        "dan@shop.example": "subscribed",
    }
    assert shop.run().writes == 0


def test_an_opt_out_that_waited_until_they_agreed_again_is_not_sent(shop: Shop) -> None:
    """Sent, it would be an unsubscribe that nobody but their own visit to the ESP's form could mend."""
    shop.stock(2)
    shop.run()
    now = utc_now()
    shop.acts = [{"contact_id": "c00000", "act": "withdrawal", "at": now - timedelta(minutes=2)}]
    shop.build()
    with ExitStack() as stack:
        job = shop.job(stack)
        with recorded(job, "pull") as (_, report):
            job._record_consents(report)
    assert urged(shop) == [ADDRESS]
    shop.acts += [{"contact_id": "c00000", "act": "grant", "at": now, "evidence": '{"form": "checkout"}'}]
    shop.build()
    assert shop.run().tally.outcomes == {("opt_out", "withheld"): 1}
    assert shop.members()[ADDRESS]["status"] == "subscribed"
    assert shop.run().writes == 0


def test_an_import_that_was_killed_opts_out_when_it_is_repeated(shop: Shop, tmp_path: Path) -> None:
    sign_up(shop, "eve@shop.example")
    shop.run()
    file = left(tmp_path, ",eve@shop.example")
    with killed(recorded_stops.opt_out_recorded, files):
        imported(shop, file)
    assert urged(shop) == []
    done = imported(shop, file)
    assert (done.new, done.opt_outs, urged(shop)) == (0, {"newsletter": 1}, ["eve@shop.example"])
    assert imported(shop, file).opt_outs == {}


def test_an_import_asks_of_nobody_who_is_mailed_nowhere(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(2)
    shop.run()
    asked: list[str] = []

    def fan_out(_store: Any, _destinations: Any, _people: Any, addresses: Sequence[str]) -> dict[str, int]:
        asked.extend(addresses)
        return {}

    monkeypatch.setattr(recorded_stops, "fan_out", fan_out)
    strangers = [f",nobody{number}@shop.example" for number in range(20)]
    imported(shop, left(tmp_path, *strangers, f",{ADDRESS}"))
    assert asked == [ADDRESS]


def test_who_leaves_under_another_address_is_opted_out_where_they_are_mailed(
    shop: Shop, tmp_path: Path
) -> None:
    shop.stock(1)
    shop.run()
    imported(shop, left(tmp_path, "c00000,old@shop.example"))
    assert urged(shop) == [ADDRESS]
