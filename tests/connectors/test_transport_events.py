import pytest
import requests
import responses
import structlog

from segue.connectors.circuit import FAILURES
from segue.connectors.patience import Patience
from segue.core.errors import RetryableError

from .conftest import ADDRESS, BASE, HASH, KEY, Make


@pytest.fixture(autouse=True)
def unconfigured() -> None:
    """A command that ran in this process before may have switched logging off."""
    structlog.reset_defaults()


def test_each_attempt_is_one_event_without_a_persons_data(esp: responses.RequestsMock, make: Make) -> None:
    path = f"{BASE}/lists/b1/members/{HASH}"
    ids = {"X-Request-Id": "r-77"}
    esp.patch(path, status=500, headers=ids)
    esp.patch(path, status=429, headers={"Retry-After": "1", "X-Request-Id": ADDRESS})
    esp.patch(path, body=requests.ReadTimeout(f"{ADDRESS} {HASH} {KEY}"))
    esp.patch(path, json={"email": ADDRESS}, headers=ids)
    with structlog.testing.capture_logs() as events:
        make().request("PATCH", f"/lists/b1/members/{HASH}", params={"q": ADDRESS}, json={"to": ADDRESS})
    told = [
        [event[name] for name in ("event", "log_level", "status", "attempt", "request_id")]
        for event in events
    ]
    assert told == [
        ["failed", "warning", 500, 1, "r-77"],
        ["throttled", "warning", 429, 2, ""],
        ["failed", "warning", 0, 3, ""],
        ["request", "debug", 200, 4, "r-77"],
    ]
    assert {(event["esp"], event["method"], event["path"]) for event in events} == {
        ("Esp", "PATCH", "/lists/b1/members/…")
    }
    assert len({event["call"] for event in events}) == 1
    assert not [secret for secret in (ADDRESS, "jane.doe", HASH, KEY) if secret in repr(events)]


def test_the_open_circuit_is_an_event_when_it_opens_and_at_each_call_that_it_stops(
    esp: responses.RequestsMock, make: Make
) -> None:
    esp.get(f"{BASE}/things", status=500)
    transport = make(patience=Patience(attempts=1))
    with structlog.testing.capture_logs() as events:
        for _ in range(FAILURES + 1):
            with pytest.raises(RetryableError):
                transport.request("GET", "/things")
    assert [event["event"] for event in events] == ["failed"] * FAILURES + ["circuit_open"] * 2


def test_without_a_configuration_nothing_is_logged(
    esp: responses.RequestsMock, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    esp.get(f"{BASE}/things", status=500)
    with pytest.raises(RetryableError):
        make(patience=Patience(attempts=1)).request("GET", "/things")
    assert capsys.readouterr() == ("", "")
