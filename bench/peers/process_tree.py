"""What a process and all that descend from it cost: read twice a second from /proc (Linux), by a
reader that keeps off the core of the process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from lab.clock import now_ns

TICK_S, PAGE_MB = 1 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE") / 2**20
PROC = Path("/proc")


class Sample(NamedTuple):
    at_ns: int
    cpu_s: float
    """Of all so far, the ended ones too."""
    rss_mb: float
    """Summed over processes: a page that two of them share counts twice."""
    processes: int


class Stat(NamedTuple):
    """The parts of /proc/PID/stat that are used."""

    parent: int
    session: int
    cpu_s: float
    rss_mb: float
    core: int
    """On which it ran last."""


def stat(text: str) -> Stat:
    """The second word is a name in brackets, which may hold any character."""
    words = text.rpartition(")")[2].split()
    return Stat(
        int(words[1]),
        int(words[3]),
        (int(words[11]) + int(words[12])) * TICK_S,
        int(words[21]) * PAGE_MB,
        int(words[36]),
    )


def busy_s(core: int | None) -> float:
    """CPU seconds since the machine started that a core has worked, or its host kept from it; but
    for what runs now and gives way at once (SCHED_IDLE). 0 of no core."""
    for line in (PROC / "stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _, _, _, _, stolen = (int(word) for word in line.split()[1:9])
            return (user + nice + system + stolen) * TICK_S - _yielding_s(core)
    return 0.0


def _yielding_s(core: int) -> float:
    total_s = 0.0
    for pid in (int(name) for name in os.listdir(PROC) if name.isdigit()):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(pid) == os.SCHED_IDLE:
                one = stat((PROC / str(pid) / "stat").read_text(errors="replace"))
                total_s += one.cpu_s if one.core == core else 0.0
    return total_s


class ProcessTree:
    """A process that leads a session of its own, and everything that it started."""

    def __init__(self, root: int) -> None:
        self.root, self.samples = root, [Sample(now_ns(), 0.0, 0.0, 1)]
        self.cpu_s: dict[int, float] = {}

    def look(self) -> None:
        alive = self.alive()
        self.cpu_s |= {pid: one.cpu_s for pid, one in alive.items()}
        rss_mb = sum(one.rss_mb for one in alive.values())
        self.samples.append(Sample(now_ns(), sum(self.cpu_s.values()), rss_mb, len(alive)))

    def alive(self) -> dict[int, Stat]:
        """By process id, parents before children: ids rise, and none is older than the root."""
        alive: dict[int, Stat] = {}
        for pid in sorted(int(name) for name in os.listdir(PROC) if name.isdigit()):
            if pid < self.root:
                continue
            try:
                one = stat((PROC / str(pid) / "stat").read_text(errors="replace"))
            except (OSError, IndexError):
                continue
            if pid == self.root or one.session == self.root or one.parent in alive:
                alive[pid] = one
        return alive

    def cpu_until(self, at_ns: int) -> float:
        """CPU seconds until an instant, straight between two samples."""
        before = self.samples[0]
        for sample in self.samples[1:]:
            if sample.at_ns >= at_ns:
                share = (at_ns - before.at_ns) / max(1, sample.at_ns - before.at_ns)
                return before.cpu_s + max(0.0, share) * (sample.cpu_s - before.cpu_s)
            before = sample
        return before.cpu_s

    @property
    def peak_rss_mb(self) -> float:
        return max(sample.rss_mb for sample in self.samples)

    @property
    def most_processes(self) -> int:
        return max(sample.processes for sample in self.samples)
