"""Prompt caching: the same prefix read anew, written to the cache, and read from it."""

from lab.techniques.caching import TECHNIQUE
from pages.parts import experiment, frame, views

with frame.titled(TECHNIQUE) as endpoint:
    experiment.show(
        TECHNIQUE, endpoint, views.named("Distribution", "Pairs", "Cache hits", "Race", "Clocks")
    )
