"""The accounts at local ESPs that run for all tests here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from .accounts import KEYS, running_pair


@pytest.fixture(scope="session")
def running_pairs() -> Iterator[Callable[[str], Sequence[Any]]]:
    """Give the two accounts of a pair, started when they are first asked for."""
    with ExitStack() as stack:
        started: dict[str, Sequence[Any]] = {}

        def of(pair: str) -> Sequence[Any]:
            if pair not in started:
                started[pair] = stack.enter_context(running_pair(pair))
            return started[pair]

        yield of


@pytest.fixture
def two_accounts(
    request: pytest.FixtureRequest,
    running_pairs: Callable[[str], Sequence[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Sequence[Any]:
    """Two accounts: of the local Mailchimp, or the pair that a test names."""
    accounts = running_pairs(getattr(request, "param", "mailchimp"))
    for name, sandbox in zip(KEYS, accounts, strict=True):
        monkeypatch.setenv(name, sandbox.key)
    return accounts
