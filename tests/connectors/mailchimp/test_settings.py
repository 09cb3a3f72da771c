from pathlib import Path
from typing import Any

import pytest

from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.settings import Settings
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.errors import ConfigError
from segue.core.model import Operation, RateLimit

RIGHT = {"api_key": "0123456789abcdef-us19", "audience": "b1234567ab"}


def made(**settings: str) -> Mailchimp:
    connector = Mailchimp.from_settings({**RIGHT, **settings})
    connector.transport.close()
    return connector


def test_a_batch_size_caps_every_operation_of_this_account_alone() -> None:
    assert set(made(batch_size="20").capabilities.batch_sizes.values()) == {20, 1}
    assert made(batch_size="20").capabilities.batch_sizes[Operation.OPT_OUT] == 1
    assert made().capabilities == Mailchimp.capabilities


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("100 per 10 seconds", 100, 10),
        ("1 per second", 1, 1),
        ("500 per minute", 500, 60),
        ("9 per 2 minutes", 9, 120),
    ],
)
def test_a_rate_limit_is_said_in_words(text: str, count: int, seconds: float) -> None:
    assert made(rate_limit=text).capabilities.rate_limits == (RateLimit(count=count, seconds=seconds),)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0.5 seconds", 0.5), ("1 second", 1), ("0.02", 0.02), ("2", 2), ("0.5", 0.5)]
)
def test_a_retry_wait_is_a_number_of_seconds(text: str, seconds: float) -> None:
    assert made(retry_wait=text).transport.patience.first_wait == seconds


def test_mailchimp_has_no_rate_limit_of_its_own() -> None:
    assert made().capabilities.rate_limits == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": "0"},
        {"batch_size": "501"},
        {"batch_size": "-1"},
        {"batch_size": "many"},
        {"batch_size": ""},
        {"rate_limit": "fast"},
        {"rate_limit": "0 per 10 seconds"},
        {"rate_limit": "100"},
        {"rate_limit": "100 per 0 seconds"},
        {"rate_limit": ""},
        {"retry_wait": "0"},
        {"retry_wait": "-1"},
        {"retry_wait": "soon"},
        {"retry_wait": "1 minute"},
        {"retry_wait": "100"},
        {"retry_wait": ""},
    ],
)
def test_a_wrong_size_or_rate_is_said_with_the_next_step(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.read({**RIGHT, **wrong})
    assert [problem.where for problem in caught.value.problems] == [f"settings.{name}" for name in wrong]
    assert caught.value.problems[0].next_step


def test_every_setting_is_in_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
    assert [
        name for name in Settings.__dataclass_fields__ if f"| `{name.removesuffix('s')}` |" not in page
    ] == []


def test_the_local_mailchimp_refuses_what_is_beyond_a_rate_in_its_own_way(mailchimp: Sandbox) -> None:
    mailchimp.settings(rate_count=2, rate_seconds=60.0, throttle="problem")
    answers: list[Any] = [mailchimp.call("GET", "/ping") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["title"] == "TooManyRequests"
