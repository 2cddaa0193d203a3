"""Effort and thinking: how long a model thinks before the first word, and what shows of it."""

from lab.techniques.thinking import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
