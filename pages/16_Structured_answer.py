"""Structured answer: free text, against a schema that is used for the first time, and again."""

from lab.techniques.schema import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
