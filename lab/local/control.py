"""A handle on a running local or simulated server, for tests, calibration and benches."""

from __future__ import annotations

from typing import Any

import httpx2

from lab.model import LabError


class Control:
    """Talks to the server's own routes."""

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
                verify=False,  # not needed on loopback, and it takes 20 ms to be made ready
                **kwargs,
            )
        except httpx2.TransportError as error:
            message = f"The local server at {self.base_url} does not answer ({error})."
            raise LabError(message) from error
        if reply.status_code >= 400:
            raise LabError(reply.json()["error"]["message"])
        return reply.json()

    def plays(self, *plays: dict[str, Any], **play: Any) -> None:
        """Script the next replies (simulated only); instants in milliseconds after the request is
        received."""
        self.ask("POST", "/plays", json={"plays": [*plays, play] if play else plays})

    def knobs(self, **knobs: Any) -> None:
        """Simulated only; `models={"simulated-large": {…}}` for single models."""
        self.ask("PUT", "/knobs", json=knobs)

    def reset(self) -> None:
        """Simulated only: default knobs, no plays, empty cache, no truths."""
        self.ask("DELETE", "/knobs")

    def truth(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """When each event was written, oldest request first, by lab.clock.now_ns()."""
        return self.ask("GET", "/truth", params={"request_id": request_id} if request_id else {})

    def warm(self, model: str) -> float:
        """The milliseconds that loading took (the large model's file is made first: some 15 s)."""
        return self.ask("POST", "/warm", timeout_s=300.0, json={"model": model})["ms"]
