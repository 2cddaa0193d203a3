"""What a run says while it measures, where it is said."""

from io import StringIO

from rich.console import Console

from lab.harness.progress import OneOutput


def trial(done, total=40):
    return {
        "kind": "trial",
        "arm": "streamed",
        "done": done,
        "total": total,
        "left_s": 5,
        "outcome": "ok",
        "wait_ms": 120.0,
    }


def test_a_notebook_gets_one_output_that_is_written_again():
    shown, printed = [], StringIO()
    progress = OneOutput(Console(file=printed), shown.append)
    entries = [
        {"kind": "started", "run_id": "r", "total": 40},
        *(trial(done) for done in range(1, 41)),
    ]
    for entry in [*entries, {"kind": "note", "text": "The machine is busy."}]:
        progress(entry)
    progress({"kind": "ended", "status": "finished", "text": "40 trials"})
    assert shown[0] == "starting" and shown[-1] == "The machine is busy.\nfinished. 40 trials"
    assert any(text.startswith("40/40 streamed 120 ms") for text in shown)
    assert max(text.count("\n") for text in shown) == 1 and printed.getvalue() == ""
