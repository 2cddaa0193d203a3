import importlib.util
import sys
from pathlib import Path

import pytest

from lab import paths

VARIABLES = ("LAB_DB", "LAB_MODELS", "LAB_RUNTIME", "LAB_SETTINGS", "LAB_SECRETS")


@pytest.fixture
def unset(monkeypatch, tmp_path):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_a_checkout_keeps_its_rows_and_models_beside_its_data(unset):
    assert paths.database() == paths.ROOT / "data" / "lab.duckdb"
    assert paths.models() == paths.ROOT / "data" / "models"
    assert paths.shipped("data/prices.toml").is_file() and paths.COMMAND == "python main.py"


def test_an_installed_lab_keeps_its_rows_where_one_stands(unset, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "INSTALLED", True)
    monkeypatch.chdir(tmp_path)
    assert paths.database() == tmp_path / "lab.duckdb"
    assert tmp_path in paths.models().parents
    assert paths.module("lab.worker", "order") == [
        sys.executable,
        "-P",
        "-m",
        "lab.worker",
        "order",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have their own folders")
def test_consents_and_locks_are_where_they_were(unset, monkeypatch, tmp_path):
    assert paths.settings() == tmp_path / ".config" / "llm-latency-lab"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert paths.runtime() == tmp_path / "run" / "llm-latency-lab"
    assert oct(paths.runtime().stat().st_mode)[-3:] == "700"


def test_the_wheel_asks_for_a_range_where_the_checkout_pins():
    spec = importlib.util.spec_from_file_location("hatch_build", paths.ROOT / "hatch_build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    assert build.ranged("pandas==3.1.1") == "pandas>=3.1.1,<4"
    assert build.ranged("gguf==0.19.0") == "gguf>=0.19.0,<0.20"
    assert build.ranged('uvloop==0.23.0; sys_platform != "win32"').endswith(
        '; sys_platform != "win32"'
    )
    for line in (paths.ROOT / "requirements.txt").read_text().split("\n"):
        assert not line or ">=" in build.ranged(line)


def test_no_folder_is_made_by_asking_for_it(unset, tmp_path):
    paths.settings(), paths.models(), paths.runtime_folder()
    assert list(Path(tmp_path).iterdir()) == []
