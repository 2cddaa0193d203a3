"""The path to the model: which connection, and what stands in between."""

from lab.techniques.connection.technique import TECHNIQUE as TECHNIQUE
