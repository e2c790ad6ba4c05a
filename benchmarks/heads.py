"""Compare recipes for heads on few-shot tasks at natural prevalence, on the served embeddings.

One command: ``python -m benchmarks.heads [--data ../shared/data] [--draws 5] [--shots 4 8 16 32 64]
[--recipes ...] [--results FILE] [--final]``; the recipes are in `benchmarks.recipes`.
Tasks are made of training rows only: JobBERT titles by ISCO code, French ROME titles by domain and
code, job ads cut to experiences (title + description, description alone, the French source alone).
Each is split by a hash of the text into rows to draw examples from and rows to judge on. A task's
share of positives among the judged rows is the declared prevalence. Weak positives come from
ESCO and ROME labels that are not judged: on ROME tasks from ESCO alone. ``--results`` keeps every
figure in a file and measures only what is not there, so that a long comparison can be run in
pieces. ``--final`` adds the test rows of `experiences_ai`: for a last report, not to choose by.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import itertools
import json
import os
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.recipes import NEEDS_OUTS, RECIPES, ZERO_SHOT, Answer, Given
from service.domain.types import Experience
from service.inference.encoder import SideBySide, load_encoder
from service.settings import DEFAULT_ENCODER
from service.training.encoder_export import export_encoder
from service.training.encoder_source import resolve_encoder
from service.training.measures import average_precision, expected_calibration_error, log_loss

Row = dict[str, Any]
Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Labels = NDArray[np.bool_]

SHOTS = (4, 8, 16, 32, 64)
JOBBERT_TASKS, ROME_DOMAINS, ROME_CODES = 16, 10, 8
NEAR_LABELS = 20
REDRAWS = 2000
SAME_TEXT = 0.999
AI_NAME = "Artificial intelligence, machine learning, data science"
# What a researcher would write; as in models/occupations/ai-engineering.yaml.
AI_DESCRIPTION = (
    "Builds, researches or runs machine learning and AI systems: data scientists, machine learning "
    "and MLOps engineers, research and applied scientists, PhD candidates and interns in AI, and "
    "NLP, computer vision or LLM engineers, at every level."
)
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
    description: Embeddings
    near: Embeddings
    reference: Embeddings

    @property
    def prevalence(self) -> float:
        """Share of positives among the judged rows."""
        return float(self.inside[self.judged].mean())

    def given(self, rows: Embeddings, labels: Labels, crowd: Embeddings) -> Given:
        """What a recipe is given of a draw."""
        return Given(
            rows=rows,
            labels=labels,
            crowd=crowd,
            prevalence=self.prevalence,
            name=self.name_embedding,
            judged=self.embeddings[self.judged],
            description=self.description,
            near=self.near,
            reference=self.reference,
        )


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
    """An encoder in int8, with its embeddings kept on disk between runs."""

    def __init__(self, encoder: str) -> None:
        source = resolve_encoder(encoder)
        # Embeddings of one encoder must never be taken for those of another.
        weights = b"".join(path.read_bytes() for path in source.files())
        self.digest = hashlib.sha256(weights).hexdigest()[:16]
        self.name = source.name
        self._folder = CACHE / self.digest
        folder = source.exported or self._folder / "encoder"
        if source.exported is None and not (folder / "done").exists():
            export_encoder(source.folder, folder, "int8", source.name, lambda *_: None)
            (folder / "done").touch()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._encoder = load_encoder(folder, "benchmark", SideBySide(os.cpu_count() or 1))

    def __call__(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings float32[n, d] of texts."""
        name = hashlib.sha256("\x1e".join(texts).encode()).hexdigest()[:24]
        path = self._folder / f"{name}.npy"
        if not path.exists():
            np.save(path, self._encoder.encode(texts).embeddings)
        loaded: Embeddings = np.load(path)
        return loaded


class Materials:
    """What tasks are made with: rows, embeddings, and the labels of ESCO and ROME (train rows)."""

    def __init__(self, data: Path, embed: Embedder, background: frozenset[str]) -> None:
        self.data, self.embed, self.background = data, embed, background
        esco = distinct(read_jsonl(data / "occupation_titles_esco.jsonl"), "train")
        rome = distinct(read_jsonl(data / "occupation_titles_rome.jsonl"), "train")
        self._labels = [row["text"] for row in (*esco, *rome)]
        self._esco = np.arange(len(self._labels)) < len(esco)
        self.descriptions = {
            row["occupation_code"]: row["description"]
            for row in read_jsonl(data / "occupation_descriptions.jsonl")
        }

    def labels(self, judged: set[str], *, with_rome: bool) -> Embeddings:
        """Embeddings of the reference labels that are not judged (``judged``: in lower case)."""
        kept = np.array([text.lower() not in judged for text in self._labels])
        return self.embed(self._labels)[kept & (with_rome | self._esco)]

    def described(self, name: str, text: str | None, labels: Embeddings) -> dict[str, Any]:
        """A task's fields that say what the occupation is, with the nearest of ``labels``."""
        query = self.embed([name])
        similarity = labels @ query[0]
        similarity[similarity > SAME_TEXT] = -1.0
        return {
            "name_embedding": query,
            "description": self.embed([text]) if text else query[:0],
            "near": labels[np.argsort(-similarity, kind="stable")[:NEAR_LABELS]],
            "reference": labels,
        }


def half_of(text: str) -> int:
    """0 for rows to draw from, 1 for rows to judge on."""
    return hashlib.sha256(f"dev1{text}".encode()).digest()[0] % 2


def title_tasks(materials: Materials) -> Iterator[Task]:
    """JobBERT by ISCO code, ROME by domain and by code."""
    jobbert = distinct(read_jsonl(materials.data / "occupation_titles_jobbert.jsonl"), "train")
    codes = [row["isco4"] for row in jobbert]
    groups = [row["text"] for row in jobbert]
    yield from code_tasks("jobbert", jobbert, codes, groups, JOBBERT_TASKS, materials)
    rome = distinct(read_jsonl(materials.data / "occupation_titles_rome.jsonl"), "train")
    codes = [row["occupation_code"] for row in rome]
    # Masculine and feminine of one name share a number, and so a half.
    groups = [f"{row['occupation_code']}{row['ogr']}" for row in rome]
    domains = [code[:3] for code in codes]
    yield from code_tasks("rome domain", rome, domains, groups, ROME_DOMAINS, materials)
    yield from code_tasks("rome code", rome, codes, groups, ROME_CODES, materials)


def code_tasks(
    family: str,
    rows: Sequence[Row],
    codes: Sequence[str],
    groups: Sequence[str],
    wanted: int,
    materials: Materials,
) -> Iterator[Task]:
    """A task for each of the most frequent codes; titles of the background are not judged."""
    embeddings = materials.embed([row["text"] for row in rows])
    texts = [row["text"].lower() for row in rows]
    halves = np.array([half_of(group) for group in groups])
    halves[(halves == 1) & np.array([text in materials.background for text in texts])] = 2
    judged = {text for text, half in zip(texts, halves, strict=True) if half == 1}
    # A ROME label beside the judged ones of its code would be half of the answer.
    labels = materials.labels(judged, with_rome=family == "jobbert")
    each = np.array(codes)
    for code, _ in Counter(codes).most_common(wanted):
        inside = each == code
        names = Counter(
            (row["occupation_label"], row["occupation_code"]) for row in np.array(rows)[inside]
        )
        name, occupation = names.most_common(1)[0][0]
        yield Task(
            family,
            f"{family} {code}",
            embeddings,
            inside,
            np.flatnonzero(halves == 0),
            np.flatnonzero(halves == 1),
            **materials.described(name, materials.descriptions.get(occupation), labels),
        )


def experience_tasks(materials: Materials, *, final: bool) -> Iterator[Task]:
    """Job ads as experiences; ``final`` judges the test rows with all train rows to draw from."""
    embed = materials.embed
    rows = [
        row
        for row in read_jsonl(materials.data / "experiences_ai.jsonl")
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
    labels = materials.labels(set(), with_rome=True)
    described = materials.described(AI_NAME, AI_DESCRIPTION, labels)
    for kind, embeddings, where in (
        ("title + description", both, halves),
        ("description", alone, halves),
        ("description, one source", alone, np.where(french, halves, 2)),
    ):
        family = f"{kind}, test" if final else kind
        pool, judged = np.flatnonzero(where == 0), np.flatnonzero(where == 1)
        yield Task(family, kind, embeddings, inside, pool, judged, **described)


def best_f1(scores: Floats, inside: Labels) -> float:
    """The best F1 that any threshold reaches."""
    ranked = inside[np.argsort(-scores, kind="stable")]
    return float((2 * np.cumsum(ranked) / (np.arange(len(ranked)) + 1 + inside.sum())).max())


def f1_of(called: Labels, inside: Labels) -> float:
    """F1 of a call."""
    return float(2 * (called & inside).sum() / max(1, called.sum() + inside.sum()))


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


def drawn(one: Task, shots: int, seed: int, *, outs: bool) -> tuple[Embeddings, Labels]:
    """``shots`` positives and as many or no negatives, the same for every recipe."""
    generator = np.random.default_rng([seed, shots, zlib.crc32(one.name.encode())])
    inside = generator.permutation(one.pool[one.inside[one.pool]])[:shots]
    outside = generator.permutation(one.pool[~one.inside[one.pool]])[: shots if outs else 0]
    chosen = np.concatenate([inside, outside])
    return one.embeddings[chosen], np.arange(len(chosen)) < len(inside)


@dataclass(frozen=True, slots=True)
class Cell:
    """One recipe on one draw of one task."""

    encoder: str
    recipe: str
    outs: bool
    shots: int
    family: str
    task: str
    seed: int
    figures: Mapping[str, float]

    @property
    def draw(self) -> tuple[str, bool, int, int]:
        """What recipes are compared on."""
        return self.task, self.outs, self.shots, self.seed


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
            given = one.given(*drawn(one, shots, seed, outs=outs), crowd)
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


def mean(cells: Sequence[Cell], name: str) -> float:
    """Mean of one figure, leaving out where it is not defined; nan where it is nowhere."""
    values = [cell.figures[name] for cell in cells if not np.isnan(cell.figures[name])]
    return float(np.mean(values)) if values else float("nan")


def shown(value: float) -> str:
    """A figure, or a dash where there is none."""
    return "-" if np.isnan(value) else f"{value:.3f}"


def grouped(cells: Sequence[Cell], *fields: str) -> dict[tuple[Any, ...], list[Cell]]:
    """Cells by some of their fields, in order of appearance."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(getattr(cell, field) for field in fields), []).append(cell)
    return groups


def print_recipes(cells: Sequence[Cell]) -> None:
    """One line per recipe, outs and shots, averaged over all tasks and draws."""
    print("\n| recipe | outs | shots | AP | F1 | best F1 | F1 / best | per task | ECE | log loss |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ordered = sorted(cells, key=lambda cell: list(RECIPES).index(cell.recipe))
    for (name, shots, outs), group in grouped(ordered, "recipe", "shots", "outs").items():
        ratio = np.mean([cell.figures["F1"] / cell.figures["best F1"] for cell in group])
        means = [mean(group, figure) for figure in ("AP", "F1", "best F1")]
        print(
            f"| {name} | {'yes' if outs else 'no'} | {shots} |",
            " | ".join(shown(cell) for cell in means),
            f"| {means[1] / means[2]:.3f} | {ratio:.3f}",
            f"| {shown(mean(group, 'ECE'))} | {shown(mean(group, 'log loss'))} |",
        )


def print_beside(cells: Sequence[Cell], baseline: str, shots: Sequence[int]) -> None:
    """One line per recipe: by shots without and with outs, and less the baseline on equal draws.

    Intervals (95 %) are over redrawn tasks; recipes without examples are met with nothing.
    """
    columns = list(itertools.product(("AP", "F1"), (False, True), shots))
    heads = [f"{figure}{' outs' if outs else ''} {count}" for figure, outs, count in columns]
    print(f"\nless {baseline!r}; intervals over {REDRAWS} redraws of the tasks")
    print(f"| recipe | {' | '.join(heads)} | AP less | F1 less | higher AP |")
    print("|---" * (len(heads) + 4) + "|")
    base = {cell.draw: cell for cell in cells if cell.recipe == baseline}
    ordered = sorted(cells, key=lambda cell: list(RECIPES).index(cell.recipe))
    for (name,), group in grouped(ordered, "recipe").items():
        sides = grouped(group, "outs", "shots")
        free = sides.get((False, 0), [])
        means = [mean(sides.get((outs, count), free), figure) for figure, outs, count in columns]
        gains = [gain(group, base, figure) for figure in ("AP", "F1")]
        texts = [changed(each) for each in gains]
        higher = f"{int((gains[0] > 0).sum())} of {len(gains[0])}" if len(gains[0]) else "-"
        print(f"| {name} | {' | '.join(map(shown, means))} | {' | '.join(texts)} | {higher} |")
    families = list(dict.fromkeys(cell.family for cell in cells))
    print("\nAverage precision by kind of task, over all shots, and less the baseline")
    print(f"| recipe | {' | '.join(families)} |")
    print("|---" * (len(families) + 1) + "|")
    for (name,), group in grouped(ordered, "recipe").items():
        kinds = [[cell for cell in group if cell.family == kind] for kind in families]
        parts = [f"{mean(kind, 'AP'):.3f} {changed(gain(kind, base, 'AP'))}" for kind in kinds]
        print(f"| {name} | {' | '.join(parts)} |")


def gain(cells: Sequence[Cell], base: Mapping[Any, Cell], figure: str) -> Floats:
    """Mean difference from the baseline float64[tasks], of the tasks where it was measured."""
    tasks = grouped([cell for cell in cells if cell.draw in base], "task").values()
    differences = [
        [cell.figures[figure] - base[cell.draw].figures[figure] for cell in task] for task in tasks
    ]
    return np.array([np.mean(each) for each in differences])


def changed(values: Floats) -> str:
    """A mean difference, with its interval where it is one of several tasks."""
    if not len(values):
        return "-"
    return f"{values.mean():+.3f}" + (f" [{interval(values)}]" if len(values) > 1 else "")


def interval(values: Floats) -> str:
    """Bootstrap interval (95 %) of a mean."""
    rows = np.random.default_rng(0).integers(len(values), size=(REDRAWS, len(values)))
    low, high = np.quantile(values[rows].mean(axis=1), [0.025, 0.975])
    return f"{low:+.3f}, {high:+.3f}"


def print_families(cells: Sequence[Cell], recipe: str) -> None:
    """One line per family, outs and shots of one recipe."""
    print(f"\n{recipe}, by kind of task")
    print("| tasks | outs | shots | AP | F1 | best F1 | ECE | in band | wrong in | wrong outside |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    names = ("AP", "F1", "best F1", "ECE", "in band", "wrong in band", "wrong outside")
    own = [cell for cell in cells if cell.recipe == recipe]
    for (family, shots, outs), group in grouped(own, "family", "shots", "outs").items():
        figure_cells = " | ".join(shown(mean(group, figure)) for figure in names)
        print(f"| {family} | {'yes' if outs else 'no'} | {shots} | {figure_cells} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--background", type=Path, default=Path("models/background/background.jsonl")
    )
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS))
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--baseline", choices=list(RECIPES), help="print differences from it")
    parser.add_argument("--results", type=Path, help="JSON lines to keep every figure in")
    parser.add_argument("--final", action="store_true", help="also judge the test rows, once")
    options = parser.parse_args(argv)
    # Other work on the machine makes threads that wait for each other very slow.
    with threadpool_limits(limits=1):
        compare(options)
    return 0


def compare(options: argparse.Namespace) -> None:
    """Embed, run every recipe on every task, print."""
    embed = Embedder(options.encoder)
    background = list(read_jsonl(options.background))
    crowd = embed(
        [Experience(row["title"], None, row.get("description")).rendered for row in background]
    )
    titles = frozenset(row["title"].lower() for row in background)
    materials = Materials(options.data, embed, titles)
    tasks = [*title_tasks(materials), *experience_tasks(materials, final=False)]
    kept = options.results and options.results.exists()
    known = [Cell(**row) for row in read_jsonl(options.results)] if kept else []
    libraries = ("numpy", "scipy", "scikit-learn", "onnxruntime")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    print(f"{embed.name} ({embed.digest}), int8; {versions}")
    print(f"{len(tasks)} tasks, {len(crowd)} background rows, seeds 0 to {options.draws - 1}")
    print(f"{sum(len(one.description) for one in tasks)} tasks have a description")
    cells = run(tasks, crowd, options, embed.digest, known)
    print_recipes(cells)
    if options.baseline:
        print_beside(cells, options.baseline, options.shots)
    for recipe in ("served head", "served head + name"):
        if recipe in options.recipes:
            print_families(cells, recipe)
    if options.final:
        options.recipes, options.results = ["served head"], None
        last = list(experience_tasks(materials, final=True))
        print_families(run(last, crowd, options, embed.digest), "served head")


if __name__ == "__main__":
    raise SystemExit(main())
