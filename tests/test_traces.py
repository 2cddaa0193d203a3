"""A run's traces, received by a real server that decodes what OpenTelemetry and Langfuse are
sent."""

import asyncio
import gzip
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lab import cli, worker
from lab.instrumentation import traces
from lab.model import LabError
from lab.settings import config_of
from lab.store import queries
from lab.store.store import Store
from tests.measured import FAST, measure
from tests.recorded_runs import record


class Receiver:
    """An OTLP/HTTP endpoint on loopback; keeps each request as (path, headers, decoded message),
    and answers as it is told to."""

    def __init__(self):
        self.requests, self.status, self.on_request = [], 200, lambda: None
        self.answer, self.answers, self.kind = b"", {}, "application/x-protobuf"
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                body = (
                    gzip.decompress(body)
                    if self.headers.get("content-encoding") == "gzip"
                    else body
                )
                message = (
                    ExportMetricsServiceRequest()
                    if self.path.endswith("metrics")
                    else ExportTraceServiceRequest()
                )
                message.ParseFromString(body)
                receiver.on_request()
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, message))
                answer = receiver.answers.get(self.path, receiver.answer)
                self.send_response(receiver.status)
                self.send_header("content-type", receiver.kind)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args): ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        return [
            span
            for _, _, message in self.requests
            if isinstance(message, ExportTraceServiceRequest)
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def metrics(self):
        return {
            metric.name: metric
            for _, _, message in self.requests
            if isinstance(message, ExportMetricsServiceRequest)
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def attributes(span):
    found = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = (
            [one.string_value for one in value.values] if kind == "array_value" else value
        )
    return found


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No variable of the developer's own shell sends anything anywhere."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "LANGFUSE_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def team(simulated_server, tmp_path_factory):
    """Two blocks of a technique whose trials have calls within joins, measured once."""
    simulated_server.reset()
    simulated_server.knobs(**FAST)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setenv("LAB_DB", str(tmp_path_factory.mktemp("team") / "lab.duckdb"))
        asked = measure(
            simulated_server,
            "topology",
            runs=2,
            arms=["flat", "hierarchical"],
            scenario="reasoning",
        )
        return pool.submit(asyncio.run, asked).result()


def stamps(measured):
    """span id as it travels -> (start, end, parent), in µs of wall time, from the stored rows
    alone."""
    found = {}
    for trial in measured.trials.to_dict("records"):
        spans = measured.spans(trial["trial_id"]).to_dict("records")
        origin = next(row["started_ns"] for row in spans if row["kind"] == "trial")
        wall_us = round(trial["started_utc"].timestamp() * 1e6)
        for row in spans:
            parent = (
                ""
                if not isinstance(row["parent_id"], str)
                else row["parent_id"].replace("-", "")[16:]
            )
            times = [
                wall_us + (int(row[name]) - origin) // 1000 for name in ("started_ns", "ended_ns")
            ]
            found[row["span_id"].replace("-", "")[16:]] = (*times, parent)
    return found


def test_span_times_are_the_stored_stamps_to_the_microsecond(team, receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    sent = traces.send_run(team.store, team.run_id, "otlp")
    received = {
        span.span_id.hex(): (
            span.start_time_unix_nano // 1000,
            span.end_time_unix_nano // 1000,
            span.parent_span_id.hex(),
        )
        for span in receiver.spans()
    }
    assert received == stamps(team)
    assert sent.traces == 4 and sent.spans == len(received) and sent.refused == ()
    assert {span.trace_id.hex() for span in receiver.spans()} == {
        one.replace("-", "") for one in team.trials["trial_id"]
    }


def test_many_trials_go_in_one_request(team, receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    traces.send_run(team.store, team.run_id, "otlp")
    assert [path for path, _, _ in receiver.requests] == ["/v1/traces", "/v1/metrics"]


def test_calls_carry_the_genai_attributes_and_metrics(team, receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    traces.send_run(team.store, team.run_id, "otlp")
    calls = [attributes(span) for span in receiver.spans() if span.name.startswith("chat ")]
    assert len(calls) == len(team.calls)
    row = team.calls.iloc[0]
    sent = next(one for one in calls if one["gen_ai.response.id"] == row["message_id"])
    assert sent["gen_ai.operation.name"] == "chat" and sent["gen_ai.provider.name"] == "anthropic"
    assert sent["gen_ai.request.model"] == row["model"]
    assert (
        sent["gen_ai.usage.input_tokens"] == row["prompt_tokens"]
        and sent["gen_ai.usage.output_tokens"] == row["output_tokens"]
    )
    assert sent["gen_ai.response.time_to_first_chunk"] == pytest.approx(
        row["message_start_at_ms"] / 1e3
    )
    assert (sent["lab.arm"], sent["lab.block"], sent["lab.run_id"]) == (
        row["arm"],
        row["block"],
        team.run_id,
    )
    counted = {
        name: sum(point.count for point in metric.histogram.data_points)
        for name, metric in receiver.metrics().items()
    }
    n = len(team.calls)
    assert counted == {
        "gen_ai.client.operation.duration": n,
        "gen_ai.client.operation.time_to_first_chunk": int(
            team.calls["message_start_at_ms"].notna().sum()
        ),
        "gen_ai.client.operation.time_per_output_chunk": int(team.calls["gap_ms"].notna().sum()),
        "gen_ai.client.token.usage": 2 * n,
    }
    seconds = sum(
        point.sum
        for point in receiver.metrics()["gen_ai.client.operation.duration"].histogram.data_points
    )
    assert seconds == pytest.approx(team.calls["total_ms"].sum() / 1e3)


def test_the_semantic_conventions_have_these_names(team, receiver, monkeypatch):
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
    from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    traces.send_run(team.store, team.run_id, "otlp")
    known = {
        value
        for module in (gen_ai_attributes, gen_ai_metrics)
        for name, value in vars(module).items()
        if name.startswith("GEN_AI")
    }
    used = {name for span in receiver.spans() for name in attributes(span)} | set(
        receiver.metrics()
    )
    assert [name for name in used if name.startswith("gen_ai.") and name not in known] == []


async def test_a_prime_before_the_clock_belongs_to_its_trial(db, simulated, receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    simulated.knobs(**FAST)
    run = await measure(simulated, "caching", runs=1, arms=["uncached", "cached"])
    traces.send_run(run.store, run.run_id, "otlp")
    spans = receiver.spans()
    prime = next(span for span in spans if attributes(span).get("lab.role") == "prime")
    root = next(span for span in spans if span.span_id == prime.parent_span_id)
    assert root.name == "caching cached" and prime.start_time_unix_nano < root.start_time_unix_nano


async def test_a_failed_call_is_an_error(db, simulated, receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    simulated.knobs(**FAST)
    simulated.plays(headers=1, fault={"kind": "http", "status": 400}, done=2)
    run = await measure(simulated, "streaming", runs=1)
    traces.send_run(run.store, run.run_id, "otlp")
    failed = [span for span in receiver.spans() if span.status.code == 2]
    assert len(failed) == 2 and {attributes(span)["error.type"] for span in failed} == set(
        run.calls["error_kind"].dropna()
    )


async def test_langfuse_gets_generations_with_its_own_attribute_names(
    db, simulated, receiver, monkeypatch
):
    from langfuse._client.attributes import LangfuseOtelSpanAttributes as names
    from langfuse._client.attributes import create_generation_attributes

    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-test")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-test")
    monkeypatch.setenv("LANGFUSE_BASE_URL", receiver.url)
    simulated.knobs(**FAST)
    run = await measure(simulated, "streaming", runs=1)
    assert (
        traces.send_if_configured(run.store, run.run_id)
        == f"traces: sent 2 to Langfuse at {receiver.url.removeprefix('http://')}"
    )
    (path, headers, _), *rest = receiver.requests
    assert (
        path == "/api/public/otel/v1/traces"
        and headers["authorization"].startswith("Basic ")
        and rest == []
    )
    call = run.calls[run.calls["arm"] == "streamed"].iloc[0]
    span = next(
        span
        for span in receiver.spans()
        if attributes(span).get("gen_ai.response.id") == call["message_id"]
    )
    sent = attributes(span)
    first_us = span.start_time_unix_nano / 1000 + call["ttft_ms"] * 1000
    told = datetime.fromisoformat(json.loads(sent[names.OBSERVATION_COMPLETION_START_TIME]))
    assert told.timestamp() * 1e6 == pytest.approx(first_us, abs=2)
    usage = {
        "input": int(call["input_tokens"]),
        "output": int(call["output_tokens"]),
        "cache_read_input_tokens": int(call["cache_read_tokens"]),
        "cache_creation_input_tokens": int(call["cache_write_tokens"]),
    }
    assert json.loads(sent[names.OBSERVATION_USAGE_DETAILS]) == usage
    assert (
        sent[names.OBSERVATION_TYPE] == "generation"
        and sent[names.OBSERVATION_MODEL] == call["model"]
    )
    assert sent[names.TRACE_SESSION_ID] == run.run_id
    theirs = create_generation_attributes(
        name="x",
        completion_start_time=told.astimezone(UTC),
        model=call["model"],
        usage_details=usage,
        cost_details={"total": 0.5},
    )
    assert {name for name in theirs if name.startswith("langfuse.")} <= {
        *sent,
        names.OBSERVATION_COST_DETAILS,
    }
    assert (
        theirs[names.OBSERVATION_COMPLETION_START_TIME]
        == sent[names.OBSERVATION_COMPLETION_START_TIME]
    )
    assert theirs[names.OBSERVATION_USAGE_DETAILS] == sent[names.OBSERVATION_USAGE_DETAILS]


async def test_langfuse_gets_what_a_priced_call_cost(db, receiver, monkeypatch):
    from langfuse._client.attributes import LangfuseOtelSpanAttributes as names

    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-test")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-test")
    monkeypatch.setenv("LANGFUSE_BASE_URL", receiver.url)
    store = Store()
    record(store, blocks=1)
    run_id = queries.last_run_id(store)
    costs = sorted(queries.calls(store, run_id)["cost_usd"].dropna())
    traces.send_run(store, run_id, "langfuse")
    sent = [attributes(span).get(names.OBSERVATION_COST_DETAILS) for span in receiver.spans()]
    assert costs and sorted(json.loads(one)["total"] for one in sent if one) == costs


def test_langfuse_without_its_keys_sends_nothing_and_says_so(team, monkeypatch):
    assert traces.send_if_configured(team.store, team.run_id) is None
    with pytest.raises(LabError, match="LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY"):
        traces.send_run(team.store, team.run_id, "langfuse")
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-test")
    assert "needs both" in traces.send_if_configured(team.store, team.run_id)


async def test_nothing_is_sent_before_the_last_trial_is_stored(
    db, simulated, receiver, monkeypatch
):
    """Tracing on or off, the measuring is the same: every span is made from stored rows once they
    are all there."""
    store, stored = Store(), []
    receiver.on_request = lambda: stored.append(
        (store.frame("SELECT count(*) AS n FROM trials")["n"][0], told[-1]["kind"])
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(**FAST)
    told = []
    config = config_of(technique="streaming", endpoint=simulated.base_url, runs=1, warmup=1)
    done = await asyncio.to_thread(worker.measure, config, told.append)
    assert stored == [(4, "trial"), (4, "trial")]
    assert [entry["kind"] for entry in told[-2:]] == ["note", "ended"]
    assert (
        told[-2]["text"] == f"traces: sent 4 to OTLP at {receiver.url.removeprefix('http://')}"
        and done.status == "finished"
    )


async def test_a_receiver_that_refuses_is_a_note_and_no_failed_run(
    db, simulated, receiver, monkeypatch
):
    receiver.status = 401
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(**FAST)
    told = []
    config = config_of(technique="streaming", endpoint=simulated.base_url, runs=1, warmup=0)
    done = await asyncio.to_thread(worker.measure, config, told.append)
    notes = [
        entry["text"]
        for entry in told
        if entry["kind"] == "note" and "is busy" not in entry["text"]
    ]
    assert done.status == "finished" and len(notes) == 1
    assert "HTTP 401" in notes[0] and f"python main.py trace {done.run_id}" in notes[0]


def test_the_command_sends_writes_and_refuses(team, receiver, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LAB_DB", str(team.store.path))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    file = tmp_path / "traces.jsonl"
    assert cli.main(["trace", team.run_id, "--to", "otlp,file", "--out", str(file)]) == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == len(receiver.spans()) and capsys.readouterr().out.startswith(
        "traces: sent 4 to OTLP at 127.0.0.1"
    )
    receiver.status = 403
    assert cli.main(["trace", team.run_id]) == 1
    assert "HTTP 403" in capsys.readouterr().err
    assert cli.main(["trace", team.run_id, "--to", "carrier-pigeon"]) == 2


def test_sampling_and_disabling_are_obeyed(team, receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert traces.send_run(team.store, team.run_id, "otlp").traces == 0 and receiver.requests == []
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert traces.send_if_configured(team.store, team.run_id) is None


async def test_the_clients_own_spans_are_off(db, simulated, monkeypatch):
    """They would double every call, and be made while the clock runs."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, kept = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    simulated.knobs(**FAST)
    run = await measure(simulated, "streaming", runs=1)
    assert len(run.calls) == 2 and kept.get_finished_spans() == ()
