"""The wheel, in an environment that does not know the checkout."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest
from conftest import end_servers
from dashboards import IDLE, PATIENCE_MS, WRONG, free_port

from lab import clock, paths

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory) -> Path:
    """The scripts of a fresh environment that has the wheel; its dependencies are those of this one
    (bench/fresh_machine.py installs them anew)."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(paths.ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    install = [*pip, "--python", str(folder / "venv"), "install", "--no-deps", "--no-index"]
    subprocess.run([*install, *map(str, folder.glob("*.whl"))], check=True, capture_output=True)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def stand(tmp_path_factory, bin_folder):
    """An empty folder, and the environment of whoever stands there: none leads to the checkout."""
    home = tmp_path_factory.mktemp("stand")
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("LAB_", "PYTHON"))
    }
    variables |= {
        "LAB_IGNORE_KEYS": "1",
        "LAB_RUNTIME": str(home / "runtime"),
        "LAB_SETTINGS": str(home / "settings"),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
    }
    folder = home / "empty"
    folder.mkdir()
    yield folder, variables
    end_servers(home / "runtime")


def lab(stand, *words: str) -> subprocess.CompletedProcess:
    folder, variables = stand
    return subprocess.run(
        ["latency-lab", *words], cwd=folder, env=variables, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def quick(stand) -> subprocess.CompletedProcess:
    return lab(stand, "streaming", "--quick", "--endpoint", "simulated")


def test_nothing_of_the_checkout_is_used(stand, bin_folder):
    folder, variables = stand
    code = "import lab; from lab import paths; print(lab.__file__, paths.COMMAND, paths.database())"
    told = subprocess.run(
        [bin_folder / "python", "-c", code],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert Path(told[0]).is_relative_to(bin_folder.parent)
    assert told[1:] == ["latency-lab", str(folder / "lab.duckdb")]


def test_a_quick_run_in_an_empty_folder_ends_with_a_verdict(stand, quick):
    assert quick.returncode == 0, quick.stderr
    assert "n = 6" in quick.stdout and "latency-lab show" in quick.stdout
    assert all(path.name.startswith("lab.duckdb") for path in stand[0].iterdir())
    shown = lab(stand, "show", "last")
    assert shown.returncode == 0 and "n = 6" in shown.stdout
    assert "usage: latency-lab show" in lab(stand, "show", "--help").stdout
    unknown = lab(stand, "shwo")
    assert unknown.returncode == 2 and "main.py" not in unknown.stderr


def test_the_dashboard_is_served_from_any_folder(stand, quick, browser):
    folder, variables = stand
    (folder / "pages").mkdir()  # a user's own, which is no concern of the lab's
    (folder / "pages" / "__init__.py").write_text("raise SystemExit('the wrong pages')")
    assert quick.returncode == 0, quick.stderr
    with dashboard(folder, variables) as url:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        links = page.locator('[data-testid="stSidebar"] [data-testid="stPageLink-NavLink"]')
        links.first.wait_for()
        page.locator(IDLE).wait_for()
        pages = {link.get_attribute("href"): link.inner_text() for link in links.all()}
        assert len(pages) >= 11
        for address, title in pages.items():
            links.get_by_text(title, exact=True).click()
            path = address.strip("/").partition("?")[0]
            page.wait_for_url(re.compile(rf"/{path}(\?|$)"))
            if path:
                page.get_by_role("heading", name=title, exact=True).wait_for()
            page.locator(IDLE).wait_for()
            assert page.locator(WRONG).count() == 0, address
        with urllib.request.urlopen(url, timeout=10) as reply:
            assert reply.headers["x-frame-options"] == "DENY"


@contextlib.contextmanager
def dashboard(folder: Path, variables: dict[str, str]):
    port = free_port()
    process = subprocess.Popen(
        ["latency-lab", "ui", "--port", str(port), "--headless"],
        cwd=folder,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
                break
            assert process.poll() is None, "it ended"
            clock.pause_s(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
