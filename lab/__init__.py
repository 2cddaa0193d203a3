"""LLM Latency Lab. `from lab import Lab` for scripts and notebooks; `lab.observe(client)` records
the calls of an application of your own."""

from importlib import import_module

from lab.version import VERSION as __version__

__all__ = ["__version__"]


def __getattr__(name: str):
    # The library brings pandas, the SDK and the harness; `import lab` alone, as every command does,
    # stays light.
    if name == "Lab":
        return import_module("lab.library").Lab
    if name == "observe":
        return import_module("lab.observing").observe
    raise AttributeError(f"module 'lab' has no attribute {name!r}")
