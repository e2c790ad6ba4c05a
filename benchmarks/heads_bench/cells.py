"""One recipe's figures on one draw, grouped, averaged and less a baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.arrays import Floats


@dataclass(frozen=True, slots=True)
class Cell:
    """One recipe on one draw of one task."""

    encoder: str
    recipe: str
    outs: bool
    shots: int
    family: str
    task: str
    seed: int
    figures: Mapping[str, float]

    @property
    def draw(self) -> tuple[str, bool, int, int]:
        """What recipes are compared on."""
        return self.task, self.outs, self.shots, self.seed


def grouped(cells: Sequence[Cell], *fields: str) -> dict[tuple[Any, ...], list[Cell]]:
    """Cells by some of their fields, in order of appearance."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(getattr(cell, field) for field in fields), []).append(cell)
    return groups


def mean(cells: Sequence[Cell], name: str) -> float:
    """Mean of one figure, leaving out where it is not defined; nan where it is nowhere."""
    values = [cell.figures[name] for cell in cells if not np.isnan(cell.figures[name])]
    return float(np.mean(values)) if values else float("nan")


def gain(cells: Sequence[Cell], base: Mapping[Any, Cell], figure: str) -> Floats:
    """Mean difference from the baseline float64[tasks], of the tasks where it was measured."""
    tasks = grouped([cell for cell in cells if cell.draw in base], "task").values()
    differences = [
        [cell.figures[figure] - base[cell.draw].figures[figure] for cell in task] for task in tasks
    ]
    return np.array([np.mean(each) for each in differences])
