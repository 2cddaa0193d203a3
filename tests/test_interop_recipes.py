"""docs/interop.md shows the files that `python -m bench.interop` runs, and those for the installed
SDK pass here."""

import importlib.util

import pytest

from bench.interop.__main__ import judged
from bench.interop.catalogue import CHECKS, CLIENTS, SERVERS
from lab import paths
from tests.measured import FAST

DOCUMENT = (paths.ROOT / "docs" / "interop.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("check", CHECKS)
def test_the_recipe_of_the_official_sdk_passes(simulated, monkeypatch, check):
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulated.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulated.api_key)
    monkeypatch.setenv("LAB_MODEL", "simulated-small")
    spec = importlib.util.spec_from_file_location("recipe", CLIENTS[0].path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    assert judged(check, getattr(recipe, check)()) == "ok"


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_recipe_in_the_document_is_the_file_that_is_run(client):
    language = "js" if client.file.endswith(".mjs") else "python"
    assert f"```{language}\n{client.path.read_text(encoding='utf-8')}```\n" in DOCUMENT


def test_every_client_and_server_has_its_row_at_its_version():
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| ")]
    for tried in (*CLIENTS, *SERVERS):
        packages = ", ".join(tried.packages + tried.npm)
        assert any(row.startswith(f"| {tried.name} | {packages}") for row in rows), tried.name


def test_what_counts_as_ok():
    good = {
        "hello": "Hi.",
        "stream": 2,
        "tool": [["Oslo"], "Sunny."],
        "cached": 800,
        "structured": {"city": "Oslo"},
    }
    bad = {
        "hello": "",
        "stream": 1,
        "tool": [[], "Sunny."],
        "cached": None,
        "structured": {"town": "Oslo"},
    }
    assert [judged(check, good[check]) for check in CHECKS] == ["ok"] * 5
    assert [judged(check, bad[check]) for check in CHECKS] == [
        'got ""',
        "got 1",
        'got [[], "Sunny."]',
        "got null",
        'got {"town": "Oslo"}',
    ]
    assert judged("tool", {"error": "BadRequestError: no\n tools"}) == "BadRequestError: no tools"
