"""Where traces can go: OTLP by the standard OTEL_* variables, the console, a file, Langfuse by its
keys."""

from __future__ import annotations

import base64
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import scrub
from lab.instrumentation import otlp
from lab.model import LabError


@dataclass
class Destination:
    """Somewhere that spans, and where it takes them metrics, go."""

    name: str
    spans: Any
    metrics: Any = None
    answers: otlp.Answers | None = None
    of_metrics: otlp.Answers | None = None


def destinations(to: str | None = None, file: Path | None = None) -> list[Destination]:
    """What the OTEL_* variables and LANGFUSE_* keys ask for, or what `to` names: otlp, console,
    file, langfuse, separated by commas.

    Raises LabError for an unknown name, a file that is not given, or Langfuse without its keys.
    """
    names = dict.fromkeys(map(str.strip, to.split(","))) if to else _configured()
    makers = {
        "otlp": _otlp,
        "console": _console,
        "file": lambda: _file(file),
        "langfuse": _langfuse,
    }
    if unknown := sorted(set(names) - set(makers)):
        raise LabError(
            f"Traces cannot go to {', '.join(unknown)}. Choose from {', '.join(makers)}."
        )
    return [makers[name]() for name in names]


def _configured() -> list[str]:
    """By the standard variables: OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER,
    OTEL_EXPORTER_OTLP[_TRACES]_ENDPOINT; and by Langfuse's keys."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    if exporters := os.environ.get("OTEL_TRACES_EXPORTER"):
        names = map(str.strip, exporters.split(","))
        names = [name for name in names if name in ("otlp", "console")]
    else:
        names = ["otlp"] if otlp.setting("TRACES", "ENDPOINT")[1] else []
    return [*names, "langfuse"] if all(_langfuse_keys()) else names


def _langfuse_keys() -> tuple[str, str]:
    return os.environ.get("LANGFUSE_PUBLIC_KEY", ""), os.environ.get("LANGFUSE_SECRET_KEY", "")


def half_a_key() -> str | None:
    if all(_langfuse_keys()) or not any(_langfuse_keys()):
        return None
    return "traces: not sent. Langfuse needs both LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY."


def _otlp() -> Destination:
    answers, of_metrics = otlp.Answers("TRACES"), otlp.Answers("METRICS")
    spans, url = otlp.exporter("TRACES", answers)
    metrics = otlp.exporter("METRICS", of_metrics)[0] if otlp.metrics_asked() else None
    return Destination(f"OTLP at {otlp.host(url)}", spans, metrics, answers, of_metrics)


def _console() -> Destination:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    # Its default is whatever stdout was when it was first imported.
    return Destination("console", ConsoleSpanExporter(out=sys.stdout))


def _file(path: Path | None) -> Destination:
    if path is None:
        raise LabError("Traces to a file need its name: --out traces.jsonl.")
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w", encoding="utf-8")
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror}.") from None
    exporter = ConsoleSpanExporter(
        out=stream, formatter=lambda span: f"{span.to_json(indent=None)}\n"
    )
    exporter.shutdown = stream.close
    return Destination(str(path), exporter)


def _langfuse() -> Destination:
    if not all(keys := _langfuse_keys()):
        raise LabError(
            "Langfuse needs LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY in the environment; nothing"
            " was sent."
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = "https://cloud.langfuse.com"
    variable = "LANGFUSE_BASE_URL" if os.environ.get("LANGFUSE_BASE_URL") else "LANGFUSE_HOST"
    if url := os.environ.get(variable):
        base = otlp.with_scheme(url.rstrip("/"), variable)
    headers = {
        "Authorization": f"Basic {base64.b64encode(':'.join(keys).encode()).decode()}",
        "x-langfuse-ingestion-version": "4",
    }
    answers = otlp.Answers("TRACES")
    spans = OTLPSpanExporter(
        endpoint=f"{base}/api/public/otel/v1/traces",
        headers=headers,
        timeout=otlp.patience("TRACES"),
        session=otlp.session(answers),
    )
    return Destination(f"Langfuse at {otlp.host(base)}", spans, answers=answers)


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What the exporters would write to stderr, as short reasons: one line of the lab's own says it
    instead."""
    reasons: list[str] = []

    class Complaints(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            values = record.args if isinstance(record.args, tuple) else ()
            failed = record.msg.startswith("Failed to export")
            if failed and len(values) == 3:
                reasons.append(f"HTTP {values[1]} {values[2]}" if values[1] else _short(values[2]))
            elif failed and len(values) == 4:  # over gRPC
                code = getattr(values[2], "name", values[2])
                reasons.append(_short(f"{code}: {values[3]}"))
            elif record.msg.startswith("Transient error") and values:
                reasons.append(_short(values[0]))
            elif not reasons:
                reasons.append(scrub.text(record.getMessage(), scrub.WORD))

    logger, handler = logging.getLogger("opentelemetry"), Complaints()
    before = logger.propagate
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield reasons
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _short(problem: Any) -> str:
    """One line of what an exporter says, without the address, which may hold a key."""
    refused = isinstance(problem, Exception) and "onnect" in f"{type(problem).__name__}{problem}"
    if refused or "failed to connect" in str(problem):
        return "no connection"
    return scrub.text(" ".join(str(problem).split()), 120)
