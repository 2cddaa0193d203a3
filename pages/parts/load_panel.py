"""A load while it goes on: which level, how far, and what its answers take by now."""

from html import escape as html
from typing import Any

import streamlit as st

from lab import processes, units
from lab.model import LOAD
from pages.parts import run_panel
from pages.parts.frame import escape, guard


def watch() -> str | None:
    """As run_panel.watch, of loads."""
    return run_panel.watch(LOAD, panel=show)


@st.fragment(run_every=run_panel.EVERY_S)
def show(run_id: str) -> None:
    """Until the load ends; then the whole page is drawn again, once."""
    with guard():
        card = processes.running()
        if card is None or card.run_id != run_id:
            st.rerun()
        _draw(run_panel.entries(card), run_id)


def _draw(entries: list[dict[str, Any]], run_id: str) -> None:
    begun = [entry for entry in entries if entry["kind"] == "level"]
    ended = [entry for entry in entries if entry["kind"] == "level_ended"]
    notes = [entry["text"] for entry in entries if entry["kind"] == "note"]
    now = next((entry for entry in reversed(entries) if entry["kind"] == "load"), None)
    with st.container(border=True, key="run-panel"):
        if not begun:
            run_panel.line(run_panel.PREPARING, 0.0, run_id)
        elif len(ended) == len(begun) and len(ended) == begun[-1]["of"]:
            run_panel.line("Measuring the instrument itself", 1.0, run_id)
        else:
            run_panel.line(*_state(begun[-1], now), run_id)
        if now and begun and now["level"] == begun[-1]["level"]:
            _figures(now)
        if ended:
            _table(ended)
        if notes:
            st.caption(escape(notes[-1]))


def _state(level: dict[str, Any], now: dict[str, Any] | None) -> tuple[str, float]:
    """ "Level 2 of 5: 16 streams · 40 of 96 requests · about 3 s left", and the share done: of all
    levels, or where a search goes on, of this one."""
    of = f" of {level['of']}" if level["of"] else ""
    parts = [f"Level {level['level']}{of}: {level['label']}"]
    done = 0.0
    if now and now["level"] == level["level"]:
        parts.append(f"{now['done']:,} of {now['planned']:,} requests")
        if now.get("left_s") is not None:
            parts.append(f"about {units.duration(now['left_s'])} left")
        if now.get("spent_usd"):
            parts.append(f"{units.usd(now['spent_usd'])} spent")
        done = now["done"] / max(1, now["planned"])
    if level["of"]:
        done = (level["level"] - 1 + done) / level["of"]
    return escape(" · ".join(parts)), done


def _figures(now: dict[str, Any]) -> None:
    numbers = {
        "p50 first token": units.ms(now.get("ttft_p50_ms")),
        "p95 first token": units.ms(now.get("ttft_p95_ms")),
        "requests a second": units.number(now.get("requests_per_s")),
        "tokens a second": units.number(now.get("tokens_per_s")),
        "failed": f"{now.get('failed') or 0:,}",
    }
    for column, (words, text) in zip(st.columns(len(numbers)), numbers.items(), strict=True):
        column.metric(words, text)
    if now.get("errors"):
        st.caption(escape(", ".join(f"{n:,} {kind}" for kind, n in now["errors"].items())))


def _table(ended: list[dict[str, Any]]) -> None:
    rows = [
        {
            "load": entry["label"],
            "requests": units.whole(entry["done"]),
            "failed": units.whole(entry["failed"]),
            "p50 first token": units.ms(entry["ttft_p50_ms"]),
            "p95 first token": units.ms(entry["ttft_p95_ms"]),
            "requests/s": units.number(entry["requests_per_s"]),
            "tokens/s": units.number(entry["tokens_per_s"]),
            "ended early": entry.get("reason") or "",
        }
        for entry in ended
    ]
    if not any(row["ended early"] for row in rows):
        for row in rows:
            del row["ended early"]
    # Drawn anew twice a second: a grid of Streamlit's own would hold the page up.
    heads = "".join(f"<th>{html(name)}</th>" for name in rows[0])
    lines = "".join(_line(list(row.values())) for row in rows)
    st.html(
        f'<div class="lab-scroll"><table class="lab-table"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _line(cells: list[str]) -> str:
    first, *rest = map(html, cells)
    return f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"
