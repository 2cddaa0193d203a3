"""Tools that run while the model still writes."""

from lab.techniques.tool_input.technique import TECHNIQUE as TECHNIQUE
