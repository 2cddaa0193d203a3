"""Watch: a request beside a control for days, and when its latency changed."""

from pages.parts import frame, watch_page

CLAIM = (
    "Did Claude get slower, or only your request? Both are asked every few minutes, beside each"
    " other, and a change is told with its size and whose it is."
)

with frame.open_page("Watch", CLAIM, endpoint=True) as endpoint:
    watch_page.show(endpoint)
