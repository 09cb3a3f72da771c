"""The last wall before anything is shown: no address, no hash of one and no secret of the project passes it.

It knows nothing of what it guards. Code above it shows counts and ids to begin with; this catches what a library, an
ESP's message or a mistake of ours put into a text all the same, and rather hides too much.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final
from urllib.parse import quote, quote_plus

HIDDEN: Final = "…"

# An at sign, also percent-encoded, even twice, or escaped for HTML or JSON; and what may stand on either side of it.
_AT: Final = re.compile(r"@|%(?:25)*40|&#(?:64|x40);|&commat;|\\u0040|\uff20|\ufe6b", re.IGNORECASE)
_SIDE: Final = re.compile(r'[^\s"<>,;()]*')
_SIDE_BACKWARDS: Final = re.compile(r'(?:"[^"\n]*")?[^\s"<>,;()]*')
_HASH: Final = re.compile(r"[0-9a-fA-F]{32,}")
# A shorter secret would hide half of every line, and is none.
_SHORTEST: Final = 6


class Redactor:
    """Replaces what must not be shown in any JSON-like value. It learns secrets and never forgets one."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._known: re.Pattern[str] | None = None

    def learn(self, secrets: Iterable[str]) -> None:
        """Hide these texts from now on, also where they are percent-encoded. Ones below six characters stay visible."""
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                self._secrets |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
        longest_first = sorted(self._secrets, key=lambda secret: (-len(secret), secret))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        """Give the text with everything replaced that must not be shown.

        >>> Redactor().text("PATCH /members/0cc175b9c0f1b6a831c399e269772661 of Ann@shop.example failed")
        'PATCH /members/… of … failed'
        """
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _HASH.sub(HIDDEN, _without_addresses(text))

    def value(self, value: Any) -> Any:
        """Give a value with every text in it replaced, in the shapes that JSON has."""
        match value:
            case Mapping():
                return {self.text(str(key)): self.value(below) for key, below in value.items()}
            case bytes() | bytearray():
                return self.text(bytes(value).decode("utf-8", "replace"))
            case Sequence() | AbstractSet() if not isinstance(value, str):
                return [self.value(below) for below in value]
            case _:
                shown = self.text(str(value))
                same = shown == str(value) and isinstance(value, int | float | None)
                return value if same else shown


def _without_addresses(text: str) -> str:
    """Hide what stands around each at sign, in a time that grows with the text and no faster."""
    shown, done = [], 0
    for at in _AT.finditer(text):
        if at.start() < done:
            continue
        before = text[done : at.start()]
        local = _SIDE_BACKWARDS.match(before[::-1])
        domain = _SIDE.match(text, at.end())
        assert local is not None and domain is not None  # noqa: S101, PT018  (both match nothing, too)
        shown += [before[: len(before) - local.end()], HIDDEN]
        done = domain.end()
    return "".join((*shown, text[done:]))


WALL: Final = Redactor()
"""The wall of this process: a secret that one part learns is hidden in what every part shows."""
