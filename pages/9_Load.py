"""Load: many requests at once, or so many a second, and what their answers then take."""

from pages.parts import frame, load_page

CLAIM = (
    "How much load does an endpoint take? Many requests at once, or so many a second: what their"
    " answers take, how much gets done, and from where on it no longer keeps up."
)

with frame.open_page("Load", CLAIM, endpoint=True) as endpoint:
    load_page.show(endpoint)
