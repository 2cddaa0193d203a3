"""How a run goes on: its missing blocks, more blocks, or its settings once more elsewhere.

Command line, pages, Python API and worker all ask here; what is measured then is a further session
of the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lab import endpoint_kinds, processes, techniques, units
from lab.harness import own_text
from lab.harness.budget import COUNTED, stored_usd
from lab.harness.plan import SIDE_BY_SIDE, knobs_of
from lab.harness.runner import Joined
from lab.model import LADDER, LOAD, OBSERVED, WATCH, LabError
from lab.paths import COMMAND
from lab.rows import RunRow
from lab.scenarios.definitions import CATEGORIES, RECORDING
from lab.settings import BenchmarkConfig, config_of
from lab.store import json_shapes, queries
from lab.store.store import Store, as_uuid

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Progress:
    """How far a stored run has come."""

    run: RunRow
    trials: pd.DataFrame
    """block, session_id, attempt, outcome: of the measured ones."""
    complete: frozenset[int]
    """Blocks in which one session measured every arm to its end."""
    planned: int

    @property
    def missing(self) -> set[int]:
        return set(range(1, self.planned + 1)) - self.complete


def progress(store: Store, run_id: str) -> Progress:
    """LabError where there is no such run, or where what is stored of it cannot be read."""
    run_id = as_uuid(run_id)
    rows = store.frame("SELECT * FROM runs WHERE run_id = ?::UUID", [run_id]).to_dict("records")
    if not rows:
        raise LabError(f"There is no run {run_id} to continue.")
    if rows[0]["technique"] == OBSERVED:
        raise LabError(
            f"{run_id} is a recording of your application, so there are no blocks to measure."
            f" Record more of it with `{COMMAND} record`."
        )
    if rows[0]["technique"] == LOAD:
        raise LabError(
            f"{run_id} is a load: there are no blocks to measure. Put it on again: the page Load"
            " has its command line."
        )
    if rows[0]["technique"] == LADDER:
        raise LabError(
            f"{run_id} is a ladder: what its search tried was decided as it went, and cannot be"
            f" gone on with. Climb again with `{COMMAND} ladder`."
        )
    if rows[0]["technique"] == WATCH:
        raise LabError(
            f"{run_id} is a watch: there are no blocks to measure. Go on with it:"
            f" `{COMMAND} watch --name {rows[0]['name']}`."
        )
    run = _run_row(rows[0], run_id)
    trials = store.frame(
        """
        SELECT block, session_id, attempt, outcome
        FROM trials
        WHERE run_id = ?::UUID AND phase = 'measured'
        """,
        [run_id],
    )
    settings, arms = run.settings, len(run.settings["arms"])
    ended = trials[trials["outcome"] != "cancelled"].groupby(["session_id", "block"]).size()
    complete = frozenset(int(block) for (_, block), count in ended.items() if count >= arms)
    # A run that ended on its precision is complete, however many blocks it was allowed.
    to_precision = settings["config"].get("target_half_width_ms") is not None
    precise = to_precision and run.status == "finished"
    planned = max(complete, default=0) if precise else int(settings.get("runs", 0))
    return Progress(run, trials, complete, planned)


def _run_row(row: Mapping[str, Any], run_id: str) -> RunRow:
    settings, started = json_shapes.parsed(row["settings"]), row["started_utc"]
    if (
        not json_shapes.is_sound(settings)
        or row["endpoint_kind"] not in endpoint_kinds.KINDS
        or started != started
    ):
        raise LabError(
            f"Run {run_id} cannot go on: what is stored of its settings or its endpoint cannot be "
            "read. Start a new run."
        )
    unchanged = ("technique", "endpoint", "endpoint_kind", "status", "imported_from")
    return RunRow(
        **{name: row[name] for name in unchanged},
        run_id=run_id,
        models=json_shapes.models(json_shapes.parsed(row["models"])),
        settings=settings,
        seed=int(row["seed"]),
        keep_text=bool(row["keep_text"]),
        started_utc=datetime.fromisoformat(str(started)),
    )


def join(store: Store, config: BenchmarkConfig) -> tuple[BenchmarkConfig, Joined]:
    """The stored run's own settings, and what it has done.

    They ask for its missing blocks; where it is complete, for `config.runs` more.
    """
    stored = progress(store, config.join_run)
    run, settings = stored.run, stored.run.settings
    own, asked = (techniques.slug_of(n) or n for n in (run.technique, config.technique))
    if own not in (asked, SIDE_BY_SIDE):
        raise LabError(f"Run {run.run_id} measures {own}, not {asked}. {_hint(run)}")
    row = {name: getattr(run, name) for name in ("run_id", "settings", "endpoint", "imported_from")}
    chosen = {**repeated(row, config), "join_run": run.run_id, "db": config.db}
    if not stored.missing:
        blocks = stored.planned + config.runs
        names = [arm["arm"] for arm in settings["arms"]]
        if run.technique == SIDE_BY_SIDE:
            names = [f"{arm['technique']}.{arm['arm']}" for arm in settings["arms"]]
        chosen |= {"runs": blocks, "quick": False, "arms": names}
        if own_text.MARK not in settings:
            chosen["knobs"] = settings["knobs"]
        chosen["target_half_width_ms"] = config.target_half_width_ms
        if config.target_half_width_ms is not None:
            chosen["max_runs"] = blocks
    # A budget that is named now holds from here on; else all sessions together keep to the run's.
    spent_usd = 0.0
    if config.max_usd is None:
        spent_usd = _spent_usd(store, run)
    else:
        chosen["max_usd"] = config.max_usd
    return config_of(**chosen), Joined(
        run=run,
        complete=stored.complete,
        begun=stored.trials.groupby("block")["attempt"].max().astype(int).to_dict(),
        spent_usd=spent_usd,
        sessions=len(queries.sessions(store, run.run_id)),
        pairs=_pairs(store, run),
    )


def _spent_usd(store: Store, run: RunRow) -> float:
    calls = store.frame(
        f"SELECT {', '.join(COUNTED)} FROM calls WHERE run_id = ?::UUID", [run.run_id]
    )
    rows = calls.astype(object).where(calls.notna(), None).to_dict("records")
    for row in rows:
        row["iterations"] = json_shapes.iterations(json_shapes.parsed(row["iterations"]))
    return stored_usd(run.endpoint_kind, rows)


def _pairs(store: Store, run: RunRow) -> tuple[tuple[float, float], ...]:
    """Of the planned comparison, by block: a precision is that of all sessions together."""
    headline = run.settings["headline"]
    rows = store.frame(
        """
        SELECT baseline_value, value
        FROM pair_differences
        WHERE run_id = ?::UUID AND metric = ? AND technique = ? AND arm = ?
        """,
        [run.run_id, headline["metric"], headline["technique"], headline["arm"]],
    )
    return tuple(rows.dropna().astype(float).itertuples(index=False, name=None))


def repeated(run: Mapping[str, Any], again: BenchmarkConfig | None = None) -> dict[str, Any]:
    """The config of a stored run, for a repeat on the endpoint that the run shows.

    `run` has run_id, settings, endpoint and imported_from. What another's file may have put there
    is not taken over: no budget, no database, and LabError for a file of tasks to read. The user's
    own words, where the run kept none, are those of `again`, or of the config with which this
    process has started it; LabError where they are not the same.
    """
    settings = run["settings"]
    config = {**settings["config"], "endpoint": run["endpoint"], "db": None}
    if own_text.MARK in settings:
        config |= _words_again(str(run["run_id"]), settings, again)
    if isinstance(run.get("imported_from"), str):  # a missing one may be NaN
        config.pop("max_usd", None)
        scenario = config.get("scenario")
        if scenario not in (None, *CATEGORIES):
            if scenario.startswith(RECORDING):
                raise LabError(
                    "This run was imported, and asked calls of a recording that it names. Name one"
                    f" of your own: --scenario {RECORDING}RUN."
                )
            raise LabError(
                "This run was imported, and its tasks are in a file that it names "
                f"({scenario}). Name the file yourself to measure them: --scenario FILE."
            )
    return config


def _words_again(
    run_id: str, settings: Mapping[str, Any], again: BenchmarkConfig | None
) -> dict[str, Any]:
    """Tasks and knobs of a run that kept only their shape, as the user gives them once more."""
    mixed = settings["config"]["technique"] == SIDE_BY_SIDE
    slugs = {arm["technique"] for arm in settings["arms"]} & set(techniques.slugs())
    for config in filter(None, (again, processes.asked(run_id))):
        knobs = {}
        for slug in slugs:
            technique = techniques.find(slug)
            values = config.knobs.get(slug, {}) if mixed else config.knobs
            knobs[slug] = (technique, knobs_of(technique, values))
        if own_text.mark(run_id, config.own_tasks, knobs) == settings[own_text.MARK]:
            return {"tasks": config.own_tasks, "knobs": config.knobs}
    raise LabError(
        f"Run {run_id} kept no word of your own requests, so it goes on only with the same ones: "
        f"{_given_again(settings, run_id)}."
    )


def _given_again(settings: Mapping[str, Any], run_id: str) -> str:
    slug = settings["config"]["technique"]
    if slug in techniques.slugs() and techniques.find(slug).files:
        return f"{COMMAND} {slug} FILE FILE --more {run_id}"
    return "give them again with join_run, or start a new run"


def more(run: Mapping[str, Any], blocks: int) -> BenchmarkConfig:
    """The run's own settings with this many blocks more; where blocks are missing, those instead.

    The budget is the run's own, of which what it has cost so far is a part.
    """
    changes = {"runs": blocks, "quick": False, "target_half_width_ms": None, "max_usd": None}
    return config_of(**repeated(run) | changes | {"join_run": run["run_id"], "seed": run["seed"]})


def rest(store: Store, reference: str, max_usd: float | None = None) -> BenchmarkConfig:
    """The blocks that were planned and are not there; LabError where none is missing.

    `reference` is an id, its beginning, a name, `last` or `last~1`.
    """
    watched = queries.last_run_id(store, WATCH)
    is_watch = reference == "last" and watched and queries.last_run_id(store) is None
    stored = progress(store, watched if is_watch else queries.resolve(store, reference))
    run = stored.run
    if run.status == "finished" or not stored.missing:
        blocks = units.counted(len(stored.complete), "block")
        raise LabError(f"Run {run.run_id} has all its {blocks}. {_hint(run)}")
    return config_of(technique=run.technique, join_run=run.run_id, max_usd=max_usd)


def _hint(run: RunRow) -> str:
    slug = techniques.slug_of(run.technique)
    if slug is None or techniques.find(slug).files:
        return "For more, press the button beside its verdict."
    return f"For more: {COMMAND} {slug} --more {run.run_id}"


def resolved(config: BenchmarkConfig) -> BenchmarkConfig:
    """With the whole id of the run to join, however the user named it."""
    if config.join_run is None:
        return config
    run_id = queries.resolve(Store(config.db), config.join_run)
    return config.model_copy(update={"join_run": run_id})
