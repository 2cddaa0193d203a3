"""Where the wait goes on each way, what a connection costs in words, and whether it streams."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import palette, stacked
from lab.stats import bursts
from lab.techniques.connection import findings
from lab.units import counted, estimated, ms
from lab.view_parts import Note, Part, RunData

SDK_RESTS_S = 5
"""What anthropic._constants.DEFAULT_CONNECTION_LIMITS lets a connection rest (keepalive_expiry)."""


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    calls, finding = data.calls(), data.finding()
    theme = palette.theme(dark)
    opening = (theme.phases[step] for step in ("send", "headers", "prefill"))
    shades = (*opening, theme.zero, theme.phases["tokens"], theme.ghost)
    figure = stacked.stacked(
        findings.parts(calls).assign(**data.endpoint),
        dict(zip(findings.PHASES, shades, strict=True)),
        dark,
        title=finding.title,
        subtitle="ms to the first text, by what the call waited for · medians of each arm's calls",
        metric="wait_ms",
        arms=data.places,
        words=findings.PHASES,
        reason=finding.reason,
    )
    return [figure, *_told(data, calls)]


def _told(data: RunData, calls: pd.DataFrame) -> list[Part]:
    notes = []
    if cost := findings.opened(calls):
        phases = {"DNS": cost.dns, "TCP": cost.connect, "TLS": cost.tls}
        each = ", ".join(f"{name} {ms(took)}" for name, took in phases.items() if took)
        notes.append(
            f"A new connection took {ms(cost.whole)} here: {each} (medians of"
            f" {counted(cost.n, 'connection')}). A kept or pre-opened one takes none of it."
        )
    if not data.knobs.gateway and data.knobs.pause_s > SDK_RESTS_S:
        notes.append(
            f"Anthropic's SDK closes a connection that has rested for {SDK_RESTS_S} s unless told"
            f" otherwise: after a pause of {data.knobs.pause_s:g} s an application that has not set"
            " keepalive_expiry waits as long as with a new one."
        )
    return [Note(text) for text in (" ".join(notes), _streams(data, calls)) if text]


def _streams(data: RunData, calls: pd.DataFrame) -> str:
    """Does each way pass the stream on, and what does the one through a gateway add?"""
    arrivals = data.ask("text_arrivals", data.run_id)
    answers = calls[calls["role"] == "answer"].set_index("call_id")["arm"]
    arrivals = arrivals.assign(arm=arrivals["call_id"].map(answers)).dropna(subset=["arm"])
    if not data.knobs.gateway:
        return f"This way {bursts.told(bursts.of_calls(arrivals))}."
    by_arm = {
        arm: bursts.told(bursts.of_calls(rows)) for arm, rows in arrivals.groupby("arm", sort=False)
    }
    direct, through = (by_arm.get(arm) for arm in (data.baseline, data.headline_arm))
    longer = findings.added(data.trials(), data.baseline, data.headline_arm)
    about = f"about {ms(longer.estimate, sign=True)}" if longer.n else "nothing to compare in"
    if longer.low is not None:
        about = estimated("wait_ms", longer.estimate, longer.low, longer.high)
    told = f"Through your gateway, {data.knobs.gateway}: {about} wait"
    told += f", and it {through}." if through else "."
    return f"{told} The direct way {direct}." if direct else told
