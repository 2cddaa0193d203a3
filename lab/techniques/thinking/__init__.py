"""Effort levels, and thinking that is hidden or shown."""

from lab.techniques.thinking.technique import TECHNIQUE as TECHNIQUE
