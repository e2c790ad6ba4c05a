"""The methods that are compared, each on one draw of a task."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.arrays import Embeddings
from benchmarks.rows import Row
from benchmarks.training_bench.clocks import processor_seconds, spent_since
from benchmarks.training_bench.judged import judged_by, of_head
from benchmarks.training_bench.tasks import Task
from service.domain.types import Example, Label
from service.inference.encoder import Encoder, SideBySide, load_encoder
from service.inference.head import read_head
from service.training.background import read_background
from service.training.encoder_export import export_encoder, load_model
from service.training.encoder_source import EncoderSource, resolve_encoder
from service.training.head import fit_head
from service.training.head_version import train_head
from service.training.split_export import load_tuned
from service.training.tuning import TuningSettings, tune_all


@dataclass(frozen=True, slots=True)
class Bench:
    """What every method is given."""

    source: EncoderSource
    base_folder: Path
    base: Encoder
    background: tuple[str, ...]
    background_embeddings: Embeddings
    side_by_side: SideBySide
    threads: int
    tuning: Row


def prepare(folder: Path, encoder: str, background: Path, threads: int, tuning: Row) -> Bench:
    """Build the base encoder and embed the background."""
    source = resolve_encoder(encoder)
    export_encoder(source.folder, folder, "int8", source.name, lambda *_: None)
    side_by_side = SideBySide(threads)
    base = load_encoder(folder, "base", side_by_side)
    rows = [row.rendered for row in read_background(background)]
    order = np.random.default_rng(0).permutation(len(rows))
    texts = tuple(rows[row] for row in order)
    embeddings = base.encode(texts).embeddings
    return Bench(source, folder, base, texts, embeddings, side_by_side, threads, tuning)


def run_head(bench: Bench, one: Task, examples: Sequence[Example], _: Path) -> Row:
    """The ``head`` method, as the Trainer makes it."""
    started, processor = time.perf_counter(), processor_seconds()
    trained = train_head(
        bench.base, bench.background_embeddings, examples, one.prevalence, one.title
    )
    spent = spent_since(started, processor)
    return {**spent, **of_head(trained.head, bench.base, one)}


def run_setfit(bench: Bench, one: Task, examples: Sequence[Example], scratch: Path) -> Row:
    """The ``setfit`` method: the child process of a registration."""
    job = {
        "source": str(bench.source.folder),
        "base_encoder": str(bench.base_folder),
        "encoder_name": bench.source.name,
        "examples": [
            {
                "text": example.experience.rendered,
                "label": example.label.value,
                "digest": example.experience.digest,
            }
            for example in examples
        ],
        "background": list(bench.background),
        "prevalence": one.prevalence,
        "name": one.title,
        "method": "auto",
        "threads": bench.threads,
        **bench.tuning,
    }
    (scratch / "job.json").write_text(json.dumps(job))
    started, processor = time.perf_counter(), processor_seconds()
    with subprocess.Popen(
        [sys.executable, "-m", "service.training.setfit_child", str(scratch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        # Waited for here: leaving the block would close standard input first, and end the child.
        child.wait()
    if child.returncode != 0:
        raise RuntimeError(f"the child ended with {child.returncode}")
    spent = spent_since(started, processor)
    out = scratch / "out"
    encoder = load_tuned(out, bench.side_by_side)
    result = json.loads((out / "result.json").read_bytes())
    gate = result["manifest"]["gate"]
    judged = {
        "promoted": result["promote"],
        "gate_difference": gate["difference"],
        "gate_standard_error": gate["standard_error"],
    }
    return {**spent, **judged, **of_head(read_head(out), encoder, one)}


def run_stock(bench: Bench, one: Task, examples: Sequence[Example], _: Path) -> Row:
    """Setfit's own recipe on all layers, its texts not cut, under the same head."""
    settings = replace(TuningSettings(tuned_layers="all", threads=bench.threads), max_tokens=512)
    model = load_model(bench.source.folder)
    labels = np.array([example.label is Label.IN for example in examples])
    texts = [example.experience.rendered for example in examples]
    started, processor = time.perf_counter(), processor_seconds()
    tune_all(model, texts, labels, settings)
    spent = spent_since(started, processor)

    def embed(rows: Sequence[str]) -> Embeddings:
        found = model.encode(list(rows), batch_size=16, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)

    crowd = embed(bench.background[:600])
    fit = fit_head(
        embed(texts),
        labels,
        crowd,
        prevalence=one.prevalence,
        seed=0,
        hints=embed([one.title]),
    )
    rows = embed(one.judged).astype(np.float64)
    weights = fit.weights.astype(np.float64)
    return {**spent, **judged_by(weights, fit.bias, fit.threshold, rows, one)}


METHODS = {"head": run_head, "setfit": run_setfit, "stock": run_stock}
