"""One recorded call: how it came to its answer, what it sent block by block, what it cost. Sizes
and hashes, never text."""

import json
from html import escape as html
from typing import Any

import pandas as pd
import streamlit as st

from lab import units
from lab.recording import shape
from lab.recordings import Recording
from pages.parts import controls, tables
from pages.parts.frame import escape

MOST_BLOCKS = 2000
CLOCKS = {
    "connect_ms": "connecting",
    "sent_at_ms": "request sent at",
    "headers_at_ms": "headers at",
    "ttft_ms": "first token at",
    "first_text_at_ms": "first text at",
    "total_ms": "end at",
}
TOKENS = {
    "input_tokens": "neither read nor written",
    "cache_read_tokens": "read from the cache",
    "cache_write_5m_tokens": "written for 5 min",
    "cache_write_1h_tokens": "written for 1 h",
    "output_tokens": "answered",
    "thinking_tokens": "of them thinking",
}
ADDED = {"added_request_ns": "before the request", "added_reply_ns": "at most to a piece"}


_into_view = st.components.v2.component(
    "lab.one_call",
    html="<i></i>",
    js="""export default () => {
        document.querySelector(".st-key-one-call")
            ?.scrollIntoView({ block: "nearest", behavior: "instant" });
    };""",
)


def close() -> None:
    """No call is open any more."""
    for place in (st.session_state, st.query_params):
        place.pop("call", None)


def choose(calls: pd.DataFrame) -> None:
    """By its name, for those who do not click; `calls` are those that are drawn."""
    named = {
        call.call_id: f"{f'sub-agent {call.lane:.0f}, ' if call.lane else ''}turn {call.turn:.0f}"
        f" · {units.short(call.model, 40)}"
        for call in calls.itertuples()
    }
    if st.session_state.get("call") not in named:
        st.session_state.pop("call", None)
    controls.by_name(
        st.selectbox,
        "Call",
        named,
        "call",
        None,
        format_func=named.get,
        index=None,
        placeholder="open one",
    )


def open_now(call_id: str) -> None:
    """For a button's on_click, or before a rerun."""
    st.session_state["open-call"] = call_id


def follow(points: list[dict[str, Any]], chart: str) -> None:
    """A click on a chart opens the call of what was clicked, once: the chart keeps its selection
    and would open it again after it was closed."""
    data = points[0].get("customdata") if points else None
    clicked, last = str(data[0]) if data else None, ("clicked", chart)
    if clicked == st.session_state.get(last):
        return
    st.session_state[last] = clicked
    if clicked:
        open_now(clicked)
        st.rerun()


def show(recording: Recording, calls: pd.DataFrame) -> None:
    """The call that is open, if one is."""
    opened = calls[calls["call_id"] == st.session_state.get("call")]
    if opened.empty:
        return
    if st.session_state.pop("just-opened", False):
        _into_view(key="into-view", height=1)
    call = opened.iloc[0]
    with st.container(border=True, key="one-call"):
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.markdown(_title(recording, call))
        right.button("Close", key="close-call", on_click=close, width="stretch")
        clocks, tokens = st.columns(2)
        with clocks:
            _pairs("Clocks, from the call's start", _clocks(call))
        with tokens:
            _pairs("Tokens", _tokens(call))
        for miss in recording.misses:
            if miss.call_id == call["call_id"]:
                words = miss.words[:1].upper() + miss.words[1:]
                st.markdown(f"**{escape(words)}.** {escape(miss.evidence)}")
        _prompt(recording, call)


def _title(recording: Recording, call: pd.Series) -> str:
    lane = f"Sub-agent {call['lane']:.0f}, turn" if call["lane"] else "Turn"
    about = [
        call["served_model"] if isinstance(call["served_model"], str) else call["model"],
        "" if units.missing(call["error_kind"]) else f"failed: {call['error_kind']}",
        "" if units.missing(call["stop_reason"]) else f"stopped for {call['stop_reason']}",
        units.usd(call["cost_usd"]),
        "keeps text" if recording.keeps_text else "",
        f"call {units.short_id(call['call_id'])}",
    ]
    words = " · ".join(escape(str(part)) for part in about if part and part != units.MISSING)
    return f"**{lane} {call['turn']:.0f}** · {words}"


def _clocks(call: pd.Series) -> list[tuple[str, str]]:
    rows = [(word, units.ms(call.get(name))) for name, word in CLOCKS.items()]
    reused = call["connection_reused"]
    if not units.missing(reused):
        rows.insert(0, ("connection", "used again" if reused else "new"))
    rows += [
        (f"added by the recorder {word}", units.ms(call[name] / 1e6))
        for name, word in ADDED.items()
        if not units.missing(call.get(name))
    ]
    return [(word, text) for word, text in rows if text != units.MISSING]


def _tokens(call: pd.Series) -> list[tuple[str, str]]:
    rows = [(word, units.whole(call.get(name))) for name, word in TOKENS.items()]
    return [(word, text) for word, text in rows if text not in (units.MISSING, "0")]


def _pairs(title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        rows = [("not known", "")]
    lines = "".join(f"<dt>{html(word)}</dt><dd>{html(text)}</dd>" for word, text in rows)
    st.html(f'<div class="lab-pairs"><b>{html(title)}</b><dl>{lines}</dl></div>')


def _prompt(recording: Recording, call: pd.Series) -> None:
    """Settings and blocks, each held against the call before it in its lane."""
    prompt = recording.prompts.get(call["call_id"])
    if prompt is None:
        st.caption("What this call sent is not known.")
        return
    before = recording.prompts.get(call["parent"]) if call["parent"] else None
    same = shape.shared(before.blocks, prompt.blocks) if before else 0
    marks = {mark.place: mark.ttl for mark in prompt.marks}
    rows = [
        (
            place,
            block.section,
            block.role,
            block.kind,
            block.tool,
            block.characters,
            marks.get(place, ""),
            "" if before is None else "the same" if place < same else _change(before, block, place),
        )
        for place, block in enumerate(prompt.blocks[:MOST_BLOCKS])
    ]
    names = ["block", "section", "role", "kind", "tool", "characters", "breakpoint", "before"]
    cut = len(prompt.blocks) > MOST_BLOCKS
    st.caption(
        f"{units.whole(len(prompt.blocks))} blocks in the order in which the API reads them"
        + (f", the first {MOST_BLOCKS:,} here" if cut else "")
        + (f"; the first {same:,} as in the call before it" if before else "")
        + ". Sizes only: their text is "
        + ("kept, and is not shown." if recording.keeps_text else "not kept.")
    )
    tables.show(
        pd.DataFrame(rows, columns=names),
        key=f"blocks-{call['call_id']}",
        columns={
            "before": st.column_config.TextColumn("against the call before"),
            "characters": st.column_config.NumberColumn("characters", format="localized"),
        },
        height=min(36 * (len(rows) + 1) + 4, 330),
    )
    settings = {name: value for name, value in prompt.settings.items() if name != "whole"}
    words = [f"{name} {_word(value)}" for name, value in sorted(settings.items())]
    st.caption(escape("Settings: " + " · ".join(words)))
    if not prompt.settings.get("whole", True):
        st.caption("A part of this request is not known.")


def _change(before: shape.Prompt, block: shape.Block, place: int) -> str:
    if place >= len(before.blocks):
        return "new"
    return "the same" if before.blocks[place].hash == block.hash else "differs"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
