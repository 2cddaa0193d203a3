"""Same thing twice: the control that shows what a difference of nothing looks like here."""

from lab.techniques.same_thing_twice import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
