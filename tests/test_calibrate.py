"""The instrument against known times, over real sockets."""

import os
import subprocess
import sys

import numpy as np

from bench import known_delay
from lab import calibrate, paths


def test_calibration_is_measured_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_RUNTIME", str(tmp_path / "runtime"))
    assert calibrate.last_calibration() is None
    found = calibrate.calibrate((1, 4))
    assert {(row["streams"], row["clock"], row["quantile"]) for row in found.errors} == {
        (streams, name, quantile)
        for streams in (1, 4)
        for name in ("arrival", "ttft")
        for quantile in ("p50", "p95", "p99")
    }
    assert found.timer_ns < 100_000 and found.seconds < 60
    assert (
        list(found.detectable_ms) == ["10", "20", "72"]
        and found.detectable_ms["10"] > found.detectable_ms["72"]
    )
    kept = calibrate.last_calibration()
    assert kept["own_error_p95_ms"] == found.own_error_p95_ms and kept["host"] == found.host


def test_no_stamp_is_earlier_than_the_write_of_an_outside_server():
    calls = known_delay.outside(streams=1, calls=6)
    assert len(calls) == 5 and all(len(call.late_ms) == 10 for call in calls)
    assert min(min(call.late_ms) for call in calls) > 0
    assert np.median([call.ttft_ms for call in calls]) > 25 - 2


def test_the_dashboard_calibrates_in_another_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lab.calibrate"],
        cwd=paths.ROOT,
        env=os.environ | {"LAB_RUNTIME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ttft error at 16 streams" in done.stdout and (tmp_path / "calibration.json").exists()
