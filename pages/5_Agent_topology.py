"""Agent topology: one agent, a team in parallel, a pipeline."""

from lab.techniques.agent_topology import TECHNIQUE
from pages.parts import experiment, frame, views

with frame.titled(TECHNIQUE) as endpoint:
    experiment.show(
        TECHNIQUE, endpoint, views.named("Coordination", "Spans", "Distribution", "Pairs")
    )
