"""How a server caches is found by the probe, kept for its address, and outruled by the settings."""

import pytest

from lab import paths
from lab.endpoints import caching_modes, consent, registry
from lab.model import LabError

URL = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setenv("LAB_SECRETS", str(tmp_path / "secrets.toml"))
    consent.allow(URL, key=False)
    return tmp_path / "secrets.toml"


def test_what_was_found_of_a_server_holds_for_every_way_to_write_its_address():
    assert registry.find(URL).caching is None
    caching_modes.remember(f"{URL}/v1/", "itself")
    for written in (URL, f"{URL}/", f"{URL}/v1", f"{URL}/v1/messages"):
        endpoint = registry.find(written)
        assert (endpoint.caching, endpoint.base_url) == ("itself", URL)
    assert caching_modes.caching_of("http://127.0.0.1:10") is None


@pytest.mark.parametrize(
    "broken", ["", "{", "[]", '{"http://127.0.0.1:9": ["itself"]}', '{"http://127.0.0.1:9": "?"}']
)
def test_a_broken_file_is_as_none_and_is_mended_by_the_next_finding(broken):
    caching_modes.remember(URL, "none")
    (paths.settings() / caching_modes.FILE).write_text(broken)
    assert registry.find(URL).caching is None
    caching_modes.remember(URL, "none")
    assert registry.find(URL).caching == "none"
    assert [file.name for file in paths.settings().glob(".*")] == []


def test_the_settings_outrule_what_was_found(settings, monkeypatch):
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    caching_modes.remember(URL, "marked")
    settings.write_text(f'[endpoints.mine]\nbase_url = "{URL}/v1"\ncaching = "itself"\n')
    assert registry.find("mine").caching == registry.find(URL).caching == "itself"
    settings.write_text(f'[endpoints.mine]\nbase_url = "{URL}"\ncaching = "yes"\n')
    with pytest.raises(LabError, match="one of marked, itself, none"):
        registry.find("mine")


def test_the_labs_own_servers_honour_marks(simulated, monkeypatch):
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    consent.allow(simulated.base_url, key=False)
    assert registry.find("local").caching == registry.find(simulated.base_url).caching == "marked"
