"""Misses of a recording, those of one cause at one place together and the costliest first: cause,
evidence, cost, and a button that proves the fix."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from lab import units
from lab.harness.reporters import recorded
from lab.recording import sums
from lab.recording.facts import Estimate, Miss
from lab.recordings import Recording
from pages.parts import prove, recorded_call
from pages.parts.frame import escape

MOST_CARDS, MOST_LINES = 6, 1_000
NOTHING = ("", units.MISSING)
NOBODY_TOLD = "No answer said what it read from the cache."


def show(recording: Recording) -> None:
    groups = sums.by_place(recording)
    first = len(recording.misses) - sum(len(group.misses) for group in groups)
    are = "1 call was the first" if first == 1 else f"{first:,} calls were the first"
    uses = f"{are} to use a prefix, which is no miss: somebody has to write it." if first else ""
    if not groups:
        is_told = recording.calls["cache_read_tokens"].notna().any()
        read = "Every call read from the cache what it could." if is_told else NOBODY_TOLD
        st.caption(f"{read} {uses}")
        return
    st.markdown(escape(_sum(recording)))
    for place, group in enumerate(groups[:MOST_CARDS]):
        _row(recording, group, f"{place}")
    if rest := [miss for group in groups[MOST_CARDS:] for miss in group.misses]:
        st.caption(f"{units.counted(len(rest), 'further miss')}:")
        _table(recording, rest, "rest")
    st.caption(" ".join(filter(None, (*_notes(recording, groups), uses))))


def _sum(recording: Recording) -> str:
    """ "5 misses left 2,290 tokens unread: $0.01, 1.2 s [0.9, 1.6] (estimate)."; sums as `show`."""
    misses = sums.faults(recording.misses)
    is_counted = all(miss.is_counted for miss in misses)
    tokens = units.counted(sum(miss.missed_tokens for miss in misses), "token")
    costs = _costs(sums.dollars(misses), sums.seconds(recording, misses), is_counted)
    about = "" if is_counted else "about "
    left = f"{units.counted(len(misses), 'miss')} left {about}{tokens}"
    return f"{left} unread{': ' * bool(costs)}{', '.join(costs)}."


def _notes(recording: Recording, groups: Sequence[sums.Cause]) -> list[str]:
    """What is exact and what is not, where there is such a thing."""
    notes = []
    if any(group.usd for group in groups):
        notes.append("Dollars follow from the usage that the API reported.")
    if not all(group.is_counted for group in groups):
        notes.append(
            "“About” stands where the usage does not tell the tokens: they are worked out from how"
            " many characters the blocks have."
        )
    if any(group.seconds for group in groups):
        notes.append(
            "Seconds are an estimate, from how much later this recording's first tokens come when"
            " more is read afresh; in brackets its 95 % interval."
        )
    elif why := sums.no_seconds(recording):
        notes.append(escape(f"Why seconds are not known: {why[:1].lower()}{why[1:]}"))
    return [*notes, prove.refusal(recording, groups)]


def _row(recording: Recording, group: sums.Cause, key: str) -> None:
    """Misses of one cause at one place; several unfold to their calls."""
    miss, count = group.example, len(group.misses)
    with st.container(key=f"miss-{key}"):
        words, cost, buttons = st.columns([13, 6, 6], vertical_alignment="center")
        if count == 1:
            title = f"{group.words[:1].upper()}{group.words[1:]}"
            place = escape(where(recording, [miss])[0])
            words.markdown(f"**{escape(title)}** &ensp;:small[{place}]")
            words.caption(escape(miss.evidence))
        else:
            title = ": ".join(filter(None, (f"{count:,} × {group.words}", group.look)))
            words.markdown(f"**{escape(title)}**")
            words.caption(f"The costliest: {escape(miss.evidence)}")
        reasons = {other.api_reason for other in group.misses} - {None}
        if len(reasons) == 1:
            words.caption(f"The API says: {escape(reasons.pop())}")
        about = "" if group.is_counted else "about "
        tokens = [f"{about}{units.whole(group.tokens)} tokens not read"] * bool(group.tokens)
        costs = _costs(group.usd, group.seconds, group.is_counted)
        cost.caption("  \n".join(map(escape, (*tokens, *costs))))
        with buttons, st.container(horizontal=True, vertical_alignment="center"):
            calls = [each.call_id for each in group.misses]
            prove.button(recording, group.fix, calls, group.seconds, f"miss-{key}")
            st.button(
                "Open the call" if count == 1 else "Open the costliest",
                key=f"open-miss-{key}",
                type="tertiary",
                on_click=recorded_call.open_now,
                args=(miss.call_id,),
            )
        if count > 1:
            # Shut, their rows are neither written nor sent.
            unfolded = st.expander(
                f"The {count:,} calls", key=f"calls-of-miss-{key}", on_change="rerun"
            )
            if unfolded.open:
                with unfolded:
                    _table(recording, group.misses, key)


def where(recording: Recording, misses: Sequence[Miss]) -> list[str]:
    """Of each "conversation 2, sub-agent 1, turn 4"."""
    placed = recording.conversations.reindex([miss.call_id for miss in misses])
    return [
        ""
        if row.turn != row.turn
        else f"conversation {row.conversation:.0f}"
        f"{f', sub-agent {row.lane:.0f}' if row.lane else ''}, turn {row.turn:.0f}"
        for row in placed.itertuples()
    ]


def _costs(usd: float | None, took: Estimate | None, is_counted: bool) -> list[str]:
    about = "" if is_counted else "about "
    return [
        *[f"{about}{units.usd(usd)}"] * (usd is not None),
        *[f"{recorded.estimate(took)} (estimate)"] * (took is not None),
    ]


def _table(recording: Recording, misses: Sequence[Miss], key: str) -> None:
    """One that is selected is opened as a call."""
    shown = misses[:MOST_LINES]
    rows = pd.DataFrame(
        {
            "where": where(recording, shown),
            "cause": [miss.words for miss in shown],
            "evidence": [miss.evidence for miss in shown],
            "tokens": [miss.missed_tokens for miss in shown],
            "usd": [units.usd(miss.usd) for miss in shown],
            "seconds": [recorded.estimate(miss.seconds) for miss in shown],
            "api": [miss.api_reason or "" for miss in shown],
        }
    )
    empty = [name for name in ("usd", "seconds", "api") if rows[name].isin(NOTHING).all()]
    if rows["cause"].nunique() == 1:
        empty.append("cause")
    name = f"misses-{recording.run_id}-{key}"

    def opened() -> None:
        if picked := st.session_state[name].selection.rows:
            recorded_call.open_now(shown[picked[0]].call_id)

    part = "" if len(shown) == len(misses) else f"The first {MOST_LINES:,} of {len(misses):,}. "
    st.caption(f"{part}Select a row to open its call.")
    st.dataframe(
        rows.drop(columns=empty),
        column_config={
            "tokens": st.column_config.NumberColumn("tokens not read", format="localized"),
            "usd": st.column_config.TextColumn("dollars", alignment="right"),
            "seconds": st.column_config.TextColumn("seconds, estimate", alignment="right"),
            "api": "the API says",
        },
        hide_index=True,
        height=min(36 * (len(rows) + 1) + 4, 330),
        on_select=opened,
        selection_mode="single-row",
        key=name,
    )
