"""A Messages API server on this machine: an embedded model (llama.cpp) or a scripted latency model
behind one wire format."""
