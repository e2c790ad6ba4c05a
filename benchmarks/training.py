"""Time to a decision and accuracy: ``head``, ``setfit`` as shipped, and setfit's stock recipe.

One command: ``python -m benchmarks.training [--data ../shared/data] [--tasks ...] [--shots 8 16 32 64]
[--draws 5] [--methods head setfit stock] [--rows 1000] [--json FILE]``.
Examples are drawn from one half of the training rows, ``--rows`` rows of the other half are judged
at their real share of positives, which is the declared prevalence. Every method sees the same
draws. ``setfit`` is the child process that a registration starts, judged by the int8 graphs that
it wrote; its seconds run from the start of the process to its decision. ``stock`` tunes all layers
with setfit's sampled pairs, in PyTorch, under the same head; its seconds are training alone.
Processor seconds are reported beside, since other work on a machine makes only them comparable.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.types import Example, Experience, Label
from service.inference.encoder import Encoder, SideBySide, load_encoder
from service.inference.head import Head, read_head
from service.settings import DEFAULT_ENCODER
from service.training.background import read_background
from service.training.calibration import sigmoid
from service.training.encoder_export import export_encoder, load_model
from service.training.encoder_source import EncoderSource, resolve_encoder
from service.training.head import fit_head
from service.training.head_version import train_head
from service.training.measures import average_precision
from service.training.split_export import load_tuned
from service.training.tuning import TuningSettings, tune_all

Row = dict[str, Any]
Floats = NDArray[np.float64]
LIBRARIES = ("torch", "setfit", "sentence-transformers", "optimum-onnx", "onnxruntime", "numpy")


@dataclass(frozen=True, slots=True)
class Task:
    """One question: texts to draw examples from and texts to judge, with bool labels.

    ``title`` is the occupation's name, as a researcher would give it.
    """

    name: str
    title: str
    pool: tuple[str, ...]
    pool_inside: NDArray[np.bool_]
    judged: tuple[str, ...]
    judged_inside: NDArray[np.bool_]

    @property
    def prevalence(self) -> float:
        """Share of positives among the judged texts."""
        return float(self.judged_inside.mean())

    def draw(self, shots: int, seed: int) -> list[Example]:
        """As many `in` and `out` examples as shots."""
        generator = np.random.default_rng([seed, shots, zlib.crc32(self.name.encode())])
        inside = generator.permutation(np.flatnonzero(self.pool_inside))[:shots]
        outside = generator.permutation(np.flatnonzero(~self.pool_inside))[:shots]
        return [
            Example(Experience(text=self.pool[row]), label)
            for rows, label in ((inside, Label.IN), (outside, Label.OUT))
            for row in rows
        ]


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


@dataclass(frozen=True, slots=True)
class Bench:
    """What every method is given."""

    source: EncoderSource
    base_folder: Path
    base: Encoder
    background: tuple[str, ...]
    background_embeddings: NDArray[np.float32]
    side_by_side: SideBySide
    threads: int
    tuning: Row


def read_rows(path: Path) -> list[Row]:
    """The training rows of a JSON lines file, one for each text."""
    first: dict[str, Row] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["split"] == "train" and not row.get("suspect"):
                first.setdefault(row["text"].strip().lower(), row)
    return [row for row in first.values() if not row.get("boilerplate_in_train")]


def tasks(data: Path, wanted: Sequence[str], rows: int, most_codes: int = 5) -> Iterator[Task]:
    """The tasks asked for; ``jobbert`` stands for the most frequent occupation codes."""
    ads = read_rows(data / "experiences_ai.jsonl")
    for name, field in (("title + description", "text"), ("description", "description")):
        if name in wanted:
            inside = np.array([row["label"] == 1 for row in ads])
            texts = [" ".join(row[field].split()) for row in ads]
            title = "Artificial intelligence, machine learning, data science"
            groups = [row["description"] for row in ads]
            yield task(name, title, texts, groups, inside, rows)
    if "jobbert" in wanted:
        titles = read_rows(data / "occupation_titles_jobbert.jsonl")
        codes = [row["isco4"] for row in titles]
        texts = [row["text"] for row in titles]
        for code, _ in Counter(codes).most_common(most_codes):
            inside = np.array(codes) == code
            labels = Counter(row["occupation_label"] for row in np.array(titles)[inside])
            title = labels.most_common(1)[0][0]
            yield task(f"jobbert {code}", title, texts, texts, inside, rows)


def task(
    name: str,
    title: str,
    texts: Sequence[str],
    groups: Sequence[str],
    inside: NDArray[np.bool_],
    rows: int,
) -> Task:
    """Split texts by a hash of their group into a pool and, at most ``rows``, judged ones."""
    half = np.array([hashlib.sha256(f"dev1{group}".encode()).digest()[0] % 2 for group in groups])
    pool, judged = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    judged = np.random.default_rng(0).permutation(judged)[:rows]
    return Task(
        name,
        title,
        tuple(texts[int(row)] for row in pool),
        inside[pool],
        tuple(texts[int(row)] for row in judged),
        inside[judged],
    )


def processor_seconds() -> float:
    """Processor time of this process and of the children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def f1(called: NDArray[np.bool_], inside: NDArray[np.bool_]) -> float:
    """F1 of a call."""
    return float(2 * (called & inside).sum() / max(1, called.sum() + inside.sum()))


def judged_by(weights: Floats, bias: float, threshold: float, rows: Floats, one: Task) -> Row:
    """F1 at the version's own threshold, and average precision."""
    scores = sigmoid(rows @ weights + bias)
    truth = one.judged_inside
    precision = average_precision(scores, truth.astype(np.float64), np.ones(len(truth)))
    return {"f1": f1(scores >= threshold, truth), "average_precision": precision}


def of_head(head: Head, encoder: Encoder, one: Task) -> Row:
    """Figures of a version as served."""
    rows = encoder.encode(one.judged).embeddings.astype(np.float64)
    return judged_by(head.weights.astype(np.float64), head.bias, head.threshold, rows, one)


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

    def embed(rows: Sequence[str]) -> NDArray[np.float32]:
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


def spent_since(started: float, processor: float) -> Row:
    """Seconds since two clocks were read."""
    return {
        "seconds": time.perf_counter() - started,
        "processor_seconds": processor_seconds() - processor,
    }


METHODS = {"head": run_head, "setfit": run_setfit, "stock": run_stock}


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the methods on the tasks and print the table."""
    names = ("title + description", "description", "jobbert")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--background", type=Path, default=Path("models/background/background.jsonl")
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument("--tasks", nargs="+", choices=names, default=list(names))
    parser.add_argument("--shots", nargs="+", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--rows", type=int, default=1000, help="judged rows of a task at most")
    parser.add_argument("--codes", type=int, default=5, help="occupation codes of jobbert")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--tuning", default="{}", help='fields of TuningSettings, as JSON: {"tuned_layers": 3}'
    )
    parser.add_argument("--json", type=Path, help="where to write every result")
    options = parser.parse_args(argv)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        bench = prepare(
            Path(scratch) / "base",
            options.encoder,
            options.background,
            options.threads,
            json.loads(options.tuning),
        )
        for one in tasks(options.data, options.tasks, options.rows, options.codes):
            for shots in options.shots:
                for seed in range(options.draws):
                    examples = one.draw(shots, seed)
                    for method in options.methods:
                        with tempfile.TemporaryDirectory() as folder:
                            row = METHODS[method](bench, one, examples, Path(folder))
                        results.append(Result(one.name, method, shots, seed, **row))
                        print(results[-1], file=sys.stderr, flush=True)
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES))
    load = os.getloadavg()[0]
    print(
        f"{options.encoder}; {options.tuning}; seeds 0 to {options.draws - 1}; "
        f"{options.threads} threads; "
        f"load average {load:.1f} at the end"
    )
    print_table(results)
    if options.json:
        rows = [{name: getattr(result, name) for name in Result.__slots__} for result in results]
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
