"""What a change is said to be: at first sight, and by what was measured since."""

from __future__ import annotations

import pandas as pd
from stored_watches import BEGAN, stored
from test_watch import change, pairs

from lab.endpoints.registry import Endpoint
from lab.store import queries
from lab.store.store import Store
from lab.watch import watched
from lab.watch.changes import Size, answering, change_of


def test_as_many_ms_for_both_are_said_in_ms():
    added = change(whose="service", control=Size(0.2, 0.1, 0.3), added_ms=100.0)
    assert added.words.endswith("the control +20 % [+10, +30], both by about 100 ms")
    assert change_of(added.stored()) == added
    old = {name: value for name, value in change().stored().items() if name != "added_ms"}
    assert change_of(old) == change()


def test_what_is_outside_its_interval_is_not_said_to_stand():
    moved = Size(0.11, 0.09, 0.12)
    assert change(control=moved).words.endswith("the control moved by +11 % [+9.0, +12]")
    words = change(whose="control", yours=moved).words
    assert words.startswith("The control got") and "your request moved by +11 %" in words
    alone = change(whose="control", control=moved, yours=Size(0.0, -0.01, 0.01)).words
    assert alone.startswith("The control alone got") and "your request stood" in alone


def test_whose_a_change_is_follows_what_was_measured_since(db):
    """Planted: the control +10 %, yours +20 %. The first sight cannot tell them apart."""
    store = Store()
    run_id = stored(store, pairs(400, at=100, control=1.1, yours=1.2))
    kept = queries.run(store, run_id)["settings"]["watch"]["findings"]
    assert [each["whose"] for each in kept] == ["service"]
    (now,) = watched.read(store, run_id).changes
    assert now.whose == "both" and "stood" not in now.words
    assert now.yours.value > now.control.high


def test_a_change_is_still_told_by_what_followed_when_weeks_have_passed(db):
    """Two weeks of probes after a step: its sizes come from the 750 on either side."""
    values = pairs(1_800, at=100, yours=1.3)
    (now,) = watched.read(Store(), stored(Store(), values)).changes
    assert now.yours.high - now.yours.low < 0.1


def test_claude_is_named_at_anthropics_own_address_only():
    named = {
        url: change(endpoint=answering(Endpoint("anthropic", "live", url))).named
        for url in ("https://api.anthropic.com", "https://gateway.example/llm")
    }
    assert list(named.values()) == ["Claude", "https://gateway.example"]
    assert answering(Endpoint("simulated", "simulated", "")) == "simulated"


def an_answer(probe: int, arm: str, value: float, lag_ms: float = 0.0) -> dict:
    about = {"probe": probe, "arm": arm, "started_utc": pd.Timestamp(BEGAN), "outcome": "ok"}
    return about | {"error_kind": None, "error_text": None, "value": value, "lag_ms": lag_ms}


def test_answers_that_this_machine_held_up_are_left_out_where_others_are_there():
    """9 ms late are a tenth of 90 ms, and less than a hundredth of 1,000 ms."""
    rows = [an_answer(1, "control", 90.0, lag_ms=9.0), an_answer(1, "control", 80.0)]
    rows += [an_answer(1, "yours", 1000.0, lag_ms=9.0), an_answer(1, "yours", 1100.0)]
    found = watched.Watched({"settings": {}}, pd.DataFrame(rows))
    assert found.probes[["control", "yours"]].values.tolist() == [[80.0, 1050.0]]
    assert found.left_out == "1 of 4 answers was held up by this machine and left out."
    assert watched.typical([(90.0, 9.0), (80.0, 0.0)]) == 80.0


def test_a_probe_that_this_machine_held_up_whole_stays_a_point():
    rows = [an_answer(1, arm, 90.0, lag_ms=9.0) for arm in ("control", "yours")]
    found = watched.Watched({"settings": {}}, pd.DataFrame(rows))
    assert found.probes[["control", "yours"]].values.tolist() == [[90.0, 90.0]]
    assert found.left_out == ""
    assert watched.typical([(90.0, 9.0)]) == 90.0 and watched.typical([]) is None
