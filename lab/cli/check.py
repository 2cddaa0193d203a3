"""`check` and `compare`: a requirement is met, not met, or not decided yet by the interval, never by two bare numbers."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

from lab.cli import DONE, REFUSED, UNDECIDED, flags
from lab.model import LabError

if TYPE_CHECKING:
    import pandas as pd

    from lab.harness.reporter import RunResult

FEWEST = 6
"""Blocks below which no two-sided 95 % interval exists."""
LARGEST = 1e15
"""What the views count as no number of this world."""
CODES = {"pass": DONE, "fail": REFUSED, "not_enough_data": UNDECIDED}
SAYS = {"pass": "met", "fail": "NOT MET", "not_enough_data": "not enough data"}
SAYS_OF_WORSE = {"pass": "no", "fail": "YES", "not_enough_data": "not enough data"}

HIGHER_IS_BETTER = frozenset({"tokens_per_s", "quality", "cached_share"})

NUMBER, UNIT = r"(?P<amount>\d+(?:\.\d+)?)", r"\s*(?P<unit>ms|s|%|\$)?"
WHICH = r"(?:(?P<arm>.+?)\s+)?(?P<quantile>p\d{1,2}(?:\.\d+)?|median)\s+(?P<metric>\w+)"
BOUND = re.compile(rf"{WHICH}\s*(?P<sign><=|>=|<|>)\s*{NUMBER}{UNIT}")
FASTER = re.compile(
    rf"(?P<arm>.+?)\s+(?P<claim>faster|not slower)\s+than\s+(?P<other>.+?)(?:\s+by\s+{NUMBER}{UNIT})?(?:\s+on\s+(?P<metric>\w+))?"
)
WORSE = re.compile(rf"{WHICH}\s+worse\s+by\s+{NUMBER}{UNIT}")


@dataclass(frozen=True)
class Finding:
    requirement: str
    arm: str
    verdict: str
    seen: str
    estimate: float | None
    low: float | None
    high: float | None
    limit: float
    n: int
    needed: int | None = None


class Which(NamedTuple):
    technique: str
    arm: str


def handlers(name: str):
    return {"check": (check_flags, check), "compare": (compare_flags, compare)}[name]


def check_flags(parser: argparse.ArgumentParser) -> None:
    flags.which(parser)
    parser.add_argument(
        "--require",
        action="append",
        required=True,
        metavar="TEXT",
        help='repeatable: "caching.cached p95 ttft_ms < 400", "cached faster than uncached by 50%%", "b not slower than a by 20 ms"',
    )
    flags.as_json(parser)
    flags.database(parser)


def compare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "base",
        metavar="BASE",
        help="the run to be held against: id, name, `last~1`, or FILE.duckdb (its last run)",
    )
    parser.add_argument("new", metavar="NEW", help="the run in question, named the same ways")
    parser.add_argument(
        "--fail-if",
        action="append",
        required=True,
        metavar="TEXT",
        help='repeatable: "p95 ttft_ms worse by 10%%" (every arm they share), "cached p50 total_ms worse by 50 ms" (that arm)',
    )
    flags.as_json(parser)
    flags.database(parser)


def check(arguments: argparse.Namespace) -> int:
    from lab import results

    result = results.read(arguments.run)
    return _tell([judge(result, text) for text in arguments.require], arguments.json)


def compare(arguments: argparse.Namespace) -> int:
    from lab import results

    base, new = results.read(arguments.base), results.read(arguments.new)
    if base.run["endpoint_kind"] != new.run["endpoint_kind"]:
        raise LabError(
            f"BASE ran on {base.run['endpoint_kind']} and NEW on {new.run['endpoint_kind']}: such times are not comparable."
        )
    return _tell(
        [finding for text in arguments.fail_if for finding in regressions(base, new, text)],
        arguments.json,
        SAYS_OF_WORSE,
    )


def judge(result: RunResult, text: str) -> Finding:
    """One requirement on one run: a quantile against a limit, or one arm against another in the same blocks."""
    if match := BOUND.fullmatch(text.strip()):
        return _bound(result, text, match)
    if match := FASTER.fullmatch(text.strip()):
        return _faster(result, text, match)
    raise LabError(
        f'Cannot read the requirement {text!r}: write "ARM p95 ttft_ms < 400" or "ARM faster than ARM by 50%".'
    )


def _bound(result: RunResult, text: str, match: re.Match) -> Finding:
    from lab import stats

    quantile, limit, metric = _quantile(match), _limit(match), match["metric"]
    arm = find_arm(result, match["arm"])
    values = measured(result, arm, metric)
    found = stats.quantile(values, quantile)
    above = match["sign"].startswith(">")
    verdict = _side(found.low, found.high, limit, below="fail" if above else "pass")
    return _finding(text, arm, verdict, metric, found, limit, len(values), stats.needed(quantile))


def _faster(result: RunResult, text: str, match: re.Match) -> Finding:
    """Faster by 50 % means: value − 0.5 × baseline lies below zero, as a paired difference with its interval."""
    from lab import stats

    metric = match["metric"] or result.headline
    if not metric.endswith("_ms"):
        raise LabError(
            f"{text!r}: faster and slower are told by a duration, such as ttft_ms; {metric} is none."
        )
    arm, other = find_arm(result, match["arm"]), find_arm(result, match["other"])
    rows, others = (_blocks(result, which, metric) for which in (arm, other))
    both = rows.to_frame("value").join(others.to_frame("baseline"), how="inner").dropna()
    sign = -1 if match["claim"] == "faster" else 1
    amount = sign * _amount(match)
    share, offset = (
        (amount / 100, 0.0)
        if match["unit"] == "%"
        else (0.0, amount * (1000 if match["unit"] == "s" else 1))
    )
    found = stats.hodges_lehmann(both["value"] - (1 + share) * both["baseline"] - offset)
    verdict = _side(found.low, found.high, 0.0, below="pass")
    change = stats.hodges_lehmann(both["value"] - both["baseline"])
    return _finding(text, arm, verdict, metric, change, offset or share, len(both), FEWEST, found)


def regressions(base: RunResult, new: RunResult, text: str) -> list[Finding]:
    """`worse by 10%`: the interval of new/base (or new − base) must lie wholly on one side of the limit to decide."""
    from lab import stats, units

    match = WORSE.fullmatch(text.strip())
    if match is None:
        raise LabError(
            f'Cannot read {text!r}: write "p95 ttft_ms worse by 10%" or "ARM p50 total_ms worse by 50 ms".'
        )
    quantile, metric = _quantile(match), match["metric"]
    shared = [Which(*arm) for arm in new.arms() if arm in base.arms()]
    arms = [find_arm(new, match["arm"])] if match["arm"] else shared
    if not arms:
        raise LabError("The two runs have no arm in common.")
    findings = []
    for arm in arms:
        old, now = measured(base, arm, metric), measured(new, arm, metric)
        found = stats.unpaired(old, now, quantile)
        n = min(len(old), len(now))
        more_is_worse = metric not in HIGHER_IS_BETTER
        if match["unit"] == "%":
            change, share = found.ratio, _amount(match) / 100
            limit, as_text = (
                (1 + share if more_is_worse else 1 - share),
                (lambda value: f"{value - 1:+.1%}".replace("-", "−")),
            )
        else:
            change, limit = found.difference, _limit(match) * (1 if more_is_worse else -1)
            as_text = lambda value: units.value(metric, value, sign=True)
        verdict = _side(change.low, change.high, limit, below="pass" if more_is_worse else "fail")
        seen = f"{arm.arm} {match['quantile']} {metric} {_interval(change, as_text)}, n = {len(old)} and {len(now)}"
        # The interval speaks of other runs like these two; the very same values cannot be worse than themselves.
        if n >= stats.needed(quantile) and sorted(old) == sorted(now):
            verdict, seen = "pass", f"{seen}: the same values in both"
        needed = (
            _more(change.estimate, change.low, change.high, limit, n, stats.needed(quantile))
            if verdict == "not_enough_data"
            else None
        )
        findings.append(Finding(text, arm.arm, verdict, seen, *_numbers(change), limit, n, needed))
    return findings


def find_arm(result: RunResult, name: str | None) -> Which:
    """An arm by "arm" or "technique.arm"; the headline arm where none is named."""
    arms = [Which(*arm) for arm in result.arms()]
    if name is None:
        headline = result.run["settings"].get("headline", {})
        if headline.get("arm"):
            return Which(headline["technique"], headline["arm"])
        if arms:
            return arms[-1]
        raise LabError(
            "This run has no arm that can be read; `python main.py show` says what it has."
        )
    hits = [arm for arm in arms if name in (arm.arm, f"{arm.technique}.{arm.arm}")]
    if len(hits) == 1:
        return hits[0]
    listed = ", ".join(f"{arm.technique}.{arm.arm}" for arm in arms)
    raise LabError(
        f"{'Several arms are' if hits else 'No arm of this run is'} called {name!r}; it has {listed}."
    )


def measured(result: RunResult, arm: Which, metric: str) -> pd.Series:
    return _blocks(result, arm, metric).dropna()


def _blocks(result: RunResult, arm: Which, metric: str) -> pd.Series:
    """The arm's good trials by block; a repeated block counts once, as it went last, in whichever session."""
    from lab.store.queries import METRICS

    rows = result.trials
    if metric not in METRICS:
        raise LabError(f"There is no metric {metric!r}; try wait_ms, ttft_ms or total_ms.")
    rows = rows[
        (rows.technique == arm.technique)
        & (rows.arm == arm.arm)
        & (rows.phase == "measured")
        & (rows.outcome == "ok")
    ]
    return (
        rows.sort_values("attempt", kind="stable")
        .drop_duplicates("block", keep="last")
        .set_index("block")[metric]
        .astype(float)
    )


def _side(low: float | None, high: float | None, limit: float, below: str) -> str:
    above = "fail" if below == "pass" else "pass"
    if low is None or high is None:
        return "not_enough_data"
    return below if high < limit else above if low > limit else "not_enough_data"


def _finding(text, arm, verdict, metric, shown, limit, n, fewest, judged=None) -> Finding:
    from lab import units

    judged = judged or shown
    seen = f"{arm.arm} {metric} " + _interval(
        shown, lambda value: units.value(metric, value, sign=judged is not shown)
    )
    zero = 0.0 if judged is not shown else limit
    needed = (
        _more(judged.estimate, judged.low, judged.high, zero, n, fewest)
        if verdict == "not_enough_data"
        else None
    )
    return Finding(text, arm.arm, verdict, f"{seen}, n = {n}", *_numbers(shown), limit, n, needed)


def _more(estimate, low, high, limit, n, fewest) -> int | None:
    """How many more blocks it should take: at least those the percentile needs, else by the square root law."""
    if n < fewest or low is None or high is None:
        return max(fewest - n, 1)
    distance = abs(estimate - limit)
    if not distance:
        return None
    return max(round(n * ((high - low) / 2 / distance) ** 2) - n, 1)


def _interval(found, as_text) -> str:
    if found.low is None or found.high is None:
        return f"{as_text(found.estimate)} (no interval yet)" if found.n else "nothing measured"
    return f"{as_text(found.estimate)} [{as_text(found.low)}, {as_text(found.high)}]"


def _numbers(found) -> tuple[float | None, float | None, float | None]:
    return tuple(
        None if value is None or value != value else float(value)
        for value in (found.estimate, found.low, found.high)
    )


def _quantile(match: re.Match) -> float:
    quantile = 0.5 if match["quantile"] == "median" else float(match["quantile"][1:]) / 100
    if not quantile:
        raise LabError(
            f"{match['quantile']} is no percentile that trials can bound; try p50 or p95."
        )
    return quantile


def _limit(match: re.Match) -> float:
    """In the metric's own unit: seconds become milliseconds, per cent a share."""
    return _amount(match) * {"s": 1000.0, "%": 0.01}.get(match["unit"], 1.0)


def _amount(match: re.Match) -> float:
    amount = float(match["amount"] or 0)
    if amount > LARGEST:
        raise LabError(
            f"{match['amount'][:20]}… is no limit that any trial comes near; give one below 10^15."
        )
    return amount


def _tell(findings: list[Finding], as_json: bool, says: dict[str, str] = SAYS) -> int:
    verdicts = {finding.verdict for finding in findings}
    verdict = next((one for one in ("fail", "not_enough_data") if one in verdicts), "pass")
    if as_json:
        from lab.harness.reporter import as_text

        print(
            as_text(
                {
                    "version": 1,
                    "verdict": verdict,
                    "requirements": [asdict(finding) for finding in findings],
                }
            )
        )
    else:
        for finding in findings:
            more = f"; about {finding.needed:,} more blocks" if finding.needed else ""
            print(f"{says[finding.verdict]}: {finding.requirement} — {finding.seen}{more}")
    return CODES[verdict]
