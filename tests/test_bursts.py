"""What holds a stream back is named, and a stream is not suspected."""

import pytest

from bench.buffers import Buffer
from lab import results, units
from lab.endpoints import consent
from lab.harness.reporters import json_object, markdown
from lab.stats import bursts
from tests.measured import FAST, measure

MS = 1_000_000


def arrivals(*instants_ms: float, characters: int = 5) -> list[tuple[int, int]]:
    return [(int(at * MS), characters) for at in instants_ms]


def buffered(pieces: int, gap_ms: float, characters: int, size: int) -> list[tuple[int, int]]:
    """What is written every `gap_ms` after 500 ms, and arrives when `size` bytes are full, or at
    the end."""
    each, end = bursts.EVENT_BYTES + characters, 500 + gap_ms * (pieces - 1)
    full = [-(-each * (piece + 1) // size) * size for piece in range(pieces)]
    return arrivals(
        *(min(end, 500 + gap_ms * (-(-place // each) - 1)) for place in full), characters=characters
    )


@pytest.mark.parametrize("gap_ms", [1, 5, 30])
@pytest.mark.parametrize("pieces", [24, 60, 199, 990])
@pytest.mark.parametrize("kib", [4, 8, 16])
def test_a_buffer_is_named_by_its_size(kib, pieces, gap_ms):
    stream = bursts.stream(buffered(pieces, gap_ms, 5, kib * 1024), sent_ns=0)
    assert stream.held and stream.plain
    assert stream.kib == (kib if stream.bursts > 1 else None)
    assert stream.bursts == -(-123 * pieces // (1024 * kib))


def test_what_is_left_at_the_end_may_follow_soon():
    """As through nginx: a buffer is full 11 ms before the answer ends."""
    stream = bursts.stream(
        arrivals(*[128] * 25, *[251] * 32, *[262] * 3), sent_ns=0, lag_ns=19 * MS
    )
    assert stream.held and stream.words == "60 pieces came in 2 bursts of about 4 KiB"
    almost = bursts.stream(arrivals(*[500] * 23, 504), sent_ns=0)
    assert almost.held and almost.words == "24 pieces came at once"


def test_a_replay_in_several_packets_came_at_once():
    stream = bursts.stream(arrivals(*(900 + 1.2 * (at // 11) for at in range(44))), sent_ns=0)
    assert stream.held and stream.words == "44 pieces came at once"


def test_its_words_count_what_one_can_see():
    assert (
        bursts.stream(buffered(48, 5, 5, 4096), 0).words
        == "48 pieces came in 2 bursts of about 4 KiB"
    )
    assert bursts.stream(arrivals(*[900] * 11), 0).words == "11 pieces came at once"


@pytest.mark.parametrize(
    "written",
    [
        [100 + 30 * at for at in range(100)],
        [100 + 1 * at for at in range(100)],
        [100 + 0.3 * at for at in range(100)],
        [
            100 + 5 * (at * 0.2 // 5) for at in range(200)
        ],  # 5,000 tokens a second, read by a client that wakes every 5 ms
        [
            100 + 0.3 * at if at > 17 else 105 for at in range(32)
        ],  # very fast, and held up for a moment
        [100 + 40 * (at // 5) for at in range(100)],  # a server that guesses five tokens ahead
        [
            100 + 10 * at + (60_000 if at > 50 else 0) for at in range(100)
        ],  # a minute's silence in the middle
        [
            100 + 10 * at if at < 40 else 800 for at in range(100)
        ],  # a client that was held up for the last 60 of 100
        [1] * 100,  # all of it after a millisecond: nobody has waited
    ],
    ids=[
        "slow",
        "fast",
        "very fast",
        "late client",
        "held up for a moment",
        "guesses",
        "silence",
        "held up once",
        "instant",
    ],
)
def test_a_real_stream_is_not_suspected(written):
    assert bursts.stream(arrivals(*written), sent_ns=0).held is False


def test_what_is_too_short_or_read_too_late_tells_nothing():
    assert bursts.stream(arrivals(*[500] * 7), 0).held is None
    assert bursts.stream([], 0).held is None
    assert bursts.stream(buffered(48, 5, 5, 4096), 0, lag_ns=90 * MS).held is None


def test_one_answer_that_a_late_client_read_at_once_proves_nothing_and_three_do():
    late, in_time = (bursts.stream(arrivals(*[500] * 48), 0, lag_ns=lag * MS) for lag in (150, 140))
    assert bursts.judge([in_time]).held == 1
    assert bursts.judge([late, late]) is None and bursts.judge([late] * 3).held == 3


def test_a_long_answer_in_one_piece_is_no_stream():
    assert bursts.stream([(500 * MS, 400)], 0).words == "its one piece came at once"
    assert bursts.stream([(500 * MS, 400)], 0).held
    assert bursts.stream([(500 * MS, 399)], 0).held is None


def test_several_streams_are_judged_together():
    held, flowing = (
        bursts.stream(arrivals(*[900] * 48), 0),
        bursts.stream(arrivals(*range(100, 148)), 0),
    )
    short = bursts.stream(arrivals(*[900] * 11), 0)
    assert bursts.judge([held, flowing]).typical == held
    assert bursts.judge([held, flowing, flowing]) is None and bursts.judge([]) is None
    assert bursts.judge([short, short]) is None and bursts.judge([short] * 3).held == 3
    assert bursts.judge([*[short] * 3, flowing]) is None


@pytest.mark.parametrize("kib", [4, 16])
async def test_a_run_through_a_buffer_says_so_everywhere(simulated, db, kib):
    simulated.knobs(**{**FAST, "answer_tokens": 48, "gap_ms": 6})
    buffer = Buffer(simulated.base_url, kib * 1024)
    simulated.base_url, direct = buffer.base_url, simulated.base_url
    consent.allow(buffer.base_url, key=False)
    try:
        run = await measure(simulated, "streaming", runs=3)
    finally:
        simulated.base_url = direct
        buffer.close()
    result = results.read(run.run_id)
    told = {
        4: "in pieces of about 4 KiB (in one 48 pieces came in 2 bursts of about 4 KiB)",
        16: "until its end (in one 48 pieces came at once; what holds it takes 5.",
    }
    assert "held back the stream of " in result.notes[0] and told[kib] in result.notes[0]
    assert "proxy_buffering off" in result.notes[0]
    assert results.NO_STREAM in result.comparisons[0].reasons
    assert result.notes[0] in json_object.as_object(result)["notes"]
    assert units.in_markdown(result.notes[0]) in markdown.markdown(result)


async def test_a_run_without_one_says_nothing(simulated, db):
    simulated.knobs(**{**FAST, "answer_tokens": 48, "gap_ms": 3})
    run = await measure(simulated, "streaming", runs=2)
    assert not any("held back" in note for note in results.read(run.run_id).notes)
