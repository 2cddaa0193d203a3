"""A stored run, read and judged: what console, JSON, Markdown, gates and notebooks tell."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lab import stats, techniques
from lab.harness.plan import BenchmarkConfig
from lab.harness.reporter import RunResult
from lab.instrumentation import bursts
from lab.model import LabError
from lab.store import queries
from lab.store.store import Store

QUANTILES = {"p50": 0.50, "p95": 0.95}
OF_A_STREAM = ("wait_ms", "ttft_ms")
NO_STREAM = "the endpoint's streams came in bursts, so that its first pieces came later than they were written"


def read(reference: str, store: Store | None = None) -> RunResult:
    """A run by id, first digits of it, name, `last`, `last~1` (the one before), or FILE.duckdb (the last run in that file)."""
    if reference.endswith(".duckdb"):
        return _read_file(Path(reference).expanduser())
    store = store or Store()
    with store.snapshot():
        run = queries.run(store, _resolve(store, reference))
        run_id = run["run_id"]
        pairs, counts = queries.pairs(store, run_id), queries.arm_counts(store, run_id)
        summary, trials = queries.arm_summary(store, run_id), queries.trials(store, run_id)
        settings = {**run["settings"], "instrument": instrument(run["sessions"])}
        metric = (settings.get("headline") or {}).get("metric", "wait_ms")
        all_calls = queries.calls(store, run_id)
        calls = all_calls[
            all_calls["trial_id"].isin(queries.median_trials(store, run_id, metric)["trial_id"])
        ]
        held = held_back(queries.text_arrivals(store, run_id))
    several = settings.get("headline") and len(settings.get("arms", ())) > 1
    comparisons = (
        stats.compare_run(pairs, counts, settings["headline"], settings=settings) if several else []
    )
    # What a trial of several calls waited for is told by its spans; the time per token of one answer says nothing about it.
    single = set(trials.loc[trials["calls"] == 1, "trial_id"])
    comparisons = [
        replace(one, parts=_parts(pairs, all_calls, single, one.technique, one.arm))
        for one in comparisons
    ]
    if held:
        comparisons = [
            replace(one, reasons=(NO_STREAM, *one.reasons)) if one.metric in OF_A_STREAM else one
            for one in comparisons
        ]
    price, seconds = _per_block(trials)
    words = [
        stats.verdict(one, seconds_per_block=seconds, usd_per_block=price)
        for one in comparisons
        if one.metric == metric
    ]
    result = RunResult(
        run,
        summary,
        counts,
        trials,
        pairs,
        calls,
        comparisons,
        words,
        [*held, *_notes(run, all_calls)],
    )
    return replace(result, why=why(result))


def instrument(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The instrument of a run is that of its worst session; a run whose sessions were never calibrated has none."""
    known = [
        one["instrument"]
        for one in sessions
        if (one.get("instrument") or {}).get("own_error_p95_ms") is not None
    ]
    return max(known, key=lambda one: one["own_error_p95_ms"], default={})


class Details(NamedTuple):
    """What lies behind a verdict; frames with a row for each arm, in ms."""

    parts: pd.DataFrame
    """technique, arm, connection, wait, tokens, gap, total: mean differences to the baseline; the four sum to the last. n blocks."""
    failures: pd.DataFrame
    """technique, arm, error_kind, n: measured trials that did not end well; a mismatch is a kind of its own."""
    tails: pd.DataFrame
    """technique, arm, percentile, successes, censored (failures counted as at least the deadline), n, failed, client_caused, supported."""
    metric: str
    """Of the tails: the headline's."""


def details(result: RunResult) -> Details:
    """Where the difference comes from, what failed, and what the failures do to the tail."""
    deadline_ms = 1000 * float(
        result.run["settings"]
        .get("config", {})
        .get("deadline_s", BenchmarkConfig.model_fields["deadline_s"].default)
    )
    parts = {
        (one.technique, one.arm): one.parts for one in result.comparisons if one.parts is not None
    }
    rows = [(*arm, *found) for arm, found in parts.items()]
    trials, tails = result.trials, []
    for technique, arm in result.arms():
        own = trials[(trials.technique == technique) & (trials.arm == arm)]
        for name, q in QUANTILES.items():
            found = stats.tail(own, result.headline, q, deadline_ms)
            tails.append((technique, arm, name, *found))
    return Details(
        pd.DataFrame(rows, columns=["technique", "arm", *stats.Parts._fields]),
        stats.failures(trials),
        pd.DataFrame(tails, columns=["technique", "arm", "percentile", *stats.Tail._fields]),
        result.headline,
    )


def percentiles(result: RunResult) -> pd.DataFrame:
    """technique, arm, percentile, estimate, low, high, n: of the headline's metric, the arm's p50 and p95 minus the baseline's.

    No interval before n can carry one. A bootstrap: half a second for 5,000 blocks.
    """
    rows = result.pairs[result.pairs.metric == result.headline]
    found = [
        (*arm, name, *stats.quantile_difference(part, q)[:4])
        for arm, part in rows.groupby(["technique", "arm"], sort=False)
        for name, q in QUANTILES.items()
    ]
    return pd.DataFrame(
        found, columns=["technique", "arm", "percentile", "estimate", "low", "high", "n"]
    )


def why(result: RunResult) -> list[str]:
    """In words: where each arm's difference in total time comes from, what failed by kind, and what that does to the tail."""
    found, lines = details(result), []
    for row in found.parts.itertuples(index=False):
        lines.append(
            f"{result.name(row.technique, row.arm)}: {stats.origin(stats.Parts(*row[2:]))}"
        )
    for technique, arm in result.arms():
        kinds = found.failures[
            (found.failures.technique == technique) & (found.failures.arm == arm)
        ]
        failed = [f"{row.n} {row.error_kind}" for row in kinds.itertuples(index=False)]
        if not failed:
            continue
        line = f"{result.name(technique, arm)} did not end well: {', '.join(failed)}"
        tails = found.tails[
            (found.tails.technique == technique)
            & (found.tails.arm == arm)
            & (found.tails.percentile == "p95")
        ]
        tail = stats.Tail(*tails.iloc[0][list(stats.Tail._fields)])
        lines.append(
            f"{line}; {stats.tail_said(found.metric, 'p95', tail)}"
            if tail.failed and tail.n
            else line
        )
    return lines


def held_back(arrivals: pd.DataFrame) -> list[str]:
    """A sentence for each endpoint whose streams came in bursts; of queries.text_arrivals."""
    sentences = []
    for endpoint, rows in arrivals.groupby("endpoint", sort=False):
        if judged := bursts.judge(streams(rows)):
            sentences.append(
                f"{endpoint} held back the stream of {judged.held} in {judged.told} answers (in one {judged.typical.words}), so that"
                f" its times to the first token and text are too long: {bursts.CAUSE}."
            )
    return sentences


def streams(arrivals: pd.DataFrame) -> list[bursts.Stream]:
    return [
        bursts.stream(
            zip(call["at_ns"], call["characters"], strict=True),
            call["sent_ns"].iloc[0],
            call["lag_ns"].iloc[0],
        )
        for _, call in arrivals.groupby("call_id", sort=False)
    ]


def _parts(
    pairs: pd.DataFrame, calls: pd.DataFrame, single: Collection[str], technique: str, arm: str
) -> stats.Parts | None:
    rows = pairs[
        (pairs.technique == technique)
        & (pairs.arm == arm)
        & pairs.trial_id.isin(single)
        & pairs.baseline_trial_id.isin(single)
    ]
    return None if rows.empty else stats.decompose(rows, stats.connections(calls))


def _read_file(file: Path) -> RunResult:
    """The last run in a file, by way of a store of the lab's own: what the file says of itself is not run."""
    if not file.is_file():
        raise LabError(f"There is no file {file}.")
    with tempfile.TemporaryDirectory(prefix="lab-read-") as folder:
        store = Store(Path(folder) / "lab.duckdb")
        if not store.import_from(file).trials:
            raise LabError(f"{file} has no trial that can be read.")
        return read("last", store)


def _resolve(store: Store, reference: str) -> str:
    word, tilde, back = reference.partition("~")
    if word != "last" or not tilde:
        return queries.resolve(store, reference)
    ids = queries.measured_run_ids(store)
    if not back.isdigit() or int(back) >= len(ids):
        raise LabError(f"There is no run {reference}; {len(ids)} have measured trials.")
    return ids[int(back)]


UNWRITTEN = (
    "This server reports what it reads from its cache and never what it writes: it caches by itself. An arm that is to write is a prompt "
    "that nobody has sent before, which a nonce makes sure of; what its write took, or cost, cannot be told."
)


def _notes(run: dict, calls: pd.DataFrame) -> list[str]:
    """What an endpoint of this kind, and this very one, cannot show, once for each technique of the run."""
    slugs = dict.fromkeys(arm["technique"] for arm in run["settings"].get("arms", []))
    known = [techniques.find(slug) for slug in slugs if techniques.slug_of(slug)]
    notes = [
        technique.notes[run["endpoint_kind"]]
        for technique in known
        if run["endpoint_kind"] in technique.notes
    ]
    about_caching = run["endpoint_kind"] == "live" and any(
        "caching" in technique.needs for technique in known
    )
    if (
        about_caching
        and (calls["cache_read_tokens"] > 0).any()
        and not (calls["cache_write_tokens"] > 0).any()
    ):
        notes.append(UNWRITTEN)
    return list(dict.fromkeys(notes))


def _per_block(trials) -> tuple[float | None, float | None]:
    """Dollars and seconds that one measured block took, for the price of more of them."""
    done = trials[trials.phase == "measured"]
    blocks = len(done.drop_duplicates(["session_id", "block"]))
    if not blocks:
        return None, None
    cost, took = done["cost_usd"].sum(min_count=1), done["total_ms"].sum()
    return None if cost != cost else float(cost) / blocks, float(took) / 1e3 / blocks
