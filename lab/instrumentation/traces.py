"""A stored run as OpenTelemetry traces and metrics, and as Langfuse generations.

They are made from the stamps after the run, so tracing cannot change a number, and a run that is
sent twice has the same ids. Names follow the GenAI semantic conventions (status Development); what
those do not name is under `lab.`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lab.instrumentation.destinations import Destination, complaints, destinations, half_a_key
from lab.model import LabError
from lab.paths import COMMAND, NAME
from lab.store import queries
from lab.store.store import Store
from lab.version import VERSION

OF_TRIALS = (
    "technique",
    "arm",
    "block",
    "phase",
    "task_id",
    "outcome",
    "wait_ms",
    "ttft_ms",
    "total_ms",
    "quality",
    "cost_usd",
)
OF_CALLS = ("attempt", "block", "ttft_ms", "observed_cache", "request_id", "cost_usd")
OF_METRICS = {
    "duration": "total_ms",
    "time_to_first_chunk": "message_start_at_ms",
    "time_per_output_chunk": "gap_ms",
}
GOOD_OUTCOMES = ("ok", "mismatch")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH_SPANS = 512
BUCKETS_S = (0.001, 0.0025, 0.005, *(0.01 * 2**power for power in range(14)))
BUCKETS_TOKENS = tuple(4**power for power in range(14))


class Sent(NamedTuple):
    """What went to which destinations, and a sentence for each that refused something."""

    traces: int
    spans: int
    destinations: tuple[str, ...]
    refused: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line for the user: "traces: sent 14 to OTLP at 127.0.0.1:4318"."""
        sent = f"traces: sent {self.traces} to {', '.join(self.destinations)}"
        return ". ".join([sent, *self.refused] if self.destinations else self.refused)


def send(
    store: Store, run_id: str, to: Iterable[Destination], newest_session: bool = False
) -> Sent:
    """Send every trial of a stored run, or of its newest session, as a trace."""
    from opentelemetry.sdk.trace import TracerProvider

    with store.snapshot():
        run = queries.run(store, run_id)
        trials, calls = queries.trials(store, run_id), queries.calls(store, run_id)
        spans = queries.spans(store, run_id=run_id)
    if newest_session and run["sessions"]:
        newest = run["sessions"][-1]["session_id"]
        trials, calls, spans = (
            frame[frame["session_id"] == newest] for frame in (trials, calls, spans)
        )
    ids = _Ids()
    provider = TracerProvider(resource=_resource(run), id_generator=ids, shutdown_on_exit=False)
    tracer = provider.get_tracer(NAME, VERSION)
    calls_of = {row["span_id"]: row for row in calls.to_dict("records")}
    spans_of = {trial_id: rows.to_dict("records") for trial_id, rows in spans.groupby("trial_id")}
    traces = [
        _trace(tracer, ids, run, trial, spans_of.get(trial["trial_id"], []), calls_of)
        for trial in trials.to_dict("records")
    ]
    traces = [trace for trace in traces if trace]
    count = sum(map(len, traces))
    reached, refused = [], []
    for place in to:
        answers, of_metrics = place.answers, place.of_metrics
        if problem := _deliver(place, traces):
            refused.append(
                f"{place.name} did not take the traces of run {run_id} ({problem}). Once it does:"
                f" {COMMAND} trace {run_id}"
            )
            continue
        if answers and answers.rejected:
            taken = max(count - answers.rejected, 0)
            refused.append(
                f"{taken:,} of {count:,} spans were taken by {place.name}; the receiver said:"
                f" {answers.words or 'nothing'}"
            )
        elif answers and answers.words:
            reached.append(f"{place.name} (the receiver said: {answers.words})")
        else:
            reached.append(place.name)
        if traces and place.metrics is not None and (problem := _measure(place, run, calls)):
            refused.append(f"{place.name} took no metrics ({problem})")
        elif of_metrics and of_metrics.rejected:
            refused.append(
                f"{place.name} left out {of_metrics.rejected:,} points of the metrics; the receiver"
                f" said: {of_metrics.words or 'nothing'}"
            )
    return Sent(len(traces), count, tuple(reached), tuple(refused))


def send_run(store: Store, run_id: str, to: str, file: Path | None = None) -> Sent:
    """What the command `trace` does: a stored run, now, to the places named."""
    return send(store, run_id, destinations(to, file))


def send_if_configured(store: Store, run_id: str) -> str | None:
    """What a worker does at a session's end, and tells the user; None where no variable asks for
    traces."""
    try:
        places = destinations()
        if not places:
            return half_a_key()
        sent = send(store, run_id, places, newest_session=True)
        return sent.text if sent.traces else None
    except LabError as problem:
        return f"traces: not sent. {problem}"
    # A variable that OpenTelemetry cannot read; its words may hold a header.
    except Exception as problem:
        return f"traces: not sent ({type(problem).__name__}). Check the OTEL_* variables."


def _deliver(place: Destination, traces: list[list[Any]]) -> str | None:
    """Whole traces in batches; None, or why it ended at the first batch that was not taken."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    with complaints() as reasons:
        try:
            for batch in _batches(traces):
                result = place.spans.export(batch)
                if place.answers and place.answers.fault:
                    return place.answers.fault
                if result is not SpanExportResult.SUCCESS:
                    return reasons[-1] if reasons else "no reason given"
        finally:
            place.spans.shutdown()
    return None


def _batches(traces: list[list[Any]]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for trace in traces:
        if batch and len(batch) + len(trace) > BATCH_SPANS:
            yield batch
            batch = []
        batch += trace
    if batch:
        yield batch


class _Ids:
    """The ids that the rows have: a trace id is the trial's UUID, a span id the random half of the
    span's."""

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

    name = os.environ.get("OTEL_SERVICE_NAME", NAME)
    return Resource.create(
        {"service.name": name, "service.version": VERSION, "lab.run_id": run["run_id"]}
    )


def _trace(
    tracer: Any,
    ids: _Ids,
    run: dict[str, Any],
    trial: dict[str, Any],
    spans: list[dict[str, Any]],
    calls_of: dict[str, dict[str, Any]],
) -> list[Any]:
    """The SDK's finished spans, parents first; none where the trial was cut off before its clock
    began, or is sampled out."""
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanKind, set_span_in_context
    from opentelemetry.trace.status import Status, StatusCode

    children: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    for row in spans:
        children[None if pd.isna(row["parent_id"]) else row["parent_id"]].append(row)
    root = next((row for row in children[None] if row["kind"] == "trial"), None)
    if root is None or pd.isna(trial["started_utc"]):
        return []
    # Wall time has microseconds; from there on every span keeps its nanoseconds.
    began = trial["started_utc"].to_pydatetime().astimezone(UTC) - EPOCH
    to_wall_ns = began // timedelta(microseconds=1) * 1000 - int(root["started_ns"])
    last_ns = max(
        [int(row["ended_ns"]) for row in spans if not pd.isna(row["ended_ns"])],
        default=int(root["started_ns"]),
    )
    finished: list[Any] = []

    def make(row: dict[str, Any], parent: Any) -> None:
        call, begin = calls_of.get(row["span_id"]), to_wall_ns + int(row["started_ns"])
        end = to_wall_ns + (last_ns if pd.isna(row["ended_ns"]) else int(row["ended_ns"]))
        name, failed = row["name"], None
        if call:
            name, failed = f"chat {call['model']}", call["error_kind"]
            attributes = _call_attributes(run, call, begin)
        elif row is root:
            name, attributes = f"{trial['technique']} {trial['arm']}", _trial_attributes(run, trial)
            if trial["outcome"] not in GOOD_OUTCOMES:
                failed = trial["error_kind"] or trial["outcome"]
        else:
            attributes = _span_attributes(run, row)
        ids.of(trial["trial_id"], row["span_id"])
        context = set_span_in_context(parent) if parent is not None else Context()
        kind = SpanKind.CLIENT if call else SpanKind.INTERNAL
        span = tracer.start_span(name, context, kind, attributes, start_time=begin)
        if not pd.isna(failed):
            span.set_attribute("error.type", failed)
            span.set_status(Status(StatusCode.ERROR, failed))
        span.end(max(begin, end))
        finished.append(span)
        for child in sorted(children[row["span_id"]], key=lambda row: int(row["started_ns"])):
            make(child, span)

    make(root, None)
    return [span for span in finished if isinstance(span, ReadableSpan)]


def _span_attributes(run: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    shared = {"lab.kind": row["kind"], "session.id": run["run_id"]}
    if row["kind"] == "tool":
        return shared | {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": row["name"],
            "langfuse.observation.type": "tool",
        }
    # What is no call and no tool has no GenAI name; Phoenix knows it by OpenInference's.
    return shared | {"openinference.span.kind": "CHAIN", "langfuse.observation.type": "span"}


def _trial_attributes(run: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    return _present(
        {f"lab.{name}": trial[name] for name in OF_TRIALS}
        | {
            "lab.run_id": run["run_id"],
            "lab.endpoint": run["endpoint"],
            "lab.endpoint_kind": run["endpoint_kind"],
            "lab.imported_from": run["imported_from"],
            "session.id": run["run_id"],
            "langfuse.trace.name": f"{trial['technique']} {trial['arm']}",
            "openinference.span.kind": "CHAIN",
        }
    )


def _call_attributes(run: dict[str, Any], call: dict[str, Any], begin_ns: int) -> dict[str, Any]:
    usage = {
        "input": call["input_tokens"],
        "output": call["output_tokens"],
        "cache_read_input_tokens": call["cache_read_tokens"],
        "cache_creation_input_tokens": call["cache_write_tokens"],
    }
    attributes = _labels(call) | {
        "gen_ai.usage.input_tokens": call["prompt_tokens"],
        "gen_ai.usage.output_tokens": call["output_tokens"],
        "gen_ai.usage.cache_read.input_tokens": call["cache_read_tokens"],
        "gen_ai.usage.cache_creation.input_tokens": call["cache_write_tokens"],
        "gen_ai.response.id": call["message_id"],
        "gen_ai.response.time_to_first_chunk": _seconds(call["message_start_at_ms"]),
        "gen_ai.response.finish_reasons": (
            None if pd.isna(call["stop_reason"]) else (call["stop_reason"],)
        ),
        "http.response.status_code": call["http_status"],
        **{f"lab.{name}": call[name] for name in OF_CALLS},
        "lab.run_id": run["run_id"],
        "session.id": run["run_id"],
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": call["model"],
        "langfuse.observation.usage_details": json.dumps(
            {name: int(count) for name, count in usage.items() if not pd.isna(count)}
        ),
        "langfuse.observation.cost_details": (
            None if pd.isna(call["cost_usd"]) else json.dumps({"total": float(call["cost_usd"])})
        ),
        "langfuse.observation.completion_start_time": _instant(begin_ns, call["ttft_ms"]),
    }
    return _present(attributes)


def _labels(call: dict[str, Any]) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": call["model"],
        "lab.arm": call["arm"],
        "lab.role": call["role"],
    }


def _measure(place: Destination, run: dict[str, Any], calls: pd.DataFrame) -> str | None:
    """The GenAI client metrics of the measured calls, sent once; None, or why they were not
    taken."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(place.metrics, export_interval_millis=float("inf"))
    provider = MeterProvider(
        metric_readers=[reader], resource=_resource(run), shutdown_on_exit=False
    )
    meter = provider.get_meter(NAME, VERSION)
    times = {
        column: meter.create_histogram(
            f"gen_ai.client.operation.{name}", "s", explicit_bucket_boundaries_advisory=BUCKETS_S
        )
        for name, column in OF_METRICS.items()
    }
    tokens = meter.create_histogram(
        "gen_ai.client.token.usage", "{token}", explicit_bucket_boundaries_advisory=BUCKETS_TOKENS
    )
    for call in calls[calls["phase"] == "measured"].to_dict("records"):
        labels = _present(_labels(call) | {"error.type": call["error_kind"]})
        for column, histogram in times.items():
            if not pd.isna(call[column]):
                histogram.record(_seconds(call[column]), labels)
        for kind, count in (("input", call["prompt_tokens"]), ("output", call["output_tokens"])):
            if not pd.isna(count):
                tokens.record(int(count), labels | {"gen_ai.token.type": kind})
    with complaints() as reasons:
        provider.force_flush()
        # A shutdown with everything exported again would count every call twice.
        place.metrics.shutdown()
    fault = place.of_metrics.fault if place.of_metrics else ""
    return fault or (reasons[-1] if reasons else None)


def _seconds(ms: Any) -> float | None:
    return None if pd.isna(ms) else float(ms) / 1e3


def _instant(begin_ns: int, after_ms: Any) -> str | None:
    """An ISO time in quotes: Langfuse reads this attribute as JSON."""
    if pd.isna(after_ms):
        return None
    instant = EPOCH + timedelta(microseconds=(begin_ns + float(after_ms) * 1e6) / 1000)
    return json.dumps(instant.isoformat().replace("+00:00", "Z"))


def _present(attributes: dict[str, Any]) -> dict[str, Any]:
    """Without what is null, and in plain Python numbers, which are all that OpenTelemetry takes."""
    return {
        name: value.item() if hasattr(value, "item") else value
        for name, value in attributes.items()
        if isinstance(value, tuple) or not pd.isna(value)
    }
