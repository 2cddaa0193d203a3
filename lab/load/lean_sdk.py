"""The SDK's client without the 2,600 modules of its types, which take most of a second of a core to
be imported: to make a request it uses none of them.

Only for a process that makes requests and nothing else; what it makes is to the byte what the whole
SDK makes (tests/test_load_preparing.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

NAME = "anthropic"
USED = {"AsyncAnthropic": "_client", "AsyncStream": "_streaming", "NotGiven": "_types"}
"""What the lab takes from the package itself, and where that is defined."""


class Names(ModuleType):
    """A module of types, each an empty class once it is named."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (), {}))
        return self.__dict__[name]


class Types(MetaPathFinder, Loader):
    """In place of anthropic.types and all that is in it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_type = f"{name}.".startswith(f"{NAME}.types.")
        return ModuleSpec(name, self, is_package=True) if is_type else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Names(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def use() -> bool:
    """From here on `import anthropic` brings the client alone; False where it must be the whole SDK
    after all, since another release needs more of itself."""
    if NAME in sys.modules or (spec := find_spec(NAME)) is None:
        return False
    types: Any = Types()
    sys.meta_path.insert(0, types)
    package = sys.modules[NAME] = module_from_spec(spec)
    try:
        for name, module in USED.items():
            setattr(package, name, getattr(import_module(f"{NAME}.{module}"), name))
    except Exception:  # whatever it was, the whole SDK does without it
        sys.meta_path.remove(types)
        for name in [each for each in sys.modules if f"{each}.".startswith(f"{NAME}.")]:
            del sys.modules[name]
        return False
    return True
