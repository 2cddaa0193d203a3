"""Which model, at which speed and service tier."""

from lab.techniques.models.technique import TECHNIQUE as TECHNIQUE
