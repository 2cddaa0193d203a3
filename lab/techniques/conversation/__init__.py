"""A conversation that grows turn by turn."""

from lab.techniques.conversation.technique import TECHNIQUE as TECHNIQUE
