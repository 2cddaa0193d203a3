"""A load, put on an endpoint here and now.

Entries of its progress, in its file and to `on_progress`; times in ms, rates a second:

    started      run_id, technique "load", endpoint, endpoint_kind, models, levels (None: a search),
                 ceiling, pid, started_utc
    level        level (1…), of (None: a search), label, mode, target, planned
    load         some four times a second: level, of, label, done (ended, stored or not yet),
                 planned, failed, errors {kind: n}, elapsed_s, left_s (or None), ttft_p50_ms,
                 ttft_p95_ms (of the last 1,000, from when each was due; None until one has come),
                 requests_per_s, tokens_per_s, spent_usd (None: no budget). On few cores
                 failures, times and tokens are of the calls that have been read
    level_ended  the same of the whole level, once its calls are on disk, with reason ("" where all
                 was asked)
    note         text
    ended        status, text
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab import load_order, processes, run_loop
from lab.load.load_settings import LoadConfig
from lab.load_order import LoadOrder
from lab.load_stages import LoadRun
from lab.model import LOAD, LabError, new_id
from lab.run_loop import Measured, Telling
from lab.store.store import Store


def measure(
    config: LoadConfig,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    run_id: str | None = None,
    order: LoadOrder | None = None,
) -> Measured:
    """Put a load on its endpoint, here and now; LabError at once while another run is measured.

    Ctrl-C and SIGTERM interrupt it cleanly, and keep its rows. `order` is the config's, where that
    has been resolved already.
    """
    begun_elsewhere = run_id is not None
    run_id = run_id or new_id()
    with processes.measuring(run_id, LOAD):
        if not begun_elsewhere:
            processes.start_afresh(run_id)
        telling = Telling(run_id, on_progress)
        store = Store(config.db, run_loop.PATIENCE_S)
        try:
            run = _kind(config)(order or load_order.resolve(config), store, telling)
            run_loop.to_its_end(run.run, telling.ending)
            return Measured(run_id, run.status, run.text)
        except LabError as error:
            if "ended" not in telling.kinds:
                telling({"kind": "ended", "status": "failed", "text": str(error)})
            raise
        finally:
            store.close()


def _kind(config: LoadConfig) -> type[LoadRun]:
    """What makes the run: Dask takes a second to be imported, and few loads need it."""
    if not config.is_spread:
        return LoadRun
    from lab.load_spread import SpreadRun

    return SpreadRun
