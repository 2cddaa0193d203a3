"""Of words that are the user's own a run keeps the shape alone, unless they say otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measured import FAST
from recorded_runs import recorded

from lab import Lab, clock, paths, processes, results, resume, worker
from lab.harness import own_text
from lab.harness.reporters.html import page as report
from lab.harness.reporters.json_object import JSONReporter
from lab.model import LabError
from lab.scenarios.definitions import Task
from lab.settings import config_of
from lab.store.store import Store

SECRET = "the merger with Umbrella is on Friday"
TASK = {"prompt": SECRET, "system": f"Say no word of: {SECRET}"}
BODIES = [
    {
        "name": side,
        "max_tokens": limit,
        "system": SECRET,
        "tools": [{"name": "look", "input_schema": {"type": "object", "title": SECRET}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": SECRET}]}],
        "metadata": {"user_id": SECRET},
    }
    for side, limit in (("a", 3), ("b", 2))
]


@pytest.fixture
def lab(simulated, db, tmp_path, monkeypatch):
    """A lab whose database and runtime folder are its own, on a server that answers in the words
    that it was asked."""
    monkeypatch.setenv("LAB_RUNTIME", str(tmp_path / "runtime"))
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(**FAST | {"prefill_ms_per_token": 0})

    def measure(technique="ab", more_of=None, **settings):
        usual = {"runs": 1, "warmup": 0, "endpoint": simulated.base_url}
        config = config_of(technique=technique, **usual | settings)
        return worker.measure(config, technique=more_of).run_id

    measure.control = simulated
    return measure


def tables() -> dict[str, str]:
    """Every value of every column that can hold a text, by table."""
    store = Store()
    with store.snapshot():
        names = store.frame("SHOW TABLES")["name"]
        return {name: store.frame(f'FROM "{name}"').to_csv() for name in names}


def leaks(word: str = "Umbrella") -> list[str]:
    """Where the word stands: tables, files beside the database, the runtime folder, the report."""
    found = [name for name, text in tables().items() if word in text]
    folders = (paths.database().parent, paths.runtime_folder())
    for folder in dict.fromkeys(folders):
        files = [file for file in folder.rglob("*") if file.is_file()]
        found += [file.name for file in files if word.encode() in file.read_bytes()]
    result = results.read("last")
    told = {"report": report(result), "markdown": str([v.markdown for v in result.verdicts])}
    return found + [name for name, text in told.items() if word in text]


def answers() -> list[str]:
    rows = Store().frame("SELECT text FROM events WHERE text IS NOT NULL")
    return rows["text"].tolist()


WAYS = {
    "own bodies": {"knobs": {"bodies": BODIES}},
    "own tasks": {"technique": "streaming", "tasks": [Task(**TASK)]},
    "a body as a task": {
        "technique": "caching",
        "tasks": [Task(body={k: v for k, v in BODIES[0].items() if k != "name"})],
        "knobs": {"prefix_tokens": 20},
    },
    "own bodies and own tasks": {
        "tasks": [Task(**TASK)],
        "knobs": {"bodies": [{"name": "a"}, {"name": "b", "system": SECRET}]},
    },
}


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_a_run_keeps_no_word_of_the_users_own(lab, settings):
    lab(**settings)
    assert (leaks(), answers()) == ([], [])


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_it_keeps_them_where_the_user_says_so(lab, settings):
    lab(**settings, keep_text=True)
    assert "runs" in leaks() and answers()


def test_the_labs_own_tasks_keep_their_answers(lab):
    lab("streaming")
    assert answers()
    lab("ab", knobs={"bodies": [{"name": "a", "max_tokens": 3}, {"name": "b", "max_tokens": 2}]})
    assert results.read("last").run["keep_text"]


def test_what_is_kept_is_the_shape(lab):
    lab(knobs={"bodies": BODIES})
    settings = results.read("last").run["settings"]
    arm = json.loads(settings["knobs"]["bodies"])[0]
    assert arm["name"] == "a" and arm["max_tokens"] == 3
    text = {"type": "text", "text": "(37 characters, not kept)"}
    assert arm["messages"] == [{"role": "user", "content": [text]}]
    assert len(settings[own_text.MARK]) == 8


def test_an_error_that_repeats_the_question_is_kept_without_it(db):
    trial = recorded(Store())[0]
    trial.calls[0].error_text = f"messages.0.content: {SECRET} is too long"
    trial.trial.error_text = f"400: {{'content': {SECRET!r}}}"
    own_text.hide(trial, [{"messages": [{"content": SECRET}]}])
    assert trial.calls[0].error_text == "messages.0.content: (not kept) is too long"
    assert trial.trial.error_text == "400: {'content': '(not kept)'}"


def test_twelve_characters_are_a_quotation():
    asked = "What is the plan for the merger?"
    assert own_text.unquoted("bad request: the plan for the merger?", asked) == (
        "bad request:(not kept)"
    )
    assert own_text.unquoted("the plan for", asked) == "(not kept)"
    assert own_text.unquoted("the plan fo", asked) == "the plan fo"


def agent_of(technique_text: str):
    async def agent(client, task):
        reply = await client.messages.create(
            model="simulated-small",
            max_tokens=2,
            system=technique_text,
            messages=[{"role": "user", "content": "Go."}],
        )
        if technique_text.endswith("!"):
            raise ValueError(f"no answer to {technique_text}")
        return reply.content[0].text

    return agent


def test_functions_of_the_users_own_keep_neither_prompt_nor_answer(lab):
    """On the lab's own tasks too: the prompt is in the function."""
    where = Lab(endpoint=lab.control.base_url, progress=False)
    agents = {"old": agent_of(SECRET), "new": agent_of(SECRET + ".")}
    where.compare(agents, runs=1, warmup=0)
    where.compare(agents, tasks=[SECRET], runs=1, warmup=0)
    assert (leaks(), answers()) == ([], [])


def test_what_a_function_raises_is_kept_without_its_prompt(lab):
    where = Lab(endpoint=lab.control.base_url, progress=False)
    with pytest.raises(LabError):
        where.compare({"old": agent_of(SECRET), "new": agent_of(SECRET + "!")}, runs=1, warmup=0)
    assert leaks() == []
    assert "ValueError: no answer to (not kept)" in tables()["trials"]


OWN = """
from lab.model import Arm, Knobs, Request, Technique

class K(Knobs):
    tone: str = "SECRET"
    style: str = ""

async def trial(bench, arm, knobs, task):
    reply = await bench.call(Request(task.body_for(3, system=knobs.tone + knobs.style)))
    return reply.text

TECHNIQUE = Technique(
    slug="mine", title="Mine", claim="Mine.", published="", headline="wait_ms", headline_arm="b",
    arms=(Arm("a"), Arm("b")), knobs=K, trial=trial,
)
""".replace("SECRET", SECRET)


def test_a_technique_of_the_users_own_keeps_neither_its_prompts_nor_their_answers(
    lab, tmp_path, monkeypatch
):
    folder = tmp_path.parent / f"{tmp_path.name}-techniques"
    folder.mkdir()
    (folder / "mine.py").write_text(OWN)
    monkeypatch.setenv("LAB_TECHNIQUES", str(folder))
    run_id = lab("mine", knobs={"style": SECRET})
    assert (leaks(), answers()) == ([], [])
    assert lab("mine", join_run=run_id, knobs={"style": SECRET}) == run_id
    assert leaks() == []


def test_more_blocks_of_such_a_run_need_the_same_words_again(lab, monkeypatch):
    """In a process that has not measured it; one that has still knows them."""
    run_id = lab(knobs={"bodies": BODIES})
    monkeypatch.setattr(processes, "_asked", {})
    with pytest.raises(LabError, match=r"kept no word of your own requests.* FILE FILE --more"):
        lab(join_run=run_id)
    with pytest.raises(LabError, match="only with the same ones"):
        lab(join_run=run_id, knobs={"bodies": [BODIES[0], {**BODIES[1], "system": "Be brief."}]})
    lab(join_run=run_id, knobs={"bodies": BODIES})
    assert results.read(run_id).run["settings"]["runs"] == 2
    assert leaks() == []
    kept = lab(knobs={"bodies": BODIES}, keep_text=True)
    lab(join_run=kept)
    assert results.read(kept).comparisons[0].n == 2


def test_whoever_started_it_has_the_words_for_more_blocks(lab):
    """A dashboard's More blocks: the words stay in its memory, and nowhere else."""
    config = config_of(
        technique="ab", endpoint=lab.control.base_url, runs=1, warmup=0, knobs={"bodies": BODIES}
    )
    run_id = processes.start_run(config)
    ended: list = []
    while not ended:
        entries = processes.read_progress(run_id)[0]
        ended = [entry for entry in entries if entry["kind"] == "ended"]
        clock.pause_s(0.05)
    assert resume.more(results.read(run_id).run, 3).knobs == {"bodies": BODIES}
    assert leaks() == []


def test_the_report_prints_bodies_that_are_kept_once(lab):
    lab(knobs={"bodies": BODIES}, keep_text=True)
    assert report(results.read("last")).count("is on Friday") == json.dumps(BODIES).count("Friday")


def test_no_reporter_tells_them(lab, tmp_path):
    lab(knobs={"bodies": BODIES})
    result = results.read("last")
    text = str(JSONReporter(Path(tmp_path)).report(result)) + report(result)
    assert "Umbrella" not in text
