"""Parallelism: independent work one after another, and together."""

from lab.techniques.parallelism import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
