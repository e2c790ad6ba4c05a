"""The service against itself: several API workers, and repeated texts with a cache."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.serving_bench import arrivals
from benchmarks.serving_bench.contenders import (
    CACHE_SETTINGS,
    NOTHING_REFUSED,
    Contender,
    start_service,
)
from benchmarks.serving_bench.figures import Cell, Measurement
from benchmarks.serving_bench.measure import Bench, Pace, alternate
from service.settings import Settings

WORKERS = "workers"
CACHED = "cached"
_CACHE_BYTES = 64 * 1024 * 1024
_OVERLOADS = 3
# Few enough that every text has been asked for before the measured window begins.
_REPEATED_REQUESTS = 16

Measured = dict[str, dict[Cell, list[Measurement]]]


def cache_setting() -> str | None:
    """The variable that gives the service a cache for repeated texts; None where it has none."""
    known = {f"VOCATION_{name.upper()}" for name in Settings.model_fields}
    return next((name for name in CACHE_SETTINGS if name in known), None)


def compare_workers(
    bench: Bench, ours: Contender, work: Path, template: Path, rounds: int, pace: Pace
) -> Measured:
    """One API worker with a thread per CPU, and an API worker per CPU with one thread each."""
    cells = [
        Cell("titles", 1, 16),
        Cell("titles", 8, 16),
        Cell("titles", 8, 64),
        Cell("experiences", 8, 16),
    ]
    settings = {**NOTHING_REFUSED, "VOCATION_API_WORKERS": str(bench.cpus)}
    other = _variant(WORKERS, work, template, settings)
    try:
        return alternate(bench, [ours, other], cells, rounds, pace)
    finally:
        other.tree.stop()


def compare_cache(
    bench: Bench, ours: Contender, work: Path, template: Path, rounds: int, pace: Pace
) -> Measured | None:
    """Repeated texts without and with a cache; None where the service has none."""
    setting = cache_setting()
    if setting is None:
        return None
    cells = [Cell("titles", 1, 16), Cell("titles", 8, 16), Cell("experiences", 8, 16)]
    settings = {**NOTHING_REFUSED, "VOCATION_EMBEDDING_CACHE_BYTES": str(_CACHE_BYTES)}
    other = _variant(CACHED, work, template, settings)
    try:
        return alternate(bench, [ours, other], cells, rounds, pace, repeat=_REPEATED_REQUESTS)
    finally:
        other.tree.stop()


def measure_overload(
    bench: Bench, work: Path, template: Path, seconds: float, seed: int
) -> dict[str, Any]:
    """Overload of the service with its default settings, which refuse what would wait too long.

    Several times, each three times the rate that the same process had just before; what is found
    is that of the time with the median goodput, and the goodput of all of them.
    """
    service = _variant("overload", work, template, {})
    found = []
    try:
        for number in range(_OVERLOADS):
            peak = arrivals.peak_rate(bench, service)
            found.append(arrivals.overload(bench, service, peak, seconds, seed + number))
    finally:
        service.tree.stop()
    found.sort(key=lambda each: each["goodput_of_peak"])
    goodput = [each["goodput_of_peak"] for each in found]
    return {**found[len(found) // 2], "goodput_of_peak_all": goodput}


def _variant(name: str, work: Path, template: Path, settings: Mapping[str, Any]) -> Contender:
    home = work / f"{name}-home"
    shutil.copytree(template, home)
    contender = start_service(name, work, home, settings)
    contender.tree.pause()
    return contender
