"""Figures of every recipe on every draw of every task."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.arrays import Embeddings, Labels
from benchmarks.dev_tasks.task import Task, drawn
from benchmarks.f1 import best_f1, f1_of
from benchmarks.heads_bench.cells import Cell
from benchmarks.recipes.compared import NEEDS_OUTS, RECIPES, ZERO_SHOT
from benchmarks.recipes.given import Answer, Given
from service.training.measures import average_precision, expected_calibration_error, log_loss


def figures(answer: Answer, inside: Labels) -> dict[str, float]:
    """The figures of one answer on one task."""
    scores, promised = answer.scores, answer.probability
    truth, weights = inside.astype(np.float64), np.ones(len(inside))
    called = scores >= answer.threshold
    close = (scores >= answer.low) & (scores <= answer.high)
    wrong = called != inside
    nothing = float("nan")
    return {
        "AP": average_precision(scores, truth, weights),
        "F1": f1_of(called, inside),
        "best F1": best_f1(scores, inside),
        "ECE": expected_calibration_error(scores, truth, weights) if promised else nothing,
        "log loss": log_loss(scores, truth, weights) if promised else nothing,
        "in band": float(close.mean()),
        "wrong in band": float(wrong[close].mean()) if close.any() else nothing,
        "wrong outside": float(wrong[~close].mean()),
    }


def given_of(one: Task, rows: Embeddings, labels: Labels, crowd: Embeddings) -> Given:
    """What a recipe is given of a draw."""
    return Given(
        rows=rows,
        labels=labels,
        crowd=crowd,
        prevalence=one.prevalence,
        name=one.name_embedding,
        judged=one.embeddings[one.judged],
        description=one.description,
        near=one.near,
        reference=one.reference,
    )


def run(
    tasks: Sequence[Task],
    crowd: Embeddings,
    options: argparse.Namespace,
    encoder: str,
    known: Sequence[Cell] = (),
) -> list[Cell]:
    """Figures of every recipe, with and without outs, by shots and task; ``known`` is kept."""
    found = {(cell.encoder, cell.recipe, *cell.draw): cell for cell in known}
    results = []
    for done, one in enumerate(tasks, 1):
        sys.stderr.write(f"\r{done}/{len(tasks)} {one.name:40}")
        draws = itertools.product(options.shots, (False, True), range(options.draws))
        for shots, outs, seed in ((0, False, 0), *draws):
            if one.inside[one.pool].sum() < shots:
                continue
            given = given_of(one, *drawn(one, shots, seed, outs=outs), crowd)
            for name in options.recipes:
                if (name in ZERO_SHOT) != (shots == 0) or (name == NEEDS_OUTS and not outs):
                    continue
                key = (encoder, name, one.name, outs, shots, seed)
                if key not in found:
                    answer = RECIPES[name](given)
                    measured = figures(answer, one.inside[one.judged])
                    cell = Cell(encoder, name, outs, shots, one.family, one.name, seed, measured)
                    if options.results:
                        with options.results.open("a", encoding="utf-8") as lines:
                            lines.write(json.dumps(asdict(cell)) + "\n")
                    found[key] = cell
                results.append(found[key])
    sys.stderr.write("\n")
    return results
