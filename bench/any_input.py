"""Any input a user may give: `python -m bench.any_input [--minutes 10] [--only KIND] [--seed N]`.

Task files, requirements of `check` and `compare`, requests of `ab`, configs with their knobs,
secrets.toml, consents.json, LAB_API_KEYS, price lists: valid ones with edits, valid shapes with
strange values, and bytes. Each either works, down to the bodies that would be sent, or is a
LabError in one line; none is a traceback and none takes longer than TIMEOUT_S. Ends with 1 where
one does not hold, and prints the input.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from lab import endpoint_kinds, paths, pricing, requirements, results, scrub, techniques
from lab.cli import check, run
from lab.endpoints import consent, keys, registry
from lab.harness import estimate
from lab.harness.plan import SIDE_BY_SIDE, experiment
from lab.harness.reporters.json_object import as_text
from lab.instrumentation import otlp
from lab.model import LabError
from lab.scenarios import definitions
from lab.settings import config_of
from lab.store.store import Store
from tests.recorded_runs import record

TIMEOUT_S = 10
MEMORY = 4 << 30
"""Of the whole bench: an input that grows without end is a MemoryError, and takes no other program
down."""
TODAY = date(2026, 11, 25)
Check = Callable[[Any], None]


class Hang(KeyboardInterrupt):
    """An input that took longer than TIMEOUT_S; any other exception would be lost in an event
    loop's callback."""


# What is written

WORDS = st.sampled_from(
    [
        "",
        " ",
        "a",
        "What is a tide?",
        "p95",
        "ttft_ms",
        "cached",
        "caching.cached",
        "user",
        "text",
        "\0",
        "\ud800",
        "NaN",
        "💡",
        "../x",
    ]
)
TEXT = WORDS | st.text(st.characters(codec="utf-8"), max_size=30)
NUMBERS = (
    st.integers(-3, 300)
    | st.sampled_from([2**31, 2**63, 2**64, 10**30, -1, 1e308, 1e-320, float("nan"), float("inf")])
    | st.floats()
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT


def values(names: list[str]) -> st.SearchStrategy:
    """JSON values whose objects mostly have the names that mean something here."""
    made = SCALARS
    for _ in range(2):  # not st.recursive, which draws most of its time in vain
        made |= st.lists(made, max_size=2) | st.dictionaries(
            st.sampled_from(names) | WORDS, made, max_size=3
        )
    return made


GATEWAY = "https://gateway.example"
TASK = {
    "task_id": "t1",
    "category": "user",
    "prompt": "What is a tide?",
    "system": "Be brief.",
    "documents": ["The sea rises."],
    "tools": ["weather"],
    "difficulty": "easy",
    "check": {"kind": "facts", "facts": ["moon"]},
    "topology": {
        "workers": [{"name": "reader", "instruction": "Read.", "tools": []}],
        "join": "Join.",
    },
}
CHECKS = [
    {"kind": "exact", "answers": ["42"]},
    {"kind": "number", "value": 42, "tolerance": 0.5},
    {"kind": "regex", "pattern": "tid(e|al)"},
    {"kind": "json", "fields": {"a": 1}},
    {"kind": "judge", "criteria": "Is it right?"},
]
BODY = {
    "model": "m",
    "max_tokens": 16,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    "tools": [{"name": "t", "input_schema": {"type": "object"}}],
    "stream": True,
}
PRICES = (paths.ROOT / "data" / "prices.toml").read_text(encoding="utf-8")[:3_000]
RATES = {"input": 1.0, "output": 5.0, "write_5m": 1.25, "write_1h": 2.0, "read": 0.1}
PRICE = {
    "model": "m",
    "from": "2026-01-01",
    **RATES,
    "above": [{"tokens": 200_000, **RATES}],
    "fast": 6.0,
}
SECRETS = """
ANTHROPIC_API_KEY = "sk-ant-api03-0123456789abcdef"
[keys]
"https://gateway.example" = "key-0123456789abcdef"
[endpoints.gateway]
base_url = "https://gateway.example/v1"
api_key = "key-0123456789abcdef"
small = "m-small"
large = "m-large"
caching = "itself"
"""
CONFIG = {
    "technique": "streaming",
    "runs": 3,
    "warmup": 1,
    "seed": 1,
    "scenario": "rag",
    "arms": ["whole", "streamed"],
    "knobs": {"answer_tokens": 32},
    "models": {"small": "m"},
    "max_usd": 0.5,
    "keep_text": True,
    "deadline_s": 60,
    "target_half_width_ms": 50,
    "min_runs": 6,
    "max_runs": 20,
    "name": "n",
    "note": "n",
}
REQUIREMENTS = [
    "caching.cached p95 ttft_ms < 400",
    "cached faster than uncached by 50%",
    "cached not slower than uncached by 20 ms on total_ms",
    "p50 wait_ms >= 1 s",
    "cached median tokens_per_s > 3",
    "p95 ttft_ms worse by 10%",
    "cached p50 total_ms worse by 50 ms",
    "p99.9 cost_usd < 0.01 $",
]


@st.composite
def edited(draw: st.DrawFn, samples: list[str], parts: list[str]) -> str:
    """A valid text with a few pieces cut out, doubled, or put in from elsewhere."""
    text = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(start + draw(st.integers(0, 12)), len(text))
        piece = draw(st.sampled_from(["", text[start:end] * 2, *parts]) | TEXT)
        text = text[:start] + piece + text[end:]
    return text


@st.composite
def altered(draw: st.DrawFn, sample: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """A valid object in which some values, at any depth, are others, are gone, or have company."""
    value = json.loads(json.dumps(sample))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = value
        while isinstance(place, dict | list) and place:
            key = draw(
                st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
            )
            if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
                break
            place = place[key]
        if not place:
            break
        if draw(st.booleans()):
            place[key] = draw(values(names))
        elif isinstance(place, dict) and draw(st.booleans()):
            place[draw(st.sampled_from(names) | TEXT)] = draw(values(names))
        else:
            place.pop(key)
    return value


@st.composite
def mostly(draw: st.DrawFn, common: st.SearchStrategy, *rare: st.SearchStrategy) -> Any:
    """`common` three times in four; `|` would weigh each of the many branches of a rare one
    alike."""
    return draw(common if draw(st.integers(0, 3)) else st.one_of(*rare))


def written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def toml(value: Any, top: bool = True) -> str:
    """A value as TOML in one line a key; null has no word there, and is left out."""
    if isinstance(value, dict):
        lines = [
            f"{json.dumps(name)} = {toml(part, False)}"
            for name, part in value.items()
            if part is not None
        ]
        return "\n".join(lines) if top else "{" + ", ".join(lines) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(part, False) for part in value if part is not None) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


JSON_PARTS = [
    "{",
    "}",
    "[",
    "]",
    '"',
    ",",
    ":",
    "null",
    "NaN",
    "1e999",
    "\\ud800",
    "\n",
    "[" * 3_000,
    '{"a":' * 3_000,
    "9" * 4_400,
]
TOML_PARTS = [
    "[",
    "]",
    "[[",
    "=",
    '"',
    '"""',
    "\n",
    "inf",
    "nan",
    "2026-13-01",
    "1979-05-27",
    "a.b = 1\n",
    "a = " + "[" * 3_000,
    "9" * 4_400,
]
TASK_NAMES = [
    *TASK,
    "body",
    "messages",
    "role",
    "content",
    "type",
    "text",
    "kind",
    "answers",
    "value",
    "pattern",
    "fields",
    "facts",
]
BODY_NAMES = [
    *BODY,
    "role",
    "content",
    "type",
    "text",
    "cache_control",
    "name",
    "endpoint",
    "thinking",
]
TASKS = [
    TASK,
    *({**TASK, "check": check} for check in CHECKS),
    {"task_id": "b", "body": BODY},
    BODY,
]
LINES = st.one_of(
    *(altered(task, TASK_NAMES).map(written) for task in TASKS),
    edited(list(map(written, TASKS)), JSON_PARTS),
    st.dictionaries(st.sampled_from(TASK_NAMES), values(TASK_NAMES), max_size=4).map(written),
    TEXT,
)
TASK_FILES = st.lists(LINES, min_size=1, max_size=3).map("\n".join).map(
    lambda text: text.encode(errors="surrogatepass")
) | st.binary(max_size=60)
SIDE = altered({**BODY, "name": "a"}, BODY_NAMES)
SIDES = mostly(
    st.lists(SIDE, min_size=2, max_size=3),
    st.lists(values(BODY_NAMES), max_size=3),
    st.just([BODY] * 9),
)
ENDPOINT_NAMES = [
    "base_url",
    "api_key",
    "small",
    "large",
    "caching",
    "local",
    "endpoints",
    "keys",
    "ANTHROPIC_API_KEY",
]
PRICE_NAMES = [
    "prices",
    "model",
    "from",
    "input",
    "output",
    "write_5m",
    "write_1h",
    "read",
    "above",
    "tokens",
    "fast",
    "source",
]
KNOBS = sorted(
    {name for technique in techniques.all_techniques() for name in technique.knobs.model_fields}
)
CONFIG_NAMES = [*CONFIG, "tasks", "quick", "small", "large", "any", *KNOBS]


SIZES = (
    "runs",
    "warmup",
    "min_runs",
    "max_runs",
    "target_half_width_ms",
    "seed",
    "max_usd",
    "deadline_s",
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A config of any technique with any of its knobs, at and beyond their limits."""
    technique = draw(st.sampled_from(techniques.all_techniques()))
    config = {"technique": technique.slug, "runs": 2}
    config["knobs"] = {
        name: draw(values(CONFIG_NAMES) | st.just(field.default))
        for name, field in technique.knobs.model_fields.items()
        if draw(st.booleans())
    }
    for name in SIZES:
        if not draw(st.integers(0, 5)):
            config[name] = draw(NUMBERS)
    if draw(st.booleans()):
        config["tasks"] = draw(
            st.lists(
                st.sampled_from([TASK, {"prompt": "Hello"}, {"body": BODY}]), min_size=1, max_size=2
            )
        )
    if draw(st.booleans()):
        config["technique"] = SIDE_BY_SIDE
        arms = [f"{one.slug}.{arm.name}" for one in techniques.all_techniques() for arm in one.arms]
        config["arms"] = draw(st.lists(st.sampled_from(arms) | TEXT, max_size=3))
    return config


# What is done with it


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def use(tasks: list[definitions.Task]) -> None:
    """What a run does with tasks before and after its requests."""
    for task in tasks:
        definitions.check_characters(task.model_dump())
        for body in (
            task.body_for(64),
            task.body_for(64, tools=None),
            task.without_tools(64),
            definitions.judge_body(task, "an answer"),
        ):
            as_text(body)
        assert isinstance(task.question, str)
        _ = task.last_turn, task.instructed("Be brief.")
        definitions.team_for(task)
        definitions.prefix_text(task, 100)
        for answer in ("", "42", '{"a": 1} Answer: 42', "tide " * 2_000):
            share = definitions.score(task, answer)
            assert share is None or 0 <= share <= 1


class Inputs:
    """A folder of this bench's own, with a recorded run to hold requirements against."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = Store(folder / "lab.duckdb")
        self.result = results.read(record(store, blocks=8), store)
        self.base = results.read(record(store, blocks=6), store)
        self.secrets = folder / "secrets.toml"
        self.settings = folder / "settings"
        self.settings.mkdir()

    def task_file(self, content: bytes) -> None:
        file = self.folder / "tasks.jsonl"
        file.write_bytes(content)
        use(definitions.load(str(file), "simulated"))

    def planned(self, config: dict[str, Any]) -> None:
        """The estimate plays every arm's trial against a bench that only counts."""
        chosen = config_of(**{"endpoint": "simulated", **config})
        experiment(chosen, "simulated")
        if chosen.scenario in (None, *definitions.CATEGORIES):
            sentence = estimate.estimate(chosen).text
            assert "\n" not in sentence

    def requests(self, sides: Any) -> None:
        files = []
        for place, side in enumerate(sides if isinstance(sides, list) else [sides]):
            files.append(str(self.folder / f"side-{place}.json"))
            Path(files[-1]).write_bytes(written(side).encode(errors="surrogatepass"))
        self.planned(
            {
                "technique": "ab",
                "runs": 1,
                "knobs": {"bodies": run._objects(files, techniques.find("ab"))},
            }
        )

    def requirement(self, text: str) -> None:
        for judged in (
            lambda: [requirements.judge(self.result, text)],
            lambda: requirements.regressions(self.base, self.result, text),
        ):
            try:
                findings = judged()
            except LabError as refusal:
                one_line(refusal)
                continue
            for finding in findings:
                assert finding.verdict in check.CODES
                json.loads(as_text(asdict(finding)), parse_constant=refused)
                assert (
                    finding.limit is not None
                    and "inf" not in finding.seen
                    and "nan" not in finding.seen
                )

    def secret_file(self, text: str) -> None:
        self.secrets.write_bytes(text.encode(errors="surrogatepass"))
        with environment(LAB_SECRETS=str(self.secrets), LAB_IGNORE_KEYS="0"):
            self._endpoints()

    def api_keys(self, text: str) -> None:
        given = text.replace("\0", "").encode(errors="replace").decode()
        with environment(
            LAB_API_KEYS=given, LAB_SECRETS=str(self.folder / "none"), LAB_IGNORE_KEYS="0"
        ):
            self._endpoints()

    def _endpoints(self) -> None:
        keys.known()
        scrub.text("nothing secret")
        for name in registry.names():
            if name not in endpoint_kinds.own_servers():
                try:
                    repr(registry.find(name).model_for("large"))
                except LabError as refusal:
                    one_line(refusal)
        keys.key_for("https://gateway.example/v1")

    def consents(self, content: bytes) -> None:
        (self.settings / "consents.json").write_bytes(content)
        with environment(LAB_SETTINGS=str(self.settings), LAB_SECRETS=str(self.folder / "none")):
            for origin in consent.stored():
                assert isinstance(origin, str)
            consent.allow("https://gateway.example", key=False)
            assert consent.stored()["https://gateway.example"] is False
            assert consent.forget("https://gateway.example")

    def address(self, url: str) -> None:
        """A base URL, as --endpoint and in [keys], and an address of a receiver of traces."""
        for read in (
            keys.origin,
            lambda text: otlp.with_scheme(text, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ):
            try:
                assert read(url).isprintable()
            except LabError as refusal:
                one_line(refusal)

    def price_list(self, text: str) -> None:
        file = self.folder / "prices.toml"
        file.write_bytes(text.encode(errors="surrogatepass"))
        usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 300_000}
        with environment(LAB_PRICES=str(file)):
            pricing._parsed.cache_clear()
            rows = pricing.prices()
            for model in {row.model for row in rows}:
                cost = pricing.cost_usd(model, usage, TODAY)
                assert cost is None or 0 <= cost < float("inf")
            assert pricing.ceiling_usd("novel-1", usage, TODAY) >= 0
            pricing.remark([row.model for row in rows], TODAY)


def refused(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def one_line(refusal: LabError) -> None:
    text = scrub.text(str(refusal), scrub.MESSAGE)  # as the command line and the pages show it
    assert text.strip() and len(text.splitlines()) == 1, text
    assert "Traceback" not in text and "https://errors.pydantic.dev" not in text, text


KINDS: dict[str, st.SearchStrategy] = {
    "task_file": TASK_FILES,
    "planned": mostly(configs(), altered(CONFIG, CONFIG_NAMES)),
    "requests": SIDES,
    "requirement": (
        edited(
            REQUIREMENTS,
            [
                "p",
                "%",
                "ms",
                " by ",
                "<",
                ">=",
                "9" * 400,
                "0",
                "٣",
                "cached",
                "uncached",
                "p0",
                "p100",
            ],
        )
        | TEXT
    ),
    "secret_file": (
        edited([SECRETS], TOML_PARTS) | altered(tomllib.loads(SECRETS), ENDPOINT_NAMES).map(toml)
    ),
    "api_keys": mostly(
        altered({GATEWAY: "key-0123456789abcdef"}, [GATEWAY]).map(written),
        edited([f'{{"{GATEWAY}": "key"}}'], JSON_PARTS),
    ),
    "consents": (
        mostly(
            altered({GATEWAY: {"key": True}}, [GATEWAY, "key"]).map(written),
            edited([f'{{"{GATEWAY}": {{"key": true}}}}'], JSON_PARTS),
        ).map(lambda text: text.encode(errors="surrogatepass"))
        | st.binary(max_size=40)
    ),
    "address": (
        edited(
            [
                "https://gateway.example/v1",
                "http://127.0.0.1:8080",
                "http://[::1]:80",
                "localhost:4318",
                "https://bücher.example",
            ],
            [
                "@",
                ":",
                "/",
                "?",
                "#",
                "[",
                "]",
                "\\",
                "\t",
                "\u202e",
                "xn--",
                "%",
                "9" * 400,
                "a" * 300,
                "．",
            ],
        )
        | TEXT
    ),
    "price_list": (
        edited([PRICES], TOML_PARTS) | altered({"prices": [PRICE]}, PRICE_NAMES).map(toml)
    ),
}


def holds(inputs: Inputs, kind: str, value: Any) -> None:
    """Whether one input works or is refused in words, in time."""

    def over(*_: Any) -> None:
        raise Hang(f"{kind} took longer than {TIMEOUT_S} s: {value!r:.500}")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(TIMEOUT_S)
    try:
        getattr(inputs, kind)(value)
    except LabError as refusal:
        one_line(refusal)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def try_all(
    inputs: Inputs, kind: str, examples: int, number: int | None = None, tried: list | None = None
) -> None:
    """Hypothesis over one kind of input; it raises with the smallest input that breaks."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=number is None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
    )
    @given(KINDS[kind])
    def attempt(value: Any) -> None:
        if tried is not None:
            tried.append(1)
        holds(inputs, kind, value)

    try:
        (attempt if number is None else seed(number)(attempt))()
    except Hang as hang:  # as itself it would end a whole test session
        raise AssertionError(str(hang)) from None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="how long altogether (default 10)"
    )
    parser.add_argument("--only", choices=sorted(KINDS), help="one kind of input alone")
    parser.add_argument("--seed", type=int, default=0, help="where to begin (default 0)")
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    kinds = [chosen.only] if chosen.only else list(KINDS)
    tried: dict[str, list] = {kind: [] for kind in kinds}
    broken: dict[str, list[str]] = {kind: [] for kind in kinds}
    until, number = time.monotonic() + chosen.minutes * 60, chosen.seed
    with tempfile.TemporaryDirectory(prefix="lab-any-") as folder:
        inputs = Inputs(Path(folder))
        while time.monotonic() < until:
            number += 1
            for kind in kinds:
                try:
                    try_all(inputs, kind, 50, number, tried[kind])
                except Exception as error:
                    last = "".join(traceback.format_exception(error))[-1_500:]
                    broken[kind].append(f"seed {number}: {last}")
    for kind in kinds:
        print(f"{kind:12} {len(tried[kind]):7,} inputs, {len(broken[kind])} seeds of 50 that break")
    for kind, faults in broken.items():
        for fault in faults[:2]:
            print(f"\n{kind}: {fault}")
    return 1 if any(broken.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
