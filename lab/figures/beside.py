"""Speed, cost and quality beside each other; how a router chose; what running together gains."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import palette, sheet
from lab.figures.format import metric_words, number, percent, short_id, times, unit, usd, value

TABLE = ("wait_ms", "ttft_ms", "total_ms", "tokens_per_s", "output_tokens")


def summary_table(summary: pd.DataFrame, counts: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row an arm of a run: label, run, endpoint, model, n, failed, the medians of TABLE, cost and quality; views' columns in.

    The label is "technique.arm", and names the run too where that arm is there from several runs.
    """
    key = ["run_id", "technique", "arm"]
    medians = summary[summary["metric"].isin(TABLE)].pivot_table(index=key, columns="metric", values="p50", sort=False)
    table = counts[[*key, "n", "failed", "quality", "cost_usd"]].merge(medians.reset_index(), on=key, how="left")
    about = runs[["run_id", "endpoint", "endpoint_kind", "models", "name", "started_utc"]].copy()
    places = {
        (run.run_id, arm["technique"], arm["arm"]): (first, second)
        for first, run in enumerate(runs[["run_id", "settings"]].itertuples())
        for second, arm in enumerate(run.settings["arms"])
    }
    about["model"] = [", ".join(dict.fromkeys(map(str, models.values()))) for models in about["models"]]
    table = table.merge(about.drop(columns="models"), on="run_id", how="left")
    # The order of the runs and of their own arms: the first baseline is then first, and slate.
    table["place"] = [places.get(key, (len(runs), 0)) for key in table[key].itertuples(index=False, name=None)]
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
        ]
    )


def pareto(points: pd.DataFrame, speed: str, cost: str, quality: str) -> pd.Series:
    """True where no other row is at least as good in all three and better in one; what is not known counts for nobody."""
    table = pd.DataFrame({"s": points[speed], "c": points[cost], "q": -points[quality]}).astype(float)
    table = table.drop(columns=[name for name in table.columns if table[name].isna().all()]).fillna(float("inf"))
    values = table.to_numpy()
    best = [not ((values <= mine).all(axis=1) & (values < mine).any(axis=1)).any() for mine in values]
    return pd.Series(best, index=points.index, dtype=bool)


def scatter_pareto(
    summary: pd.DataFrame, dark: bool = False, *, metric: str = "total_ms", label: str = "arm", reason: str | None = None
) -> go.Figure:
    """One point an arm: speed across, cost up, quality as size; ringed where nothing beats it."""
    summary = summary[summary[metric].notna()].reset_index(drop=True) if metric in summary.columns else summary.iloc[:0]
    if summary.empty:
        return sheet.empty("Choose runs that share a metric.", dark, "Speed, cost and quality")
    summary = summary.assign(
        **{name: summary.get(name, pd.Series(float("nan"), index=summary.index)).astype(float) for name in ("cost_usd", "quality")}
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
    for row, arm in summary.iterrows():
        right = float(arm[metric]) > 0.6 * float(summary[metric].max())
        figure.add_scatter(
            x=[arm[metric]],
            y=[y[row]],
            mode="markers+text",
            text=[sheet.bold(arm[label], colours[arm[label]])],
            textposition="top left" if right else "top right",
            marker={
                "color": palette.fade(colours[arm[label]], 0.9 if front[row] else 0.4),
                "size": 10 + 14 * (arm["quality"] if arm["quality"] == arm["quality"] else 0.3),
                "line": {"width": 2 if front[row] else 0, "color": palette.theme(dark).ink},
            },
            customdata=[[str(arm.get("run_id", "")), str(arm[label])]],
            hovertext=[
                f"{sheet.bold(arm[label])}<br>{metric_words(metric)} {value(metric, arm[metric])}<br>cost {usd(arm['cost_usd'])}, "
                f"quality {number(arm['quality'])}" + ("" if front[row] else "<br>beaten by another arm")
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.update_xaxes(rangemode="tozero", separatethousands=True, nticks=6)
    top = float(y.max()) or 1.0
    figure.update_yaxes(range=[-0.1 * top, 1.3 * top], tickprefix="$" if priced else "", nticks=5)
    names = list(summary.loc[front, label])
    title = f"Nothing beats {names[0]}" if len(names) == 1 else f"{len(names)} of {len(summary)} arms are on the front"
    n = f" · n = {int(summary['n'].min()):,} or more each" if "n" in summary.columns and summary["n"].notna().any() else ""
    return sheet.finish(
        figure,
        title + ": speed, cost and quality" * (len(names) == 1),
        f"median {metric_words(metric)}, {unit(metric)}, against "
        f"{'dollars a trial, size is quality' if priced else 'quality (nothing has a price)'}; "
        f"ringed: nothing beats it{n} · {sheet.where(summary)}",
        280,
        dark=dark,
        kind=sheet.one_kind(summary),
        reason=reason,
        left=sheet.AXIS_PX,
        x_title=f"{unit(metric)} · left is sooner, {'lower is cheaper' if priced else 'higher is better'}",
    )


def confusion(choices: pd.DataFrame, dark: bool = False, *, reason: str | None = None) -> go.Figure:
    """Where a router sent tasks against their label; `choices` is long: label (easy, hard), chosen (small, large, escalated), n."""
    if choices.empty:
        return sheet.empty("When routed trials have run, their choices stand here.", dark, "Where the router sent each task")
    table = choices.pivot_table(index="label", columns="chosen", values="n", aggfunc="sum", fill_value=0)
    table = table.loc[[name for name in ("easy", "hard") if name in table.index]]
    table = table[[name for name in ("small", "escalated", "large") if name in table.columns]]
    if table.empty:
        return sheet.empty("The tasks of this run carry no difficulty label.", dark, "Where the router sent each task")
    colours = palette.theme(dark)
    right = sum(
        table.at[a, b] for a, b in (("easy", "small"), ("hard", "large"), ("hard", "escalated")) if a in table.index and b in table.columns
    )
    total = int(table.to_numpy().sum())
    shares = table.div(table.sum(axis=1), axis=0)
    figure = go.Figure(
        go.Heatmap(
            z=shares.to_numpy(),
            x=[f"sent to {name}" if name != "escalated" else "escalated" for name in table.columns],
            y=[f"{name} " for name in table.index],
            zmin=0,
            zmax=1,
            colorscale=[[0, palette.fade(colours.phases["tokens"], 0.05)], [1, palette.fade(colours.phases["tokens"], 0.6)]],
            showscale=False,
            xgap=4,
            ygap=4,
            text=[
                [f"{int(n)} · {percent(share)}" for n, share in zip(a, b, strict=True)]
                for a, b in zip(table.values, shares.values, strict=True)
            ],
            texttemplate="%{text}",
            hovertemplate="%{y} %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    return sheet.finish(
        figure,
        f"The router agreed with the label in {int(right)} of {total} tasks",
        f"tasks and share of each difficulty · {sheet.count(total)} · {sheet.where(choices)}",
        60 * len(table),
        dark=dark,
        kind=sheet.one_kind(choices),
        reason=reason,
        left=sheet.AXIS_PX,
    )


def speedup(frame: pd.DataFrame, dark: bool = False, *, reason: str | None = None) -> go.Figure:
    """Speed-up of each arm over the baseline against how many ran at once, beside what the critical path allows.

    Columns: n_at_once, arm, speedup, and where known bound (the speed-up if only the critical path remained).
    """
    if frame.empty:
        return sheet.empty("Run parallelism with several numbers at once: the gain stands here.", dark, "What running together gains")
    colours = palette.theme(dark)
    arms = list(frame["arm"].unique())
    of = palette.arm_colours(["baseline", *arms], dark)
    figure = go.Figure()
    figure.add_hline(y=1, line={"color": colours.zero, "width": 1})
    if "bound" in frame.columns and frame["bound"].notna().any():
        bound = frame.dropna(subset=["bound"]).groupby("n_at_once")["bound"].max()
        figure.add_scatter(
            x=bound.index,
            y=bound,
            mode="lines",
            line={"color": colours.muted, "dash": "dot", "width": 1.5},
            hovertemplate="bound %{y:.2f}×<extra></extra>",
        )
    for arm in arms:
        rows = frame[frame["arm"] == arm].groupby("n_at_once")["speedup"].median()
        figure.add_scatter(
            x=rows.index,
            y=rows,
            mode="lines+markers",
            line={"color": of[arm], "width": 2},
            marker={"size": 9},
            hovertemplate=f"{sheet.safe(arm)}, %{{x}} at once: %{{y:.2f}}×<extra></extra>",
        )
    figure.update_xaxes(rangemode="tozero", dtick=1 if frame["n_at_once"].max() <= 10 else None)
    figure.update_yaxes(rangemode="tozero", ticksuffix="×")
    best = frame.loc[frame["speedup"].idxmax()]
    return sheet.finish(
        figure,
        f"{best['arm']} is {times(best['speedup'])} as fast with {int(best['n_at_once'])} at once",
        f"baseline's total ÷ arm's total, median of blocks; dotted: what the critical path allows · {sheet.where(frame)}",
        220,
        dark=dark,
        kind=sheet.one_kind(frame),
        reason=reason,
        left=sheet.AXIS_PX,
        x_title="at once",
        legend={arm: of[arm] for arm in arms},
    )
