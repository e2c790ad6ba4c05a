"""A logistic head on each draw of a task, and the average precision of its scores."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from benchmarks.arrays import Embeddings, Labels
from benchmarks.encoders_bench.encode import Encode
from benchmarks.encoders_bench.task import Task

SHOTS = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Cell:
    """Mean average precision of one group at one number of shots, with a 95 % interval.

    The interval is a bootstrap over draws (each draw averaged over the group's tasks).
    """

    mean: float
    low: float
    high: float


def draw(is_positive: Labels, shots: int, seed: int) -> NDArray[np.int64] | None:
    """Draw ``shots`` positive and as many negative row numbers; None when there are too few."""
    positives, negatives = np.flatnonzero(is_positive), np.flatnonzero(~is_positive)
    if min(len(positives), len(negatives)) < shots:
        return None
    random = np.random.default_rng(seed)
    chosen = [random.choice(rows, shots, replace=False) for rows in (positives, negatives)]
    return np.concatenate(chosen).astype(np.int64)


def judge(task: Task, embedded: dict[str, Embeddings], shots: int, draws: int) -> list[float]:
    """Average precision of each draw of one task; empty when the pool has too few rows."""
    pool_labels = np.array(task.pool_is_positive)
    judged_labels = np.array(task.judged_is_positive)
    pool = np.stack([embedded[text] for text in task.pool_texts])
    judged = np.stack([embedded[text] for text in task.judged_texts])
    scores = []
    for number in range(draws):
        rows = draw(
            pool_labels,
            shots,
            zlib.crc32(f"{task.group.split('>')[0]}/{task.name}/{number}".encode()),
        )
        if rows is None:
            return []
        head = LogisticRegression(C=1.0, max_iter=300).fit(pool[rows], pool_labels[rows])
        scores.append(float(average_precision_score(judged_labels, head.decision_function(judged))))
    return scores


def summarise(draws_by_task: Sequence[Sequence[float]]) -> Cell:
    """Average tasks within a draw, then draws; 95 % bootstrap interval over the draws."""
    by_draw = np.mean(np.array(draws_by_task, dtype=np.float64), axis=0)
    random = np.random.default_rng(0)
    resampled = random.choice(by_draw, (2000, len(by_draw))).mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Cell(float(by_draw.mean()), float(low), float(high))


def evaluate(encode: Encode, tasks: Sequence[Task], draws: int) -> dict[str, dict[int, Cell]]:
    """Encode each distinct text once and judge every task: group -> shots -> cell."""
    texts = sorted({text for task in tasks for text in (*task.pool_texts, *task.judged_texts)})
    matrix = encode(texts)
    embedded = dict(zip(texts, matrix, strict=True))
    table: dict[str, dict[int, Cell]] = {}
    for group in dict.fromkeys(task.group for task in tasks):
        for shots in SHOTS:
            scored = [judge(task, embedded, shots, draws) for task in tasks if task.group == group]
            if kept := [scores for scores in scored if scores]:
                table.setdefault(group, {})[shots] = summarise(kept)
    return table
