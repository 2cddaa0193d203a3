"""No other site may show the dashboard inside a frame, where a press on one of its buttons could be
had by a trick."""

from typing import Any

HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Unframed:
    """ASGI middleware: Streamlit has no setting for these headers."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                others = [header for header in headers if header[0].lower() not in dict(HEADERS)]
                message = {**message, "headers": [*others, *HEADERS]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
