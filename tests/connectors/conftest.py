"""A transport for tests: on a clock that only moves when somebody sleeps, to an ESP that is told by hand."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import responses

from segue.connectors.limiter import Clock, Limiter
from segue.connectors.transport import Transport
from segue.connectors.verdicts import Dialect

BASE = "https://us19.esp.test/3.0"
KEY = "0123456789abcdef-us19"
ADDRESS = "jane.doe@shop.test"
HASH = "b58996c504c5638798eb6b511e6f49af"


class Hours:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.seconds += seconds

    def clock(self) -> Clock:
        return Clock(now=lambda: self.seconds, sleep=self.sleep)


@pytest.fixture
def hours() -> Hours:
    return Hours()


@pytest.fixture
def esp() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


Make = Callable[..., Transport]


@pytest.fixture
def make(hours: Hours) -> Iterator[Make]:
    made: list[Transport] = []

    def build(base: str = BASE, **options: Any) -> Transport:
        limits = options.pop("rate_limits", ())
        limiter = Limiter(options.pop("concurrency", 3), limits, clock=hours.clock())
        dialect = Dialect(label="Esp", errors=options.pop("errors", {}))
        transport = Transport(base, dialect=dialect, auth=("segue", KEY), limiter=limiter, **options)
        made.append(transport)
        return transport

    yield build
    for transport in made:
        transport.close()


def problem(title: str, status: int) -> dict[str, Any]:
    detail = f"{ADDRESS} is the trouble"
    return {
        "body": json.dumps({"title": title, "status": status, "detail": detail}),
        "content_type": "application/problem+json; charset=utf-8",
        "status": status,
    }


def sent(esp: responses.RequestsMock) -> int:
    return len(esp.calls)
