"""The command line: every flag explained, every mistake one sentence, every contract of its
JSON."""

import json
import os
import signal
import subprocess
import sys

import pytest

from lab import cli, paths, settings, techniques
from lab.cli import run
from lab.model import LabError
from lab.store.store import Store
from tests.recorded_runs import record

AB = techniques.find("ab")


def lab(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "main.py", *words],
        cwd=paths.ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def here(capsys, *words: str) -> tuple[int, str, str]:
    """The same command in this process: its exit code, what it printed and what it complained."""
    try:
        code = cli.main(list(words))
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def test_every_flag_has_help():
    silent = [
        (name, action.dest)
        for name, command in cli.commands().items()
        for action in command.parser()._actions
        if not (action.help or "").strip()
    ]
    assert silent == []


def test_every_knob_is_a_flag():
    for technique in techniques.all_techniques():
        options = cli.commands()[technique.slug].parser()._option_string_actions
        assert all(setting.option in options for setting in settings.of(technique.knobs).values())


def test_help_needs_nothing_heavy():
    heavy = {"pandas", "numpy", "anthropic", "duckdb", "plotly", "scipy", "rich", "streamlit"}
    heavy |= {"xllamacpp", "httpx2"}
    code = "import sys; from lab.cli import main; main(['--help']); "
    code += f"sys.exit(bool({heavy} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=paths.ROOT, stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )


@pytest.mark.parametrize("word", ["routing", "model-routing", "model_routing", "Routing"])
def test_short_long_and_underscore_names_are_one_technique(word):
    assert cli.resolve(word).name == "routing"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["steaming"], "Did you mean 'streaming'?"),
        (
            ["streaming", "--answer-tokens", "3"],
            "--answer-tokens: 3 should be greater than or equal to 16.",
        ),
        (["streaming", "--endpoint", "nowhere"], "No endpoint 'nowhere'."),
        (["streaming", "--runs", "0"], "runs"),
        (["streaming", "--nonsense"], "--nonsense"),
        (["routing", "--model", "m"], "routing needs two models: --model small=… --model large=…"),
        (["compare-arms", "streaming.streamed", "caching.nothing"], "no arm 'nothing'"),
        (["streaming", "--output", "telegram"], "There is no output 'telegram'"),
        (["ab", "missing.json"], "missing.json cannot be read"),
        (["runs", "--limit", "0"], "--limit takes a whole number from 1 on."),
        (["runs", "--limit", "-1"], "--limit takes a whole number from 1 on."),
        (["calibrate", "--streams", "0"], "--streams takes whole numbers from 1 on"),
        (["show", "feedbeef"], "feedbeef"),
        (["check", "--require", "quick enough"], "Cannot read the requirement"),
    ],
)
def test_a_mistake_gets_one_sentence_and_code_2(words, said, db, capsys):
    record(Store(), blocks=1)
    code, out, err = here(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_an_unreadable_database_is_a_sentence(tmp_path):
    (tmp_path / "lab.duckdb").write_text("not a database at all")
    found = lab("runs", "--db", str(tmp_path / "lab.duckdb"))
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_the_flag_wins_over_the_environment_for_the_database(tmp_path):
    record(Store(tmp_path / "a.duckdb"), blocks=1)
    found = lab(
        "runs", "--json", "--db", str(tmp_path / "a.duckdb"), LAB_DB=str(tmp_path / "other.duckdb")
    )
    assert len(json.loads(found.stdout)["runs"]) == 1


@pytest.mark.parametrize(
    ("given", "tiers", "found"),
    [
        ([], (), {}),
        (["m"], (), {"any": "m"}),
        (["m"], ("large",), {"any": "m"}),
        (["small=a", "large=b"], ("small", "large"), {"small": "a", "large": "b"}),
        (["org/model=v2"], (), {"any": "org/model=v2"}),
    ],
)
def test_models_go_to_tiers(given, tiers, found):
    assert run.models(given, tiers, "routing") == found


def test_bodies_are_named_after_their_files(tmp_path):
    for name in ("short", "long"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"system": name}))
    found = run._objects([str(tmp_path / "short.json"), str(tmp_path / "long.json")], AB)
    assert [body["name"] for body in found] == ["short", "long"]
    with pytest.raises(LabError, match="Two files"):
        run._objects([str(tmp_path / "short.json")], AB)


def test_show_prints_one_object(db, capsys):
    run_id = record(Store(), blocks=8)
    found = json.loads(here(capsys, "show", "last", "--json")[1])
    assert found["run_id"] == run_id
    assert [arm["arm"] for arm in found["arms"]] == ["uncached", "cached"]
    assert found["arms"][1]["metrics"]["ttft_ms"]["p50"] == 304.5
    assert found["arms"][1]["metrics"]["ttft_ms"]["supported"] == {
        "p50": True,
        "p95": False,
        "p99": False,
    }
    planned = found["comparisons"][0]
    assert 301 / 901 <= planned["ratio_low"] < planned["ratio"] < planned["ratio_high"] <= 308 / 908
    ratios = {name: planned[name] for name in ("ratio", "ratio_low", "ratio_high")}
    assert planned | {"reasons": []} == {
        "metric": "ttft_ms", "technique": "caching", "arm": "cached", "baseline": "uncached",
        "quantile": None, "tail_ms": None, "baseline_tail_ms": None,
        "estimate_ms": -600.0, "low_ms": -600.0, "high_ms": -600.0, **ratios, "n": 8,
        "verdict": "faster", "needed_blocks": None, "reasons": [], "doubts": [], "lost": 0,
        "baseline_lost": 0, "title": "cached starts 66 % sooner than uncached",
    }  # fmt: skip


def test_export_writes_every_table(db, tmp_path, capsys):
    record(Store(), blocks=1)
    assert here(capsys, "export", "--format", "csv", "--out", str(tmp_path / "out"))[0] == 0
    tables = (
        "runs",
        "sessions",
        "load_levels",
        "trials",
        "calls",
        "spans",
        "events",
        "recorded_calls",
        "recorded_blocks",
        "trial_metrics",
        "call_metrics",
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{table}.csv" for table in tables
    }


def test_a_port_that_no_machine_has_is_a_sentence(capsys):
    told = "There is no port 65536: ports go from 0 to 65535.\n"
    assert here(capsys, "serve", "--simulated", "--port", "65536") == (1, "", told)


def test_serve_says_where_for_programs_and_for_shells_and_ends_on_sigterm():
    server = subprocess.Popen(
        [sys.executable, "main.py", "serve", "--simulated", "--port", "0"],
        cwd=paths.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    card = json.loads(server.stdout.readline())
    assert card.keys() == {"base_url", "api_key", "models"}
    exports = [
        f"export ANTHROPIC_BASE_URL={card['base_url']}\n",
        f"export ANTHROPIC_API_KEY={card['api_key']}\n",
    ]
    assert [server.stdout.readline() for _ in exports] == exports
    taken = lab("serve", "--simulated", "--port", card["base_url"].rpartition(":")[2])
    assert taken.returncode != 0 and "--port" in taken.stderr
    server.send_signal(signal.SIGTERM)
    assert server.wait(10) == 0
    server.stdout.close()


def test_endpoints_test_tells_what_the_simulated_server_can(simulated):
    found = lab("endpoints", "test", simulated.base_url, "--json", LAB_LOCAL_KEY=simulated.api_key)
    checks = {row["check"]: row["supported"] for row in json.loads(found.stdout)["checks"]}
    names = (
        "usage",
        "token counts",
        "streaming",
        "caching",
        "structured output",
        "tools",
        "models",
    )
    assert checks == dict.fromkeys(names, True)
