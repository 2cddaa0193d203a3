"""Every question that pages and the command line ask of a Store; each answer is a frame, and an
unknown run is a LabError.

Ids are str, times UTC. `models`, `settings`, `machine` and `instrument` are dicts here, in the
shape that lab.store.json_shapes gives them. Metric names are those of lab.metrics.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from lab import processes
from lab.metrics import METRICS
from lab.model import LOAD, OBSERVED, UNPAIRED, LabError
from lab.paths import COMMAND
from lab.rows import ROWS
from lab.store import json_shapes
from lab.store.store import Store, as_uuid

SHAPES = {
    "models": json_shapes.models,
    "settings": json_shapes.settings,
    "machine": json_shapes.facts,
    "instrument": json_shapes.facts,
}


# Runs


def runs(
    store: Store,
    *,
    technique: str | None = None,
    endpoint_kind: str | None = None,
    model: str | None = None,
    text: str | None = None,
    limit: int = 1000,
    settings: bool = True,
) -> pd.DataFrame:
    """Runs that the lab measured, newest first, with `trials` (those that count), `failed` (blocks
    in which an arm failed) and `cost_usd` (sum of all: superseded trials, primes and warm-up
    included).

    `text` is looked for in name, note and technique. Without `settings`, which are long, a list of
    a thousand is there in half the time.
    """
    rows = store.frame(
        f"""
        WITH chosen AS (
            SELECT * {"" if settings else "EXCLUDE (settings)"}
            FROM runs
            WHERE NOT list_contains($unpaired, technique)
                AND ($technique IS NULL OR technique = $technique)
                AND ($endpoint_kind IS NULL OR endpoint_kind = $endpoint_kind)
                AND ($model IS NULL OR contains(models::VARCHAR, '"' || $model || '"'))
                AND ($text IS NULL
                    OR contains(lower(concat_ws(' ', technique, name, note)), lower($text)))
            ORDER BY started_utc DESC, run_id DESC
            LIMIT $limit
        ),
        tried AS (
            SELECT
                run_id,
                CASE WHEN phase = 'measured' AND NOT superseded(trials) THEN outcome END AS outcome,
                cost_usd
            FROM trials
            WHERE run_id IN (SELECT run_id FROM chosen)
        )
        SELECT
            chosen.*,
            count(*) FILTER (outcome = 'ok')     AS trials,
            count(*) FILTER (outcome = 'failed') AS failed,
            known(sum(known(cost_usd)))          AS cost_usd
        FROM chosen LEFT JOIN tried ON tried.run_id = chosen.run_id
        GROUP BY ALL
        ORDER BY started_utc DESC, run_id DESC
        """,
        {
            "technique": technique,
            "endpoint_kind": endpoint_kind,
            "model": model,
            "text": text,
            "limit": limit,
            "unpaired": list(UNPAIRED),
        },
    )
    return _parsed(rows, "models", *(["settings"] if settings else []))


def run(store: Store, run_id: str) -> dict[str, Any]:
    """One run as a dict of its columns, with `sessions`: a list of dicts. Raises LabError where
    there is none."""
    return each_run(store, [run_id])[0]


def each_run(store: Store, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """run() of each, in their order."""
    with store.snapshot():
        rows = store.frame(f"SELECT * FROM runs WHERE {_of(run_ids)}")
        rows = _parsed(rows, "models", "settings").set_index("run_id", drop=False)
        if missing := next((run_id for run_id in run_ids if run_id not in rows.index), None):
            raise LabError(f"There is no run {missing}. List the runs with: {COMMAND} runs")
        of_runs = sessions(store, run_ids).groupby("run_id")
        known = {run_id: mine.to_dict("records") for run_id, mine in of_runs}
        return [
            _record(rows.loc[[run_id]]) | {"sessions": known.get(run_id, [])} for run_id in run_ids
        ]


def run_facts(store: Store) -> pd.DataFrame:
    """What runs that the lab measured are told apart by, each once, with `runs`, how many have it:
    technique, endpoint_kind, models."""
    rows = store.frame(
        """
        SELECT technique, endpoint_kind, models, count(*) AS runs
        FROM runs
        WHERE NOT list_contains($unpaired, technique)
        GROUP BY ALL
        ORDER BY ALL
        """,
        {"unpaired": list(UNPAIRED)},
    )
    return _parsed(rows, "models")


def fingerprints(store: Store) -> dict[str, str]:
    """Run id to a text that changes with what is read of that run. A trial is written once, with
    all that belongs to it."""
    rows = store.frame(
        """
        SELECT runs.run_id, concat_ws(' ', hash(runs), sessions.n, trials.n) AS fingerprint
        FROM runs
        LEFT JOIN (SELECT run_id, count(*) AS n FROM sessions GROUP BY run_id) AS sessions
            ON sessions.run_id = runs.run_id
        LEFT JOIN (SELECT run_id, count(*) AS n FROM trials GROUP BY run_id) AS trials
            ON trials.run_id = runs.run_id
        """
    )
    return dict(zip(rows["run_id"], rows["fingerprint"], strict=True)) if len(rows) else {}


def sessions(store: Store, run_id: str | Iterable[str]) -> pd.DataFrame:
    rows = store.frame(f"SELECT * FROM sessions WHERE {_of(run_id)} ORDER BY started_utc")
    return _parsed(rows, "machine", "instrument")


def last_run_id(
    store: Store,
    technique: str | None = None,
    endpoint_kind: str | None = None,
    recorded: bool = False,
) -> str | None:
    """The newest run that has a measured trial, else the newest of all; a recording or a load only
    where `recorded` asks for them too, or `technique` for theirs. None where there is none."""
    rows = store.frame(
        """
        SELECT run_id
        FROM runs
        WHERE CASE
                WHEN $technique IS NULL THEN $recorded OR NOT list_contains($unpaired, technique)
                ELSE technique = $technique
            END
            AND ($kind IS NULL OR endpoint_kind = $kind)
        ORDER BY
            technique = $observed
            OR run_id IN (SELECT run_id FROM trials WHERE phase IN ('measured', 'load')) DESC,
            started_utc DESC,
            run_id DESC
        LIMIT 1
        """,
        {
            "technique": technique,
            "kind": endpoint_kind,
            "recorded": recorded,
            "observed": OBSERVED,
            "unpaired": list(UNPAIRED),
        },
    )
    return None if rows.empty else rows["run_id"].iloc[0]


def measured_run_ids(store: Store, recorded: bool = False) -> list[str]:
    """The runs that have a measured trial, newest first: what `last` and `last~1` count. With
    `recorded` the recordings and the loads among them."""
    rows = store.frame(
        """
        SELECT run_id
        FROM runs
        WHERE CASE
            WHEN list_contains($unpaired, technique) THEN $recorded
            ELSE run_id IN (SELECT run_id FROM trials WHERE phase = 'measured')
        END
        ORDER BY started_utc DESC, run_id DESC
        """,
        {"recorded": recorded, "unpaired": list(UNPAIRED)},
    )
    return rows["run_id"].tolist()


def resolve(store: Store, words: str, recorded: bool = False) -> str:
    """The id that a user meant by `last`, `last~1` (the one before), a name, a whole id or its
    beginning; `recorded` counts recordings and loads among the last. Raises LabError where it is
    none or several."""
    if words == "last":
        if run_id := last_run_id(store, recorded=recorded):
            return run_id
        none = "no run and no recording yet"
        if not recorded and not loads(store, 1).empty:
            none = "only a load here, and no run with arms to compare"
        elif not recorded and not recordings(store, 1).empty:
            none = "only a recording of your app here, and no measured run"
        raise LabError(f"There is {none}. `{COMMAND} --help` says how to start one.")
    if words.startswith("last~"):
        ids, back = measured_run_ids(store, recorded), words.removeprefix("last~")
        if not back.isdecimal() or int(back) >= len(ids):
            what = "runs, loads and recordings" if recorded else "measured runs"
            raise LabError(f"There is no run {words}: there are {len(ids)} {what}.")
        return ids[int(back)]
    ids = store.frame(
        """
        SELECT run_id
        FROM runs
        WHERE starts_with(run_id::VARCHAR, lower($words)) OR name = $words
        """,
        {"words": words},
    )["run_id"].tolist()
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise LabError(f"There is no run {words}. List the runs with: {COMMAND} runs")
    raise LabError(f"{len(ids)} runs begin with {words}. Give more of the id.")


def finds(store: Store) -> pd.DataFrame:
    """For Home: the newest run with measured trials of each technique on each endpoint kind, newest
    first."""
    rows = store.frame(
        """
        SELECT *
        FROM runs
        WHERE technique <> ?
            AND run_id IN (SELECT run_id FROM trials WHERE phase = 'measured' AND outcome = 'ok')
        QUALIFY row_number() OVER (
            PARTITION BY technique, endpoint_kind ORDER BY started_utc DESC, run_id DESC
        ) = 1
        ORDER BY started_utc DESC
        """,
        [OBSERVED],
    )
    return _parsed(rows, "models", "settings")


def quick_runs(store: Store, endpoint: str) -> pd.DataFrame:
    """The quick runs that this lab finished on an endpoint in one go, newest first: technique and
    the seconds that it took."""
    return store.frame(
        """
        SELECT technique, epoch_ms(ended_utc - started_utc) / 1e3 AS seconds
        FROM runs
        WHERE endpoint = $endpoint
            AND status = 'finished'
            AND imported_from IS NULL
            AND TRY(settings ->> '$.quick') = 'true'
            AND ended_utc > started_utc
            AND (SELECT count(*) FROM sessions WHERE sessions.run_id = runs.run_id) = 1
        ORDER BY started_utc DESC, run_id DESC
        LIMIT 50
        """,
        {"endpoint": endpoint},
    )


# What happened in a run


def trials(
    store: Store,
    run_id: str | Iterable[str],
    columns: Iterable[str] = (),
    first: int = 0,
    limit: int | None = None,
) -> pd.DataFrame:
    """All trials of a run, or of several, in the order they began; compared are those that
    `counts`. Of `columns` alone where some are named: a large run is wide too. `limit` of them from
    the one after `first` on, where it is named."""
    chosen = ", ".join(dict.fromkeys(columns)) or "*"
    return store.frame(
        f"""
        SELECT {chosen}
        FROM trial_metrics
        WHERE {_of(run_id)}
        ORDER BY started_utc, trial_id
        LIMIT {"ALL" if limit is None else int(limit)} OFFSET {int(first)}
        """
    )


def has_trials(store: Store, run_id: str) -> bool:
    """Whether one of a run's trials counts."""
    rows = store.frame(
        """
        SELECT 1
        FROM trials
        WHERE run_id = ?::UUID AND phase = 'measured' AND outcome = 'ok'
        LIMIT 1
        """,
        [as_uuid(run_id)],
    )
    return not rows.empty


def calls(
    store: Store,
    run_id: str | None = None,
    trial_id: str | Iterable[str] | None = None,
    columns: Iterable[str] = (),
) -> pd.DataFrame:
    """The calls of a run, or of its trials that are named, in the order they began; of `columns`
    alone where some are named."""
    of_run = "" if run_id is None else f"{_of(run_id)} AND "
    chosen = f"{of_run}{_of(trial_id, 'trial_id')}" if trial_id is not None else _of(run_id)
    wanted = ", ".join(dict.fromkeys(columns)) or "*"
    return store.frame(
        f"SELECT {wanted} FROM call_metrics WHERE {chosen} ORDER BY block, trial_id, started_ms"
    )


def connections(store: Store, run_id: str | Iterable[str]) -> pd.DataFrame:
    """trial_id and connection_ms of each trial whose first answer needed a connection: name
    look-up, TCP and TLS."""
    return store.frame(
        f"""
        SELECT trial_id, arg_min(connection_ms(calls), started_ns) AS connection_ms
        FROM calls
        WHERE {_of(run_id)} AND role = 'answer'
        GROUP BY trial_id
        HAVING connection_ms > 0
        """
    )


def cache_reports(store: Store, run_id: str | Iterable[str]) -> dict[str, dict[str, bool]]:
    """By run, what its calls say of the cache: whether one was meant to use it (`intended`), and
    whether one `read` from it or `written` to it."""
    rows = store.frame(
        f"""
        SELECT
            run_id,
            coalesce(bool_or(intended_cache IN ('write', 'read', 'any')), FALSE) AS intended,
            coalesce(bool_or(cache_read_tokens > 0), FALSE)                      AS read,
            coalesce(bool_or(cache_written(calls) > 0), FALSE)                   AS written
        FROM calls
        WHERE {_of(run_id)}
        GROUP BY run_id
        """
    )
    return rows.set_index("run_id").to_dict("index")


def spans(
    store: Store, trial_id: str | Iterable[str] | None = None, run_id: str | None = None
) -> pd.DataFrame:
    """The spans of one trial, of several or of a run, with `started_ms` and `ended_ms` from their
    trial's start. Of trials whose run is named too they are there at once."""
    chosen = {"trial_id": trial_id, "run_id": run_id}
    where = [_of(ids, f"spans.{key}") for key, ids in chosen.items() if ids is not None]
    return store.frame(
        f"""
        SELECT
            spans.*,
            ms(trial.started_ns, spans.started_ns) AS started_ms,
            ms(trial.started_ns, spans.ended_ns)   AS ended_ms
        FROM spans JOIN trials AS trial USING (trial_id, run_id, session_id)
        WHERE {" AND ".join(where)}
        ORDER BY spans.started_ns, spans.ended_ns DESC
        """
    )


def trial_events(store: Store, trial_id: str | Iterable[str]) -> pd.DataFrame:
    """The arrivals of all calls of one trial or several, with `role` and with `at_ms` from their
    trial's start: what the race replays."""
    return store.frame(
        f"""
        SELECT
            event.*,
            call.trial_id,
            call.role,
            ms(trial.started_ns, event.at_ns) AS at_ms
        FROM events AS event
        JOIN calls AS call ON call.call_id = event.call_id AND call.run_id = event.run_id
        JOIN trials AS trial
            ON  trial.trial_id = call.trial_id
            AND trial.run_id = call.run_id
            AND trial.session_id = call.session_id
        WHERE {_of(trial_id, "call.trial_id")}
        ORDER BY event.at_ns, event.seq
        """
    )


def arm_summary(store: Store, run_id: str | Iterable[str]) -> pd.DataFrame:
    """Long: one row per run, arm and metric, with n, p50, p95, p99, mean, low and high."""
    return store.frame(
        f"SELECT * FROM arm_summary WHERE {_of(run_id)} ORDER BY run_id, technique, arm, metric"
    )


def arm_counts(store: Store, run_id: str | Iterable[str]) -> pd.DataFrame:
    return store.frame(
        f"SELECT * FROM arm_counts WHERE {_of(run_id)} ORDER BY run_id, technique, arm"
    )


def pairs(store: Store, run_id: str | Iterable[str], metric: str | None = None) -> pd.DataFrame:
    """Long: each arm's trial against the baseline's of the same block, one row per metric, in block
    order."""
    rows = f"({_pairs_of(metric)})" if metric else "pair_differences"
    return store.frame(
        f"""
        SELECT *
        FROM {rows}
        WHERE {_of(run_id)}
        ORDER BY run_id, started_utc, block, technique, arm, metric
        """
    )


def paired_trials(store: Store, run_id: str | Iterable[str]) -> pd.DataFrame:
    """Wide: each arm's trial beside the baseline's of the same block, in block order."""
    return store.frame(
        f"""
        SELECT * EXCLUDE (session_id)
        FROM paired_trials
        WHERE {_of(run_id)}
        ORDER BY started_utc, block, technique, arm
        """
    )


def losses(store: Store, run_id: str | Iterable[str]) -> pd.DataFrame:
    """A row for each arm and block in which it or the baseline lost its trial."""
    return store.frame(
        f"SELECT * FROM pair_losses WHERE {_of(run_id)} ORDER BY block, technique, arm"
    )


def typical_trials(
    store: Store, run_id: str, metric: str, pair: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The median pair with the other arms of its block: one block, one task, one clock. Where
    nothing is paired, median_trials(). Rows of trial_metrics. `pair` is median_pair()'s, where it
    has been asked for already."""
    if pair is None:
        pair = median_pair(store, run_id)
    if len(pair):
        return store.frame(
            """
            SELECT *
            FROM trial_metrics
            WHERE counts AND run_id = $run_id::UUID AND session_id = $session_id::UUID
                AND block = $block AND task_id IS NOT DISTINCT FROM $task_id
            ORDER BY technique, arm
            """,
            {
                "run_id": as_uuid(run_id),
                "session_id": as_uuid(pair["session_id"].iloc[0]),
                "block": int(pair["block"].iloc[0]),
                "task_id": pair["task_id"].iloc[0],
            },
        )
    return median_trials(store, run_id, metric)


def median_trials(store: Store, run_id: str, metric: str) -> pd.DataFrame:
    """For each arm its typical trial: of the trials compared, the one nearest to the arm's median;
    ties go to the earlier."""
    name = _metric(metric)
    return store.frame(
        f"""
        WITH near AS (
            SELECT
                trial_id,
                abs({name} - median({name}) OVER (PARTITION BY technique, arm)) AS distance
            FROM compared_trials
            WHERE run_id = ?::UUID AND {name} IS NOT NULL
        )
        SELECT trial.*
        FROM trial_metrics AS trial JOIN near USING (trial_id)
        WHERE trial.run_id = ?::UUID
        QUALIFY row_number() OVER (
            PARTITION BY technique, arm ORDER BY distance, started_utc, trial_id
        ) = 1
        ORDER BY technique, arm
        """,
        [as_uuid(run_id), as_uuid(run_id)],
    )


def median_pair(store: Store, run_id: str) -> pd.DataFrame:
    """The typical block: the row of pair_differences whose difference in the headline is nearest to
    the median (never the best), of the blocks in which most arms ended well. Empty where nothing is
    paired."""
    with store.snapshot():
        planned = store.frame(
            """
            SELECT
                TRY(settings ->> '$.headline.metric')    AS metric,
                TRY(settings ->> '$.headline.arm')       AS arm,
                TRY(settings ->> '$.headline.technique') AS technique
            FROM runs
            WHERE run_id = ?::UUID
            """,
            [as_uuid(run_id)],
        )
        headline = _record(planned) if len(planned) else {}
        metric = headline.get("metric")
        return store.frame(
            f"""
            WITH present AS (
                SELECT session_id, block, task_id, count(*) AS arms
                FROM compared_trials
                WHERE {_of(run_id)}
                GROUP BY ALL
            ),
            near AS (
                SELECT
                    pair.*,
                    present.arms,
                    abs(difference - median(difference) OVER ()) AS distance
                FROM ({_pairs_of(metric if metric in METRICS else next(iter(METRICS)))}) AS pair
                JOIN present
                    ON  present.session_id = pair.session_id
                    AND present.block = pair.block
                    AND present.task_id IS NOT DISTINCT FROM pair.task_id
                WHERE {_of(run_id, "pair.run_id")}
                    AND $metric = pair.metric
                    AND $arm = pair.arm
                    AND ($technique IS NULL OR $technique = pair.technique)
            )
            SELECT * EXCLUDE (arms, distance)
            FROM near
            ORDER BY arms DESC, distance, started_utc
            LIMIT 1
            """,
            {name: headline.get(name) for name in ("metric", "arm", "technique")},
        )


def drift(store: Store, run_id: str, metric: str) -> pd.DataFrame:
    """The baseline over time: block, session_id, minutes since the run began, value. A trend is the
    endpoint's, not the technique's."""
    return store.frame(
        f"""
        SELECT
            trial.trial_id,
            trial.session_id,
            trial.block,
            trial.task_id,
            trial.started_utc,
            (epoch_ms(trial.started_utc) - epoch_ms(runs.started_utc)) / 6e4 AS minutes,
            trial.{_metric(metric)} AS value
        FROM compared_trials AS trial JOIN runs ON runs.run_id = trial.run_id
        WHERE trial.run_id = ?::UUID
            AND is_baseline(runs, trial)
            AND value IS NOT NULL
        ORDER BY trial.started_utc
        """,
        [as_uuid(run_id)],
    )


def served_reports(store: Store, run_id: str | Iterable[str]) -> pd.DataFrame:
    """run_id, asked (JSON), served_model, and whether any such call said its speed, its tier and
    that it thought: of calls that were answered, a judge's left out."""
    return store.frame(
        f"""
        SELECT
            run_id,
            asked::VARCHAR                  AS asked,
            served_model,
            count(speed) > 0                AS says_speed,
            count(service_tier) > 0         AS says_tier,
            coalesce(bool_or(thinking_tokens > 0 OR thinking_started_ns IS NOT NULL), FALSE)
                                            AS thought
        FROM calls
        WHERE {_of(run_id)} AND asked IS NOT NULL AND error_kind IS NULL AND role <> 'check'
        GROUP BY ALL
        ORDER BY ALL
        """
    )


def text_arrivals(store: Store, run_id: str) -> pd.DataFrame:
    """When the text of streamed answers arrived, piece by piece, in 100 of a run's calls: enough to
    tell whether they streamed."""
    return store.frame(
        f"""
        SELECT
            chosen.call_id,
            chosen.endpoint,
            event.at_ns,
            event.characters,
            coalesce(chosen.sent_ns, chosen.started_ns) AS sent_ns,
            coalesce(chosen.loop_lag_ns, 0)             AS lag_ns
        FROM events AS event
        JOIN (
            SELECT *
            FROM calls
            WHERE {_of(run_id)} AND error_kind IS NULL AND first_text_ns IS NOT NULL
                AND role NOT IN ('prime', 'check')
            ORDER BY hash(call_id)
            LIMIT 100
        ) AS chosen USING (call_id, run_id)
        WHERE {_of(run_id, "event.run_id")}
            AND event.kind = 'text_delta'
            AND event.characters > 0
            AND event.at_ns IS NOT NULL
        ORDER BY chosen.call_id, event.seq
        """
    )


# Across runs


def history(
    store: Store,
    metric: str,
    *,
    technique: str | None = None,
    endpoint_kind: str | None = None,
    model: str | None = None,
    latest: int | None = None,
) -> pd.DataFrame:
    """The trend of a metric: per run, arm and model its n, p50 and mean, with `started_utc` and
    `is_baseline`, oldest first; of the `latest` runs alone where a number is named."""
    name, chosen = _metric(metric), {"technique": technique, "endpoint_kind": endpoint_kind}
    if latest is not None:
        with store.snapshot():
            newest = runs(store, **chosen, model=model, limit=latest)["run_id"].tolist()
            with store.only(*newest):
                return history(store, metric, **chosen, model=model)
    return store.frame(
        f"""
        SELECT
            runs.run_id,
            any_value(runs.started_utc)  AS started_utc,
            any_value(runs.name)         AS name,
            any_value(runs.technique)    AS run_technique,
            trial.technique,
            trial.arm,
            trial.model,
            runs.endpoint,
            runs.endpoint_kind,
            count(trial.{name})          AS n,
            median(trial.{name})         AS p50,
            avg(trial.{name})            AS mean,
            any_value(is_baseline(runs, trial)) AS is_baseline
        FROM trial_metrics AS trial JOIN runs ON runs.run_id = trial.run_id
        WHERE trial.counts AND trial.{name} IS NOT NULL
            AND NOT list_contains($unpaired, runs.technique)
            AND ($technique IS NULL OR runs.technique = $technique)
            AND ($kind IS NULL OR runs.endpoint_kind = $kind)
            AND ($model IS NULL OR trial.model = $model)
        GROUP BY
            runs.run_id,
            trial.technique,
            trial.arm,
            trial.model,
            runs.endpoint,
            runs.endpoint_kind
        ORDER BY started_utc, run_id, technique, arm
        """,
        {
            "technique": technique,
            "kind": endpoint_kind,
            "model": model,
            "unpaired": list(UNPAIRED),
        },
    )


def counted_trials(
    store: Store, run_id: str | Iterable[str], columns: Iterable[str] = ()
) -> pd.DataFrame:
    """The trials that count, of one or several runs, with the run's endpoint, kind and model: for
    distributions beside each other. Of `columns` alone where some are named."""
    chosen = ", ".join(dict.fromkeys(columns)) or "*"
    with store.only(*([run_id] if isinstance(run_id, str) else run_id)):
        return store.frame(
            f"""
            SELECT {chosen}
            FROM trial_metrics
            WHERE counts
            ORDER BY run_id, started_utc, trial_id
            """
        )


def setting_differences(store: Store, run_ids: Iterable[str]) -> dict[str, list[str]]:
    """What makes several runs hard to compare: those of machine, endpoint_kind and tasks that have
    more than one value."""
    rows = store.frame(
        f"""
        SELECT
            runs.run_id,
            endpoint_kind,
            (
                SELECT string_agg(DISTINCT host, ', ' ORDER BY host)
                FROM sessions
                WHERE sessions.run_id = runs.run_id
            ) AS machine,
            (
                SELECT string_agg(DISTINCT task_id, ', ' ORDER BY task_id)
                FROM trials
                WHERE trials.run_id = runs.run_id AND phase = 'measured'
            ) AS tasks
        FROM runs
        WHERE {_of(run_ids)}
        """
    )
    different = {
        column: sorted(set(rows[column].dropna()))
        for column in ("machine", "endpoint_kind", "tasks")
    }
    return {column: values for column, values in different.items() if len(values) > 1}


# Tables


def row_counts(store: Store, run_id: str | None = None) -> dict[str, int]:
    """How many rows each table has, in all or of one run."""
    where = "" if run_id is None else f" WHERE {_of(run_id)}"
    counts = ", ".join(f"(SELECT count(*) FROM {table}{where}) AS {table}" for table in ROWS)
    return _record(store.frame(f"SELECT {counts}"))


def first_rows(store: Store, name: str, limit: int) -> pd.DataFrame:
    """Of a table or view, in whatever order they lie."""
    with store.snapshot():
        if columns(store, name).empty:
            raise LabError(f"There is no table or view {name}.")
        return store.frame(f"SELECT * FROM {name} LIMIT {int(limit)}")


def columns(store: Store, name: str) -> pd.DataFrame:
    """The column_name and column_type of a table or view."""
    return store.frame(
        """
        SELECT column_name, data_type AS column_type
        FROM duckdb_columns()
        WHERE table_name = $name AND schema_name = 'main' AND database_name = current_database()
        ORDER BY column_index
        """,
        {"name": name},
    )


# Within


def _of(ids: str | Iterable[str], column: str = "run_id") -> str:
    # Constants rather than a joined list: only they reach through the views to the tables, and
    # through joins only one.
    quoted = ["'" + as_uuid(row_id) + "'" for row_id in ([ids] if isinstance(ids, str) else ids)]
    if len(quoted) == 1:
        return f"{column} = {quoted[0]}::UUID"
    return f"{column} IN ({', '.join(quoted)})" if quoted else "FALSE"


def _metric(name: str) -> str:
    if name not in METRICS:
        raise LabError(f"There is no metric {name}. Choose one of: {', '.join(METRICS)}")
    return name


def _pairs_of(metric: str) -> str:
    """SQL of pair_differences' rows of one metric: of the others no number is looked at."""
    name = _metric(metric)
    return f"""
        SELECT
            run_id, session_id, block, task_id, technique, arm,
            baseline_technique,
            baseline_arm                                  AS baseline,
            '{name}'                                      AS metric,
            {name}                                        AS value,
            baseline_{name}                               AS baseline_value,
            {name} - baseline_{name}                      AS difference,
            known({name} / nullif(baseline_{name}, 0))    AS ratio,
            trial_id,
            baseline_trial_id,
            started_utc
        FROM paired_trials
        WHERE {name} IS NOT NULL AND baseline_{name} IS NOT NULL
        """


def _parsed(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    for column in columns:
        values = [SHAPES[column](json_shapes.parsed(text)) for text in rows[column]]
        rows[column] = pd.Series(values, index=rows.index, dtype=object)
    if "status" in rows and (rows["status"] == "running").any():
        # A process that was killed could not write its end; only the one that measures now is
        # running, and those that record.
        card = processes.running()
        alive = {*processes.recorded_now(), *([card.run_id] if card else ())}
        dead = (rows["status"] == "running") & ~rows["run_id"].isin(alive)
        rows.loc[dead, "status"] = "interrupted"
    return rows


def _record(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        name: None if _is_missing(value) else value
        for name, value in rows.astype(object).iloc[0].items()
    }


def _is_missing(value: Any) -> bool:
    return not isinstance(value, (dict, list)) and pd.isna(value)


# Recordings


def recordings(store: Store, limit: int = 1000) -> pd.DataFrame:
    """Recordings of the user's applications, newest first: the columns of `runs`, `calls`,
    `failed`, `cost_usd`, and `last_utc`, when the last call began."""
    rows = store.frame(
        """
        SELECT
            runs.*,
            count(trials.trial_id)                              AS calls,
            count(*) FILTER (trials.outcome = 'failed')         AS failed,
            known(sum(known(trials.cost_usd)))                  AS cost_usd,
            max(trials.started_utc)                             AS last_utc
        FROM runs LEFT JOIN trials ON trials.run_id = runs.run_id
        WHERE runs.technique = ?
        GROUP BY ALL
        ORDER BY runs.started_utc DESC, runs.run_id DESC
        LIMIT ?
        """,
        [OBSERVED, limit],
    )
    return _parsed(rows, "models", "settings")


def loads(store: Store, limit: int = 1000) -> pd.DataFrame:
    """Loads, newest first, with `levels`, `calls`, `failed` and `cost_usd`."""
    rows = store.frame(
        """
        WITH chosen AS (
            SELECT * FROM runs WHERE technique = ? ORDER BY started_utc DESC, run_id DESC LIMIT ?
        ),
        counted AS (
            SELECT
                run_id,
                count(DISTINCT block)                 AS levels,
                count(*)                              AS calls,
                count(*) FILTER (outcome = 'failed')  AS failed,
                known(sum(known(cost_usd)))           AS cost_usd
            FROM trials
            WHERE phase = 'load' AND run_id IN (SELECT run_id FROM chosen)
            GROUP BY run_id
        )
        SELECT
            chosen.*,
            coalesce(levels, 0) AS levels,
            coalesce(calls, 0)  AS calls,
            coalesce(failed, 0) AS failed,
            cost_usd
        FROM chosen LEFT JOIN counted ON counted.run_id = chosen.run_id
        ORDER BY started_utc DESC, chosen.run_id DESC
        """,
        [LOAD, limit],
    )
    return _parsed(rows, "models", "settings")


def recorded_calls(store: Store, run_id: str) -> pd.DataFrame:
    """Every call of a recording in the order of their starts: the columns of the view call_metrics,
    those of recorded_calls (JSON as text), and `started_ms`, from the session's origin, in place of
    the view's."""
    return store.frame(
        """
        SELECT
            call_metrics.* EXCLUDE (started_ms),
            calls.started_ns / 1e6 AS started_ms,
            recorded.* EXCLUDE (call_id, trial_id, run_id, session_id, body, answer)
        FROM recorded_calls AS recorded
        JOIN calls ON calls.run_id = recorded.run_id AND calls.call_id = recorded.call_id
        JOIN call_metrics
            ON call_metrics.run_id = recorded.run_id AND call_metrics.call_id = recorded.call_id
        WHERE recorded.run_id = ?::UUID
        ORDER BY recorded.session_id, calls.started_ns, call_metrics.call_id
        """,
        [as_uuid(run_id)],
    )


def recorded_tools(store: Store, run_id: str) -> pd.DataFrame:
    """What ran for an answer's tool calls, where the source knew: call_id (of the call that asked
    for it), name, started_ms, ended_ms from the session's origin."""
    return store.frame(
        """
        SELECT
            calls.call_id,
            spans.name,
            spans.started_ns / 1e6 AS started_ms,
            spans.ended_ns / 1e6   AS ended_ms
        FROM spans
        JOIN calls ON calls.run_id = spans.run_id AND calls.trial_id = spans.trial_id
        JOIN runs ON runs.run_id = spans.run_id AND runs.technique = $observed
        WHERE spans.run_id = $run::UUID AND spans.kind = 'tool'
        ORDER BY spans.started_ns
        """,
        {"run": as_uuid(run_id), "observed": OBSERVED},
    )


def recorded_pieces(store: Store, run_id: str) -> dict[str, str]:
    """By its hash, the pieces of each distinct block of a recording."""
    rows = store.frame(
        "SELECT hash, any_value(pieces) AS pieces FROM recorded_blocks WHERE run_id = ?::UUID"
        " GROUP BY hash",
        [as_uuid(run_id)],
    )
    return dict(zip(rows["hash"], rows["pieces"], strict=True)) if len(rows) else {}


def recorded_bodies(store: Store, run_id: str, call_ids: Iterable[str]) -> dict[str, dict]:
    """By call_id, the request bodies of a recording that keeps text."""
    rows = store.frame(
        """
        SELECT call_id, body
        FROM recorded_calls
        WHERE run_id = $run::UUID AND body IS NOT NULL
            AND call_id IN (SELECT unnest($calls)::UUID)
        """,
        {"run": as_uuid(run_id), "calls": list(call_ids)},
    )
    return {row.call_id: json.loads(row.body) for row in rows.itertuples()}


def newest_recorded(store: Store, run_id: str, limit: int) -> tuple[int, pd.DataFrame]:
    """How many calls a recording has so far, and the newest of them, the newest first."""
    count = store.frame(
        "SELECT count(*) AS n FROM trials WHERE run_id = ?::UUID", [as_uuid(run_id)]
    )
    rows = store.frame(
        """
        SELECT calls.*, trials.started_utc
        FROM call_metrics AS calls
        JOIN trials ON trials.run_id = calls.run_id AND trials.trial_id = calls.trial_id
        WHERE calls.run_id = ?::UUID
        ORDER BY trials.block DESC
        LIMIT ?
        """,
        [as_uuid(run_id), limit],
    )
    return int(count["n"].iloc[0]), rows


def replayable(store: Store, run_id: str) -> pd.DataFrame:
    """Calls of a recording in the order of their starts that ended well and whose whole body was
    kept: call_id, number (among all calls, from 1), output_tokens, betas."""
    return store.frame(
        """
        WITH numbered AS (
            SELECT
                recorded.call_id,
                row_number() OVER (
                    ORDER BY recorded.session_id, calls.started_ns, recorded.call_id
                )                                                AS number,
                calls.output_tokens,
                recorded.settings ->> '$.beta_header'            AS betas,
                recorded.body IS NOT NULL
                    AND recorded.settings ->> '$.whole' = 'true'
                    AND calls.error_kind IS NULL                 AS can_be_replayed
            FROM recorded_calls AS recorded
            JOIN calls ON calls.run_id = recorded.run_id AND calls.call_id = recorded.call_id
            WHERE recorded.run_id = ?::UUID
        )
        SELECT * EXCLUDE (can_be_replayed) FROM numbered WHERE can_be_replayed ORDER BY number
        """,
        [as_uuid(run_id)],
    )


def runs_of_recording(store: Store, run_id: str, technique: str) -> list[str]:
    """The ids of a technique's runs that asked calls of this recording, newest first."""
    rows = store.frame(
        """
        SELECT run_id
        FROM runs
        WHERE starts_with(settings ->> '$.config.scenario', 'recording:' || ?) AND technique = ?
        ORDER BY started_utc DESC, run_id DESC
        """,
        [as_uuid(run_id), technique],
    )
    return rows["run_id"].tolist()


def runs_of_trials(store: Store, trial_ids: Iterable[str]) -> dict[str, str]:
    """By trial_id, the run that has it; without those that no run has."""
    rows = store.frame(
        "SELECT trial_id, run_id FROM trials WHERE trial_id IN (SELECT unnest($ids)::UUID)",
        {"ids": list(trial_ids)},
    )
    return dict(zip(rows["trial_id"], rows["run_id"], strict=True)) if len(rows) else {}


def last_block(store: Store, run_id: str) -> int:
    """The highest block of a run; 0 where it has none."""
    rows = store.frame(
        "SELECT coalesce(max(block), 0) AS block FROM trials WHERE run_id = ?::UUID",
        [as_uuid(run_id)],
    )
    return int(rows["block"].iloc[0]) if len(rows) else 0


def recording(store: Store, run_id: str) -> dict[str, Any] | None:
    """The row of `runs` with this id; None where there is none."""
    rows = store.frame("SELECT * FROM runs WHERE run_id = ?::UUID", [as_uuid(run_id)])
    return None if rows.empty else _record(_parsed(rows, "models", "settings"))
