"""The settings of an emulated account: changed by name while it runs, each value held against its type.

What there is to set is each ESP's own: subclass it with further fields, all of which have a default.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Self, get_type_hints

from ..core.errors import ConfigError, Problem


class Mode(StrEnum):
    """What the account does where no source settles what the ESP does."""

    ADVERSARIAL = "adversarial"  # the worst for the people in it
    PERMISSIVE = "permissive"  # refuses no raise of consent: the caller's own gate must hold alone


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """What all emulated accounts can be told. `latency` is in real seconds per request."""

    mode: Mode = Mode.ADVERSARIAL
    latency: float = 0.0

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Give these settings with some replaced. Raises ConfigError listing every unknown name and wrong value."""
        types, problems, good = get_type_hints(type(self)), [], {}
        for name, value in changes.items():
            if name not in types:
                close = difflib.get_close_matches(name, types, n=1)
                hint = f'Did you mean "{close[0]}"?' if close else f"There are: {', '.join(types)}."
                problems.append(
                    Problem(where="sandbox settings", message=f'no setting "{name}".', next_step=hint)
                )
                continue
            try:
                good[name] = _typed(types[name], value)
            except ValueError as error:
                problems.append(Problem(where="sandbox settings", message=f"{name}: {error}"))
        if problems:
            raise ConfigError.of(problems)
        return replace(self, **good)

    def as_json(self) -> dict[str, Any]:
        """Give the settings as JSON."""
        return asdict(self)

    @property
    def permissive(self) -> bool:
        """Whether every raise of consent succeeds."""
        return self.mode is Mode.PERMISSIVE


def _typed(wanted: type, value: Any) -> Any:
    if issubclass(wanted, StrEnum):
        if value not in list(wanted):
            raise ValueError(f"must be one of {', '.join(wanted)}, not {value!r}")
        return wanted(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        raise ValueError(f"must be {wanted.__name__}, not {value!r}")
    if isinstance(value, int | float) and value < 0:
        raise ValueError(f"must not be negative, not {value!r}")
    return value
