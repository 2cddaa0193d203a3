"""`record`: stand between an application and its API, and keep what each call took."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from argparse import REMAINDER, ArgumentParser, Namespace

from lab import paths, processes, recorder, scrub, units
from lab.cli import DONE, flags
from lab.model import LabError
from lab.paths import COMMAND

SIGNALLED, NOT_FOUND, NOT_ALLOWED = 128, 127, 126
"""As a shell says them."""


def handlers(name: str):
    return record_flags, record


def record_flags(parser: ArgumentParser) -> None:
    parser.usage = f"{COMMAND} record [options] [-- COMMAND …]"
    parser.epilog = (
        f'For example: {COMMAND} record -- claude -p "…"   or   {COMMAND} record -- python agent.py'
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        metavar="P",
        help="the port on 127.0.0.1; 0 takes a free one (default 0)",
    )
    parser.add_argument(
        "--upstream",
        metavar="URL|ENDPOINT",
        help="where requests go on to (default: ANTHROPIC_BASE_URL, else Anthropic)",
    )
    parser.add_argument(
        "--keep-text",
        action="store_true",
        help="store what is asked and answered too, which a replay needs; without it only the "
        "shape is stored",
    )
    parser.add_argument("--name", metavar="N", help="a name for the recording")
    flags.database(parser)
    parser.add_argument(
        "command",
        nargs=REMAINDER,
        metavar="COMMAND",
        help="after --: what to run through the recorder, which ends with it",
    )


def record(arguments: Namespace) -> int:
    from lab.cli.this_machine import typed
    from lab.recorder import serving, upstream

    command = arguments.command
    command = command[1:] if command[:1] == ["--"] else command
    if not 0 <= arguments.port < 65536:
        raise LabError(f"--port takes a number from 0 to 65535, not {arguments.port}.")
    if command and not shutil.which(command[0]):
        there = os.path.exists(command[0])
        print(f"{command[0]}: {'not a program' if there else 'not found'}.", file=sys.stderr)
        return NOT_ALLOWED if there else NOT_FOUND
    typed(arguments.upstream)
    order = serving.Order(
        upstream.find(arguments.upstream),
        str(paths.database()),
        arguments.keep_text,
        arguments.name,
        arguments.port,
    )
    teller = Teller(sys.stderr if command else sys.stdout, calls=not command)
    return serving.run(lambda: _record(order, command, teller))


async def _record(order, command: list[str], teller: "Teller") -> int:
    from lab.recorder.serving import Serving, lift_limits

    def hear(entry: dict) -> None:
        teller.hear(entry)
        if entry["kind"] in ("lost", "note"):
            with contextlib.suppress(OSError):  # for the page Your app
                processes.add_progress(serving.run_id, entry)

    serving = Serving(order, hear)
    await serving.open()
    card = recorder.card_of(serving.run_id, serving.port, order.upstream, order.keep_text)
    with recorder.announced(card):
        teller.begin(card, command, serving.proxy.connector.tunnel)
        if command:
            code = await _through(serving, card, command)
        else:
            lift_limits()
            _on_signals(lambda name: serving.interrupt())
            await serving.asked_to_end.wait()
            code = DONE
        await serving.close()
    teller.end(serving)
    return code


async def _through(serving, card: recorder.Card, command: list[str]) -> int:
    """The command's exit code; its input, output and terminal are this one's."""
    from lab.recorder.serving import lift_limits

    process = _started(command, card)
    serving.guard(process.pid)
    lift_limits()  # the command keeps those that it would have without
    # Ctrl-C reaches the command from the terminal; only what is sent to this process is passed on.
    _on_signals(lambda name: name == signal.SIGINT or process.send_signal(name))
    code = await asyncio.to_thread(process.wait)
    _on_signals(lambda name: serving.interrupt())
    return code if code >= 0 else SIGNALLED - code


def _on_signals(work) -> None:
    """What nohup makes a process deaf to is left so."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(name, work, name)


def _started(command: list[str], card: recorder.Card) -> subprocess.Popen:
    return subprocess.Popen(command, env=recorder.command_environment(card))


class Teller:
    """What a recorder says on a terminal."""

    def __init__(self, output, calls: bool) -> None:
        self.output, self.calls = output, calls
        self.lost: dict[str, int] = {}

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=self.output, flush=True)

    def begin(self, card: recorder.Card, command: list[str], tunnel) -> None:
        text = "with its text" if card.keep_text else "its shape, no text"
        way = f" by the proxy {tunnel.name}" if tunnel else ""
        self.say(f"Recording what goes through {card.url} to {card.base_url}{way} ({text}).")
        if not command:
            self.say("Point your application at it:")
            self.say(f"  {recorder.paste_lines(card)['Shell']}")
            self.say("Ctrl-C ends it.")

    def hear(self, entry: dict) -> None:
        match entry["kind"]:
            case "call" if self.calls:
                self.say(line(entry))
            case "lost":
                self.lost[entry["text"]] = self.lost.get(entry["text"], 0) + entry["calls"]
            case "waiting":
                calls = f" {units.counted(entry['calls'], 'call')}" if entry["calls"] else ""
                self.say(f"Still writing{calls}. Ctrl-C ends this at once; what is written stays.")
            case "note":
                self.say(scrub.text(entry["text"], scrub.MESSAGE))

    def end(self, serving) -> None:
        for sentence in recorder.unrecorded(self.lost):
            self.say(sentence)
        others = serving.proxy.others
        also = f", {units.counted(others, 'other request')} passed on" if others else ""
        calls = units.counted(serving.calls, "call")
        self.say(f"Recorded {calls}{also}. See where the time went:")
        self.say(f"  {COMMAND} show {serving.run_id}")
        self.say(f"or the page Your app: {COMMAND} ui")


def line(entry: dict) -> str:
    """One recorded call on one line."""
    words = [f"{entry['model']:<24}"]
    ttft, total = entry["ttft_ms"], entry["total_ms"]
    words.append(f"{units.ms(ttft) if ttft is not None else '–':>9} first token")
    words.append(f"{units.ms(total) if total is not None else '–':>9} in all")
    if entry["error"]:
        words.append(f"{entry['status'] or 'no answer'}, {entry['error']}")
    elif entry["input_tokens"] is not None:
        read, written = entry["cache_read_tokens"] or 0, entry["cache_write_tokens"] or 0
        prompt = entry["input_tokens"] + read + written
        words.append(f"{prompt:,} tokens in, {read:,} of them from the cache")
        words.append(f"{entry['output_tokens'] or 0:,} out")
    return "  ".join(words)
