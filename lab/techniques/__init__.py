"""The techniques: each module or folder here that has a TECHNIQUE is one, and so is each in the
folder that LAB_TECHNIQUES names. Adding one of them is all that a new technique takes."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from lab import metrics
from lab.model import LabError, Technique, View
from lab.view_parts import Note, Part, RunData

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lab.stats import Finding

OWN = "lab_own_techniques"
"""The package that modules of the user's folder are loaded into, apart from all on the path; each
state of the folder has one of its own."""


class Shelf(NamedTuple):
    """The techniques in the order of their pages, and what could not be loaded."""

    modules: dict[str, ModuleType]
    """That of each by slug; its TECHNIQUE is one."""
    names: dict[str, str]
    """Every accepted spelling to its slug: slugs, aliases, module names, with dashes."""
    problems: dict[str, str]
    """A sentence for each module that is no technique but should be, by the module's name."""


def own_folder() -> Path | None:
    """The folder of the user's own techniques; None where LAB_TECHNIQUES names none."""
    folder = os.environ.get("LAB_TECHNIQUES")
    return Path(folder).expanduser().resolve() if folder else None


def _shelf() -> Shelf:
    folder = own_folder()
    if folder is None:
        return _filled(None, ())
    files = sorted([*folder.glob("*.py"), *folder.glob("*/*.py")])
    return _filled(folder, tuple((str(file), file.stat().st_mtime_ns) for file in files))


@cache
def _filled(folder: Path | None, files: tuple[tuple[str, int], ...]) -> Shelf:
    """`files` are those of the user's folder with their times: what is edited is loaded again."""
    here = Path(__file__).parent
    modules = [import_module(f"{__name__}.{name}") for name in _names_in(here)]
    modules.sort(key=lambda module: _place(module.TECHNIQUE))
    shelf = Shelf({}, {}, {})
    for module in modules:
        _add(shelf, module)
    if folder is None:
        return shelf
    own = f"{OWN}_{hash((folder, files)) & 0xFFFFFFFF:08x}"
    package = sys.modules[own] = ModuleType(own)
    package.__path__ = [str(folder)]
    if not folder.is_dir():
        shelf.problems[""] = f"LAB_TECHNIQUES names {folder}, which is not a folder."
        return shelf
    invalidate_caches()  # a module may be newer than what the finder remembers of its folder
    for name in _names_in(folder):
        path = folder / name if (folder / name).is_dir() else folder / f"{name}.py"
        try:
            module = import_module(f"{own}.{name}")
        except (Exception, SystemExit) as error:
            shelf.problems[_spelled(name)] = _told(error, folder, path)
            continue
        if hasattr(module, "TECHNIQUE"):
            wrong = _wrong(module.TECHNIQUE, shelf)
            if wrong:
                shelf.problems[_spelled(name)] = f"{path}: {wrong}"
            else:
                _add(shelf, module)
    return shelf


def _names_in(folder: Path) -> list[str]:
    paths = [*folder.glob("*.py"), *(file.parent for file in folder.glob("*/__init__.py"))]
    others = ("_", ".", "test_", "conftest")
    return sorted({path.stem for path in paths if not path.stem.startswith(others)})


def _place(technique: Technique) -> tuple[int, str]:
    number = technique.page.partition("_")[0]
    return (int(number) if number.isdigit() else sys.maxsize, technique.slug)


def _add(shelf: Shelf, module: ModuleType) -> None:
    technique = module.TECHNIQUE
    shelf.modules[technique.slug] = module
    for name in (technique.slug, *technique.aliases, module.__name__.rpartition(".")[2]):
        shelf.names.setdefault(_spelled(name), technique.slug)


def _wrong(technique: Any, shelf: Shelf) -> str | None:
    """What keeps a technique of the user's own from being offered."""
    if not isinstance(technique, Technique):
        return "TECHNIQUE is not a lab.model.Technique."
    if technique.slug in shelf.names:
        taken = shelf.modules[shelf.names[technique.slug]].__name__
        return f"the slug {technique.slug!r} is taken by {taken}."
    if technique.slug != _spelled(technique.slug) or not technique.slug:
        return f"the slug {technique.slug!r} needs small letters, digits and dashes."
    if technique.page:
        return "its page is the one that all techniques outside of pages/ share: leave `page` out."
    if technique.headline not in metrics.METRICS:
        return f"there is no metric {technique.headline!r}; there are {', '.join(metrics.METRICS)}."
    try:
        names = [arm.name for arm in technique.arms_for(technique.knobs())]
    except Exception as error:
        return f"its arms cannot be made from its knobs' defaults: {error}"
    if len(set(names)) < max(2, len(names)):
        return "it needs two arms or more, each with a name of its own."
    if technique.headline_arm not in names[1:]:
        return f"headline_arm {technique.headline_arm!r} is not one of its arms after the baseline."
    return None


def _told(error: BaseException, folder: Path, path: Path) -> str:
    """One sentence: the file, the line of it that was reached last, and the error."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(frame.filename, frame.lineno) for frame in frames]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    own = [(file, line) for file, line in places if file.startswith(str(folder))]
    file, line = own[-1] if own else (path, 1)
    message = error.msg if isinstance(error, SyntaxError) else error
    return f"{file}, line {line}: {type(error).__name__}: {message}."


def _spelled(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def problems() -> tuple[str, ...]:
    """A sentence for each module of the user's own that could not be taken."""
    return tuple(_shelf().problems.values())


def broken() -> Mapping[str, str]:
    """The same by the module's name; under an empty one that of the folder itself."""
    return _shelf().problems


def slugs() -> tuple[str, ...]:
    return tuple(_shelf().modules)


def all_techniques() -> tuple[Technique, ...]:
    """In the order of their pages; the user's own come last."""
    return tuple(module.TECHNIQUE for module in _shelf().modules.values())


def own_techniques() -> tuple[Technique, ...]:
    """Those that have no page of their own and share one."""
    return tuple(technique for technique in all_techniques() if not technique.page)


def slug_of(name: str) -> str | None:
    """The slug behind any spelling of a technique's name; None if there is none."""
    return _shelf().names.get(_spelled(name))


def find(name: str) -> Technique:
    """A technique by slug, alias or module; LabError with the nearest name where there is none."""
    shelf, slug = _shelf(), slug_of(name)
    if slug is not None:
        return shelf.modules[slug].TECHNIQUE
    if _spelled(name) in shelf.problems:
        raise LabError(shelf.problems[_spelled(name)])
    near = difflib.get_close_matches(_spelled(name), shelf.names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise LabError(f"No technique {name!r}.{hint} There are: {', '.join(shelf.modules)}.")


def places(arms: Iterable[tuple[str, str]]) -> list[int]:
    """Technique.places of each; an arm of a technique that this lab does not know has its place
    among those given. Arms may come again."""
    arms, listed = list(arms), {}
    for technique, arm in arms:
        listed.setdefault(technique, {}).setdefault(arm, len(listed[technique]))
    for technique, own in listed.items():
        if slug := slug_of(technique):
            own |= find(slug).places(list(own))
    return [listed[technique][arm] for technique, arm in arms]


def shown() -> dict[str, str]:
    """By what would mend an application, the slug of the technique whose page shows it."""
    known = reversed(all_techniques())
    return {subject: technique.slug for technique in known for subject in technique.shows}


def control() -> Technique:
    """The technique whose arms are the same."""
    return next(technique for technique in all_techniques() if technique.control)


def of_recordings() -> Technique:
    """The technique that replays calls of a recording."""
    return next(technique for technique in all_techniques() if technique.of_recordings)


def folder_of(technique: Technique) -> Path:
    """Where the files of a technique stand: its folder, or the one that holds its module."""
    return Path(_shelf().modules[technique.slug].__file__).parent


def draw(data: RunData, view: View, dark: bool = False) -> list[Any]:
    """The parts of a technique's own view: figures, and tables, notes and numbers of
    lab.view_parts. A run of which no trial counts has nothing to put into them."""
    if view != data.technique.proposes and not data.has_trials:
        return [Note("No trial of this run ended well, so there is nothing to show here.")]
    home = _shelf().modules[data.technique.slug]
    name, _, function = view.draw.partition(":")
    module = import_module(f"{home.__package__}.{name}") if name else home
    return getattr(module, function)(data, dark)


def figures_of(
    run: Mapping[str, Any],
    ask: Callable[..., Any],
    judged: Callable[..., Finding],
    dark: bool = False,
) -> list[go.Figure]:
    """The figures that the run's technique adds to its report; `ask` and `judged` as in
    lab.view_parts.RunData."""
    if slug_of(run["technique"]) is None:
        return []
    data = RunData(find(run["technique"]), run, ask, judged)
    views = [view for view in data.technique.views if isinstance(view, View) and view.in_report]
    parts = [part for view in views for part in draw(data, view, dark)]
    return [part for part in parts if not isinstance(part, Part)]
