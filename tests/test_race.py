"""The race replays what was recorded, plays and pauses, and never turns model text into markup."""

import pandas as pd
import pytest

from lab.figures import race


def recorded(lanes=2, arrivals=3, text="ab", gap=100.0):
    """Frames of events, calls and trials: lane n is n + 1 times as slow as the first."""
    events, calls, trials = [], [], []
    for lane in range(lanes):
        call = f"call-{lane}"
        end = gap * (arrivals + 1) * (lane + 1)
        calls.append(
            {
                "call_id": call,
                "trial_id": f"trial-000{lane}",
                "arm": f"arm {lane}",
                "role": "answer",
                "error_kind": None,
                "started_ms": 0.0,
                "total_ms": end,
            }
        )
        first = gap * (lane + 1)
        trials.append({"trial_id": f"trial-000{lane}", "wait_ms": first, "total_ms": end})
        for n in range(arrivals):
            at = gap * (n + 1) * (lane + 1)
            events.append(
                {
                    "call_id": call,
                    "at_ms": at,
                    "kind": "text_delta",
                    "characters": len(text or "ab"),
                    "text": text,
                }
            )
    return pd.DataFrame(events), pd.DataFrame(calls), pd.DataFrame(trials)


def test_lanes_keep_the_recorded_instants():
    data = race.race_data(*recorded())
    assert [lane["arrivals"] for lane in data["lanes"]] == [
        [[100, "ab"], [200, "ab"], [300, "ab"]],
        [[200, "ab"], [400, "ab"], [600, "ab"]],
    ]
    assert [lane["end"] for lane in data["lanes"]] == [400, 800]


def test_text_that_was_not_kept_is_its_length():
    events, calls, trials = recorded(lanes=1)
    events["text"] = None
    lane = race.race_data(events, calls, trials)["lanes"][0]
    assert [part for _, part in lane["arrivals"]] == [2, 2, 2]


def test_a_second_answer_in_a_lane_begins_on_a_line_of_its_own():
    events, calls, trials = recorded(lanes=1)
    later = calls.assign(call_id="call-1", started_ms=500.0)
    after = events.assign(call_id="call-1", at_ms=events["at_ms"] + 500)
    lanes = race.race_data(pd.concat([events, after]), pd.concat([calls, later]), trials)["lanes"]
    assert [text for _, text in lanes[0]["arrivals"]] == ["ab", "ab", "ab", "\nab", "ab", "ab"]


def test_a_tag_in_model_text_cannot_begin_in_a_report():
    assert "</script><b>" not in race.embedded(race.race_data(*recorded(text="</script><b>x")))


def test_the_race_is_hatched_by_its_kind():
    assert 'race.hatched = ["simulated"];' in race.script()


def opened(browser, data, **context):
    page = browser.new_context(**context).new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(
        f"<meta charset=utf-8><style>{race.style()}</style><script>{race.script()}</script>"
        f"{race.embedded(data)}"
    )
    return page, errors


@pytest.mark.browser
def test_it_plays_once_in_view_and_freezes_at_the_distance(browser):
    page, errors = opened(browser, race.race_data(*recorded()))
    page.get_by_role("button", name="Replay", exact=True).wait_for(timeout=60_000)
    assert page.locator(".clock").all_text_contents() == ["400 ms", "+400 ms"]
    assert page.locator(".text").all_text_contents() == ["ababab", "ababab"]
    assert errors == []


@pytest.mark.browser
def test_the_finish_line_is_the_headlines_and_the_rest_runs_on_in_grey(browser):
    data = race.race_data(*recorded(), metric="wait_ms")
    page, errors = opened(browser, data, reduced_motion="reduce")
    assert page.locator(".clock").all_text_contents() == ["100 ms", "+100 ms"]
    assert page.locator(".rest").all_text_contents() == ["abab", "abab"]
    assert page.locator(".text").all_text_contents() == ["ababab", "ababab"]
    notes = page.locator(".note").all_text_contents()
    assert notes[1] == "perceived wait 200 ms, end 800 ms · trial ial-0001"
    page.locator("input[type=range]").fill("150")
    assert page.locator(".finished .name").all_text_contents() == ["arm 0"]
    assert page.locator(".clock").all_text_contents() == ["100 ms", "150 ms"]
    assert page.locator(".flag.up").count() == 1
    assert errors == []


@pytest.mark.browser
@pytest.mark.parametrize(("gap", "speed"), [(100.0, "×0.25"), (1000.0, "×1")])
def test_a_pair_that_is_over_before_the_eye_moves_starts_slowly(browser, gap, speed):
    page, _ = opened(browser, race.race_data(*recorded(gap=gap)), reduced_motion="reduce")
    assert page.locator(".speeds [aria-pressed=true]").text_content() == speed


@pytest.mark.browser
@pytest.mark.parametrize(
    ("gap", "clocks"),
    [
        (999, ["999 ms", "+999 ms"]),
        (4000, ["4,000 ms", "+4,000 ms"]),
        (5000, ["5.00 s", "+5.00 s"]),
    ],
)
def test_the_clocks_of_a_race_have_one_unit(browser, gap, clocks):
    data = race.race_data(*recorded(gap=float(gap)), metric="wait_ms")
    page, _ = opened(browser, data, reduced_motion="reduce")
    assert page.locator(".clock").all_text_contents() == clocks


@pytest.mark.browser
@pytest.mark.parametrize("end", [400.0, 5960.0, 8240.0, 66_400.0])
def test_the_film_ends_with_the_race_and_needs_no_scrolling(browser, end):
    data = race.race_data(*recorded(lanes=1, gap=end / 4))
    size = {"width": 1120, "height": 800}
    page, _ = opened(browser, data, reduced_motion="reduce", viewport=size)
    assert page.locator(".frame.whole").count() == 1
    film = page.locator(".film").evaluate("film => [film.scrollWidth, film.clientWidth]")
    assert film[0] <= film[1]


@pytest.mark.browser
def test_reduced_motion_shows_the_end_and_a_scrub_shows_any_moment(browser):
    page, errors = opened(browser, race.race_data(*recorded()), reduced_motion="reduce")
    assert page.locator(".clock").first.text_content() == "400 ms"
    page.locator("input[type=range]").fill("250")
    assert page.locator(".text").all_text_contents() == ["abab", "ab"]
    page.locator(".frame").last.click()
    assert page.locator(".clock").last.text_content() == "+400 ms"
    assert errors == []


@pytest.mark.browser
def test_play_and_pause_by_keyboard(browser):
    page, _ = opened(browser, race.race_data(*recorded(gap=5_000.0)))
    button = page.locator(".play")
    page.get_by_role("button", name="Pause", exact=True).wait_for(timeout=60_000)
    button.focus()
    page.keyboard.press("Space")
    assert button.text_content() == "Play"
    stopped = page.locator(".clock").first.text_content()
    page.wait_for_timeout(200)
    assert page.locator(".clock").first.text_content() == stopped


@pytest.mark.browser
def test_model_text_stays_text(browser):
    data = race.race_data(*recorded(text="<img src=x onerror=window.bad=1>"))
    page, _ = opened(browser, data, reduced_motion="reduce")
    assert page.locator("img").count() == 0
    assert page.evaluate("window.bad") is None


DRAWN = """() => {
    const scrub = document.querySelector("input[type=range]"), fastest = [];
    for (let at = 0; at < 8000; at += 16) {
        const began = performance.now();
        scrub.value = at;
        scrub.oninput();
        document.querySelector(".paper").getBoundingClientRect();
        const group = Math.floor(at / 160);
        fastest[group] = Math.min(fastest[group] ?? Infinity, performance.now() - began);
    }
    return fastest.sort((a, b) => a - b)[Math.floor(fastest.length / 2)];
}"""
"""The milliseconds that the fastest of ten draws in a row takes, halfway through the race: one that
another process held up says nothing of the draw."""


@pytest.mark.browser
def test_a_long_race_draws_within_a_frame(browser):
    page, errors = opened(
        browser,
        race.race_data(*recorded(lanes=4, arrivals=2_000, text="word ", gap=1.0)),
        reduced_motion="reduce",
    )
    assert any(page.evaluate(DRAWN) < 16 for _ in range(3))
    assert errors == []
