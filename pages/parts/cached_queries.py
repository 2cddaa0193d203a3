"""What the pages read: each query is one short read, kept until the store's counter moves."""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import pandas as pd
import streamlit as st

from lab import (
    expected,
    ladder_results,
    load_results,
    paths,
    processes,
    recorded_tasks,
    recordings,
    results,
    resume,
)
from lab.harness.reporters import html, load_html
from lab.ladder_results import LadderResult
from lab.load_results import LoadResult
from lab.model import LabError
from lab.recordings import Recording
from lab.results import RunResult
from lab.scenarios.definitions import RECORDING
from lab.settings import BenchmarkConfig, config_of
from lab.store import queries
from lab.store.store import Store
from lab.watch import watched as watches
from lab.watch.watched import Watched

MOST_LISTED = 256
"""Runs in lists that are kept in mind."""


@st.cache_resource(max_entries=256, show_spinner=False)
def _answer(query: str, arguments: tuple, named: tuple, state: tuple) -> Any:
    return getattr(queries, query)(Store(), *arguments, **dict(named))


def ask(query: str, *arguments: Any, **named: Any) -> Any:
    """The answer of one function of lab.store.queries; read again only after something was
    written. It is the asker's own: a frame is copied when it is written to, and not before, since
    it may have a hundred thousand rows."""
    answer = _answer(query, arguments, tuple(sorted(named.items())), _state())
    return answer.copy(deep=False) if isinstance(answer, pd.DataFrame) else deepcopy(answer)


def _state() -> tuple[str, int, str | None]:
    """What an answer depends on: the database, what was written, and which run is alive to write
    more."""
    card = processes.running()
    return str(paths.database()), Store().version(), card.run_id if card else None


@st.cache_resource(max_entries=64, show_spinner=False)  # not copied: nothing of it ever changes
def _judged(run_id: str, state: tuple) -> RunResult:
    return results.read(run_id)


def judged(run_id: str) -> RunResult:
    """A run with its comparisons and their words, as every reporter has them; read again only after
    something of this run was written, since a page asks for it often, while another is measured
    too."""
    return _judged(run_id, _state_of(run_id))


def _state_of(run_id: str) -> tuple:
    """What an answer about this run depends on."""
    database, _, going = state = _state()
    prints = _answer("fingerprints", (), (), state)  # of thousands of runs: not to be copied
    return database, prints.get(run_id), run_id == going


@st.cache_resource(max_entries=1, show_spinner=False)
def _listed() -> dict[str, tuple[tuple, RunResult]]:
    """By run, its state and what was read then."""
    return {}


def listed(run_ids: Iterable[str]) -> dict[str, RunResult]:
    """By id, runs as a list of them tells them; those that were written to since are read again,
    all at once."""
    states = {run: _state_of(run) for run in run_ids}
    kept, never = _listed(), ((), None)
    known = {run: kept.get(run, never) for run in states}
    known = {run: result for run, (state, result) in known.items() if state == states[run]}
    if new := [run for run in states if run not in known]:
        known |= results.read_each(new)
        kept.update((run, (states[run], known[run])) for run in new)
    while len(kept) > MOST_LISTED:
        kept.pop(next(iter(kept)), None)
    return {run: known[run] for run in states}


@st.cache_resource(max_entries=4, show_spinner=False)
def _recording(run_id: str, state: tuple) -> Recording:
    return recordings.read(Store(), run_id)


def recording(run_id: str) -> Recording:
    """A recording, read again only after a call was added to it; what is found in it is worked out
    once, when it is first asked for."""
    return _recording(run_id, _state_of(run_id))


@st.cache_resource(max_entries=8, show_spinner=False)
def _load(run_id: str, state: tuple) -> LoadResult:
    return load_results.read(Store(), run_id)


def load(run_id: str) -> LoadResult:
    """A load, read again only after something of it was written."""
    return _load(run_id, _state_of(run_id))


@st.cache_resource(max_entries=8, show_spinner=False)
def _ladder(run_id: str, state: tuple) -> LadderResult:
    return ladder_results.read(run_id)


def ladder(run_id: str) -> LadderResult:
    """A ladder, read again only after something of it was written."""
    return _ladder(run_id, _state_of(run_id))


@st.cache_resource(max_entries=8, show_spinner=False)
def _watched(run_id: str, state: tuple) -> Watched:
    return watches.read(Store(), run_id)


def watched(run_id: str) -> Watched:
    """A watch, read again only after a probe was added to it."""
    return _watched(run_id, _state_of(run_id))


def all_watches() -> pd.DataFrame:
    """Their rows of `runs`, the newest first."""
    return _all_watches(_state())


@st.cache_resource(max_entries=4, show_spinner=False)
def _all_watches(state: tuple) -> pd.DataFrame:
    return watches.watches(Store())


@st.cache_data(max_entries=64, show_spinner=False)
def _missing(run_id: str, state: tuple) -> int:
    try:
        return len(resume.progress(Store(), run_id).missing)
    except LabError:  # not one that can go on
        return 0


@st.cache_data(max_entries=64, ttl=60, show_spinner=False)
def _quick_estimate_s(technique: str, endpoint: str) -> float:
    return expected.quick_estimate_s(technique, endpoint)


@st.cache_data(max_entries=16, ttl=60, show_spinner=False)
def _quick_s(endpoint: str, techniques: tuple[str, ...], state: tuple) -> Mapping[str, float]:
    return expected.quick_s(Store(), endpoint, techniques, _quick_estimate_s)


def quick_s(endpoint: str, techniques: tuple[str, ...]) -> Mapping[str, float]:
    """How long a quick run of each technique will take on this machine, in seconds."""
    return _quick_s(endpoint, techniques, _state())


@st.cache_data(max_entries=8, show_spinner=False)
def _resolved(config: str, state: tuple) -> BenchmarkConfig:
    return recorded_tasks.resolved(config_of(**json.loads(config)))


def resolved(config: BenchmarkConfig) -> BenchmarkConfig:
    """The config with the recorded calls that it asks, where it asks some: a recording takes a
    while to read."""
    if not (config.scenario or "").startswith(RECORDING):
        return recorded_tasks.resolved(config)
    return _resolved(config.model_dump_json(), _state())


@st.cache_data(max_entries=8, show_spinner=False)
def _told_fix(config: str, state: tuple) -> str:
    return recorded_tasks.told(config_of(**json.loads(config)))


def told_fix(run: Mapping[str, Any]) -> str:
    """What the fix of a replay changed, in words; LabError where its recording is gone."""
    return _told_fix(json.dumps(run["settings"]["config"]), _state())


def missing_blocks(run_id: str) -> int:
    """How many blocks were planned and are not there; 0 where the run cannot go on."""
    return _missing(run_id, _state())


def run_or_none(run_id: str | None) -> dict[str, Any] | None:
    """The row of a run; None where it has none, as before the worker's first write."""
    try:
        return ask("run", run_id) if run_id else None
    except LabError:
        return None


def places(run: dict[str, Any]) -> dict[str, int]:
    """RunResult.places: what figures are given, so that an arm has one colour everywhere."""
    return judged(run["run_id"]).places


def by_arm(run: dict[str, Any], query: str, *arguments: Any, **named: Any) -> pd.DataFrame:
    """ask(query, run_id, …), with each arm named as in places()."""
    return judged(run["run_id"]).named(ask(query, run["run_id"], *arguments, **named))


def report_of(run_id: str) -> str:
    """The run as one HTML file that opens offline."""
    if (load := load_results.named(run_id)) is not None:
        return load_html.page(load)
    return html.page(results.read(run_id))
