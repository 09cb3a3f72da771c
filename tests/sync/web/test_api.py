"""The read API, behind a real server: who may see what, and in which shape it is refused."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from segue.core.config import load_project
from segue.sync.jobs import utc_now
from segue.sync.store.store import Store
from segue.sync.store.tokens import Role
from segue.sync.web.api import Api, masked, refusal
from segue.sync.web.receiver import Receiver

from ...acceptance.ugly_shop import segue
from ...shop import Shop
from .test_receiver import served

ADDRESS, MASKED = "c00000@shop.example", "c***@shop.example"


class Asked:
    """A running API and its tokens."""

    def __init__(self, base: str, store: Store) -> None:
        self.base = base
        self.store = store
        self.secrets = {role: store.tokens.create(role.value, role) for role in Role}

    def get(self, path: str, role: Role | None = Role.ADMIN, *, secret: str = "", method: str = "GET") -> Any:
        given = secret or (self.secrets[role] if role else "")
        headers = {"authorization": f"Bearer {given}"} if given else {}
        return requests.request(method, f"{self.base}{path}", headers=headers, timeout=20)


@pytest.fixture
def asked(shop: Shop) -> Iterator[Asked]:
    shop.stock(2)
    shop.run()
    project = load_project(shop.folder)
    with ExitStack() as stack:
        store = stack.enter_context(Store.of(project))
        receiver = Receiver([], store.inbox, clock=utc_now, stored=lambda: None)
        api = Api(project, store, receiver)
        app = Starlette(routes=api.routes(), exception_handlers={HTTPException: refusal})
        yield Asked(stack.enter_context(served(app)), store)


def test_the_api_says_what_the_commands_say(asked: Asked, shop: Shop) -> None:
    for path, command in {
        "/api/status": ("status",),
        "/api/contacts/c00000": ("contact", "show", "c00000"),
    }.items():
        told = segue(*command, "--json", "--project", shop.folder).json()
        assert asked.get(path).json() == told
    assert ADDRESS in asked.get("/api/contacts/c00000").text


def test_a_marketer_sees_no_raw_address_anywhere(asked: Asked) -> None:
    shown = asked.get("/api/contacts/c00000", Role.MARKETER)
    assert shown.status_code == 200
    assert ADDRESS not in shown.text
    assert shown.json()["traits"]["email"] == MASKED
    assert shown.json()["destinations"]["newsletter"]["confirmed"]["address"] == MASKED
    assert asked.get("/api/status", Role.MARKETER).status_code == 200


def test_a_contact_is_asked_for_by_id_alone(asked: Asked) -> None:
    """An address in a path ends in the logs of every proxy on its way."""
    assert asked.get(f"/api/contacts/{ADDRESS}").status_code == 404
    assert asked.get("/api/contacts/nobody").status_code == 404


def test_metrics_are_for_admins(asked: Asked) -> None:
    metrics = asked.get("/metrics")
    assert metrics.status_code == 200
    assert "segue_runs_total" in metrics.text
    assert "segue_inbox_messages" in metrics.text
    assert asked.get("/metrics", Role.MARKETER).status_code == 403


@pytest.mark.parametrize("path", ["/api/status", "/api/contacts/c00000", "/metrics"])
@pytest.mark.parametrize("secret", ["", "segue_wrong", "x" * 5_000])
def test_nothing_is_told_without_a_good_token(asked: Asked, path: str, secret: str) -> None:
    refused = asked.get(path, None, secret=secret)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["status"] == 401
    basic = requests.get(f"{asked.base}{path}", auth=("admin", asked.secrets[Role.ADMIN]), timeout=20)
    assert basic.status_code == 401


def test_a_revoked_token_ends_at_once(asked: Asked) -> None:
    assert asked.get("/api/status").status_code == 200
    asked.store.tokens.revoke("admin")
    assert asked.get("/api/status").status_code == 401


def test_every_refusal_is_json_and_says_its_status(asked: Asked) -> None:
    for answer, status in (
        (asked.get("/api/nothing"), 404),
        (asked.get("/api/status", method="POST"), 405),
        (asked.get("/metrics", Role.MARKETER), 403),
    ):
        assert answer.status_code == status
        assert answer.json()["error"]["status"] == status
        assert answer.json()["error"]["message"]


def test_who_asks_too_much_is_told_when_to_come_again(asked: Asked) -> None:
    answers = [asked.get("/api/status", None, secret="guess") for _ in range(40)]
    assert {each.status_code for each in answers} == {401, 429}
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert asked.get("/api/status").status_code == 200  # a good token has an allowance of its own


def test_answers_are_kept_by_nobody(asked: Asked) -> None:
    assert asked.get("/api/contacts/c00000").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Ada.L@shop.example", "A***@shop.example"),
        ("to <ada@a.test>, ben@b.test", "to <a***@a.test>, b***@b.test"),
        ('"ada l"@Odd.test said', '"***@odd.test said'),
        ({"ada@a.test": ["ada@a.test", 1, None]}, {"a***@a.test": ["a***@a.test", 1, None]}),
        ("nothing", "nothing"),
    ],
)
def test_an_address_is_masked_wherever_it_stands(value: Any, shown: Any) -> None:
    assert masked(value, '"ada l"@odd.test') == shown


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://shop.example/confirm?email=jo%40shop.example", "jo%40"),
        ("https://shop.example/confirm?email=ada+l%40odd.test&x=1", "ada"),
        ("o'brien@x.example", "brien"),
        ("ADA%20L%40ODD.TEST", "ADA"),
    ],
)
def test_an_address_in_a_link_is_masked_too(text: str, hidden: str) -> None:
    assert hidden not in masked(text, "ada l@odd.test")
