"""Does it pay to choose what to label? Sixteen chosen labels beside 32 random ones.

One command: ``python -m benchmarks.suggesting [--data ../shared/data] [--draws 5] [--start 8]
[--strategies ...] [--heads served gentle] [--rounds 1 2] [--json FILE]``.
The tasks are those of `benchmarks.heads`: training rows only, each split by a hash of the text
into rows to draw from and rows to judge on, at their natural share of positives. A researcher has
``--start`` random `in` examples and up to ``--pool`` random unlabelled rows, in which positives are
as rare as they are. A strategy picks 16 of them, all at once or in two rounds with a retraining in
between; their true labels are given; the head is fitted again and judged by average precision.
``32 random`` are the first 32 rows of the same pool: the same work for the researcher, twice. The
class-balanced lines draw from the pool half by label, which nobody can do without labelling first.
``--json`` keeps every figure in a file and measures only what is not there.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.arrays import Embeddings
from benchmarks.dev_tasks.embedder import Embedder
from benchmarks.dev_tasks.experiences import experience_tasks
from benchmarks.dev_tasks.materials import Materials, embed_background
from benchmarks.dev_tasks.task import Task
from benchmarks.dev_tasks.titles import title_tasks
from benchmarks.f1 import best_f1, f1_of
from benchmarks.outs import HEADS, FitHead
from benchmarks.redraws import interval
from benchmarks.rows import read_jsonl
from benchmarks.strategies import STRATEGIES, Situation, Strategy
from benchmarks.versions import FITTING, versions_of
from service.settings import DEFAULT_ENCODER
from service.training.calibration import sigmoid
from service.training.head import HeadFit
from service.training.measures import average_precision

Places = NDArray[np.intp]

LABELS = 16
REFERENCE = "32 random"
RANDOM = {"start only": 0, "16 random": 16, REFERENCE: 32, "64 random": 64}
BALANCED = {"8 + 8 balanced": 8, "16 + 16 balanced": 16}
NOTHING: Places = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to choose, on one draw of one task; ``found`` positives among the labels."""

    head: str
    start: int
    way: str
    family: str
    task: str
    seed: int
    labels: int
    found: int
    average_precision: float
    f1: float
    best_f1: float

    @property
    def key(self) -> tuple[str, int, str, str, int]:
        """What is measured once."""
        return self.head, self.start, self.way, self.task, self.seed


@dataclass(frozen=True, slots=True)
class Draw:
    """One researcher's start on one task; rows are numbers of the task's embeddings."""

    task: Task
    crowd: Embeddings
    head: FitHead
    first: Places
    pool: Places
    rest_by_label: tuple[Places, Places]
    fits: dict[bytes, HeadFit]

    def fit(self, labelled: Places, *, suggested: bool) -> HeadFit:
        """The head of the start and some labelled rows, fitted once."""
        rows, task = np.concatenate([self.first, labelled]), self.task
        told = np.arange(len(rows)) >= (len(self.first) if suggested else len(rows))
        key = rows.tobytes() + told.tobytes()
        if key not in self.fits:
            self.fits[key] = self.head(
                task.embeddings[rows],
                task.inside[rows],
                self.crowd,
                prevalence=task.prevalence,
                hints=task.name_embedding,
                suggested=told,
            )
        return self.fits[key]

    def random(self, count: int) -> Places:
        """The first rows of the pool, which is in random order."""
        return self.pool[:count]

    def balanced(self, count: int) -> Places:
        """As many random rows of each label."""
        return np.concatenate([rows[:count] for rows in self.rest_by_label])

    def chosen(self, strategy: Strategy, rounds: int) -> Places:
        """The rows that a strategy has labelled after so many rounds."""
        labelled = NOTHING
        for _ in range(rounds):
            left = self.pool[~np.isin(self.pool, labelled)]
            fit = self.fit(labelled, suggested=True)
            rows = np.concatenate([self.first, labelled])
            candidates = self.task.embeddings[left]
            situation = Situation(
                candidates=candidates,
                logits=(candidates @ fit.weights).astype(np.float64) + fit.bias,
                threshold=float(np.log(fit.threshold / (1.0 - fit.threshold))),
                examples=self.task.embeddings[rows],
                labels=self.task.inside[rows],
                crowd=self.crowd,
                name=self.task.name_embedding,
                prevalence=self.task.prevalence,
            )
            picked = left[strategy(situation, LABELS // rounds)]
            labelled = np.concatenate([labelled, picked])
        return labelled


def draw(task: Task, crowd: Embeddings, head: str, start: int, pool: int, seed: int) -> Draw:
    """``start`` positives, and up to ``pool`` of the other rows as they come."""
    generator = np.random.default_rng([seed, start, zlib.crc32(task.name.encode())])
    first = generator.permutation(task.pool[task.inside[task.pool]])[:start]
    rest = generator.permutation(np.setdiff1d(task.pool, first))
    inside = task.inside[rest]
    by_label = rest[inside], rest[~inside]
    return Draw(task, crowd, HEADS[head], first, rest[:pool], by_label, {})


def ways(
    one: Draw, strategies: Sequence[str], rounds: Sequence[int]
) -> dict[str, Callable[[], Places]]:
    """Every way to choose by name, as a function that gives the rows to label."""
    found: dict[str, Callable[[], Places]] = {}
    for name, count in RANDOM.items():
        found[name] = partial(one.random, count)
    for name, count in BALANCED.items():
        found[name] = partial(one.balanced, count)
    for strategy in strategies:
        for times in rounds:
            name = f"{LABELS} {strategy}" + (f", {times} rounds" if times > 1 else "")
            found[name] = partial(one.chosen, STRATEGIES[strategy], times)
    return found


def run(
    tasks: Sequence[Task], crowd: Embeddings, options: argparse.Namespace, known: Sequence[Cell]
) -> list[Cell]:
    """Every way on every draw of every task; what is known is not measured again."""
    kept = {cell.key: cell for cell in known}
    cells = []
    for done, task in enumerate(tasks, 1):
        sys.stderr.write(f"\r{done}/{len(tasks)} {task.name:40}")
        for head in options.heads:
            for seed in range(options.draws):
                one = draw(task, crowd, head, options.start, options.pool, seed)
                for way, choose in ways(one, options.strategies, options.rounds).items():
                    key = (head, options.start, way, task.name, seed)
                    if key not in kept:
                        kept[key] = judge(one, choose(), key)
                        keep(kept[key], options.json)
                    cells.append(kept[key])
    sys.stderr.write("\n")
    return cells


def judge(one: Draw, labelled: Places, key: tuple[str, int, str, str, int]) -> Cell:
    """Refit with some labels, and measure on the judged half."""
    head, start, way, name, seed = key
    # Whatever is neither random nor drawn by label was chosen by a strategy.
    drawn = way in RANDOM or way in BALANCED
    task, fit = one.task, one.fit(labelled, suggested=not drawn)
    truth = task.inside[task.judged]
    logits = (task.embeddings[task.judged] @ fit.weights).astype(np.float64) + fit.bias
    scores = sigmoid(logits)
    return Cell(
        head,
        start,
        way,
        task.family,
        name,
        seed,
        labels=len(labelled),
        found=int(task.inside[labelled].sum()),
        # By the logits: a sigmoid that saturates would tie what the ranking tells apart.
        average_precision=average_precision(logits, truth.astype(np.float64), np.ones(len(truth))),
        f1=f1_of(scores >= fit.threshold, truth),
        best_f1=best_f1(logits, truth),
    )


def keep(cell: Cell, path: Path | None) -> None:
    """Add one line to the file of figures."""
    if path is not None:
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(cell)) + "\n")


def by_task(cells: Sequence[Cell], figure: str) -> dict[str, float]:
    """Mean of a figure over the draws of each task."""
    values: dict[str, list[float]] = {}
    for cell in cells:
        values.setdefault(cell.task, []).append(float(getattr(cell, figure)))
    return {task: float(np.mean(each)) for task, each in values.items()}


def print_ways(cells: Sequence[Cell]) -> None:
    """One line per head and way, with the difference from 32 random rows of the same draws."""
    print(
        f"\n| head | labels | AP | less {REFERENCE} | tasks won | F1 | less {REFERENCE} |", end=""
    )
    print(" best F1 | found |\n|---|---|---|---|---|---|---|---|---|")
    for head in dict.fromkeys(cell.head for cell in cells):
        own = [cell for cell in cells if cell.head == head]
        base = [cell for cell in own if cell.way == REFERENCE]
        for way in dict.fromkeys(cell.way for cell in own):
            group = [cell for cell in own if cell.way == way]
            columns = []
            for figure in ("average_precision", "f1"):
                each, other = by_task(group, figure), by_task(base, figure)
                less = np.array([each[task] - other[task] for task in each])
                columns.append(f"{np.mean(list(each.values())):.3f}")
                columns.append(f"{less.mean():+.3f} [{interval(less)}]")
                if figure == "average_precision":
                    columns.append(f"{int((less > 0).sum())} of {len(less)}")
            best = np.mean(list(by_task(group, "best_f1").values()))
            found = np.mean([cell.found for cell in group])
            print(f"| {head} | {way} | {' | '.join(columns)} | {best:.3f} | {found:.1f} |")


def print_families(cells: Sequence[Cell]) -> None:
    """Average precision by kind of task."""
    families = list(dict.fromkeys(cell.family for cell in cells))
    print(f"\n| head | labels | {' | '.join(families)} |")
    print("|---" * (len(families) + 2) + "|")
    for head, way in dict.fromkeys((cell.head, cell.way) for cell in cells):
        own = [cell for cell in cells if (cell.head, cell.way) == (head, way)]
        means = [
            np.mean([cell.average_precision for cell in own if cell.family == family])
            for family in families
        ]
        print(f"| {head} | {way} | {' | '.join(f'{mean:.3f}' for mean in means)} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--background", type=Path, default=Path("models/background/background.jsonl")
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--start", type=int, default=8, help="`in` examples to start from")
    parser.add_argument("--pool", type=int, default=1000, help="unlabelled rows to choose among")
    parser.add_argument("--strategies", nargs="*", choices=list(STRATEGIES), default=["served"])
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=["served"])
    parser.add_argument("--rounds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--json", type=Path, help="JSON lines to keep every figure in")
    options = parser.parse_args(argv)
    # Other work on the machine makes threads that wait for each other very slow.
    with threadpool_limits(limits=1):
        compare(options)
    return 0


def compare(options: argparse.Namespace) -> None:
    """Embed, run every way on every task, print."""
    embed = Embedder(options.encoder)
    crowd, titles = embed_background(options.background, embed)
    materials = Materials(options.data, embed, titles)
    tasks = [*title_tasks(materials), *experience_tasks(materials, final=False)]
    stored = options.json is not None and options.json.exists()
    known = [Cell(**row) for row in read_jsonl(options.json)] if stored else []
    print(f"{embed.name} ({embed.digest}), int8; {versions_of(FITTING)}")
    print(f"{len(tasks)} tasks, {len(crowd)} background rows, seeds 0 to {options.draws - 1}")
    print(f"start: {options.start} `in` examples; pools of up to {options.pool} rows")
    cells = run(tasks, crowd, options, known)
    print_ways(cells)
    print_families(cells)


if __name__ == "__main__":
    raise SystemExit(main())
