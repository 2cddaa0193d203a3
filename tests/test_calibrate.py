"""The instrument against known times, over real sockets."""

import subprocess
import sys

import numpy as np

from bench import known_delay
from lab import calibrate, paths


def test_no_stamp_is_earlier_than_the_write_of_an_outside_server():
    calls = known_delay.outside(streams=1, calls=6)
    assert len(calls) == 5 and all(len(call.late_ms) == 10 for call in calls)
    assert min(min(call.late_ms) for call in calls) > 0
    assert np.median([call.ttft_ms for call in calls]) > 25 - 2


def test_calibration_is_measured_in_another_process_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_RUNTIME", str(tmp_path))
    assert calibrate.last_calibration() is None
    done = subprocess.run(
        [sys.executable, "-m", "lab.calibrate"], cwd=paths.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "ttft error at 16 streams" in done.stdout
    kept = calibrate.last_calibration()
    assert {(row["streams"], row["clock"], row["quantile"]) for row in kept["errors"]} == {
        (streams, name, quantile)
        for streams in (1, 4, 16)
        for name in ("arrival", "ttft")
        for quantile in ("p50", "p95", "p99")
    }
    assert kept["timer_ns"] < 100_000 and kept["seconds"] < 60 and kept["own_error_p95_ms"] > 0
    detectable = kept["detectable_ms"]
    assert list(detectable) == ["10", "20", "72"] and detectable["10"] > detectable["72"]
