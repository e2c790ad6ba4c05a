"""Compare recipes for heads on few-shot tasks at natural prevalence, on the served embeddings.

One command: ``python -m benchmarks.heads [--data ../shared/data] [--draws 5]
[--recipes ...] [--final]``.
Tasks are made of training rows only: JobBERT titles by ISCO code, French ROME titles by domain and
code, job ads cut to experiences (title + description, description alone, the French source alone).
Each is split by a hash of the text into rows to draw examples from and rows to judge on. A task's
share of positives among the judged rows is the declared prevalence. ``--final`` adds the test
rows of `experiences_ai`: for a last report, not to choose by.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from service.domain.types import Experience
from service.inference.encoder import SideBySide, load_encoder
from service.settings import DEFAULT_ENCODER
from service.training.calibration import sigmoid
from service.training.discriminant import class_weights, fit_discriminant
from service.training.encoder_export import export_encoder
from service.training.encoder_source import resolve_encoder
from service.training.head import fit_head
from service.training.measures import average_precision, expected_calibration_error, log_loss
from service.training.neighbours import unlike_positives

Row = dict[str, Any]
Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Labels = NDArray[np.bool_]

SHOTS = (4, 8, 16, 32, 64)
JOBBERT_TASKS, ROME_DOMAINS, ROME_CODES = 16, 10, 8
CACHE = Path(tempfile.gettempdir()) / "vocation-benchmark-embeddings"


@dataclass(frozen=True, slots=True)
class Task:
    """One yes/no question over one set of embeddings."""

    family: str
    name: str
    embeddings: Embeddings
    inside: Labels
    pool: NDArray[np.intp]
    judged: NDArray[np.intp]
    name_embedding: Embeddings

    @property
    def prevalence(self) -> float:
        """Share of positives among the judged rows."""
        return float(self.inside[self.judged].mean())


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores of the judged rows and where `in` begins; the band is empty where there is none."""

    scores: Floats
    threshold: float
    low: float = 1.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Given:
    """What a recipe is given: examples, the background, the prevalence, the occupation's name."""

    rows: Embeddings
    labels: Labels
    crowd: Embeddings
    prevalence: float
    name: Embeddings
    judged: Embeddings


Recipe = Callable[[Given], Answer]


def served_recipe(given: Given, hints: Embeddings | None = None) -> Answer:
    """What registration fits and the service answers."""
    fit = fit_head(
        given.rows,
        given.labels,
        given.crowd,
        prevalence=given.prevalence,
        seed=0,
        hints=hints,
    )
    scores = sigmoid((given.judged @ fit.weights).astype(np.float64) + fit.bias)
    return Answer(scores, fit.threshold, fit.uncertain_low, fit.uncertain_high)


def with_name(given: Given) -> Answer:
    """The same with the occupation's name as a weak positive."""
    return served_recipe(given, given.name)


def discriminant_at_half(given: Given) -> Answer:
    """The same direction, uncalibrated: the margin through a sigmoid, threshold 0.5."""
    positives = given.rows[given.labels]
    kept = given.crowd[unlike_positives(positives, np.arange(len(positives)), given.crowd)]
    rows = np.concatenate([given.rows, kept]).astype(np.float64)
    each = class_weights(given.labels, np.ones(len(given.rows)))
    line = fit_discriminant(
        rows,
        np.concatenate([np.where(given.labels, 1.0, -1.0), np.full(len(kept), -1.0)]),
        np.concatenate([each, np.full(len(kept), 1 / len(kept))]),
        np.arange(len(rows)),
    )
    margins = given.judged.astype(np.float64) @ line.weights + line.bias
    return Answer(sigmoid(2.0 * margins), 0.5)


def logistic(background_weight: str) -> Recipe:
    """Logistic regression, the background weighing nothing, as the positives, or as the rest."""

    def recipe(given: Given) -> Answer:
        size = float(given.labels.sum())
        prior = size * (1 - given.prevalence) / given.prevalence
        total = {"none": 0.0, "balanced": size, "prior": prior}[background_weight]
        keep = given.crowd if total else given.crowd[:0]
        solver = "newton-cholesky" if total else "lbfgs"  # the faster one for each shape
        model = LogisticRegression(C=10.0, max_iter=300, solver=solver)
        model.fit(
            np.concatenate([given.rows, keep]),
            np.concatenate([given.labels, np.zeros(len(keep), dtype=np.bool_)]),
            sample_weight=np.concatenate(
                [np.ones(len(given.rows)), np.full(len(keep), total / len(given.crowd))]
            ),
        )
        return Answer(model.predict_proba(given.judged)[:, 1].astype(np.float64), 0.5)

    return recipe


RECIPES: dict[str, Recipe] = {
    "served head": served_recipe,
    "served head + name": with_name,
    "discriminant at 0.5": discriminant_at_half,
    "logistic + background, prior": logistic("prior"),
    "logistic + background, balanced": logistic("balanced"),
    "logistic, examples alone": logistic("none"),
}


def read_jsonl(path: Path) -> Iterator[Row]:
    """Records of a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def distinct(rows: Iterator[Row], split: str) -> list[Row]:
    """One row per text, ignoring case, of one split."""
    first: dict[str, Row] = {}
    for row in rows:
        if row["split"] == split:
            first.setdefault(row["text"].strip().lower(), row)
    return list(first.values())


class Embedder:
    """The served encoder, with its embeddings kept on disk between runs."""

    def __init__(self) -> None:
        folder = CACHE / "encoder"
        if not (folder / "done").exists():
            source = resolve_encoder(DEFAULT_ENCODER)
            export_encoder(source.folder, folder, "int8", source.name, lambda *_: None)
            (folder / "done").touch()
        self._encoder = load_encoder(folder, "benchmark", SideBySide(os.cpu_count() or 1))

    def __call__(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings float32[n, d] of texts."""
        name = hashlib.sha256("\x1e".join(texts).encode()).hexdigest()[:24]
        path = CACHE / f"{name}.npy"
        if not path.exists():
            np.save(path, self._encoder.encode(texts).embeddings)
        loaded: Embeddings = np.load(path)
        return loaded


def half_of(text: str) -> int:
    """0 for rows to draw from, 1 for rows to judge on."""
    return hashlib.sha256(f"dev1{text}".encode()).digest()[0] % 2


def title_tasks(data: Path, embed: Embedder, background: set[str]) -> Iterator[Task]:
    """JobBERT by ISCO code, ROME by domain and by code."""
    jobbert = distinct(read_jsonl(data / "occupation_titles_jobbert.jsonl"), "train")
    codes = [row["isco4"] for row in jobbert]
    groups = [row["text"] for row in jobbert]
    yield from code_tasks("jobbert", jobbert, codes, groups, JOBBERT_TASKS, embed, background)
    rome = distinct(read_jsonl(data / "occupation_titles_rome.jsonl"), "train")
    codes = [row["occupation_code"] for row in rome]
    # Masculine and feminine of one name share a number, and so a half.
    groups = [f"{row['occupation_code']}{row['ogr']}" for row in rome]
    domains = [code[:3] for code in codes]
    yield from code_tasks("rome domain", rome, domains, groups, ROME_DOMAINS, embed, background)
    yield from code_tasks("rome code", rome, codes, groups, ROME_CODES, embed, background)


def code_tasks(
    family: str,
    rows: Sequence[Row],
    codes: Sequence[str],
    groups: Sequence[str],
    wanted: int,
    embed: Embedder,
    background: set[str],
) -> Iterator[Task]:
    """A task for each of the most frequent codes; titles of the background are not judged."""
    embeddings = embed([row["text"] for row in rows])
    halves = np.array([half_of(group) for group in groups])
    halves[(halves == 1) & np.array([row["text"].lower() in background for row in rows])] = 2
    each = np.array(codes)
    for code, _ in Counter(codes).most_common(wanted):
        inside = each == code
        labels = Counter(row["occupation_label"] for row in np.array(rows)[inside])
        name = embed([labels.most_common(1)[0][0]])
        yield Task(
            family,
            f"{family} {code}",
            embeddings,
            inside,
            np.flatnonzero(halves == 0),
            np.flatnonzero(halves == 1),
            name,
        )


def experience_tasks(data: Path, embed: Embedder, *, final: bool) -> Iterator[Task]:
    """Job ads as experiences; ``final`` judges the test rows with all train rows to draw from."""
    rows = [
        row
        for row in read_jsonl(data / "experiences_ai.jsonl")
        if not row["suspect"]
        and not row.get("boilerplate_in_train")
        and (final or row["split"] == "train")
    ]
    inside = np.array([row["label"] == 1 for row in rows])
    if final:
        halves = np.array([int(row["split"] == "test") for row in rows])
    else:
        halves = np.array([half_of(row["description"]) for row in rows])
    french = np.array([row["source"] == "radar_france_travail" for row in rows])
    both = embed([Experience(None, None, None, row["text"]).rendered for row in rows])
    alone = embed([Experience(None, None, None, row["description"]).rendered for row in rows])
    name = embed(["Artificial intelligence, machine learning, data science"])
    for kind, embeddings, where in (
        ("title + description", both, halves),
        ("description", alone, halves),
        ("description, one source", alone, np.where(french, halves, 2)),
    ):
        family = f"{kind}, test" if final else kind
        pool, judged = np.flatnonzero(where == 0), np.flatnonzero(where == 1)
        yield Task(family, kind, embeddings, inside, pool, judged, name)


def best_f1(scores: Floats, inside: Labels) -> float:
    """The best F1 that any threshold reaches."""
    ranked = inside[np.argsort(-scores, kind="stable")]
    return float((2 * np.cumsum(ranked) / (np.arange(len(ranked)) + 1 + inside.sum())).max())


def f1_of(called: Labels, inside: Labels) -> float:
    """F1 of a call."""
    return float(2 * (called & inside).sum() / max(1, called.sum() + inside.sum()))


def figures(answer: Answer, inside: Labels) -> dict[str, float]:
    """The figures of one answer on one task."""
    truth, weights = inside.astype(np.float64), np.ones(len(inside))
    called = answer.scores >= answer.threshold
    close = (answer.scores >= answer.low) & (answer.scores <= answer.high)
    wrong = called != inside
    return {
        "AP": average_precision(answer.scores, truth, weights),
        "F1": f1_of(called, inside),
        "best F1": best_f1(answer.scores, inside),
        "ECE": expected_calibration_error(answer.scores, truth, weights),
        "log loss": log_loss(answer.scores, truth, weights),
        "in band": float(close.mean()),
        "wrong in band": float(wrong[close].mean()) if close.any() else float("nan"),
        "wrong outside": float(wrong[~close].mean()),
    }


def drawn(one: Task, shots: int, seed: int, *, outs: bool) -> tuple[Embeddings, Labels]:
    """``shots`` positives and as many or no negatives, the same for every recipe."""
    generator = np.random.default_rng([seed, shots, zlib.crc32(one.name.encode())])
    inside = generator.permutation(one.pool[one.inside[one.pool]])[:shots]
    outside = generator.permutation(one.pool[~one.inside[one.pool]])[: shots if outs else 0]
    chosen = np.concatenate([inside, outside])
    return one.embeddings[chosen], np.arange(len(chosen)) < len(inside)


Measured = dict[str, list[dict[str, float]]]


def run(
    tasks: Sequence[Task], crowd: Embeddings, draws: int, recipes: Sequence[str]
) -> dict[tuple[str, bool, int], Measured]:
    """Figures of every recipe, with and without outs, by shots and family."""
    results: dict[tuple[str, bool, int], Measured] = defaultdict(lambda: defaultdict(list))
    for done, one in enumerate(tasks, 1):
        sys.stderr.write(f"\r{done}/{len(tasks)} {one.name:40}")
        judged, truth = one.embeddings[one.judged], one.inside[one.judged]
        for shots in SHOTS:
            if one.inside[one.pool].sum() < shots:
                continue
            for outs in (False, True):
                for seed in range(draws):
                    rows, labels = drawn(one, shots, seed, outs=outs)
                    for name in recipes:
                        if labels.all() and name == "logistic, examples alone":
                            continue
                        given = Given(
                            rows, labels, crowd, one.prevalence, one.name_embedding, judged
                        )
                        answer = RECIPES[name](given)
                        cell = results[name, outs, shots]
                        cell[one.family].append(figures(answer, truth))
    sys.stderr.write("\n")
    return results


def mean(rows: Sequence[dict[str, float]], name: str) -> float:
    """Mean of one figure, leaving out where it is not defined."""
    return float(np.nanmean([row[name] for row in rows]))


def print_recipes(results: dict[tuple[str, bool, int], Measured]) -> None:
    """One line per recipe, outs and shots, averaged over all tasks and draws."""
    print("\n| recipe | outs | shots | AP | F1 | best F1 | F1 / best | per task | ECE | log loss |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (name, outs, shots), families in results.items():
        rows = [row for measured in families.values() for row in measured]
        ratio = np.mean([row["F1"] / row["best F1"] for row in rows])
        cells = [mean(rows, figure) for figure in ("AP", "F1", "best F1")]
        print(
            f"| {name} | {'yes' if outs else 'no'} | {shots} |",
            " | ".join(f"{cell:.3f}" for cell in cells),
            f"| {cells[1] / cells[2]:.3f} | {ratio:.3f}",
            f"| {mean(rows, 'ECE'):.3f} | {mean(rows, 'log loss'):.3f} |",
        )


def print_families(results: dict[tuple[str, bool, int], Measured], recipe: str) -> None:
    """One line per family, outs and shots of one recipe."""
    print(f"\n{recipe}, by kind of task")
    print("| tasks | outs | shots | AP | F1 | best F1 | ECE | in band | wrong in | wrong outside |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    names = ("AP", "F1", "best F1", "ECE", "in band", "wrong in band", "wrong outside")
    for family in dict.fromkeys(f for cell in results.values() for f in cell):
        for (name, outs, shots), families in results.items():
            if name == recipe and family in families:
                cells = " | ".join(f"{mean(families[family], figure):.3f}" for figure in names)
                print(f"| {family} | {'yes' if outs else 'no'} | {shots} | {cells} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--background", type=Path, default=Path("models/background/background.jsonl")
    )
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--final", action="store_true", help="also judge the test rows, once")
    options = parser.parse_args(argv)
    # Other work on the machine makes threads that wait for each other very slow.
    with threadpool_limits(limits=1):
        compare(options)
    return 0


def compare(options: argparse.Namespace) -> None:
    """Embed, run every recipe on every task, print."""
    CACHE.mkdir(parents=True, exist_ok=True)
    embed = Embedder()
    background = list(read_jsonl(options.background))
    crowd = embed(
        [Experience(row["title"], None, row.get("description")).rendered for row in background]
    )
    titles = {row["title"].lower() for row in background}
    tasks = [
        *title_tasks(options.data, embed, titles),
        *experience_tasks(options.data, embed, final=False),
    ]
    libraries = ("numpy", "scipy", "scikit-learn", "onnxruntime")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    print(f"{len(tasks)} tasks, {len(crowd)} background rows, seeds 0 to {options.draws - 1}")
    print(versions)
    results = run(tasks, crowd, options.draws, options.recipes)
    print_recipes(dict(sorted(results.items(), key=lambda item: list(RECIPES).index(item[0][0]))))
    if "served head" in options.recipes:
        print_families(results, "served head")
    if options.final:
        final = run(
            list(experience_tasks(options.data, embed, final=True)),
            crowd,
            options.draws,
            ["served head"],
        )
        print_families(final, "served head")


if __name__ == "__main__":
    raise SystemExit(main())
