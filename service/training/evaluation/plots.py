"""The plots of a report as PNG; matplotlib is loaded here and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.training.evaluation.groups import ALL
from service.training.evaluation.result import Evaluation, FigureRow
from service.training.evaluation.tables import NAMES, cell

_INCHES = (6.4, 4.2)
_DOTS_PER_INCH = 90
# Okabe and Ito, "Color universal design" (2008): told apart with any colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True, slots=True)
class Plot:
    """A PNG with what it shows in words."""

    file: str
    caption: str
    content: bytes


def make_plots(evaluation: Evaluation) -> list[Plot]:
    """The learning curve where there are several shots, calibration, precision by recall."""
    styles = {
        method: (_COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)])
        for number, method in enumerate(dict.fromkeys(row.method for row in evaluation.figures))
    }
    plots = [_calibration(evaluation), _precision(evaluation, styles)]
    if len(evaluation.shots) > 1:
        plots.insert(0, _learning(evaluation, styles))
    return plots


Styles = Mapping[str, tuple[str, str]]


def _learning(evaluation: Evaluation, styles: Styles) -> Plot:
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("average_precision", "f1"), strict=True):
        for method, (colour, marker) in styles.items():
            rows = [row for row in evaluation.of(method) if row.by == ALL]
            _curve(axes, rows, name, method, colour, marker)
        axes.set_xscale("log", base=2)
        axes.set_xticks(evaluation.shots, [str(shots) for shots in evaluation.shots])
        axes.minorticks_off()
        axes.set_xlabel("examples of each label")
        axes.set_ylabel(NAMES[name])
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=7)
    return Plot(
        "learning-curve.png",
        "Learning curve: mean over the draws with its 95 % interval; dashed lines need no draw.",
        _png(figure),
    )


def _curve(
    axes: Axes, rows: list[FigureRow], name: str, method: str, colour: str, marker: str
) -> None:
    drawn = [(row.shots, row.intervals[name]) for row in rows if row.shots is not None]
    for row in rows:
        if row.shots is None:
            axes.axhline(row.intervals[name].value, color=colour, linestyle="--", label=method)
    if not drawn:
        return
    shots = [number for number, _ in drawn]
    axes.plot(shots, [found.value for _, found in drawn], color=colour, marker=marker, label=method)
    axes.fill_between(
        shots,
        [found.low for _, found in drawn],
        [found.high for _, found in drawn],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def _calibration(evaluation: Evaluation) -> Plot:
    bins = [found for found in evaluation.curves.calibration if found.weight > 0]
    figure = Figure(figsize=_INCHES, layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="as promised")
    upper.plot(
        [found.predicted for found in bins],
        [found.observed for found in bins],
        color=_COLOURS[0],
        marker=_MARKERS[0],
        label=evaluation.method,
    )
    upper.set_ylabel("observed share of in")
    upper.legend(fontsize=8)
    width = 1.0 / len(evaluation.curves.calibration)
    weights = [found.weight for found in evaluation.curves.calibration]
    places = [(number + 0.5) * width for number in range(len(weights))]
    lower.bar(places, weights, width=0.9 * width, color=_COLOURS[0])
    lower.set_ylabel("share of rows", fontsize=8)
    lower.set_xlabel("score")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    error = cell(_main_row(evaluation).intervals["calibration_error"])
    return Plot(
        "calibration.png",
        f"Reliability diagram of {_main_name(evaluation)}; calibration error {error}.",
        _png(figure),
    )


def _precision(evaluation: Evaluation, styles: Styles) -> Plot:
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    for curve in evaluation.curves.precision:
        colour, _ = styles[curve.method]
        style = "-" if curve.method == evaluation.method else "--"
        axes.plot(
            curve.recall, curve.precision, style, color=colour, label=curve.method, linewidth=1.4
        )
    row = _main_row(evaluation)
    axes.plot(
        row.intervals["recall"].value,
        row.intervals["precision"].value,
        color=_COLOURS[0],
        marker=_MARKERS[0],
        linestyle="",
        label="at the threshold",
    )
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    found = cell(row.intervals["average_precision"])
    return Plot(
        "precision-recall.png",
        f"Precision by recall of {_main_name(evaluation)} and what stands beside it; average "
        f"precision {found}.",
        _png(figure),
    )


def _main_row(evaluation: Evaluation) -> FigureRow:
    rows = [row for row in evaluation.of(evaluation.method) if row.by == ALL]
    return max(rows, key=lambda row: row.shots or 0)


def _main_name(evaluation: Evaluation) -> str:
    shots = _main_row(evaluation).shots
    return evaluation.method + (f" at {shots} + {shots} examples" if shots else "")


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # Without the name of its maker: equal figures, equal bytes.
    figure.savefig(stream, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()
