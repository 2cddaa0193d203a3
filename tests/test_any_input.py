"""Whatever a user's file, requirement or setting holds, it works or is refused in one sentence;
bench.any_input goes on for minutes."""

import pytest

from bench import any_input
from lab import requirements
from lab.model import LabError
from lab.scenarios import definitions


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return any_input.Inputs(tmp_path_factory.mktemp("any"))


@pytest.mark.parametrize("kind", any_input.KINDS)
def test_any_input_works_or_is_refused_in_one_sentence(inputs, kind):
    any_input.try_all(inputs, kind, 40)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            '{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
            "a text block without text",
        ),
        (
            '{"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}',
            "without text",
        ),
        ("{" + '"a":{' * 3_000, "nested too deeply"),
    ],
)
def test_what_was_a_traceback_is_named_by_its_line(line, words):
    with pytest.raises(LabError, match="^line 1: .*" + words):
        definitions.parse_lines(line)


@pytest.mark.parametrize(
    "content", [b"prices = 3", b"prices = [1]", b"prices = [[]]", b"x = " + b"[" * 3_000]
)
def test_a_price_list_of_another_shape_is_named(inputs, content):
    with pytest.raises(LabError, match="is not a price list"):
        inputs.price_list(content.decode())


@pytest.mark.parametrize("text", ["a = " + "[" * 3_000, "[endpoints]\ngateway = 3\n[keys]\nx = []"])
def test_a_secrets_file_of_another_shape_breaks_nothing(inputs, text):
    any_input.holds(inputs, "secret_file", text)


def test_a_limit_beyond_every_number_is_no_limit(inputs):
    with pytest.raises(LabError, match="limit"):
        requirements.judge(inputs.result, f"cached p50 ttft_ms < {'9' * 400}")


def test_a_sentence_stays_one_line_whatever_it_quotes():
    with pytest.raises(LabError) as refusal:
        definitions.parse_lines('{"prompt": "x", "a\\nb\\u2028c": 1}')
    assert str(refusal.value) == "line 1: a⏎b⏎c: Extra inputs are not permitted."


@pytest.mark.parametrize("size", ["runs", "min_runs", "max_runs"])
def test_a_run_of_more_blocks_than_anyone_could_wait_for_is_refused_at_once(inputs, size):
    with pytest.raises(LabError, match=f"{size}: .* less than or equal to 10000"):
        inputs.planned({"technique": "streaming", "target_half_width_ms": 50, size: 10**15})
