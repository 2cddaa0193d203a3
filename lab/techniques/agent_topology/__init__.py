"""One agent, or a team of several."""

from lab.techniques.agent_topology.technique import TECHNIQUE

__all__ = ["TECHNIQUE"]
