"""Speed, cost and quality beside each other: a table, and the front that nothing beats."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import percent, short_id, usd, value

COLUMNS = (
    *("label", "run_id", "technique", "arm", "endpoint", "endpoint_kind", "model", "n", "failed"),
    *metrics.TABLE,
    *("cost_usd", "quality", "started_utc", "imported_from"),
)


def summary_table(summary: pd.DataFrame, counts: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row an arm of a run, with COLUMNS: the medians of metrics.TABLE among them. In go the
    columns of arm_summary, arm_counts and runs.

    The label is "technique.arm", and names the run too where that arm is there from several runs.
    """
    key = ["run_id", "technique", "arm"]
    medians = summary[summary["metric"].isin(metrics.TABLE)].pivot_table(
        index=key, columns="metric", values="p50", sort=False
    )
    table = counts[[*key, "n", "failed", "quality", "cost_usd"]].merge(
        medians.reset_index(), on=key, how="left"
    )
    about = ["run_id", "endpoint", "endpoint_kind", "name", "started_utc", "imported_from"]
    models = [", ".join(dict.fromkeys(map(str, models.values()))) for models in runs["models"]]
    table = table.merge(runs[about].assign(model=models), on="run_id", how="left")
    # The order of the runs and of their own arms: the first baseline is then first, and slate.
    places = {
        (run.run_id, arm["technique"], arm["arm"]): (first, second)
        for first, run in enumerate(runs[["run_id", "settings"]].itertuples())
        for second, arm in enumerate(run.settings["arms"])
    }
    arms = table[key].itertuples(index=False, name=None)
    table["place"] = [places.get(arm, (len(runs), 0)) for arm in arms]
    table = table.sort_values("place").reset_index(drop=True)
    label = table["technique"] + "." + table["arm"]
    again = label.duplicated(keep=False)
    run = table["name"].where(table["name"].notna(), table["run_id"].map(short_id))
    table["label"] = label.where(~again, label + " · " + run.astype(str))
    return table.reindex(columns=list(COLUMNS))


def pareto(points: pd.DataFrame, speed: str, cost: str, quality: str) -> pd.Series:
    """True where no other row is at least as good in all three and better in one; what is not known
    counts for nobody."""
    table = pd.DataFrame({"s": points[speed], "c": points[cost], "q": -points[quality]})
    table = table.astype(float)
    if metrics.find(speed).higher_is_better:
        table["s"] *= -1
    values = table.dropna(axis="columns", how="all").fillna(float("inf")).to_numpy()
    best = [
        not ((values <= mine).all(axis=1) & (values < mine).any(axis=1)).any() for mine in values
    ]
    return pd.Series(best, index=points.index, dtype=bool)


def _better(metric: str) -> str:
    known = metrics.find(metric)
    return f"right is {known.more}" if known.higher_is_better else f"left is {known.less}"


def scatter_pareto(
    summary: pd.DataFrame,
    dark: bool = False,
    *,
    metric: str = "total_ms",
    label: str = "arm",
) -> go.Figure:
    """One point an arm: speed across, cost up, quality as size; ringed where nothing beats it.
    Columns: the metric, the label, cost_usd, quality, n, run_id, and endpoint columns."""
    known = summary[metric].notna() if metric in summary.columns else slice(0)
    summary = summary[known].reset_index(drop=True)
    if summary.empty:
        return layout.empty("Choose runs that share a metric.", dark, "Speed, cost and quality")
    summary = summary.astype({"cost_usd": float, "quality": float})
    priced = summary["cost_usd"].notna().any()
    y = summary["cost_usd" if priced else "quality"].fillna(0)
    front = pareto(summary, metric, "cost_usd", "quality")
    colours, figure = palette.arm_colours(summary[label], dark), go.Figure()
    edge = summary[front].assign(up=y[front]).sort_values(metric)
    if len(edge) > 1:
        layout.line(figure, edge[metric], edge["up"], palette.theme(dark).zero, 1, "dot")
    top = float(y.max()) or 1.0
    across = summary[metric] / float(summary[metric].max() or 1)
    places = label_places(across, (y / top + 0.1) / 1.4, summary[label])
    for row, arm in summary.iterrows():
        _point(figure, arm, arm[label], metric, y[row], front[row], places[row], colours, dark)
    layout.from_zero(figure)
    ticks = {"tickprefix": "$" if priced else "", "tickformat": "" if priced else ".0%"}
    figure.update_yaxes(range=[-0.1 * top, 1.3 * top], nticks=5, **ticks)
    names, unit = list(summary.loc[front, label]), metrics.unit(metric)
    title = f"{len(names)} of {len(summary)} arms are on the front"
    if len(names) == 1:
        title = f"Nothing beats {names[0]}: speed, cost and quality"
    up = "lower is cheaper" if priced else "higher is better"
    against = "dollars a trial, size is quality" if priced else "quality (nothing has a price)"
    n = layout.count(int(summary["n"].min()))
    return layout.finish(
        figure,
        title,
        f"median {metrics.words(metric)}, {unit}, against {against}; ringed: nothing beats it · {n}"
        " or more each",
        280,
        dark=dark,
        frame=summary,
        left=layout.AXIS_PX,
        legend={
            str(name): colours[name]
            for name, place in zip(summary[label], places, strict=True)
            if not place
        },
        x_title=f"{unit} · {_better(metric)}, {up}",
    )


def _point(
    figure: go.Figure,
    arm: pd.Series,
    name: str,
    metric: str,
    y: float,
    front: bool,
    place: str | None,
    colours: dict[str, str],
    dark: bool,
) -> None:
    quality = 0.3 if arm["quality"] != arm["quality"] else arm["quality"]
    hover = (
        f"{layout.bold(name)}<br>{metrics.words(metric)} {value(metric, arm[metric])}<br>"
        f"cost {usd(arm['cost_usd'])}, quality {percent(arm['quality'])}"
    )
    layout.points(
        figure,
        [arm[metric]],
        [y],
        {
            "color": palette.fade(colours[name], 0.9 if front else 0.4),
            "size": 10 + 14 * quality,
            "line": {"width": 2 if front else 0, "color": palette.theme(dark).ink},
        },
        [hover if front else f"{hover}<br>beaten by another arm"],
        [[str(arm["run_id"]), str(name)]],
        mode="markers+text",
        text=[layout.bold(name, colours[name]) if place else ""],
        textposition=place or "top right",
    )


WIDTH_PX, HEIGHT_PX, CHARACTER_PX, LINE_PX, GAP_PX = 480, 240, 7.5, 17, 12


def label_places(x: pd.Series, y: pd.Series, labels: pd.Series) -> list[str | None]:
    """Where each point's name stands so that none covers another or a point; None where there is no
    room, and a key must tell it.

    x and y are shares of the plot, which is taken as wide as on a small window; on a wider one
    there is more room.
    """
    centres = [(a * WIDTH_PX, b * HEIGHT_PX) for a, b in zip(x, y, strict=True)]
    half = GAP_PX / 2
    taken = [(a - half, b - half, a + half, b + half) for a, b in centres]
    places: list[str | None] = []
    for (a, b), label in zip(centres, labels, strict=True):
        wide = CHARACTER_PX * len(str(label))
        for place in ("top right", "top left", "bottom right", "bottom left"):
            left = a + GAP_PX if place.endswith("right") else a - GAP_PX - wide
            low = b + half if place.startswith("top") else b - half - LINE_PX
            box = (left, low, left + wide, low + LINE_PX)
            inside = left >= 0 and left + wide <= WIDTH_PX and low >= -LINE_PX
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                places.append(place)
                break
        else:
            places.append(None)
    return places


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Boxes are (left, low, right, high)."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
