"""Three ways in: record the app, import what it left, observe it in code."""

import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from lab import importers, recorder
from lab.endpoints import consent, registry
from lab.paths import COMMAND
from lab.recorder import demo as recorder_demo
from lab.store.store import Store
from pages.parts import your_app
from pages.parts.frame import escape, guard

CODE = """import lab
from anthropic import Anthropic

client = lab.observe(Anthropic())"""
CLAUDE = "Claude API"
IMPORTED = "imported"


def more() -> None:
    is_empty = not st.session_state[your_app.SHOWN][1] and recorder.current() is None
    with st.expander("Record or import more", expanded=is_empty, key="bring-more"):
        show()


def show() -> None:
    record, bring, code = st.columns(3)
    with record, st.container(border=True, height="stretch", key="way-record"), guard():
        _record()
    with bring, st.container(border=True, height="stretch", key="way-import"), guard():
        _import()
    with code, st.container(border=True, height="stretch", key="way-code"):
        _code()
    with guard():
        demo()


def demo() -> None:
    """For those without an app at hand."""
    with st.container(horizontal=True, vertical_alignment="center", key="demo"):
        if st.button(
            "Try it with the demo agent", key="start-demo", disabled=recorder.current() is not None
        ):
            with st.spinner("Starting the demo agent"):
                card = recorder_demo.start()
            your_app.look_at(card.run_id)
        st.caption(
            "No app at hand? A small travel agent asks a model on this machine, with the time of"
            " day in its system prompt: a mistake that breaks its cache. It needs no key, and keeps"
            " its text, so that the fix can be proven."
        )


def _record() -> None:
    st.markdown("**Record**")
    st.caption(
        "A recorder on this machine passes your app's requests on, byte for byte, and notes what"
        " arrived when. Your key passes through it and is kept nowhere."
    )
    name = st.text_input("Name", key="recording-name", max_chars=80, placeholder="my agent")
    upstream = st.selectbox(
        "Pass on to",
        list(dict.fromkeys(["anthropic", *registry.names(), *consent.stored()])),
        accept_new_options=True,
        key="upstream",
        format_func=lambda name: CLAUDE if name == "anthropic" else name,
        help="Where your app sends its requests now: a name, or the base URL of a Messages API.",
    )
    keep = _keep_text("keep-recorded")
    going = recorder.current()
    if st.button(
        "Start recording",
        type="primary",
        key="start-recorder",
        disabled=going is not None,
        help="A recorder runs: stop it above first." if going else None,
    ):
        with st.spinner("Starting the recorder"):
            card = recorder.start(upstream, keep, name=name.strip() or None)
        your_app.look_at(card.run_id)
    st.caption(f"Or in a terminal: `{COMMAND} record -- python my_agent.py`")


def _keep_text(key: str) -> bool:
    return st.toggle(
        "Keep text",
        key=key,
        help=(
            "Without it only structure is kept: kinds and sizes of blocks, and hashes made with a"
            " key of this machine. With it requests and answers are kept too, which is what a"
            " replay needs. Keys are blanked either way."
        ),
    )


def _import() -> None:
    st.markdown("**Import**")
    titles = ", ".join(escape(importer.TITLE) for importer in importers.IMPORTERS)
    st.caption(f"What was written already: {titles}. Importing twice adds nothing.")
    files = st.file_uploader(
        "Files to import", accept_multiple_files=True, key="app-files", label_visibility="collapsed"
    )
    keep = _keep_text("keep-imported")
    if st.button("Import", key="import-app", disabled=not files):
        summary = st.session_state[IMPORTED] = _take_in(files, keep)
        if summary.runs:
            your_app.look_at(summary.runs[0])
        tell()
    st.caption(f"A whole folder: `{COMMAND} import ~/.claude/projects`")


def _take_in(files: list[Any], keep: bool) -> importers.Summary:
    bar = st.progress(0.0, "Reading")

    def move(done: importers.Progress) -> None:
        read = f"{done.read_bytes / 1e6:,.0f} of {done.size / 1e6:,.0f} MB"
        bar.progress(min(1.0, done.read_bytes / max(1, done.size)), f"{done.calls:,} calls, {read}")

    try:
        with tempfile.TemporaryDirectory(prefix="lab-import-") as folder:
            places = [_laid(file, Path(folder), place) for place, file in enumerate(files)]
            return importers.bring_in(places, Store(), keep_text=keep, progress=move)
    finally:
        bar.empty()


def tell() -> None:
    """What was imported a moment ago, once."""
    if summary := st.session_state.pop(IMPORTED, None):
        st.success("  \n".join(map(escape, summary.sentences())))


def _laid(file: Any, folder: Path, place: int) -> Path:
    """Two files may have one name: each lies in a folder of its own."""
    path = folder / str(place) / (Path(file.name).name or "file")
    path.parent.mkdir()
    path.write_bytes(file.getbuffer())
    return path


def _code() -> None:
    st.markdown("**In code**")
    st.caption("Wrap the client of the official SDK: all else of your app stays as it is.")
    st.code(CODE, language="python")
    st.caption(
        "It works for `Anthropic` and `AsyncAnthropic`, and never holds your app up. With"
        " `keep_text=True` it keeps text too."
    )
