"""A stored run, read and judged: what every reporter, page, requirement and notebook tells."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lab import endpoint_kinds, ladder_results, metrics, stats, techniques, units
from lab.metrics import QUANTILES
from lab.model import LADDER, LOAD, OBSERVED, WATCH, LabError, Technique
from lab.paths import COMMAND
from lab.settings import BenchmarkConfig, Predicted
from lab.stats import Comparison, Finding, VerdictText, bursts, unconfirmed
from lab.stats.verdict import DOUBTFUL, REFUSALS
from lab.store import queries
from lab.store.store import Store
from lab.view_parts import RunData

Arm = tuple[str, str]
"""Technique and arm."""
OF_DETAILS = ("p50", "p95")
OF_A_TRIAL = (
    *("trial_id", "session_id", "technique", "arm", "model", "block", "phase", "outcome"),
    *("error_kind", "superseded", "counts", "lost", "client_caused", "calls"),
    *(*metrics.CLOCKS, "cached_share", "cost_usd", "quality"),
)
"""What is read at once of every trial: what became of it, what it took and cost."""
NO_STREAM = (
    "the endpoint's streams came in bursts, so that its first pieces came later than they were "
    "written"
)
UNWRITTEN = (
    "This server reports what it reads from its cache and never what it writes: it caches by "
    "itself. An arm that is to write is a prompt that nobody has sent before, which a nonce makes "
    "sure of; what its write took, or cost, cannot be told."
)


class MedianPair(NamedTuple):
    """The block whose difference in the headline is nearest to the median: what waterfall, race,
    spans and clocks draw, with all arms that ended well in it."""

    block: int
    task_id: str
    trial_id: str
    baseline_trial_id: str
    value: float
    baseline_value: float

    @property
    def words(self) -> str:
        """ "the median pair: block 7, task tides"."""
        return f"the median pair: block {self.block}, task {self.task_id}"

    @property
    def lead(self) -> str:
        """The same at the beginning of a sentence."""
        return f"T{self.words[1:]}"


class Typical(NamedTuple):
    """See RunResult."""

    pair: MedianPair | None
    trials: pd.DataFrame
    calls: pd.DataFrame


@dataclass(frozen=True, eq=False)
class RunResult:
    """A stored run as its reporters see it. Frames have the views' columns; times are in ms."""

    run: Mapping[str, Any]
    """The row of `runs`, JSON fields as dicts, with `sessions`."""
    summary: pd.DataFrame
    """View arm_summary: a row for each arm and metric."""
    counts: pd.DataFrame
    """View arm_counts: a row for each arm."""
    outcomes: pd.DataFrame
    """View trial_metrics, every trial of the run: OF_A_TRIAL's columns and the headline."""
    losses: pd.DataFrame
    """View pair_losses."""
    database: Path
    """Where its other rows are."""
    headlines: Sequence[Comparison] = ()
    """On the headline metric, and on what an arm's own technique is about; the planned one
    first."""
    compare: Callable[[], Sequence[Comparison]] = tuple
    """What gives `comparisons`."""
    verdicts: Sequence[VerdictText] = ()
    """For each comparison on the headline metric, the planned one first."""
    notes: Sequence[str] = ()
    """What this endpoint cannot show, and what it did to the figures."""
    block_cost: tuple[float | None, float | None] = (None, None)
    """Dollars and seconds that one measured block took."""

    @property
    def run_id(self) -> str:
        return self.run["run_id"]

    @property
    def headline(self) -> str:
        """The metric on which the verdict is planned."""
        return _headline(self.run)

    @property
    def headline_words(self) -> str:
        """ "perceived wait", or "p95 perceived wait" where the verdict is about the tail."""
        tail = (self.run["settings"].get("headline") or {}).get("quantile")
        lead = f"{units.quantile(tail)} " if tail else ""
        return lead + metrics.words(self.headline)

    @property
    def typical(self) -> tuple[str, ...]:
        """The trial_id of each of the typical trials."""
        return tuple(self.typical_trials["trial_id"])

    @property
    def pair(self) -> MedianPair | None:
        """None where nothing is paired; then the typical trials are each arm's own median."""
        return self._typical.pair

    @property
    def typical_trials(self) -> pd.DataFrame:
        """View trial_metrics: each arm's trial in the block of the median pair."""
        return self._typical.trials

    @property
    def typical_calls(self) -> pd.DataFrame:
        """View call_metrics: their calls."""
        return self._typical.calls

    # Read when they are first asked for: a list of runs needs none of them, and what a page shows
    # at first none of the large ones.

    @cached_property
    def comparisons(self) -> Sequence[Comparison]:
        """On every metric that is judged, the planned one first."""
        return self.compare()

    @cached_property
    def _typical(self) -> Typical:
        return _read_typical(Store(self.database), self.run)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """View trial_metrics, every trial of the run; `counts` is true of those that are
        compared."""
        return self.ask("trials", self.run_id)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """View pair_differences."""
        return self.ask("pairs", self.run_id)

    @cached_property
    def calls(self) -> pd.DataFrame:
        """View call_metrics, every call of the run."""
        return self.ask("calls", self.run_id)

    @cached_property
    def why(self) -> list[str]:
        """In words: where the difference in total time comes from, what failed, and what that does
        to the tail."""
        return _why(self)

    @property
    def why_title(self) -> str:
        """What `why` tells: failures alone say nothing of a difference."""
        has_parts = any(comparison.parts is not None for comparison in self.headlines)
        return "Where the difference comes from" if has_parts else "What did not end well"

    def arms(self) -> list[Arm]:
        """In the run's own order, the baseline first; arms that finished nothing are there too."""
        planned = [(arm["technique"], arm["arm"]) for arm in self.run["settings"].get("arms", [])]
        counted = list(self.counts[["technique", "arm"]].itertuples(index=False, name=None))
        return planned + [arm for arm in counted if arm not in planned]

    @property
    def places(self) -> dict[str, int]:
        """The arms by name, in the run's order, each with its place among its technique's: what
        figures colour by."""
        arms = self.arms()
        return dict(zip((self.name(*arm) for arm in arms), techniques.places(arms), strict=True))

    def techniques(self) -> list[Technique]:
        """Those of its arms, each once; one that this lab does not know is left out."""
        slugs = dict.fromkeys(arm["technique"] for arm in self.run["settings"].get("arms", []))
        return [techniques.find(slug) for slug in slugs if techniques.slug_of(slug)]

    def name(self, technique: str, arm: str) -> str:
        """An arm needs its technique's name only where a run mixes techniques."""
        return arm if technique == self.run["technique"] else f"{technique}.{arm}"

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with each arm, and the baseline, as a reader of this run calls it."""
        if frame.empty:
            return frame
        frame = frame.assign(arm=self._names(frame["technique"], frame["arm"]))
        if "baseline" in frame:
            names = self._names(frame["baseline_technique"], frame["baseline"])
            frame = frame.assign(baseline=names)
        return frame

    def _names(self, slugs: pd.Series, arms: pd.Series) -> pd.Series:
        """name() of each row."""
        return arms.where(slugs == self.run["technique"], slugs + "." + arms)

    @staticmethod
    def of_arm(frame: pd.DataFrame, technique: str, arm: str) -> pd.DataFrame:
        return frame[(frame["technique"] == technique) & (frame["arm"] == arm)]

    def comparison(self, metric: str | None = None, arm: Arm | None = None) -> Comparison | None:
        """Of an arm with the baseline on a metric; of the planned arm, on the headline metric,
        where none is named. None where there is none, as for a metric that is not judged."""
        planned = self.run["settings"].get("headline") or {}
        wanted = (*(arm or (planned.get("technique"), planned.get("arm"))), metric or self.headline)

        def is_wanted(one: Comparison) -> bool:
            return (one.technique, one.arm, one.metric) == wanted

        found = next(filter(is_wanted, self.headlines), None)
        if found is None and wanted[2] != self.headline:
            found = next(filter(is_wanted, self.comparisons), None)
        return found

    @property
    def prediction(self) -> str:
        """What a recording predicted of its fix, beside what was measured: "Predicted 1.2 s
        [0.9, 1.6] sooner a call, measured 1.1 s [1.0, 1.3]."; empty where nothing was."""
        try:
            predicted = Predicted(**self.run["settings"]["config"]["predicted"])
        except (KeyError, TypeError, ValueError):
            return ""
        planned, ends = self.comparison(), [(predicted.value, predicted.low, predicted.high)]
        if planned and planned.low is not None and planned.verdict != "fails_more":
            sooner = (-planned.estimate, -planned.high, -planned.low)
            ends.append(tuple(ms / 1000 for ms in sooner))
        most = "at most " if predicted.is_upper_bound else ""
        foreseen, *measured = _in_seconds(*ends)
        text = f"Predicted {most}{foreseen} sooner a call"
        if not measured:
            return f"{text}; nothing was measured to hold it against."
        return f"{text}, measured {measured[0]}."

    @property
    def effect(self) -> float | None:
        """The planned difference, in the headline metric's unit; None where nothing is paired."""
        planned = self.comparison()
        return planned.estimate if planned else None

    def own_headline(self, arm: Arm) -> str:
        """The metric that an arm's technique is about; in a run of one technique the run's."""
        is_known = arm[0] != self.run["technique"] and techniques.slug_of(arm[0])
        return techniques.find(arm[0]).headline if is_known else self.headline

    def each_arm(self) -> dict[Arm, list[tuple[Comparison, VerdictText]]]:
        """What is told of each arm beside the planned comparison: its verdict on its own
        technique's headline, then on the metric chosen for all, where these are two."""
        told: dict[Arm, list[tuple[Comparison, VerdictText]]] = {}
        for arm in self.arms()[1:]:
            asked = dict.fromkeys((self.own_headline(arm), self.headline))
            found = [self.comparison(metric, arm) for metric in asked]
            rest = [comparison for comparison in found if comparison and not comparison.planned]
            told |= {arm: [(each, self.told(each)) for each in rest]} if rest else {}
        return told

    def finding(self, metric: str | None = None, arm: Arm | None = None) -> Finding:
        """What a figure of a metric may say: its title, and why it is greyed."""
        if self.names_no_stack:
            claims_nothing = stats.finding(None, metric or self.headline)
            return claims_nothing._replace(reason=ladder_results.NO_STACK)
        return stats.finding(self.comparison(metric, arm), metric or self.headline)

    @property
    def names_no_stack(self) -> bool:
        """Whether it is a ladder that refuses: then nothing of it claims anything."""
        verdict = self.verdicts[0] if self.verdicts else None
        return bool(verdict) and verdict.reason == ladder_results.NO_STACK

    @property
    def provenance(self) -> str:
        """ "simulated: no model ran · simulated-small · 2026-11-25": what must go with a sentence
        that leaves the lab."""
        run, kind = self.run, endpoint_kinds.kind(self.run["endpoint_kind"])
        own = "" if kind.caveat and run["endpoint"] == kind.name else run["endpoint"]
        models = ", ".join(dict.fromkeys(run["models"].values()))
        date = (units.iso(run["started_utc"]) or "")[:10]
        parts = (kind.caveat, own, models, date, units.origin(run))
        return " · ".join(map(units.short, filter(None, parts)))

    def told(self, comparison: Comparison) -> VerdictText:
        """A comparison in words, more blocks with their price; its Markdown begins with where the
        numbers are from, for it will stand where nobody sees the run."""
        usd, seconds = self.block_cost
        text = stats.verdict(comparison, seconds_per_block=seconds, usd_per_block=usd)
        first = units.in_markdown(f"{self.provenance} · n = {comparison.n}")
        return text._replace(markdown=f"{first}  \n{text.markdown}")

    @property
    def in_short(self) -> str:
        """The verdict for a list of runs: "cached starts 95 % sooner than uncached"; that there are
        doubts is said, not which. Empty where nothing was compared."""
        if not self.verdicts:
            return ""
        verdict = self.verdicts[0]
        is_refused = bool(self.headlines) and self.headlines[0].verdict in REFUSALS
        is_doubtful = verdict.doubts and not is_refused
        return f"{DOUBTFUL if is_doubtful else ''}{verdict.title}"

    def counted(self, technique: str, arm: str) -> dict[str, Any]:
        """The arm's row of `counts`, None where there is no value; empty where it has none."""
        rows = self.of_arm(self.counts, technique, arm).to_dict("records")
        return {name: units.plain(value) for row in rows for name, value in row.items()}

    def metrics(self, technique: str, arm: str) -> dict[str, dict[str, Any]]:
        """Each metric's p50, p95, p99, mean and n, None where there is no value, and how far n
        carries each percentile."""
        measured = {}
        for row in self.of_arm(self.summary, technique, arm).to_dict("records"):
            n = int(units.plain(row["n"]) or 0)
            values = {name: units.plain(row[name]) for name in (*QUANTILES, "mean")}
            supported = {name: metrics.supported(n, q) for name, q in QUANTILES.items()}
            measured[row["metric"]] = {**values, "n": n, "supported": supported}
        return measured

    def failures(self, technique: str, arm: str) -> dict[str, int]:
        """How many measured trials of an arm did not end well, by kind of error."""
        kinds = self.of_arm(stats.failures(self.outcomes), technique, arm)
        return dict(zip(kinds["error_kind"], map(int, kinds["n"]), strict=True))

    @property
    def ladder(self) -> ladder_results.LadderResult | None:
        """None where the run is none, or where what it keeps of itself cannot be read."""
        if self.run["technique"] != LADDER:
            return None
        try:
            return ladder_results.of_run(Store(self.database), self.run)
        except LabError:
            return None

    def ask(self, query: str, *arguments: Any, **named: Any) -> Any:
        """One query of lab.store.queries by name, less its store: ask("spans", run_id=…)."""
        return getattr(queries, query)(Store(self.database), *arguments, **named)


def read(reference: str, store: Store | None = None) -> RunResult:
    """A run by id, first digits of it, name, `last`, `last~1` (the one before), or FILE.duckdb (the
    last run in that file)."""
    if reference.endswith(".duckdb"):
        return _read_file(Path(reference).expanduser())
    store = store or Store()
    with store.snapshot():
        run = queries.run(store, queries.resolve(store, reference))
        if run["technique"] == OBSERVED:
            raise LabError(
                f"{run['name'] or run['run_id']} is a recording of your application, and not a"
                f" measured run. See it with `{COMMAND} show {run['run_id']}`, or on the page Your"
                " app."
            )
        if run["technique"] == LOAD:
            raise LabError(
                f"{run['name'] or run['run_id']} is a load, and has no arms to compare. See it with"
                f" `{COMMAND} show {run['run_id']}`, or on the page Load."
            )
        if run["technique"] == WATCH:
            raise LabError(
                f"{run['name'] or run['run_id']} is a watch: a series in time, and no comparison of"
                f" its two requests. See it with `{COMMAND} watch status --name {run['run_id']}`,"
                " or on the page Watch."
            )
        with store.only(run["run_id"]):
            (result,) = _judged(store, [run])
            # Of the same state of the database, and of the trials that are at hand now.
            vars(result)["_typical"] = _read_typical(store, run)
    return result


def any_data(technique: Technique, reference: str, store: Store | None = None) -> RunData:
    """A stored run, recording or load as a view of a technique reads it, whichever it is of."""
    store = store or Store()
    run = queries.run(store, queries.resolve(store, reference, recorded=True))

    def ask(query: str, *arguments: Any, **named: Any) -> Any:
        return getattr(queries, query)(store, *arguments, **named)

    def unjudged(metric: str | None, arm: Arm | None) -> Finding:
        return stats.finding(None, metric or "")

    return RunData(technique, run, ask, unjudged, control=techniques.control().slug)


def read_each(run_ids: Sequence[str], store: Store | None = None) -> dict[str, RunResult]:
    """By id, runs as a list tells them: read() of each, less what is read when it is first asked
    for."""
    store = store or Store()
    with store.only(*run_ids):
        judged = _judged(store, queries.each_run(store, run_ids))
    return {result.run_id: result for result in judged}


def _judged(store: Store, runs: Sequence[Mapping[str, Any]]) -> list[RunResult]:
    """Within store.only() of the runs, of which each query asks at once: what several short ones
    cost is their planning."""
    ids = [run["run_id"] for run in runs]
    headlines = dict.fromkeys(name for run in runs for name in _known(_headline(run)))
    summaries, counts, losses, paired = (
        _by_run(query(store, ids))
        for query in (
            queries.arm_summary,
            queries.arm_counts,
            queries.losses,
            queries.paired_trials,
        )
    )
    outcomes = _by_run(queries.trials(store, ids, ["run_id", *OF_A_TRIAL, *headlines]))
    connections, reports = queries.connections(store, ids), queries.cache_reports(store, ids)
    served = _by_run(queries.served_reports(store, ids))
    results = []
    for run in runs:
        run_id, columns = run["run_id"], dict.fromkeys([*OF_A_TRIAL, *_known(_headline(run))])
        result = RunResult(
            run=run,
            summary=summaries(run_id),
            counts=counts(run_id),
            outcomes=outcomes(run_id)[[*columns]],
            losses=losses(run_id),
            database=store.path,
        )
        pairs = stats.by_arm(paired(run_id))
        said = reports.get(run_id, {}), served(run_id)
        results.append(_told(store, result, pairs, connections, *said))
    return results


def _by_run(rows: pd.DataFrame) -> Callable[[str], pd.DataFrame]:
    """The rows of one run by its id."""
    parts = dict(iter(rows.groupby("run_id", sort=False)))
    return lambda run_id: parts.get(run_id, rows.iloc[:0]).reset_index(drop=True)


def _told(
    store: Store,
    result: RunResult,
    paired: Mapping[Arm, stats.ArmPairs],
    connections: pd.DataFrame,
    reports: Mapping[str, bool],
    served: pd.DataFrame,
) -> RunResult:
    """With its comparisons and what is said of them."""
    bursts_seen = held_back(queries.text_arrivals(store, result.run_id))
    # Through another endpoint a wait is as long as it is there: what holds back is its finding.
    in_bursts = result.run["endpoint"] in bursts_seen
    compared = partial(_compared, result, paired, connections, in_bursts)
    result = replace(
        result,
        headlines=compared(only_headlines=True),
        compare=compared,
        notes=[*bursts_seen.values(), *_notes(result, reports, served)],
        block_cost=_per_block(result.outcomes),
    )
    verdicts = [result.told(c) for c in result.headlines if c.metric == result.headline]
    if result.run["technique"] == LADDER:
        verdicts = [ladder_results.verdict(store, result.run, verdicts, result.provenance)]
    return replace(result, verdicts=verdicts)


def _read_typical(store: Store, run: Mapping[str, Any]) -> Typical:
    run_id = run["run_id"]
    with store.snapshot():
        pair = queries.median_pair(store, run_id)
        trials = queries.typical_trials(store, run_id, _headline(run), pair)
        calls = queries.calls(store, run_id, tuple(trials["trial_id"]))
    return Typical(_median_pair(pair), trials, calls)


def _headline(run: Mapping[str, Any]) -> str:
    return (run["settings"].get("headline") or {}).get("metric", metrics.CLOCKS[0])


def _known(metric: str) -> list[str]:
    """The metric as a list, which is empty where this lab does not know it."""
    return [metric] * (metric in metrics.METRICS)


def _in_seconds(*intervals: tuple[float, float, float]) -> list[str]:
    """Each as "1.2 s [0.9, 1.6]" or "0.069 s [0.044, 0.087]": two figures of the narrowest one's
    widest end, three decimals at most."""
    widest = [max(map(abs, ends)) for ends in intervals]
    narrowest = min(filter(None, widest), default=1.0)
    decimals = min(max(1 - math.floor(math.log10(narrowest)), 1), 3)
    texts = []
    for ends in intervals:
        value, low, high = (f"{round(end, decimals) + 0.0:,.{decimals}f}" for end in ends)
        texts.append(f"{value} s [{low}, {high}]".replace("-", "−"))
    return texts


def _median_pair(rows: pd.DataFrame) -> MedianPair | None:
    names = MedianPair._fields
    return None if rows.empty else MedianPair(*(units.plain(rows[name].iloc[0]) for name in names))


def _compared(
    result: RunResult,
    paired: Mapping[Arm, stats.ArmPairs],
    connections: pd.DataFrame,
    in_bursts: bool,
    only_headlines: bool = False,
) -> list[Comparison]:
    """Each arm against the baseline, with where the difference comes from."""
    settings = {**result.run["settings"], "instrument": instrument(result.run["sessions"])}
    if not settings.get("headline") or len(settings.get("arms", ())) < 2:
        return []
    arms = result.arms()
    comparisons = stats.compare_run(
        paired,
        result.counts,
        settings["headline"],
        settings=settings,
        losses=result.losses,
        summary=result.summary,
        own={arm: result.own_headline(arm) for arm in arms},
        names={arm: result.name(*arm) for arm in arms},
        only_headlines=only_headlines,
    )
    # What a trial of several calls waited for is told by its spans; the time per token of one
    # answer says nothing about it. Nor does what a mean is made of say anything of a tail.
    of_tail = settings["headline"].get("quantile") is not None
    several = result.outcomes.loc[result.outcomes["calls"] != 1, "trial_id"]
    judged = dict.fromkeys((one.technique, one.arm) for one in comparisons)
    parts_of = {
        arm: None if of_tail else _parts(paired.get(arm), several, connections) for arm in judged
    }
    explained = []
    for comparison in comparisons:
        parts = parts_of[comparison.technique, comparison.arm]
        bursts = (NO_STREAM,) if in_bursts and comparison.metric in metrics.OF_A_STREAM else ()
        told = {
            "doubts": (*bursts, *comparison.doubts),
            "reasons": (*bursts, *comparison.reasons),
        }
        explained.append(replace(comparison, parts=parts, **told))
    return explained


def instrument(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The instrument of a run is that of its worst session; a run whose sessions were never
    calibrated has none."""
    known = [session.get("instrument") or {} for session in sessions]
    known = [calibrated for calibrated in known if calibrated.get("own_error_p95_ms") is not None]
    return max(known, key=lambda calibrated: calibrated["own_error_p95_ms"], default={})


class Details(NamedTuple):
    """What lies behind a verdict; frames with a row for each arm, in ms."""

    parts: pd.DataFrame
    """technique, arm, connection, wait, tokens, gap, total: mean differences to the baseline; the
    four sum to the last. n blocks."""
    failures: pd.DataFrame
    """technique, arm, error_kind, n: measured trials that did not end well; a mismatch is a kind of
    its own."""
    tails: pd.DataFrame
    """technique, arm, percentile, successes, censored (failures counted as at least the deadline),
    n, failed, client_caused, supported."""
    metric: str
    """Of the tails: the headline's."""


def details(result: RunResult) -> Details:
    """Where the difference comes from, what failed, and what the failures do to the tail."""
    default_s = BenchmarkConfig.model_fields["deadline_s"].default
    config = result.run["settings"].get("config", {})
    deadline_ms = 1000 * float(config.get("deadline_s", default_s))
    parts = {
        (comparison.technique, comparison.arm, *comparison.parts): None
        for comparison in result.comparisons
        if comparison.parts is not None
    }
    tails = []
    for arm in result.arms():
        own = result.of_arm(result.outcomes, *arm)
        for name in OF_DETAILS:
            tail = stats.tail(own, result.headline, QUANTILES[name], deadline_ms)
            tails.append((*arm, name, *tail))
    return Details(
        parts=pd.DataFrame(list(parts), columns=["technique", "arm", *stats.Parts._fields]),
        failures=stats.failures(result.outcomes),
        tails=pd.DataFrame(tails, columns=["technique", "arm", "percentile", *stats.Tail._fields]),
        metric=result.headline,
    )


def percentiles(result: RunResult) -> pd.DataFrame:
    """technique, arm, percentile, estimate, low, high, n: of the headline's metric, the arm's p50
    and p95 minus the baseline's.

    No interval before n can carry one. A bootstrap: half a second for 5,000 blocks.
    """
    pairs = result.pairs[result.pairs.metric == result.headline]
    rows = [
        (*arm, name, *stats.quantile_difference(own, QUANTILES[name])[:4])
        for arm, own in pairs.groupby(["technique", "arm"], sort=False)
        for name in OF_DETAILS
    ]
    columns = ["technique", "arm", "percentile", "estimate", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def behind(result: RunResult) -> dict[str, pd.DataFrame]:
    """By its title each table behind a verdict that has a row; dear, as percentiles() is."""
    own, metric = details(result), result.headline
    unit = metrics.unit(metric)
    tables = {
        "Differences to the baseline, described, not judged": stats.differences(result.pairs),
        f"Percentiles of {metric}, the arm's minus the baseline's, {unit}": percentiles(result),
        "Where the difference in total time comes from, ms": own.parts,
        "Measured trials that did not end well": own.failures,
        f"Tails of {metric}: successes, and with failures at the deadline": own.tails,
    }
    return {title: table for title, table in tables.items() if len(table)}


def _why(result: RunResult) -> list[str]:
    own, lines = details(result), []
    for row in own.parts.itertuples(index=False):
        origin = stats.origin(stats.Parts(*row[2:]))
        lines.append(f"{result.name(row.technique, row.arm)}: {origin}")
    for technique, arm in result.arms():
        failures = result.of_arm(own.failures, technique, arm)
        if failures.empty:
            continue
        kinds = ", ".join(f"{row.n} × {row.error_kind}" for row in failures.itertuples())
        line = f"{result.name(technique, arm)} did not end well: {kinds}"
        tails = result.of_arm(own.tails, technique, arm)
        high = tails[tails.percentile == "p95"].iloc[0]
        tail = stats.Tail(*high[list(stats.Tail._fields)])
        if tail.failed and tail.n:
            line += f"; {stats.tail_said(own.metric, 'p95', tail)}"
        lines.append(line)
    return lines


def held_back(arrivals: pd.DataFrame) -> dict[str, str]:
    """By its name a sentence for each endpoint whose streams came in bursts; of
    queries.text_arrivals."""
    sentences = {}
    for endpoint, rows in arrivals.groupby("endpoint", sort=False):
        if judged := bursts.judge(bursts.of_calls(rows)):
            sentences[str(endpoint)] = (
                f"{endpoint} held back the stream of {judged.held} in {judged.told} answers "
                f"{judged.pieces} (in one {judged.typical.words}{judged.left_open}), so that its "
                f"times to the first token and text are too long: {bursts.CAUSE}."
            )
    return sentences


def _parts(
    paired: stats.ArmPairs | None, several: pd.Series, connections: pd.DataFrame
) -> stats.Parts | None:
    """Of the pairs in which neither trial made several calls."""
    if paired is None:
        return None
    trials = paired.trials
    left_out = trials["trial_id"].isin(several) | trials["baseline_trial_id"].isin(several)
    single = trials[~left_out] if left_out.any() else trials
    return stats.decompose(paired._replace(trials=single), connections)


def _read_file(file: Path) -> RunResult:
    """The last run in a file, by way of a store of the lab's own: what the file says of itself is
    not run. The copy lives as long as the result."""
    if not file.is_file():
        raise LabError(f"There is no file {file}.")
    folder = tempfile.mkdtemp(prefix="lab-read-")
    try:
        store = Store(Path(folder) / "lab.duckdb")
        if not store.import_from(file).trials:
            raise LabError(f"{file} has no trial that can be read.")
        result = read("last", store)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
    return result


def _notes(result: RunResult, reports: Mapping[str, bool], served: pd.DataFrame) -> list[str]:
    """What an endpoint of this kind, and this very one, cannot show, once for each technique;
    `reports` are queries.cache_reports of this run."""
    kind = result.run["endpoint_kind"]
    notes = [technique.notes.get(kind, "") for technique in result.techniques()]
    notes.insert(0, endpoint_kinds.kind(kind).note)
    caches_by_itself = reports.get("intended") and reports["read"] and not reports["written"]
    if caches_by_itself and not endpoint_kinds.kind(kind).own_server:
        notes.append(UNWRITTEN)
    notes.append(unconfirmed.sentence(served, endpoint_kinds.kind(kind).own_server) or "")
    return list(dict.fromkeys(filter(None, notes)))


def _per_block(trials: pd.DataFrame) -> tuple[float | None, float | None]:
    """Dollars and seconds that one measured block took, for the price of more of them: trials that
    failed or were repeated took theirs too."""
    measured = trials[trials.phase == "measured"]
    blocks = len(measured.drop_duplicates(["session_id", "block"]))
    if not blocks:
        return None, None
    cost, took_ms = measured["cost_usd"].sum(min_count=1), measured["total_ms"].sum()
    return None if cost != cost else float(cost) / blocks, float(took_ms) / 1e3 / blocks
