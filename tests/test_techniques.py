"""Every technique makes requests that the Messages API takes, for built-in tasks and for the user's
own; and the numbers its page shows."""

import ast
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from lab import code_samples, paths, pricing, results, techniques
from lab.endpoints.registry import Endpoint
from lab.local import messages_api
from lab.local.threads import BETA, Threads
from lab.model import LabError, View
from lab.scenarios import definitions
from lab.store.store import Store
from lab.techniques.caching.findings import break_even_uses
from lab.techniques.model_routing import findings as routing
from lab.techniques.parallelism.findings import fan_out
from tests.recorded_runs import record

TOOL = {
    "name": "clock",
    "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}},
}
HISTORY = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
]
OWN = json.dumps(
    {
        "messages": HISTORY,
        "max_tokens": 9,
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [TOOL],
    }
)
MODELS = {"small": "s", "large": "l"}


def asked(technique, arm, knobs, task):
    endpoint = Endpoint("local", "local", "", models=MODELS, generates="small")
    return code_samples.requests(technique, arm, knobs, task, endpoint)


@pytest.mark.parametrize("technique", techniques.all_techniques(), ids=techniques.slugs())
@pytest.mark.parametrize(
    "lines", ["", "What is one?", OWN], ids=["built-in", "pasted", "whole body"]
)
def test_each_arm_makes_requests_that_the_api_takes(technique, lines):
    knobs = technique.knobs()
    task = definitions.parse_lines(lines)[0] if lines else definitions.load(technique.category)[0]
    for arm in technique.arms_for(knobs):
        requests = asked(technique, arm.name, knobs, task)
        assert [request.role for request in requests].count("prime") <= 1 and len(requests) >= 1
        threads = Threads()
        for number, request in enumerate(requests, 1):
            raw = json.dumps({**request.body, "stream": request.stream}).encode()
            turn = threads.begin(raw, BETA, 0)
            messages_api.parse(messages_api.Body, turn.raw if turn else raw)
            if turn:
                turn.content.blocks.append({"type": "text", "text": "An answer."})
                threads.keep(turn, f"msg_rehearsed_{number}", 0)


@pytest.mark.parametrize("technique", techniques.all_techniques(), ids=techniques.slugs())
def test_each_knob_says_what_it_does_and_the_headline_is_an_arm(technique):
    assert all(field.description for field in technique.knobs.model_fields.values())
    assert technique.headline_arm in [arm.name for arm in technique.arms_for(technique.knobs())][1:]
    assert all(arm.description for arm in technique.arms)


@pytest.mark.parametrize("name", ["routing", "model-routing", "model_routing", "Model Routing"])
def test_every_spelling_finds_the_technique(name):
    assert techniques.find(name).slug == "routing"


def test_an_unknown_technique_is_a_sentence():
    with pytest.raises(LabError, match="cachin"):
        techniques.find("cachin")


def test_two_bodies_make_two_arms_with_their_own_models():
    ab = techniques.find("ab")
    knobs = ab.knobs(
        bodies=[
            {"name": "brief", "system": "One word."},
            {"model": "other", "messages": HISTORY, "max_tokens": 3},
        ]
    )
    task = definitions.load("qa")[0]
    assert [arm.name for arm in ab.arms_for(knobs)] == ["brief", "b"]
    brief, whole = (asked(ab, arm, knobs, task)[0].body for arm in ("brief", "b"))
    assert (brief["system"], brief["model"]) == ("One word.", "s")
    assert whole == {"model": "other", "max_tokens": 3, "messages": HISTORY}


@pytest.mark.parametrize(
    "bodies", ["[", "[{}]", "[{}, 1]", '[{"name": "a"}, {"name": "a"}]', '[{}, {"messages": []}]']
)
def test_bodies_that_make_no_comparison_are_refused(bodies):
    with pytest.raises(ValueError, match="bodies"):
        techniques.find("ab").knobs(bodies=bodies)


@pytest.mark.parametrize(
    ("model", "ttl", "uses"),
    [
        ("claude-sonnet-5", "write_5m", 2),
        ("claude-sonnet-5", "write_1h", 3),
        ("claude-haiku-5-5", "write_5m", 2),
    ],
)
def test_caching_pays_from_the_use_worked_out_by_hand(model, ttl, uses):
    """Sonnet 5: (2.50 - 0.20) / (2 - 0.20) = 1.28, so 2; for an hour (4 - 0.20) / 1.80 = 2.11, so
    3."""
    price = pricing.price(model, pricing.prices()[-1].read_on)
    write = getattr(price, ttl)
    assert break_even_uses(price.input, write, price.read) == uses
    assert write + (uses - 1) * price.read < uses * price.input
    assert write + (uses - 2) * price.read >= (uses - 1) * price.input


def test_equal_at_two_uses_pays_only_at_three_and_dear_reads_never_pay():
    assert break_even_uses(1.0, 2.0, 0.0) == 3
    assert break_even_uses(1.0, 1.25, 1.0) is None


def test_shares_and_confusion_of_four_routed_trials():
    trials = pd.DataFrame(
        {"trial_id": list("wxyz"), "arm": "routed", "task_id": ["e", "e", "h", "h"]}
    )
    spans = pd.DataFrame(
        {"trial_id": list("wxyz"), "kind": "route", "name": ["small", "large", "large", "large"]}
    )
    routed = routing.routes(spans, trials)
    shares = routing.routing_shares(routed).set_index("chosen")["share"].to_dict()
    assert shares == {"small": 0.25, "large": 0.75}
    table = routing.confusion(routed, {"e": "easy", "h": "hard"})
    assert table.loc[table["agrees"], "n"].sum() == 3


def test_four_tools_of_300_ms_at_once_have_a_speed_up_of_four():
    spans = pd.DataFrame({"kind": "tool", "started_ns": [0] * 4, "ended_ns": [300_000_000] * 4})
    assert fan_out(spans) == {
        "n": 4,
        "sum_ms": 1200.0,
        "slowest_ms": 300.0,
        "took_ms": 300.0,
    }


@pytest.mark.parametrize("technique", techniques.all_techniques(), ids=techniques.slugs())
def test_what_a_technique_declares_is_there(technique):
    """Its page, the template of its code, its own views, and files of its own that it may have."""
    assert (paths.shipped("pages") / technique.page).is_file()
    folder = techniques.folder_of(technique)
    assert not technique.code or (folder / technique.code).is_file()
    for view in technique.views:
        if isinstance(view, View):
            module, _, function = view.draw.partition(":")
            assert f"def {function}(" in (folder / f"{module}.py").read_text(encoding="utf-8")
    if folder.name != "techniques":
        files = {path.name for path in folder.iterdir() if path.is_file()}
        allowed = {"__init__.py", "technique.py", "findings.py", "figures.py", technique.code}
        views = {view.draw for view in technique.views if isinstance(view, View)}
        # And what those are made of: a module that another of the folder imports.
        own = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
        used = {
            path.name
            for path in folder.glob("*.py")
            if re.search(rf"{folder.name}(\.| import .*\b){path.stem}\b", own)
        }
        assert files <= allowed | used | {f"{draw.partition(':')[0]}.py" for draw in views}


FIGURES_MAY = {f"lab.{name}" for name in ("figures", "units", "metrics", "pricing", "stats")}
FIGURES_MAY |= {"lab.critical_path", "lab.endpoint_kinds", "lab.settings"}
MAY_IMPORT = {
    "technique.py": {
        "lab.endpoint_kinds",
        "lab.model",
        "lab.recording.fixes",
        "lab.recording.request_parts",
        "lab.scenarios",
    },
    "breaks.py": {"lab.endpoint_kinds", "lab.model", "lab.recording"},
    "placement.py": {"lab.model", "lab.scenarios"},
    "talk.py": {"lab.model", "lab.recording.request_parts", "lab.scenarios"},
    "findings.py": {"lab.stats"},
    "figures.py": {"lab.model", "lab.view_parts", *FIGURES_MAY},
}


def test_a_technique_imports_what_its_part_may():
    """The trial knows the words and the tasks; findings are of frames; only figures draw."""
    home = paths.ROOT / "lab" / "techniques"
    wrong = {}
    for path in [*home.glob("*/*.py"), *home.glob("[!_]*.py")]:
        if path.name == "__init__.py":
            continue
        part = path.name if path.parent != home else "technique.py"
        may = MAY_IMPORT.get(part, MAY_IMPORT["figures.py"])  # a view in a file of its own
        own = f"lab.techniques.{path.parent.name}" if path.parent != home else ""
        seen = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = node.module
                names = (
                    {f"lab.{alias.name}" for alias in node.names} if module == "lab" else {module}
                )
                seen |= {name for name in names if name.split(".")[0] == "lab"}
        beyond = {name for name in seen if not name.startswith(tuple(may | {own} - {""}))}
        if beyond:
            wrong[str(path.relative_to(home))] = beyond
    assert wrong == {}


def test_an_arms_place_is_its_techniques_whichever_arms_a_run_has():
    assert techniques.places([("streaming", "streamed")]) == [1]
    assert techniques.places([("streaming", "streamed"), ("streaming", "whole")]) == [1, 0]
    own = [("ab", "new"), ("ab", "old"), ("streaming", "streamed"), ("ab", "new")]
    assert techniques.places(own) == [0, 1, 1, 0]


def test_a_run_colours_its_arms_by_these_places(db):
    store = Store(db)
    result = results.read(record(store), store)
    turned = result.run["settings"] | {"arms": result.run["settings"]["arms"][::-1]}
    other = replace(result, run=result.run | {"settings": turned})
    assert other.arms() == result.arms()[::-1]
    assert other.places == result.places
