"""Agent topology: one agent, a team in parallel, a pipeline."""

from lab.techniques.agent_topology import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
