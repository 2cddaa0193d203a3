import json

import pytest

from lab.cli import main
from lab.endpoints import registry
from lab.model import LabError


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    path = tmp_path / "secrets.toml"
    monkeypatch.setenv("LAB_SECRETS", str(path))
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    return path


def test_a_key_is_found_without_a_restart_and_becomes_the_default(secrets):
    assert registry.default_name() == "local" and "anthropic" not in registry.names()
    secrets.write_text(
        'ANTHROPIC_API_KEY = "sk-1"\n[endpoints.mine]\nbase_url = "https://gate.example"\nsmall ='
        ' "m"\n'
    )
    assert registry.default_name() == "anthropic" and registry.names() == [
        "local",
        "simulated",
        "anthropic",
        "mine",
    ]
    assert registry.find("mine").models == {"small": "m"} and registry.find("mine").kind == "live"


def test_keys_can_be_ignored(secrets, monkeypatch):
    secrets.write_text('ANTHROPIC_API_KEY = "sk-1"\n')
    monkeypatch.setenv("LAB_IGNORE_KEYS", "1")
    assert registry.default_name() == "local"


def test_a_key_shows_in_no_repr(secrets):
    secrets.write_text('ANTHROPIC_API_KEY = "sk-secret"\n')
    assert "sk-secret" not in repr(registry.find("anthropic"))


def test_any_model_name_passes_as_it_is():
    assert registry.find("simulated", {"any": "x"}).models == {"small": "x", "large": "x"}
    assert registry.find("local", {"large": "y"}).models == {"small": "smollm2-135m", "large": "y"}


@pytest.mark.parametrize("wrong", ["nowhere", "ftp://x", "https://user:word@x.example"])
def test_an_unknown_endpoint_is_one_sentence(wrong):
    with pytest.raises(LabError) as said:
        registry.find(wrong)
    assert "word@" not in str(said.value)


def test_the_labs_own_server_is_never_labelled_live(simulated, monkeypatch):
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    found = registry.find(simulated.base_url)
    assert (found.kind, found.generates, found.api_key) == ("simulated", "small", simulated.api_key)


def test_a_probe_says_what_works(simulated, monkeypatch, capsys):
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    assert main(["endpoints", "test", simulated.base_url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    checks = ("usage", "token counts", "streaming", "caching", "structured output", "tools")
    assert {row["check"]: row["supported"] for row in found["checks"]} == dict.fromkeys(
        (*checks, "models"), True
    )
    assert (found["cost_usd"], found["calls"]) == (None, 8)


def test_a_probe_with_a_wrong_key_ends_with_its_first_finding(simulated, monkeypatch, capsys):
    monkeypatch.setenv("LAB_LOCAL_KEY", "wrong")
    assert main(["endpoints", "test", simulated.base_url, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert len(found["checks"]) == 1 and "is refused (status 401)" in found["checks"][0]["seen"]
