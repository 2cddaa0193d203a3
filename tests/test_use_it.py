"""The code that a page offers is run as it stands, as a program of its own, against the lab's server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab import snippets
from lab.endpoints import registry
from lab.scenarios import definitions
from lab.techniques import all_techniques

ARMS = [(technique, arm.name) for technique in all_techniques() for arm in technique.arms]


@pytest.mark.parametrize(("technique", "arm"), ARMS, ids=[f"{technique.slug}.{arm}" for technique, arm in ARMS])
def test_the_code_of_an_arm_runs(simulated, tmp_path, technique, arm):
    endpoint = registry.find("simulated")
    task = definitions.load(technique.category, "simulated")[0]
    asked = snippets.requests(technique, arm, technique.knobs(), task, endpoint.models, endpoint.generates, endpoint.capabilities)
    assert asked
    script = tmp_path / "use_it.py"
    script.write_text(snippets.python(technique.slug, arm, asked), encoding="utf-8")
    simulated.knobs(prefill_ms_per_token=0)
    env = {**os.environ, "ANTHROPIC_API_KEY": simulated.api_key, "ANTHROPIC_BASE_URL": simulated.base_url}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-600:]
    assert done.stdout.strip()
