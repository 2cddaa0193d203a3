"""A stored run as OpenTelemetry traces and metrics, and as Langfuse generations.

They are made from the stamps after the run, so tracing cannot change a number. Trace and span ids are the lab's own UUIDs, so a run
that is sent twice is the same traces again. Attributes and metrics follow the GenAI
semantic conventions (status Development); what they do not name is under `lab.`.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lab import __version__
from lab.model import LabError
from lab.store import queries
from lab.store.store import Store

log = logging.getLogger(__name__)
GOOD_OUTCOMES = ("ok", "mismatch")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sent(NamedTuple):
    """How many traces and spans went to which destinations."""

    traces: int
    spans: int
    destinations: tuple[str, ...]


@dataclass
class Destination:
    """Somewhere that spans, and where it takes them metrics, go."""

    name: str
    spans: Any
    metrics: Any = None
    kept: list[Any] = field(default_factory=list)


def destinations(to: str | None = None, file: Path | None = None) -> list[Destination]:
    """What the OTEL_* variables and LANGFUSE_* keys ask for, or what `to` names: otlp, console, file, langfuse, in a comma list.

    Raises LabError for an unknown name, a file that is not given, or Langfuse without its keys.
    """
    named = [one.strip() for one in to.split(",")] if to else _configured()
    makers = {"otlp": _otlp, "console": _console, "file": lambda: _file(file), "langfuse": _langfuse}
    if unknown := sorted(set(named) - set(makers)):
        raise LabError(f"Traces cannot go to {', '.join(unknown)}. Choose among otlp, console, file and langfuse.")
    return [makers[one]() for one in named]


def send(store: Store, run_id: str, to: Iterable[Destination]) -> Sent:
    """Send every trial of a stored run as one trace: trial, then its spans and calls. Raises LabError if a destination refuses."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult

    places = list(to)
    run = queries.run(store, run_id)
    ids = _Ids()
    provider = TracerProvider(resource=_resource(run), id_generator=ids, shutdown_on_exit=False)
    tracer = provider.get_tracer("llm-latency-lab", __version__)
    trials, calls = queries.trials(store, run_id), queries.calls(store, run_id)
    by_trial = dict(iter(calls.groupby("trial_id")))
    total = 0
    for trial in trials.to_dict("records"):
        rows = queries.spans(store, trial["trial_id"])
        spans = list(_trace(tracer, ids, run, trial, rows, by_trial.get(trial["trial_id"], calls.iloc[:0])))
        total += len(spans)
        for place in places:
            if spans and place.spans.export(spans) is not SpanExportResult.SUCCESS:
                raise LabError(
                    f"{place.name} did not take the traces of run {run_id}. The rows are kept: see that it is up, then send them again."
                )
    for place in places:
        if place.metrics is not None:
            _measure(place, run, calls)
        place.spans.shutdown()
    return Sent(len(trials), total, tuple(place.name for place in places))


def send_if_configured(store: Store, run_id: str) -> Sent | None:
    """What a worker does at a run's end: nothing where no variable asks for traces; a refusal is a line in the log, never a failed run."""
    if not (places := destinations()):
        log.debug("No OTEL_EXPORTER_OTLP_ENDPOINT and no LANGFUSE keys: traces are not sent.")
        return None
    try:
        return send(store, run_id, places)
    except LabError as problem:
        log.warning("%s", problem)
        return None


def _configured() -> list[str]:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    named = [one.strip() for one in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",") if one.strip() in ("otlp", "console")]
    if not named and (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        named = [] if os.environ.get("OTEL_TRACES_EXPORTER") == "none" else ["otlp"]
    has_keys = os.environ.get("LANGFUSE_PUBLIC_KEY") and os.environ.get("LANGFUSE_SECRET_KEY")
    return [*named, "langfuse"] if has_keys else named


def _otlp() -> Destination:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    metrics = None if os.environ.get("OTEL_METRICS_EXPORTER") == "none" else OTLPMetricExporter()
    return Destination("OTLP", OTLPSpanExporter(), metrics)


def _console() -> Destination:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return Destination("console", ConsoleSpanExporter())


def _file(path: Path | None) -> Destination:
    if path is None:
        raise LabError("Traces to a file need its name: --out traces.jsonl.")
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("w", encoding="utf-8")
    exporter = ConsoleSpanExporter(out=stream, formatter=lambda span: span.to_json(indent=None) + "\n")
    exporter.shutdown = stream.close
    return Destination(str(path), exporter)


def _langfuse() -> Destination:
    public, secret = os.environ.get("LANGFUSE_PUBLIC_KEY"), os.environ.get("LANGFUSE_SECRET_KEY")
    if not (public and secret):
        raise LabError("Langfuse needs LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY in the environment.")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = (os.environ.get("LANGFUSE_BASE_URL") or os.environ.get("LANGFUSE_HOST") or "https://cloud.langfuse.com").rstrip("/")
    token = base64.b64encode(f"{public}:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "x-langfuse-ingestion-version": "4"}
    return Destination("Langfuse", OTLPSpanExporter(endpoint=f"{base}/api/public/otel/v1/traces", headers=headers))


class _Ids:
    """Hands OpenTelemetry the ids that the rows have: a trace id is the trial's UUID, a span id the random half of the span's."""

    def __init__(self) -> None:
        self.trace = self.span = 0

    def of(self, trial_id: str, span_id: str) -> None:
        self.trace, self.span = uuid.UUID(trial_id).int, uuid.UUID(span_id).int & (2**64 - 1)

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span

    def is_trace_id_random(self) -> bool:
        return False


def _resource(run: dict[str, Any]) -> Any:
    from opentelemetry.sdk.resources import Resource

    name = os.environ.get("OTEL_SERVICE_NAME", "llm-latency-lab")
    return Resource.create({"service.name": name, "service.version": __version__, "lab.run_id": run["run_id"]})


def _trace(tracer: Any, ids: _Ids, run: dict[str, Any], trial: dict[str, Any], spans: pd.DataFrame, calls: pd.DataFrame) -> Iterator[Any]:
    """The SDK's finished spans of one trial, parents first."""
    from opentelemetry.trace import SpanKind, set_span_in_context
    from opentelemetry.trace.status import Status, StatusCode

    roots = spans[spans["parent_id"].isna()]
    if roots.empty:
        return
    origin_ns = int(roots.iloc[0]["started_ns"])
    wall_ns = (trial["started_utc"].to_pydatetime().astimezone(UTC) - EPOCH) // timedelta(microseconds=1) * 1000
    call_of = {row["span_id"]: row for row in calls.to_dict("records")} if "span_id" in calls else {}
    made: dict[str, Any] = {}
    for row in spans.sort_values(["started_ns", "ended_ns"], ascending=[True, False]).to_dict("records"):
        call = call_of.get(row["span_id"])
        begin = wall_ns + int(row["started_ns"]) - origin_ns
        end = begin if pd.isna(row["ended_ns"]) else wall_ns + int(row["ended_ns"]) - origin_ns
        attributes = (
            _call_attributes(run, call, begin)
            if call
            else _trial_attributes(run, trial)
            if pd.isna(row["parent_id"])
            else {"lab.kind": row["kind"]}
        )
        name = f"chat {call['model']}" if call else f"{trial['technique']} {trial['arm']}" if pd.isna(row["parent_id"]) else row["name"]
        ids.of(trial["trial_id"], row["span_id"])
        parent = made.get(row["parent_id"])
        context = set_span_in_context(parent) if parent is not None else None
        span = tracer.start_span(name, context, SpanKind.CLIENT if call else SpanKind.INTERNAL, attributes, start_time=begin)
        failed = (
            call["error_kind"]
            if call
            else None
            if trial["outcome"] in GOOD_OUTCOMES or parent is not None
            else trial["error_kind"] or trial["outcome"]
        )
        if failed and not pd.isna(failed):
            span.set_attribute("error.type", failed)
            span.set_status(Status(StatusCode.ERROR, failed))
        span.end(end)
        made[row["span_id"]] = span
        yield span


def _trial_attributes(run: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    kept = ("technique", "arm", "block", "phase", "task_id", "outcome", "wait_ms", "ttft_ms", "total_ms", "quality", "cost_usd")
    return _present(
        {f"lab.{name}": trial[name] for name in kept}
        | {
            "lab.run_id": run["run_id"],
            "lab.endpoint": run["endpoint"],
            "lab.endpoint_kind": run["endpoint_kind"],
            "session.id": run["run_id"],
            "langfuse.trace.name": f"{trial['technique']} {trial['arm']}",
        }
    )


def _call_attributes(run: dict[str, Any], call: dict[str, Any], begin_ns: int) -> dict[str, Any]:
    usage = {
        "input": call["input_tokens"],
        "output": call["output_tokens"],
        "cache_read_input_tokens": call["cache_read_tokens"],
        "cache_creation_input_tokens": call["cache_write_tokens"],
    }
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": call["model"],
        "gen_ai.usage.input_tokens": call["prompt_tokens"],
        "gen_ai.usage.output_tokens": call["output_tokens"],
        "gen_ai.usage.cache_read.input_tokens": call["cache_read_tokens"],
        "gen_ai.usage.cache_creation.input_tokens": call["cache_write_tokens"],
        "gen_ai.response.time_to_first_chunk": _seconds(call["message_start_at_ms"]),
        "gen_ai.response.finish_reasons": None if pd.isna(call["stop_reason"]) else (call["stop_reason"],),
        "http.response.status_code": call["http_status"],
        "lab.role": call["role"],
        "lab.arm": call["arm"],
        "lab.block": call["block"],
        "lab.run_id": run["run_id"],
        "lab.ttft_ms": call["ttft_ms"],
        "lab.observed_cache": call["observed_cache"],
        "lab.cost_usd": call["cost_usd"],
        "session.id": run["run_id"],
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": call["model"],
        "langfuse.observation.usage_details": json.dumps({name: int(count) for name, count in usage.items() if not pd.isna(count)}),
        "langfuse.observation.cost_details": None if pd.isna(call["cost_usd"]) else json.dumps({"total": float(call["cost_usd"])}),
        "langfuse.observation.completion_start_time": _instant(begin_ns, call["ttft_ms"]),
    }
    return _present(attributes)


def _measure(place: Destination, run: dict[str, Any], calls: pd.DataFrame) -> None:
    """The GenAI client metrics of the run's calls as histograms, sent once."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(place.metrics, export_interval_millis=float("inf"))
    provider = MeterProvider(metric_readers=[reader], resource=_resource(run), shutdown_on_exit=False)
    meter = provider.get_meter("llm-latency-lab", __version__)
    duration = meter.create_histogram("gen_ai.client.operation.duration", "s")
    first = meter.create_histogram("gen_ai.client.operation.time_to_first_chunk", "s")
    between = meter.create_histogram("gen_ai.client.operation.time_per_output_chunk", "s")
    tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}")
    for call in calls.to_dict("records"):
        labels = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": call["model"],
            "lab.arm": call["arm"],
        }
        for histogram, value in ((duration, call["total_ms"]), (first, call["message_start_at_ms"]), (between, call["gap_ms"])):
            if not pd.isna(value):
                histogram.record(_seconds(value), labels)
        for kind, count in (("input", call["prompt_tokens"]), ("output", call["output_tokens"])):
            if not pd.isna(count):
                tokens.record(int(count), labels | {"gen_ai.token.type": kind})
    provider.force_flush()
    provider.shutdown()


def _seconds(ms: Any) -> float | None:
    return None if pd.isna(ms) else float(ms) / 1e3


def _instant(begin_ns: int, after_ms: Any) -> str | None:
    """An ISO time in quotes: Langfuse reads this attribute as JSON."""
    if pd.isna(after_ms):
        return None
    return json.dumps((EPOCH + timedelta(microseconds=(begin_ns + float(after_ms) * 1e6) / 1000)).isoformat().replace("+00:00", "Z"))


def _present(attributes: dict[str, Any]) -> dict[str, Any]:
    """Without what is null, and in plain Python numbers, which are all that OpenTelemetry takes."""
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in attributes.items()}
    return {name: value for name, value in plain.items() if isinstance(value, tuple) or not pd.isna(value)}
