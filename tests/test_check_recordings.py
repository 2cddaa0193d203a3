"""`check` and `compare` on recordings: shares with their intervals, failures that are not fast, and
a network that moved."""

import json

import numpy as np
import pandas as pd
import pytest

from lab import recorded_changes, recorded_requirements
from lab.cli import main
from lab.model import LabError
from lab.recordings import Recording
from lab.stats import Interval, shares
from lab.store.store import Store
from tests.recorded_apps import App, answer, says, user
from tests.recorded_runs import record as record_run

SYSTEM = [{"type": "text", "text": "word " * 9000, "cache_control": {"type": "ephemeral"}}]
MS = 1_000_000


def app_of(
    store: Store | None,
    hits: float = 0.75,
    calls: int = 40,
    *,
    slower_ms: int = 0,
    network_ms: int = 50,
    jitter_ms: int = 3,
    failed: int = 0,
    seed: int = 0,
) -> App:
    """One conversation of two calls a minute, of which a share reads 4,000 tokens; the others
    write them and start 2 s later. Each answers 1 s long, and the first ones fail."""
    app, random, messages = App(store), np.random.default_rng(seed), []
    for n in range(calls):
        messages = [*messages, user(f"question {n}")]
        reads, at = n % 4 < hits * 4, 30.0 * n
        usage = {
            "input_tokens": 50 + n % 7,
            "cache_read_input_tokens": 4000 * reads,
            "cache_creation_input_tokens": 4000 * (not reads),
            "output_tokens": 40,
        }
        first = at + 0.2 + 2 * (not reads) + (slower_ms + network_ms + random.uniform(0, 9)) / 1000
        error = "overloaded_error" if n < failed else None
        place = app.call(messages, at, first + 1, says(f"a {n}"), first=first, usage=usage,
                         system=SYSTEM, stream=True, error=error)  # fmt: skip
        row = app.trials[place].calls[0]
        row.sent_ns = row.started_ns + MS
        row.headers_ns = row.sent_ns + int((network_ms + random.uniform(0, jitter_ms)) * MS)
        messages = [*messages, answer(says(f"a {n}"))]
    return app


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """One for all that only read: a recording does not see another."""
    return Store(tmp_path_factory.mktemp("recordings") / "lab.duckdb")


@pytest.fixture(scope="module")
def recording(store) -> Recording:
    return app_of(store).recording()


def test_a_share_is_met_only_where_its_whole_interval_is(recording):
    """30 of 40 calls read: 75 %."""
    verdicts = {
        text: recorded_requirements.judge(recording, text).verdict
        for text in ("hit share > 50 %", "hit share > 95%", "hit share > 74 %", "hit share <= 99%")
    }
    assert list(verdicts.values()) == ["pass", "fail", "not_enough_data", "pass"]


@pytest.mark.parametrize(
    ("text", "verdict", "seen"),
    [
        ("median ttft_ms < 1 s", "pass", "n = 40 calls"),
        ("p50 ttft_ms < 100 ms", "fail", "n = 40 calls"),
        ("p95 ttft_ms < 9 s", "not_enough_data", "no interval yet"),
        ("failed share < 20 %", "pass", "failed share 0 %"),
        ("failed share < 1 %", "not_enough_data", "[0 %, 8.8 %]"),
        ("misses < 11", "pass", "10 cache misses in 40 calls"),
        ("misses <= 10", "pass", "10 cache misses"),
        ("misses < 10", "fail", "10 cache misses"),
        ("wait share of writing < 50 %", "pass", "n = 40 turns"),
        ("wait share of first tokens > 50%", "fail", "n = 40 turns"),
        ("wait share of tools < 1 %", "not_enough_data", "[0 %, 8.8 %]"),
        ("wait share of nothing > 80%", "pass", "n = 40 turns"),
    ],
)
def test_a_requirement_on_a_recording(recording, text, verdict, seen):
    outcome = recorded_requirements.judge(recording, text)
    assert outcome.verdict == verdict, outcome.seen
    assert seen in outcome.seen


@pytest.mark.parametrize(
    "text",
    ["cached p95 ttft_ms < 400", "hit share > 3", "misses < 5 %", "p95 quality < 1", "is nice"],
)
def test_what_cannot_be_read_is_a_sentence(recording, text):
    with pytest.raises(LabError):
        recorded_requirements.judge(recording, text)


def test_a_failed_call_is_slower_than_any_limit(store):
    """30 of 40 failed: there is no median."""
    recording = app_of(store, failed=30).recording()
    outcome = recorded_requirements.judge(recording, "median ttft_ms < 100 s")
    assert outcome.verdict == "fail" and "30 of 40 failed" in outcome.seen


@pytest.mark.parametrize(("stream", "n", "lost"), [(True, 9, 3), (False, 6, 0)])
def test_a_failed_call_that_was_not_streamed_had_no_first_token_to_lose(stream, n, lost):
    """6 streamed and answered after 1 s; 3 failed."""
    app = App()
    for at in range(9):
        words = {"error": "overloaded_error", "stream": stream} if at > 5 else {"stream": True}
        app.call([user(f"q {at}")], at, at + 2, first=at + 1 if at < 6 else None, **words)
    told = {
        metric: recorded_requirements.judge(app.recording(), f"median {metric} < 9 s")
        for metric in ("ttft_ms", "total_ms")
    }
    assert (told["ttft_ms"].n, told["ttft_ms"].lost) == (n, lost)
    assert (told["total_ms"].n, told["total_ms"].lost) == (9, 3)


def test_where_no_first_token_is_known_a_failure_decides_nothing_about_it():
    app = App()
    app.call(None, 0, 1)
    app.call(None, 1, 2, error="overloaded_error")
    outcome = recorded_requirements.judge(app.recording(), "median ttft_ms < 1 s")
    assert (outcome.verdict, outcome.lost) == ("not_enough_data", 0)


def test_a_call_that_the_application_gave_up_did_not_fail(store):
    app = App(store)
    for n in range(8):
        app.call([user(f"q {n}")], 10 * n, 10 * n + 1, error="cancelled" if n else "overloaded")
    outcome = recorded_requirements.judge(app.recording(), "failed share < 50 %")
    assert outcome.estimate == 1 / 8


@pytest.mark.parametrize(
    ("before", "shift", "moved"),
    [(50, 4, False), (200, 19, False), (200, 21, True), (200, -21, True)],
)
def test_a_control_moved_where_it_did_by_more_than_5_ms_and_a_tenth(before, shift, moved):
    change = Interval(shift, shift - 1, shift + 1, 40)
    row = recorded_changes.Row(
        "headers", "ttft_ms", before, before + shift, change, is_control=True
    )
    assert row.moved == moved
    assert not row._replace(is_control=False).moved


def test_few_calls_decide_nothing_and_say_how_many_would(store):
    recording = app_of(store, calls=4).recording()
    outcome = recorded_requirements.judge(recording, "hit share > 10 %")
    assert (outcome.verdict, outcome.needed, outcome.unit) == ("not_enough_data", 2, "call")


def changes(
    store: Store, before: dict, after: dict
) -> tuple[Recording, Recording, recorded_changes.Changes]:
    base, new = (app_of(store, **words).recording() for words in (before, after))
    told = recorded_changes.compare(base, new)
    return base, new, told


def row(told, words: str) -> recorded_changes.Row:
    return next(row for row in told.rows if row.words == words)


def test_a_better_cache_shows_in_the_first_token_and_not_at_the_same_tokens(store):
    base, new, told = changes(store, {"hits": 0.25}, {"hits": 0.75, "seed": 1})
    assert told.doubt == ""
    assert round(row(told, "first token").change.estimate, -2) == -2000
    assert row(told, "first token at the same tokens").change.low < 0
    assert row(told, "first token at the same tokens").change.high > 0
    assert round(row(told, "hit share").change.estimate, 2) == 0.5
    assert row(told, "dollars a turn").change.high < 0
    outcome = recorded_changes.judge(base, new, told, "p50 ttft_ms worse by 10%")
    assert outcome.verdict == "pass"
    assert recorded_changes.judge(base, new, told, "hit share worse by 5 points").verdict == "pass"


def test_where_the_network_moved_a_time_is_unproven_and_a_share_is_not(store):
    base, new, told = changes(store, {}, {"network_ms": 400, "seed": 1})
    assert "headers at the same tokens" in told.doubt
    outcome = recorded_changes.judge(base, new, told, "p50 ttft_ms worse by 10%")
    assert outcome.verdict == "not_enough_data" and recorded_changes.UNPROVEN in outcome.seen
    assert recorded_changes.judge(base, new, told, "hit share worse by 30 points").verdict == "pass"


def test_a_slower_model_is_seen_where_the_network_held(store):
    base, new, told = changes(store, {}, {"slower_ms": 300, "seed": 1})
    assert told.doubt == ""
    assert round(row(told, "first token at the same tokens").change.estimate, -1) == 300
    outcome = recorded_changes.judge(base, new, told, "p50 ttft_ms worse by 10%")
    assert outcome.verdict == "fail"


@pytest.mark.parametrize(("jitter_ms", "verdict"), [(3, "fail"), (3000, "not_enough_data")])
def test_a_control_too_wide_to_say_leaves_unproven_what_it_could_explain(store, jitter_ms, verdict):
    """The first token takes 300 ms more; the headers of 40 calls come within 3 ms, or within 3 s,
    whose median nobody knows to 300 ms."""
    calm = {"hits": 1, "jitter_ms": jitter_ms}
    base, new, told = changes(store, calm, calm | {"slower_ms": 300, "seed": 1})
    outcome = recorded_changes.judge(base, new, told, "p50 ttft_ms worse by 10%")
    assert outcome.verdict == verdict
    for words in (told.doubt, outcome.seen):
        assert ("too uncertain to say that the network held" in words) == (jitter_ms == 3000)


def test_who_fails_more_is_not_faster(store):
    """All that answered is as quick, and half of it failed."""
    base, new, told = changes(store, {}, {"failed": 20, "seed": 1})
    outcome = recorded_changes.judge(base, new, told, "p50 ttft_ms worse by 10%")
    assert outcome.verdict != "pass" and "20 of 40 failed" in outcome.seen


def test_without_connection_and_headers_nothing_is_proven(store):
    apps = [app_of(store, seed=seed) for seed in range(2)]
    for app in apps:
        for trial in app.trials:
            trial.calls[0].sent_ns = trial.calls[0].headers_ns = None
    told = recorded_changes.compare(*(app.recording() for app in apps))
    assert told.doubt == recorded_changes.UNKNOWN


def test_exit_codes_and_one_json_object(db, capsys):
    store = Store(db)
    base, new = (app_of(store, hits=hits).recording().run_id for hits in (0.25, 0.75))
    assert main(["check", new, "--require", "hit share > 50 %"]) == 0
    assert main(["check", new, "--require", "hit share > 95 %"]) == 3
    assert main(["check", new, "--require", "hit share > 74 %"]) == 4
    assert "more calls" in capsys.readouterr().out
    assert main(["compare", base, new]) == 0
    assert "control: headers at the same tokens" in capsys.readouterr().out
    assert main(["compare", new, base, "--fail-if", "hit share worse by 5 points"]) == 3
    capsys.readouterr()
    assert main(["compare", base, new, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"verdict", "changes", "doubt", "requirements"} <= told.keys()


def test_a_recording_and_a_measured_run_do_not_compare(db, capsys):
    store = Store(db)
    recorded = app_of(store, calls=6).recording().run_id
    measured = record_run(store, blocks=6)
    assert main(["compare", measured, recorded]) == 2
    assert "the other a measured run" in capsys.readouterr().err


def test_two_runs_need_something_that_may_not_get_worse(db, capsys):
    record_run(Store(db), blocks=6)
    assert main(["compare", "last", "last"]) == 2
    assert "--fail-if" in capsys.readouterr().err


def test_an_interval_of_a_share_covers_it():
    """Units of very different sizes, each hit with 70 %: 300 recordings of 60."""
    inside = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        wholes = random.lognormal(0, 1, 60)
        interval = shares.share(wholes * (random.random(60) < 0.7), wholes)
        inside.append(interval.low <= 0.7 <= interval.high)
    assert 0.90 <= np.mean(inside) <= 0.98


def test_all_hits_of_ten_prove_no_hundred_per_cent():
    assert shares.share([1] * 10, [1] * 10)[:2] == pytest.approx((1.0, 0.69), abs=0.01)
    assert shares.share([0] * 10, [1] * 10)[2] == pytest.approx(0.31, abs=0.01)
    assert shares.share(pd.Series(dtype=float), pd.Series(dtype=float)).low is None
