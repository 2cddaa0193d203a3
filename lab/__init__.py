"""LLM Latency Lab. `from lab import Lab` for scripts and notebooks."""

__version__ = "0.1.0"


def __getattr__(name: str):
    # The library brings pandas, the SDK and the harness; `import lab` alone, as every command does, stays light.
    if name == "Lab":
        from lab.library import Lab

        return Lab
    raise AttributeError(f"module 'lab' has no attribute {name!r}")
