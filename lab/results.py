"""A stored run, read and judged: what console, JSON, Markdown, gates and notebooks tell."""

from __future__ import annotations

from pathlib import Path

from lab import stats, techniques
from lab.harness.reporter import RunResult
from lab.model import LabError
from lab.store import queries
from lab.store.store import Store


def read(reference: str, store: Store | None = None) -> RunResult:
    """A run by id, first digits of it, name, `last`, `last~1` (the one before), or FILE.duckdb (the last run in that file)."""
    store, reference = _store_of(reference, store)
    with store.snapshot():
        run = queries.run(store, _resolve(store, reference))
        run_id = run["run_id"]
        pairs, counts = queries.pairs(store, run_id), queries.arm_counts(store, run_id)
        summary, trials = queries.arm_summary(store, run_id), queries.trials(store, run_id)
        settings = run["settings"]
        metric = (settings.get("headline") or {}).get("metric", "wait_ms")
        calls = queries.calls(store, run_id)
        calls = calls[calls["trial_id"].isin(queries.median_trials(store, run_id, metric)["trial_id"])]
    comparisons = stats.compare_run(pairs, counts, settings["headline"], settings=settings) if settings.get("headline") else []
    price, seconds = _per_block(trials)
    words = [stats.verdict(one, seconds_per_block=seconds, usd_per_block=price) for one in comparisons if one.metric == metric]
    return RunResult(run, summary, counts, trials, pairs, calls, comparisons, words, _notes(run))


def _store_of(reference: str, store: Store | None) -> tuple[Store, str]:
    if not reference.endswith(".duckdb"):
        return store or Store(), reference
    if not Path(reference).is_file():
        raise LabError(f"There is no file {reference}.")
    return Store(reference), "last"


def _resolve(store: Store, reference: str) -> str:
    word, tilde, back = reference.partition("~")
    if word != "last" or not tilde:
        return queries.resolve(store, reference)
    ids = queries.runs(store)["run_id"].tolist()
    if not back.isdigit() or int(back) >= len(ids):
        raise LabError(f"There is no run {reference}; {len(ids)} are stored.")
    return ids[int(back)]


def _notes(run: dict) -> list[str]:
    """What an endpoint of this kind cannot show, once for each technique of the run."""
    slugs = dict.fromkeys(arm["technique"] for arm in run["settings"].get("arms", []))
    known = [techniques.find(slug) for slug in slugs if techniques.slug_of(slug)]
    return list(dict.fromkeys(found.notes[run["endpoint_kind"]] for found in known if run["endpoint_kind"] in found.notes))


def _per_block(trials) -> tuple[float | None, float | None]:
    """Dollars and seconds that one measured block took, for the price of more of them."""
    done = trials[trials.phase == "measured"]
    blocks = len(done.drop_duplicates(["session_id", "block"]))
    if not blocks:
        return None, None
    cost, took = done["cost_usd"].sum(min_count=1), done["total_ms"].sum()
    return None if cost != cost else float(cost) / blocks, float(took) / 1e3 / blocks
