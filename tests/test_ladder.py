"""The ladder's search on invented times whose truth is known, and a stack as requests."""

import contextlib
import io
import re
from dataclasses import replace
from math import exp, log, prod

import pytest

from lab import code_samples, ladder_code, ladder_order
from lab.endpoints import registry
from lab.endpoints.model_facts import ModelFacts
from lab.endpoints.registry import Endpoint
from lab.harness.estimate import Cost
from lab.harness.rehearsal import finished
from lab.ladder import design, factors, stack
from lab.ladder.claims import claims
from lab.ladder.effects import Model, Seen
from lab.ladder.elimination import leaving
from lab.ladder.ladder_settings import ladder_config_of
from lab.ladder.purse import Purse
from lab.ladder.search import Outcome, Search
from lab.ladder.stack import StackKnobs
from lab.model import LabError
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.store.store import Store
from tests import app_recordings

WAVE = (0.02, -0.01, 0.0, 0.01, -0.02, 0.015, -0.015)
"""Noise that a test can repeat: shares of a time, in turn."""


def climb(
    time_of, levels=(2, 2, 2), quality_of=lambda c: None, most=400, noise=1, **named
) -> Search:
    """A search whose trial of a stack takes time_of(stack) ms, more or less; None is a lost one."""
    search, trials = Search(list(levels), **named), 0
    while ask := search.next():
        if trials + len(ask.stacks) > most:
            search.cut("spent")
            continue
        block, outcomes = len(search.blocks), {}
        for tried in ask.stacks:
            trials += 1
            value = time_of(tried)
            if value is not None:
                value *= (1 + noise * WAVE[trials % len(WAVE)]) * (1 + 0.1 * (block % 3))
            outcomes[tried] = Outcome(value, quality_of(tried), "left out: no fast mode")
        search.add(outcomes)
    return search


def factor(*shares):
    """Each lever multiplies 1,000 ms by its own share."""
    return lambda c: 1000 * prod(s for s, level in zip(shares, c, strict=True) if level)


# The plan


@pytest.mark.parametrize("levers", range(1, design.MOST_LEVERS + 1))
def test_a_plan_tells_every_lever_and_every_pair_apart(levers):
    plan = design.two_level(levers)
    assert plan[0] == (0,) * levers and len(set(plan)) == design.size(levers)
    model = Model([Seen(0, stack, 1.0) for stack in plan] + [Seen(1, s, 1.0) for s in plan])
    assert len(model.mains) + len(model.pairs) == levers + levers * (levers - 1) // 2
    assert model.freedom == 2 * len(plan) - 2 - len(model.mains) - len(model.pairs)


def test_six_levers_take_half_of_the_sixty_four_stacks():
    assert [design.size(k) for k in (1, 3, 5, 6, 7, 8)] == [2, 8, 16, 32, 64, 64]


# The model


def test_effects_and_interactions_come_back_whatever_the_blocks_take():
    """Lever 0 halves, lever 1 halves; together they do not quarter, but save 60 %."""
    of = {(0, 0): 800, (1, 0): 400, (0, 1): 400, (1, 1): 320}
    trials = [
        Seen(block, c, log(value * (1 + block))) for block in range(3) for c, value in of.items()
    ]
    model = Model(trials)
    assert model.contrast((0, 0), (1, 0)).estimate == pytest.approx(log(0.5))
    assert model.contrast((0, 0), (1, 1)).estimate == pytest.approx(log(0.4))
    assert model.contrast((0, 1), (1, 1)).estimate == pytest.approx(log(0.8))


def test_a_model_of_one_block_knows_no_noise_to_tell_effects_from():
    one = Model([Seen(0, c, 1.0) for c in design.two_level(2)])
    assert one.freedom == 0 and one.contrast((0, 0), (1, 0)).low is None


# The race


def test_who_is_slower_leaves_and_who_is_alike_with_more_levers_too():
    even = [(0.0, 0.001), (0.001, 0.0)] * 20
    blocks = [{(1, 0): a, (1, 1): b, (0, 0): 0.5 + a} for a, b in even]
    gone = {one.configuration: one for one in leaving(blocks, [(1, 0), (1, 1), (0, 0)], 0.03)}
    assert set(gone) == {(1, 1), (0, 0)}
    assert gone[1, 1].is_tie and not gone[0, 0].is_tie
    assert gone[0, 0].estimate == pytest.approx(0.5)


def test_nobody_leaves_before_the_fourth_block():
    blocks = [{(0,): 5.0 + n / 100, (1,): 1.0} for n in range(4)]
    assert leaving(blocks[:3], [(0,), (1,)], 0.03) == []
    assert [one.configuration for one in leaving(blocks, [(0,), (1,)], 0.03)] == [(0,)]


# The search


def test_levers_that_help_are_pulled_and_the_others_are_not():
    assert climb(factor(0.5, 1.0, 0.8)).winner == (1, 0, 1)
    assert climb(factor(1.3, 0.7, 1.0)).winner == (0, 1, 0)


def test_where_nothing_helps_today_stays():
    assert climb(factor(1.0, 1.0, 1.0)).winner == (0, 0, 0)


def test_two_levers_that_help_alone_and_not_together_are_not_both_pulled():
    """A small model saves 20 % today, and with a cached prefix it makes slower by 25 %."""
    times = {(0, 0): 500, (1, 0): 400, (0, 1): 300, (1, 1): 375}
    search = climb(lambda c: times[c[:2]] * (0.9 if c[2] else 1))
    assert search.winner == (0, 1, 1)
    _, others, pairs = claims(search)
    assert {(rung.lever, rung.low > 0) for rung in others} == {(0, True)}
    (pair,) = (one for one in pairs if one.levers == (0, 1))
    assert pair.alone == pytest.approx((-0.2, -0.4), abs=0.02)
    assert pair.both == pytest.approx(-0.25, abs=0.02)
    # The two would save 60 % if they added, and 52 % if they multiplied.
    assert pair.low > 0.2 and pair.change == pytest.approx(0.52 - 0.25, abs=0.05)


def test_a_third_level_is_tried_on_the_best_stack():
    def takes(c):
        return 1000 * (1, 0.8, 0.5)[c[0]] * (1, 0.7)[c[1]]

    assert climb(takes, levels=(3, 2)).winner == (2, 1)


def test_a_lever_whose_every_trial_is_lost_is_given_up_with_its_reason():
    search = climb(lambda c: None if c[0] else 1000 * (0.5 if c[1] else 1))
    assert search.winner == (0, 1, 0)
    assert search.dropped == {0: "left out: no fast mode"}


OK, LOST = Outcome(1000.0), Outcome(None, None, "left out: overloaded")


def searched(outcome_of, levels=(2, 2), **named) -> Search:
    """A search of whose block n a trial of a stack becomes outcome_of(stack, n)."""
    search = Search(list(levels), **named)
    while ask := search.next():
        search.add({tried: outcome_of(tried, len(search.blocks)) for tried in ask.stacks})
    return search


@pytest.mark.parametrize("is_tail", [False, True])
@pytest.mark.parametrize("levels", [(2,), (2, 2), (3, 2)])
def test_what_no_trial_has_a_value_of_is_not_settled(levels, is_tail):
    """The endpoint is away for the first two blocks, for the first five, or for all."""
    lost = searched(lambda c, n: LOST, levels, is_tail=is_tail, most_screened=48)
    assert lost.winner is None and lost.decisions == []
    for away in (2, 5):
        search = searched(lambda c, n, away=away: LOST if n < away else OK, levels, is_tail=is_tail)
        assert not any(search.winner) and not search.lost_today


def test_where_todays_own_trials_are_lost_there_is_nothing_to_compare_with():
    """Of four blocks; in the fifth one of them ends well, which is too late."""
    search = searched(lambda c, n: OK if any(c) or n > 3 else LOST)
    assert len(search.blocks) == 4
    assert (search.winner, search.lost_today) == (None, "left out: overloaded")
    search = searched(lambda c, n: OK if any(c) or n == 3 else LOST)
    assert search.winner is not None and not search.lost_today


def test_a_lever_that_makes_answers_worse_beyond_the_bar_is_not_pulled():
    def right(c):
        return 0.0 if c[0] else 1.0

    search = climb(factor(0.3, 0.8, 1.0), quality_of=right)
    assert search.winner == (0, 1, 0)
    assert climb(factor(0.3, 0.8, 1.0), quality_of=right, bar=1.0).winner == (1, 1, 0)


def test_the_rungs_multiply_to_the_whole():
    search = climb(factor(0.5, 0.8, 1.0))
    rungs, _, _ = claims(search)
    assert [rung.lever for rung in rungs] == [0, 1]
    whole = prod(1 + rung.change for rung in rungs)
    assert whole == pytest.approx(
        exp(search.model().contrast(search.today, search.winner).estimate)
    )
    assert whole == pytest.approx(0.4, abs=0.02)


def test_slow_answers_are_searched_by_how_long_they_last():
    """Half of today's answers take 100 ms and half 1,900: the lever caps them, and loses nothing on
    a logarithm's scale."""
    turns = iter(range(10**6))

    def takes(c):
        return 500 if c[0] else (100, 1900)[next(turns) % 2]

    search = climb(takes, levels=(2,), is_tail=True)
    assert search.winner == (1,)
    assert search.model().contrast((0,), (1,)).estimate == pytest.approx(-0.5, abs=0.1)


def test_a_lever_that_only_looks_as_if_it_helped_is_not_pulled():
    """With the first lever it cost 4 % in one block and saved 8 % in the other: the best guess has
    it, the stack has not."""
    search = Search([2, 2])
    for times in ((1000, 900, 500, 520), (1000, 1080, 520, 480)):
        outcomes = [Outcome(float(value)) for value in times]
        search.add(dict(zip([(0, 0), (0, 1), (1, 0), (1, 1)], outcomes, strict=True)))
    assert search._predicted()[0] == (1, 1)
    while search.next():
        search.cut("spent")
    assert search.winner == (1, 0)


def test_a_search_that_is_cut_before_two_blocks_has_no_winner():
    assert climb(factor(0.5, 0.5, 0.5), most=8).winner is None


# The budget


def test_a_stage_leaves_the_later_ones_their_share():
    purse = Purse(1.00, 100)
    assert purse.lacks("screening", 0.30, 0.10, 0, 1) is None
    assert purse.lacks("screening", 0.45, 0.10, 0, 1) == "the dollars of the screening are spent"
    assert purse.lacks("elimination", 0.45, 0.10, 0, 1) is None
    assert purse.lacks("screening", 0, 0, 40, 10) == "the minutes of the screening are spent"
    assert Purse(None, 100).lacks("screening", 99, 99, 0, 1) is None


def test_pairs_are_as_many_as_both_budgets_carry():
    purse = Purse(1.00, 102)
    assert purse.pairs(0.50, 0.10, 0, 0.1, 40) == 5
    assert purse.pairs(0, 0.001, 50, 4, 40) == 10  # 50 s left, 5 s a pair with its quarter
    assert purse.pairs(0, 0.001, 0, 0.1, 40) == 40


# Levers and stacks


def test_every_lever_has_a_name_of_its_own_and_words_for_each_other_level():
    levers = [lever for _, lever in stack.all_levers()]
    assert len({lever.name for lever in levers}) == len(levers)
    assert [
        lever.name
        for lever in levers
        if set(lever.words) != set(lever.levels[1:]) or len(lever.levels) < 2
    ] == []


def asked(scenario="rag", **levels):
    """The requests of a trial of a stack on the simulated endpoint."""
    task = definitions.load(scenario, "simulated")[0]
    knobs = StackKnobs(levels=levels, tier="large")
    endpoint = registry.find("simulated")
    return code_samples.requests(stack.technique("wait_ms"), "winner", knobs, task, endpoint)


def test_todays_trial_is_the_tasks_own_request():
    (only,) = asked()
    assert (only.role, only.stream, only.model) == ("answer", False, "simulated-large")
    assert "cache_control" not in str(only.body)


def test_a_stack_is_all_of_its_levers_in_one_request():
    prime, answer = asked(streamed="streamed", cache="prefix", model="small", answer="short")
    assert (prime.role, prime.intended_cache, answer.intended_cache) == ("prime", "write", "read")
    assert answer.stream and answer.model == prime.model == "simulated-small"
    assert answer.body["max_tokens"] == 24  # a quarter of 96
    *shared, question = answer.body["messages"][0]["content"]
    assert question["text"].endswith("Answer in one short sentence.")
    assert prime.body["messages"][0]["content"][:-1] == shared and "cache_control" in shared[-1]


def test_what_either_model_may_answer_is_cached_for_both():
    primes = [one for one in asked(cache="prefix", model="routed") if one.role == "prime"]
    assert [one.model for one in primes if "documents" not in str(one.body["system"])] == [
        "simulated-small"
    ]  # the router's own instructions
    assert {one.model for one in primes[:-1]} == {"simulated-small", "simulated-large"}


def test_tools_of_one_turn_run_and_their_results_go_back():
    first, second = asked("tools", tools="together")
    assert [first.role, second.role] == ["tool_turn", "answer"]
    assert {block["type"] for block in second.body["messages"][-1]["content"]} == {"tool_result"}


BOTH = {"large": "own-large", "small": "own-small"}
URL = "https://own.example"


def chosen(scenario="rag", wanted=(), today=None, cards=None, **base):
    """On an endpoint of two models of which nobody knows that they have effort, unless their cards
    say so."""
    tasks = definitions.load(scenario, "simulated")
    said = {name: ModelFacts(id=name, efforts=efforts) for name, efforts in (cards or {}).items()}
    endpoint = Endpoint("own", "live", URL, models=BOTH, models_said=said)
    return factors.chosen(endpoint, tasks, wanted, today or {}, StackKnobs(**base))


def test_a_lever_that_cannot_be_tried_is_named_with_its_reason():
    _, refused = chosen(tier="large")
    reasons = {(one.lever, one.level): one.reason for one in refused}
    assert reasons["effort", "low"] == "own does not say that own-small or own-large has effort"
    assert "no two tools" in reasons["tools", "together"]
    _, refused = chosen("question-answering")
    assert "no 256 tokens" in {one.lever: one.reason for one in refused}["cache"]
    _, refused = chosen(stream=True)
    assert ("streamed", "streamed", "it changes nothing of these requests") in refused


@pytest.mark.parametrize(
    ("wanted", "today", "is_tried"),
    [
        (["effort"], {}, True),
        (["effort"], {"model": "small"}, False),
        (["effort"], {"model": "routed"}, False),
        (["effort", "model"], {}, False),
    ],
)
def test_a_lever_is_tried_where_every_model_that_may_be_asked_has_it(wanted, today, is_tried):
    """The large model has an effort, the small one has none."""
    cards = {"own-large": ("low", "medium"), "own-small": ()}
    tried, refused = chosen("rag", wanted, today, cards, tier="large")
    assert ("effort" in [factor.lever.name for factor in tried]) == is_tried
    reasons = {one.reason for one in refused if one.lever == "effort"}
    assert reasons == (set() if is_tried else {"own does not say that own-small has effort"})
    cards["own-small"] = cards["own-large"]
    tried, _ = chosen("rag", wanted, today, cards, tier="large")
    assert [factor.lever.name for factor in tried] == wanted


def test_todays_level_is_what_the_user_says():
    tried, _ = chosen(wanted=["streamed"], today={"streamed": "streamed"})
    assert tried[0].levels == ("streamed", "whole")
    with pytest.raises(LabError, match="There is no lever 'stremed'"):
        chosen(wanted=["stremed"])
    with pytest.raises(LabError, match="streamed has no level 'yes'"):
        chosen(today={"streamed": "yes"})


def test_what_the_user_does_already_is_in_every_stack_also_where_it_is_not_tried():
    values = {"endpoint": "simulated", "levers": ["cache"], "today": {"streamed": "streamed"}}
    order = ladder_order.resolve(ladder_config_of(**values))
    assert [one.lever.name for one in order.factors] == ["cache"]
    assert order.levels((0,)) == {"streamed": "streamed", "cache": "none"}
    assert (order.words((0,)), order.words((1,))) == ("today", "cached prefix")


@pytest.mark.parametrize("wanted", [[], ["streamed", "cache"], ["streamed", "model"]])
@pytest.mark.parametrize(
    ("today", "asks"),
    [
        ({}, "simulated-large"),
        ({"model": "large"}, "simulated-large"),
        ({"model": "small"}, "simulated-small"),
        ({"model": "routed"}, "simulated-small or simulated-large"),
    ],
)
def test_which_model_today_asks_depends_on_no_lever_that_is_tried(wanted, today, asks):
    values = {"endpoint": "simulated", "minutes": 99, "levers": wanted, "today": today}
    order = ladder_order.resolve(ladder_config_of(**values))
    assert ladder_order.of_order(order).text.endswith(f"on simulated, where today asks {asks}")
    today = order.variant((0,) * len(order.factors))
    likely = code_samples.requests(
        today.technique, "today", today.knobs, order.plan.tasks[0], order.endpoint
    )
    assert likely[-1].model in asks
    is_tried = any(factor.lever.name == "model" for factor in order.factors)
    either = {"simulated-small", "simulated-large"}
    assert set(ladder_order._models(order)) == (either if is_tried else set(asks.split(" or ")))


@pytest.mark.parametrize("wanted", [["streamed"], ["streamed", "model"]])
def test_on_local_today_asks_the_small_model_since_both_have_the_same_weights(wanted):
    order = ladder_order.resolve(ladder_config_of(endpoint="local", minutes=99, levers=wanted))
    assert ladder_order.of_order(order).text.endswith("where today asks smollm2-135m")


HI = {"max_tokens": 40, "messages": [{"role": "user", "content": "Hi."}]}


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize(
    ("names", "today", "asks"),
    [
        (["simulated-small"], {}, "simulated-small"),
        (["simulated-large"], {}, "simulated-large"),
        (["opus"], {}, "simulated-large, not opus, which the tasks name"),
        (
            ["simulated-small"],
            {"model": "large"},
            "simulated-large, not simulated-small, which the tasks name",
        ),
        (
            ["simulated-small", "simulated-large"],
            {},
            "simulated-large, not simulated-small, which the tasks name",
        ),
    ],
)
def test_today_asks_the_model_that_calls_of_ones_own_name_or_says_that_it_does_not(
    db, is_recorded, names, today, asks
):
    bodies = [HI | {"model": name} for name in names]
    values = {"tasks": [{"task_id": f"own-{n}", "body": body} for n, body in enumerate(bodies)]}
    if is_recorded:
        app_recordings.record(Store(), bodies)
        values = {"scenario": "recording:last"}
    values |= {"endpoint": "simulated", "minutes": 99, "levers": ["streamed", "model"]}
    order = ladder_order.resolve(ladder_config_of(**values, today=today))
    assert ladder_order.of_order(order).text.endswith(f", where today asks {asks}")
    own = order.variant((0,) * len(order.factors))
    for task in order.plan.tasks:
        likely = code_samples.requests(own.technique, "today", own.knobs, task, order.endpoint)
        assert likely[-1].model == asks.partition(",")[0]


def test_an_endpoint_of_one_model_is_asked_that():
    order = ladder_order.resolve(
        ladder_config_of(endpoint="simulated", levers=["streamed"], models={"any": "own"})
    )
    assert ladder_order.of_order(order).text.endswith("where today asks own")


def test_what_is_kept_of_a_ladder_asks_the_same_again(db):
    """Its endpoint, models and tasks by name, where they went without saying."""
    order = ladder_order.resolve(ladder_config_of(levers=["streamed"]))
    usual = registry.find(None)
    kept = order.config.model_dump(include={"endpoint", "models", "scenario"})
    assert kept == {"endpoint": usual.name, "models": usual.models, "scenario": "rag"}

    app_recordings.record(Store(), [HI])
    order = ladder_order.resolve(ladder_config_of(scenario="recording:last", levers=["streamed"]))
    assert order.config.models == order.endpoint.models
    app_recordings.record(Store(), [HI | {"system": "Another app."}])
    row = {"endpoint": order.endpoint.name, "settings": {}}
    config = order.config.model_dump(mode="json", exclude={"db", "tasks"}, exclude_defaults=True)
    assert ladder_order.resolve(ladder_order.again(row, {"config": config})).plan == order.plan


# A stack as code

ROOMY = {
    "max_tokens": 96,
    "thinking": {"type": "adaptive"},
    "system": "You keep the harbour's log. " * 99,
    "messages": [
        {"role": "user", "content": "When is high water?"},
        {"role": "assistant", "content": "At four."},
        {"role": "user", "content": "And low water?"},
    ],
}
"""A body of the user's own that thinks, in a conversation."""
LEVELS = [(lever, level) for _, lever in stack.all_levers() for level in lever.levels[1:]]
TOGETHER = [
    ("tools", dict(tools="together", eager="while it writes", hedged="asked again")),
    ("tools", dict(tools="together", model="routed", streamed="streamed", hedged="asked again")),
    ("tools", dict(eager="while it writes", streamed="streamed", hedged="asked again")),
    ("rag", dict(model="routed", cache="prefix", streamed="streamed", speed="fast")),
    ("rag", dict(model="routed", cache="prefix", hedged="asked again", effort="low")),
]


def script(asks, betas="", **levels):
    """The code of a stack for the first of a scenario's tasks, or for a body."""
    tasks = [{"task_id": "own", "body": asks, "betas": betas}] if isinstance(asks, dict) else None
    values = {"endpoint": "simulated", "levers": ["streamed"], "minutes": 99, "tasks": tasks}
    scenario = None if tasks else asks
    order = ladder_order.resolve(ladder_config_of(**values, scenario=scenario))
    return ladder_code.of_stack(order, levels)


def fitting(lever, level):
    for asks in ("rag", "tools", ROOMY):
        task = Task(task_id="own", body=asks) if asks is ROOMY else TASKS[asks]
        if not lever.unfit(task, level):
            return asks
    raise AssertionError(f"no task fits {lever.name}")


TASKS = {name: definitions.load(name, "simulated")[0] for name in ("rag", "tools")}


@pytest.fixture
def run_code(simulated, monkeypatch):
    """What a script prints, asked of the simulated server."""
    simulated.knobs(prefill_ms_per_token=0, gap_ms=0.1, queue_ms=0)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulated.api_key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulated.base_url)

    def run(code):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(compile(code, "winner.py", "exec"), {"__name__": "__main__"})
        return shown.getvalue().strip()

    return run


@pytest.mark.parametrize(("lever", "level"), LEVELS, ids=lambda one: getattr(one, "name", one))
def test_every_lever_is_in_the_code_of_its_stack(run_code, lever, level):
    asks = fitting(lever, level)
    code = script(asks, **{lever.name: level})
    assert code != script(asks) and "Not in this code" not in code
    assert run_code(code)


@pytest.mark.parametrize(("asks", "levels"), TOGETHER)
def test_levers_are_composed(run_code, asks, levels):
    assert run_code(script(asks, **levels))


def test_code_says_which_lever_it_does_not_contain(monkeypatch):
    bare = [(slug, replace(lever, part="")) for slug, lever in stack.all_levers()]
    monkeypatch.setattr(stack, "all_levers", lambda: bare)
    code = script("rag", hedged="asked again", cache="prefix")
    first = "# Not in this code: late requests asked again; the code of the technique hedging shows"
    assert code.startswith(first) and "cached prefix" not in code


def test_the_router_of_a_stack_chooses_between_both_models():
    code = script("rag", model="routed")
    assert 'small = {"model": "simulated-small"}\nlarge = {"model": "simulated-large"}\n' in code
    assert '(small if word == "easy" else large)' in code


def test_fast_mode_asks_for_its_beta_beside_those_of_the_task():
    """As what was measured did."""
    code = script(ROOMY, "one-2026-01-01", speed="fast")
    assert '{"anthropic-beta": "one-2026-01-01,fast-mode-2026-02-01"}' in code


def test_a_late_request_of_the_code_is_asked_again(simulated, run_code):
    """The first would begin after a minute."""
    simulated.plays({"headers": 60_000, "text": [60_000]}, {"text": [0], "texts": ["There."]})
    assert run_code(script("rag", hedged="asked again", streamed="streamed")).startswith("There.")


def test_a_budget_that_carries_fewer_levers_says_which_are_left_out():
    wanted = ["streamed", "cache", "model", "answer"]

    def resolved(minutes):
        values = {"endpoint": "simulated", "minutes": minutes, "levers": wanted}
        return ladder_order.resolve(ladder_config_of(**values))

    each_s = resolved(600).trial.seconds
    # Half of the minutes carry two blocks of 8 stacks, and not of 16; three tenths 12 pairs.
    order = resolved(each_s * 100 * 0.5 / 60 * 1.65)
    assert [one.lever.name for one in order.factors] == wanted
    order = resolved(each_s * 81 / 60)
    assert [one.lever.name for one in order.factors] == wanted
    few = replace(order, purse=Purse(None, each_s * 81))
    assert ladder_order._carries(few, 4) and not ladder_order._carries(few, 6)
    with pytest.raises(LabError, match="carry no search"):
        resolved(each_s * 79 / 60)


def test_the_usual_dollars_carry_a_search_and_fewer_say_how_many_do(monkeypatch):
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    usual = ladder_order.resolve(ladder_config_of(endpoint="anthropic"))
    assert len(usual.factors) > 1 and usual.run.max_usd == usual.purse.usd == 1.5
    assert usual.config.max_usd == 1.5  # what is kept of it asks no more, whatever is usual then
    with pytest.raises(LabError, match=r"10 minutes and \$0\.50 carry no search\. ") as refused:
        ladder_order.resolve(ladder_config_of(endpoint="anthropic", max_usd=0.5))
    minutes, dollars = re.search(
        r"for 1 lever --minutes (\d+) --max-usd (\S+),", str(refused.value)
    ).groups()
    named = {"minutes": float(minutes), "max_usd": float(dollars), "levers": ["streamed"]}
    assert ladder_order.resolve(ladder_config_of(endpoint="anthropic", **named)).factors


@pytest.mark.parametrize("max_usd", [1, 1.5])
def test_the_dollars_carry_two_blocks_of_every_plan_that_they_are_said_to_carry(
    max_usd, monkeypatch
):
    """Half of them are the screening's; a prefix is written and a late request asked again."""
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    values = {"endpoint": "anthropic", "max_usd": max_usd, "minutes": 99}
    order = ladder_order.resolve(ladder_config_of(**values))
    plan = [order.variant(stack) for stack in design.two_level(len(order.factors))]
    block = Cost.sum(finished(order.costs(one).of(order.plan.tasks[0])) for one in plan)
    assert order.purse.lacks("screening", block.usd, block.most_usd, 0, 0) is None


def test_levers_that_the_budget_does_not_carry_are_left_out_for_one_reason():
    order = ladder_order.resolve(ladder_config_of(endpoint="simulated", minutes=3))
    count = len(order.factors)
    left = [one.reason for one in order.not_tried if "minutes" in one.reason]
    assert len(left) > 1 and count > 1
    assert set(left) == {f"3 minutes carry a plan of {count} levers at most"}
