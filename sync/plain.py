"""Any value of ours in the shapes that JSON has: for `--json` and for the API, which so say the same.

Nothing here chooses what is said.
"""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any


def _nested(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): plain(below) for key, below in value.items()}
    return [plain(below) for below in value]


# The first row that fits decides: an Enum may be a str, a datetime is a date, and bool is an int.
_PLAIN: tuple[tuple[type | types.UnionType, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (float, lambda value: value if math.isfinite(value) else None),
    (str | int | None, lambda value: value),
    (datetime, lambda value: value.isoformat().replace("+00:00", "Z")),
    (date, lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    (bytes, lambda value: value.hex()),
    (Mapping | Sequence | set | frozenset, _nested),
)


def plain(value: Any) -> Any:
    """Bring a value into the shapes that JSON has. Times are ISO 8601, money is a text that keeps its digits."""
    for kind, shape in _PLAIN:
        if isinstance(value, kind):
            return shape(value)
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return str(value)
