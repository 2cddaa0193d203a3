"""A request as people have it at hand, read as a Messages body: a curl command, a call of the
anthropic package, or JSON. Nothing of it is run, no file of it is opened, and no key of it is kept.
"""

from __future__ import annotations

import re

from lab.model import LabError
from lab.pasted.body import Misplaced, Pasted, json_object
from lab.pasted.curl import KEYS, command_of, from_curl
from lab.pasted.proposals import CACHED, PROPOSALS, SMALLER, STREAMED
from lab.pasted.python_call import from_python
from lab.scenarios import definitions

__all__ = [
    "CACHED",
    "FORMS",
    "PROPOSALS",
    "SMALLER",
    "STREAMED",
    "Misplaced",
    "Pasted",
    "read",
    "without_keys",
]

FORMS = "a curl command, a Python call or a JSON body"
WRITTEN_KEYS = (
    rf"(?i)((?:-H|--header)[ =]*[$'\"]*(?:{'|'.join(KEYS)})\s*:\s*)([^'\"\s]+(?: +[^'\"\s\\]+)?)",
    r"((?:\s-u|--user|--proxy-user)[ =]*['\"]?)([^'\"\s]+)",
    r"((?:api_key|auth_token)\s*=\s*['\"])([^'\"]+)",
    r"()(\bsk-[A-Za-z0-9_-]{8,})",
)
DROPPED = "…"


def read(text: str) -> Pasted:
    """The body in a text; Misplaced, or another LabError, in words where there is none.

    What streams says so in the body, by `stream`: a command and a call do not unless they ask.
    """
    text = text.replace("\r\n", "\n")
    if text.lstrip("\ufeff \t\n").startswith(("{", "[")):
        return Pasted(json_object(text, text, range(len(text) + 1)), "json")
    if command := command_of(text):
        pasted = from_curl(text, command)
    elif re.search(r"messages[\w.]*\.(create|stream)\b", text):
        pasted = from_python(text)
    elif re.match(r"\s*curl\b", text):
        raise LabError("This curl command cannot be read: paste the whole of it.")
    else:
        raise LabError(f"This is neither {FORMS.replace(' or ', ' nor ')}.")
    if not isinstance(pasted.body.get("messages"), list):
        raise LabError("This is no request to the Messages API: its body has no list of messages.")
    definitions.check_characters(pasted.body)
    return pasted


def without_keys(text: str) -> str:
    """The text with an ellipsis in place of every key in it: what may stand on a page."""
    for pattern in WRITTEN_KEYS:
        text = re.sub(pattern, rf"\1{DROPPED}", text)
    return text
