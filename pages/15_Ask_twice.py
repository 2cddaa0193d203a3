"""Ask twice: a late request is asked again, and the first to answer is kept."""

from lab.techniques.hedging import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
