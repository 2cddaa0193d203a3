"""Prompt caching: the same prefix read again, written to the cache, and read from it."""

from lab.techniques.caching import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
