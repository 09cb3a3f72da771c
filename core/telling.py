"""The settings of who is told how a sync went: metrics for machines, alerts for people.

Their shape alone lives here; `sync.telemetry` does the telling.
"""

from typing import Annotated, Literal

from pydantic import StringConstraints

from .settings import Secret
from .yamlfile import Section


class MetricsConfig(Section):
    """Where the figures of the last runs are written for Prometheus."""

    textfile: Annotated[str, StringConstraints(pattern=r"\.prom$")] | None = None
    """A file that ends in .prom, in the folder that a node exporter's textfile collector reads; for runs by cron."""


class AlertConfig(Section):
    """Whom to tell when a destination begins to fail, and when it is well again: once each."""

    url: Secret
    """Where the message is posted: env:NAME or file:path, because whoever knows it can post there."""
    format: Literal["slack", "json"] = "slack"
    """`slack`: {"text": ...}, which other chats understand too; `json`: a document for machines."""
    destinations: tuple[str, ...] = ()
    """Which destinations; all when empty."""
