"""The code that a page offers is run as it stands, against the lab's server."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import pytest

from lab import code_samples, ladder_code, ladder_order
from lab.endpoint_kinds import LIVE
from lab.endpoints import registry
from lab.harness.rehearsal import NAMED
from lab.ladder import stack
from lab.ladder.ladder_settings import ladder_config_of
from lab.scenarios import definitions
from lab.techniques import all_techniques
from lab.techniques.model_routing import TECHNIQUE as ROUTING
from lab.techniques.parallelism import TECHNIQUE as PARALLELISM
from lab.techniques.tool_input import TECHNIQUE as TOOL_INPUT

QUICK = {"service_ms": 20, "answer_tokens": 16, "report_tokens": 16, "prefix_tokens": 200}
REQUESTS = {"suite": "requests", "shared_prefix": True}
ARMS = [(technique, arm.name, {}) for technique in all_techniques() for arm in technique.arms]
ARMS += [
    (PARALLELISM, arm.name, REQUESTS) for arm in PARALLELISM.select(PARALLELISM.knobs(**REQUESTS))
]
ARMS += [(ROUTING, "cascade", {"check": "self"})]


def code(technique, arm, values) -> str:
    return asked_and_code(technique, arm, values)[1]


def asked_and_code(technique, arm, values, task=None, endpoint=None):
    endpoint = endpoint or registry.find("simulated")
    task = task or definitions.load(technique.category, "simulated")[0]
    fields = technique.knobs.model_fields
    knobs = technique.knobs(
        **{name: value for name, value in {**QUICK, **values}.items() if name in fields}
    )
    asked = code_samples.requests(technique, arm, knobs, task, endpoint)
    return asked, code_samples.python(technique, arm, knobs, asked)


EACH_ARM = pytest.mark.parametrize(
    ("technique", "arm", "values"),
    ARMS,
    ids=[
        ".".join([technique.slug, arm, *map(str, values.values())])
        for technique, arm, values in ARMS
    ],
)


@EACH_ARM
def test_the_code_of_an_arm_runs(simulated, monkeypatch, technique, arm, values):
    simulated.knobs(prefill_ms_per_token=0, gap_ms=0.1, queue_ms=0)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulated.api_key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulated.base_url)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(
            compile(code(technique, arm, values), f"{technique.slug}.{arm}", "exec"),
            {"__name__": "__main__"},
        )
    assert shown.getvalue().strip()


@EACH_ARM
def test_what_an_arm_asks_stands_in_its_code(technique, arm, values):
    """Line by line, but for what the model said, tools brought and a thread names."""
    asked, text = asked_and_code(technique, arm, values)
    nodes = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    written = "\n".join(filter(lambda value: isinstance(value, str), nodes))
    bodies = [one.body | {"thread": None} for one in asked if one.role != "prime"]
    lines = [line for body in bodies for said in texts(body) for line in said.splitlines()]
    assert [one for one in lines if one not in written and code_samples.ANSWER not in one] == []


def texts(value):
    if isinstance(value, dict) and value.get("type") not in ("tool_use", "tool_result"):
        value = list(value.values())
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize(("turn_tokens", "runs"), [(20, False), (0, True)])
def test_the_code_starts_no_tool_on_an_input_that_was_cut(
    simulated, monkeypatch, turn_tokens, runs
):
    simulated.knobs(prefill_ms_per_token=0, gap_ms=0.1, queue_ms=0)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulated.api_key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulated.base_url)
    knobs = {"turn_tokens": turn_tokens, "note_characters": 200, "seconds": 0}
    text = code(TOOL_INPUT, "as each is whole", knobs)
    text = text.replace("    await asyncio.sleep(0.0)", "    started.append(arguments)")
    started = []
    exec(compile(text, "tool-input", "exec"), {"__name__": "__main__", "started": started})
    assert bool(started) == runs and all(len(given["note"]) >= 200 for given in started)


@pytest.mark.parametrize("most", range(1, 40, 4))
@pytest.mark.parametrize("which", ["eager", "agent"])
def test_wherever_a_turn_is_cut_no_tool_of_the_code_runs_without_its_whole_input(
    simulated, monkeypatch, which, most
):
    """Each tool takes a place; a turn that asks for one takes some 20 tokens."""
    simulated.knobs(prefill_ms_per_token=0, gap_ms=0.1, queue_ms=0)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulated.api_key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulated.base_url)
    text = eager_code() if which == "eager" else code(PARALLELISM, "parallel tools", {})
    ran = tools_run_by(re.sub(r'"max_tokens": \d+', f'"max_tokens": {most}', text))
    assert all(given["place"] for given in ran) and (most < 37 or ran)


def eager_code():
    order = ladder_order.resolve(
        ladder_config_of(endpoint="simulated", scenario="tools", levers=["eager"], minutes=99)
    )
    return ladder_code.of_stack(order, {"eager": "while it writes"})


def tools_run_by(text):
    ran = []
    text = text.replace('    return f"{name}', '    ran.append(arguments)\n    return f"{name}')
    exec(compile(text, "its code", "exec"), {"__name__": "__main__", "ran": ran})
    return ran


def block(index, kind, *pieces):
    """A tool call as it is streamed."""
    named = {"type": kind, "id": f"toolu_{index}", "name": "look", "input": {}}
    yield {"type": "content_block_start", "content_block": named}
    for piece in pieces:
        delta = {"type": "input_json_delta", "partial_json": piece}
        yield {"type": "content_block_delta", "delta": delta}
    yield {"type": "content_block_stop"}


@pytest.mark.parametrize(
    ("blocks", "ended", "runs"),
    [
        ([("server_tool_use", '{"x": 1}'), ("tool_use", '{"y"', ": 2}")], "tool_use", [{"y": 2}]),
        ([("tool_use",), ("tool_use", '{"y": 2}')], "tool_use", [{"y": 2}, {}]),
        ([("tool_use",)], "max_tokens", []),
    ],
    ids=["behind a tool of the server's", "one without an input", "cut before its input"],
)
def test_the_code_that_starts_tools_early_starts_them_on_their_own_inputs(
    monkeypatch, blocks, ended, runs
):
    usage = {"input_tokens": 1, "output_tokens": 1}
    begin = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}

    def events(blocks, ended):
        yield {"type": "message_start", "message": begin | {"usage": usage}}
        for index, (kind, *pieces) in enumerate(blocks):
            yield from (one | {"index": index} for one in block(index, kind, *pieces))
        yield {"type": "message_delta", "delta": {"stop_reason": ended}, "usage": usage}
        yield {"type": "message_stop"}

    answers = [events(blocks, ended), events([], "end_turn")]

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for event in answers.pop(0):
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

        def log_message(self, *_): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        assert tools_run_by(eager_code()) == runs
        server.shutdown()


def test_what_runs_at_once_in_the_trial_runs_at_once_in_the_code():
    assert "asyncio.gather(*(run_tool" in code(PARALLELISM, "parallel tools", {})
    assert "[await run_tool" in code(PARALLELISM, "sequential tools", {})
    assert "slots = asyncio.Semaphore(8)" in code(PARALLELISM, "together", REQUESTS)


def assigned(text):
    """The literals of a script by the name that each is given."""
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    }


@pytest.mark.parametrize("arm", ["routed", "cascade", "a stack"])
def test_each_of_two_models_is_told_in_its_own_word_not_to_think(arm):
    claude = registry.Endpoint("anthropic", LIVE, "", models=registry.LIVE_MODELS)
    if arm == "a stack":
        technique, knobs = stack.technique("wait_ms"), stack.StackKnobs(levels={"model": "routed"})
        task = definitions.load("rag", "simulated")[0]
        asked = code_samples.requests(technique, "winner", knobs, task, claude)
        more = {"parts": {"late": None}, "shown": False, "most_turns": 4}
        text = code_samples.python(technique, "winner", knobs, asked, **more)
    else:
        text = asked_and_code(ROUTING, arm, {}, endpoint=claude)[1]
    given = assigned(text)
    assert given["small"] == {"model": "claude-haiku-5-5", "thinking": {"type": "disabled"}}
    assert given["large"] == {"model": "claude-sonnet-5-5", "thinking": {"type": "between_tools"}}
    assert "model" not in given["body"] and "thinking" not in given["body"]
    chosen = "create(**body, **large)" if arm == "cascade" else 'small if word == "easy" else large'
    assert chosen in text


BETA = "context-management-2025-06-27"
EDITED = definitions.Task(
    task_id="own",
    betas=BETA,
    body={
        "max_tokens": 16,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}],
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    },
)


@pytest.mark.parametrize(
    "technique",
    all_techniques(),
    ids=lambda one: one.slug,
)
def test_the_code_asks_for_a_beta_in_the_way_that_the_sdk_takes(simulated, monkeypatch, technique):
    simulated.knobs(prefill_ms_per_token=0, gap_ms=0.1, queue_ms=0)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulated.api_key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulated.base_url)
    for arm in technique.arms:
        if "threads" in arm.needs:  # which take no context_management
            continue
        asked, text = asked_and_code(technique, arm.name, {}, task=EDITED)
        assert BETA in text
        assert ("clear_tool_uses" in text) == ("clear_tool_uses" in str(asked))
        exec(compile(text, arm.name, "exec"), {"__name__": "__main__"})


def test_what_the_sdk_takes_by_name_it_takes_for_a_stream_too():
    messages = anthropic.Anthropic(api_key="none").messages
    for method in (messages.create, messages.stream):
        assert NAMED - set(inspect.signature(method).parameters) == set()


def test_the_code_of_a_cached_arm_shows_the_hit(simulated, monkeypatch):
    """It printed the throw-away token of the request that writes, and no usage."""
    simulated.knobs(prefill_ms_per_token=0, gap_ms=0.1, queue_ms=0)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulated.api_key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulated.base_url)
    caching = next(each for each in all_techniques() if "cached" in {a.name for a in each.arms})
    text = code(caching, "cached", {"prefix_tokens": 600})
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(text, "cached", "exec"), {"__name__": "__main__"})
    prime, *_, read = shown.getvalue().strip().splitlines()
    assert prime.startswith("0 tokens read from the cache") and " 0 written" not in prime
    assert " 0 written to it" in read and not read.startswith("0 ")
    lines = text.splitlines()
    marks = [number for number, line in enumerate(lines) if "cache_control" in line]
    assert max(marks) < next(n for n, line in enumerate(lines) if line.startswith("PREFIX ="))
    assert min(marks) < 40


HOSTILE = "\"\"\"' + __import__('os').abort() + '\\\\\n\u2028{{ x }} " * 20


def test_a_literal_reads_back_as_what_it_was():
    body = {"a": [HOSTILE, {"b": None, "c": True}], "d": 1.5, "e": {}, "f": "word " * 99, "g": []}
    written = code_samples._literal(body)
    assert ast.literal_eval(written) == body
    named = code_samples._literal(body, {HOSTILE: "PREFIX"})
    assert "PREFIX" in named and "abort" not in named
    assert max(map(len, code_samples._literal({"f": "word " * 99}).splitlines())) <= 100
