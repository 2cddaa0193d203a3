"""What a figure of arms says: the finding of its run, never words of its own."""

from __future__ import annotations

from lab import metrics, stats
from lab.stats import Finding


def finding(known: Finding | None, metric: str) -> Finding:
    """A run's finding on the metric; what shows no judged run names the metric and claims
    nothing."""
    return known or stats.finding(None, metric)


def subtitle(known: Finding, metric: str, *parts: str) -> str:
    """What is drawn, and first that no verdict was planned on it, where that might be thought."""
    is_exploratory = metrics.find(metric).judged and not known.is_planned
    return " · ".join(filter(None, ("exploratory" if is_exploratory else "", *parts)))
