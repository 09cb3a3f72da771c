"""Each rule of the privacy check: found where it is broken, not found where it is kept, accepted by a word."""

import os

import pytest

from segue.core.config import load_project
from segue.core.errors import ConfigError
from segue.core.personalize import build
from segue.sync.rights.check import Finding, findings
from segue.sync.rights.erasure import erase
from segue.sync.rights.whom import whom
from segue.sync.store.store import Store

from ...shop import AS_OF, MAPPING_YML, Shop

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


def found(shop: Shop, rule: str) -> list[Finding]:
    return [each for each in findings(load_project(shop.folder)) if each.rule == rule and not each.accepted]


def project(shop: Shop, *, more: str = "", mapping: str = MAPPING_YML) -> Shop:
    """A project to look at, with some customers."""
    shop.stock(2)
    shop.mapping = mapping
    shop.more = more
    shop.build()
    (shop.folder / ".segue").chmod(0o700)
    return shop


@pytest.mark.parametrize("purpose", ["marketing", "tbd", "E-mail marketing", "n/a", "???", "CRM"])
def test_a_purpose_that_says_nothing_is_found(shop: Shop, purpose: str) -> None:
    vague = MAPPING_YML.replace("purpose: test", f'purpose: "{purpose}"')
    assert len(found(project(shop, mapping=vague), "vague_purpose")) == 5


def test_a_purpose_that_says_something_is_not(shop: Shop) -> None:
    clear = MAPPING_YML.replace("purpose: test", "purpose: greeting in the marketing newsletter")
    assert found(project(shop, mapping=clear), "vague_purpose") == []


def test_personal_data_that_leaves_is_to_be_declared(shop: Shop) -> None:
    project(shop)
    (leaves,) = found(shop, "undeclared_personal_data")
    assert "last_name" in leaves.message
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("privacy: {personal_data: [last_name]}\n")
    assert found(shop, "undeclared_personal_data") == []


def test_personal_data_that_nothing_uses_is_found(shop: Shop) -> None:
    without = "".join(line for line in MAPPING_YML.splitlines(keepends=True) if "last_name" not in line)
    (unused,) = found(project(shop, mapping=without), "unused_personal_data")
    assert "last_name" in unused.message


def test_personal_data_that_is_mapped_is_used(shop: Shop) -> None:
    assert found(project(shop), "unused_personal_data") == []


def test_retention_is_to_be_decided(shop: Shop) -> None:
    assert found(project(shop), "retention_not_set")
    (shop.folder / "segue.yml").write_text(
        (shop.folder / "segue.yml").read_text() + "retention: {engagement: 365 days}\n"
    )
    assert found(shop, "retention_not_set") == []


HOOKS = "    webhooks: {token: env:HOOK_TOKEN}\n"


def test_unsigned_webhooks_are_found(shop: Shop) -> None:
    assert found(project(shop, more=HOOKS), "webhooks_unsigned")


def test_signed_webhooks_are_not(shop: Shop) -> None:
    signed = HOOKS.replace("}", ", secrets: [env:HOOK_SECRET]}")
    assert found(project(shop, more=signed), "webhooks_unsigned") == []


def test_an_encrypted_store_is_not_found(shop: Shop) -> None:
    assert found(project(shop), "store_not_encrypted")
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("encryption_key: env:NOT_READ_HERE\n")
    assert found(shop, "store_not_encrypted") == []


def test_a_secret_that_others_can_read_is_found(shop: Shop) -> None:
    project(shop)
    env = shop.folder / ".env"
    env.write_text("SANDBOX_KEY=x\n")
    env.chmod(0o644)
    assert [each.where for each in found(shop, "secret_readable")] == [str(env)]
    env.chmod(0o600)
    assert found(shop, "secret_readable") == []


def test_a_state_folder_that_others_can_open_is_found(shop: Shop) -> None:
    project(shop)
    assert found(shop, "state_readable") == []
    (shop.folder / ".segue").chmod(0o755)
    assert found(shop, "state_readable")


def test_a_key_beside_the_store_is_found(shop: Shop) -> None:
    project(shop)
    beside = load_project(shop.folder).store_url().startswith("sqlite")
    assert bool(found(shop, "contact_key_beside_store")) is beside
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("contact_key: env:CONTACT_KEY\n")
    assert found(shop, "contact_key_beside_store") == []


def test_debug_logging_is_found(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    project(shop)
    assert found(shop, "debug_logging") == []
    (shop.folder / ".env").write_text("export SEGUE_LOG_LEVEL='debug'\n")
    assert found(shop, "debug_logging")
    (shop.folder / ".env").unlink()
    monkeypatch.setitem(os.environ, "SEGUE_LOG_LEVEL", "DEBUG")
    assert found(shop, "debug_logging")


@pytest.mark.parametrize(
    ("url", "is_found"), [("http://hooks.shop.example", True), ("https://hooks.shop.example", False)]
)
def test_http_to_the_world_is_found_and_to_this_machine_not(shop: Shop, url: str, is_found: bool) -> None:
    project(shop)
    with (shop.folder / "segue.yml").open("a") as file:
        file.write(f"serve: {{public_url: {url}}}\n")
    assert bool(found(shop, "plain_http")) is is_found  # the sandbox itself is on http://127.0.0.1


def test_opt_out_in_europe_is_found(shop: Shop) -> None:
    project(shop)
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("consent: {regimes: {US: opt_out, DE: opt_out, FR: double_opt_in}}\n")
    (country,) = found(shop, "opt_out_in_europe")
    assert country.message.startswith("DE")


def test_an_erasure_that_waits_is_found(shop: Shop) -> None:
    project(shop)
    assert found(shop, "erasure_waits") == []
    loaded = load_project(shop.folder)
    with Store.of(loaded) as store, store.leases.hold("newsletter"):
        erase(loaded, store, whom(loaded, store, "c00001"), who="x")
    assert found(shop, "erasure_waits")


def test_grants_without_evidence_are_counted(shop: Shop) -> None:
    (shop.folder / "segue.yml").write_text(
        "project: x\nsources: {customers: [{path: c.csv}], consents: [{path: a.csv}]}\n"
    )
    (shop.folder / "c.csv").write_text("contact_id,email\nc1,ada@shop.example\n")
    (shop.folder / "a.csv").write_text("contact_id,act,occurred_at,evidence\nc1,grant,2026-01-01,\n")
    loaded = load_project(shop.folder)
    build(loaded, as_of=AS_OF, progress=lambda *_: None)
    (count,) = [each for each in findings(loaded) if each.rule == "grant_without_evidence"]
    assert count.message.startswith("1 grants")


def test_what_is_accepted_stays_in_sight_with_its_reason(shop: Shop) -> None:
    project(shop)
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("privacy: {accepted: {store_not_encrypted: the disk is encrypted}}\n")
    assert found(shop, "store_not_encrypted") == []
    every = findings(load_project(shop.folder))
    assert "the disk is encrypted" in {each.accepted for each in every}


def test_what_is_accepted_and_not_there_is_found(shop: Shop) -> None:
    project(shop)
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("privacy: {accepted: {plain_http: a test account}}\n")
    assert found(shop, "acceptance_without_finding")


def test_an_unknown_rule_cannot_be_accepted(shop: Shop) -> None:
    project(shop)
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("privacy: {accepted: {plain_htp: x}}\n")
    with pytest.raises(ConfigError, match="plain_http"):
        findings(load_project(shop.folder))
