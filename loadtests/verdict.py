"""What the users must be given: thresholds on ratios and errors, so that any machine can pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One request as its user saw it."""

    at_seconds: float
    name: str
    milliseconds: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Check:
    """One figure against its threshold; ``is_timing``: it also depends on what else runs."""

    what: str
    figure: float
    bound: str
    passed: bool
    is_timing: bool = False


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Bounds that a run must keep.

    ``tail_ratio``: p99 over p50 of one kind of request, profiles of 5 to 15 experiences among
    them. ``kept_rate``: requests/s of the last third over those of the first third.
    ``grown_memory``: resident memory of the API processes at the end over that after the first
    third, when what the service keeps has filled up.
    """

    failed_share: float = 0.0
    tail_ratio: float = 10.0
    kept_rate: float = 0.8
    grown_memory: float = 1.1
    fewest_requests: int = 50
    warm_up_seconds: float = 5.0


def judge(
    requests: Sequence[Request],
    memory_bytes: Sequence[tuple[float, int]],
    thresholds: Thresholds,
) -> list[Check]:
    """Every check of one run; ``memory_bytes`` are (time in seconds, bytes) over the run."""
    checks = [_errors(requests, thresholds)]
    start = min((request.at_seconds for request in requests), default=0.0)
    warm = [r for r in requests if r.at_seconds >= start + thresholds.warm_up_seconds]
    for name in sorted({request.name for request in warm}):
        times = [request.milliseconds for request in warm if request.name == name]
        if name.startswith(("bot", "team")):
            ratio = percentile(times, 99) / percentile(times, 50)
            bound = thresholds.tail_ratio
            checks.append(
                Check(f"{name}: p99 / p50", ratio, f"<= {bound:g}", ratio <= bound, is_timing=True)
            )
    checks.append(_rate(warm, thresholds))
    if memory_bytes:
        checks.append(_memory(memory_bytes, thresholds))
    return checks


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _errors(requests: Sequence[Request], thresholds: Thresholds) -> Check:
    if len(requests) < thresholds.fewest_requests:
        least = thresholds.fewest_requests
        return Check("requests", len(requests), f">= {least}", passed=False)
    share = sum(request.failed for request in requests) / len(requests)
    bound = thresholds.failed_share
    return Check("share of requests that failed", share, f"<= {bound:g}", share <= bound)


def _rate(requests: Sequence[Request], thresholds: Thresholds) -> Check:
    times = sorted(request.at_seconds for request in requests)
    first, last = (times[0], times[-1]) if times else (0.0, 0.0)
    third = (last - first) / 3
    early = sum(time < first + third for time in times)
    late = sum(time > last - third for time in times)
    kept = late / early if early else 0.0
    bound = thresholds.kept_rate
    return Check(
        "rate, last third / first third", kept, f">= {bound:g}", kept >= bound, is_timing=True
    )


def _memory(memory_bytes: Sequence[tuple[float, int]], thresholds: Thresholds) -> Check:
    first, last = memory_bytes[0][0], memory_bytes[-1][0]
    filled = [size for at, size in memory_bytes if at <= first + (last - first) / 3]
    end = [size for at, size in memory_bytes if at >= last - (last - first) / 10]
    grown = max(end) / max(filled)
    bound = thresholds.grown_memory
    return Check("memory, end / first third", grown, f"<= {bound:g}", grown <= bound)
