"""The server with known emission times, on a core of its own, for whatever client is to be measured
against it.

    python bench/known_server.py [--port 8199] [--core 1] [--first-ms 200] [--gap-ms 10]

POST /v1/messages and /v1/chat/completions stream 64 tokens; GET /known says when each request was
read and each token written, DELETE /known forgets them. lab/load/known.py is the server itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.load import known


def main() -> None:
    if "--core" not in " ".join(sys.argv) and hasattr(os, "sched_getaffinity"):
        sys.argv += ["--core", str(max(os.sched_getaffinity(0))), "--spin"]
    known.main()


if __name__ == "__main__":
    main()
