"""One method on one draw, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Result:
    """One method on one draw."""

    task: str
    method: str
    shots: int
    seed: int
    f1: float
    average_precision: float
    seconds: float
    processor_seconds: float
    promoted: bool | None = None
    gate_difference: float | None = None
    gate_standard_error: float | None = None


def print_table(results: Sequence[Result]) -> None:
    """One line for each task, number of shots and method: means, and 95 % intervals of F1."""
    print(
        "\n| task | shots | method | F1 | ± | average precision | seconds | processor s | promoted |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    cells: dict[tuple[str, int, str], list[Result]] = {}
    for result in results:
        cells.setdefault((result.task, result.shots, result.method), []).append(result)
    for (name, shots, method), found in cells.items():
        scores = [result.f1 for result in found]
        spread = 1.96 * np.std(scores, ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else 0.0
        promoted = [result.promoted for result in found if result.promoted is not None]
        print(
            f"| {name} | {shots} | {method} | {np.mean(scores):.3f} | {spread:.3f} "
            f"| {np.mean([result.average_precision for result in found]):.3f} "
            f"| {np.mean([result.seconds for result in found]):.1f} "
            f"| {np.mean([result.processor_seconds for result in found]):.1f} "
            f"| {f'{sum(promoted)} of {len(promoted)}' if promoted else ''} |"
        )
