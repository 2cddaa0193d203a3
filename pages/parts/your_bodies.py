"""The user's own requests as arms: pasted or uploaded, each a whole Messages body or a change to
one, checked where they stand."""

import json
from string import ascii_lowercase
from typing import Any

import streamlit as st

from lab.model import LabError

QUESTION = {
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Name three rivers of Europe."}],
}
MOST = 8


def form() -> dict[str, Any]:
    """The knobs of a technique whose arms are the user's bodies, from two to eight of them."""
    count = st.number_input(
        "Requests",
        2,
        MOST,
        2,
        key="requests",
        bind="query-params",
        width=160,
        help="The first is the baseline.",
    )
    files = st.file_uploader(
        "Upload bodies",
        type=["json"],
        accept_multiple_files=True,
        key="body-files",
        help="One JSON file a request.",
    )
    texts = [
        (file.name.removesuffix(".json"), file.getvalue().decode("utf-8", errors="replace"))
        for file in files
    ]
    bodies = [_body(name, text) for name, text in texts or _typed(int(count))]
    tokens = st.number_input(
        "Most tokens where a body does not say",
        1,
        64_000,
        64,
        key="answer_tokens",
        bind="query-params",
        width=320,
    )
    return {"bodies": json.dumps(bodies, ensure_ascii=False), "answer_tokens": int(tokens)}


def _typed(count: int) -> list[tuple[str, str]]:
    """One text area a request: (the arm's name, what stands in it)."""
    texts, columns = [], st.columns(2)
    for place, name in enumerate(ascii_lowercase[:count]):
        label = f"Request {name}"
        own = {"system": "Be brief."} if place else {}
        text = columns[place % 2].text_area(
            label if place else f"{label}, the baseline",
            json.dumps({"name": name, **own, **QUESTION}),
            height=180,
            key=f"body-{place}",
        )
        texts.append((name, text))
    return texts


def _body(name: str, text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise LabError(
            f"Request {name} is not JSON: {error.msg} at line {error.lineno}, character"
            f" {error.colno}."
        ) from None
    if not isinstance(body, dict):
        raise LabError(f"Request {name} is not a JSON object.")
    return {"name": name, **body}
