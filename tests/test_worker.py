import json
import subprocess
import sys

from lab import paths, processes, worker
from lab.model import new_id


def test_a_config_that_is_wrong_ends_with_a_sentence_where_pages_look(tmp_path, db):
    run_id = new_id()
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps({"run_id": run_id, "config": {"technique": "nonsense", "endpoint": "simulated"}})
    )
    assert worker.main([str(path)]) == 1
    (ended,) = [entry for entry in processes.read_progress(run_id)[0] if entry["kind"] == "ended"]
    assert ended["status"] == "failed" and "nonsense" in ended["text"] and not path.exists()
    assert processes.running() is None


def test_a_worker_that_is_stopped_before_it_has_begun_says_so_and_ends(tmp_path, db):
    run_id = new_id()
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {"run_id": run_id, "config": {"technique": "streaming", "endpoint": "simulated"}}
        )
    )
    processes.stop(run_id)
    done = subprocess.run(
        [sys.executable, "-m", "lab.worker", str(path)], cwd=paths.ROOT, timeout=60, check=False
    )
    assert done.returncode == 130 and not db.exists()
    assert [entry["status"] for entry in processes.read_progress(run_id)[0]] == ["interrupted"]
