"""What each technique shows of its own mechanism: cache and money, routes, what ran at once, the tax of working as a team."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from lab import pricing, techniques, units
from lab.critical_path import critical_path, waited_for
from lab.endpoints import registry
from lab.figures import palette, stacked
from lab.figures import spans as span_figures
from lab.harness import plan
from lab.model import LabError
from lab.scenarios import definitions
from lab.techniques.agent_topology.findings import coordination as coordination_of
from lab.techniques.caching import figures as cache_figures
from lab.techniques.caching import findings as caching
from lab.techniques.model_routing import findings as routing
from lab.techniques.parallelism import findings as parallel
from pages.parts import cached_queries, chart, tables
from pages.parts.frame import escape
from pages.parts.run_results import arms, headline

MS = st.column_config.NumberColumn
WAITS = {"model": "the model", "tool": "tools", "join": "joins", "own": "own work"}


def _knobs(run: dict[str, Any]) -> Any:
    return plan.knobs_of(techniques.find(run["technique"]), run["settings"]["knobs"])


def _measured(query: str, run: dict[str, Any]) -> pd.DataFrame:
    found = cached_queries.ask(query, run["run_id"])
    return found[found["phase"] == "measured"]


def _typical(run: dict[str, Any]) -> dict[str, pd.Series]:
    """Each arm's median trial, in the run's order of arms."""
    found = cached_queries.ask("median_trials", run["run_id"], headline(run)).set_index(
        "arm", drop=False
    )
    return {arm: found.loc[arm] for arm in arms(run) if arm in found.index}


def _in_order(run: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    place = {arm: at for at, arm in enumerate(arms(run))}
    return table.sort_values("arm", key=lambda names: names.map(place), kind="stable")


def _show(table: pd.DataFrame, key: str, config: dict[str, Any]) -> None:
    """A table without its empty columns: no price or no checker is not a column of nothing."""
    tables.show(table.dropna(axis="columns", how="all"), key, config)


# Prompt caching


def cache(run: dict[str, Any]) -> None:
    """Where the first token stands against what was read from the cache; money by state; from which use on caching pays."""
    points = cached_queries.ask("cache_points", run["run_id"])
    chart.show(cache_figures.cache_hits(points, chart.dark()), key="cache-hits")
    chart.show(cache_figures.cache_tokens(points, chart.dark(), arms=arms(run)), key="cache-tokens")
    states = _in_order(run, caching.cache_states(_measured("calls", run)))
    states["observed_cache"] = states["observed_cache"].map(cache_figures.STATE_WORDS)
    _show(
        states.drop(columns="prompt_tokens"),
        "cache-states",
        {
            "observed_cache": "observed",
            "ttft_ms": MS("first token, ms, p50", format="localized"),
            "read_tokens": MS("tokens read", format="localized"),
            "written_tokens": MS("tokens written", format="localized"),
            "cost_usd": MS("cost per call", format="$%.6f"),
            "as_intended": MS("state as intended", format="percent"),
            "hit_share": MS("read ÷ prompt", format="percent"),
        },
    )
    st.caption(_when_it_pays(run))
    missed = points[points["cache_miss_reason"].notna()]
    if len(missed):
        st.dataframe(
            missed.groupby(["arm", "cache_miss_reason"]).size().rename("calls").reset_index(),
            hide_index=True,
        )


def _when_it_pays(run: dict[str, Any]) -> str:
    """The break-even count at the price of the run's model on its day; where it has none, at that of Claude's default model, said so."""
    if units.missing(run["started_utc"]):
        return "Nobody knows when this run was made, so no price is known for it."
    day, ttl = run["started_utc"].date(), _knobs(run).ttl
    mine = next((model for model in run["models"].values() if pricing.price(model, day)), None)
    model = mine or registry.LIVE_MODELS["large"]
    price = pricing.price(model, day)
    if price is None:
        return "No price is known for this model, so nothing is said about when caching pays."
    uses = caching.break_even_uses(
        price.input, price.write_1h if ttl == "1h" else price.write_5m, price.read
    )
    said = (
        f"with a {ttl} entry, caching costs less from {uses} uses of one prefix on"
        if uses
        else "caching never costs less"
    )
    return (
        f"At the price of {model}, {said}."
        if mine
        else f"These calls have no price. At that of {model}, {said}."
    )


# Model routing


def routes(run: dict[str, Any]) -> None:
    """Where requests were sent, what deciding took, and how often the route agreed with the task's label."""
    trials = _measured("trials", run)
    trials = trials[trials["outcome"] == "ok"]
    spans = cached_queries.ask("spans", None, run["run_id"])
    routed = routing.routes(spans, trials)
    overhead = routing.routing_overhead_ms(_measured("calls", run))
    labels = {task.task_id: task.difficulty for task in _tasks(run) if task.difficulty}
    counted = routing.confusion(routed, labels)
    router = run["settings"]["headline"]["arm"]
    own = counted[counted["arm"] == router]
    left, middle, right = st.columns(3)
    left.metric(
        "Deciding takes, p50",
        units.ms(overhead),
        help="The time of the small model's classifying call; it is inside the total.",
    )
    small = routing.routing_shares(routed).set_index(["arm", "chosen"])["share"]
    middle.metric("Sent to the small model", units.percent(small.get((router, "small"), 0.0)))
    agreed = own.loc[own["agrees"], "n"].sum() / own["n"].sum() if len(own) else None
    right.metric(
        "Agrees with the label",
        units.percent(agreed),
        help="Easy tasks to the small model, hard ones to the large.",
    )
    shares = routing.routing_shares(routed).rename(columns={"chosen": "part", "n": "amount"})
    figure = stacked.stacked(
        shares.assign(endpoint=run["endpoint"], endpoint_kind=run["endpoint_kind"]),
        stacked.tier_colours(chart.dark()),
        chart.dark(),
        title=f"{router} sends {units.percent(small.get((router, 'small'), 0.0))} of its trials to the small model",
        subtitle=f"trials by the model that answered · {run['endpoint']}",
        metric="trials",
        arms=arms(run),
        words={"small": "small model", "large": "large model"},
        notes={arm: f"{units.percent(small.get((arm, 'small'), 0.0))} small" for arm in arms(run)},
    )
    chart.show(figure, key="routes")
    counted = counted[~counted["arm"].str.endswith(" only")]  # these choose nothing
    if len(counted):
        table = counted.pivot_table(
            index=["arm", "label"], columns="chosen", values="n", aggfunc="sum", fill_value=0
        ).reset_index()
        st.dataframe(
            _in_order(run, table),
            hide_index=True,
            key="confusion",
            column_config={"label": "task's label"},
        )
        st.caption(
            "Trials by the task's label and the model that answered. A router sees no label; the oracle arm does."
        )
    _by_arm(trials, run)


def _tasks(run: dict[str, Any]) -> list[definitions.Task]:
    return [
        task
        for category in ("question-answering", "reasoning", "tools", "rag")
        for task in definitions.load(category, run["endpoint_kind"])
    ]


def _by_arm(trials: pd.DataFrame, run: dict[str, Any]) -> None:
    shown = {"n": ("trial_id", "count"), "total_ms": ("total_ms", "median")}
    means = {name: (name, "mean") for name in ("calls", "quality", "cost_usd")}
    table = trials.groupby("arm", sort=False).agg(**shown, **means).reset_index()
    _show(_in_order(run, table), "by-arm", _COLUMNS)


_COLUMNS = {
    "total_ms": MS("total, ms, p50", format="localized"),
    "calls": MS("calls", format="%.1f"),
    "prompt_tokens": MS("prompt tokens", format="localized"),
    "output_tokens": MS("output tokens", format="localized"),
    "quality": MS("quality", format="percent"),
    "cost_usd": MS("cost per trial", format="$%.6f"),
    **{kind: MS(f"{name}, ms", format="localized") for kind, name in WAITS.items()},
}


# Parallelism


def speed_up(run: dict[str, Any]) -> None:
    """The speed-up against n and against the critical path, and what running together costs each single request."""
    lines = []
    for arm, trial in _typical(run).items():
        found = parallel.fan_out(cached_queries.ask("spans", trial["trial_id"]))
        if found:
            lines.append(
                {
                    "arm": arm,
                    **found,
                    "gained": found["sum_ms"] / found["took_ms"],
                    "most": found["sum_ms"] / found["slowest_ms"],
                    "total_ms": trial["total_ms"],
                }
            )
    chart.show(
        stacked.speed_up(_speed_ups(run), chart.dark(), run_id=run["run_id"]), key="speed-up"
    )
    tables.show(
        pd.DataFrame(lines),
        "fan-out",
        {
            **_COLUMNS,
            "n": MS("pieces"),
            "sum_ms": MS("their sum, ms", format="localized"),
            "slowest_ms": MS("the slowest, ms", format="localized"),
            "took_ms": MS("first start to last end, ms", format="localized"),
            "gained": MS("speed-up", format="%.1f×"),
            "most": MS("most possible", format="%.1f×"),
        },
    )
    st.caption(
        "Each arm's median trial: its tools, or its requests where it has no tools. The slowest piece is the critical path."
    )
    each = parallel.per_request(_measured("calls", run))
    st.markdown("**What each single request takes**")
    tables.show(
        _in_order(run, each),
        "per-request",
        {
            "n": MS("requests"),
            "median_ms": MS("median, ms", format="localized"),
            "longest_ms": MS("longest, ms", format="localized"),
        },
    )


def _speed_ups(run: dict[str, Any]) -> pd.DataFrame:
    """The baseline's median total over each arm's, of every stored run of this technique on this kind of endpoint."""
    runs = cached_queries.ask(
        "runs", technique=run["technique"], endpoint_kind=run["endpoint_kind"], limit=200
    )
    medians = cached_queries.ask("arm_summary", tuple(runs["run_id"]))
    totals = medians[medians["metric"] == "total_ms"].set_index(["run_id", "arm"])["p50"]
    found = []
    for line in runs.to_dict("records"):
        base = line["settings"]["baseline"]["arm"]
        for arm in [arm["arm"] for arm in line["settings"]["arms"] if arm["arm"] != base]:
            if (line["run_id"], base) in totals and (line["run_id"], arm) in totals:
                ratio = totals[(line["run_id"], base)] / totals[(line["run_id"], arm)]
                with suppress(LabError):  # knobs of a lab that has others
                    found.append(
                        (
                            line["run_id"],
                            arm,
                            _knobs(line).n,
                            ratio,
                            line["endpoint"],
                            line["endpoint_kind"],
                        )
                    )
    return pd.DataFrame(
        found, columns=["run_id", "arm", "n", "speed_up", "endpoint", "endpoint_kind"]
    )


# Agent topology


def coordination(run: dict[str, Any]) -> None:
    """The coordination tax in plain numbers: what each arm waited for, and the calls, tokens and money it took."""
    waits = {
        arm: waited_for(cached_queries.ask("spans", trial["trial_id"]))
        for arm, trial in _typical(run).items()
    }
    parts = [
        (arm, kind, amount, run["endpoint"], run["endpoint_kind"])
        for arm, kinds in waits.items()
        for kind, amount in kinds.items()
    ]
    means = _in_order(run, coordination_of(_measured("trials", run), _measured("calls", run)))
    figure = stacked.stacked(
        pd.DataFrame(parts, columns=["arm", "part", "amount", "endpoint", "endpoint_kind"]),
        stacked.waits_colours(chart.dark()),
        chart.dark(),
        title=_tax(run, means),
        subtitle=f"ms on the critical path of each arm's median trial, by what it waited for · {run['endpoint']}",
        arms=arms(run),
        words=WAITS,
    )
    chart.show(figure, key="coordination-waits")
    means = means.merge(
        pd.DataFrame(
            [{"arm": arm, **kinds} for arm, kinds in waits.items()], columns=["arm", *WAITS]
        ),
        on="arm",
        how="left",
    )
    _show(means, "coordination", _COLUMNS)
    st.caption(
        "Calls, tokens, quality and cost are means of all trials. The waits are those of the median trial and add up to its total."
    )


def _tax(run: dict[str, Any], means: pd.DataFrame) -> str:
    by_arm = means.set_index("arm")
    base, team = run["settings"]["baseline"]["arm"], run["settings"]["headline"]["arm"]
    if base not in by_arm.index or team not in by_arm.index:
        return "What each arm waited for"
    calls = by_arm.at[team, "calls"] - by_arm.at[base, "calls"]
    tokens = by_arm[["prompt_tokens", "output_tokens"]].sum(axis=1)
    return f"{team} makes {calls:.0f} calls more than {base} and uses {units.times(tokens[team] / tokens[base])} its tokens"


# Spans, for every technique that has them


def span_tree(run: dict[str, Any]) -> None:
    """The spans of an arm's median trial, with its critical path solid."""
    typical = _typical(run)
    if not typical:
        st.info("No trial finished well, so there is no typical one to draw.")
        return
    arm = st.segmented_control(
        "Arm", list(typical), default=list(typical)[-1], required=True, key="span-arm", bind="query-params", format_func=escape,
        label_visibility="collapsed",
    )  # fmt: skip
    spans = cached_queries.ask("spans", typical[arm]["trial_id"])
    colour = palette.arm_colours(arms(run), chart.dark())[arm]
    chart.show(
        span_figures.span_waterfall(
            spans, critical_path(spans), chart.dark(), arm=arm, colour=colour
        ),
        key="spans",
    )
