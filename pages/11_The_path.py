"""The path: a new connection for each call, a kept and a pre-opened one; and a gateway between."""

from lab.techniques.connection import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
