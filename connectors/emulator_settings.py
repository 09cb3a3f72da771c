"""What the settings of every emulator share: the two modes, and how settings are changed by name.

An ESP's own settings stand in its own folder, in a subclass.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Self, get_type_hints

from ..core.errors import ConfigError, Problem


class Mode(StrEnum):
    """What an account does where no source settles what its ESP does."""

    ADVERSARIAL = "adversarial"  # the worst for people and for us
    PERMISSIVE = "permissive"  # refuses no raise of consent: the caller's own gate must hold alone


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """What a sandbox account is like. `latency` is in real seconds per request."""

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
