"""A handle on a running local or simulated server, for tests, calibration and benches."""

from __future__ import annotations

from typing import Any

import httpx2

from lab.model import LabError


class Control:
    """Talks to the server's own routes; `base_url` and `api_key` serve an Anthropic client as they
    are."""

    def __init__(self, base_url: str, api_key: str):
        self.base_url, self.api_key = base_url.rstrip("/"), api_key

    def ask(self, method: str, path: str, timeout_s: float = 30.0, **kwargs: Any) -> Any:
        """One request; raises LabError with the server's own sentence."""
        try:
            reply = httpx2.request(
                method,
                self.base_url + path,
                headers={"x-api-key": self.api_key},
                timeout=timeout_s,
                **kwargs,
            )
        except httpx2.TransportError as error:
            raise LabError(
                f"The local server at {self.base_url} does not answer ({error})."
            ) from error
        if reply.status_code >= 400:
            raise LabError(reply.json()["error"]["message"])
        return reply.json()

    def plays(self, *plays: dict[str, Any], **one: Any) -> None:
        """Script the next replies, in order (simulated only): instants are milliseconds after the
        request is received."""
        self.ask("POST", "/plays", json={"plays": [*plays, *([one] if one else [])]})

    def knobs(self, **knobs: Any) -> None:
        """Turn knobs of the latency model; `models={"simulated-large": {…}}` for single models
        (simulated only)."""
        self.ask("PUT", "/knobs", json=knobs)

    def reset(self) -> None:
        """Default knobs, no plays, empty cache, no truths (simulated only)."""
        self.ask("DELETE", "/knobs")

    def truth(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """When each event was written, oldest request first, on the machine's monotonic clock in
        nanoseconds."""
        return self.ask("GET", "/truth", params={"request_id": request_id} if request_id else {})

    def warm(self, model: str) -> float:
        """Load a model before it is measured; the milliseconds it took (the first time makes the
        large model's file: some 15 s)."""
        return self.ask("POST", "/warm", timeout_s=300.0, json={"model": model})["ms"]
