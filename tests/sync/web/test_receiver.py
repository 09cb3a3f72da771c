"""The doors for webhooks, behind a real server on a real socket: what is let in is on disk before it is answered."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
import requests
import uvicorn
from starlette.applications import Starlette

from segue.connectors.mailchimp.webhooks import MailchimpWebhooks
from segue.sync.store.store import Store
from segue.sync.web.limits import Allowance
from segue.sync.web.receiver import LARGEST, Door, Receiver

from ...connectors.mailchimp.test_webhooks import signed

FORM = {"content-type": "application/x-www-form-urlencoded"}
TOKEN, SECRET = "t" * 43, "s3cret"


@pytest.fixture
def told() -> list[None]:
    return []


@pytest.fixture
def url(store: Store, told: list[None]) -> Iterator[str]:
    """Where a signed door is; `unsigned` is another one."""
    doors = [
        Door(destination="signed", token=TOKEN, webhooks=MailchimpWebhooks(), secrets=(SECRET,)),
        Door(destination="unsigned", token=TOKEN, webhooks=MailchimpWebhooks()),
    ]
    receiver = Receiver(doors, store.inbox, clock=lambda: datetime.now(UTC), stored=lambda: told.append(None))
    receiver.start()
    with served(Starlette(routes=receiver.routes())) as base:
        yield f"{base}/webhooks"
    receiver.stop()


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        host, port = listener.getsockname()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            thread.join()


def body(number: int = 0, kind: str = "unsubscribe") -> bytes:
    said = {"type": kind, "fired_at": "2026-02-28 09:30:00", "data[email]": f"c{number}@shop.test"}
    return urlencode(said).encode()


def post(url: str, content: bytes, *, token: str = TOKEN, headers: dict[str, str] | None = None) -> int:
    proof = signed(content, at=datetime.now(UTC)) if headers is None else headers
    return requests.post(f"{url}/{token}", data=content, headers=FORM | proof, timeout=10).status_code


def bodies(store: Store, destination: str = "signed") -> list[bytes]:
    return [row.body for row in store.inbox.take(destination, 1_000)]


def test_what_is_acknowledged_is_stored_and_told(url: str, store: Store, told: list[None]) -> None:
    assert post(f"{url}/signed", body()) == 200
    assert bodies(store) == [body()]
    assert len(told) == 1


def test_the_probe_of_a_new_webhook_is_answered_at_the_right_path_alone(url: str) -> None:
    assert requests.get(f"{url}/signed/{TOKEN}", timeout=10).status_code == 200
    assert requests.get(f"{url}/signed/{'u' * 43}", timeout=10).status_code == 404
    assert requests.get(f"{url}/nobody/{TOKEN}", timeout=10).status_code == 404


def test_what_comes_again_is_acknowledged_and_stored_once(url: str, store: Store) -> None:
    assert [post(f"{url}/signed", body()) for _ in range(3)] == [200] * 3
    assert bodies(store) == [body()]


def test_an_esp_that_cannot_sign_is_let_in_by_its_path(url: str, store: Store) -> None:
    assert post(f"{url}/unsigned", body(), headers={}) == 200
    assert bodies(store, "unsigned") == [body()]


@pytest.mark.parametrize(
    ("status", "token", "proof"),
    [
        (404, "u" * 43, lambda: None),
        (404, TOKEN[:-1], lambda: None),
        (401, TOKEN, dict),
        (401, TOKEN, lambda: signed(body(1))),
        (401, TOKEN, lambda: signed(body(), at=datetime.now(UTC) - timedelta(minutes=6))),
        (401, TOKEN, lambda: signed(body(), at=datetime.now(UTC) + timedelta(minutes=6))),
    ],
)
def test_who_cannot_prove_where_they_come_from_is_refused(
    url: str, store: Store, status: int, token: str, proof: Callable[[], dict[str, str] | None]
) -> None:
    assert post(f"{url}/signed", body(), token=token, headers=proof()) == status
    assert bodies(store) == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", body(kind="unknown")])
def test_what_cannot_be_read_is_refused(url: str, store: Store, content: bytes) -> None:
    assert post(f"{url}/signed", content) == 400
    assert bodies(store) == []


def test_a_body_that_is_too_large_is_refused_and_not_read_to_its_end(url: str, store: Store) -> None:
    assert post(f"{url}/signed", b"a" * (LARGEST + 1)) == 413
    assert bodies(store) == []


def test_another_method_is_refused(url: str) -> None:
    assert requests.put(f"{url}/signed/{TOKEN}", data=body(), timeout=10).status_code == 405


def test_many_at_once_are_all_stored_before_they_are_acknowledged(url: str, store: Store) -> None:
    with ThreadPoolExecutor(16) as senders:
        answers = list(senders.map(lambda number: post(f"{url}/signed", body(number)), range(200)))
    assert answers == [200] * 200
    assert sorted(bodies(store)) == sorted(body(number) for number in range(200))


def test_who_is_refused_again_and_again_is_told_to_come_later_and_who_is_proved_is_not(url: str) -> None:
    guessed = [requests.get(f"{url}/signed/{number:043}", timeout=10) for number in range(110)]
    assert {each.status_code for each in guessed} == {404, 429}
    assert all(int(each.headers["retry-after"]) >= 1 for each in guessed if each.status_code == 429)
    assert post(f"{url}/signed", body()) == 200


def test_a_destination_that_gets_more_than_any_has_is_told_to_come_later(store: Store) -> None:
    door = Door(destination="unsigned", token=TOKEN, webhooks=MailchimpWebhooks())
    receiver = Receiver([door], store.inbox, clock=lambda: datetime.now(UTC), stored=lambda: None)
    receiver._messages = Allowance(rate=0.1, burst=2)
    receiver.start()
    with served(Starlette(routes=receiver.routes())) as base:
        path = f"{base}/webhooks/unsigned/{TOKEN}"
        answers = [requests.post(path, data=body(), headers=FORM, timeout=10) for _ in range(3)]
    receiver.stop()
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_second_address_of_a_door_is_the_same_door(url: str, store: Store) -> None:
    assert post(f"{url}/signed", body(), token=f"{TOKEN}/2") == 200
    assert bodies(store) == [body()]
    assert post(f"{url}/signed", body(1), token=f"{TOKEN}/x") == 404
