"""Figures of a head on the judged rows of a task."""

from __future__ import annotations

import numpy as np

from benchmarks.arrays import Floats
from benchmarks.f1 import f1_of
from benchmarks.rows import Row
from benchmarks.training_bench.tasks import Task
from service.inference.encoder import Encoder
from service.inference.head import Head
from service.training.calibration import sigmoid
from service.training.measures import average_precision


def judged_by(weights: Floats, bias: float, threshold: float, rows: Floats, one: Task) -> Row:
    """F1 at the version's own threshold, and average precision."""
    scores = sigmoid(rows @ weights + bias)
    truth = one.judged_inside
    precision = average_precision(scores, truth.astype(np.float64), np.ones(len(truth)))
    return {"f1": f1_of(scores >= threshold, truth), "average_precision": precision}


def of_head(head: Head, encoder: Encoder, one: Task) -> Row:
    """Figures of a version as served."""
    rows = encoder.encode(one.judged).embeddings.astype(np.float64)
    return judged_by(head.weights.astype(np.float64), head.bias, head.threshold, rows, one)
