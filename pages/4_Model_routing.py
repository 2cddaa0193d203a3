"""Model routing: a small model chooses which model answers."""

from lab.techniques.model_routing import TECHNIQUE
from pages.parts import experiment, frame, views

with frame.titled(TECHNIQUE) as endpoint:
    experiment.show(TECHNIQUE, endpoint, views.named("Routes", "Spans", "Distribution", "Pairs"))
