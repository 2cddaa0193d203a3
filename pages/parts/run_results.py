"""What a run found: the verdict in words, the race of its median pair, the waterfall of the same
trials with its drill-down, and one chosen view below."""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from lab import units
from lab.endpoints.registry import Endpoint
from lab.figures import waterfall
from lab.store import json_shapes
from pages.parts import (
    cached_queries,
    chart,
    controls,
    details,
    drill,
    race_view,
    run_panel,
    share,
    verdict_card,
)
from pages.parts.frame import escape, guard


def show(
    endpoint: Endpoint,
    run: dict[str, Any],
    views: Mapping[str, Callable[[dict[str, Any]], None]],
    beneath: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Only what is chosen is computed; run, view, arm and trial are in the URL. `beneath` draws
    what stands directly under the verdict."""
    has_rows = cached_queries.ask("row_counts", run["run_id"])["trials"] > 0
    _state(run, endpoint, has_rows)
    if not has_rows:
        st.info("This run has no trial. New run sets another one up.")
        return
    if not json_shapes.is_sound(run["settings"]):
        st.warning(
            "The settings of this run cannot be read, so nothing is compared; every row it has is"
            " below."
        )
        views["Rows"](run)
        return
    with guard():
        verdict_card.show(run)
        if beneath:
            beneath(run)
    with guard():
        race_view.show(run)
    with guard():
        waterfall_of(run)
    with guard():
        details.show(run)
    chosen = controls.segments("View", views, "view")
    with guard(), st.container(key="chosen-view"):
        views[chosen](run)
    with guard():
        share.show(run)


def _state(run: dict[str, Any], endpoint: Endpoint, has_rows: bool) -> None:
    if run["endpoint"] != endpoint.name:
        say = st.caption if run["endpoint_kind"] == endpoint.kind else st.info
        say(
            f"This run was measured on **{escape(run['endpoint'])}**. A new one goes to"
            f" **{escape(endpoint.name)}**, chosen above."
        )
    if origin := units.origin(run):
        st.caption(f"This run was not measured here: it, or a part of it, is {escape(origin)}.")
    if run["status"] == "failed":
        text = (run_panel.ending(run["run_id"]) or {}).get("text")
        st.error(
            f"This run failed{': ' + escape(text).rstrip('.') if text else ''}."
            + (" The rows it measured are kept." if has_rows else "")
        )
    elif run["status"] == "interrupted":
        st.warning(
            "This run was stopped before its end; what it measured is kept. Resume goes on with the"
            " same order of blocks."
        )


def waterfall_of(run: dict[str, Any]) -> None:
    """The waterfall of the typical trials, and the calls behind a bar that is clicked."""
    drill.show(run, has_bars=_waterfall(run))


def _waterfall(run: dict[str, Any]) -> bool:
    """Whether there was a trial to draw."""
    result = cached_queries.judged(run["run_id"])
    calls = result.named(result.typical_calls)
    if calls.empty:
        st.info(
            "No trial of this run finished well, so there is no typical one to draw. The rows below"
            " say what happened."
        )
        return False
    figure = waterfall.waterfall(
        calls,
        chart.dark(),
        spans=cached_queries.ask("spans", result.typical, run["run_id"]),
        arms=result.places,
        finding=result.finding(),
        **({"pair": result.pair.words} if result.pair else {}),
    )
    points = chart.show(figure, key=f"waterfall-{run['run_id']}", clicks=True)
    drill.follow(points, calls)
    return True


def title(run: dict[str, Any]) -> str:
    name = units.short(run.get("name") or f"{units.when(run['started_utc'])} · {run['endpoint']}")
    return " · ".join(filter(None, (name, units.origin(run))))
