"""The order of the page Watch: what goes on, what was found, the two series, and the form."""

from typing import Any

import pandas as pd
import streamlit as st

from lab import units, watch
from lab.clock import utc_now
from lab.figures import probe_series
from lab.stats import level_shifts
from lab.watch import standing, watch_order
from lab.watch.changes import Change
from lab.watch.probe import CONTROL, YOURS
from lab.watch.watched import Gap, Watched
from pages.parts import cached_queries, chart, controls, experiment, watch_form
from pages.parts.frame import escape, guard

EVERY_S = 1.0
SHOWN_GAPS = 3
GHOSTS = (
    ("The finding", "“Claude got slower at 14:10”, or “your request did, the control stood”."),
    (
        "Two series",
        "Your request and the control, a point a probe, with each change in place.",
    ),
    ("What was missed", "Gaps, and why: another run, the day's dollars, a machine that slept."),
)


def show(endpoint) -> None:
    watch_form.begin_ordered()
    run_id = _chosen()
    going = watch.current(run_id) if run_id else None
    if run_id:
        _panel(run_id, going)
        _found(cached_queries.watched(run_id), going)
    else:
        experiment.ghosts(GHOSTS)
    watch_form.show(endpoint, opened=run_id is None)


def _chosen() -> str | None:
    """The watch in the URL, else the one that is kept, else the newest."""
    rows = cached_queries.all_watches()
    if rows.empty:
        return None
    names = dict(zip(rows["run_id"], rows["name"], strict=True))
    alive = [card.run_id for card in watch.cards() if card.run_id in names]
    usual = next(iter(alive), rows["run_id"].iloc[0])
    linked = st.query_params.get("run")
    if len(names) == 1:
        return usual

    def told(run_id: str) -> str:
        began = rows.loc[rows["run_id"] == run_id, "started_utc"].iloc[0]
        return f"{units.short(names[run_id] or run_id, 40)} · since {units.when(began)}"

    chosen = controls.by_name(
        st.selectbox, "Watch", names, "run", linked if linked in names else usual, format_func=told
    )
    return chosen or usual


def _panel(run_id: str, going: watch.Card | None) -> None:
    with st.container(border=True, key="watch-panel"):
        left, right = st.columns([6, 1], vertical_alignment="center")
        with left:
            if going:
                st.fragment(_state, run_every=EVERY_S)(run_id, len(_read(run_id).trials))
            else:
                st.markdown("**Not running.** What it has measured stands below.")
                _ended(run_id)
        if going:
            right.button("Stop", key="watch-stop", on_click=watch.stop, args=(run_id,),
                         width="stretch")  # fmt: skip
        elif watch_order.named(run_id):
            right.button("Go on", key="watch-on", on_click=watch_form.go_on, args=(run_id,),
                         width="stretch", type="primary")  # fmt: skip


def _read(run_id: str) -> Watched:
    return cached_queries.watched(run_id)


def _ended(run_id: str) -> None:
    """Why it ended, where it did not end as it was meant to."""
    ended = watch.last(run_id, "ended")
    if ended.get("status") == "failed":
        st.error(escape(ended.get("text", "")))


def _state(run_id: str, rows: int) -> None:
    """What it does now; with a new probe the page is drawn again."""
    with guard():
        if watch.current(run_id) is None or len(_read(run_id).trials) != rows:
            st.rerun()
        entries = watch.latest(run_id)
        last = entries[-1] if entries else {}
        sums = next((each for each in reversed(entries) if "spent_usd" in each), {})
        spent = sums["spent_usd"] if sums.get("day") == str(utc_now().date()) else 0
        words = ["**Watching**"]
        if last.get("kind") == "next":
            due = pd.Timestamp(last["at_utc"])
            left_s = max(0.0, (due - utc_now()).total_seconds())
            words.append(f"next probe at {due:%H:%M:%S} UTC, in {units.duration(left_s)}")
        elif last.get("kind") == "probing":
            words.append(f"probe {last['number']} is under way")
        if cap := _read(run_id).settings.get("usd_a_day"):
            words.append(f"{escape(units.usd(spent))} of {escape(units.usd(cap))} today")
        st.markdown(" · ".join(words))
        notes = [each["text"] for each in entries if each["kind"] in ("note", "gap")]
        if notes:
            st.caption(escape(notes[-1]))


def _found(found: Watched, going: watch.Card | None) -> None:
    st.query_params["run"] = found.run_id
    changes, count = found.changes, len(found.series.at_utc)
    _headline(found, changes, count)
    if trouble := standing.trouble(found):
        (st.caption if count else st.warning)(escape(trouble))
    if not count:
        _gaps(found, going)
        return
    gaps = standing.gaps(found, going is not None)
    span = probe_series.span(found.probes["at"], gaps)
    for arm in (YOURS, CONTROL):
        _figure(found, arm, changes, gaps, span)
    _changes(changes)
    _gaps(found, going)


def _headline(found: Watched, changes: list[Change], count: int) -> None:
    where = f"{found.run['endpoint']}" if found.run["endpoint"] else ""
    kind = "" if found.run["endpoint_kind"] == where else f" ({found.run['endpoint_kind']})"
    if changes:
        last = changes[-1]
        (st.warning if last.is_slower or last.is_silence else st.success)(escape(last.words + "."))
    elif count < level_shifts.FEWEST:
        st.info(
            f"{units.counted(count, 'probe')} so far; from {level_shifts.FEWEST} on it can tell."
        )
    else:
        first, last = found.series.at_utc[0], found.series.at_utc[-1]
        st.info(
            escape(f"No change in {count} probes over {_days((last - first).total_seconds())}.")
        )
    st.caption(
        escape(
            f"{where}{kind} · a probe every {units.duration(found.every.total_seconds())} · a false"
            f" alarm in {1 / level_shifts.ALARMS_A_MONTH:.0f} months is put up with"
        )
    )
    if found.left_out:
        st.caption(found.left_out)


def _days(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:.1f} days" if days >= 1 else units.duration(seconds)


def _figure(found: Watched, arm: str, changes: list[Change], gaps: list[Gap], span: tuple) -> None:
    probes = found.probes
    points = pd.DataFrame({"at": probes["at"], "value": probes[arm]})
    points = points.assign(
        failed=probes[f"failed_{arm}"],
        endpoint=found.run["endpoint"],
        endpoint_kind=found.run["endpoint_kind"],
    )
    # Where nothing was answered is seen by its crosses.
    own = [change for change in changes if _is_of(change, arm) and not change.is_silence]
    title = "Your request" if arm == YOURS else "The control"
    told = _told(own, arm) if own else "no change"
    figure = probe_series.series(
        points,
        chart.dark(),
        arm=arm,
        arms=found.arms,
        metric=found.metric,
        title=f"{title}: {told}",
        marks=[_mark(change, arm) for change in own],
        gaps=gaps,
        ends=span,
    )
    chart.show(figure, key=f"watch-{arm}")


def _told(own: list[Change], arm: str) -> str:
    last = own[-1]
    size = last.yours if arm == YOURS else last.control
    since = units.when(last.at_utc)
    count = f", the last of {len(own)} changes" if len(own) > 1 else ""
    return f"{size.text} since {since}{count}"


def _is_of(change: Change, arm: str) -> bool:
    return change.whose in ("service", "both", arm)


def _mark(change: Change, arm: str) -> probe_series.Mark:
    size = change.yours if arm == YOURS else change.control
    worse = None if size is None else size.value > 0
    return probe_series.Mark(change.at_utc, change.label, worse)


def _changes(changes: list[Change]) -> None:
    if not changes:
        return
    rows: list[dict[str, Any]] = [
        {
            "at, UTC": units.when(change.at_utc),
            "whose": {"service": change.named, "both": "each its own"}.get(
                change.whose, change.whose
            ),
            "your request": change.yours.text if change.yours else change.label,
            "the control": change.control.text if change.control else "",
            "seen after": units.counted(change.probes, "probe"),
        }
        for change in reversed(changes)
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, key="watch-changes")


def _gaps(found: Watched, going: watch.Card | None) -> None:
    gaps = standing.gaps(found, going is not None)
    for gap in gaps[: -SHOWN_GAPS - 1 : -1]:
        text = f"Gap from {units.when(gap.from_utc)} to {units.when(gap.to_utc)}: {gap.text}."
        st.caption(escape(text))
    if len(gaps) > SHOWN_GAPS:
        st.caption(f"{len(gaps) - SHOWN_GAPS} earlier gaps are in the grey of the charts.")
