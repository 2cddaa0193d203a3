"""Proof of a fix: calls of the user's own app again, as recorded and with a fix."""

from lab.techniques.replay import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
