"""Streaming: the answer shown as it is written, against the answer shown once it is whole."""

from lab.techniques.streaming import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
