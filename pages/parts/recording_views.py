"""The rows under a recording's picture: misses, what each technique would be worth, first tokens,
the cache, calls."""

import pandas as pd
import streamlit as st

from lab import endpoint_kinds, units
from lab.figures import cache_by_call, first_token
from lab.harness.reporters import recorded
from lab.recording import cache_use, growth, sums
from lab.recording.facts import Worth
from lab.recordings import Recording
from lab.view_parts import Column
from pages.parts import chart, controls, frame, prove, recorded_call, recorded_misses, tables
from pages.parts.frame import escape

MOST_BARS, MOST_LINES = 400, 1_000
CALL_WORDS = {
    "lane": Column("sub-agent"),
    "turn": Column("turn"),
    "model": "model",
    "ttft_ms": Column("first token, ms", "localized"),
    "total_ms": Column("whole, ms", "localized"),
    "prompt_tokens": Column("prompt tokens", "localized"),
    "cache_read_tokens": Column("read", "localized"),
    "cache_write_tokens": Column("written", "localized"),
    "output_tokens": Column("answered", "localized"),
    "cost_usd": st.column_config.NumberColumn("dollars", format="%.5f"),
    "stop_reason": "stopped for",
    "error_kind": "failed",
    "note": "note",
    "call_id": "call",
}


def show(recording: Recording, calls: pd.DataFrame) -> None:
    """What is chosen, and only that; `calls` are those of the conversation that is looked at."""
    views = {
        "Misses": ("Looking why calls missed", lambda: recorded_misses.show(recording)),
        "What it would be worth": ("Working out what each is worth", lambda: worth(recording)),
        "First token": ("Fitting the lines", lambda: first_tokens(recording)),
        "Cache by call": ("Looking what could be read", lambda: cache(recording, calls)),
        "Calls": ("Listing the calls", lambda: table(recording, calls)),
    }
    chosen = controls.segments("What was found", views, "view")
    doing, draw = views[chosen]
    key = f"found-{list(views).index(chosen)}"
    with st.container(key=key), st.spinner(doing, show_time=True):
        draw()


def worth(recording: Recording) -> None:
    if not recording.worth:
        st.caption("Nothing was found that a technique would make faster or cheaper here.")
        return
    for place, row in enumerate(recording.worth):
        _worth(recording, row, place)
    bounded = any(row.is_upper_bound for row in recording.worth)
    bound = " “At most” is an upper bound: less may come of it." if bounded else ""
    untimed = any(row.seconds is None for row in recording.worth)
    st.caption(
        "Estimates from this recording alone, each with what it assumes."
        f"{bound} Only a replay or a run of your own proves one."
        f" {prove.refusal(recording, recording.worth)}"
    )
    if untimed and (why := sums.no_seconds(recording)):
        st.caption(escape(f"Why seconds are not known: {why[:1].lower()}{why[1:]}"))


def _worth(recording: Recording, row: Worth, place: int) -> None:
    with st.container(key=f"worth-{place}"):
        words, gain, buttons = st.columns([13, 6, 6], vertical_alignment="center")
        words.markdown(f"**{escape(row.title)}**")
        words.caption(escape(row.assumption))
        gain.caption("  \n".join(map(escape, recorded.gains(row))))
        with buttons, st.container(horizontal=True, vertical_alignment="center"):
            if row.fix:
                prove.button(
                    recording, row.fix, row.calls, row.seconds, f"worth-{place}", row.is_upper_bound
                )
            if row.technique and (page := frame.page_of(row.technique)):
                frame.link(page, f"See {page.label[:1].lower()}{page.label[1:]}")


def first_tokens(recording: Recording) -> None:
    """Against the prompt and against the turn."""
    relation = recording.relation
    title = "How the first token grows with the prompt is not known"
    if relation:
        slope = relation.ms_per_1000_uncached
        grows = units.estimated("ttft_ms", slope.value, slope.low, slope.high).removeprefix("+")
        title = f"1,000 tokens read afresh take {grows} before the first token"
    kind = recording.run["endpoint_kind"]
    calls, placed = recording.calls, recording.conversations
    for key, grown, head, x_title in (
        ("prompt", growth.against_prompt(calls, placed), title, "prompt tokens"),
        ("turn", growth.against_turn(calls, placed), "First token, turn by turn", "turn"),
    ):
        figure = first_token.first_token(
            grown, chart.dark(), title=head, x_title=x_title, kind=kind
        )
        points = chart.show(figure, key=f"first-{key}-{recording.run_id}", clicks=True)
        recorded_call.follow(points, f"first-{key}")
    st.caption(
        "Lines by a fit that a few slow calls do not bend; their intervals are 95 %. Click a dot to"
        f" open its call. {escape(sums.no_seconds(recording))}"
    )


def cache(recording: Recording, calls: pd.DataFrame) -> None:
    """What each call of the conversation read, and the share of what it could have read."""
    whole = recording.cache_use
    share = cache_use.hit_share(whole)
    if share is None and whole["could_read"].notna().any():
        title = "Nothing could have been read from the cache"
    elif share is None:
        title = "What could have been read is not known here"
    else:
        share = f"{'' if cache_use.is_counted(whole) else 'About '}{units.percent(share)}"
        title = f"{share} of what could have been read from the cache was read"
    shown, place = _around(calls, MOST_BARS)
    part = f"conversation {calls['conversation'].iloc[0]:.0f}{place and f', {place}'}"
    shown = shown.join(whole, on="call_id")
    figure = cache_by_call.cache_by_call(shown, chart.dark(), title=title, part=part)
    points = chart.show(figure, key=f"cache-{recording.run_id}-{part}", clicks=True)
    recorded_call.follow(points, "cache")
    st.caption(
        "The share is of the whole recording, and of tokens that an earlier call had made readable:"
        " what nobody could have read does not count. Click a bar to open its call."
    )


def table(recording: Recording, calls: pd.DataFrame) -> None:
    calls = calls.assign(lane=calls["lane"].where(calls["lane"] > 0))  # the main one has no number
    names = ("conversation", *CALL_WORDS)
    columns = [name for name in names if name in calls and not calls[name].isna().all()]
    rows, part = _around(calls[columns].drop(columns="conversation"), MOST_LINES)
    key = f"calls-{recording.run_id}-{part}"

    def opened() -> None:
        if picked := st.session_state[key].selection.rows:
            recorded_call.open_now(rows["call_id"].iloc[picked[0]])

    tables.show(
        rows,
        key=key,
        columns=CALL_WORDS,
        height=min(36 * (len(rows) + 1) + 4, 430),
        on_select=opened,
        selection_mode="single-row",
    )
    kind = endpoint_kinds.kind(recording.run["endpoint_kind"])
    part = f"{part[:1].upper()}{part[1:]} of this conversation" if part else "This conversation"
    st.caption(
        f"{part}, {kind.name}. Select a row to open its call; the files hold the whole"
        " conversation."
    )
    controls.files(calls[columns], f"recording-{units.short_id(recording.run_id)}")


def _around(calls: pd.DataFrame, most: int) -> tuple[pd.DataFrame, str]:
    """At most so many calls, with those that are chosen above among them, and which they are; ""
    where they are all."""
    if len(calls) <= most:
        return calls, ""
    first = int(st.session_state.get("calls") or 0) // most * most
    last = min(first + most, len(calls))
    return calls.iloc[first:last], f"calls {first + 1:,} to {last:,} of {len(calls):,}"
