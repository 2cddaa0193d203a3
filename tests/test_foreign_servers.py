"""Servers that nobody here wrote: llama.cpp's own Messages route, which caches by itself."""

import json

import pytest

from lab.cli import endpoints_test, main
from lab.endpoints import caching_modes, consent
from lab.local import model_files


@pytest.fixture(scope="module")
def llama():
    """llama.cpp's own server with the embedded model; its address."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(model_files.model_path(model_files.SMALL))
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 4096, 1, 1
    params.cpuparams_batch.n_threads = 1
    params.verbosity, params.warmup = 0, False
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


@pytest.mark.model
def test_llama_cpps_own_server_caches_by_itself(llama, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path))
    consent.allow(llama, key=False)
    monkeypatch.setattr(
        endpoints_test, "PREFIX_WORDS", (100,)
    )  # a small model on few cores is slow
    monkeypatch.setattr(endpoints_test, "LONG_TOKENS", 32)
    main(["endpoints", "test", llama, "--json"])
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)["checks"]}
    assert (
        rows["usage"]["supported"]
        and rows["token counts"]["supported"]
        and rows["streaming"]["supported"]
    ), rows
    assert (
        "0 tokens written" in rows["caching"]["seen"]
        and "it caches by itself" in rows["caching"]["seen"]
    )
    assert not rows["structured output"]["supported"] and not rows["tools"]["supported"]
    assert caching_modes.caching_of(llama) == "itself"


@pytest.mark.model
def test_on_it_caching_compares_cold_with_warm_and_says_that_writes_are_not_reported(
    llama, db, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path))
    consent.allow(llama, key=False)
    caching_modes.remember(llama, "itself")
    flags = [
        "--runs",
        "2",
        "--warmup",
        "0",
        "--prefix-tokens",
        "100",
        "--answer-tokens",
        "1",
        "--max-usd",
        "9",
    ]
    assert main(["caching", *flags, "--endpoint", llama, "--model", "m", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {arm["arm"]: arm["n"] for arm in told["arms"]} == {
        "uncached": 2,
        "first use": 2,
        "cached": 2,
        "pre-warmed": 2,
    }
    assert any("never what it writes: it caches by itself" in note for note in told["notes"])
