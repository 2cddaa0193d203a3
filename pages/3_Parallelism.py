"""Parallelism: independent work one after another, and together."""

from lab.techniques.parallelism import TECHNIQUE
from pages.parts import experiment, frame, views

with frame.titled(TECHNIQUE) as endpoint:
    experiment.show(TECHNIQUE, endpoint, views.named("Speed-up", "Spans", "Distribution", "Pairs"))
