"""A log and a tracer of one test's own: both are settings of the whole process."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from segue.sync.telemetry import tracing


@pytest.fixture
def own_log() -> Iterator[None]:
    """Let a test configure logging, and put everything back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers, root.level = handlers, level
    logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]  # loggers remember who is enabled


@pytest.fixture
def own_tracing() -> Iterator[None]:
    """Let a test start tracing, and stop it."""
    yield
    tracing.stop()
