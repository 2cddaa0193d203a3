"""A curl command, a Python call or a JSON body becomes the body that it would send."""

from __future__ import annotations

import json
import subprocess

import pytest

from lab import pasted, techniques
from lab.cli import main, run
from lab.model import LabError
from lab.pasted import Misplaced, proposals

BODY = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": 'What\'s a "tide"?\nIn one line.'}],
}
TEXT = json.dumps(BODY)
KEY = "sk-ant-api03-0123456789abcdef"
ANSI = "$'" + TEXT.replace("\\", "\\\\").replace("'", "\\'") + "'"
SINGLE = "'" + TEXT.replace("'", "'\\''") + "'"
DOUBLE = '"' + TEXT.replace("\\", "\\\\").replace('"', '\\"') + '"'
URL = "https://api.anthropic.com/v1/messages"
CURLS = {
    "single quotes": f"curl {URL} -d {SINGLE}",
    "double quotes": f"curl {URL} --data {DOUBLE}",
    "a dollar's quotes": f"curl {URL} --data-raw {ANSI}",
    "the letter and the value in one": f"curl -sSd{SINGLE} {URL}",
    "an equals sign": f"curl {URL} --data={SINGLE}",
    "json": f"$ curl {URL} --json {SINGLE}",
    "continued lines": (
        f"curl {URL} \\\n  -X POST \\\n  -H 'x-api-key: {KEY}' \\\n"
        f"  --header 'content-type: application/json' \\\n  --data-binary {SINGLE} --max-time 5"
    ),
    "a here-document": f"curl {URL} -d @- <<'EOF'\n{TEXT}\nEOF\n",
    "a here-string": f"curl {URL} -d @- <<< {SINGLE}",
    "a pipe": f"echo {SINGLE} | curl {URL} --data @-",
    "a script": f"#!/bin/sh\nset -e  # a comment, isn't it\nKEY=x\ncurl {URL} -d {SINGLE} | jq .\n",
}


@pytest.mark.parametrize("text", CURLS.values(), ids=CURLS)
def test_a_curl_command_is_read(text):
    read = pasted.read(text)
    assert (read.form, read.body) == ("curl", {**BODY, "stream": False})


@pytest.mark.parametrize(
    "name", ["single quotes", "a dollar's quotes", "a here-document", "continued lines"]
)
def test_it_is_read_as_a_shell_reads_it(name, tmp_path):
    """A curl that prints what it would send."""
    curl = tmp_path / "curl"
    curl.write_text(
        "#!/usr/bin/env python3\nimport sys\nwords = sys.argv[1:]\n"
        "at = next(i for i, w in enumerate(words) if w.startswith(('-d', '--data')))\n"
        "value = words[at + 1]\nprint(sys.stdin.read() if value == '@-' else value)\n"
    )
    curl.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"}
    sent = subprocess.run(["bash", "-c", CURLS[name]], capture_output=True, text=True, env=path)
    assert json.loads(sent.stdout) == BODY


WRITTEN = """
    model="claude-sonnet-4-5",
    max_tokens=64,
    messages=[{"role": "user", "content": "What's a \\"tide\\"?\\nIn one line."}],
"""
CALLS = {
    "create": f"message = client.messages.create({WRITTEN})",
    "create, streamed": f"for event in client.messages.create({WRITTEN} stream=True): ...",
    "stream": f"with client.messages.stream({WRITTEN}) as stream:\n    print(stream)",
    "stream without its block": f"with client.messages.stream({WRITTEN}) as stream:\n",
    "async": (
        "import anthropic\n\nclient = anthropic.AsyncAnthropic(api_key='" + KEY + "')\n\n"
        f"async def main():\n    reply = await client.messages.create({WRITTEN})\n"
    ),
    "async stream": (
        f"async with client.messages.stream({WRITTEN}) as stream:\n    async for t in stream: ..."
    ),
    "indented": f"    reply = await self.client.beta.messages.create({WRITTEN}    )",
    "names of literals": (
        'QUESTION = "What\'s a \\"tide\\"?\\n" + "In one line."\nMODEL = "sonnet"\n'
        'turns = [{"role": "user", "content": QUESTION}]\nbody = {"max_tokens": 64}\n'
        'client.messages.create(model=f"claude-{MODEL}-4-5", messages=turns, **body,\n'
        "    system=anthropic.NOT_GIVEN, timeout=20)"
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_python_call_is_read_and_never_run(name):
    read = pasted.read(CALLS[name])
    assert (read.form, read.body) == ("python", {**BODY, "stream": "stream" in name})


def place(text: str) -> tuple[int, int, str]:
    with pytest.raises(Misplaced) as error:
        pasted.read(text)
    line, caret = error.value.excerpt.split("\n")
    return error.value.line, error.value.column, line[len(caret) - 1 :]


def test_a_mistake_in_json_is_shown_where_it_is():
    text = '{\n  "max_tokens": 64\n  "messages": []\n}'
    assert place(text) == (3, 3, '"messages": []')
    with pytest.raises(LabError, match=r"^line 3, column 3: a comma or a closing bracket is mis"):
        pasted.read(text)
    assert place('{"a": 1,}')[:2] in ((1, 8), (1, 9))


def test_a_mistake_in_a_curls_body_is_shown_in_the_curl():
    text = f'curl {URL} \\\n  -d \'{{\n    "max_tokens": ,\n    "messages": []}}\''
    assert place(text) == (3, 19, ",")
    assert place(f"curl {URL} -d '{{}}")[2] == "'{}"


def test_what_is_no_literal_is_named_with_its_line():
    text = "import x\nclient.messages.create(\n    max_tokens=64,\n    messages=history(),\n)"
    line, column, rest = place(text)
    assert (line, column, rest) == (4, 14, "history(),")
    with pytest.raises(LabError, match=r"history\(\) cannot be taken over, because its value is"):
        pasted.read(text)
    for unknown in ("question", "[*rest]", "'a' if x else 'b'", "open('/etc/passwd').read()"):
        code = f"for question in rest:\n    client.messages.create(messages={unknown})"
        assert place(code)[0] == 2


def test_a_name_that_is_given_two_values_is_none():
    text = "a = 'x'\na = 'y'\nclient.messages.create(messages=[], system=a)"
    assert place(text)[0] == 3
    assert place("a = a\nclient.messages.create(messages=[], system=a)")[0] == 1


def test_a_broken_python_is_shown_where_it_breaks():
    assert place("client.messages.create(\n    max_tokens=64\n    messages=[])")[0] == 2


def test_what_is_left_out_is_said_without_its_value():
    text = CURLS["continued lines"].replace("content-type: application/json", "anthropic-beta: x")
    read = pasted.read(text)
    assert read.left_out == ("the key in x-api-key", "the header anthropic-beta")
    assert KEY not in repr(read)
    elsewhere = pasted.read(f"curl -u me:{KEY} https://gateway.example/v1/messages -d {SINGLE}")
    assert elsewhere.left_out == ("the key in --user", "the address (gateway.example)")
    assert pasted.read(CALLS["async"]).left_out == ("the key",)
    assert pasted.read(CALLS["names of literals"]).left_out == ("timeout",)


@pytest.mark.parametrize(
    "text",
    [
        f"curl -H 'x-api-key: {KEY}' -H \"Authorization: Bearer {KEY}\" -d '{{'",
        f"curl -H x-api-key:{KEY} --user me:{KEY}",
        f"client = Anthropic(api_key='{KEY}')\nclient.messages.create(",
        f"curl -H $'authorization: Bearer other-key' {KEY}",
    ],
)
def test_a_key_does_not_stay_in_a_text_that_cannot_be_read(text):
    shown = pasted.without_keys(text)
    assert KEY not in shown and "other-key" not in shown
    assert shown.startswith(text[:8])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What is a tide?", "neither a curl command, a Python call nor a JSON body"),
        (f"curl {URL}", "sends no body"),
        (f"curl {URL} -d @body.json", "from the file 'body.json', which is not opened here"),
        (f"curl {URL} -F a=b", "sends a form"),
        (f'curl {URL} -d \'{{"model": "x"}}\'', "no list of messages"),
        ("x = client.messages.create", "no call of client.messages.create"),
        ("[1, 2]", "one JSON object"),
        ("{" * 2000, "line 1, column 2"),
        ('{"a": NaN}', "NaN"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(text, words):
    with pytest.raises(LabError, match=words.replace("(", r"\(")):
        pasted.read(text)


def test_a_streamed_and_a_smaller_body_differ_in_one_field():
    assert proposals.streamed({**BODY, "stream": False}) == {**BODY, "stream": True}
    assert proposals.smaller(BODY, "claude-haiku-4-5") == {**BODY, "model": "claude-haiku-4-5"}


MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"system": "Long."}, lambda body: body["system"][-1]),
        ({"system": [{"type": "text", "text": "Long."}]}, lambda body: body["system"][-1]),
        ({"tools": [{"name": "a"}, {"name": "b"}]}, lambda body: body["tools"][-1]),
        ({}, lambda body: body["messages"][0]["content"][0]),
    ],
)
def test_a_body_is_cached_up_to_where_it_repeats(fields, where):
    body = {**BODY, **fields}
    before = json.dumps(body)
    cached = proposals.cached(body)
    assert where(cached)["cache_control"] == MARK["cache_control"] and cached["primed"] is True
    assert json.dumps(cached).count("cache_control") == 1
    assert json.dumps(body) == before


def test_earlier_turns_are_cached_and_the_last_is_not():
    turns = [{"role": r, "content": "Go on."} for r in ("user", "assistant", "user")]
    cached = proposals.cached({"messages": turns})["messages"]
    assert [isinstance(turn["content"], list) for turn in cached] == [False, True, False]


def test_the_command_line_takes_a_curl_and_a_python_file(simulated, db, tmp_path, capsys):
    (tmp_path / "whole.sh").write_text(CURLS["continued lines"].replace("sonnet", "any"))
    (tmp_path / "streamed.py").write_text(CALLS["stream"])
    (tmp_path / "wrong.sh").write_text(f"curl {URL} \\\n  -d '{{\"max_tokens\": ,}}'")
    whole, streamed, wrong = (str(tmp_path / n) for n in ("whole.sh", "streamed.py", "wrong.sh"))
    assert main(["ab", whole, wrong]) == 2
    assert f"{wrong}, line 2, column 22: a value is missing here." in capsys.readouterr().err
    objects = run._objects([whole, streamed], techniques.find("ab"))
    assert [(body["name"], body["stream"]) for body in objects] == [
        ("whole", False),
        ("streamed", True),
    ]
    assert capsys.readouterr().err == f"{whole}: left out the key in x-api-key.\n"
