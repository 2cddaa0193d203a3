"""A recording while it goes: what to paste into the app, calls as they come, Stop. The recorder is
a process of its own; any dashboard finds it."""

from typing import Any

import pandas as pd
import streamlit as st

from lab import recorder, units
from pages.parts import cached_queries, controls, your_app
from pages.parts.frame import escape, guard

EVERY_S = 1.0
NEWEST = 8
LANGUAGES = {"Python": "python", "TypeScript": "typescript"}


def show() -> None:
    """A panel for each recorder that runs; usually none or one."""
    for card in recorder.cards():
        _panel(card)


def _panel(card: recorder.Card) -> None:
    with st.container(border=True, key=f"recorder-{card.run_id}"):
        left, right = st.columns([6, 1], vertical_alignment="center")
        keeps = "**keeps text**" if card.keep_text else "structure only, no text"
        left.markdown(f"**Recording** what goes to {escape(card.upstream)} · {keeps}")
        if right.button("Stop", key=f"stop-{card.run_id}", width="stretch"):
            with st.spinner("Ending the recording"):
                recorder.stop(card.run_id)
            your_app.look_at(card.run_id)
        lines = recorder.paste_lines(card)
        language = controls.segments("Where your app runs", lines, "paste")
        st.code(lines[language], language=LANGUAGES.get(language, "bash"), wrap_lines=True)
        st.fragment(_calls, run_every=EVERY_S)(card.run_id)


def _calls(run_id: str) -> None:
    """As they come; once the recorder has ended the page is drawn again."""
    with guard():
        count, rows = cached_queries.ask("newest_recorded", run_id, NEWEST)
        if run_id not in {card.run_id for card in recorder.cards()}:
            if not count:  # nobody is led away from what they look at
                st.rerun()
            your_app.look_at(run_id)
        your_app.tell_losses(run_id)
        if not count:
            st.caption("Waiting for the first call: paste the line above where your app starts.")
            return
        newest = ", the newest here" if count > NEWEST else ""
        st.caption(f"{units.counted(count, 'call')} recorded{newest}.")
        _table(rows)
        # What was found stands below, as of the last time the page was drawn.
        shown, seen = st.session_state.get(your_app.SHOWN, (run_id, count))
        calls = "call" if count == 1 else f"{units.whole(count)} calls"
        if (shown != run_id or count > seen) and st.button(
            f"Show what is in the {calls} so far", key=f"look-{run_id}"
        ):
            your_app.look_at(run_id)


def _table(rows: pd.DataFrame) -> None:
    told: list[dict[str, Any]] = [
        {
            "at, UTC": f"{call.started_utc:%H:%M:%S}",
            "model": call.model,
            "first token": units.ms(call.ttft_ms),
            "whole": units.ms(call.total_ms),
            "prompt": units.whole(call.prompt_tokens),
            "read": units.whole(call.cache_read_tokens),
            "answer": units.whole(call.output_tokens),
            "ended": call.stop_reason if units.missing(call.error_kind) else call.error_kind,
        }
        for call in rows.itertuples()
    ]
    right = {
        name: st.column_config.TextColumn(alignment="right")
        for name in ("first token", "whole", "prompt", "read", "answer")
    }
    st.dataframe(pd.DataFrame(told), hide_index=True, column_config=right)
