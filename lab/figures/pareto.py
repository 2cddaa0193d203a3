"""Speed, cost and quality beside each other."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import percent, short_id, usd, value

TABLE = ("wait_ms", "ttft_ms", "total_ms", "tokens_per_s", "output_tokens")


def summary_table(summary: pd.DataFrame, counts: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row an arm of a run: label, run, endpoint, model, n, failed, the medians of TABLE, cost and quality; views' columns in.

    The label is "technique.arm", and names the run too where that arm is there from several runs.
    """
    key = ["run_id", "technique", "arm"]
    medians = summary[summary["metric"].isin(TABLE)].pivot_table(
        index=key, columns="metric", values="p50", sort=False
    )
    table = counts[[*key, "n", "failed", "quality", "cost_usd"]].merge(
        medians.reset_index(), on=key, how="left"
    )
    about = runs[
        ["run_id", "endpoint", "endpoint_kind", "models", "name", "started_utc", "imported_from"]
    ].copy()
    places = {
        (run.run_id, arm["technique"], arm["arm"]): (first, second)
        for first, run in enumerate(runs[["run_id", "settings"]].itertuples())
        for second, arm in enumerate(run.settings["arms"])
    }
    about["model"] = [
        ", ".join(dict.fromkeys(map(str, models.values()))) for models in about["models"]
    ]
    table = table.merge(about.drop(columns="models"), on="run_id", how="left")
    # The order of the runs and of their own arms: the first baseline is then first, and slate.
    table["place"] = [
        places.get(key, (len(runs), 0)) for key in table[key].itertuples(index=False, name=None)
    ]
    table = table.sort_values("place").reset_index(drop=True)
    label = table["technique"] + "." + table["arm"]
    again = label.duplicated(keep=False)
    run = table["name"].where(table["name"].notna(), table["run_id"].map(short_id))
    table["label"] = label.where(~again, label + " · " + run.astype(str))
    return table.reindex(
        columns=[
            "label",
            "run_id",
            "technique",
            "arm",
            "endpoint",
            "endpoint_kind",
            "model",
            "n",
            "failed",
            *TABLE,
            "cost_usd",
            "quality",
            "started_utc",
            "imported_from",
        ]
    )


def pareto(points: pd.DataFrame, speed: str, cost: str, quality: str) -> pd.Series:
    """True where no other row is at least as good in all three and better in one; what is not known counts for nobody."""
    table = pd.DataFrame({"s": points[speed], "c": points[cost], "q": -points[quality]}).astype(
        float
    )
    table = table.drop(columns=[name for name in table.columns if table[name].isna().all()]).fillna(
        float("inf")
    )
    values = table.to_numpy()
    best = [
        not ((values <= mine).all(axis=1) & (values < mine).any(axis=1)).any() for mine in values
    ]
    return pd.Series(best, index=points.index, dtype=bool)


def scatter_pareto(
    summary: pd.DataFrame,
    dark: bool = False,
    *,
    metric: str = "total_ms",
    label: str = "arm",
    reason: str | None = None,
) -> go.Figure:
    """One point an arm: speed across, cost up, quality as size; ringed where nothing beats it."""
    summary = (
        summary[summary[metric].notna()].reset_index(drop=True)
        if metric in summary.columns
        else summary.iloc[:0]
    )
    if summary.empty:
        return layout.empty("Choose runs that share a metric.", dark, "Speed, cost and quality")
    summary = summary.assign(
        **{
            name: summary.get(name, pd.Series(float("nan"), index=summary.index)).astype(float)
            for name in ("cost_usd", "quality")
        }
    )
    priced = summary["cost_usd"].notna().any()
    up = "cost_usd" if priced else "quality"
    front = pareto(summary, metric, "cost_usd", "quality")
    colours = palette.arm_colours(summary[label], dark)
    y = summary[up].fillna(0)
    figure = go.Figure()
    edge = summary[front].assign(up=y[front]).sort_values(metric)
    if len(edge) > 1:
        line = {"color": palette.theme(dark).zero, "width": 1, "dash": "dot"}
        figure.add_scatter(x=edge[metric], y=edge["up"], mode="lines", line=line, hoverinfo="skip")
    top = float(y.max()) or 1.0
    places = label_places(
        summary[metric] / float(summary[metric].max() or 1), (y / top + 0.1) / 1.4, summary[label]
    )
    for row, arm in summary.iterrows():
        figure.add_scatter(
            x=[arm[metric]],
            y=[y[row]],
            mode="markers+text",
            text=[layout.bold(arm[label], colours[arm[label]]) if places[row] else ""],
            textposition=places[row] or "top right",
            marker={
                "color": palette.fade(colours[arm[label]], 0.9 if front[row] else 0.4),
                "size": 10 + 14 * (arm["quality"] if arm["quality"] == arm["quality"] else 0.3),
                "line": {"width": 2 if front[row] else 0, "color": palette.theme(dark).ink},
            },
            customdata=[[str(arm.get("run_id", "")), str(arm[label])]],
            hovertext=[
                f"{layout.bold(arm[label])}<br>{metrics.words(metric)} {value(metric, arm[metric])}<br>cost {usd(arm['cost_usd'])}, "
                f"quality {percent(arm['quality'])}"
                + ("" if front[row] else "<br>beaten by another arm")
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.update_xaxes(rangemode="tozero", separatethousands=True, nticks=6)
    figure.update_yaxes(
        range=[-0.1 * top, 1.3 * top],
        tickprefix="$" if priced else "",
        tickformat="" if priced else ".0%",
        nticks=5,
    )
    names = list(summary.loc[front, label])
    title = (
        f"Nothing beats {names[0]}"
        if len(names) == 1
        else f"{len(names)} of {len(summary)} arms are on the front"
    )
    n = (
        f" · n = {int(summary['n'].min()):,} or more each"
        if "n" in summary.columns and summary["n"].notna().any()
        else ""
    )
    return layout.finish(
        figure,
        title + ": speed, cost and quality" * (len(names) == 1),
        f"median {metrics.words(metric)}, {metrics.unit(metric)}, against "
        f"{'dollars a trial, size is quality' if priced else 'quality (nothing has a price)'}; "
        f"ringed: nothing beats it{n} · {layout.where(summary)}",
        280,
        dark=dark,
        kind=layout.one_kind(summary),
        reason=reason,
        left=layout.AXIS_PX,
        legend={
            str(arm[label]): colours[arm[label]]
            for row, arm in summary.iterrows()
            if not places[row]
        },
        x_title=f"{metrics.unit(metric)} · left is sooner, {'lower is cheaper' if priced else 'higher is better'}",
    )


WIDTH_PX, HEIGHT_PX, CHARACTER_PX, LINE_PX, GAP_PX = 480, 240, 7.5, 17, 12


def label_places(x: pd.Series, y: pd.Series, labels: pd.Series) -> list[str | None]:
    """Where each point's name stands so that none covers another or a point; None where there is no room, and a key must tell it.

    x and y are shares of the plot, which is taken as wide as on a small window; on a wider one there is more room.
    """
    points = [(a * WIDTH_PX, b * HEIGHT_PX) for a, b in zip(x, y, strict=True)]
    taken = [(a - GAP_PX / 2, b - GAP_PX / 2, a + GAP_PX / 2, b + GAP_PX / 2) for a, b in points]
    places: list[str | None] = []
    for (a, b), label in zip(points, labels, strict=True):
        wide = CHARACTER_PX * len(str(label))
        chosen = None
        for place in ("top right", "top left", "bottom right", "bottom left"):
            left = a + GAP_PX if place.endswith("right") else a - GAP_PX - wide
            low = b + GAP_PX / 2 if place.startswith("top") else b - GAP_PX / 2 - LINE_PX
            box = (left, low, left + wide, low + LINE_PX)
            inside = box[0] >= 0 and box[2] <= WIDTH_PX and box[1] >= -LINE_PX
            if inside and not any(
                box[0] < c[2] and c[0] < box[2] and box[1] < c[3] and c[1] < box[3] for c in taken
            ):
                chosen, taken = place, [*taken, box]
                break
        places.append(chosen)
    return places
