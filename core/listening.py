"""The settings of what `segue serve` listens on, and of how an ESP proves that it is the one who speaks.

Their shape alone lives here; `sync.web` does the listening.
"""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from .settings import Duration, Secret, Text
from .yamlfile import Section


class ServeConfig(Section):
    """Where `segue serve` listens, and under which address the world reaches it."""

    host: Text = "127.0.0.1"
    """The address of this machine that is listened on; a proxy with TLS stands before it."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8020
    """The port; 0 is any free one."""
    public_url: Annotated[str, StringConstraints(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")] | None = None
    """What ESPs reach it by, such as https://hooks.shop.example; `segue webhooks install` needs it."""
    poll_every: Duration = timedelta(minutes=15)
    """How often `segue serve` asks every destination who left, for what no webhook told."""


class WebhooksConfig(Section):
    """How the messages of one destination come in."""

    token: Secret
    """The part of the path that nobody guesses: env:NAME or file:path, 32 characters or more."""
    secrets: tuple[Secret, ...] = ()
    """What the ESP signs with, several while one replaces another; without any, the path alone is the proof."""
