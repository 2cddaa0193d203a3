"""The command `ladder`, the file that its winner's code goes into, and the page's form."""

import json

import pytest

from lab import cli, ladder_run
from lab.endpoints import registry
from tests.test_ladder_run import SLOW_LARGE, TASKS, few_blocks
from tests.test_pages import opened, well

__all__ = ["few_blocks"]  # of every test here


@pytest.mark.parametrize("file", ["", "nowhere/winner.py"])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_measured(
    file, db, tmp_path, capsys
):
    words = ["ladder", "--endpoint", "simulated", "--minutes", "0.2", "--levers", "streamed"]
    assert cli.main([*words, "--code", str(tmp_path / file)]) == 2
    told = capsys.readouterr()
    assert "--code" in told.err and "Ladder:" not in told.out and not db.exists()


def test_a_file_that_can_be_written_no_more_leaves_the_ladder_its_end(
    simulated, db, tmp_path, monkeypatch, capsys
):
    """A folder takes its name while the ladder goes on."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(answer_tokens=40, models=SLOW_LARGE)
    tasks, code, measure = tmp_path / "tasks.jsonl", tmp_path / "winner.py", ladder_run.measure
    tasks.write_text(json.dumps(TASKS[0]))

    def measured(*about, **named):
        done = measure(*about, **named)
        code.mkdir()
        return done

    monkeypatch.setattr(ladder_run, "measure", measured)
    words = ["ladder", "--endpoint", simulated.base_url, "--scenario", str(tasks)]
    words += ["--levers", "streamed", "--answer-tokens", "40", "--warmup", "0", "--code", str(code)]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "Code of the winner: not written: " in told and "Rows: " in told


@pytest.mark.parametrize(
    ("endpoint", "usual", "other"), [("local", "small", "large"), ("simulated", "large", "small")]
)
def test_the_form_shows_the_model_that_today_asks_and_takes_another(endpoint, usual, other, db):
    models = registry.find(endpoint).models
    query = {"endpoint": endpoint, "ladder-minutes": "99", "more-options": "true"}
    page = opened("pages/23_Ladder.py", **query)
    for level in (usual, other, usual):
        if page.selectbox(f"today-model-{usual}").value != level:
            page.selectbox(f"today-model-{usual}").select(level).run()
        well(page)
        told = [caption.value.replace("\\", "") for caption in page.caption]
        assert any(text.endswith(f"where today asks {models[level]}") for text in told), told
