"""A ladder while it goes on: which stage, how far, what is settled, and Stop."""

from typing import Any

import streamlit as st

from lab import processes
from lab.ladder import stage_words
from lab.model import LADDER
from pages.parts import run_panel
from pages.parts.frame import escape, guard

STAGES = ("screening", "elimination", "confirmation")
SHOWN = 8


def watch() -> str | None:
    """As run_panel.watch, of ladders."""
    return run_panel.watch(LADDER, panel=show)


@st.fragment(run_every=run_panel.EVERY_S)
def show(run_id: str) -> None:
    """Until the ladder ends; then the whole page is drawn again, once."""
    with guard():
        card = processes.running()
        if card is None or card.run_id != run_id:
            st.rerun()
        _draw(run_panel.entries(card), run_id)


def _draw(entries: list[dict[str, Any]], run_id: str) -> None:
    stages = [entry for entry in entries if entry["kind"] == "stage"]
    settled = _settled([entry for entry in entries if entry["kind"] == "decision"])
    notes = [entry["text"] for entry in entries if entry["kind"] == "note"]
    with st.container(border=True, key="run-panel"):
        if not stages:
            run_panel.line(run_panel.PREPARING, 0.0, run_id)
        else:
            since = entries[entries.index(stages[-1]) :]
            now, words = _now(stages[-1], since)
            run_panel.line(escape(words), _share([*stages, now]), run_id)
            st.caption(_steps(stages[-1]["stage"]))
        if settled:
            st.markdown("**Settled so far**")
            lines = [escape(stage_words.settled(entry)) for entry in reversed(settled[-SHOWN:])]
            st.caption("  \n".join(lines))
        if notes:
            st.caption(escape(notes[-1]))


def _settled(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of what was settled and asked again, the last answer."""
    last: dict[Any, dict[str, Any]] = {}
    for entry in decisions:
        about = entry["lever"] or entry["stack"] or entry["reason"]
        last.pop(about, None)
        last[about] = entry
    return list(last.values())


def _now(stage: dict[str, Any], since: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """A block of a slow endpoint takes minutes: its own trials count down what was left at its
    beginning."""
    trials = [entry for entry in since if entry["kind"] == "trial"]
    spent_s = sum(entry.get("total_ms") or 0.0 for entry in trials) / 1e3
    stage = stage | {"left_s": max(0.0, stage["left_s"] - spent_s)}
    done = f" · {len(trials)} of {stage['stacks']} trials of this block" if trials else ""
    return stage, f"{stage_words.place(stage)}{done}"


def _share(stages: list[dict[str, Any]]) -> float:
    """Of the minutes that it may take; of the last stage its blocks, whose number is known."""
    last, whole_s = stages[-1], stages[0]["left_s"]
    spent = 1 - last["left_s"] / max(whole_s, 1.0)
    if not last["blocks"]:
        return max(0.0, spent)
    begun = next(entry for entry in stages if entry["stage"] == last["stage"])
    before = 1 - begun["left_s"] / max(whole_s, 1.0)
    return max(spent, before + (1 - before) * (last["block"] - 1) / last["blocks"])


def _steps(now: str) -> str:
    """ "screening ✓ → **elimination** → confirmation"."""
    place = STAGES.index(now)
    words = [f"{stage} ✓" for stage in STAGES[:place]]
    return " → ".join([*words, f"**{now}**", *STAGES[place + 1 :]])
