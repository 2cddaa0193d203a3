"""Where traces can go: OTLP over HTTP by the standard OTEL_* variables, the console, a file, Langfuse by its keys."""

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
from urllib.parse import urlsplit

from lab.model import LabError

PATIENCE_S = 5.0
"""How long a destination may take for one export, retries included, where OTEL_EXPORTER_OTLP_TIMEOUT says nothing."""
PLACES = ("otlp", "console", "file", "langfuse")


@dataclass
class Destination:
    """Somewhere that spans, and where it takes them metrics, go."""

    name: str
    spans: Any
    metrics: Any = None


def destinations(to: str | None = None, file: Path | None = None) -> list[Destination]:
    """What the OTEL_* variables and LANGFUSE_* keys ask for, or what `to` names: otlp, console, file, langfuse, in a comma list.

    Raises LabError for an unknown name, a file that is not given, or Langfuse without its keys.
    """
    named = list(dict.fromkeys(one.strip() for one in to.split(","))) if to else _configured()
    makers = {"otlp": _otlp, "console": _console, "file": lambda: _file(file), "langfuse": _langfuse}
    if unknown := sorted(set(named) - set(makers)):
        raise LabError(f"Traces cannot go to {', '.join(unknown)}. Choose among {', '.join(PLACES)}.")
    return [makers[one]() for one in named]


def _configured() -> list[str]:
    """By the standard variables: OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP[_TRACES]_ENDPOINT; and by Langfuse's keys."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    asked = os.environ.get("OTEL_TRACES_EXPORTER")
    named = [one.strip() for one in (asked or "").split(",") if one.strip() in ("otlp", "console")]
    if not asked and (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        named = ["otlp"]
    return [*named, "langfuse"] if _langfuse_keys() else named


def _langfuse_keys() -> tuple[str, str] | None:
    public, secret = os.environ.get("LANGFUSE_PUBLIC_KEY"), os.environ.get("LANGFUSE_SECRET_KEY")
    return (public, secret) if public and secret else None


def half_a_key() -> str | None:
    if bool(os.environ.get("LANGFUSE_PUBLIC_KEY")) == bool(os.environ.get("LANGFUSE_SECRET_KEY")):
        return None
    return "traces: not sent. Langfuse needs both LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY."


def _patience(signal: str) -> float | None:
    given = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT") or os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT")
    return None if given else PATIENCE_S


def _otlp() -> Destination:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    spans = OTLPSpanExporter(timeout=_patience("TRACES"))
    metrics = None if os.environ.get("OTEL_METRICS_EXPORTER") == "none" else OTLPMetricExporter(timeout=_patience("METRICS"))
    url = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318"
    return Destination(f"OTLP at {_host(url)}", spans, metrics)


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
    exporter = ConsoleSpanExporter(out=stream, formatter=lambda span: span.to_json(indent=None) + "\n")
    exporter.shutdown = stream.close
    return Destination(str(path), exporter)


def _langfuse() -> Destination:
    if not (keys := _langfuse_keys()):
        raise LabError("Langfuse needs LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY in the environment; nothing was sent.")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = (os.environ.get("LANGFUSE_BASE_URL") or os.environ.get("LANGFUSE_HOST") or "https://cloud.langfuse.com").rstrip("/")
    headers = {"Authorization": f"Basic {base64.b64encode(':'.join(keys).encode()).decode()}", "x-langfuse-ingestion-version": "4"}
    spans = OTLPSpanExporter(endpoint=f"{base}/api/public/otel/v1/traces", headers=headers, timeout=_patience("TRACES"))
    return Destination(f"Langfuse at {_host(base)}", spans)


def _host(url: str) -> str:
    """Host and port alone: the rest of a URL may hold a key."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "?"


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What the exporters would write to stderr, as short reasons: one line of the lab's own says it instead."""
    said: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            values = record.args if isinstance(record.args, tuple) else ()
            if record.msg.startswith("Failed to export") and len(values) == 3:
                said.append(f"HTTP {values[1]} {values[2]}" if values[1] else _short(values[2]))
            elif record.msg.startswith("Transient error") and values:
                said.append(_short(values[0]))
            elif not said:
                said.append(record.getMessage()[:200])

    logger, handler = logging.getLogger("opentelemetry"), Kept()
    before = logger.propagate
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _short(problem: Any) -> str:
    return "no connection" if isinstance(problem, Exception) and "onnect" in f"{type(problem).__name__}{problem}" else str(problem)[:120]
