"""The comparison as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.serving_bench.figures import Results, medians, rate

mpl.use("Agg")

from matplotlib import pyplot as plt

_COLOURS = {
    "ceiling": "#9e9e9e",
    "ceiling_packed": "#9e9e9e",
    "bare": "#c7b299",
    "vocation": "#1b6ca8",
}
_PEER_COLOUR = "#d98c5f"


def write_plot(results: Results, path: Path) -> None:
    """Write throughput and latency of every contender, a column of panels for each cell."""
    cells = sorted({cell for measured in results.values() for cell in measured})
    cells = [cell for cell in cells if cell.saturating] or cells
    figure, axes = plt.subplots(
        2, len(cells), figsize=(3.4 * len(cells), 6.4), squeeze=False, layout="constrained"
    )
    for column, cell in enumerate(cells):
        names = [name for name, measured in results.items() if measured.get(cell)]
        rates = [medians(results[name][cell], rate) for name in names]
        _bars(axes[0][column], names, rates, str(cell).replace(", ", "\n", 1))
        served = [name for name in names if not name.startswith("ceiling")]
        _latencies(axes[1][column], served, results, cell)
    axes[0][0].set_ylabel("experiences per second")
    axes[1][0].set_ylabel("latency, ms (p50 to p99)")
    figure.savefig(path)
    plt.close(figure)


def _bars(axis: Any, names: list[str], values: list[float], title: str) -> None:
    colours = [_COLOURS.get(name, _PEER_COLOUR) for name in names]
    bars = axis.bar(names, values, color=colours)
    axis.bar_label(bars, fmt="{:,.0f}", fontsize=7)
    axis.set_title(title, fontsize=9)
    _plain_axis(axis)


def _latencies(axis: Any, names: list[str], results: Results, cell: Any) -> None:
    for name in names:
        colour = _COLOURS.get(name, _PEER_COLOUR)
        low = 1000 * medians(results[name][cell], lambda m: m.latency_p50)
        high = 1000 * medians(results[name][cell], lambda m: m.latency_p99)
        axis.plot([name, name], [low, high], color=colour, linewidth=3)
        axis.plot([name], [low], "o", color=colour)
    axis.set_yscale("log")
    for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        ticks("{x:,.0f}")
    _plain_axis(axis)


def _plain_axis(axis: Any) -> None:
    axis.tick_params(axis="x", rotation=60, labelsize=7)
    axis.tick_params(axis="y", which="both", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
