"""Two recordings of one application, before and after a change: what became of its times, its
cache, its tokens and its dollars; and what must not have moved, or its times prove nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from lab import bounds, limit_words, metrics, units
from lab.bounds import LEVEL, UNDECIDED, Outcome
from lab.model import LabError
from lab.recorded_requirements import calls_of, hit_share
from lab.recording import relation
from lab.recording.scribe import ARM
from lab.recordings import Recording
from lab.stats import robust, shares, unpaired
from lab.stats.intervals import Interval, quantile
from lab.stats.unpaired import square_and_add

CONTROL_LEVEL = 0.99
"""Of each control: two of them are wrong together in 2 of 100 comparisons."""
SMALLEST_MS, SMALLEST_SHARE = 5.0, 0.1
"""Of a control that moved: less is no reason to doubt a first token."""
FEWEST_CALLS = 10
WORSE = re.compile(rf"{limit_words.OF_METRIC}{limit_words.WORSE_BY}")
WORSE_HITS = re.compile(rf"hit share\s+worse\s+by\s+{limit_words.NUMBER}\s*(?:points?|%)")
UNPROVEN = "unproven: "
UNKNOWN = (
    "neither the connection's time nor that to the headers is known in both recordings, so that a "
    "slower network would look the same"
)


class Row(NamedTuple):
    """One thing before and after."""

    words: str
    metric: str
    """How its values are written: a name of lab.metrics, or one with its unit's ending."""
    before: float
    after: float
    change: Interval
    is_time: bool = False
    is_control: bool = False

    @property
    def moved(self) -> bool:
        """Of a control: beyond chance, and by more than what does not matter."""
        low, high = self.change.low, self.change.high
        is_beyond = low is not None and (low > 0 or high < 0)
        return self.is_control and is_beyond and abs(self.change.estimate) > self._least

    @property
    def may_have_moved(self) -> tuple[float, ...]:
        """Of a control: how far down and up its interval reaches, where that matters."""
        return tuple(end for end in self.change[1:3] if end is not None and abs(end) > self._least)

    @property
    def _least(self) -> float:
        return max(SMALLEST_MS, SMALLEST_SHARE * abs(self.before))

    @property
    def told(self) -> str:
        """ "first token 2,100 ms → 900 ms: −1,190 ms [−1,300, −1,080], n = 40"."""
        ends = units.values(self.metric, self.before, self.after)
        change = bounds.seen_words(self.change, partial(units.value, self.metric, sign=True))
        if self.change.low is not None:
            change = units.estimated(self.metric, *self.change[:3])
        return f"{self.words} {ends[0]} → {ends[1]}: {change}, n = {self.change.n}"


class Changes(NamedTuple):
    rows: list[Row]
    doubt: str
    """Why the change of a time proves nothing; empty where the controls held, as closely as it
    takes."""


def compare(base: Recording, new: Recording) -> Changes:
    """LabError for recordings of different kinds of endpoint."""
    kinds = [recording.run["endpoint_kind"] for recording in (base, new)]
    if kinds[0] != kinds[1]:
        raise LabError(
            f"BASE was recorded on {kinds[0]} and NEW on {kinds[1]}: such times are not comparable."
        )
    controls = [row for row in (_connections(base, new), _headers(base, new)) if row]
    rows = [_first_tokens(base, new), _alike(base, new, "at_ms"), _hits(base, new)]
    rows += [
        _per_turn(base, new, "tokens a turn", "billed_tokens"),
        _per_turn(base, new, "dollars a turn", "cost_usd"),
    ]
    rows = [*filter(None, rows)]
    times = [row.change for row in rows if row.is_time and bounds.side(row.change, 0) != UNDECIDED]

    def stands(moved_ms: float) -> bool:
        return all(bounds.side(change, moved_ms) == bounds.side(change, 0) for change in times)

    return Changes([*rows, *controls], _doubt(controls, stands))


def _doubt(controls: Sequence[Row], stands: Callable[[float], bool]) -> str:
    """Why a time proves nothing; `stands` says whether what it shows would be the same had so many
    ms of it been the network's own."""
    known = [row for row in controls if row.change.low is not None]
    if not known:
        return UNKNOWN
    if moved := [row.told for row in known if row.moved]:
        return f"{' and '.join(moved)}, which no change of prompts explains"
    wide = [row.told for row in known if not all(map(stands, row.may_have_moved))]
    return f"{' and '.join(wide)}, too uncertain to say that the network held" if wide else ""


def judge(base: Recording, new: Recording, changes: Changes, text: str) -> Outcome:
    """`worse by …` of a percentile of the calls, or of the hit share; a time is decided only where
    the controls held."""
    if match := WORSE.fullmatch(text.strip()):
        return _worse(base, new, changes, text, match)
    if match := WORSE_HITS.fullmatch(text.strip()):
        row, limit = _hits(base, new), -float(match["amount"]) / 100
        if row is None:
            raise LabError("In one of the two nothing could have been read from a cache.")
        verdict = bounds.side(row.change, limit, below="fail")
        return bounds.outcome(
            text, ARM, verdict, row.told, row.change, limit, row.change.n, None, unit="call"
        )
    raise LabError(
        f'Cannot read {text!r} for recordings: write "p95 ttft_ms worse by 10%" or "hit share '
        'worse by 5 points".'
    )


def _worse(
    base: Recording, new: Recording, changes: Changes, text: str, match: re.Match
) -> Outcome:
    metric = match["metric"]
    asked, limit = limit_words.quantile_asked(match), limit_words.limit_asked(match)
    worse = -1 if metrics.METRICS[metric].higher_is_better else 1
    sides = [calls_of(recording, metric) for recording in (base, new)]
    (old, lost_before), (now, lost) = sides
    is_share = match["unit"] == "%"
    limit = 1 + worse * limit if is_share else worse * limit
    below: bounds.Verdict = "pass" if worse > 0 else "fail"

    def change(old: pd.Series, now: pd.Series) -> Interval:
        both = unpaired(old, now, asked, LEVEL)
        return both.ratio if is_share else both.difference

    interval = change(old, now)
    verdict = plain = bounds.side(interval, limit, below)
    if lost_before.n or lost.n:
        ranked = bounds.side(
            change(*(bounds.with_worst(*side, metric) for side in sides)), limit, below
        )
        if ranked != verdict:  # failed is not fast
            is_failing = lost.share > lost_before.share
            verdict = "fail" if ranked == "fail" and is_failing else UNDECIDED
    written = units.times if is_share else partial(units.value, metric, sign=True)
    seen = f"{match['quantile']} {metric} {bounds.seen_words(interval, written)}"
    counts = [", ".join(filter(None, (str(len(own)), gone.words))) for own, gone in sides]
    seen += f", n = {' and '.join(counts)} calls"
    needed = bounds.more_needed(interval, limit, interval.n, metrics.needed(asked))

    def stands(moved_ms: float) -> bool:
        return bounds.side(change(old, now - moved_ms), limit, below) == plain

    controls = [row for row in changes.rows if row.is_control]
    if metrics.METRICS[metric].is_time and (doubt := _doubt(controls, stands)):
        verdict, needed, seen = UNDECIDED, None, f"{seen}; {UNPROVEN}{doubt}"
    n = interval.n
    return bounds.outcome(text, ARM, verdict, seen, interval, limit, n, needed, lost.n, unit="call")


def _ended(calls: pd.DataFrame) -> pd.DataFrame:
    return calls[calls["error_kind"].isna()]


def _first_tokens(base: Recording, new: Recording) -> Row | None:
    old, now = (_ended(recording.calls)["ttft_ms"].dropna() for recording in (base, new))
    return _shifted("first token", "ttft_ms", old, now, is_time=True)


def _shifted(words: str, metric: str, old: pd.Series, now: pd.Series, **more: bool) -> Row | None:
    if old.empty or now.empty:
        return None
    level = CONTROL_LEVEL if more.get("is_control") else LEVEL
    before, after = (quantile(values, 0.5, level) for values in (old, now))
    return Row(
        words, metric, before.estimate, after.estimate, square_and_add(before, after), **more
    )


def _alike(base: Recording, new: Recording, clock: str, **more: bool) -> Row | None:
    """A clock at the same uncached and cached tokens: the shift of NEW beside what the prompts
    explain, of the model that both asked most (robust.fit says how sure)."""
    old, now = (_timed(recording, clock) for recording in (base, new))
    common = pd.concat([old["model"], now["model"]])
    common = common[common.isin(set(old["model"]) & set(now["model"]))].mode()
    old, now = (rows[rows["model"].isin(common[:1])] for rows in (old, now))
    if min(len(old), len(now)) < FEWEST_CALLS:
        return None
    rows = pd.concat([old, now])
    is_new = np.repeat([0.0, 1.0], [len(old), len(now)])
    x = np.column_stack([np.ones(len(rows)), is_new, rows["uncached"] / 1000, rows["read"] / 1000])
    x = x[:, [True, True, rows["uncached"].nunique() > 1, rows["read"].nunique() > 1]]
    if np.linalg.matrix_rank(x) < x.shape[1]:
        return None
    y = rows[clock].to_numpy(float)
    # Noise grows with the time itself: the scale of each is what a first fit makes of it.
    fitted = robust.fit(x, y)
    usual = x @ fitted.coefficients
    fitted = robust.fit(x, y, np.maximum(usual, max(float(np.median(y)) / 10, 1e-3)))
    level = CONTROL_LEVEL if more.get("is_control") else LEVEL
    weights = np.zeros(x.shape[1])
    weights[1] = 1
    shift = Interval(*fitted.interval(weights, level), min(len(old), len(now)))
    middle = x.mean(axis=0)
    middle[1] = 0
    before = float(middle @ fitted.coefficients)
    words = "first token at the same tokens" if clock == "at_ms" else "headers at the same tokens"
    more = more or {"is_time": True}
    return Row(words, "ttft_ms", before, before + shift.estimate, shift, **more)


def _timed(recording: Recording, clock: str) -> pd.DataFrame:
    rows = relation.points(recording.calls)
    if clock not in rows:
        calls = recording.calls
        headers = (calls["headers_at_ms"] - calls["sent_at_ms"]).astype(float)
        rows[clock] = rows["call_id"].map(dict(zip(calls["call_id"], headers, strict=True)))
    return rows.dropna(subset=clock)


def _headers(base: Recording, new: Recording) -> Row | None:
    return _alike(base, new, "headers_ms", is_control=True)


def _connections(base: Recording, new: Recording) -> Row | None:
    old, now = (
        recording.calls[["dns_ms", "connect_ms", "tls_ms"]].sum(axis=1, min_count=1).dropna()
        for recording in (base, new)
    )
    return _shifted("connection", "connect_ms", old, now, is_control=True)


def _hits(base: Recording, new: Recording) -> Row | None:
    (before, _), (after, _) = hit_share(base), hit_share(new)
    if not before.n or not after.n:
        return None
    change = square_and_add(before, after)
    return Row("hit share", "cached_share", before.estimate, after.estimate, change)


def _per_turn(base: Recording, new: Recording, words: str, name: str) -> Row | None:
    """The mean, which is what a bill is made of."""
    before, after = (shares.mean(_sums(recording, name), LEVEL) for recording in (base, new))
    if not before.n or not after.n:
        return None
    metric = "cost_usd" if name == "cost_usd" else "prompt_tokens"
    return Row(words, metric, before.estimate, after.estimate, square_and_add(before, after))


def _sums(recording: Recording, name: str) -> pd.Series:
    """By conversation, lane and turn; a turn with an unknown part is unknown."""
    calls = recording.calls.set_index("call_id")
    if name == "billed_tokens":
        values = calls["prompt_tokens"].astype(float) + calls["output_tokens"].astype(float)
    else:
        values = calls[name].astype(float)
    placed = recording.conversations.reindex(calls.index)
    turns = [placed[column].to_numpy() for column in ("conversation", "lane", "turn")]
    sums = values.groupby(turns).agg(lambda part: part.sum(skipna=False))
    return sums.dropna()
