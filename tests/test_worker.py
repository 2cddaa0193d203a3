import json

from lab import processes, worker
from lab.model import new_id


def test_a_config_that_is_wrong_ends_with_a_sentence_where_pages_look(tmp_path, db):
    run_id = new_id()
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"run_id": run_id, "config": {"technique": "nonsense", "endpoint": "simulated"}}))
    assert worker.main([str(path)]) == 1
    (ended,) = [entry for entry in processes.read_progress(run_id)[0] if entry["kind"] == "ended"]
    assert ended["status"] == "failed" and "nonsense" in ended["text"] and not path.exists()
    assert processes.running() is None
