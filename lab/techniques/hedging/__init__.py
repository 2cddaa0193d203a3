"""A second, equal request where the first is late."""

from lab.techniques.hedging.technique import TECHNIQUE as TECHNIQUE
