"""The tables: recipes over all tasks, beside a baseline, and by kind of task."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from benchmarks.arrays import Floats
from benchmarks.heads_bench.cells import Cell, gain, grouped, mean
from benchmarks.recipes.compared import RECIPES
from benchmarks.redraws import REDRAWS, interval


def print_recipes(cells: Sequence[Cell]) -> None:
    """One line per recipe, outs and shots, averaged over all tasks and draws."""
    print("\n| recipe | outs | shots | AP | F1 | best F1 | F1 / best | per task | ECE | log loss |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ordered = sorted(cells, key=lambda cell: list(RECIPES).index(cell.recipe))
    for (name, shots, outs), group in grouped(ordered, "recipe", "shots", "outs").items():
        ratio = np.mean([cell.figures["F1"] / cell.figures["best F1"] for cell in group])
        means = [mean(group, figure) for figure in ("AP", "F1", "best F1")]
        print(
            f"| {name} | {'yes' if outs else 'no'} | {shots} |",
            " | ".join(shown(cell) for cell in means),
            f"| {means[1] / means[2]:.3f} | {ratio:.3f}",
            f"| {shown(mean(group, 'ECE'))} | {shown(mean(group, 'log loss'))} |",
        )


def print_beside(cells: Sequence[Cell], baseline: str, shots: Sequence[int]) -> None:
    """One line per recipe: by shots without and with outs, and less the baseline on equal draws.

    Intervals (95 %) are over redrawn tasks; recipes without examples are met with nothing.
    """
    columns = list(itertools.product(("AP", "F1"), (False, True), shots))
    heads = [f"{figure}{' outs' if outs else ''} {count}" for figure, outs, count in columns]
    print(f"\nless {baseline!r}; intervals over {REDRAWS} redraws of the tasks")
    print(f"| recipe | {' | '.join(heads)} | AP less | F1 less | higher AP |")
    print("|---" * (len(heads) + 4) + "|")
    base = {cell.draw: cell for cell in cells if cell.recipe == baseline}
    ordered = sorted(cells, key=lambda cell: list(RECIPES).index(cell.recipe))
    for (name,), group in grouped(ordered, "recipe").items():
        sides = grouped(group, "outs", "shots")
        free = sides.get((False, 0), [])
        means = [mean(sides.get((outs, count), free), figure) for figure, outs, count in columns]
        gains = [gain(group, base, figure) for figure in ("AP", "F1")]
        texts = [changed(each) for each in gains]
        higher = f"{int((gains[0] > 0).sum())} of {len(gains[0])}" if len(gains[0]) else "-"
        print(f"| {name} | {' | '.join(map(shown, means))} | {' | '.join(texts)} | {higher} |")
    families = list(dict.fromkeys(cell.family for cell in cells))
    print("\nAverage precision by kind of task, over all shots, and less the baseline")
    print(f"| recipe | {' | '.join(families)} |")
    print("|---" * (len(families) + 1) + "|")
    for (name,), group in grouped(ordered, "recipe").items():
        kinds = [[cell for cell in group if cell.family == kind] for kind in families]
        parts = [f"{mean(kind, 'AP'):.3f} {changed(gain(kind, base, 'AP'))}" for kind in kinds]
        print(f"| {name} | {' | '.join(parts)} |")


def print_families(cells: Sequence[Cell], recipe: str) -> None:
    """One line per family, outs and shots of one recipe."""
    print(f"\n{recipe}, by kind of task")
    print("| tasks | outs | shots | AP | F1 | best F1 | ECE | in band | wrong in | wrong outside |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    names = ("AP", "F1", "best F1", "ECE", "in band", "wrong in band", "wrong outside")
    own = [cell for cell in cells if cell.recipe == recipe]
    for (family, shots, outs), group in grouped(own, "family", "shots", "outs").items():
        figure_cells = " | ".join(shown(mean(group, figure)) for figure in names)
        print(f"| {family} | {'yes' if outs else 'no'} | {shots} | {figure_cells} |")


def changed(values: Floats) -> str:
    """A mean difference, with its interval where it is one of several tasks."""
    if not len(values):
        return "-"
    return f"{values.mean():+.3f}" + (f" [{interval(values)}]" if len(values) > 1 else "")


def shown(value: float) -> str:
    """A figure, or a dash where there is none."""
    return "-" if np.isnan(value) else f"{value:.3f}"
