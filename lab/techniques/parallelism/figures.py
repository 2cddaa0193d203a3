"""The speed-up against n and against the critical path, and what it costs each single request."""

from __future__ import annotations

from contextlib import suppress

import pandas as pd
import plotly.graph_objects as go

from lab.figures import stacked
from lab.model import LabError
from lab.techniques.parallelism import findings
from lab.view_parts import Column, Note, Part, RunData, Table


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    pieces = []
    for arm, trial in data.typical().items():
        counted = findings.fan_out(data.spans(trial["trial_id"]))
        if counted:
            gained = counted["sum_ms"] / counted["took_ms"]
            most = counted["sum_ms"] / counted["slowest_ms"]
            own = {"gained": gained, "most": most, "total_ms": trial["total_ms"]}
            pieces.append({"arm": arm, **counted, **own})
    return [
        *_against_n(data, dark),
        Table(
            pd.DataFrame(pieces),
            {
                "n": Column("pieces"),
                "sum_ms": Column("their sum, ms", "localized"),
                "slowest_ms": Column("the slowest, ms", "localized"),
                "took_ms": Column("first start to last end, ms", "localized"),
                "gained": Column("speed-up", "%.1f×"),
                "most": Column("most possible", "%.1f×"),
                "total_ms": Column("total, ms", "localized"),
            },
        ),
        Note(
            "Each arm's trial in the median pair: its tools, or its requests where it has no "
            "tools. The slowest piece is the critical path."
        ),
        Table(
            data.in_order(findings.per_request(data.calls())),
            {
                "n": Column("requests"),
                "median_ms": Column("median, ms", "localized"),
                "longest_ms": Column("longest, ms", "localized"),
            },
            title="What each single request takes",
        ),
    ]


def _against_n(data: RunData, dark: bool) -> list[Part | go.Figure]:
    """One n says nothing of how the speed-up grows with it."""
    points = speed_ups(data)
    if points["n"].nunique() < 2:
        return [Note("Run it with another n, and the speed-up stands here against n.")]
    finding = data.finding("total_ms")
    return [stacked.speed_up(points, dark, finding=finding, arms=data.places, run_id=data.run_id)]


def speed_ups(data: RunData) -> pd.DataFrame:
    """The baseline's median total over each arm's, of every stored run on this kind of endpoint.

    Columns: run_id, arm, n, speed_up, endpoint, endpoint_kind.
    """
    kind = data.run["endpoint_kind"]
    runs = data.ask("runs", technique=data.technique.slug, endpoint_kind=kind, limit=200)
    medians = data.ask("arm_summary", tuple(runs["run_id"]))
    totals = medians[medians["metric"] == "total_ms"].set_index(["run_id", "arm"])["p50"]
    rows = []
    for run in runs.to_dict("records"):
        run_id, base = run["run_id"], run["settings"]["baseline"]["arm"]
        with suppress(LabError):  # knobs of a lab that has others
            n = data.knobs_of(run).n
            for arm in (arm["arm"] for arm in run["settings"]["arms"] if arm["arm"] != base):
                if (run_id, base) in totals and (run_id, arm) in totals:
                    ratio = totals[(run_id, base)] / totals[(run_id, arm)]
                    rows.append((run_id, arm, n, ratio, run["endpoint"], kind))
    columns = ["run_id", "arm", "n", "speed_up", "endpoint", "endpoint_kind"]
    return pd.DataFrame(rows, columns=columns)
