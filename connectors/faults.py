"""Planned misfortune for emulators: which requests go wrong, how, and how often.

Nothing here knows HTTP details or an ESP; `emulation` carries a drawn fault out. Draws come from one seeded generator
in order of arrival, so a single-threaded run repeats exactly.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class FaultKind(StrEnum):
    """How a request goes wrong. The worst ones happen, and do not say so."""

    THROTTLED = "throttled"  # the ESP's own way of saying "too many requests"
    ERROR = "error"  # 500
    UNAVAILABLE = "unavailable"  # 503
    RESET = "reset"  # the connection breaks before anything happened
    LOST_ANSWER = "lost_answer"  # it happened, then the connection breaks
    TRUNCATED = "truncated"  # it happened, half of the JSON arrives
    GATEWAY = "gateway"  # it happened, a proxy answers 502 with HTML
    CHALLENGED = "challenged"  # nothing happened, a network's guard against robots answers 403 with HTML
    SLOW = "slow"  # it happened, the answer waits for `seconds`


_HAPPENS = frozenset({FaultKind.LOST_ANSWER, FaultKind.TRUNCATED, FaultKind.GATEWAY, FaultKind.SLOW})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule: of the requests it matches, let `skip` pass, then hit `count` of them (None: all that come).

    `method` and `path` (a regular expression, searched) narrow what it matches. `seconds` is for SLOW alone.
    `happens` says whether the request takes effect; None means as its kind says.
    """

    kind: FaultKind
    probability: float = 1.0
    count: int | None = None
    skip: int = 0
    method: str | None = None
    path: str | None = None
    seconds: float = 0.0
    happens: bool | None = None

    @property
    def takes_effect(self) -> bool:
        """Whether the request changes the emulator's state before it goes wrong."""
        return self.kind in _HAPPENS if self.happens is None else self.happens

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "Fault":
        """Read a fault from JSON. Raises ValueError with a sentence."""
        unknown = sorted(set(raw) - {each.name for each in fields(cls)})
        if unknown:
            raise ValueError(f"a fault has no {', '.join(unknown)}")
        try:
            kind = FaultKind(raw.get("kind", ""))
        except ValueError:
            raise ValueError(f"kind must be one of {', '.join(FaultKind)}") from None
        fault = cls(**{**raw, "kind": kind})
        if not 0 <= fault.probability <= 1:
            raise ValueError("probability must lie between 0 and 1")
        re.compile(fault.path or "")
        return fault

    def matches(self, method: str, path: str) -> bool:
        """Whether this rule is about such a request."""
        return (self.method is None or self.method == method) and (
            self.path is None or re.search(self.path, path) is not None
        )


class Faults:
    """The rules in force. For each request the first rule that fires wins."""

    def __init__(self) -> None:
        self.arm(())

    def arm(self, faults: Sequence[Fault], *, seed: int = 0) -> None:
        """Replace all rules and start the random sequence again; an empty list disarms."""
        self._rules = [_Rule(fault) for fault in faults]
        self._random = random.Random(seed)  # noqa: S311 - repeatable misfortune, not a secret

    def draw(self, method: str, path: str) -> Fault | None:
        """Give the fault that hits this request, if one does."""
        for rule in self._rules:
            if rule.fires(method, path, self._random):
                return rule.fault
        return None

    def describe(self) -> list[dict[str, Any]]:
        """Give the rules as JSON, each with how often it has fired."""
        return [{**asdict(rule.fault), "fired": rule.fired} for rule in self._rules]


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.fired = 0
        self._passed = 0

    def fires(self, method: str, path: str, dice: random.Random) -> bool:
        fault = self.fault
        if (fault.count is not None and self.fired >= fault.count) or not fault.matches(method, path):
            return False
        if self._passed < fault.skip:
            self._passed += 1
            return False
        if dice.random() >= fault.probability:
            return False
        self.fired += 1
        return True
