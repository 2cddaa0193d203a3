"""Who may import whom."""

import ast
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


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


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
        (of("lab/harness"), ("lab.store", "duckdb")),
        (of("lab/store"), ("lab.endpoints", "lab.techniques", "lab.harness", *HTTP)),
        (of("lab/figures"), ("duckdb", "lab.store", *HTTP)),
        (of("lab/instrumentation"), ("lab.harness", "lab.techniques", "lab.endpoints", "duckdb")),
        (PAGES, ("duckdb", *HTTP)),
    ],
)
def test_layers(files, forbidden):
    assert {path.name: found for path in files if (found := breaks(path, *forbidden))} == {}


CLOCKS = {("asyncio", "sleep"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def test_only_clock_reads_a_clock_or_sleeps():
    wrong = {}
    for path in [*LAB, *PAGES]:
        calls = [
            node.func
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        found = [
            f"{f.value.id}.{f.attr}"
            for f in calls
            if isinstance(f.value, ast.Name) and (f.value.id, f.attr) in CLOCKS
        ]
        # snippets.py holds code for the user to take away: it runs without the lab.
        if path.name not in ("clock.py", "snippets.py") and (found or "time" in imported(path)):
            wrong[path.name] = found
    assert wrong == {}


def test_techniques_are_short():
    assert {
        p.name: n for p in of("lab/techniques") if (n := len(p.read_text().splitlines())) > 200
    } == {}
