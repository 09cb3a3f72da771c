"""How every emulator's webhooks travel: what is tried again, what goes wrong on request, and when all is done."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.connectors.emulator import Clock
from segue.connectors.webhook_sender import SenderSettings, WebhookSender

from .receiver import Receiver

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PATIENT = 20.0  # real seconds after which a test gives up; none waits that long


def unproved(_: bytes, __: datetime) -> Mapping[str, str]:
    return {}


class Post:
    """A sender on a clock that stands still, to one receiver."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.clock = Clock()
        self.clock.set(NOON)
        self.sender = WebhookSender(self.clock, SenderSettings(attempts=3, retry_wait=60))

    def post(self, *names: object) -> None:
        for name in names:
            body = json.dumps({"name": name}).encode()
            self.sender.post(
                f"{self.receiver.url}/hook", body, {"content-type": "application/json"}, unproved
            )

    def arrived(self) -> list[Any]:
        return [json.loads(each.body)["name"] for each in self.receiver.posts()]

    def counts(self) -> dict[str, int]:
        return dict(self.sender.counts)


@pytest.fixture
def post() -> Iterator[Post]:
    with Receiver().running() as receiver:
        made = Post(receiver)
        yield made
        made.sender.close()


def order_of(post: Post, number: int = 30, **settings: Any) -> list[Any]:
    """Give what arrives, in order, of webhooks that were all waiting before the first set out."""
    post.sender.clear()
    post.receiver.received.clear()
    post.sender.change({**settings, "paused": True})
    post.post(*range(number))
    assert not post.sender.wait(PATIENT)
    assert post.arrived() == []
    post.sender.change({"paused": False})
    post.sender.wait(PATIENT)
    return post.arrived()


def test_each_arrives_once_in_order_with_its_headers_when_nothing_is_set(post: Post) -> None:
    post.post("a", "b", "c")
    assert post.sender.wait(PATIENT)
    assert post.arrived() == ["a", "b", "c"]
    assert post.receiver.posts()[0].headers["content-type"] == "application/json"
    assert post.counts() == {"posted": 3, "attempts": 3, "delivered": 3}


@pytest.mark.parametrize("status", [500, 404, 301])
def test_what_is_not_taken_is_tried_again_in_the_emulators_time_after_growing_waits(
    post: Post, status: int
) -> None:
    post.receiver.answers = [status, status]
    post.post("a")
    for seconds, arrived in ((0, 1), (59, 1), (1, 2), (119, 2), (1, 3)):
        post.clock.advance(timedelta(seconds=seconds))
        assert post.sender.wait(PATIENT) is (arrived == 3)
        assert len(post.arrived()) == arrived
    assert [each.status for each in post.sender.log] == [status, status, 200]
    assert [each.attempt for each in post.sender.log] == [1, 2, 3]
    assert post.counts() == {"posted": 1, "attempts": 3, "failed": 2, "delivered": 1}


def test_what_is_never_taken_is_given_up_after_the_last_attempt(post: Post) -> None:
    post.receiver.answers = [500] * 9
    post.post("a")
    for _ in range(5):
        post.sender.wait(PATIENT)
        post.clock.advance(timedelta(hours=1))
    assert post.sender.wait(PATIENT)
    assert post.counts() == {"posted": 1, "attempts": 3, "failed": 3, "given_up": 1}


def test_who_does_not_answer_in_time_gets_it_again_although_it_arrived(post: Post) -> None:
    post.sender.change({"timeout": 0.05})
    post.receiver.answers = [None]
    post.post("a")
    post.sender.wait(PATIENT)
    post.clock.advance(timedelta(minutes=1))
    assert post.sender.wait(PATIENT)
    assert post.arrived() == ["a", "a"]
    assert [each.status for each in post.sender.log] == [None, 200]


def test_a_receiver_that_is_away_holds_nobody_else_up(post: Post) -> None:
    there = post.receiver.url
    post.receiver.url = "http://127.0.0.1:9"
    post.post("a")
    assert not post.sender.wait(PATIENT)
    post.receiver.url = there
    post.post("b")
    assert not post.sender.wait(PATIENT)
    assert [each.status for each in post.sender.log] == [None, 200]


def test_a_lost_one_never_sets_out_and_the_seed_says_which(post: Post) -> None:
    arrived = order_of(post, lose=0.4, seed=1)
    assert 0 < len(arrived) < 30
    assert arrived == sorted(arrived)
    assert arrived == order_of(post, lose=0.4, seed=1)
    assert arrived != order_of(post, lose=0.4, seed=2)
    assert post.counts()["lost"] == 30 - len(post.arrived())


def test_a_repeated_one_arrives_twice_although_it_was_taken(post: Post) -> None:
    arrived = order_of(post, repeat=0.4, seed=1)
    assert set(arrived) == set(range(30))
    assert 30 < len(arrived) < 60
    assert order_of(post, number=3, repeat=1.0) == [0, 0, 1, 1, 2, 2]


def test_one_that_is_reordered_lets_a_later_one_go_first_and_none_is_lost(post: Post) -> None:
    arrived = order_of(post, reorder=0.4, seed=1)
    assert sorted(arrived) == list(range(30))
    assert arrived != sorted(arrived)
    assert arrived == order_of(post, reorder=0.4, seed=1)


def test_a_delayed_one_waits_in_the_emulators_time(post: Post) -> None:
    assert order_of(post, delay=60.0) == []
    post.clock.advance(timedelta(minutes=1))
    assert post.sender.wait(PATIENT)
    assert sorted(post.arrived()) == list(range(30))
    assert post.arrived() != sorted(post.arrived())


def test_a_running_clock_brings_a_delayed_one_by_itself(post: Post) -> None:
    post.clock.release()
    post.sender.change({"delay": 0.05})
    post.post("a")
    assert post.sender.wait(PATIENT)
    assert post.arrived() == ["a"]


def test_forgetting_keeps_nothing_and_puts_the_settings_back(post: Post) -> None:
    post.sender.change({"paused": True, "lose": 0.5})
    post.post("a", "b")
    post.sender.clear()
    assert post.sender.settings == SenderSettings(attempts=3, retry_wait=60)
    assert post.sender.wait(PATIENT)
    assert (post.arrived(), post.counts()) == ([], {})


def test_what_came_of_a_request_that_was_forgotten_on_its_way_is_not_kept(post: Post) -> None:
    post.sender.change({"timeout": 5})

    def forgetting(_: bytes, __: datetime) -> Mapping[str, str]:
        post.sender.clear()
        return {}

    post.sender.post(f"{post.receiver.url}/hook", b'{"name": 1}', {}, forgetting)
    assert post.sender.wait(PATIENT)
    post.post("next")
    assert post.sender.wait(PATIENT)
    assert post.counts() == {"posted": 1, "attempts": 1, "delivered": 1}


def test_after_closing_the_next_one_starts_it_again(post: Post) -> None:
    post.sender.close()
    post.post("a")
    assert post.sender.wait(PATIENT)
    post.sender.close()
    post.post("b")
    assert post.sender.wait(PATIENT)
    assert post.arrived() == ["a", "b"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonsense": 1},
        {"lose": 2},
        {"repeat": -0.1},
        {"reorder": "often"},
        {"paused": "no"},
        {"delay": -1},
        {"timeout": 0},
        {"attempts": 0},
    ],
)
def test_a_wrong_setting_is_refused_and_changes_none(post: Post, wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        post.sender.change({"seed": 5, **wrong})
    assert post.sender.settings.seed == 0
