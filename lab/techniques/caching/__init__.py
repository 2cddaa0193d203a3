"""A remembered beginning of the prompt."""

from lab.techniques.caching.technique import TECHNIQUE as TECHNIQUE
