"""The user's own requests as arms: pasted as a curl command, a Python call or a JSON body, or
uploaded; the second is proposed from the first. Each is checked where it stands."""

import json
from string import ascii_lowercase
from typing import Any

import streamlit as st

from lab import pasted
from lab.endpoints.registry import Endpoint
from lab.model import LabError
from lab.techniques.your_requests import TECHNIQUE
from pages.parts import knob_form, set_up
from pages.parts.frame import escape

QUESTION = {
    "name": "a",
    "stream": False,
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Name three rivers of Europe."}],
}
MOST = 8
OWN = "my own"
SHORT = 4000
"""Characters of a prompt that may be too few for a cache."""


def form(endpoint: Endpoint) -> set_up.Filled:
    """The knobs of a technique whose arms are the user's bodies, from two to eight of them; with
    what is wrong, where something is."""
    bodies: list[dict[str, Any]] = []
    problems: list[str] = []
    above = st.container()
    files = _files()
    with above:
        places = [(name, text, above) for name, text in files] or _typed(endpoint)
    for name, text, column in places:
        with column.container():
            try:
                bodies.append(_body(name, text, endpoint))
            except LabError as error:
                problems.append(_show_error(name, error))
    tokens = 64
    if any("max_tokens" not in body for body in bodies):
        tokens = st.number_input(
            "Most tokens where a body does not say",
            1,
            64_000,
            64,
            key="answer_tokens",
            bind="query-params",
            width=320,
        )
    values = {"bodies": json.dumps(bodies, ensure_ascii=False), "answer_tokens": int(tokens)}
    if not problems:
        try:
            knob_form.checked(TECHNIQUE.knobs, values)
        except LabError as error:
            problems.append(_show_error("", error))
    st.caption(
        "A run keeps the shape of your requests and how long the answers were, and no word of"
        " either, unless you choose so under More options."
    )
    if not problems:
        st.session_state["sound-bodies"] = values
    # With a mistake in one, what follows stays as it was.
    return set_up.Filled(st.session_state.get("sound-bodies", {}), " ".join(problems))


def _files() -> list[tuple[str, str]]:
    """(the arm's name, its text) of each file."""
    with st.expander("Upload them as files", key="upload-bodies"):
        files = st.file_uploader(
            "Files",
            type=["json", "sh", "txt", "py"],
            accept_multiple_files=True,
            key="body-files",
            help="One request a file: JSON, a curl command or a Python call. Two or more.",
        )
    return [
        (
            file.name.rpartition(".")[0],
            pasted.without_keys(file.getvalue().decode("utf-8", errors="replace")),
        )
        for file in files
    ]


def _typed(endpoint: Endpoint) -> list[tuple[str, str, Any]]:
    """(the arm's name, what stands in its text area, where that is) of each request."""
    if "body-0" not in st.session_state:
        st.session_state["body-0"] = _written(QUESTION)
    choices = _choices(endpoint)
    if st.session_state.get("against") not in choices:
        st.session_state["against"] = choices[0]
    if "body-1" not in st.session_state:
        _propose(endpoint)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "Compare with",
            choices,
            key="against",
            required=True,
            on_change=_propose,
            args=(endpoint,),
            help="Proposes request b: request a as a stream, with its beginning in the cache, or on"
            " a smaller model, where this endpoint has one. Change it as you like.",
        )
        count = st.number_input(
            "Requests",
            2,
            MOST,
            2,
            key="requests",
            bind="query-params",
            width=140,
            help="The first is the baseline.",
        )
    areas, columns = [], []
    for place, letter in enumerate(ascii_lowercase[: int(count)]):
        if place % 2 == 0:
            columns = st.columns(2)
        column = columns[place % 2]
        areas.append((letter, _area(place, letter, column, endpoint), column))
    return areas


def _area(place: int, letter: str, column: Any, endpoint: Endpoint) -> str:
    key = f"body-{place}"
    if key not in st.session_state:
        first = _read_or_none(st.session_state["body-0"]) or QUESTION
        st.session_state[key] = _written({**first, "name": letter})
    text = column.text_area(
        f"Request {letter}" if place else f"Request {letter}, the baseline",
        height=300,
        key=key,
        on_change=_settle,
        args=(place, endpoint),
        help=f"Paste {pasted.FORMS}. Keys in it are dropped.",
    )
    if left_out := st.session_state.get(f"left-out-{place}"):
        column.caption(escape(f"Left out: {', '.join(left_out)}."))
    return text


def _choices(endpoint: Endpoint) -> list[str]:
    """What the first request can be compared with on this endpoint."""
    first = _read_or_none(st.session_state["body-0"]) or {}
    apply = {
        pasted.STREAMED: "streaming" in endpoint.capabilities,
        pasted.CACHED: "caching" in endpoint.capabilities,
        pasted.SMALLER: _smaller(first, endpoint) is not None,
    }
    return [*(name for name in pasted.PROPOSALS if apply[name]), OWN]


def _smaller(body: dict[str, Any], endpoint: Endpoint) -> str | None:
    """The endpoint's small model, where the body does not ask it already."""
    small = endpoint.models.get("small")
    model = body.get("model")
    if model is None or not _is_there(model, endpoint):
        model = endpoint.models.get(endpoint.generates)
    return small if small and small != model else None


def _is_there(model: str, endpoint: Endpoint) -> bool:
    return not endpoint.traits.own_server or model in endpoint.models.values()


def _settle(place: int, endpoint: Endpoint) -> None:
    """Something was typed or pasted: it becomes a body at once, and its keys go."""
    key, note = f"body-{place}", f"left-out-{place}"
    text = st.session_state[key]
    st.session_state[key] = pasted.without_keys(text)
    try:
        read = pasted.read(text)
    except LabError:
        st.session_state.pop(note, None)
        return
    st.session_state[note] = read.left_out
    # What the API takes where nothing is said; in words, so that the two can be compared.
    says = {"stream": False} if "messages" in read.body else {}
    name = read.body.get("name") or ascii_lowercase[place]
    st.session_state[key] = _written({"name": name, **says, **read.body})
    if place == 0:
        _propose(endpoint)
    elif place == 1:
        st.session_state["against"] = OWN


def _propose(endpoint: Endpoint) -> None:
    """Request b from request a, as it is to be compared."""
    against = st.session_state["against"]
    first = _read_or_none(st.session_state["body-0"])
    if against == OWN or first is None:
        return
    more = (_smaller(first, endpoint),) if against == pasted.SMALLER else ()
    if None in more:
        return
    proposed = pasted.PROPOSALS[against](first, *more)
    name = f"{str(first.get('name') or 'a')[:20]} {against.removeprefix('itself ')}"
    st.session_state["body-1"] = _written({**proposed, "name": name})
    st.session_state.pop("left-out-1", None)


def _read_or_none(text: str) -> dict[str, Any] | None:
    try:
        return pasted.read(text).body
    except LabError:
        return None


def _written(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False)


def _body(name: str, text: str, endpoint: Endpoint) -> dict[str, Any]:
    """The body to be sent; what this endpoint lacks is left out of it, and said."""
    body = {"name": name, **pasted.read(text).body}
    model = body.get("model")
    if isinstance(model, str) and not _is_there(model, endpoint):
        del body["model"]
        st.caption(
            escape(f"{endpoint.name} has no {model}: the model chosen below answers in its place.")
        )
    if body.get("primed") and len(text) < SHORT:
        st.caption(
            "Its beginning may be too short: models cache from some 512 to 4,096 tokens on, the"
            " embedded one from 256."
        )
    return body


def _show_error(name: str, error: LabError) -> str:
    """The sentence, and where the mistake has a place, the line with a caret under it."""
    words = f"Request {name}, {error}" if isinstance(error, pasted.Misplaced) else str(error)
    if name and not isinstance(error, pasted.Misplaced):
        words = f"Request {name}: {words}"
    st.error(escape(words))
    if isinstance(error, pasted.Misplaced):
        st.code(error.excerpt, language=None)
    return words
