"""Clients and servers that nobody here wrote, against the lab: `python -m bench.interop`."""
