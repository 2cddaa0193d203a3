"""A delay proposed from recorded waits: its prediction on numbers one can check in the head."""

import json

import numpy as np
import pandas as pd
import pytest

from lab import cli, results
from lab.harness import plan
from lab.model import LabError
from lab.settings import config_of
from lab.techniques.hedging import TECHNIQUE, figures, findings, planner
from lab.view_parts import RunData
from tests.measured import FAST, measure
from tests.test_pages import opened

TEN_LATE = np.array([100.0] * 90 + [1000.0] * 10)
"""Nine in ten begin at 100 ms, one in ten at 1,000."""
SOON = {"headers": 10, "text": [10], "done": 11}
LATE = {"headers": 400, "text": [400], "done": 401}


def every_fifth_is_late(seed: int, blocks: int) -> list[dict]:
    """In one block of five each arm's request is late; its twin is not."""
    config = config_of(technique="hedging", arms=["once", "hedged"], endpoint="simulated")
    plays = []
    for block in plan.experiment(config, "simulated").blocks(seed, 1, blocks):
        for variant in block.order:
            if block.number % 5:
                plays.append(SOON)
            else:
                plays += [LATE, SOON] if variant.arm.name == "hedged" else [LATE]
    return plays


@pytest.mark.parametrize(
    ("correlation", "p95"), [(0.0, 300.0), (0.4, 300.0), (0.6, 1000.0), (1.0, 1000.0)]
)
def test_p95_after_asking_again_at_200_ms(correlation, p95):
    """Of the late tenth the twins that draw by themselves begin at 200 + 100 ms. Where six in ten
    share their luck 6 % still wait for 1,000 ms, and p95 stays where it was."""
    told = planner.plan(TEN_LATE, correlation, delay_ms=200)
    assert told.before.estimate == 1000 and told.after.estimate == p95
    assert told.twice.estimate == 0.10 and told.correlation == pytest.approx(correlation)
    assert told.after.low <= p95 <= told.after.high


def test_the_delay_is_the_shortest_that_asks_no_more_than_so_many_twice():
    waits = np.arange(1.0, 101)
    assert planner.plan(waits, most_twice=0.2).twice.estimate == pytest.approx(0.2)
    assert planner.plan(waits, most_twice=0.2).delay_ms == 80
    # No twin is sent before p95 itself, so it stays.
    late = planner.plan(waits, most_twice=0.05)
    assert late.after.estimate == late.delay_ms == 95


def test_71_waits_are_refused_and_72_are_enough():
    with pytest.raises(LabError, match="needs 72 recorded times to first token, and there are 71"):
        planner.plan(TEN_LATE[-71:])
    assert planner.plan(TEN_LATE[-72:]).n == 72


def test_a_prediction_for_few_blocks_is_wider_than_for_many():
    rng = np.random.default_rng(1)
    waits = rng.lognormal(4, 0.5, 200)
    few, many = (planner.plan(waits, blocks=blocks).in_a_run for blocks in (20, 2000))
    assert few[1] - few[0] > many[1] - many[0] > 0


def middle(draws: np.ndarray) -> float:
    return float(np.median(draws))


def test_many_recorded_waits_propose_a_run_no_longer_than_usual():
    """Three arms of each would be paid for."""
    data = RunData(TECHNIQUE, {"endpoint": "simulated", "endpoint_kind": "simulated"}, None, None)
    parts = figures._proposal(data, data.run, np.tile(TEN_LATE, 5), 0.16, None, False)
    assert parts[-1].text.startswith("To measure it: --delay-ms 100 --runs 100,")


def test_luck_that_pairs_share_is_found():
    """Twenty of a hundred are late. Both of a pair: all share. Four of a hundred pairs: none do."""
    late = np.arange(100) < 20
    times = np.where(late, 900.0, 100.0)
    other = np.where(
        (np.arange(100) < 4) | ((np.arange(100) >= 20) & (np.arange(100) < 36)), 900, 9
    )
    assert middle(planner.correlation_of_pairs(times, times, 500)) > 0.99
    assert middle(planner.correlation_of_pairs(times, other, 500)) < 0.1
    assert planner.correlation_of_pairs(times, times, 5000) is None


@pytest.mark.parametrize(("late_of_tied", "share"), [(20, 1.0), (12, 0.5), (4, 0.0)])
def test_luck_that_tied_requests_share_is_found(late_of_tied, share):
    """Of single ones 20 % are late; that both are is late_of_tied %: 4 % by chance alone."""
    once = np.where(np.arange(1000) % 100 < 20, 900.0, 100.0)
    tied = np.where(np.arange(1000) % 100 < late_of_tied, 900.0, 100.0)
    assert middle(planner.correlation_of_tied(once, tied, 500)) == pytest.approx(share, abs=0.1)


def test_waits_are_those_of_requests_asked_once():
    rows = [
        ("measured", "once", "answer", None, 10.0),
        ("measured", "hedged", "answer", None, 20.0),
        ("measured", "once", "answer", "cancelled", 30.0),
        ("warmup", "once", "answer", None, 40.0),
        ("measured", "once", "prime", None, 50.0),
        ("observed", "observed", "answer", None, 60.0),
        ("load", "8 streams", "answer", None, 70.0),
    ]
    calls = pd.DataFrame(rows, columns=["phase", "arm", "role", "error_kind", "ttft_ms"])
    assert findings.waits(calls, "once").tolist() == [10, 60, 70]


async def test_a_run_is_judged_at_p95_and_its_waits_make_a_plan(simulated, db, capsys):
    """One request in five begins at 400 ms; asked again after 250 it begins at 260."""
    simulated.knobs(**FAST)
    simulated.plays(*every_fifth_is_late(3, 80))
    found = await measure(
        simulated, "hedging", runs=80, arms=["once", "hedged"], knobs={"delay_ms": 250}, seed=3
    )
    run = results.read(found.run_id)
    planned = run.comparison()
    assert planned.quantile == 0.95 and planned.verdict == "faster"
    before, after = planned.at
    assert before >= 400 > after >= 260
    told = run.verdicts[0]
    assert told.title.startswith("At p95, hedged shows text ")
    assert "p95 perceived wait" in told.headline and "→" in told.headline
    assert told.headline in told.markdown.replace("\\", "")
    table = results.percentiles(run).set_index("percentile").loc["p95"]
    assert (table["low"], table["high"]) == (planned.low, planned.high)
    assert run.headline_words == "p95 perceived wait"
    assert cli.main(["hedging", "--plan", "last"]) == 0
    text = capsys.readouterr().out
    assert "Ask again after" in text and "--delay-ms" in text and "measured:" in text
    assert cli.main(["hedging", "--plan", "last", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["numbers"]["Ask again after"] in text
    assert " ".join(plan["notes"][-1].split()) in " ".join(text.split())
    assert [row["correlation"] for row in plan["tables"][0][:3]] == [0, 0.5, 1]
    twins = found.calls[found.calls["error_kind"] == "cancelled"]
    assert len(twins) >= 16
    page = opened("pages/15_Ask_twice.py", run=found.run_id)
    [choice] = [box for box in page.selectbox if box.label == "From the waits of"]
    assert choice.options == [figures._named(run.run)], "as it is: an option is no Markdown"


def test_a_plan_from_too_few_waits_says_how_many_it_takes(db, capsys):
    from tests.stored_trials import filled

    _, run_id = filled(db)
    assert cli.main(["hedging", "--plan", run_id]) == 4
    assert "needs 72 recorded times to first token" in capsys.readouterr().out
