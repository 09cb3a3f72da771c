from contextlib import suppress
from typing import Any

import pytest
import responses

from segue.connectors.circuit import FAILURES, REST, Circuit
from segue.connectors.patience import Patience
from segue.core.errors import RejectedBatchError, RetryableError

from .conftest import BASE, Hours, Make, problem, sent


def test_one_failure_after_the_other_ends_in_silence_and_then_one_probe(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.get(f"{BASE}/things", status=500)
    transport = make(patience=Patience(attempts=1))
    for _ in range(FAILURES):
        with pytest.raises(RetryableError, match="failed"):
            transport.request("GET", "/things")
    for _ in range(3):
        with pytest.raises(RetryableError, match="asked again in 60 seconds") as caught:
            transport.request("POST", "/things", json={}, retry=False)
        assert (caught.value.retry_after, caught.value.throttled) == (REST, False)
    assert sent(esp) == FAILURES
    hours.seconds += REST
    for _ in range(2):
        with pytest.raises(RetryableError):
            transport.request("GET", "/things")
    assert sent(esp) == FAILURES + 1  # the probe, which failed as well
    esp.replace("GET", f"{BASE}/things", json={})
    hours.seconds += REST
    for _ in range(2):
        transport.request("GET", "/things")


def test_a_call_does_not_go_on_trying_once_the_circuit_is_open(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.get(f"{BASE}/things", status=500)
    with pytest.raises(RetryableError, match="asked again"):
        make(patience=Patience(attempts=10**6, total_seconds=10**6)).request("GET", "/things")
    assert sent(esp) == FAILURES


@pytest.mark.parametrize(
    "between",
    [{"json": {}}, problem("Invalid Resource", 400), problem("Gone", 410), {"status": 204}],
)
def test_an_answer_that_makes_sense_between_failures_keeps_the_circuit_closed(
    esp: responses.RequestsMock, make: Make, between: dict[str, Any]
) -> None:
    transport = make(patience=Patience(attempts=1))
    for path, answer in (("/bad", {"status": 500}), ("/good", between)):
        esp.post(f"{BASE}{path}", **answer)
    for number in range(2 * FAILURES):
        with suppress(RetryableError, RejectedBatchError):
            transport.request("POST", "/good" if number % FAILURES == FAILURES - 1 else "/bad", json={})
    assert sent(esp) == 2 * FAILURES


def test_being_told_to_slow_down_is_no_failure(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", status=429, headers={"Retry-After": "1"})
    transport = make(patience=Patience(total_seconds=0.5))
    for _ in range(FAILURES + 1):
        with pytest.raises(RetryableError, match=r"slow down|wait"):
            transport.request("GET", "/things")


def test_while_the_probe_is_out_nobody_else_goes_and_a_lost_probe_is_followed_by_another(
    hours: Hours,
) -> None:
    circuit = Circuit(hours.clock())
    assert [circuit.failed() for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    for _ in range(2):
        hours.seconds += REST
        assert [circuit.rest(), circuit.rest()] == [0, REST]
    circuit.succeeded()
    assert [circuit.rest(), circuit.rest()] == [0, 0]
