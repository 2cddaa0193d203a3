"""Ladder: the fastest stack of techniques that keeps the quality bar."""

from pages.parts import frame, ladder_page

CLAIM = (
    "Which techniques together make your answers fastest, and are they still good enough? Levers"
    " are screened, what is left races, and the winner meets today in fresh blocks."
)

with frame.open_page("Ladder", CLAIM, endpoint=True) as endpoint:
    ladder_page.show(endpoint)
