"""Tools while it writes: each tool started when its input is whole, against after the answer."""

from lab.techniques.tool_input import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
