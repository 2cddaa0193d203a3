"""Every telling of a run says one thing: whatever its verdict, no title, race, waterfall, file or
page contradicts it in arm, sign or metric.

Runs of every technique and verdict kind are recorded from planted times (tests/verdict_runs.py),
and what is said of them is read back (tests/claims.py). By default each technique takes turns in
the kinds, so that each is there; LAB_EVERY_VERDICT=1 walks through all of them.
"""

import io
import json
import os
import re
from functools import cache

import pytest
from rich.console import Console

from lab import results, stats
from lab.figures import layout
from lab.harness.reporters import console, figure_files, html, json_object, markdown
from lab.store.store import Store
from tests.claims import CLAIMING, claims, contradictions
from tests.golden_runs import Words
from tests.verdict_runs import KINDS, SHAPES, pairs, record

WHOLE = "topology"
"""Walked through every kind in any case: its headline is the one on which each can come about."""
TURNS = 1


def chosen() -> list[tuple[str, str]]:
    every = list(pairs())
    if os.environ.get("LAB_EVERY_VERDICT"):
        return every
    picked = [pair for pair in every if pair[0] == WHOLE]
    for place, technique in enumerate(slug for slug in SHAPES if slug != WHOLE):
        own = [pair for pair in every if pair[0] == technique]
        picked += [own[(3 * place + turn) % len(own)] for turn in range(TURNS)]
    return picked


CHOSEN = chosen()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The result of a technique's run of some kind, read once."""
    store = Store(tmp_path_factory.mktemp("verdicts") / "lab.duckdb")
    ids = record(store, *CHOSEN)

    @cache
    def read(technique: str, kind: str) -> results.RunResult:
        return results.read(ids[technique, kind], store)

    return read


every_kind = pytest.mark.parametrize(("technique", "kind"), CHOSEN)


def of_the_verdict(result, text: str) -> set[tuple[str, bool]]:
    """(arm, less) of the claims on the headline metric in a text."""
    return {
        (claim.arm, less)
        for claim in claims(text, result)
        for metric, less in claim.readings
        if metric == result.headline
    }


def expected(result, kind: str) -> set[tuple[str, bool]]:
    less = KINDS[kind].less
    return set() if less is None else {(result.comparisons[0].name, less)}


@every_kind
def test_the_verdict_is_the_planted_one(run, technique, kind):
    """The builder is right: what is planted is what is judged, and doubted, and said."""
    result, planted = run(technique, kind), KINDS[kind]
    planned, verdict = result.comparisons[0], result.verdicts[0]
    assert (planned.verdict, planned.metric) == (planted.verdict, SHAPES[technique].metric)
    assert planned.name == SHAPES[technique].headline
    if planted.less is not None:
        assert (planned.estimate < 0) is planted.less
    assert bool(verdict.doubts) is bool(planted.doubt)
    assert not planted.doubt or planted.doubt in verdict.doubts[0]
    assert (verdict.tone == "unsure") is (bool(planted.doubt) or planted.less is None) or (
        planted.verdict == "no_difference"
    )
    if planted.remark:
        assert (verdict.tone, verdict.quality, verdict.reason) == ("warn", planted.remark, None)
        assert verdict.detail.startswith(planted.remark)


@every_kind
def test_title_headline_and_reason_say_the_same(run, technique, kind):
    result = run(technique, kind)
    verdict, finding = result.verdicts[0], result.finding()
    assert finding == stats.Finding(verdict.title, verdict.reason, True)
    assert of_the_verdict(result, verdict.title) == expected(result, kind)
    assert of_the_verdict(result, verdict.headline) == expected(result, kind)
    assert contradictions(f"{verdict.title}\n{verdict.headline}\n{verdict.seen}", result) == []
    if KINDS[kind].verdict in ("not_enough_data", "fails_more"):
        assert verdict.reason and verdict.tone == "unsure" and verdict.seen == ""


@every_kind
def test_markdown_says_it_with_its_doubts_first(run, technique, kind):
    result = run(technique, kind)
    text, verdict = markdown.markdown(result), result.verdicts[0]
    plain = text.replace("\\", "")
    assert contradictions(plain, result) == []
    assert expected(result, kind) <= of_the_verdict(result, plain)
    if verdict.doubts:
        assert plain.index("Doubtful: " + verdict.doubts[0]) < plain.index(verdict.headline)


@every_kind
def test_the_console_says_it_with_its_doubts_first(run, technique, kind):
    result, out = run(technique, kind), io.StringIO()
    console.ConsoleReporter(Console(file=out, width=200)).report(result)
    text, verdict = out.getvalue(), result.verdicts[0]
    assert contradictions(text, result) == []
    assert expected(result, kind) <= of_the_verdict(result, text)
    if verdict.doubts:
        assert text.index("Doubtful: " + verdict.doubts[0]) < text.index(verdict.headline)


@pytest.mark.parametrize("kind", [kind for slug, kind in CHOSEN if slug == "side-by-side"])
def test_on_the_console_a_mixed_run_names_each_arm_with_its_technique(run, kind):
    out = io.StringIO()
    console.ConsoleReporter(Console(file=out, width=200)).report(run("side-by-side", kind))
    assert re.search(r"streaming\.streamed", out.getvalue(), re.IGNORECASE)
    assert re.findall(r"(?<!\.)\b(?:streamed|whole|cached)\b", out.getvalue()) == []


@every_kind
def test_json_says_it_and_what_was_lost(run, technique, kind):
    result = run(technique, kind)
    told = json.loads(json_object.as_text(json_object.as_object(result)))
    planned, first = result.comparisons[0], told["comparisons"][0]
    assert (told["version"], told["verdict_words"]) == (1, 2)
    assert (first["verdict"], first["arm"]) == (KINDS[kind].verdict, planned.arm)
    assert told["verdict"]["title"] == first["title"] == result.verdicts[0].title
    assert told["verdict"]["doubts"] == list(result.verdicts[0].doubts)
    if KINDS[kind].less is not None:
        assert (first["estimate_ms"] < 0) is KINDS[kind].less
    for comparison in told["comparisons"]:
        assert contradictions(comparison["title"], result) == []
        if comparison["verdict"] not in CLAIMING:
            assert claims(comparison["title"], result) == []
    lost = {"faster when it answers": 2, "fails more": 6}.get(kind, 0)
    arm = next(arm for arm in told["arms"] if arm["arm"] == planned.arm)
    assert (first["lost"], first["baseline_lost"], arm["lost"]) == (lost, 0, lost)


@every_kind
def test_every_figure_has_the_findings_title(run, technique, kind):
    """Whichever arm differs most, a figure tells of the planned one, or of none."""
    result = run(technique, kind)
    finding, titled = result.finding(), set()
    for name, figure in figure_files.run_figures(result).items():
        title, written = layout.title(figure), [note.text for note in figure.layout.annotations]
        texts = "\n".join(filter(None, [title, *written]))
        assert contradictions(texts, result) == [], name
        arms = {claim.arm for claim in claims(title, result)}
        assert arms <= {arm for arm, _ in expected(result, kind)}, (name, title)
        if title == finding.title:
            titled.add(name)
            shown = (figure.layout.meta or {}).get("reason") or " ".join(written)
            assert not finding.reason or finding.reason.split()[-1] in shown, name
    assert {"waterfall", "distribution", "pairs"} <= titled


@every_kind
def test_the_report_says_it(run, technique, kind):
    result, words = run(technique, kind), Words()
    words.feed(html.page(result))
    text, verdict = words.text(), result.verdicts[0]
    assert contradictions(text, result) == []
    assert expected(result, kind) <= of_the_verdict(result, text)
    for doubt in verdict.doubts:
        assert text.index(doubt) < text.index(verdict.headline)
