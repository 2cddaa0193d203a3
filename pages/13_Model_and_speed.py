"""Model and speed: which model, in fast mode or not, and what it costs to be sooner."""

from lab.techniques.models import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
