"""OpenTelemetry spans: the run, its phases, each batch, each request. Nothing is imported unless they are asked for.

Asked for means: the extra `otel` is installed and one of the standard environment variables names an endpoint. All
other settings are the SDK's own environment variables. Attributes are counts, ids and codes.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from time import time_ns
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

Attributes = Mapping[str, str | int | float | bool]

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class _Tracing:
    """What this process traces with; None is the usual case."""

    tracer: "Tracer | None" = None


def is_wanted() -> bool:
    """Whether the environment names an endpoint for spans and the extra is there to send them."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return any(os.environ.get(name) for name in _ENDPOINTS) and find_spec("opentelemetry.sdk") is not None


def start(processor: "SpanProcessor | None" = None) -> None:
    """Make spans from now on, and send them to the endpoint of the environment, or to `processor`.

    What is not sent yet when the process ends is sent then.
    """
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if processor is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        processor = BatchSpanProcessor(OTLPSpanExporter())
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "segue"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(processor)
    _Tracing.tracer = provider.get_tracer("segue")


def stop() -> None:
    """Make no more spans."""
    _Tracing.tracer = None


@contextmanager
def span(name: str, **attributes: str | float) -> Iterator[None]:
    """Hold a span while the block runs. An error ends it as failed, by the error's kind, without its message."""
    if _Tracing.tracer is None:
        yield
        return
    from opentelemetry.trace import StatusCode

    with _Tracing.tracer.start_as_current_span(
        f"segue.{name}",
        attributes={f"segue.{key}": value for key, value in attributes.items()},
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except BaseException as error:
            current.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def request_ended(method: str, status: int, seconds: float) -> None:
    """Add the span of a request that ended just now; `status` is 0 when no whole answer came."""
    if _Tracing.tracer is None:
        return
    from opentelemetry.trace import SpanKind, StatusCode

    now = time_ns()
    attributes: dict[str, str | int] = {"http.request.method": method}
    if status:
        attributes["http.response.status_code"] = status
    ended = _Tracing.tracer.start_span(
        method, kind=SpanKind.CLIENT, attributes=attributes, start_time=now - int(seconds * 1e9)
    )
    if not 200 <= status < 400:
        ended.set_status(StatusCode.ERROR)
    ended.end(now)
