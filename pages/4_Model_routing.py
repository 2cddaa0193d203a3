"""Model routing: a small model chooses which model answers."""

from lab.techniques.model_routing import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
