"""Open loads: what callers feel at half of the load, and what overload does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.serving_bench.contenders import Contender
from benchmarks.serving_bench.figures import Cell, percentile
from benchmarks.serving_bench.loads import Answer
from benchmarks.serving_bench.measure import Bench, Pace, running

Pattern = Literal["poisson", "paced"]

PER_REQUEST = 8
_PEAK, _PEAK_PACE = Cell("titles", PER_REQUEST, 16), Pace(0.5, 4.0)
_WARM_SECONDS = 2.0
_CONNECTIONS = 900
_CALM_SECONDS = 5.0
_AFTER_SECONDS = 10.0
OVERLOAD = 3.0
_GOOD_IN_A_ROW = 10


def peak_rate(bench: Bench, contender: Contender) -> float:
    """Requests/s that a contender answers now, with as many waiting as saturate it.

    Taken just before the load that is set by it: the machine's speed is another one minutes later.
    """
    texts = bench.take_texts(
        _PEAK.kind, _PEAK.per_request, _PEAK_PACE.warm_seconds + _PEAK_PACE.seconds
    )
    return bench.window(contender, _PEAK, texts, _PEAK_PACE).requests_per_second


def arrival_times(pattern: Pattern, per_second: float, seconds: float, seed: int) -> list[float]:
    """Ascending times within ``seconds``: exponential gaps (Poisson), or equal ones."""
    count = max(1, round(per_second * seconds))
    if pattern == "paced":
        return [number / per_second for number in range(count)]
    gaps = np.random.default_rng(seed).exponential(1.0 / per_second, size=2 * count + 50)
    times = np.cumsum(gaps)
    return [float(time) for time in times[times < seconds]]


def send(bench: Bench, contender: Contender, times: Sequence[float]) -> list[Answer]:
    """Ask a contender for 8 distinct titles at each time; the answers in that order."""
    first = bench.next_text
    bench.next_text += PER_REQUEST * len(times)
    job = {
        **bench.job(contender, "titles", PER_REQUEST, (first, len(times))),
        "mode": "open",
        "connections": _CONNECTIONS,
        "times": list(times),
    }
    return [Answer(*fields) for fields in bench.ask(contender, job)["answers"]]


def half_load(
    bench: Bench, contender: Contender, per_second: float, seconds: float, seed: int
) -> dict[str, Any]:
    """Latencies in seconds at half of a saturating rate, for Poisson and paced arrivals.

    ``lag`` is how late the client itself was; it is part of the latency.
    """
    found: dict[str, Any] = {"requests_per_second": per_second / 2}
    for pattern in ("poisson", "paced"):
        times = arrival_times(pattern, per_second / 2, _WARM_SECONDS + seconds, seed)
        with running(contender):
            answers = send(bench, contender, times)
        kept = [answer for answer in answers if answer.meant >= _WARM_SECONDS]
        good = [answer.latency for answer in kept if answer.status == 200]
        found[pattern] = {
            "answers": len(good),
            "errors": len(kept) - len(good),
            "p50": percentile(good, 0.5),
            "p90": percentile(good, 0.9),
            "p99": percentile(good, 0.99),
            "p999": percentile(good, 0.999),
            "max": max(good, default=float("nan")),
            "lag_p99": percentile([answer.lag for answer in kept], 0.99),
        }
    return found


def overload(
    bench: Bench, contender: Contender, per_second: float, seconds: float, seed: int
) -> dict[str, Any]:
    """A quarter of the saturating rate, then three times it, then a quarter again."""
    times = overload_times(per_second, seconds, seed)
    with running(contender):
        before = contender.tree.memory_bytes()
        answers = send(bench, contender, times)
        after = contender.tree.memory_bytes()
    found = read_overload(answers, _CALM_SECONDS, _CALM_SECONDS + seconds, per_second)
    return {**found, "memory_before": before, "memory_after": after}


def overload_times(per_second: float, seconds: float, seed: int) -> list[float]:
    """The three phases' arrivals, one after the other."""
    calm = arrival_times("poisson", per_second / 4, _CALM_SECONDS, seed)
    storm = arrival_times("poisson", per_second * OVERLOAD, seconds, seed + 1)
    later = arrival_times("poisson", per_second / 4, _AFTER_SECONDS, seed + 2)
    begin, end = _CALM_SECONDS, _CALM_SECONDS + seconds
    return [*calm, *(begin + time for time in storm), *(end + time for time in later)]


def read_overload(
    answers: Sequence[Answer], begin: float, end: float, peak_per_second: float
) -> dict[str, Any]:
    """What an overload between two times did.

    Goodput counts replies with status 200 that came within it, from its second second on.
    Recovery is the time from its end to the first of ten requests in a row that were answered
    within twice the p99 of the calm before; None when there were none.
    """
    calm = [a.latency for a in answers if a.meant < begin and a.status == 200]
    bound = 2 * percentile(calm, 0.99)
    storm = [a for a in answers if begin <= a.meant < end]
    came = [a for a in answers if a.status == 200 and begin + 1 <= a.meant + a.latency < end]
    refused = [a for a in storm if a.status == 429]
    goodput = len(came) / (end - begin - 1)
    return {
        "peak_requests_per_second": peak_per_second,
        "offered_requests_per_second": len(storm) / (end - begin),
        "goodput_requests_per_second": goodput,
        "goodput_of_peak": goodput / peak_per_second,
        "statuses": dict(Counter(str(a.status) for a in storm)),
        "refusal_p50": percentile([a.latency for a in refused], 0.5),
        "refusal_p99": percentile([a.latency for a in refused], 0.99),
        "refusals_with_retry_after": sum(a.retry_after for a in refused),
        "refusals": len(refused),
        "answer_p50": percentile([a.latency for a in storm if a.status == 200], 0.5),
        "answer_p99": percentile([a.latency for a in storm if a.status == 200], 0.99),
        "calm_p99": percentile(calm, 0.99),
        "recovery_seconds": _recovery([a for a in answers if a.meant >= end], end, bound),
    }


def _recovery(answers: Sequence[Answer], end: float, bound: float) -> float | None:
    good = [answer.status == 200 and answer.latency <= bound for answer in answers]
    for index in range(len(good) - _GOOD_IN_A_ROW + 1):
        if all(good[index : index + _GOOD_IN_A_ROW]):
            return answers[index].meant - end
    return None
