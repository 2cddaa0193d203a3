"""What each cause that breaks a cache costs: seconds until the first token, and dollars a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from lab.model import LabError
from lab.stats import hodges_lehmann
from lab.techniques.caching import breaks
from lab.units import counted, estimated, ms
from lab.view_parts import Column, Note, Part, RunData, Table

if TYPE_CHECKING:
    from lab.techniques.caching.break_even import Prices

METRIC = "ttft_ms"
CALLS = (
    *("trial_id", "arm", "role", "error_kind", "observed_cache", "ttft_ms", "cost_usd"),
    *("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"),
)
STATES = {"none": "nothing", "write": "written anew", "partial": "read in part", "read": "read"}
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
    per_million, priced = _prices(data)
    answers = answers.assign(usd=_usd(answers, per_million))
    pairs = data.ask("pairs", data.run_id, METRIC)
    table = rows(answers, pairs, data.arms)
    columns = {
        "cause": "what was different before",
        "state": "the cache",
        "ttft_ms": Column("first token, ms, p50", "localized"),
        "later": "later than unbroken [95 %]",
        "usd": Column("cost per call", "$%.6f"),
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


def _prices(data: RunData) -> tuple[Prices | None, str]:
    from lab.techniques.caching import break_even  # with its charts, which a terminal seldom needs

    try:
        known = break_even.prices(data)
    except LabError as error:
        return None, str(error)
    return known, f"{known.words}, of what the endpoint counted; each interval by itself."


def _usd(calls: pd.DataFrame, prices: Prices | None) -> pd.Series:
    """Of the prompt alone, which is all that a broken cache changes."""
    if prices is None:
        return calls["cost_usd"]
    parts = {"input_tokens": "input", "cache_read_tokens": "read", "cache_write_tokens": "write"}
    per_token = {name: getattr(prices, price) / 1e6 for name, price in parts.items()}
    return sum(calls[name].fillna(0).astype(float) * usd for name, usd in per_token.items())


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
