"""Other load clients against the lab's, side by side on one machine (Linux): `python -m
bench.peers`.

Each is installed at its pinned version in an environment of its own. A server whose emission is
known keeps one core; each client with all its processes keeps another, and puts the same load: a
closed loop of so many streams, 7 requests each, 64 tokens 10 ms apart after 200 to 210 ms. Its own
export is joined with what the server wrote, by id. In a round every client runs once, in random
order, and once more where others used the cores; the tables have medians over all rounds that --dir
holds.

    python -m bench.peers --quick                        # one round at 64 streams
    python -m bench.peers --streams 256 --rounds 1       # rounds may be made one at a time
    python -m bench.peers --table                        # of the rounds so far
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
from pathlib import Path

from bench.peers import table
from bench.peers.catalogue import CLIENTS, Client
from bench.peers.environments import Installed, installed
from bench.peers.play import cores, played
from lab import paths

STREAMS = (16, 64, 128, 256, 512)
ROUNDS, REQUESTS_A_STREAM, TRIES = 3, 7, 2
DOCUMENT = paths.ROOT / "docs" / "accuracy.md"
BEGIN, END = "<!-- peers -->", "<!-- end of peers -->"


def main() -> int:
    chosen = _flags().parse_args()
    folder = chosen.dir.resolve()
    clients = [one for one in CLIENTS if _is_wanted(one.name, chosen.only)]
    if not chosen.table:
        folder.mkdir(parents=True, exist_ok=True)
        environments = {client: installed(client, folder) for client in clients}
        loads, rounds = ([64], 1) if chosen.quick else (chosen.streams, chosen.rounds)
        if not chosen.install:
            measure(environments, loads, rounds, folder / "runs.jsonl")
    if chosen.install:
        return 0
    runs = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    print(table.text(runs))
    if chosen.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table.text(runs)}\n\n{end}{after}", "utf-8")
    return 0


def measure(
    environments: dict[Client, Installed], loads: list[int], rounds: int, kept: Path
) -> None:
    pinned = cores()
    if pinned[1] is not None:
        os.sched_setaffinity(0, {pinned[1]})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a client's processes end with this
    for streams in [streams for _ in range(rounds) for streams in loads]:
        for client in random.sample(list(environments), k=len(environments)):
            requests = streams * REQUESTS_A_STREAM
            for _ in range(TRIES):
                run = played(client, environments[client], streams, requests, pinned)
                print(table.brief(run), file=sys.stderr, flush=True)
                with kept.open("a", encoding="utf-8") as output:
                    output.write(json.dumps(run) + "\n")
                if not table.is_disturbed(run):
                    break


def _is_wanted(name: str, only: list[str]) -> bool:
    return not only or any(word.lower() in name.lower() for word in only)


def _flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = flags.add_argument
    words = {"nargs": "+", "metavar": "NAME", "default": []}
    add("--only", **words, help="only clients whose name holds one of these words")
    add("--streams", nargs="+", type=int, default=list(STREAMS), help="at once")
    add("--rounds", type=int, default=ROUNDS)
    add("--quick", action="store_true", help="one round at 64 streams")
    add("--install", action="store_true", help="only install, and measure nothing")
    add("--table", action="store_true", help="only the table of what was measured before")
    add("--write", action="store_true", help="put the tables into docs/accuracy.md too")
    where = paths.ROOT / "data" / "peers"
    add("--dir", type=Path, default=where, help="environments and runs (default data/peers)")
    return flags


if __name__ == "__main__":
    sys.exit(main())
