"""Tasks, their checks, and the user's own files; and the tools that trials run."""

import json

import pytest

from lab.model import LabError
from lab.scenarios import definitions, tools
from lab.scenarios.checks import Exact, Facts, JsonFields, Judge, Number, Regex
from lab.scenarios.definitions import Task, parse_lines, score


@pytest.mark.parametrize("category", definitions.CATEGORIES)
def test_each_category_has_twelve_tasks_that_can_be_checked(category):
    tasks = definitions.load(category)
    assert len(tasks) >= 12
    assert all(
        task.check is not None
        and task.difficulty
        and task.category == category
        and task.origin == "built-in"
        for task in tasks
    )
    assert {task.difficulty for task in tasks} == {"easy", "hard"}
    assert len({task.task_id for task in tasks}) == len(tasks)


def test_warm_up_prompts_are_no_measured_prompts():
    measured = {
        task.prompt for category in definitions.CATEGORIES for task in definitions.load(category)
    }
    assert not measured & {task.prompt for task in definitions.warmup_tasks()}


def test_rag_sends_all_documents_but_on_local_no_more_than_600_tokens():
    live, local = definitions.load("rag", "live"), definitions.load("rag", "local")
    assert len({task.documents for task in live}) == 1 and len(live[0].documents) == 10
    for task in local:
        assert 400 < sum(map(len, task.documents)) / definitions.CHARACTERS_PER_TOKEN <= 600


def test_a_rag_answer_stands_in_the_documents_that_local_sends():
    task = next(task for task in definitions.load("rag", "local") if "pilot" in task.prompt)
    assert score(task, "\n".join(task.documents)) == 1


@pytest.mark.parametrize(
    ("check", "answer", "expected"),
    [
        (Exact(answers=("Paris",)), " paris. ", 1),
        (Exact(answers=("Paris",)), "It is Paris", 0),
        (Number(value=42), "6 times 7 makes 42 eggs", 1),
        (Number(value=42), "Answer: 42, because 6 and 7", 1),
        (Number(value=1234.5), "That is 1,234.50 crowns.", 1),
        (Number(value=-3), "−3", 1),
        (Number(value=42), "no idea", 0),
        (Number(value=10, tolerance=0.5), "about 10.4", 1),
        (Regex(pattern=r"\bno\b"), "No, it is not.", 1),
        (Regex(pattern=r"\bno\b"), "nobody", 0),
        (JsonFields(fields={"a": 1, "b": "Red"}), 'Here: ```json\n{"a": 1.0, "b": "red"}\n```', 1),
        (JsonFields(fields={"a": 1, "b": "Red"}), '{"a": 1}', 0.5),
        (Facts(facts=["red", ["blue", "azure"], "green"]), "Red and azure", 2 / 3),
        (Facts(facts=["9 m"]), "19 metres", 0),
    ],
)
def test_a_check_gives_one_nothing_or_a_share(check, answer, expected):
    assert score(Task(prompt="?", check=check), answer) == pytest.approx(expected)


def test_no_check_and_no_answer_have_no_score():
    assert score(Task(prompt="?"), "42") is None
    assert score(Task(prompt="?", check=Number(value=42)), None) is None


def test_a_judge_is_asked_only_where_a_task_says_so():
    asks = Task(prompt="Write a haiku.", check=Judge(criteria="three lines"))
    assert score(asks, "one line") is None
    assert "three lines" in json.dumps(definitions.judge_body(asks, "one line"))
    assert definitions.judged('{"score": 7}') == 0.7
    assert definitions.judge_body(Task(prompt="?"), "one line") is None


def test_each_line_is_a_task_or_a_whole_body():
    body = {
        "max_tokens": 5,
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Why?"},
        ],
    }
    task = {"prompt": "2 + 2?", "system": "Be brief.", "check": {"kind": "number", "value": 4}}
    first, second = parse_lines(json.dumps(body) + "\n\n" + json.dumps(task))
    assert first.body_for(64, system="s") == {**body, "system": "s"} and first.question == "Why?"
    assert second.body_for(64) == {
        "max_tokens": 64,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "2 + 2?"}],
    }
    assert (first.origin, second.task_id) == ("user", "line-3")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "x"', "line 2: not JSON"),
        ('{"promt": "x"}', "line 2: promt"),
        ('{"prompt": " "}', "line 2: needs a prompt"),
        ('{"messages": []}', "line 2: body: messages must be a list"),
        (
            '{"messages": [{"role": "robot", "content": "x"}]}',
            "line 2: body: messages.0 needs a role",
        ),
        (
            '{"prompt": "x", "check": {"kind": "regex", "pattern": "("}}',
            "line 2: .*not a regular expression",
        ),
        ('{"prompt": "x", "tools": ["rocket"]}', "line 2: tools: unknown tool rocket"),
        ("[1]", "line 2: not a JSON object"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_reason(line, reason):
    with pytest.raises(LabError, match=reason):
        parse_lines('{"prompt": "fine"}\n' + line)


def test_pasted_questions_share_the_pasted_system():
    tasks = parse_lines("What is 1?\n\nWhat is 2?", system="Be brief.")
    assert [(task.prompt, task.system) for task in tasks] == [
        ("What is 1?", "Be brief."),
        ("What is 2?", "Be brief."),
    ]


def test_a_file_is_read_and_a_missing_one_is_a_sentence(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('\ufeff{"prompt": "x"}\n', encoding="utf-8")
    assert [task.prompt for task in definitions.load(str(path), "live")] == ["x"]
    path.write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(LabError, match="UTF-8"):
        definitions.load(str(path))
    with pytest.raises(LabError, match="No scenario 'poetry'"):
        definitions.load("poetry")


async def test_a_tool_answers_after_its_service_time_and_a_wrong_input_is_an_answer_too():
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    assert (
        await tools.run("tide", {"place": "lowmoor"}, sleep)
        == "Lowmoor: high water at 15:05, 2.2 metres"
    )
    assert "No record" in await tools.run("tide", {"place": "Atlantis", "service_ms": 50}, sleep)
    assert "no tool named" in await tools.run("rocket", {}, sleep)
    assert slept == [0.3, 0.05]


def test_what_a_tool_would_say_stands_in_the_prompt_where_no_tools_are_offered():
    task = definitions.load("tools")[0]
    body = task.without_tools(20)
    assert "tools" not in body and "high water at 14:10" in body["messages"][0]["content"]


def test_a_tools_task_can_be_answered_from_its_tools():
    for task in definitions.load("tools"):
        if task.difficulty == "easy":
            assert score(task, tools.records(task.tools, task.prompt)) == 1, task.prompt


HALF = "\ud83d"


@pytest.mark.parametrize(
    "settings",
    [
        {"technique": "streaming", "name": f"a {HALF}"},
        {
            "technique": "streaming",
            "tasks": [Task(task_id="x", category="user", prompt=f"Say {HALF}", origin="user")],
        },
        {
            "technique": "ab",
            "knobs": {
                "bodies": json.dumps(
                    [{"messages": [{"role": "user", "content": f"Say {HALF}"}]}, {"name": "b"}]
                )
            },
        },
    ],
)
def test_half_an_emoji_of_the_users_own_is_a_sentence_before_the_run(settings):
    from lab.harness.plan import experiment
    from lab.settings import config_of

    with pytest.raises(LabError, match="half an emoji"):
        experiment(config_of(**settings), "simulated")


def test_half_an_emoji_in_a_file_of_tasks_is_a_sentence(tmp_path):
    from lab.harness.plan import experiment
    from lab.settings import config_of

    file = tmp_path / "tasks.jsonl"
    file.write_text(
        json.dumps({"messages": [{"role": "user", "content": f"Say {HALF}"}], "max_tokens": 5})
        + "\n"
    )
    with pytest.raises(LabError, match="half an emoji"):
        experiment(config_of(technique="streaming", scenario=str(file)), "simulated")


@pytest.mark.parametrize(
    "answer",
    [
        '{"score": 1' + "0" * 5000 + "}",
        '{"score": NaN}',
        '{"score": ' + "[" * 5000,
        '{"score": true}',
        "{" * 5000,
    ],
)
def test_a_judge_may_say_anything(answer):
    assert definitions.judged(answer) in (None, 1.0, 0.1)
    check = definitions.Task(
        task_id="x", category="user", prompt="p", check={"kind": "json", "fields": {"score": 7}}
    ).check
    assert check.score(answer) == 0.0
