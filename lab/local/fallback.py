"""A planted silent fallback: a request that is answered by another model, at another speed or in
another tier than it asked, and whose answer says so in a field alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.local.messages_api import Body

if TYPE_CHECKING:
    from lab.local.simulated import SimKnobs


def instead(body: Body, knobs: SimKnobs, draw: float) -> tuple[Body, dict[str, Any]]:
    """What is served in a request's place, and what its usage says beside that. `draw` in [0, 1)
    decides whether this request meets it; a speed that was not asked falls back to none."""
    if draw >= knobs.serve_rate:
        return body, {}
    changes: dict[str, Any] = {}
    if knobs.serve_model:
        changes["model"] = knobs.serve_model
    if knobs.serve_speed and body.speed:
        changes["speed"] = knobs.serve_speed
    said = {"service_tier": knobs.serve_tier} if knobs.serve_tier else {}
    return body.model_copy(update=changes), said
