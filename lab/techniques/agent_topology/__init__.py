"""One agent, or a team of several."""

from lab.techniques.agent_topology.technique import TECHNIQUE as TECHNIQUE
