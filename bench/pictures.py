"""Make the pictures of README and docs from the running dashboard: home, a technique's page, side
by side, a recording, a load, and the race as a loop, each light and dark.

    python bench/pictures.py [--db FILE] [--out docs/pictures]

It takes what the database holds (default data/lab.duckdb): run `python main.py all --quick` and
`compare-arms streaming.whole streaming.streamed caching.cached` first, and record an application:
`record --upstream local --keep-text -- python -m bench.demo_agent.agent --break time`; and load
the embedded model: `load --endpoint local --concurrency 1,2,4,8 --slo "p95 ttft_ms < 1000"`, and
climb it:
`ladder --endpoint local --levers streamed,cache,answer --today model=small --answer-tokens 48`.
`--only` takes one picture alone.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Error, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
VIEWS = {
    "home": "",
    "caching": "Prompt_caching",
    "side-by-side": "Side_by_side",
    "your-app": "Your_app",
    "load": "Load",
    "ladder": "Ladder",
    "race": "Prompt_caching",
}
LOOP_S, FRAMES_PER_S, SPEED, COLOURS = 6, 10, 0.5, 64


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ready(page: Page, url: str) -> None:
    for _ in range(60):
        try:
            page.goto(url, wait_until="domcontentloaded")
            break
        except Error:  # the dashboard does not listen yet
            time.sleep(0.25)
    page.locator('[data-testid=stApp][data-test-script-state="notRunning"]').wait_for(
        timeout=60_000
    )
    page.wait_for_timeout(2_500)


def take_loop(page: Page, file: Path) -> None:
    """The race from its start at SPEED, then its end until LOOP_S are over: scrubbed frame by
    frame, so a slow machine drops none."""
    lanes, scrub = page.locator(".race").first, page.locator(".race input[type=range]").first
    lanes.scroll_into_view_if_needed()
    lanes.locator(".play").evaluate("play => { if (play.textContent === 'Pause') play.click(); }")
    frames = []
    for number in range(LOOP_S * FRAMES_PER_S):
        scrub.evaluate(
            "(scrub, ms) => { scrub.value = ms; scrub.oninput(); }",
            number * 1000 * SPEED / FRAMES_PER_S,
        )
        frames.append(Image.open(io.BytesIO(lanes.screenshot())).convert("RGB"))
    # One palette for all, from the fullest frame: colours that change from frame to frame would
    # flicker.
    palette = frames[-1].quantize(COLOURS, dither=Image.Dither.NONE)
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    first.save(
        file,
        save_all=True,
        append_images=rest,
        duration=1000 // FRAMES_PER_S,
        loop=0,
        optimize=True,
    )


def main() -> int:
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--db")
    ask.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    ask.add_argument("--only", choices=VIEWS, help="one of the pictures")
    args = ask.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    where = ["--server.port", str(port), "--server.headless", "true"]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", *where],
        cwd=ROOT,
        env=os.environ | ({"LAB_DB": args.db} if args.db else {}) | {"LAB_IGNORE_KEYS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with sync_playwright() as p:
            browser = p.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--disable-dev-shm-usage"],
            )
            for scheme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": 1280, "height": 960}, color_scheme=scheme
                )
                for name, path in VIEWS.items():
                    if args.only not in (None, name):
                        continue
                    page = context.new_page()
                    ready(page, f"http://127.0.0.1:{port}/{path}")
                    file = args.out / f"{name}-{scheme}.{'gif' if name == 'race' else 'png'}"
                    take_loop(page, file) if name == "race" else page.screenshot(path=str(file))
                    print(file)
                    page.close()
    finally:
        server.terminate()
        server.wait(10)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
