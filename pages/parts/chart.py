"""A figure on a page: in the theme's colours, its title and legend as text around it, its words for
screen readers, its picture button and, where asked, its clicks."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from lab.figures import layout, markup, palette

_scheme = st.components.v2.component(
    "lab.scheme",
    html="<i></i>",
    js="""export default ({ setTriggerValue }) => {
        const dark = matchMedia("(prefers-color-scheme: dark)");
        const changed = () => setTimeout(() => setTriggerValue("changed", true), 300);
        dark.addEventListener("change", changed);
        return () => dark.removeEventListener("change", changed);
    };""",
)


def dark() -> bool:
    """Whether the reader's theme is dark; figures are drawn for one ground or the other."""
    return st.context.theme.type == "dark"


def dress() -> None:
    """The rules that figures and the page's own rules need, in the theme's colours; once a page,
    and anew when the reader's system turns dark or light."""
    _scheme(key="scheme", height=1)
    st.html(f"<style>{palette.variables(dark())}{markup.STYLE}</style>")


def drawn() -> dict[str, go.Figure]:
    """The figures that stand on the page so far, by their keys."""
    figures = st.session_state.get("drawn", {})
    return {key: figure for key, figure in figures.items() if layout.title(figure)}


def show(figure: go.Figure, key: str, clicks: bool = False) -> list[dict[str, Any]]:
    """Draw a figure; with `clicks`, return the points that were clicked last (each with its
    customdata)."""
    words = (figure.layout.meta or {}).get("alt") or layout.alt(figure)
    settings = {
        "theme": None,
        "key": key,
        "alt": words,
        "config": markup.config(words[:60], st.query_params.get("picture", "png")),
    }
    if words:
        st.session_state.setdefault("drawn", {})[key] = figure
    if clicks:
        settings |= {"on_select": "rerun", "selection_mode": "points"}
    with st.container(key=f"{'figure' if layout.title(figure) else 'bare'}-{key}", gap=None):
        if head := markup.head(figure):
            st.html(head)
        event = st.plotly_chart(figure, **settings)
        if legend := markup.key(figure):
            st.html(legend)
    return list(event.selection.points) if clicks and event else []
