"""What each cause that breaks a cache costs: seconds until the first token, and dollars a call."""

from __future__ import annotations

import pandas as pd

from lab import pricing
from lab.model import LabError
from lab.stats import hodges_lehmann
from lab.techniques.caching import breaks
from lab.units import counted, estimated, ms, plain
from lab.view_parts import Column, Note, Part, RunData, Table

METRIC = "ttft_ms"
CALLS = (
    *("trial_id", "arm", "role", "error_kind", "observed_cache", "ttft_ms", "cost_usd"),
    *("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "speed", "service_tier", "inference_geo"),
)
STATES = {"none": "nothing", "write": "written anew", "partial": "read in part", "read": "read"}
COUNTED = (
    "the whole timed call, its answer included; the table of arms adds the request before it. Each"
    " interval is by itself."
)
HOW = (
    "Run it with “Break it” on: a cached request, and what each cause that breaks a cache makes of"
    " it, stand here in seconds and dollars."
)


def view(data: RunData, dark: bool) -> list[Part]:
    """A row a cause, of trials that count."""
    if data.baseline != breaks.UNBROKEN.name:
        return [Note(HOW)]
    calls = data.calls(CALLS)
    counting = calls["trial_id"].isin(data.trials()["trial_id"])
    answers = calls[counting & (calls["role"] == "answer") & calls["error_kind"].isna()]
    usd, priced = _costs(data, answers)
    answers = answers.assign(usd=usd)
    pairs = data.ask("pairs", data.run_id, METRIC)
    table = rows(answers, pairs, data.arms)
    columns = {
        "cause": "what was different before",
        "state": "the cache",
        "ttft_ms": Column("first token, ms, p50", "localized"),
        "later": "later than unbroken [95 %]",
        "usd": Column("cost of the timed call", "$%.6f"),
        "more_usd": Column("dearer by", "$%.6f"),
        "mends": "what mends it",
    }
    return [Table(table, columns), Note(priced), *_not_tried(data), Note(_expired(table))]


def rows(answers: pd.DataFrame, pairs: pd.DataFrame, arms: list[str]) -> pd.DataFrame:
    """Of each arm: cause, state, ttft_ms, later, usd, more_usd, mends. `answers` has a row a call
    with arm, observed_cache, ttft_ms and usd; `pairs` arm and difference, in ms."""
    base = answers[answers["arm"] == breaks.UNBROKEN.name]["usd"].mean()
    found = []
    for arm in arms:
        own = answers[answers["arm"] == arm]
        if own.empty:
            continue
        cause = breaks.BY_ARM.get(arm)
        differences = pairs[pairs["arm"] == arm]["difference"].dropna().to_numpy(float)
        usual = own["observed_cache"].mode()
        found.append(
            {
                "cause": arm,
                "state": STATES.get(usual.iat[0], "") if len(usual) else "",
                "ttft_ms": own["ttft_ms"].median(),
                "later": _later(differences) if cause else "",
                "usd": own["usd"].mean(),
                "more_usd": own["usd"].mean() - base if cause else None,
                "mends": cause.mends if cause else "",
            }
        )
    return pd.DataFrame(found)


def _later(differences) -> str:
    if not len(differences):
        return ""
    interval = hodges_lehmann(differences)
    if interval.low is None:
        return f"{ms(interval.estimate, sign=True)} ({counted(interval.n, 'block')}: no interval)"
    return estimated(METRIC, interval.estimate, interval.low, interval.high)


def _costs(data: RunData, answers: pd.DataFrame) -> tuple[pd.Series, str]:
    """Dollars of each whole call, its answer included: as stored; where the run has none, at the
    price of the model that stands in. And in words."""
    if answers["cost_usd"].notna().any():
        return answers["cost_usd"], f"At the price of its model: {COUNTED}"
    from lab.techniques.caching import break_even  # with its charts, which a terminal seldom needs

    try:
        known = break_even.prices(data)
    except LabError as error:
        return answers["cost_usd"], str(error)
    day = data.run["started_utc"].date()
    calls = [
        {name: plain(value) for name, value in call.items()}
        for call in answers[list(CALLS)].to_dict("records")
    ]
    costs = [
        None
        if call["input_tokens"] is None
        else pricing.cost_usd(known.model, pricing.usage_of(call), day)
        for call in calls
    ]
    return pd.Series(costs, answers.index, float), f"{known.words}: {COUNTED}"


def _not_tried(data: RunData) -> list[Note]:
    """Causes that a quick run, or whoever chose its arms, left out; else those whose arm this
    endpoint cannot play."""
    left = [each.arm for each in breaks.BREAKS if each.arm.name not in data.arms]
    settings = data.run["settings"]
    if left and (settings.get("quick") or settings.get("config", {}).get("arms")):
        run = "a quick run" if settings.get("quick") else "this run"
        return [Note(f"Left out of {run}: {'; '.join(arm.name for arm in left)}.")]
    lacking = [f"{arm.name} (needs {', '.join(arm.needs)})" for arm in left if arm.needs]
    told = [Note(f"Not tried, since {data.run['endpoint']} lacks it: {'; '.join(lacking)}.")]
    return told if lacking else []


def _expired(table: pd.DataFrame) -> str:
    """A pause is not waited for: what it costs follows from a prefix that is written anew."""
    anew = table[table["state"] == STATES["write"]]
    if anew.empty:
        return "A pause longer than the time to live was not tried."
    first = anew.iloc[0]
    return (
        "A pause longer than the time to live was not waited for: it writes the prefix anew, as"
        f" “{first['cause']}” does: {first['later']}. An image added or taken away, a fifth"
        " breakpoint and one more than 20 blocks on were not tried."
    )
