"""A small model that decides who answers."""

from lab.techniques.model_routing.technique import TECHNIQUE as TECHNIQUE
