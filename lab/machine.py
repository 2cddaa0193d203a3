"""This machine: its cores and memory, its way out, and which process a process id means."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

# psutil is imported where it is used: on Linux most commands and the server need none of it.


def start_quickly() -> None:
    """For this process's whole life: a command imports thousands of classes, and to look among them
    for what is garbage took a quarter of its start."""
    gc.set_threshold(100_000, 50, 1000)


def cores() -> int:
    """Cores that this process may use, hyper-threads counted."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_cores() -> int:
    """Cores that this process may use, without counting hyper-threads: a second thread on a core
    only slows the first."""
    try:
        # psutil counts the whole machine's; a container may be given both threads of one core.
        topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        return len({Path(topology.format(cpu)).read_text() for cpu in os.sched_getaffinity(0)})
    except (OSError, AttributeError):
        import psutil

        return min(psutil.cpu_count(logical=False) or cores(), cores())


class Load(NamedTuple):
    processes: float
    """That wanted a core, on the average of the last minute."""
    cores: int

    @property
    def is_busy(self) -> bool:
        """Whether a process has to wait for a core."""
        return self.processes > self.cores


def load() -> Load:
    return Load(os.getloadavg()[0], cores())


def memory_mb() -> int:
    """Memory of the machine, in MiB."""
    import psutil

    return psutil.virtual_memory().total // 2**20


def facts() -> dict[str, Any]:
    """What a session's row keeps of this machine."""
    import platform

    return {
        "cpus": os.cpu_count(),
        "memory_mb": memory_mb(),
        "usable_cpus": cores(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "python": platform.python_version(),
    }


def is_loopback(host: str) -> bool:
    import ipaddress

    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy(url: str, socks: bool = False) -> str | None:
    """The URL of the proxy that the environment puts before an address (HTTPS_PROXY, HTTP_PROXY,
    ALL_PROXY, NO_PROXY, as the SDK reads them), its password in it; never one before a loopback
    address. With `socks` also one in ALL_PROXY, which the lab goes past."""
    from urllib.request import getproxies, proxy_bypass  # 20 ms that most commands need not spend

    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    # SOCKS for all needs a package that few have: the lab has always gone past it.
    for_all = proxies.get("all", "")
    is_passed = for_all.startswith("socks") and not socks
    found = proxies.get(parts.scheme) or ("" if is_passed else for_all)
    return (found if "://" in found else f"http://{found}") if found else None


def born(pid: int) -> str | None:
    """When a process started, in the system's own words: with the pid it names one process for
    good, and every process that asks is told the same. None if there is no such process."""
    try:
        if sys.platform == "linux":
            # Field 22, ticks since boot; counted after the command's name, which may hold spaces
            # and brackets. psutil adds the boot time to it, which moves when the clock is set.
            with open(f"/proc/{pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[19].decode()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except (OSError, IndexError):
        pass  # /proc is not what it should be
    import psutil

    try:
        return repr(psutil.Process(pid).create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None
