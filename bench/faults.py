"""Everything a server can do wrong, done to the lab, and what it lost by it: `python -m
bench.faults [--quick] [--only WORDS]`.

Two answers of three are wrong, so that no run ends by three failures in a row. Of the trials that
met a fault, `told` were said to be done and `kept` are in the database; `lost` were told or
answered and are not. Ends with 1 where anything was lost, a traceback was printed, a process hung
or died, JSON was none, the key was kept or sent to another host, or a worker took 600 MB.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.broken import KINDS, Kind
from bench.ground import Ended, Ground, strict
from bench.raw_server import Connection, RawServer
from lab.store.store import Store

KEY = "sk-ant-planted-Zq7Xw2Vb9Nk4Lp8Rt3Ys6"
MOST_MB = 600
TOGETHER = 6
"""So many kinds share a run."""


@dataclass
class Tally:
    """What became of one kind."""

    injections: int = 0
    told: int = 0
    kept: int = 0
    lost: int = 0
    peak_mb: float = 0
    ends: Counter = field(default_factory=Counter)
    messages: Counter = field(default_factory=Counter)


class Script:
    """Which request is answered how: two kinds' wrong answers, one good, and so on until every kind
    has had its turns."""

    def __init__(self, wanted: dict[str, int], already: dict[str, int]) -> None:
        self.wanted, self.already = wanted, already
        self.given: list[tuple[str | None, str | None]] = []
        """The nonce of each answered request, and the kind that it met; None for a good answer."""
        self.done: Counter[str] = Counter()
        self.asked = 0
        self.turn = threading.Lock()

    def next(self, nonce: str | None) -> tuple[Kind, int] | None:
        with self.turn:
            self.asked += 1
            open_kinds = [name for name, times in self.wanted.items() if self.done[name] < times]
            if self.asked % 3 == 0 or not open_kinds:
                self.given.append((nonce, None))
                return None
            name = min(open_kinds, key=lambda name: self.done[name])
            self.given.append((nonce, name))
            self.done[name] += 1
            return KINDS[name], self.already.get(name, 0) + self.done[name] - 1

    def answer(self, connection: Connection) -> None:
        asked = connection.asked
        if asked.path == "/health":
            if found := next(
                (KINDS[name] for name in self.wanted if KINDS[name].path == "/health"), None
            ):
                self.done[found.name] += 1
                found.answer(connection, self.done[found.name] - 1)
            else:
                connection.json({"error": "not here"}, 404)
        elif asked.method != "POST":
            connection.json({"error": "not here"}, 404)
        elif any(KINDS[name].path != "/v1/messages" for name in self.wanted):
            connection.good()
        elif any(KINDS[name].greets for name in self.wanted):
            connection.good()
            connection.kept = False
        elif fault := self.next(asked.nonce):
            fault[0].answer(connection, fault[1])
        else:
            connection.good()

    def greet(self, connection: Connection) -> bool:
        if not any(KINDS[name].greets for name in self.wanted) or not (fault := self.next(None)):
            return False
        fault[0].answer(connection, fault[1])
        return True


@dataclass
class Bench:
    tallies: dict[str, Tally] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    runs: int = 0
    spoiled: list[str] = field(default_factory=list)
    """Trials that failed though they met good answers alone, each with what the connection had met
    before."""

    def play(self, names: list[str], times: dict[str, int]) -> None:
        """One run in which these kinds, alike in how they must be met, are injected so often."""
        kinds = [KINDS[name] for name in names]
        script = Script(
            times, {name: self.tallies[name].injections for name in names if name in self.tallies}
        )
        first = kinds[0]
        with (
            RawServer(lambda c: c.json(b"", 404)) as elsewhere,
            RawServer(script.answer, script.greet) as server,
        ):
            server.elsewhere = elsewhere.url
            with Ground(server.url, KEY if first.keyed else "placeholder") as ground:
                run_id, ended = self._run(ground, first, sum(times.values()))
                self._count(ground, run_id, ended, server, script, names)
                if first.keyed and (kept := leaks(ground)):
                    self.wrong.append(f"{', '.join(names)}: the key is in {', '.join(kept[:6])}")
                if elsewhere.asked:
                    self.wrong.append(
                        f"{', '.join(names)}: {len(elsewhere.asked)} requests followed a redirect"
                        " to another host"
                    )
        self.runs += 1

    def _run(self, ground: Ground, kind: Kind, injections: int) -> tuple[str | None, Ended]:
        streams = {"any": (True, False), "stream": (True, True), "whole": (False, False)}[
            kind.shape
        ]
        bodies = [
            {"name": name, "stream": stream} for name, stream in zip("ab", streams, strict=True)
        ]
        runs = 1 if kind.path == "/health" else -(-3 * injections // 4) + 1
        if kind.slow or kind.heavy:
            knobs = {"bodies": json.dumps(bodies)}
            config = {
                "technique": "ab",
                "endpoint": "bench",
                "runs": runs,
                "warmup": 0,
                "seed": 1,
                "max_usd": 1e12,
                "knobs": knobs,
            }
            run_id, child = ground.worker(**config, deadline_s=30 if kind.heavy else 0.5)
            ended = child.wait(300)
            shown = ground.cli("show", run_id, "--json")
            ended.out = shown.out
        else:
            paths = []
            for body in bodies:
                paths.append(ground.folder / f"{body['name']}.json")
                paths[-1].write_text(json.dumps(body))
            words = (
                "--endpoint",
                "bench",
                "--runs",
                str(runs),
                "--warmup",
                "0",
                "--seed",
                "1",
                "--max-usd",
                "1e12",
                "--json",
            )
            ended = ground.cli("ab", *map(str, paths), *words, seconds=180)
            run_id = next(iter(ground.run_ids()), None)
        return run_id, ended

    def _count(
        self,
        ground: Ground,
        run_id: str | None,
        ended: Ended,
        server: RawServer,
        script: Script,
        names: list[str],
    ) -> None:
        what = ", ".join(names)
        told = ground.told(run_id) if run_id else []
        rows = {row["trial_id"]: row for row in ground.kept(run_id)} if run_id else {}
        end = ground.end(run_id) if run_id else {}
        refused = ended.err.strip().splitlines()[-1:] if not told else []
        word = end.get("status") or (
            "hung" if ended.code is None else "refused" if refused else "died"
        )
        if ended.code is None or (not end and told):
            self.wrong.append(
                f"{what}: the process {'hung' if ended.code is None else f'died with {ended.code}'}"
            )
        self.wrong += [f"{what}: traceback, {line}" for line in ground.tracebacks()]
        if ended.peak_mb > MOST_MB:
            self.wrong.append(f"{what}: {ended.peak_mb:.0f} MB")
        if ended.out.strip() or word == "finished":
            try:
                strict(ended.out)
            except ValueError as error:
                self.wrong.append(f"{what}: --json is not JSON, {error}; {ended.out[:60]!r}")
        # Trials follow one another, and each asks with a nonce of its own: the n-th nonce is the
        # n-th trial's.
        trial_of = dict(zip(server.nonces, told, strict=False))
        met: dict[str, set[str]] = {name: set() for name in names}
        for nonce, name in script.given:
            if name and nonce:
                met[name].add(nonce)
        wrongly = set().union(*met.values())
        before = ""
        for nonce, name in script.given:
            row = rows.get(trial_of.get(nonce))
            if row and nonce not in wrongly and row["outcome"] != "ok":
                self.spoiled.append(f"after {before}: {row['words'][:100]}")
            before = name or "a good answer"
        for name in names:
            tally = self.tallies.setdefault(name, Tally())
            tally.injections += script.done[name]
            tally.peak_mb = max(tally.peak_mb, ended.peak_mb)
            tally.ends[word + (f" ({end['text'][:30]})" if word == "failed" else "")] += 1
            if KINDS[name].greets or KINDS[name].path == "/health":
                here, lost = set(told), set(told) - rows.keys()
                tally.lost += len(lost)
            else:
                here = {trial_of[nonce] for nonce in met[name] if nonce in trial_of}
                tally.lost += len(met[name]) - len(here & rows.keys())
            tally.told += len(here)
            tally.kept += len(here & rows.keys())
            for trial_id in here & rows.keys():
                row = rows[trial_id]
                tally.messages[row["words"] or row["outcome"]] += 1
            if not here:
                tally.messages[end.get("text") or " ".join(refused) or f"exit {ended.code}"] += 1


def leaks(ground: Ground) -> list[str]:
    """Where the key, its base64 or a half of it was kept: files by their bytes, tables by their
    values, events by their joined text."""
    half = len(KEY) // 2
    secrets = (KEY, base64.b64encode(KEY.encode()).decode(), KEY[:half], KEY[half:])
    found = ground.files_with(*secrets)
    store = Store(ground.database)
    for table in ("runs", "sessions", "trials", "calls", "spans", "events"):
        text = store.frame(f"SELECT * FROM {table}").to_csv()
        found += [f"table {table}"] if any(secret in text for secret in secrets) else []
    said = store.frame(
        "SELECT string_agg(text, '' ORDER BY seq) AS said FROM events GROUP BY call_id"
    )["said"].dropna()
    return found + (
        ["events' joined text"]
        if any(secret in text for text in said for secret in secrets)
        else []
    )


def parties(names: list[str], together: int) -> list[list[str]]:
    """Kinds that can share a run: met in the same way, and none that needs one for itself."""
    grouped: dict[tuple, list[str]] = {}
    for name in names:
        kind = KINDS[name]
        alone = name if kind.heavy or kind.greets or kind.path == "/health" else None
        grouped.setdefault((kind.shape, kind.slow, kind.keyed, alone), []).append(name)
    return [
        group[at : at + together]
        for group in grouped.values()
        for at in range(0, len(group), together)
    ]


def main() -> int:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument(
        "--quick", action="store_true", help="45 kinds, each injected once or twice: about a minute"
    )
    flags.add_argument("--times", type=int, default=1, help="so many times the injections")
    flags.add_argument(
        "--together",
        type=int,
        default=TOGETHER,
        help="so many kinds share a run; 1 says of each end whose it was",
    )
    flags.add_argument("--only", default="", help="kinds whose name has this in it")
    flags.add_argument("--list", action="store_true", help="print the kinds")
    chosen = flags.parse_args()
    names = [name for name in KINDS if chosen.only in name]
    if chosen.list:
        print("\n".join(names))
        return 0
    if chosen.quick:
        names = random.Random(1).sample(names, k=min(len(names), 45))
    bench, began = Bench(), time.monotonic()

    def wanted(name: str) -> int:
        kind = KINDS[name]
        if chosen.quick:
            return 1 if kind.heavy else 2
        return chosen.times * (3 if kind.heavy or kind.slow else kind.times)

    for party in parties(names, chosen.together):
        bench.play(party, {name: wanted(name) for name in party})
        print(
            f"\r{bench.runs} runs, {sum(tally.injections for tally in bench.tallies.values())}"
            " injections",
            end="",
            file=sys.stderr,
        )
    # A run that ended early owes its kinds some turns: they get them, each alone.
    for name in names:
        if (
            KINDS[name].path != "/health"
            and (owed := wanted(name) - bench.tallies[name].injections) > 0
        ):
            bench.play([name], {name: owed})
    bench.wrong += [
        f"{name} was never injected" for name in names if not bench.tallies[name].injections
    ]
    print(file=sys.stderr)
    print(
        f"{'kind':40} {'injections':>10} {'told':>5} {'kept':>5}  {'end':20} {'lost':>4} {'MB':>5} "
        " message"
    )
    for name in names:
        tally = bench.tallies[name]
        message = (tally.messages.most_common(1) or [("", 0)])[0][0]
        shown = ascii(message)[1:-1][:70]
        ends = ", ".join(tally.ends)
        print(
            f"{name[:40]:40} {tally.injections:10} {tally.told:5} {tally.kept:5}  {ends[:44]:20}"
            f" {tally.lost:4} {tally.peak_mb:5.0f}  {shown}"
        )
    all_of = bench.tallies.values()
    total = {
        what: sum(getattr(tally, what) for tally in all_of)
        for what in ("injections", "told", "kept", "lost")
    }
    peak = max(tally.peak_mb for tally in all_of)
    print(
        f"\n{len(names)} kinds, {total['injections']} injections in {bench.runs} runs and"
        f" {time.monotonic() - began:.0f} s: told {total['told']}, kept {total['kept']}, lost"
        f" {total['lost']}; tracebacks {sum('traceback' in line for line in bench.wrong)}; peak"
        f" {peak:.0f} MB; {len(bench.spoiled)} trials failed that met good answers alone"
    )
    for line in bench.spoiled:
        print(f"spoiled {ascii(line)[1:-1]}")
    for line in bench.wrong:
        print(f"wrong: {line}")
    return 1 if total["lost"] or bench.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
