"""Misses of a recording, the costliest first: cause, evidence, cost, and a button that proves
it."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from lab import units
from lab.recording.facts import Estimate, Miss
from lab.recordings import Recording
from pages.parts import prove, recorded_call
from pages.parts.frame import escape

MOST_CARDS, MOST_LINES = 6, 1_000
NO_FAULT = "first_use"
"""What nobody can mend: somebody is always first."""


def seconds(estimate: Estimate | None) -> str:
    """ "1.2 s [0.9, 1.6]"; empty where there is none."""
    if estimate is None:
        return ""
    middle, low, high = (units.number(end, 2) for end in vars(estimate).values())
    return f"{middle} s" if low == middle == high else f"{middle} s [{low}, {high}]"


def show(recording: Recording) -> None:
    faults = [miss for miss in recording.misses if miss.cause != NO_FAULT]
    first = len(recording.misses) - len(faults)
    uses = f"{first:,} first use{' is' if first == 1 else 's are'} no fault." if first else ""
    if not faults:
        st.caption(f"Every call read from the cache what it could. {uses}")
        return
    faults.sort(key=_cost, reverse=True)
    st.markdown(escape(_sum(faults)))
    cards = faults[:MOST_CARDS]
    for place, miss in enumerate(cards):
        card(recording, miss, f"{place}")
    if len(faults) > len(cards):
        _table(recording, faults)
    st.caption(
        "Tokens and dollars are from the usage that the API reported; with “about” they are told by"
        " characters. Seconds are an estimate, from how this recording's own first tokens grow with"
        f" what is read afresh, with a 95 % interval. {uses}"
    )


def _cost(miss: Miss) -> tuple[float, float]:
    return miss.seconds.value if miss.seconds else 0.0, miss.missed_tokens


def _sum(misses: Sequence[Miss]) -> str:
    tokens = sum(miss.missed_tokens for miss in misses)
    usd = [miss.usd for miss in misses if miss.usd is not None]
    known = [miss.seconds.value for miss in misses if miss.seconds]
    parts = [f"{units.whole(tokens)} tokens"]
    parts += [units.usd(sum(usd))] * bool(usd)
    parts += [f"about {units.number(sum(known), 2)} s"] * bool(known)
    costs = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    one = len(misses) == 1
    return f"{len(misses):,} {'miss' if one else 'misses'} cost {costs}."


def card(recording: Recording, miss: Miss, key: str) -> None:
    with st.container(key=f"miss-{key}"):
        words, cost, buttons = st.columns([13, 6, 6], vertical_alignment="center")
        words.markdown(f"**{escape(_title(miss))}** &ensp;:small[{escape(where(recording, miss))}]")
        words.caption(escape(miss.evidence))
        if miss.api_reason:
            words.caption(f"The API says: {escape(miss.api_reason)}")
        cost.caption("  \n".join(map(escape, _costs(miss))))
        with buttons, st.container(horizontal=True, vertical_alignment="center"):
            prove.button(recording, miss)
            st.button(
                "Open the call",
                key=f"open-miss-{key}",
                type="tertiary",
                on_click=recorded_call.open_now,
                args=(miss.call_id,),
            )


def _title(miss: Miss) -> str:
    return miss.words[:1].upper() + miss.words[1:]


def where(recording: Recording, miss: Miss) -> str:
    """ "conversation 2, turn 4 · system block 1"."""
    at = recording.conversations
    parts = []
    if miss.call_id in at.index:
        row = at.loc[miss.call_id]
        lane = f", sub-agent {row['lane']:.0f}" if row["lane"] else ""
        parts.append(f"conversation {row['conversation']:.0f}{lane}, turn {row['turn']:.0f}")
    parts += [f"differs in {miss.section}"] * bool(miss.section)
    return " · ".join(parts)


def _costs(miss: Miss) -> list[str]:
    took, about = seconds(miss.seconds), "" if miss.is_counted else "about "
    return [
        part
        for part in (
            f"{about}{units.whole(miss.missed_tokens)} tokens not read"
            if miss.missed_tokens
            else "",
            "" if miss.usd is None else f"{about}{units.usd(miss.usd)}",
            f"{took}, an estimate" if took else "",
        )
        if part
    ]


def _table(recording: Recording, misses: Sequence[Miss]) -> None:
    """All of them; one that is chosen is told as those above are."""
    shown = misses[:MOST_LINES]
    rows = pd.DataFrame(
        {
            "cause": [miss.words for miss in shown],
            "where": [where(recording, miss) for miss in shown],
            "evidence": [miss.evidence for miss in shown],
            "tokens": [miss.missed_tokens for miss in shown],
            "usd": [units.usd(miss.usd) for miss in shown],
            "seconds": [seconds(miss.seconds) or units.MISSING for miss in shown],
            "api": [miss.api_reason or "" for miss in shown],
        }
    )
    part = "All of them" if len(shown) == len(misses) else f"The {MOST_LINES:,} costliest"
    st.caption(f"{part}, {len(misses):,} in all: select one to open it.")
    picked = st.dataframe(
        rows,
        column_config={
            "tokens": st.column_config.NumberColumn("tokens not read", format="localized"),
            "usd": st.column_config.TextColumn("dollars", alignment="right"),
            "seconds": st.column_config.TextColumn("seconds, estimate", alignment="right"),
            "api": "the API says",
        },
        hide_index=True,
        height=min(36 * (len(rows) + 1) + 4, 330),
        on_select="rerun",
        selection_mode="single-row",
        key=f"misses-{recording.run_id}",
    )
    if picked.selection.rows and picked.selection.rows[0] >= MOST_CARDS:  # those stand above
        card(recording, shown[picked.selection.rows[0]], "chosen")
