"""What every answer of the dashboard's server says beside its content: that no other site may show
the dashboard inside a frame, where a press on one of its buttons could be had by a trick; and which
code a page will need, so that the browser reads it while the page's script runs."""

from pathlib import Path
from typing import Any

import streamlit

HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def of_pages() -> tuple[tuple[bytes, bytes], ...]:
    """Of the HTML: Streamlit fetches what draws charts, its largest part by far, with the first
    chart, and a page waits for it longer than for its numbers."""
    root = Path(streamlit.__file__).parent / "static"
    code = [file.relative_to(root).as_posix() for file in root.rglob("PlotlyChart.*.js")]
    return tuple((b"link", f"</{path}>; rel=modulepreload".encode()) for path in code)


class Headed:
    """ASGI middleware: Streamlit has no setting for these headers."""

    def __init__(self, app: Any) -> None:
        self.app, self.of_pages = app, of_pages()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                others = [header for header in headers if header[0].lower() not in dict(HEADERS)]
                kinds = [value for name, value in headers if name.lower() == b"content-type"]
                is_page = any(kind.startswith(b"text/html") for kind in kinds)
                own = [*HEADERS, *(self.of_pages if is_page else ())]
                message = {**message, "headers": [*others, *own]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
