"""The `await` that was forgotten: Python tells of a coroutine that nobody awaited when it is thrown
away, in a warning that few see."""

from __future__ import annotations

import re
import warnings
from typing import Any

NEVER_AWAITED = r"coroutine '(.*)' was never awaited"


class Forgotten(warnings.catch_warnings):
    """`names` are the coroutines that were thrown away while this context was open; other warnings
    go where they went before."""

    def __enter__(self) -> None:
        super().__enter__()
        self.names: list[str] = []
        warnings.filterwarnings("always", NEVER_AWAITED, RuntimeWarning)
        show = warnings.showwarning

        def keep(message: Any, *where: Any) -> None:
            match = re.match(NEVER_AWAITED, str(message))
            self.names.append(match[1]) if match else show(message, *where)

        warnings.showwarning = keep
