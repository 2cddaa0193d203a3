"""Who may import whom, and how files are called and laid out."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAB = sorted((ROOT / "lab").rglob("*.py"))
PAGES = sorted([ROOT / "app.py", *(ROOT / "pages").rglob("*.py")])
HTTP = (
    "anthropic",
    "httpx",
    "httpx2",
    "requests",
    "urllib.request",
    "urllib3",
    "aiohttp",
    "http.client",
)


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module but for what only a type checker reads."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)):
            yield from running(child)


def imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            # A relative one names no module: it would pass every rule below.
            assert not getattr(node, "level", 0), f"{path}:{node.lineno} is a relative import"
            yield node


def imported(path: Path) -> set[str]:
    names = set()
    for node in imports(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def breaks(path: Path, *forbidden: str) -> list[str]:
    return sorted(
        name
        for name in imported(path)
        if any(name == f or name.startswith(f + ".") for f in forbidden)
    )


def of(folder: str) -> list[Path]:
    return [path for path in LAB if path.relative_to(ROOT).as_posix().startswith(folder)]


@pytest.mark.parametrize(
    ("files", "forbidden"),
    [
        (LAB, ("streamlit", "pages")),
        (
            of("lab/techniques"),
            (
                "lab.clock",
                "lab.endpoints",
                "lab.store",
                "lab.harness",
                "lab.instrumentation",
                "time",
                "duckdb",
                *HTTP,
            ),
        ),
        (of("lab/harness"), ("lab.store", "lab.results", "lab.cli", "duckdb")),
        (of("lab/store"), ("lab.endpoints", "lab.techniques", "lab.harness", *HTTP)),
        (of("lab/figures"), ("duckdb", "lab.store", "lab.harness", "lab.techniques", *HTTP)),
        (of("lab/stats"), ("lab.figures", "lab.store", "lab.techniques", "plotly", "duckdb")),
        (of("lab/local"), ("lab.endpoints", "lab.harness", "lab.store", "lab.techniques")),
        (of("lab/library.py"), ("lab.cli",)),
        (of("lab/pytest_latency.py"), ("lab.cli",)),
        (of("lab/instrumentation"), ("lab.harness", "lab.techniques", "lab.endpoints", "duckdb")),
        (PAGES, ("duckdb", *HTTP)),
    ],
)
def test_layers(files, forbidden):
    assert {path.name: found for path in files if (found := breaks(path, *forbidden))} == {}


# From the ground up; docs/design.md says what each floor knows. The longest name that fits counts.
FLOORS = (
    """clock critical_path endpoint_kinds heartbeat json_schema limit_words limits machine metrics
    model part paths pattern reach rows tunnel units version""",
    "pasted pricing scenarios settings stats view_parts",
    """endpoints.caching_modes endpoints.consent endpoints.keys endpoints.own_server
    endpoints.settings_files processes recording scrub spread""",
    "endpoints figures instrumentation local store techniques",
    "calibrate code_samples harness ladder load load_answer load_figures load_table",
    """bounds expected instrumentation.traces ladder_results load_levels load_requirements
    load_results new_recording recorded_changes recorded_requirements recordings requirements
    results""",
    """block_part block_spread importers ladder_code ladder_order ladder_record ladder_run
    load_estimate load_keeping load_leading load_order
    load_part load_run load_sessions load_spread load_stages observing recorded_tasks recorder
    resume run_loop watch worker""",
    "cli library",
    "pytest_latency",
)


def modules() -> dict[str, Path]:
    """Each module of lab by its dotted name; a package by its own."""
    names = {path: path.relative_to(ROOT / "lab").with_suffix("").parts for path in LAB}
    return {".".join(name).removesuffix("__init__").rstrip("."): p for p, name in names.items()}


def uses(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of lab that a file imports, at its top or inside a function."""
    names = set()
    for node in imports(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            # What is no module of its own is something that the package itself defines.
            names |= {part if part.removeprefix("lab.") in known else node.module for part in parts}
    return ({name.removeprefix("lab.") for name in names} & known.keys()) - {""}


def floor(module: str) -> int:
    fits = [
        (len(name), number)
        for number, floor in enumerate(FLOORS)
        for name in floor.split()
        if f"{module}.".startswith(f"{name}.")
    ]
    assert fits, f"{module} is on no floor: name it in FLOORS, and in docs/design.md"
    return max(fits)[1]


def test_no_import_runs_upwards():
    known = modules()
    upwards = [
        f"{module} (floor {floor(module)}) imports {name} (floor {floor(name)})"
        for module, path in known.items()
        if module
        for name in uses(path, known)
        if floor(name) > floor(module)
    ]
    assert upwards == []
    assert uses(ROOT / "lab" / "__init__.py", known) == {"version"}


def test_no_import_runs_in_a_circle():
    known = modules()
    graph = {module: uses(path, known) - {module} for module, path in known.items()}
    list(TopologicalSorter(graph).static_order())


# A technique's folder holds the contract's files, whatever the technique.
CONTRACT = {"__init__.py", "__main__.py", "technique.py", "findings.py", "figures.py"}


def test_no_two_files_have_one_name():
    places = defaultdict(list)
    for path in [*LAB, *PAGES]:
        if path.name not in CONTRACT:
            places[path.name].append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_line_is_longer_than_a_hundred_columns():
    """ruff allows what ends in a URL; this does not. A numbered migration is never edited."""
    folders = ("lab", "pages", "tests", "bench")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    files += [path for path in (ROOT / "lab").rglob("*.sql") if path.parent.name != "schema"]
    assert [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line.partition("  # noqa")[0]) > 100
    ] == []


def test_no_text_names_the_command_line_by_its_file():
    """`python main.py` is not there where the lab is installed: lab.paths.COMMAND says it."""
    texts = [path for path in (ROOT / "lab").rglob("*.jinja")] + LAB + PAGES
    assert [path.name for path in texts if "main.py" in path.read_text()] == ["paths.py"]


CLOCKS = {
    "asyncio.sleep",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "datetime.date.today",
}


def called(path: Path) -> set[str]:
    """What a file calls, by its whole name, whatever it imported that as."""
    names = {}
    for node in imports(path):
        for alias in node.names:
            whole = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            names[alias.asname or alias.name] = whole
    calls = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            first, dot, rest = ast.unparse(node.func).partition(".")
            calls.add(names.get(first, first) + dot + rest)
    return calls


def test_only_clock_reads_a_clock_or_sleeps():
    wrong = {
        path.name: read
        for path in [*LAB, *PAGES]
        if path.name != "clock.py" and (read := called(path) & CLOCKS | imported(path) & {"time"})
    }
    assert wrong == {}


def test_techniques_are_short():
    assert {
        p.name: n for p in of("lab/techniques") if (n := len(p.read_text().splitlines())) > 250
    } == {}
