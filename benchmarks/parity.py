"""What quantisation costs: F1 of tuned versions as served (int8) against full precision.

One command: ``python -m benchmarks.parity [--data ../shared/data] [--shots 16] [--draws 5]
[--json FILE]``. Each draw tunes once, with the shipped settings; the same weights are then judged
twice on the same rows of the dev tasks: by the int8 graphs that a registration would publish, and
in PyTorch at full precision. Either way the head is fitted on the embeddings of its own precision,
and the best F1 of any threshold is compared too, since a threshold is itself an estimate.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.f1 import best_f1
from benchmarks.training_bench.judged import judged_by
from benchmarks.training_bench.tasks import Task, tasks
from benchmarks.versions import TUNING, versions_of
from service.domain.types import Label
from service.inference.encoder import SideBySide
from service.settings import DEFAULT_ENCODER
from service.training.background import read_background
from service.training.calibration import sigmoid
from service.training.encoder_export import load_model
from service.training.encoder_source import resolve_encoder
from service.training.head import fit_head
from service.training.split_export import export_tuned, load_tuned
from service.training.tuners import make_tuner
from service.training.tuning import TuningSettings

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
CROWD = 600


def figures(one: Task, examples: Sequence[str], labels: NDArray[np.bool_], crowd: Sequence[str],
            embed: Embed) -> dict[str, float]:  # fmt: skip
    """F1, best F1 and average precision of a head fitted and judged on one precision."""
    fit = fit_head(
        embed(examples),
        labels,
        embed(crowd),
        prevalence=one.prevalence,
        seed=0,
        hints=embed([one.title]),
    )
    rows = embed(one.judged).astype(np.float64)
    weights = fit.weights.astype(np.float64)
    scores = sigmoid(rows @ weights + fit.bias)
    judged = judged_by(weights, fit.bias, fit.threshold, rows, one)
    return {**judged, "best_f1": best_f1(scores, one.judged_inside)}


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--background", type=Path, default=Path("models/background/background.jsonl")
    )
    parser.add_argument("--tasks", nargs="+", default=["title + description", "jobbert"])
    parser.add_argument("--codes", type=int, default=2, help="occupation codes of jobbert")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000, help="judged rows of a task at most")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="where to write every result")
    options = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    source = resolve_encoder(DEFAULT_ENCODER)
    side_by_side = SideBySide(options.threads)
    rows = [row.rendered for row in read_background(options.background)]
    crowd = [rows[row] for row in np.random.default_rng(0).permutation(len(rows))[:CROWD]]
    settings = TuningSettings(threads=options.threads)
    results = []
    for one in tasks(options.data, options.tasks, options.rows, options.codes):
        for seed in range(options.draws):
            drawn = one.draw(options.shots, seed)
            texts = [example.experience.rendered for example in drawn]
            labels = np.array([example.label is Label.IN for example in drawn])
            model = load_model(source.folder)
            tuner = make_tuner(model, texts, settings)
            tuner.train(range(len(texts)), labels, settings, lambda _: None)

            def in_full(texts: Sequence[str], model: object = model) -> NDArray[np.float32]:
                found = model.encode(list(texts), batch_size=16, show_progress_bar=False)  # type: ignore[attr-defined]
                return np.asarray(found, dtype=np.float32)

            with tempfile.TemporaryDirectory() as folder:
                export_tuned(model, tuner.trunk_layers, Path(folder), source.name, side_by_side)
                served = load_tuned(Path(folder), side_by_side)
                quantised = figures(one, texts, labels, crowd,
                                    lambda texts, served=served: served.encode(texts).embeddings)  # type: ignore[misc]  # fmt: skip
            full = figures(one, texts, labels, crowd, in_full)
            results.append({"task": one.name, "seed": seed, "int8": quantised, "float32": full})
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print("| task | F1 int8 | F1 float32 | difference | best F1 | average precision |")
    print("|---|---|---|---|---|---|")
    for name in dict.fromkeys(str(result["task"]) for result in results):
        own = [result for result in results if result["task"] == name]
        pairs = {
            key: np.array([[r["int8"][key], r["float32"][key]] for r in own])  # type: ignore[index]
            for key in ("f1", "best_f1", "average_precision")
        }
        gaps = {key: float((pair[:, 0] - pair[:, 1]).mean()) for key, pair in pairs.items()}
        print(
            f"| {name} | {pairs['f1'][:, 0].mean():.4f} | {pairs['f1'][:, 1].mean():.4f} "
            f"| {gaps['f1']:+.4f} | {gaps['best_f1']:+.4f} | {gaps['average_precision']:+.4f} |"
        )
    print(
        f"{options.shots} + {options.shots} examples, {options.draws} draws; {versions_of(TUNING)}"
    )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
