"""OTLP by the standard OTEL_EXPORTER_OTLP_* variables: where to, by which protocol, and what the
receiver says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal
from urllib.parse import urlsplit

from lab import scrub
from lab.model import LabError

Signal = Literal["TRACES", "METRICS"]
PATIENCE_S = 5.0
"""How long a destination may take for one export, where OTEL_EXPORTER_OTLP_TIMEOUT says nothing."""
HTTP, GRPC = "http/protobuf", "grpc"
DEFAULTS = {HTTP: "http://localhost:4318", GRPC: "http://localhost:4317"}
HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
EXPORTERS = {"TRACES": ("trace", "OTLPSpanExporter"), "METRICS": ("metric", "OTLPMetricExporter")}
REJECTED = {"TRACES": "rejected_spans", "METRICS": "rejected_data_points"}


@dataclass
class Answers:
    """What a receiver said with its success: that has degrees in OTLP."""

    signal: Signal
    rejected: int = 0
    words: str = ""
    fault: str = ""
    """Why the answer was none of an OTLP receiver, such as a login page."""

    def take(self, partial: Any) -> None:
        self.rejected += getattr(partial, REJECTED[self.signal])
        self.words = scrub.text(" ".join(partial.error_message.split()), scrub.WORD) or self.words

    def read(self, reply: Any) -> None:
        """An HTTP reply of `requests`; the SDK itself takes any status below 400 for success."""
        from google.protobuf import json_format
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

        status, kind = reply.status_code, reply.headers.get("content-type", "").lower()
        if status >= 400:
            return
        if status >= 300:
            self.fault = f"HTTP {status}, a redirect, which is not followed"
            return
        if "html" in kind:
            self.fault = f"HTTP {status} with a web page: no OTLP receiver is at that path"
            return
        message = {
            "TRACES": traces.ExportTraceServiceResponse,
            "METRICS": metrics.ExportMetricsServiceResponse,
        }[self.signal]()
        try:
            if "json" in kind:
                json_format.Parse(reply.content, message, ignore_unknown_fields=True)
            else:
                message.ParseFromString(reply.content)
        except Exception:  # whatever else it answers with success is a success
            return
        self.take(message.partial_success)


def exporter(signal: Signal, answers: Answers) -> tuple[Any, str]:
    """The SDK's exporter for a signal, and its endpoint. Raises LabError."""
    variable, protocol = setting(signal, "PROTOCOL")
    protocol = protocol or HTTP
    if protocol not in DEFAULTS:
        raise LabError(
            f"{variable}={protocol[:40]} is not a protocol that the lab speaks; it speaks {HTTP}"
            f" and {GRPC}."
        )
    url = _endpoint(signal, protocol)
    module, name = EXPORTERS[signal]
    package = protocol.partition("/")[0]
    try:
        exporters = import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}_exporter")
    except ImportError:
        raise LabError(
            f"{variable}={protocol} needs `pip install"
            f" opentelemetry-exporter-otlp-proto-{package}`; or set {variable}={HTTP}."
        ) from None
    kind = getattr(exporters, name)
    if protocol == GRPC:
        return _listening(kind, answers)(endpoint=url, timeout=patience(signal)), url
    return kind(endpoint=url, timeout=patience(signal), session=session(answers)), url


def metrics_asked() -> bool:
    """Metrics go to no place that was named for traces alone."""
    if "otlp" not in os.environ.get("OTEL_METRICS_EXPORTER", "otlp"):
        return False
    if setting("METRICS", "ENDPOINT")[1]:
        return True
    return not os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def session(answers: Answers) -> Any:
    """A `requests` session that reads each reply; None where the user's own provider of credentials
    makes one."""
    import requests

    if any(name.startswith("OTEL_PYTHON_EXPORTER_OTLP_HTTP_") for name in os.environ):
        return None
    session = requests.Session()
    session.hooks["response"].append(lambda reply, **_: answers.read(reply))
    return session


def patience(signal: Signal) -> float | None:
    return None if setting(signal, "TIMEOUT")[1] else PATIENCE_S


def host(url: str) -> str:
    """Host and port alone: the rest of a URL may hold a key."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "?"


def setting(signal: Signal, name: str) -> tuple[str, str]:
    """The variable, the signal's own before the shared one, and its value."""
    own, shared = f"OTEL_EXPORTER_OTLP_{signal}_{name}", f"OTEL_EXPORTER_OTLP_{name}"
    variable = own if os.environ.get(own) else shared
    return variable, os.environ.get(variable, "").strip()


def _endpoint(signal: Signal, protocol: str) -> str:
    variable, url = setting(signal, "ENDPOINT")
    url = with_scheme(url, variable, protocol) if url else DEFAULTS[protocol]
    if protocol == HTTP and variable == "OTEL_EXPORTER_OTLP_ENDPOINT":
        return f"{url.rstrip('/')}/v1/{signal.lower()}"
    return url


def with_scheme(url: str, variable: str, protocol: str = HTTP) -> str:
    """An address that the exporters take; LabError for anything else, or what could be read in two
    ways."""
    scheme, divided, _ = url.partition("://")
    try:
        parts = urlsplit(url if divided else f"//{url}")
        name = parts.hostname if parts.port != 0 else None
    except ValueError:
        name = None
    whole = url.isprintable() and " " not in url and HOST.fullmatch(name or "")
    if not whole or (divided and scheme.lower() not in ("http", "https")):
        raise LabError(
            f"{variable} is not the address of an OTLP receiver, such as {DEFAULTS[protocol]}."
        )
    if divided:
        return url
    if name in LOOPBACK:
        return f"http://{url}"
    if protocol == GRPC:  # encrypted, unless OTEL_EXPORTER_OTLP_INSECURE says otherwise
        return url
    raise LabError(f"{variable} has no scheme: write http:// or https:// before {host(url)}.")


def _listening(kind: type, answers: Answers) -> type:
    """A gRPC exporter whose replies are read; its own throws them away."""

    class Listening(kind):
        def _initialize_channel_and_stub(self) -> None:
            super()._initialize_channel_and_stub()
            ask = self._client.Export

            def export(**request: Any) -> Any:
                reply = ask(**request)
                answers.take(reply.partial_success)
                return reply

            self._client.Export = export

    return Listening
