"""Statistics of measured windows, and the figures of the summary; no clock, no process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.serving_bench.texts import Kind

SATURATING_CONNECTIONS = 16


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of unsorted values, ``share`` within 0 and 1; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 1e6) // 10**6))
    return ordered[min(rank, len(ordered)) - 1]


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One kind of load."""

    kind: Kind
    per_request: int
    connections: int

    @property
    def saturating(self) -> bool:
        """Whether every core has work waiting."""
        return self.connections >= SATURATING_CONNECTIONS

    def __str__(self) -> str:
        return f"{self.kind}, {self.per_request} per request, {self.connections} connections"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contender in one cell and round.

    Latencies are in seconds and of one request (of one text for the ceiling). Shares are of the time
    of all CPUs; ``other_cpu_share`` is that of everything but server and client.
    """

    requests_per_second: float
    experiences_per_second: float
    latency_p50: float
    latency_p99: float
    cpu_seconds_per_1000: float
    server_cpu_share: float
    client_cpu_share: float
    other_cpu_share: float
    memory_pss: int
    memory_peak_rss: int
    errors: Mapping[str, int]
    repeated: bool


# Measurements by contender and cell, one a round.
Results = Mapping[str, Mapping[Cell, Sequence[Measurement]]]


def medians(measurements: Sequence[Measurement], value: Callable[[Measurement], float]) -> float:
    """The median of one value over the rounds; NaN of none."""
    return median(map(value, measurements)) if measurements else float("nan")


def rate(measurement: Measurement) -> float:
    """Experiences a second."""
    return measurement.experiences_per_second


def cell_ratio(results: Results, ours: str, theirs: str, cell: Cell) -> float | None:
    """Median over the rounds of the ratio of two contenders' rates; None without both."""
    pairs = zip(
        results.get(ours, {}).get(cell, ()), results.get(theirs, {}).get(cell, ()), strict=False
    )
    ratios = [rate(mine) / rate(other) for mine, other in pairs if rate(other) > 0]
    return median(ratios) if ratios else None


def best_of(results: Results, names: Iterable[str], cell: Cell) -> str | None:
    """The contender with the largest median rate in a cell."""
    known = [name for name in names if results.get(name, {}).get(cell)]
    return max(known, key=lambda name: medians(results[name][cell], rate), default=None)


def saturating_cells(results: Results, ours: str, per_request: Sequence[int]) -> list[Cell]:
    """The measured cells that saturate, of some requests' sizes."""
    return [c for c in results.get(ours, {}) if c.saturating and c.per_request in per_request]


def ratio(results: Results, ours: str, theirs: str, per_request: Sequence[int]) -> float | None:
    """Median over the saturating cells of :func:`cell_ratio`."""
    cells = saturating_cells(results, ours, per_request)
    return _median_of(cell_ratio(results, ours, theirs, cell) for cell in cells)


def ratio_to_best(
    results: Results, ours: str, names: Sequence[str], per_request: Sequence[int]
) -> float | None:
    """As :func:`ratio`, against the best of some contenders in each cell."""
    found: list[float | None] = []
    for cell in saturating_cells(results, ours, per_request):
        best = best_of(results, names, cell)
        found.append(cell_ratio(results, ours, best, cell) if best else None)
    return _median_of(found)


def summary(
    results: Results, peers: Sequence[str], half_load: Mapping[str, float] | None
) -> dict[str, float | None]:
    """The six figures that the module's docstring defines."""
    tail = half_load["p99"] / half_load["p50"] if half_load else None
    figures = {
        "of_ceiling_8": ratio(results, "vocation", "ceiling", (8,)),
        "of_bare_8": ratio(results, "vocation", "bare", (8,)),
        "of_bare_1": ratio(results, "vocation", "bare", (1,)),
        "of_best_peer": ratio_to_best(results, "vocation", peers, (1, 8)),
        "of_setfit_torch": ratio(results, "vocation", "setfit_torch", (1, 8)),
        "p99_over_p50_half_load": tail,
    }
    return {
        name: None if value is None or value != value else round(value, 3)  # noqa: PLR0124 - NaN
        for name, value in figures.items()
    }


def _median_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
