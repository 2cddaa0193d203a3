"""Calls of a recording as the tasks of a run: what `recording:RUN` means as a scenario, for every
technique, and for the one that replays them with a fix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from pydantic import ValidationError

from lab import endpoint_kinds, recordings, techniques
from lab.endpoints import own_server, registry
from lab.endpoints.registry import Endpoint
from lab.model import OBSERVED, LabError, sentence
from lab.recording import fixes
from lab.recording.facts import Estimate, Miss
from lab.recordings import Recording
from lab.scenarios.definitions import RECORDING, Task
from lab.settings import BenchmarkConfig, Predicted, config_of
from lab.store import queries
from lab.store.store import Store

if TYPE_CHECKING:
    from lab.load.load_settings import LoadConfig

MOST_CALLS = 20
"""Of a recording in one run, where the user names none: spread over all of them."""
BLOCKS = 10
ID_CHARACTERS = 36
NO_TEXT = (
    "This recording kept no text, so it cannot be replayed. Record again with --keep-text (in code:"
    " keep_text=True)."
)
NO_CALL = "no call ended well with its whole request kept."


class Pair(NamedTuple):
    call: str
    before: str | None = None
    """The call that is sent before it."""

    def __str__(self) -> str:
        return f"{self.call}@{self.before}" if self.before else self.call


def scenario(run_id: str, pairs: Sequence[Pair]) -> str:
    """ "recording:RUN:CALL@BEFORE,…", by whole ids: what a stored run keeps of its tasks."""
    return f"{RECORDING}{run_id}:{','.join(map(str, pairs))}"


def resolved(config: BenchmarkConfig, store: Store | None = None) -> BenchmarkConfig:
    """The config with its tasks, and with what goes without saying: the recording's own endpoint
    and model, the fix that is proposed. One that asks no recording is as it was.

    Sends nothing. LabError where the recording kept no text, or a fix does not apply to its calls.
    """
    technique = techniques.slug_of(config.technique)
    replays = bool(technique) and techniques.find(technique).of_recordings
    if not (config.scenario or "").startswith(RECORDING):
        if replays:
            raise LabError(f"Name the recording whose calls are asked: --scenario {RECORDING}RUN")
        return config
    if config.tasks:
        return config
    store = store or Store(config.db)
    reference, _, words = config.scenario.removeprefix(RECORDING).partition(":")
    run = replayable(store, reference)
    calls = Calls(store, run)
    named = [calls.pair(word) for word in words.split(",") if word]
    changes: dict[str, Any] = {}
    if not replays:
        pairs = named or [Pair(call) for call in spread(calls.ids)]
    elif named and _fix(config.knobs) and any(pair.before for pair in named):
        pairs = named
    else:
        choice = chosen(recordings.read(store, run["run_id"]), calls, named, config.knobs)
        pairs = choice.pairs
        changes["knobs"] = {**config.knobs, "fix": choice.fix}
        changes["predicted"] = config.predicted or choice.predicted
    endpoint = endpoint_of(config, run)
    # One name for every tier was named by the user, or is what all recorded calls asked.
    named_models = set(config.models.values())
    tasks = calls.tasks(pairs, endpoint, named_models.pop() if len(named_models) == 1 else None)
    changes |= {"endpoint": endpoint.name, "tasks": tasks}
    models = {task.body.get("model") for task in tasks}
    if replays and len(models) == 1 and None not in models:
        changes["models"] = {"any": models.pop()}
    return config.model_copy(update=changes | {"scenario": scenario(run["run_id"], pairs)})


def bodies(config: BenchmarkConfig, store: Store | None = None) -> list[dict[str, Any]]:
    """As they were recorded, of the calls that a resolved config asks."""
    run_id, _, words = config.scenario.removeprefix(RECORDING).partition(":")
    calls = [word.partition("@")[0] for word in words.split(",")]
    return list(queries.recorded_bodies(store or Store(config.db), run_id, calls).values())


def proof(
    recording: Recording,
    fix: str,
    call_ids: Sequence[str],
    predicted: Estimate | None,
    is_upper_bound: bool = False,
) -> BenchmarkConfig:
    """The run that proves a fix on calls of a recording; `predicted` in seconds a call. It is not
    resolved yet, which is where it may be refused."""
    before = partial(before_of, recording, {miss.call_id: miss for miss in recording.misses})
    pairs = [Pair(call, before(call)) for call in spread(call_ids)]
    return config_of(
        technique=techniques.of_recordings().slug,
        endpoint=recording.run["endpoint"],
        scenario=scenario(recording.run_id, pairs),
        runs=BLOCKS,
        knobs={"fix": fix},
        predicted=predicted and _predicted(predicted, is_upper_bound),
    )


def told(config: BenchmarkConfig) -> str:
    """What the fix of a replay changed in the first of its calls, without a word of the prompt;
    LabError where the recording is gone or kept no text."""
    config = resolved(config)
    task, count = config.tasks[0], len(config.tasks)
    fix = fixes.FIXES[config.knobs["fix"]]
    words = fix.apply(task.before[-1] if task.before else None, task.body).words
    number = task.task_id.replace("-", " ")
    return f"{number.capitalize()}: {words}" if count == 1 else f"{count} calls; {number}: {words}"


def _predicted(seconds: Estimate, is_upper_bound: bool = False) -> Predicted:
    return Predicted(
        value=seconds.value, low=seconds.low, high=seconds.high, is_upper_bound=is_upper_bound
    )


def replayable(store: Store, reference: str) -> Mapping[str, Any]:
    """The run of a recording by its id, first digits of it, or name; without one the newest that
    can be replayed. LabError where it kept no text."""
    is_newest = reference in ("", "last")
    run = queries.run(store, _newest(store) if is_newest else queries.resolve(store, reference))
    if run["technique"] != OBSERVED:
        raise LabError(f"{run['run_id']} is a run of the lab's own, not a recording.")
    if not run["keep_text"]:
        raise LabError(NO_TEXT)
    return run


def _newest(store: Store) -> str:
    """The newest recording that can be replayed."""
    known = queries.recordings(store)
    kept = known[known["keep_text"].astype(bool)]
    for run_id in kept["run_id"]:
        if len(queries.replayable(store, run_id)):
            return run_id
    if known.empty:
        raise LabError("There is no recording yet. Record your app with --keep-text first.")
    if kept.empty:
        raise LabError("No recording kept text, so none can be replayed. Record with --keep-text.")
    raise LabError(f"None of the recordings can be replayed: {NO_CALL}")


def endpoint_of(config: BenchmarkConfig | LoadConfig, run: Mapping[str, Any]) -> Endpoint:
    """The one that is named, else the recording's own; of a server of the lab's own that has ended
    since, the one of its kind."""
    name, kind = config.endpoint or run["endpoint"], run["endpoint_kind"]
    is_url = "://" in name and name == run["endpoint"] and kind in endpoint_kinds.own_servers()
    if is_url and not (own_server.card_at(name) or own_server.kind_at(name)):
        name = kind
    return registry.find(name, config.models)


@dataclass(frozen=True)
class Choice:
    fix: str
    pairs: Sequence[Pair]
    predicted: Predicted | None


def chosen(
    recording: Recording, calls: Calls, named: Sequence[Pair], knobs: Mapping[str, Any]
) -> Choice:
    """The calls that a fix is for, and the fix: as named, else the one with the most at stake."""
    misses = {miss.call_id: miss for miss in recording.misses}
    ids = [pair.call for pair in named] or calls.ids
    proposed: dict[str, list[Miss]] = defaultdict(list)
    for call in ids:
        if call in misses and (fix := fixes.for_miss(misses[call])):
            proposed[fix].append(misses[call])
    fix = _fix(knobs)
    if not fix:
        if not proposed:
            raise LabError(
                "No fix is proposed for these calls. Name one of "
                f"{', '.join(fixes.FIXES)}: --fix NAME"
            )
        fix = max(proposed, key=lambda name: sum(miss.missed_tokens for miss in proposed[name]))
    mended = proposed.get(fix, [])
    if not named and mended:
        ids = [miss.call_id for miss in mended]
    pairs = [Pair(call, before_of(recording, misses, call)) for call in ids]
    if named:
        pairs = [own if own.before else pair for own, pair in zip(named, pairs, strict=True)]
    kept, refusals = calls.fitting(pairs, fix, MOST_CALLS if not named else len(pairs))
    if not kept or (named and refusals):
        # A recording's first call has none before it; the last one says more.
        raise LabError(refusals[-1] if refusals else "There is no call to replay.")
    known = {miss.call_id: miss.seconds for miss in mended if miss.seconds}
    seconds = [known[pair.call] for pair in kept if pair.call in known]
    return Choice(fix, kept, _predicted(mean(seconds)) if seconds else None)


def _fix(knobs: Mapping[str, Any]) -> str | None:
    """None is what is proposed."""
    fix = knobs.get("fix")
    return None if fix == fixes.PROPOSED else fix


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """A call's on average; its interval is as wide as theirs, which share their slope."""
    count = len(estimates)
    return Estimate(
        *(sum(getattr(each, end) for each in estimates) / count for end in ("value", "low", "high"))
    )


def before_of(recording: Recording, misses: Mapping[str, Miss], call: str) -> str | None:
    """The call that a miss is held against; else the one before it in its conversation."""
    if call in misses and misses[call].before:
        return misses[call].before
    table = recording.conversations
    rows = table.set_index("call_id") if "call_id" in table else table
    parent = rows["parent"].get(call) if "parent" in rows else None
    return parent if isinstance(parent, str) else None


def spread(ids: Sequence[str], most: int = MOST_CALLS) -> list[str]:
    """So many of them, from the first to the last."""
    if len(ids) <= most:
        return list(ids)
    return [ids[round(place * (len(ids) - 1) / (most - 1))] for place in range(most)]


class Calls:
    """The calls of a recording that can be asked again. Their bodies are read when needed: they
    may be large."""

    def __init__(self, store: Store, run: Mapping[str, Any]) -> None:
        self.store, self.run = store, run
        self.rows: pd.DataFrame = queries.replayable(store, run["run_id"]).set_index("call_id")
        self.ids: list[str] = list(self.rows.index)
        if not self.ids:
            raise LabError(f"This recording cannot be replayed: {NO_CALL}")

    def pair(self, word: str) -> Pair:
        """CALL or CALL@BEFORE, each a number in the recording, an id or its beginning."""
        call, _, before = word.strip().partition("@")
        return Pair(self._id(call), self._id(before) if before else None)

    def _id(self, word: str) -> str:
        if len(word) == ID_CHARACTERS:
            return word
        if word.isdecimal() and len(word) < 8:
            known = self.rows.index[self.rows["number"] == int(word)].tolist()
        else:
            known = [call for call in self.ids if call.startswith(word.lower())]
        if len(known) != 1:
            reason = f"{len(known)} calls begin with it" if known else "no such call can be asked"
            raise LabError(f"Call {word!r:.50} of the recording: {reason}.")
        return known[0]

    def bodies(self, *ids: str | None) -> dict[str, dict[str, Any]]:
        """LabError where one is not there."""
        wanted = set(filter(None, ids))
        kept = queries.recorded_bodies(self.store, self.run["run_id"], wanted)
        if missing := wanted - kept.keys():
            raise LabError(f"The request of call {min(missing)} was not kept.")
        return kept

    def fitting(self, pairs: Sequence[Pair], fix: str, most: int) -> tuple[list[Pair], list[str]]:
        """Those that the fix can be applied to, at most so many, and why others are not."""
        kept, refusals = [], []
        for pair in spread(pairs, 3 * most):
            try:
                bodies = self.bodies(*pair)
                fixes.FIXES[fix].apply(bodies.get(pair.before), bodies[pair.call])
            except LabError as error:
                refusals.append(str(error))
                continue
            kept.append(pair)
        return spread(kept, most), refusals

    def tasks(self, pairs: Sequence[Pair], endpoint: Endpoint, model: str | None) -> list[Task]:
        """`model` is one that is asked in place of the recorded ones."""
        bodies = self.bodies(*(call for pair in pairs for call in pair))
        tasks = []
        for pair in pairs:
            if pair.call not in self.rows.index:
                raise LabError(f"Call {pair.call} did not end well, so it is not asked again.")
            row = self.rows.loc[pair.call]
            ids = filter(None, (pair.before, pair.call))
            *sent, body = (self._body(bodies[call], endpoint, model) for call in ids)
            number = f"call-{row['number']}"
            try:
                task = Task(
                    task_id=number,
                    body=_as_long(body, row["output_tokens"]),
                    before=sent,
                    betas=row["betas"] if isinstance(row["betas"], str) else "",
                )
            except ValidationError as error:
                raise LabError(f"{number} cannot be asked again: {sentence(error)}.") from None
            tasks.append(task)
        return tasks

    def _body(self, body: dict[str, Any], endpoint: Endpoint, model: str | None) -> dict[str, Any]:
        """Without its model where this endpoint does not have that, or another is asked for."""
        asked = body.get("model")
        has_it = asked in endpoint.models.values() or (
            not endpoint.traits.own_server and asked not in endpoint_kinds.own_models()
        )
        if has_it and model in (None, asked):
            return body
        return {name: value for name, value in body.items() if name != "model"}


def _as_long(body: dict[str, Any], output_tokens: Any) -> dict[str, Any]:
    """With room for an answer as long as the recorded one, for a budget that can be kept to."""
    thinking = body.get("thinking")
    if pd.isna(output_tokens) or (isinstance(thinking, Mapping) and "budget_tokens" in thinking):
        return body
    most = min(int(body.get("max_tokens") or 1), max(1, int(output_tokens)))
    return {**body, "max_tokens": most}
