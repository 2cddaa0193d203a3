"""A browser whose pages nobody debugs, and when a page in it stood still.

Playwright looks into each page as a debugger does. V8 then keeps where in the source everything
is, and the code that draws charts takes twice as long to be there as it takes its reader. Here the
DevTools protocol only navigates and asks for a value now and then.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any, BinaryIO, NamedTuple

from lab.clock import now_ns, pause_s

STILL_MS = 300
POLL_S, PATIENCE_S = 0.05, 120.0
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--window-size=1440,900"),
)
LAST_CHANGE = """
    window.changedAt = 0;
    new MutationObserver(() => { window.changedAt = performance.now(); })
        .observe(document, {subtree: true, childList: true, characterData: true});
"""
"""What a page's clock says when something on it was added, taken away or written last: milliseconds
from the navigation. A style or a blinking caret is no such change."""
STATE = """(() => {
    const has = words => document.querySelector(words) !== null;
    const wrong = document.querySelector('[data-testid=stException]');
    return {
        stands: has('[data-testid=stSidebar] a, [data-testid=stHeading]')
            && has('[data-testid=stApp][data-test-script-state="notRunning"]')
            && performance.now() - window.changedAt > %d,
        changed_ms: window.changedAt,
        wrong: wrong ? wrong.innerText.slice(0, 80) : '',
    };
})()"""


class Seen(NamedTuple):
    seconds: float
    """From the navigation to the last change of the page."""
    wrong: str
    """The exception that it shows."""


class UnwatchedBrowser:
    """Chromium with a profile, so that it keeps files and their translated code from page to
    page."""

    def __init__(self, profile: str) -> None:
        theirs, orders = os.pipe()
        answers, told = os.pipe()
        # It reads its orders from descriptor 3, and answers on 4.
        words = f'exec "$0" "$@" 3<&{theirs} 4>&{told}'
        browser = shutil.which("chromium") or "chromium"
        self.process = subprocess.Popen(
            ["sh", "-c", words, browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs, told),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(told)
        self.orders: BinaryIO = os.fdopen(orders, "wb", buffering=0)
        self.answers: BinaryIO = os.fdopen(answers, "rb")
        self.pending, self.last = b"", 0

    def opened(self, url: str) -> Seen:
        """In a tab of its own, which is shut again. TimeoutError where the page never stands."""
        tab = self._ask("Target.createTarget", url="about:blank")["targetId"]
        session = self._ask("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        try:
            self._ask("Page.enable", session)
            self._ask("Page.addScriptToEvaluateOnNewDocument", session, source=LAST_CHANGE)
            self._ask("Page.navigate", session, url=url)
            began_ns = now_ns()
            while now_ns() - began_ns < PATIENCE_S * 1e9:
                pause_s(POLL_S)
                words = {"expression": STATE % STILL_MS, "returnByValue": True}
                state = self._ask("Runtime.evaluate", session, **words)["result"].get("value")
                if state and state["stands"]:
                    return Seen(state["changed_ms"] / 1e3, state["wrong"])
            raise TimeoutError(url)
        finally:
            self._ask("Target.closeTarget", targetId=tab)

    def close(self) -> None:
        self._ask("Browser.close")
        self.process.wait(20)

    def _ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self.last += 1
        order = {"id": self.last, "method": method, "params": params}
        order |= {"sessionId": session} if session else {}
        self.orders.write(json.dumps(order).encode() + b"\0")
        while (answer := self._next()).get("id") != self.last:
            pass  # an event
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.pending:
            if not (data := self.answers.read1(1_000_000)):
                raise RuntimeError("The browser has ended.")
            self.pending += data
        text, _, self.pending = self.pending.partition(b"\0")
        return json.loads(text)
