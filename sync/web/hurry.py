"""The one thing that uvicorn leaves to a proxy: a connection on which no request arrives is closed after a while.

Bodies have a limit of their own, in `receiver`; here it is the time until a request's headers are there, the first ones
of a connection and each later ones. Without it a few hundred silent connections would be all that a server can hold.
"""

import asyncio
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS: Final = 10.0
"""How long a request's headers may take."""


class HurriedProtocol(H11Protocol):
    """HTTP/1.1 whose peers must say what they want."""

    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._hurry()

    def data_received(self, data: bytes) -> None:
        """Take data; the time ends when the headers are whole, and begins again with what comes after.

        A body that goes on coming when its request was answered is nothing that we wait for.
        """
        super().data_received(data)
        if self.conn.their_state is h11.IDLE or self._is_answered():
            self._hurry()
        elif self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def _hurry(self) -> None:
        if self._cut is None:
            self._cut = self.loop.call_later(SECONDS, self._close)

    def _close(self) -> None:
        self._cut = None
        if self.cycle is None or self._is_answered():
            self.transport.close()

    def _is_answered(self) -> bool:
        answering: Any = self.cycle
        return answering is not None and bool(answering.response_complete)
