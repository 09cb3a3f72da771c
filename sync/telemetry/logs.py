"""Where log lines go and what they look like: JSON or text on stderr, one line an event, or nothing.

Only the form is decided here. Events carry counts and ids; `redaction.WALL` is passed last, by our own events and by
those of libraries alike.
"""

import logging
import sys
from collections.abc import MutableMapping
from enum import StrEnum
from types import TracebackType
from typing import Any, Final

from .redaction import WALL

_Event = MutableMapping[str, Any]
_NEVER: Final = logging.CRITICAL + 10


class LogFormat(StrEnum):
    """How a log line is written."""

    NONE = "none"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure(form: LogFormat, level: LogLevel) -> None:
    """Send this process's log lines to stderr, those of libraries too; with `none` no line at all is written."""
    import structlog  # a tenth of a second, which `segue --help` does not have

    least = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    if form is LogFormat.NONE:
        _be_quiet()
        # Otherwise the standard library prints warnings.
        root.handlers, root.level = [logging.NullHandler()], _NEVER
        return
    stamped: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _without_traceback,
        _walled,
    ]
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    if form is LogFormat.CONSOLE:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time")
    structlog.configure(
        processors=[*stamped, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *stamped, renderer],
        )
    )
    root.handlers = [handler]
    root.setLevel(least)


def quiet_unless_configured() -> None:
    """Let a program that uses Segue as a library decide about its log; as it comes, structlog prints to stdout."""
    import structlog

    if not structlog.is_configured():
        _be_quiet()


def _be_quiet() -> None:
    import structlog

    structlog.configure(
        processors=[_dropped], wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )


def _dropped(_logger: Any, _method: str, _event: _Event) -> _Event:
    from structlog import DropEvent

    raise DropEvent


def _walled(_logger: Any, _method: str, event: _Event) -> _Event:
    """Put what every line has in front, and let nothing personal pass."""
    ordered = {name: event.pop(name) for name in ("time", "level", "event") if name in event}
    shown: _Event = WALL.value({**ordered, **event})
    return shown


def _without_traceback(_logger: Any, _method: str, event: _Event) -> _Event:
    """Say where an error came from, without its message, which may quote somebody's data."""
    error = event.pop("exc_info", None)
    event.pop("exc_text", None)
    event.pop("stack_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error and not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["where"] = _frames(error.__traceback__)
    return event


def _frames(frame: TracebackType | None) -> list[str]:
    places = []
    while frame is not None:
        code = frame.tb_frame.f_code
        places.append(f"{'/'.join(code.co_filename.split('/')[-3:])}:{frame.tb_lineno} {code.co_name}")
        frame = frame.tb_next
    return places
