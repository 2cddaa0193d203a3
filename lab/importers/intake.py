"""One importer's calls, on their way into the store."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from types import ModuleType

from lab import clock, endpoint_kinds, new_recording, scrub
from lab.importers.import_summary import Summary, listed
from lab.importers.json_files import Source
from lab.model import LabError, Status
from lab.paths import COMMAND
from lab.recording.scribe import Scribe, Seen, known_id
from lab.rows import FinishedTrial, RunRow
from lab.store import queries
from lab.store.store import Store

AT_ONCE, AT_ONCE_WITH_TEXT = 200, 20
"""Calls in one transaction; a prompt of each may be a megabyte."""
ENDPOINT = "anthropic"
"""Where a source's calls went, unless it says."""


class Intake:
    def __init__(
        self,
        importer: ModuleType,
        source: Source,
        store: Store,
        summary: Summary,
        folder: str | None,
        name: str | None,
    ) -> None:
        self.importer, self.source, self.store, self.summary = importer, source, store, summary
        self.key, self.name = folder or "", name
        self.run_id, self.is_named = "", False
        self.run: RunRow | None = None
        """Once it has, or gets, a call of these."""
        self.scribe: Scribe | None = None

    def take_in(self, tell: Callable[[], None]) -> None:
        """Everything, a transaction at a time."""
        status: Status = "finished"
        calls = self.importer.read(self.source)
        count = AT_ONCE_WITH_TEXT if self.source.keep_text else AT_ONCE
        try:
            while batch := list(islice(calls, count)):
                self._take(batch)
                tell()
        except KeyboardInterrupt:
            self.summary.is_interrupted, status = True, "interrupted"
        except BaseException:
            status = "failed"
            raise
        finally:
            if self.run:
                self.run.status, self.run.ended_utc = status, clock.utc_now()
                self.run.settings["recording"]["left_out"] = listed(self.source.left_out)
                self.store.write_run(self.run)

    def _take(self, batch: list[Seen]) -> None:
        with self.store.snapshot():
            if self.scribe is None:
                self._identify(batch[0])
            there = queries.runs_of_trials(self.store, [seen.id for seen in batch])
        summary, own = self.summary, self.run_id
        count = len(batch)
        batch = list({seen.id: seen for seen in reversed(batch)}.values())[::-1]
        summary.known += count - len(batch)  # two files may have the same exchange
        summary.elsewhere.update(run for run in there.values() if run != own)
        # Those that are there already too: what comes after them goes on with their prompts.
        trials = [self.scribe.rows(seen) for seen in batch if there.get(seen.id, own) == own]
        fresh = [trial for trial in trials if trial.trial.trial_id not in there]
        summary.known += len(trials) - len(fresh)
        if self.is_named:
            self.store.rename(own, self.name)
            self.is_named = False
        if trials and own not in summary.runs:
            summary.runs.append(own)
        if fresh and not self.run:
            self._begin(fresh[0])
        for trial in fresh:
            scrub.trial(trial)
        try:
            self.store.write_trials(fresh)
        except KeyboardInterrupt:
            self.store.write_trials([])  # a transaction that was broken off is made again
            summary.count(fresh)
            raise
        summary.count(fresh)

    def _identify(self, first: Seen) -> None:
        """Which recording they belong to: a folder's own, or that of their first conversation."""
        source = self.importer.NAME
        self.key = self.key or first.conversation or first.id
        self.run_id, session_id = (known_id(source, self.key, row) for row in ("run", "session"))
        row = queries.recording(self.store, self.run_id)
        if row and self.source.keep_text and not row["keep_text"]:
            raise LabError(
                f"{self.summary.name} was imported before, without its text. Remove that first:"
                f" {COMMAND} forget {self.run_id}"
            )
        self.scribe = Scribe(
            self.run_id,
            session_id,
            source,
            ENDPOINT,
            self.source.hasher,
            keep_text=self.source.keep_text,
            first_block=1 + queries.last_block(self.store, self.run_id),
        )
        self.is_named = bool(row and self.name and row["name"] != self.name)

    def _begin(self, first: FinishedTrial) -> None:
        call = first.calls[0]
        own = (
            kind.name
            for kind in endpoint_kinds.KINDS.values()
            if call.model in kind.models.values()
        )
        self.run, _ = new_recording.begin(
            self.store,
            self.importer.NAME,
            call.endpoint,
            next(own, endpoint_kinds.LIVE),
            keep_text=self.source.keep_text,
            name=self.name,
            imported=(self.key, self.summary.name),
            cannot=list(self.importer.CANNOT),
        )
