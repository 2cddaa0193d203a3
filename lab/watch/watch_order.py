"""What a watch does, and what of it is on disk: a private file beside the user's consents, from
which any later process goes on with it, and the rows in the database."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lab import paths, recorded_tasks, settings, units
from lab.clock import utc_now
from lab.endpoints import registry
from lab.endpoints.registry import Endpoint
from lab.harness.budget import unbounded
from lab.harness.estimate import estimate
from lab.model import WATCH, LabError, new_id
from lab.paths import COMMAND
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.settings import LIVE_MAX_USD, BenchmarkConfig, build, config_of
from lab.store import queries
from lab.store.store import Store
from lab.watch.probe import TECHNIQUE, control_body
from lab.watch.watch_settings import WatchConfig, watch_config_of


@dataclass(frozen=True)
class WatchOrder:
    config: WatchConfig
    run_id: str
    started_utc: datetime
    endpoint: Endpoint
    control: Mapping[str, Any]
    """The control's body, with its model: the same for as long as the watch lives."""
    is_new: bool = True
    checked: int = 0
    """How many of its findings `watch check` has told."""

    @property
    def every(self) -> timedelta:
        return timedelta(minutes=self.config.every_min)

    @property
    def until_utc(self) -> datetime | None:
        days = self.config.days
        return None if days is None else self.started_utc + timedelta(days=days)

    @property
    def usd_a_day(self) -> float | None:
        """None is without a limit, as where nothing is to pay."""
        if not self.endpoint.traits.priced:
            return None
        return LIVE_MAX_USD if self.config.usd_a_day is None else self.config.usd_a_day

    @property
    def looks_a_month(self) -> float:
        return timedelta(days=30) / self.every

    def slot(self, at_utc: datetime) -> int:
        """The number of the instant that was last, from 1; less where the clock was set back."""
        return (at_utc - self.started_utc) // self.every + 1

    def next_slot(self, last: int, at_utc: datetime) -> int:
        """After a probe at the instant `last` (0: none yet); never further away than one interval,
        wherever the clock has been."""
        now = self.slot(at_utc)
        return max(now, min(last, now) + 1)

    def due_utc(self, number: int) -> datetime:
        return self.started_utc + (number - 1) * self.every

    @property
    def benchmark(self) -> BenchmarkConfig:
        """One probe as a run's settings."""
        config = self.config
        knobs = {
            "control": dict(self.control),
            "answer_tokens": config.answer_tokens,
            "stream": config.stream,
        }
        return config_of(
            technique=WATCH,
            name=config.name,
            runs=config.pairs,
            warmup=0,
            endpoint=self.endpoint.name,
            models={"any": config.model} if config.model else {},
            scenario=config.scenario,
            tasks=config.tasks,
            knobs=knobs,
            deadline_s=config.timeout_s,
            keep_text=config.keep_text,
            max_usd=self.usd_a_day,
            db=config.db,
        )

    def cost(self) -> Cost:
        """LabError for a probe that can never be begun."""
        expected = estimate(self.benchmark, self.endpoint, TECHNIQUE)
        pairs = self.config.pairs
        # The warm-up asks the control once more.
        most = (expected.usd or 0.0) * (pairs + 1) / pairs
        if self.usd_a_day is not None and most > self.usd_a_day:
            raise LabError(
                f"One probe may cost up to {units.usd(most)}, more than the"
                f" {units.usd(self.usd_a_day)} a day: name more with --usd-a-day, fewer --pairs or"
                " a smaller max_tokens."
            )
        if expected.refusals:
            raise LabError(" ".join(expected.refusals))
        a_day = timedelta(days=1) / self.every
        words = f"{units.counted(2 * pairs + 1, 'call')} every {units.duration(60 * self.minutes)}"
        if expected.usd is None:
            return Cost(0.0, f"{words}, nothing to pay")
        likely = (expected.likely_usd or 0.0) * a_day
        bound = f"never more than {units.usd(self.usd_a_day)} a day"
        bodies = [task.body or {} for task in self.config.tasks or ()]
        if added := [word for body in bodies for word in unbounded(body)]:
            bound += f" plus what {', '.join(added)} may add"
        return Cost(most, f"{words}, about {units.usd(min(likely, self.usd_a_day))} and {bound}")

    @property
    def minutes(self) -> float:
        return self.config.every_min

    def keep(self) -> None:
        """On disk, readable by the user alone: a later process goes on from here."""
        words = {
            "config": self.config.model_dump(mode="json"),
            "run_id": self.run_id,
            "started_utc": self.started_utc.isoformat(),
            "control": dict(self.control),
            "checked": self.checked,
        }
        file = file_of(self.run_id)
        try:
            paths.write_private(file, words)
        except OSError as error:
            raise LabError(self.no_room(file.parent, error)) from error

    def no_room(self, folder: Path, error: OSError) -> str:
        """In words: a folder that takes no more, and what to do."""
        # The name alone leads to a watch that is on disk; of a new one it would begin another.
        again = (
            "then begin it again with the same settings."
            if self.is_new
            else f"then: {COMMAND} watch --name {shlex.quote(self.config.name)}"
        )
        return f"Cannot write {folder}: {error.strerror}. Make room there; {again}"


@dataclass(frozen=True)
class Cost:
    most_usd: float
    """Of one probe."""
    text: str


def file_of(run_id: str) -> Path:
    return paths.settings() / "watches" / f"{run_id}.json"


def new(config: WatchConfig) -> WatchOrder:
    """Sends nothing. LabError for what cannot be asked; ConsentNeeded where the user has not agreed
    to the address."""
    models = {"any": config.model} if config.model else {}
    values: dict[str, Any] = {"technique": WATCH, "scenario": config.scenario, "models": models}
    resolved = recorded_tasks.resolved(
        config_of(**values, endpoint=config.endpoint, tasks=config.tasks, db=config.db)
    )
    endpoint = registry.find(resolved.endpoint, models)
    tasks = resolved.tasks or definitions.load(resolved.scenario, endpoint.kind)
    own = (tasks[0].body or {}).get("model")
    model = config.control_model or own or endpoint.model_for(None)
    # A built-in task is kept by its scenario; the user's own words are kept here alone.
    is_own = tasks[0].origin != "built-in"
    changes = {"tasks": tasks[:1], "endpoint": endpoint.name, "scenario": None}
    if not is_own:
        changes["keep_text"] = config.keep_text is not False
    return WatchOrder(
        config.model_copy(update=changes),
        new_id(),
        utc_now(),
        endpoint,
        control_body(endpoint, model),
    )


def task_of(body: Mapping[str, Any], name: str, called: str = "This") -> Task:
    """A user's own request; LabError where the body is none, by what the user `called` it."""
    fields = {field: value for field, value in body.items() if field != "name"}
    return build(Task, {"task_id": name, "body": fields}, lambda _: f"{called} is no request")


def named(name: str, db: str | None = None) -> WatchOrder | None:
    """The newest watch of a name (or with this id) that can go on; None where there is none."""
    for order in kept(db):
        if name == order.run_id or (name == order.config.name and not order.is_new):
            return order
    return None


def kept(db: str | None = None) -> list[WatchOrder]:
    """All watches of this user that can go on and whose rows are in the database, the newest
    first."""
    store, orders = Store(db), []
    for file in sorted((paths.settings() / "watches").glob("*.json"), reverse=True):
        if order := _read(file, db):
            orders.append(order)
    known = {run_id for order in orders if (run_id := _known(store, order.run_id))}
    return [replace(order, is_new=order.run_id not in known) for order in orders]


def _known(store: Store, run_id: str) -> str | None:
    try:
        return queries.run(store, run_id)["run_id"]
    except LabError:
        return None


def _read(file: Path, db: str | None) -> WatchOrder | None:
    try:
        words = json.loads(file.read_text())
        config = watch_config_of(**words["config"] | {"db": db})
        models = {"any": config.model} if config.model else {}
        return WatchOrder(
            config,
            words["run_id"],
            datetime.fromisoformat(words["started_utc"]),
            registry.find(config.endpoint, models),
            words["control"],
            is_new=False,
            checked=int(words.get("checked", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError, LabError):
        return None


def forget(run_id: str) -> None:
    file_of(run_id).unlink(missing_ok=True)


def resolve(config: WatchConfig, named_settings: Mapping[str, Any]) -> WatchOrder:
    """The watch of this name as it goes on, else a new one. `named_settings` are those that the
    user named now: LabError where they are not what the watch was begun with."""
    if (old := named(config.name, config.db)) is None:
        return new(config)
    if named_settings.get("scenario") or named_settings.get("tasks"):
        fresh = new(config)
        if fresh.config.tasks != old.config.tasks:
            raise LabError(
                f"The watch {config.name!r} asks another request. Give this one a --name of its own"
                f" or go on without it: {COMMAND} watch --name {config.name}"
            )
    changeable = ("days", "usd_a_day", "on_change", "least_percent")
    fixed = {n: v for n, v in named_settings.items() if n not in (*changeable, "name", "scenario")}
    if "endpoint" in fixed:
        models = {"any": old.config.model} if old.config.model else {}
        fixed["endpoint"] = registry.find(fixed["endpoint"], models).name
    flags = settings.of(WatchConfig)
    for name, value in fixed.items():
        if name in ("tasks", "db"):
            continue
        if getattr(old.config, name) != value:
            raise LabError(
                f"The watch {config.name!r} was begun with another {flags[name].option}. Give this"
                " one a --name of its own, so that each series is of one thing."
            )
    changes = {name: value for name, value in named_settings.items() if name in changeable}
    return replace(old, config=old.config.model_copy(update=changes))
