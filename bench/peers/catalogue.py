"""The clients that are compared, at the versions that were: what is installed, the command that
puts the load, and who reads what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.peers import exports
from bench.peers.bias import Told
from lab import paths

HERE = Path(__file__).parent / "clients"
AIPERF, GUIDELLM = "aiperf==0.13.0", "guidellm==0.8.1"
CPU_TORCH = "torch==2.13.0+cpu"
AIOHTTP, SDK = "aiohttp==3.14.5", "anthropic==2.12.0"
TOKENS = 64
PROMPT = "Tell me about the harbour in a few plain words."


class Load(NamedTuple):
    """What every client is asked for: a closed loop whose streams begin spread over `over_s`."""

    url: str
    streams: int
    requests: int
    over_s: float
    programs: Path
    """The bin folder of the client's environment."""
    letters: Path
    """A tokenizer that needs no download."""
    work: Path
    """An empty folder: where the command stands, and what it writes."""


class Client(NamedTuple):
    name: str
    packages: tuple[str, ...]
    """As pip takes them."""
    command: Callable[[Load], list[str]]
    read: Callable[[Path], list[Told]]
    """From the folder `work`."""
    or_packages: tuple[str, ...] = ()
    """Where pip finds not all of the first."""
    has_letters: bool = False
    variables: tuple[tuple[str, str], ...] = ()
    """Of its environment; {work} stands for the folder."""

    @property
    def slug(self) -> str:
        return self.name.split(",")[0].lower().replace(" ", "-")


def of_lab(load: Load) -> list[str]:
    asked = f"--concurrency {load.streams} --requests {load.requests} --max-tokens {TOKENS}"
    return [
        *(str(load.programs / "python"), str(paths.ROOT / "main.py"), "load"),
        *("--endpoint", load.url, "--model", "known", *asked.split()),
        *("--db", str(load.work / "lab.duckdb"), "--json", "--yes"),
    ]


def of_aiperf(endpoint: str) -> Callable[[Load], list[str]]:
    def command(load: Load) -> list[str]:
        flags = f"""--endpoint-type {endpoint} --streaming --use-server-token-count --isl 50
            --osl {TOKENS} --request-count {load.requests} --concurrency {load.streams}
            --concurrency-ramp-duration {load.over_s} --ui-type none --model known"""
        return [
            *(str(load.programs / "aiperf"), "profile", "--url", load.url, *flags.split()),
            *("--tokenizer", str(load.letters), "--output-artifact-dir", str(load.work)),
        ]

    return command


def of_guidellm(load: Load) -> list[str]:
    prompts = load.work / "prompts.jsonl"
    prompts.write_text((json.dumps({"prompt": PROMPT}) + "\n") * load.requests)
    answers = f"target={load.url},model=known,max_tokens={TOKENS}"
    profile = f"kind=concurrent,streams={load.streams},rampup_duration={load.over_s}"
    return [
        *(str(load.programs / "guidellm"), "run", "--disable-console-interactive"),
        *("--backend", f"kind=openai_http,{answers}", "--profile", profile),
        *("--constraint", f"kind=max_requests,count={load.requests}"),
        *("--data", f"kind=json_file,path={prompts}"),
        *("--tokenizer", f"kind=huggingface_auto,model={load.letters}"),
        *("--output", f"kind=json,path={load.work / 'export.json'}"),
    ]


def of_script(file: str) -> Callable[[Load], list[str]]:
    def command(load: Load) -> list[str]:
        words = (load.url, load.streams, load.requests, load.over_s)
        return [str(load.programs / "python"), str(HERE / file), *map(str, words)]

    return command


LAB_ALONE = (
    ("LAB_RUNTIME", "{work}/runtime"),
    ("LAB_SETTINGS", "{work}/settings"),
    ("LAB_IGNORE_KEYS", "1"),
)
OURS = Client(
    "this lab",
    ("-r", str(paths.ROOT / "requirements.txt")),
    of_lab,
    exports.lab,
    variables=LAB_ALONE,
)
REFERENCES = (
    Client("aiohttp, raw bytes", (AIOHTTP,), of_script("aiohttp_raw.py"), exports.stamps),
    Client("anthropic, create(stream=True)", (SDK,), of_script("sdk_create.py"), exports.stamps),
)
_guidellm = ((GUIDELLM, CPU_TORCH), of_guidellm, exports.guidellm, (GUIDELLM,), True)
PEERS = (
    Client("AIPerf, messages", (AIPERF,), of_aiperf("messages"), exports.aiperf, (), True),
    Client("AIPerf, chat", (AIPERF,), of_aiperf("chat"), exports.aiperf, (), True),
    Client("GuideLLM, as it comes", *_guidellm),
    Client("GuideLLM, 1 worker", *_guidellm, (("GUIDELLM__MAX_WORKER_PROCESSES", "1"),)),
)
CLIENTS = (OURS, *PEERS, *REFERENCES)
