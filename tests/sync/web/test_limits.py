from starlette.requests import Request

from segue.sync.web import limits
from segue.sync.web.limits import Allowance, peer_of


class Ticks:
    """A clock in seconds that moves only when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def request_from(host: str) -> Request:
    return Request({"type": "http", "client": (host, 1), "headers": []})


def test_so_many_at_once_and_then_so_many_a_second() -> None:
    ticks = Ticks()
    allowance = Allowance(rate=2, burst=3, now=ticks)
    assert [allowance.take("a") for _ in range(3)] == [0.0] * 3
    assert allowance.take("a") == 0.5
    assert allowance.take("b") == 0.0
    ticks.now += 0.5
    assert allowance.take("a") == 0.0
    ticks.now += 1_000
    assert [allowance.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_no_number_of_peers_fills_the_memory() -> None:
    allowance = Allowance(rate=1, burst=1, now=Ticks())
    for number in range(limits._KEPT + 500):
        allowance.take(str(number))
    assert len(allowance._buckets) == limits._KEPT


def test_a_network_of_ipv6_is_one_peer() -> None:
    assert peer_of(request_from("2001:db8::1")) == peer_of(request_from("2001:db8::ffff"))
    assert peer_of(request_from("2001:db8::1")) != peer_of(request_from("2001:db8:1::1"))
    assert peer_of(request_from("192.0.2.1")) == "192.0.2.1"
    assert peer_of(request_from("nonsense")) == "unknown"
