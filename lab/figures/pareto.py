"""Speed, cost and quality beside each other, as far as they are known: a table and a picture."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import counted, percent, short_id, value

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
    arms: layout.Arms | None = None,
    reason: str | None = None,
) -> go.Figure:
    """One point an arm: speed across; cost up and quality as size, or quality up where nothing has
    a price. What nobody knows has no axis and is not spoken of; nothing is claimed, since medians
    beside each other are no comparison. Ringed: no other is as good in all
    and better in one; `reason` greys it. Columns: the metric, the
    label, cost_usd, quality, n, run_id, and endpoint columns."""
    known = summary[metric].notna() if metric in summary.columns else slice(0)
    summary = summary[known].astype({"cost_usd": float, "quality": float})
    others = [name for name in ("cost_usd", "quality") if summary[name].notna().any()]
    if summary.empty or not others:
        why = "no arm has a price or a checked answer" if len(summary) else "no trial ended well"
        words = f"Nothing to draw beside each other: {why}."
        return layout.empty(words, dark, "Speed, cost and quality")
    up, count = others[0], len(summary)
    summary = summary[summary[up].notna()].reset_index(drop=True)
    front = pareto(summary, metric, "cost_usd", "quality")
    colours, figure = layout.arm_colours(arms, summary[label], dark), go.Figure()
    edge = summary[front].sort_values(metric)
    if len(edge) > 1:
        layout.line(figure, edge[metric], edge[up], palette.theme(dark).zero, 1, "dot")
    top = (float(summary[up].max()) or 1.0) if up == "cost_usd" else 1.0
    across = summary[metric] / (float(summary[metric].max()) or 1)
    places = label_places(across, (summary[up] / top + 0.1) / 1.4, summary[label])
    for row, arm in summary.iterrows():
        _point(figure, arm, arm[label], metric, up, front[row], places[row], colours, dark)
    layout.from_zero(figure)
    shares = {"tickvals": [0, 0.5, 1], "ticktext": [percent(share) for share in (0, 0.5, 1)]}
    ticks = {"tickprefix": "$", "nticks": 5} if up == "cost_usd" else shares
    figure.update_yaxes(range=[-0.1 * top, 1.3 * top], **ticks)
    return layout.finish(
        figure,
        _title(metric, others, len(summary)),
        _subtitle(metric, others, summary, count - len(summary)),
        280,
        dark=dark,
        frame=summary,
        reason=reason,
        left=layout.AXIS_PX,
        legend={
            str(name): colours[name]
            for name, place in zip(summary[label], places, strict=True)
            if not place
        },
        x_title=f"{metrics.unit(metric)} · {_better(metric)}, "
        + ("lower is cheaper" if up == "cost_usd" else "higher is better"),
    )


AXES = {"cost_usd": "cost", "quality": "quality"}


def _title(metric: str, others: list[str], count: int) -> str:
    """ "Total time, cost and quality of 3 arms": only of what is there."""
    first, last = [metrics.words(metric).capitalize(), *map(AXES.get, others[:-1])], others[-1]
    return f"{', '.join(first)} and {AXES[last]} of {counted(count, 'arm')}"


def _subtitle(metric: str, others: list[str], summary: pd.DataFrame, left_out: int) -> str:
    up = {"cost_usd": "mean dollars a trial", "quality": "share of checks passed"}
    parts = [f"median {metrics.axis(metric)}, against {up[others[0]]}"]
    if len(others) > 1:
        parts.append("a larger point scores higher")
    if len(summary) > 1:
        parts.append("ringed: none is as good in all and better in one")
    if left_out:
        parts.append(f"{left_out} without {'a price' if others[0] == 'cost_usd' else 'a check'}")
    fewest, most = int(summary["n"].min()), int(summary["n"].max())
    parts.append(layout.count(fewest) + (f" to {most:,}" if most > fewest else ""))
    return " · ".join(parts)


def _point(
    figure: go.Figure,
    arm: pd.Series,
    name: str,
    metric: str,
    up: str,
    front: bool,
    place: str | None,
    colours: dict[str, str],
    dark: bool,
) -> None:
    quality = 0.3 if arm["quality"] != arm["quality"] else arm["quality"]
    told = [f"{metrics.words(metric)} {value(metric, arm[metric])}"]
    told += [
        f"{words} {value(column, arm[column])}"
        for column, words in AXES.items()
        if arm[column] == arm[column]
    ]
    layout.points(
        figure,
        [arm[metric]],
        [arm[up]],
        {
            "color": palette.fade(colours[name], 0.9),
            "size": 10 + (14 * quality if up == "cost_usd" else 4),
            "line": {"width": 2 if front else 0, "color": palette.theme(dark).ink},
        },
        [f"{layout.bold(name)}<br>{'<br>'.join(told)}"],
        [[str(arm["run_id"]), str(name)]],
        mode="markers+text",
        text=[layout.bold(name, colours[name]) if place else ""],
        textposition=place or "top right",
    )


WIDTH_PX, HEIGHT_PX, CHARACTER_PX, LINE_PX, GAP_PX = 300, 240, 7.5, 17, 12


def label_places(x: pd.Series, y: pd.Series, labels: pd.Series) -> list[str | None]:
    """Where each point's name stands so that none covers another or a point; None where there is no
    room, and a key must tell it.

    x and y are shares of the plot, which is taken as wide as in a window of 420 px; in a wider one
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
            inside = left >= 0 and left + wide <= WIDTH_PX and low >= 0
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
