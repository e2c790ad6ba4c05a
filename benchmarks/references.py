"""How far real scores are from a version's reference while nothing drifts: the line of its alert.

One command: ``python -m benchmarks.references [--data ../shared/data] [--draws 2]
[--shots 8 16 32]``. Tasks, draws and true shares of positives are those of `benchmarks.heads`
(training rows). Each draw is fitted as a version is; the judged rows are then what would be scored.
"distance": largest difference of the two cumulative shares at the bounds of
``vocation_scores_total``, as the rule ``VocationTrainingDrift`` computes it; "in": share of the rows
that are `in` over the share that the reference expects.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.arrays import Embeddings
from benchmarks.dev_tasks.embedder import Embedder
from benchmarks.dev_tasks.experiences import experience_tasks
from benchmarks.dev_tasks.materials import Materials
from benchmarks.dev_tasks.task import Task, drawn
from benchmarks.dev_tasks.titles import title_tasks
from service.settings import DEFAULT_ENCODER
from service.telemetry.predictions import SCORE_EDGES
from service.training.background import read_background
from service.training.calibration import sigmoid
from service.training.head import fit_head

Found = dict[tuple[str, bool, int], list[tuple[float, float]]]


def met(task: Task, shots: int, seed: int, crowd: Embeddings, *, outs: bool) -> tuple[float, float]:
    """Distance of the judged rows' scores to the reference, and found over expected `in`."""
    rows, labels = drawn(task, shots, seed, outs=outs)
    fit = fit_head(
        rows, labels, crowd, prevalence=task.prevalence, seed=0, hints=task.name_embedding
    )
    judged = task.embeddings[task.judged].astype(np.float64)
    scores = sigmoid(judged @ fit.weights + fit.bias)
    below = np.array([*((scores <= edge).mean() for edge in SCORE_EDGES), 1.0])
    close = (scores >= fit.uncertain_low) & (scores <= fit.uncertain_high)
    inside = float(((scores >= fit.threshold) & ~close).mean())
    return float(np.abs(below - fit.reference.scores).max()), inside / fit.reference.inside


def show(found: Found, draws: int) -> None:
    """One line for each kind of task, with and without `out` examples, and number of shots."""
    print(f"seeds 0 to {draws - 1}; numpy {importlib.metadata.version('numpy')}")
    print("| tasks | outs | shots | distance | largest | in, 10 % | median | 90 % |")
    print("|---|---|---|---|---|---|---|---|")
    for (family, outs, shots), values in found.items():
        distances, ratios = np.array(values).T
        low, median, high = np.quantile(ratios, [0.1, 0.5, 0.9])
        print(
            f"| {family} | {'yes' if outs else 'no'} | {shots} | {distances.mean():.3f} "
            f"| {distances.max():.3f} | {low:.2f} | {median:.2f} | {high:.2f} |"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--background", type=Path, default=Path("models/background/background.jsonl")
    )
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--shots", nargs="+", type=int, default=[8, 16, 32])
    options = parser.parse_args(argv)
    embed = Embedder(DEFAULT_ENCODER)
    rows = read_background(options.background)
    titles = frozenset((row.title or "").lower() for row in rows)
    materials = Materials(options.data, embed, titles)
    crowd = embed([row.rendered for row in rows])
    found: Found = {}
    # Other work on the machine makes threads that wait for each other very slow.
    with threadpool_limits(limits=1):
        tasks = [*title_tasks(materials), *experience_tasks(materials, final=False)]
        draws = itertools.product(tasks, (False, True), options.shots, range(options.draws))
        for task, outs, shots, seed in draws:
            if task.inside[task.pool].sum() >= shots:
                cell = met(task, shots, seed, crowd, outs=outs)
                found.setdefault((task.family, outs, shots), []).append(cell)
    show(found, options.draws)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
