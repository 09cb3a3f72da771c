"""Erasure and access as people type them, over two destinations, in real processes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.connectors.mailchimp.testing import Sandbox, running_sandbox

from .files_shop import FilesShop

SECOND = """\
  clubmail:
    connector: mailchimp
    mapping: mapping.yml
    settings:
      api_key: env:SECOND_KEY
      audience: {audience}
      base_url: {base_url}
"""


@pytest.fixture(scope="module")
def second_process() -> Iterator[Sandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def second(second_process: Sandbox) -> Iterator[Sandbox]:
    with second_process.fresh():
        yield second_process


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def shop(request: pytest.FixtureRequest, tmp_path: Path, mailchimp: Sandbox, second: Sandbox) -> FilesShop:
    secrets = {"MAILCHIMP_KEY": mailchimp.key, "SECOND_KEY": second.key}
    store = "sqlite"
    if request.param == "postgresql":
        store, secrets["STORE_URL"] = "env:STORE_URL", request.getfixturevalue("postgres_database")
    made = FilesShop(tmp_path / "shop", mailchimp, store=store)
    made.secrets(**secrets)
    with (made.folder / "segue.yml").open("a") as file:
        file.write(SECOND.format(audience=second.audience, base_url=second.base_url))
    return made


def there(sandbox: Sandbox) -> set[str]:
    state = sandbox.emulator.state(count=1000, offset=0, address=None)
    return {
        each["email_address"].partition("@")[0] for each in state["audiences"][sandbox.audience]["members"]
    }


def profiles(shop: FilesShop) -> set[str]:
    answer = shop.segue("segue sql 'select contact_id from profiles' --json")
    return {row["contact_id"] for row in json.loads(answer.stdout)}


def test_who_is_erased_is_gone_everywhere_and_does_not_come_back(
    shop: FilesShop, mailchimp: Sandbox, second: Sandbox
) -> None:
    shop.stock(["ada", "bob", "eve"])
    ran = shop.segue("segue run")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert there(mailchimp) == there(second) == {"ada", "bob", "eve"}

    shown = shop.segue("segue forget ada")
    assert shown.returncode == 0, shown.stderr
    assert "lets nobody import this address again" in shown.stdout
    assert "Nothing was changed" in shown.stdout
    assert there(second) == {"ada", "bob", "eve"}

    done = shop.segue("segue forget ada@myshop.example --yes --json")
    assert done.returncode == 0, done.stdout + done.stderr
    (receipt,) = json.loads(done.stdout)
    assert receipt["finished_at"]
    for name in ("newsletter", "clubmail"):
        (answer,) = receipt["steps"][name]["answers"]
        assert answer == {"was_there": True, "answer": "204", "is_gone": True}
    assert "ada" not in done.stdout
    assert there(mailchimp) == there(second) == {"bob", "eve"}

    again = shop.segue("segue run")  # the shop's files still name ada
    assert again.returncode == 0, again.stdout + again.stderr
    assert there(mailchimp) == there(second) == {"bob", "eve"}
    listed = shop.segue("segue quarantine --json")
    assert '"erased"' in listed.stdout

    for who in ("ada", "ada@myshop.example"):
        held = shop.segue(f"segue access {who}")
        assert held.returncode == 0, held.stdout + held.stderr
        assert "Nothing personal is held" in held.stdout
    assert shop.segue("segue audit verify").returncode == 0
    text = shop.segue(f"segue forget --receipt {receipt['erasure_id']}").stdout
    assert "At clubmail" in text
    assert "ada" not in text

    for who in ("ada", "ada@myshop.example"):  # a person's word is the one way back
        assert shop.segue("segue build").returncode == 0
        assert profiles(shop) == {"bob", "eve"}
        assert shop.segue(f"segue consent release {who} --erased --evidence call=1").returncode == 0
    assert shop.segue("segue build").returncode == 0
    assert profiles(shop) == {"ada", "bob", "eve"}


def test_who_took_another_address_at_an_account_is_erased_there_too(shop: FilesShop, second: Sandbox) -> None:
    shop.stock(["ada", "bob"])
    for _ in range(2):  # the second one learns by what the account knows them, whatever their address
        assert shop.segue("segue run").returncode == 0
    moved = {"email_address": "ada.new@myshop.example"}
    second.sdk().lists.update_list_member(second.audience, "ada@myshop.example", moved)
    done = shop.segue("segue forget ada --yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert there(second) == {"bob"}


def test_a_person_gets_all_that_is_held_of_them_and_of_nobody_else(shop: FilesShop) -> None:
    shop.stock(["ada", "bob"])
    assert shop.segue("segue run").returncode == 0
    told = shop.segue("segue access ada --json")
    assert told.returncode == 0, told.stderr
    held = json.loads(told.stdout)
    assert held["contact_ids"] == ["ada"]
    assert held["addresses"] == ["ada@myshop.example"]
    assert {"trait": "city", "value": "Berlin"}.items() <= held["traits"][1].items() or any(
        each["trait"] == "city" for each in held["traits"]
    )
    assert [each["segment"] for each in held["segments"]] == ["berliners"]
    assert held["consent"]["entries"][0]["evidence"] == {"form": "a"}
    for side in ("newsletter", "clubmail"):
        assert held["destinations"][side]["confirmed"][0]["address"] == "ada@myshop.example"
    assert held["audit"]
    assert "bob" not in told.stdout
    assert shop.segue("segue access ada --out ada.html").returncode == 0
    page = (shop.folder / "ada.html").read_text()
    assert "ada@myshop.example" in page
    assert "bob" not in page
    assert (shop.folder / "ada.html").stat().st_mode & 0o077 == 0
    assert "http" not in page.replace(str(shop.folder), "")
    assert shop.segue("segue access ada --out ada.html").returncode == 2  # not written over


def test_the_check_and_the_purge_are_for_machines_too(shop: FilesShop) -> None:
    shop.stock(["ada"])
    assert shop.segue("segue run").returncode == 0
    checked = shop.segue("segue privacy check --json")
    assert checked.returncode == 4, checked.stderr
    assert {"retention_not_set", "vague_purpose"} <= {each["rule"] for each in json.loads(checked.stdout)}
    purged = shop.segue("segue purge --dry-run --json")
    assert purged.returncode == 0, purged.stderr
    assert json.loads(purged.stdout)["removed"]["snapshots"] == 0
    assert shop.segue("segue purge").returncode == 0


def test_nobody_is_erased_by_a_wrong_word(shop: FilesShop) -> None:
    shop.stock(["ada"])
    shop.build()
    unknown = shop.segue("segue forget nobody --yes")
    assert unknown.returncode == 2
    assert shop.segue("segue forget").returncode == 2
    assert shop.segue("segue forget --receipt x").returncode == 2
