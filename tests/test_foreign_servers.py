"""Servers that nobody here wrote: llama.cpp's own Messages route, which caches by itself."""

import json

import pytest

from lab.cli import main, probe
from lab.endpoints import consent, modes
from lab.local import models


@pytest.fixture(scope="module")
def llama():
    """llama.cpp's own server with the embedded model; its address."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(models.model_path(models.SMALL))
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 4096, 1, 2
    params.verbosity, params.warmup = 0, False
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


@pytest.mark.model
def test_llama_cpps_own_server_caches_by_itself(llama, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path))
    consent.allow(llama, key=False)
    monkeypatch.setattr(probe, "PREFIX_WORDS", (100,))  # a small model on few cores reads slowly
    main(["endpoints", "test", llama, "--json"])
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)["checks"]}
    assert rows["usage"]["supported"] and rows["token counts"]["supported"] and rows["streaming"]["supported"], rows
    assert "0 tokens written" in rows["caching"]["seen"] and "it caches by itself" in rows["caching"]["seen"]
    assert not rows["structured output"]["supported"] and not rows["tools"]["supported"]
    assert modes.caching_of(llama) == "itself"
