"""What was found in a recording: the sentence, the picture, then the rows."""

from html import escape as html
from typing import Any

import pandas as pd
import streamlit as st

from lab import endpoint_kinds, importers, recorder, scrub, units
from lab.figures import timeline
from lab.recording.facts import SOURCES, origin_of
from lab.recordings import Recording
from lab.store.store import Store
from pages.parts import (
    cached_queries,
    chart,
    controls,
    prove,
    recorded_call,
    recording_views,
)
from pages.parts.frame import escape

MOST_ROWS = 20
"""Calls in one picture of a conversation."""
NEXT = "next-recording"
"""The recording that the next drawing of the page shows."""
SHOWN = "shown-recording"
"""The recording that the page shows, and how many of its calls."""
MOSTLY_PAUSES = 0.3
"""Of a conversation's time: with more of nothing at all, the picture leaves it out at first."""


def chosen() -> dict[str, Any] | None:
    """The recording in the URL, else the newest that has calls; None where there is none."""
    known = cached_queries.ask("recordings")
    if known.empty:
        return None
    rows = known.set_index("run_id")
    if st.session_state.get(NEXT) in rows.index:
        _turn()
        st.session_state["recording"] = st.session_state.pop(NEXT)
    if st.session_state.get("recording") not in rows.index:
        st.session_state.pop("recording", None)
    linked = st.query_params.get("run")
    if linked and linked not in rows.index and "recording" not in st.session_state:
        st.warning("The recording in this link is not in this database; another one is shown.")
    with_calls = rows.index[rows["calls"] > 0]
    run_id = controls.by_name(
        st.selectbox,
        "Recording",
        list(rows.index),
        "recording",
        (with_calls if len(with_calls) else rows.index)[0],
        "run",
        format_func=lambda run_id: _words(rows.loc[run_id]),
        on_change=_turn,
    )
    # The page's address, passed on, opens this recording and not a later one.
    st.query_params["run"] = run_id
    return cached_queries.run_or_none(run_id)


def look_at(run_id: str) -> None:
    """Draw the page anew, with this recording; from anywhere on it, where what is chosen may be
    drawn already and no longer set."""
    st.session_state[NEXT] = run_id
    st.session_state.pop(SHOWN, None)
    st.rerun()


def _turn(*names: str) -> None:
    """Something else is looked at: what was chosen within it holds no more, `names` or all."""
    for name in names or ("conversation", "call", "calls", prove.PARAM):
        st.session_state.pop(name, None)
        st.query_params.pop(name, None)


def _words(row: pd.Series) -> str:
    known = (name for name in (row["name"], row["imported_from"]) if not units.missing(name))
    name = units.short(next(known, "Unnamed"), 60)
    return " · ".join(
        (name, units.counted(row["calls"], "call"), source_of(row), units.when(row["started_utc"]))
    )


def source_of(run: Any) -> str:
    """How it came in, in words."""
    source = _source(run)
    return _sources().get(source, source.replace("_", " "))


def _source(run: Any) -> str:
    return str(origin_of(run).get("source") or "recorder")


def _sources() -> dict[str, str]:
    return SOURCES | {importer.NAME: importer.TITLE for importer in importers.IMPORTERS}


def _cannot(run: dict[str, Any]) -> None:
    """What this recording's source leaves open."""
    for importer in importers.IMPORTERS:
        if _source(run) == importer.NAME:
            st.caption("  \n".join(map(escape, importer.CANNOT)))


def tell_losses(run_id: str) -> None:
    """What a recorder said of calls that it could not keep, and why, and its last note; nothing
    once its files are gone."""
    key = ("told", run_id)
    lost, note, offset = st.session_state.get(key, ({}, "", 0))
    entries, offset = recorder.told(run_id, offset)
    for entry in entries:
        if entry["kind"] == "lost":
            lost = lost | {entry["text"]: lost.get(entry["text"], 0) + entry["calls"]}
        elif entry["kind"] == "note":
            note = entry["text"]
    st.session_state[key] = (lost, note, offset)
    if told := [*recorder.unrecorded(lost), *[note] * bool(note)]:
        st.warning("  \n".join(escape(scrub.text(line, scrub.MESSAGE)) for line in told))


def show(run: dict[str, Any]) -> None:
    known = cached_queries.ask("recordings").set_index("run_id")["calls"]
    count = units.counted(known[run["run_id"]], "call")
    with st.spinner(f"Reading {count}", show_time=True):
        recording = cached_queries.recording(run["run_id"])
    st.session_state[SHOWN] = (run["run_id"], len(recording.calls))
    if recording.calls.empty:
        _head(run)
        _nothing(run)
        return
    with st.container(border=True, key="recording-head"):
        looking = f"Looking where the time of {count} went"
        with st.container(key="sentence"), st.spinner(looking, show_time=True):
            st.markdown(escape(recording.waiting.sentence.replace(" %", "\u00a0%")))
        _head(run, recording)
        _cannot(run)
    prove.results(recording)
    calls = _conversation(recording)
    recorded_call.show(recording, calls)
    recording_views.show(recording, calls)


def _nothing(run: dict[str, Any]) -> None:
    """Why there is no call, and what to do; a recorder that runs says it above."""
    if run["status"] == "running":
        if run["run_id"] not in {card.run_id for card in recorder.cards()}:
            st.info("No call has come yet. The first one appears here once you reload the page.")
        return
    todo = "Give your app the line that the recorder shows while it runs, and record again."
    if _source(run) == "client":
        todo = "Let your app call the client that `lab.observe` returns, and run it again."
    st.info(f"This recording ended before a call came. {todo}")


def _head(run: dict[str, Any], recording: Recording | None = None) -> None:
    """What is looked at: tags, numbers and what can be done with it."""
    kind = endpoint_kinds.kind(run["endpoint_kind"])
    tags = [f'<span class="lab-tag{" hatched" if kind.hatched else ""}">{html(kind.name)}</span>']
    if run["keep_text"]:
        tags.append('<span class="lab-tag">keeps text</span>')
    about = ["" if run["endpoint"] == kind.name else run["endpoint"], source_of(run)]
    if recording is not None:
        calls = recording.calls
        models = calls["served_model"].fillna(calls["model"]).value_counts().index
        about += [
            f"{units.counted(len(calls), 'call')} in"
            f" {units.counted(recording.conversations['conversation'].nunique(), 'conversation')}",
            ", ".join(map(str, models[:3])) + (" …" if len(models) > 3 else ""),
            units.usd(calls["cost_usd"].sum(min_count=1)),
        ]
    about += [units.when(run["started_utc"]), units.origin(run)]
    with st.container(horizontal=True, vertical_alignment="center"):
        words = html(" · ".join(part for part in about if part and part != units.MISSING))
        st.html(f'<div class="lab-small">{" ".join(tags)}&ensp;{words}</div>')
        _rename(run)
        _forget(run)
    if run["run_id"] not in {card.run_id for card in recorder.cards()}:  # whose panel says it
        tell_losses(run["run_id"])
    if note := run.get("note"):
        st.caption(escape(note))


def _rename(run: dict[str, Any]) -> None:
    run_id = run["run_id"]
    with (
        st.popover("Name", key=f"name-{run_id}"),
        st.form(key=f"words-{run_id}", border=False),
    ):
        name = st.text_input("Name", run.get("name") or "", max_chars=80)
        note = st.text_area("Note", run.get("note") or "", height=80, max_chars=4000)
        if st.form_submit_button("Save"):
            Store().rename(run_id, name.strip() or None)
            Store().set_note(run_id, note.strip() or None)
            st.rerun()


def _forget(run: dict[str, Any]) -> None:
    with st.popover("Forget", key=f"forget-{run['run_id']}"):
        st.markdown(
            "All that was kept of this recording is removed from this machine for good. It cannot"
            " be brought back."
        )
        if st.button("Forget this recording", type="primary", key="forget"):
            Store().forget(run["run_id"])
            st.session_state.pop("recording", None)
            st.query_params.pop("run", None)
            st.rerun()


def _conversation(recording: Recording) -> pd.DataFrame:
    """Choose one, see it in time; returns its calls, with conversation, lane and turn."""
    placed = recording.conversations
    calls = recording.calls.drop(columns=["conversation"]).join(placed, on="call_id")
    calls = calls[calls["conversation"].notna()]
    ends = calls["started_ms"] + calls["total_ms"].fillna(0)
    groups = calls.assign(ended_ms=ends).groupby("conversation")
    known = groups.agg(
        n=("call_id", "size"), started=("started_ms", "min"), ended=("ended_ms", "max")
    )
    longest = (known["ended"] - known["started"]).idxmax()
    _go_to_opened(calls)
    rows = known.to_dict("index")  # there may be thousands

    def words(number: float) -> str:
        row = rows[number]
        length = units.stretch(row["ended"] - row["started"])
        return f"{number:.0f} · {units.counted(row['n'], 'call')} · {length}"

    picture = st.container()  # the choices stand below it
    with st.container(horizontal=True, vertical_alignment="bottom", key="choose-conversation"):
        number = longest
        if len(known) > 1:
            number = controls.by_name(
                st.selectbox,
                "Conversation",
                list(known.index),
                "conversation",
                longest,
                format_func=words,
                on_change=_turn,
                args=("call", "calls"),
            )
        mine = calls[calls["conversation"] == number].sort_values("started_ms", kind="stable")
        bars = recording.waiting.timeline
        bars = bars[bars["conversation"] == number]
        shown, part = _part(mine)
        recorded_call.choose(shown)
        pauses = not st.toggle(
            "Leave out pauses",
            timeline.idle_share(bars) > MOSTLY_PAUSES,
            key=f"pauses-{recording.run_id}-{number}",
            help="Time in which nothing at all ran is left out of the picture, and marked.",
        )
    figure = timeline.timeline(
        bars,
        shown,
        chart.dark(),
        name=f"Conversation {number:.0f}" if len(known) > 1 else "The conversation",
        part=part,
        chosen=st.session_state.get("call"),
        pauses=pauses,
    )
    with picture:
        points = chart.show(figure, key=f"timeline-{recording.run_id}-{number}-{part}", clicks=True)
        st.caption("Click a bar to open its call.")
    recorded_call.follow(points, "timeline")
    return mine


def _go_to_opened(calls: pd.DataFrame) -> None:
    """A call that a button or a click has opened: its conversation and its part are shown."""
    opened = st.session_state.pop("open-call", None)
    row = calls[calls["call_id"] == opened]
    if row.empty:
        return
    number = row["conversation"].iloc[0]
    mine = calls[calls["conversation"] == number].sort_values("started_ms", kind="stable")
    at = list(mine["call_id"]).index(opened)
    st.session_state.update(
        {"conversation": number, "calls": at // MOST_ROWS * MOST_ROWS, "call": opened}
    )
    st.session_state["just-opened"] = True


def _part(calls: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """As many as a picture holds, and which."""
    if len(calls) <= MOST_ROWS:
        return calls, units.counted(len(calls), "call")
    first = controls.by_name(
        st.selectbox,
        "Calls",
        range(0, len(calls), MOST_ROWS),
        "calls",
        0,
        format_func=lambda at: f"{at + 1:,} to {min(at + MOST_ROWS, len(calls)):,}",
        on_change=_turn,
        args=("call",),
    )
    last = min(first + MOST_ROWS, len(calls))
    return calls.iloc[first:last], f"calls {first + 1:,} to {last:,} of {len(calls):,}"
