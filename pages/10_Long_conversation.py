"""Long conversation: the wait for the first token, turn by turn, with and without what an endpoint
remembers."""

from lab.techniques.conversation import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
