"""The reporters by name, and what one is: a class with the method `report(result)`.

Reporters get a run as lab.results has read and judged it; they ask no database and start no run.
"""

from __future__ import annotations

import inspect
import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lab.harness import reporters
from lab.harness.reporters.console import ConsoleReporter
from lab.harness.reporters.figure_files import ChartReporter
from lab.harness.reporters.json_object import JSONReporter
from lab.model import LabError

if TYPE_CHECKING:
    from rich.console import Console

    from lab.results import RunResult

__all__ = ["REPORTERS", "ChartReporter", "ConsoleReporter", "JSONReporter", "Reporter"]

GROUP = "latency_lab.reporters"
"""The entry points by which an installed package offers reporters of its own."""


class Reporter(Protocol):
    """What `--output` builds, with `folder` and `console` where its __init__ takes them."""

    def report(self, result: RunResult) -> Path | None:
        """Tell a run; answers with what it wrote, if it wrote a file or a folder."""
        ...


def _in_the_house() -> dict[str, type[Reporter]]:
    """Each file of lab/harness/reporters whose class has a `name`; its docstring is its help."""
    known = {}
    for file in pkgutil.iter_modules(reporters.__path__):
        module = import_module(f"{reporters.__name__}.{file.name}")
        for value in vars(module).values():
            if inspect.isclass(value) and hasattr(value, "report"):
                known[value.name] = value
    return known


REPORTERS = _in_the_house()
"""By the name that `--output` takes."""


def find(name: str) -> type[Reporter]:
    """A reporter by its name in REPORTERS, an entry point's, or "package.module:Class", which is
    looked for beside the working folder too. LabError where there is none."""
    if name in REPORTERS:
        return REPORTERS[name]
    for entry in entry_points(group=GROUP, name=name):
        return _checked(name, entry.load)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise LabError(
            f"There is no output {name!r}. Choose {', '.join(REPORTERS)}, or your own as "
            "package.module:Class."
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return _checked(name, lambda: getattr(import_module(module), attribute, None))


def _checked(name: str, load: Callable[[], Any]) -> type[Reporter]:
    """What `load` answers with; a LabError, before anything is measured, where it cannot report."""
    try:
        reporter = load()
    except Exception as error:  # a module of the user's own can raise anything
        raise LabError(f"The output {name!r} cannot be imported: {error}.") from None
    if not callable(reporter) or not hasattr(reporter, "report"):
        raise LabError(f"The output {name!r} is not a class with a method report(result).")
    try:
        inspect.signature(reporter).bind(**_taken(reporter, folder=None, console=None))
    except TypeError as error:
        raise LabError(
            f"The output {name!r} gets only `folder` and `console` in its __init__: {error}."
        ) from None
    return reporter


def named(text: str) -> dict[str, type[Reporter]]:
    """Those of a list separated by commas, each once."""
    names = [name.strip() for name in text.split(",")]
    return {name: find(name) for name in names if name}


def build(reporter: type[Reporter], folder: Path, console: Console) -> Reporter:
    """One with as much of the two as its __init__ takes."""
    return reporter(**_taken(reporter, folder=folder, console=console))


def _taken(reporter: type[Reporter], **offered: Any) -> dict[str, Any]:
    names = inspect.signature(reporter).parameters
    return {name: value for name, value in offered.items() if name in names}
