"""Independent work at the same time."""

from lab.techniques.parallelism.technique import TECHNIQUE as TECHNIQUE
