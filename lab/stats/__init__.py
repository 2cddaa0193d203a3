"""Is this difference real, how large, and could the instrument even see it? Paired differences,
intervals, verdicts that can refuse."""

from lab.metrics import needed, supported
from lab.stats.compare import Comparison, compare_run, differences, holm
from lab.stats.decision import Verdict
from lab.stats.decompose import Parts, decompose
from lab.stats.drift import Drift, Tail, drift, failures, tail
from lab.stats.intervals import Interval, hodges_lehmann, quantile, ratio, shift
from lab.stats.paired_rows import ArmPairs, by_arm
from lab.stats.quality import Quality, quality_gate
from lab.stats.quantiles import paired_quantile, quantile_difference
from lab.stats.rules import Rules
from lab.stats.unpaired import Change, unpaired
from lab.stats.verdict import (
    Finding,
    Tone,
    VerdictText,
    finding,
    interval,
    lost,
    more_blocks,
    origin,
    tail_said,
    verdict,
    worthwhile,
)
from lab.stats.worst_ranks import Losses, worst_ranked

__all__ = [
    "ArmPairs",
    "Change",
    "Comparison",
    "Drift",
    "Finding",
    "Interval",
    "Losses",
    "Parts",
    "Quality",
    "Rules",
    "Tail",
    "Tone",
    "Verdict",
    "VerdictText",
    "by_arm",
    "compare_run",
    "decompose",
    "differences",
    "drift",
    "failures",
    "finding",
    "hodges_lehmann",
    "holm",
    "interval",
    "lost",
    "more_blocks",
    "needed",
    "origin",
    "paired_quantile",
    "quality_gate",
    "quantile",
    "quantile_difference",
    "ratio",
    "shift",
    "supported",
    "tail",
    "tail_said",
    "unpaired",
    "verdict",
    "worst_ranked",
    "worthwhile",
]
