"""A run is one trace of run, phases, batches and requests, and nobody pays for it who did not ask."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from segue.connectors.faults import Fault, FaultKind
from segue.core.errors import SegueError
from segue.sync.telemetry import tracing

from ...shop import Shop

pytestmark = pytest.mark.usefixtures("own_tracing")
on_sqlite = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    made = InMemorySpanExporter()
    tracing.start(SimpleSpanProcessor(made))
    return made


def parents(spans: tuple[ReadableSpan, ...]) -> set[tuple[str, str | None]]:
    """Give (name, name of its parent) of every span."""
    names = {span.context.span_id: span.name for span in spans if span.context is not None}
    return {(span.name, names[span.parent.span_id] if span.parent else None) for span in spans}


@on_sqlite
def test_a_run_is_one_trace_from_the_run_down_to_each_request(
    shop: Shop, exporter: InMemorySpanExporter
) -> None:
    shop.stock(3)
    report = shop.run()
    spans = exporter.get_finished_spans()
    assert {
        ("segue.run", None),
        ("segue.plan", "segue.run"),
        ("segue.pull", "segue.plan"),
        ("segue.apply", "segue.run"),
        ("segue.batch", "segue.apply"),
        ("GET", "segue.pull"),
        ("POST", "segue.batch"),
    } <= parents(spans)
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    (run,) = [span for span in spans if span.name == "segue.run"]
    assert dict(run.attributes or {}) == {
        "segue.kind": "run",
        "segue.run_id": report.run_id,
        "segue.destination": "newsletter",
    }
    (batch,) = [span for span in spans if span.name == "segue.batch"]
    assert dict(batch.attributes or {}) == {"segue.operation": "create", "segue.changes": 3}


@on_sqlite
def test_every_request_has_a_span_with_its_status_and_nothing_of_its_address(
    shop: Shop, exporter: InMemorySpanExporter
) -> None:
    shop.stock(2)
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE, count=1, method="GET")])
    report = shop.run()
    requests = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
    assert len(requests) == report.traffic.requests
    assert {str(key) for span in requests for key in span.attributes or {}} == {
        "http.request.method",
        "http.response.status_code",
    }
    failed = [span for span in requests if span.status.status_code is StatusCode.ERROR]
    assert [dict(span.attributes or {})["http.response.status_code"] for span in failed] == [503]
    assert all(span.start_time and span.end_time and span.start_time <= span.end_time for span in requests)


@on_sqlite
def test_a_run_that_fails_is_a_failed_span_without_the_errors_words(
    shop: Shop, exporter: InMemorySpanExporter
) -> None:
    shop.stock(1)
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.ERROR, count=100)])
    with pytest.raises(SegueError) as caught:
        shop.run()
    (run,) = [span for span in exporter.get_finished_spans() if span.name == "segue.run"]
    assert run.status.status_code is StatusCode.ERROR
    assert run.status.description == type(caught.value).__name__
    assert run.events == ()


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_spans_are_made_only_where_an_endpoint_is_named(
    environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_wanted() is wanted


@on_sqlite
def test_without_an_endpoint_nothing_of_it_is_imported(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    script = (
        "import sys; from segue.sync.cli import main; "
        f"assert main(['run', '--no-build', '--project', {str(shop.folder)!r}]) == 0; "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
