"""Who sent a request, as far as a client says it: the conversation and the sub-agent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

SESSION_HEADERS = (
    "x-claude-code-session-id",
    "x-claude-remote-session-id",
    "x-session-id",
    "session-id",
)
"""Of the conversation, the surest first."""
AGENT_HEADER = "x-claude-code-agent-id"
"""Of a sub-agent; the main one sends none."""
SESSION_IN_USER = re.compile(r"_session_([0-9a-fA-F-]{8,})$")


def conversation(headers: Mapping[str, str], body: Mapping[str, Any] | None) -> str | None:
    """The session that the client names; headers by their names in lower case. A plain user's id is
    none: a user has many."""
    for name in SESSION_HEADERS:
        if headers.get(name):
            return headers[name]
    metadata = (body or {}).get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, Mapping) else None
    if not isinstance(user, str):
        return None
    if match := SESSION_IN_USER.search(user):
        return match[1]
    try:
        named = json.loads(user)
    except (ValueError, RecursionError):
        return None
    session = named.get("session_id") if isinstance(named, dict) else None
    return session if isinstance(session, str) and session else None


def agent(headers: Mapping[str, str]) -> str | None:
    return headers.get(AGENT_HEADER) or None
