"""The documents' examples on library, pytest, traces and CI run as they stand; the simulated server
stands in for the embedded model."""

import ast
import asyncio
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from lab import cli, paths
from lab.scenarios.definitions import Task
from lab.store.store import Store
from tests.measured import FAST
from tests.recorded_runs import record
from tests.test_traces import Receiver

DOCS = paths.ROOT / "docs"


def blocks(name, language):
    return re.findall(
        rf"```{language}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL
    )


@pytest.fixture
def here(db, simulated, monkeypatch, tmp_path):
    """The simulated server stands in for the local one, in a folder of the test's own; gives what
    to make of an example's text."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    monkeypatch.chdir(tmp_path)
    simulated.knobs(**FAST, prefill_ms_per_token=0.02)
    names = {
        'endpoint="local"': f'endpoint="{simulated.base_url}"',
        "smollm2-135m": "simulated-small",
    }

    def adapted(text):
        for name, instead in names.items():
            text = text.replace(name, instead)
        return text

    return adapted


def cell(text, names):
    """Run a cell as a notebook does: what its last line is worth is shown."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


@pytest.mark.parametrize(
    "example",
    blocks("library.md", "python"),
    ids=lambda text: re.search(r"\.(run|compare)\(\s*\{?(\S+)", text)[2][:12],
)
def test_library_examples(here, example):
    if framework := re.search(
        r"^(?:from|import) (langchain_anthropic|pydantic_ai|instructor)\b", example, re.MULTILINE
    ):
        pytest.importorskip(
            framework[1],
            reason=f"{framework[1]} is not installed here, so its example was not tried.",
        )
    names = {}
    cell(here(example), names)
    assert names["result"].summary()["n"].tolist() == [6, 6]


async def test_the_notebook_runs_in_a_running_loop(here):
    assert asyncio.get_running_loop().is_running()
    names, shown = {}, []
    for one in json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]:
        if one["cell_type"] == "code":
            shown.append(cell(here("".join(one["source"])), names))
    result, figure, described, agents, earlier = (value for value in shown if value is not None)
    assert (
        "faster" in result._repr_html_()
        and figure.data
        and list(described.index) == ["streamed", "whole"]
    )
    assert list(agents.summary().index) == ["long", "short"] and earlier.equals(result.summary())


def test_the_pytest_example(here, simulated, tmp_path):
    (tmp_path / "test_ours.py").write_text(here(blocks("pytest.md", "python")[0]))
    (tmp_path / "pytest.ini").write_text(blocks("pytest.md", "ini")[0])
    command = blocks("pytest.md", "bash")[0].replace(
        "--latency-endpoint local", f"--latency-endpoint {simulated.base_url}"
    )
    told = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        env={**os.environ, "PYTHONPATH": str(paths.ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert told.returncode == 0 and "2 passed" in told.stdout, told.stdout


def test_the_examples_of_your_own_tasks(here, simulated, tmp_path, capsys):
    (tmp_path / "tasks.jsonl").write_text(blocks("your-tasks.md", "jsonl")[0], encoding="utf-8")
    for name in ("short", "long"):
        (tmp_path / f"{name}.json").write_text(blocks("your-tasks.md", "json")[0])
    for line in blocks("your-tasks.md", "bash")[0].splitlines():
        line = line.replace("--runs 20", f"--runs 3 --warmup 0 --endpoint {simulated.base_url}")
        assert cli.main(shlex.split(line)[2:]) == 0
    trials = Store().frame(
        "SELECT technique, count(DISTINCT task_id) AS tasks FROM trials GROUP BY ALL ORDER BY ALL"
    )
    assert trials.values.tolist() == [["ab", 3], ["streaming", 3]]


def test_every_check_of_the_table_scores():
    rows = re.findall(
        r"^\| `(\{.*\})` \|", (DOCS / "your-tasks.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    kinds = [Task(prompt="?", check=json.loads(row)).check for row in rows]
    assert {one.kind for one in kinds} == {"exact", "number", "regex", "json", "facts", "judge"}
    said = 'Yes. The tide follows the moon. Lima, Peru. {"tier": "small"} Answer: 391'
    assert [one.score(said) for one in kinds if one.kind != "judge"] == [0, 1, 1, 1, 1]


def test_the_trace_examples(db, monkeypatch, tmp_path, capsys):
    receiver = Receiver()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    record(Store(), blocks=7)
    commands = [
        line
        for block in blocks("traces.md", "bash")
        for line in block.splitlines()
        if line.startswith("python main.py trace")
    ]
    assert [cli.main(shlex.split(line)[2:]) for line in commands] == [0, 0]
    assert capsys.readouterr().out.startswith("traces: sent 14 to OTLP at 127.0.0.1:")
    assert (tmp_path / "results" / "traces.jsonl").read_text().count("\n") == len(receiver.spans())
    receiver.server.shutdown()
    receiver.server.server_close()


def test_the_ci_examples(db, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    record(Store(tmp_path / "base.duckdb"), blocks=80)
    record(Store(), blocks=80)
    text = (DOCS / "ci.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    python main\.py (.*)$", text, re.MULTILINE)
    assert commands and [cli.main(shlex.split(line)) for line in commands] == [0] * len(commands)
