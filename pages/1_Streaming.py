"""Streaming: the answer shown as it is written, against the answer shown once it is whole."""

from lab.techniques.streaming import TECHNIQUE
from pages.parts import experiment, frame, views

with frame.titled(TECHNIQUE) as endpoint:
    experiment.show(TECHNIQUE, endpoint, views.named("Distribution", "Pairs", "Race", "Clocks"))
