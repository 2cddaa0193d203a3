"""Where OTLP goes, by which protocol, and what became of it there: real receivers on loopback."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from lab import cli
from lab.instrumentation import otlp, traces
from lab.model import LabError
from lab.store.store import Store
from tests.recorded_runs import record
from tests.test_traces import receiver  # noqa: F401

GRPC_MODULE = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No variable of the developer's own shell sends anything anywhere."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "LANGFUSE_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two blocks of two arms: four trials, each a root span and a call."""
    store = Store(tmp_path_factory.mktemp("recorded") / "lab.duckdb")
    return store, record(store, blocks=2)


def partial(rejected, words):
    made = ExportTraceServiceResponse()
    made.partial_success.rejected_spans, made.partial_success.error_message = rejected, words
    return made.SerializeToString()


def test_an_endpoint_without_a_scheme_works_on_this_machine(recorded, receiver, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url.removeprefix("http://"))
    sent = traces.send_run(*recorded, "otlp")
    assert (sent.traces, sent.spans, sent.refused) == (4, 8, ())
    assert [path for path, _, _ in receiver.requests] == ["/v1/traces", "/v1/metrics"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("collector.example:4318", "write http:// or https:// before collector.example:4318"),
        ("ftp://collector.example", "not the address"),
        ("http://", "not the address"),
        ("http://127.0.0.1:99999", "not the address"),
        ("http://[::1", "not the address"),
    ],
)
def test_an_endpoint_that_is_none_is_named(recorded, monkeypatch, capsys, url, words):
    store, run_id = recorded
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
    monkeypatch.setenv("LAB_DB", str(store.path))
    assert cli.main(["trace", run_id]) == 2
    told = capsys.readouterr().err
    assert (
        words in told
        and "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in told
        and len(told.splitlines()) == 1
    )
    assert traces.send_if_configured(store, run_id).startswith("traces: not sent. OTEL_EXPORTER")


def test_metrics_go_to_no_place_that_only_traces_were_sent_to(recorded, receiver, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/traces-only")
    assert traces.send_run(*recorded, "otlp").refused == ()
    assert [path for path, _, _ in receiver.requests] == ["/traces-only"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{receiver.url}/metrics")
    traces.send_run(*recorded, "otlp")
    assert [path for path, _, _ in receiver.requests[1:]] == ["/traces-only", "/metrics"]


@pytest.mark.parametrize("kind", ["application/x-protobuf", "application/json"])
def test_spans_that_were_left_out_are_counted(recorded, receiver, monkeypatch, capsys, kind):  # noqa: F811
    store, run_id = recorded
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("LAB_DB", str(store.path))
    receiver.kind = kind
    receiver.answer = partial(3, "too\nold")
    if kind == "application/json":
        receiver.answer = b'{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too old"}}'
    assert cli.main(["trace", run_id]) == 1
    told = capsys.readouterr().err
    assert told.startswith("5 of 8 spans were taken by OTLP at 127.0.0.1")
    assert told.endswith("the receiver said: too old\n")


def test_a_receiver_that_takes_all_may_still_say_something(recorded, receiver, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    receiver.answer = partial(0, "use \x1b[31mgzip")
    sent = traces.send_run(*recorded, "otlp")
    assert sent.refused == () and sent.text.endswith(" (the receiver said: use ␛[31mgzip)")


def test_points_of_metrics_that_were_left_out_are_counted(recorded, receiver, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    left_out = ExportMetricsServiceResponse()
    left_out.partial_success.rejected_data_points = 2
    receiver.answers = {"/v1/metrics": left_out.SerializeToString()}
    sent = traces.send_run(*recorded, "otlp")
    assert len(sent.destinations) == 1
    assert [line.partition(" left out ")[2] for line in sent.refused] == [
        "2 points of the metrics; the receiver said: nothing"
    ]


@pytest.mark.parametrize(
    ("status", "kind"), [(302, "text/plain"), (200, "text/html; charset=utf-8")]
)
def test_a_page_is_no_receiver(recorded, receiver, monkeypatch, status, kind):  # noqa: F811
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.url)
    receiver.status, receiver.kind, receiver.answer = status, kind, b"<html>Sign in</html>"
    sent = traces.send_run(*recorded, "otlp")
    assert sent.destinations == () and f"HTTP {status}" in sent.refused[0]


@pytest.mark.parametrize(
    "variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]
)
def test_a_protocol_that_is_not_here_is_a_clear_no(recorded, monkeypatch, variable):
    monkeypatch.setenv(variable, "grpc")
    monkeypatch.setitem(sys.modules, GRPC_MODULE, None)
    wanted = (
        f"{variable}=grpc needs `pip install opentelemetry-exporter-otlp-proto-grpc`; or set"
        f" {variable}=http/protobuf."
    )
    with pytest.raises(LabError) as refusal:
        traces.send_run(*recorded, "otlp")
    assert str(refusal.value) == wanted
    assert traces.send_if_configured(*recorded) is None  # no place is named, so none was asked for
    monkeypatch.setenv(variable, "http/json")
    with pytest.raises(LabError, match="it speaks http/protobuf and grpc"):
        traces.send_run(*recorded, "otlp")


@pytest.fixture
def grpc_receiver():
    """An OTLP/gRPC endpoint on loopback, where the exporter is installed."""
    pytest.importorskip(GRPC_MODULE)
    import grpc
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_service
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_service

    class Received(trace_service.TraceServiceServicer, metrics_service.MetricsServiceServicer):
        def __init__(self):
            self.kinds, self.answer, self.refusal = [], b"", None

        def Export(self, request, context):
            self.kinds.append(type(request).__name__)
            if self.refusal:
                context.abort(*self.refusal)
            is_trace = "Trace" in self.kinds[-1]
            made = ExportTraceServiceResponse() if is_trace else ExportMetricsServiceResponse()
            made.ParseFromString(self.answer if is_trace else b"")
            return made

    server, received = grpc.server(ThreadPoolExecutor(2)), Received()
    trace_service.add_TraceServiceServicer_to_server(received, server)
    metrics_service.add_MetricsServiceServicer_to_server(received, server)
    received.host = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield received
    server.stop(0).wait()


def test_grpc_takes_traces_and_metrics_where_its_exporter_is_installed(
    recorded, grpc_receiver, monkeypatch
):
    import grpc

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    for url in (f"http://{grpc_receiver.host}", grpc_receiver.host):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        sent = traces.send_run(*recorded, "otlp")
        assert (sent.destinations, sent.refused) == ((f"OTLP at {grpc_receiver.host}",), ())
    assert grpc_receiver.kinds == ["ExportTraceServiceRequest", "ExportMetricsServiceRequest"] * 2
    grpc_receiver.answer = partial(3, "too old")
    words = f"5 of 8 spans were taken by OTLP at {grpc_receiver.host}; the receiver said: too old"
    assert traces.send_run(*recorded, "otlp").refused == (words,)
    grpc_receiver.refusal = (grpc.StatusCode.UNAUTHENTICATED, "no token")
    (refused,) = traces.send_run(*recorded, "otlp").refused
    assert "(UNAUTHENTICATED: no token)" in refused


def test_a_place_is_told_by_host_and_port_alone():
    assert otlp.host("https://key@collector.example:4318/path?token=1") == "collector.example:4318"
    assert otlp.host("collector.example:4317") == "collector.example:4317"
