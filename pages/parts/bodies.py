"""The user's own requests as arms: pasted or uploaded, each a whole Messages body or a change to one, checked where they stand."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from lab.model import LabError

EXAMPLES = (
    '{"name": "a", "max_tokens": 64, "messages": [{"role": "user", "content": "Name three rivers of Europe."}]}',
    '{"name": "b", "system": "Be brief.", "max_tokens": 64, "messages": [{"role": "user", "content": "Name three rivers of Europe."}]}',
)
MOST = 8


def form() -> dict[str, Any]:
    """The knobs of the technique `ab` from two to eight bodies."""
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
    texts = [file.getvalue().decode("utf-8", errors="replace") for file in files]
    if not texts:
        columns = st.columns(2)
        for place in range(int(count)):
            start = (
                EXAMPLES[place]
                if place < len(EXAMPLES)
                else EXAMPLES[1].replace('"b"', f'"{chr(97 + place)}"')
            )
            label = f"Request {chr(97 + place)}" + (", the baseline" if place == 0 else "")
            texts.append(
                columns[place % 2].text_area(label, start, height=180, key=f"body-{place}")
            )
    names = [file.name.removesuffix(".json") for file in files] or [
        chr(97 + place) for place in range(len(texts))
    ]
    bodies = [_body(text, name) for text, name in zip(texts, names, strict=True)]
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


def _body(text: str, name: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise LabError(
            f"Request {name} is not JSON: {error.msg} at line {error.lineno}, character {error.colno}."
        ) from None
    if not isinstance(body, dict):
        raise LabError(f"Request {name} is not a JSON object.")
    return {"name": name, **body}
