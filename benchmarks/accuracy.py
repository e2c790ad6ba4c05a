"""Accuracy over the dev tasks: a method beside the baselines, on the same draws and rows.

One command: ``python -m benchmarks.accuracy [--data ../shared/data] [--tasks ...]
[--shots 8 16 32 64] [--draws 5] [--method head] [--baselines usual] [--final] [--json FILE]``.
The functions are those of ``vocation evaluate``; tasks are made of training rows only, and parted as
in `benchmarks.heads`: job ads cut to experiences (title + description, description alone,
description alone of the one French source), JobBERT titles by ISCO code, ROME titles by domain
and by code. A line of the table is the mean over a family's tasks, with an interval over the
draws. ``--final`` judges the test rows of `experiences_ai` instead, with all training rows to
draw from: for a last report, not to choose by.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.dev_tasks.experiences import AI_NAME
from benchmarks.dev_tasks.titles import JOBBERT_TASKS, ROME_CODES, ROME_DOMAINS
from benchmarks.rows import Row, distinct, half_of, read_jsonl
from service.domain.types import Experience
from service.inference.encoder import SideBySide
from service.settings import Settings
from service.training.evaluation.baselines import Baselines
from service.training.evaluation.comparison import number_rows
from service.training.evaluation.drawn import judge_draws
from service.training.evaluation.draws import Partition, part
from service.training.evaluation.groups import ALL
from service.training.evaluation.judged import FIGURES, over_draws
from service.training.evaluation.labelled import Field, LabelledRow
from service.training.evaluation.methods import EvaluatedMethod
from service.training.evaluation.request import Request
from service.training.evaluation.result import FigureRow, plain
from service.training.evaluation.run import library_versions
from service.training.evaluation.tables import NAMES, cell
from service.training.evaluation.workbench import Workbench, background_texts, open_workbench
from service.training.measures import Interval

AI_KEYWORDS = (
    "data scientist",
    "data science",
    "machine learning",
    "deep learning",
    "artificial intelligence",
    "intelligence artificielle",
)
FRENCH_SOURCE = "radar_france_travail"
FAMILIES = (
    "title + description",
    "description",
    "description, one French source",
    "jobbert",
    "rome domain",
    "rome code",
)


@dataclass(frozen=True, slots=True)
class Task:
    """One question: rows parted into those to draw from and those to judge."""

    family: str
    name: str
    keywords: tuple[str, ...]
    parts: Partition


def experience_tasks(data: Path, *, final: bool) -> Iterator[Task]:
    """Job ads as experiences, without `suspect` rows and, of the test rows, without copies."""
    rows = [
        row
        for row in read_jsonl(data / "experiences_ai.jsonl")
        if not row["suspect"]
        and not row.get("boilerplate_in_train")
        and (final or row["split"] == "train")
    ]
    for family, field, source in (
        (FAMILIES[0], "text", None),
        (FAMILIES[1], "description", None),
        (FAMILIES[2], "description", FRENCH_SOURCE),
    ):
        taken = [row for row in rows if source is None or row["source"] == source]
        judged = [
            row["split"] == "test" if final else half_of(row["description"]) == 1 for row in taken
        ]
        labels = [row["label"] == 1 for row in taken]
        texts = [row[field] for row in taken]
        name = f"{family}, test" if final else family
        yield Task(name, AI_NAME, AI_KEYWORDS, parted(texts, labels, judged))


def title_tasks(data: Path) -> Iterator[Task]:
    """JobBERT by ISCO code, ROME by domain and by code."""
    jobbert = distinct(read_jsonl(data / "occupation_titles_jobbert.jsonl"), "train")
    groups = [row["text"] for row in jobbert]
    yield from code_tasks("jobbert", jobbert, [r["isco4"] for r in jobbert], groups, JOBBERT_TASKS)
    rome = distinct(read_jsonl(data / "occupation_titles_rome.jsonl"), "train")
    codes = [row["occupation_code"] for row in rome]
    # Masculine and feminine of one name share a number, and so a half.
    groups = [f"{row['occupation_code']}{row['ogr']}" for row in rome]
    domains = [code[:3] for code in codes]
    yield from code_tasks("rome domain", rome, domains, groups, ROME_DOMAINS)
    yield from code_tasks("rome code", rome, codes, groups, ROME_CODES)


def code_tasks(
    family: str, rows: Sequence[Row], codes: Sequence[str], groups: Sequence[str], wanted: int
) -> Iterator[Task]:
    """A task for each of the most frequent codes, named as most of its rows are."""
    judged = [half_of(group) == 1 for group in groups]
    texts = [row["text"] for row in rows]
    for code, _ in Counter(codes).most_common(wanted):
        labels = [found == code for found in codes]
        names = Counter(
            row["occupation_label"] for row, found in zip(rows, codes, strict=True) if found == code
        )
        yield Task(family, names.most_common(1)[0][0], (), parted(texts, labels, judged))


def parted(texts: Sequence[str], labels: Sequence[bool], judged: Sequence[bool]) -> Partition:
    """Rows with their labels, parted."""
    rows = [
        LabelledRow(number, Experience(text=text), label, None, None, None)
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    return part(rows, [not found for found in judged], "halves")


def run(task: Task, options: argparse.Namespace, bench: Workbench) -> list[FigureRow]:
    """The figures of every method on one task, for the shots that it has the texts for."""
    fewest = min(sum(row.inside is label for row in task.parts.pool) for label in (True, False))
    shots = tuple(number for number in options.shots if number <= fewest)
    request = Request(
        labelled=Path(),
        field=Field.TEXT,
        only=(),
        occupation=None,
        shots=shots,
        draws=options.draws,
        method=EvaluatedMethod(options.method),
        prevalence=None,
        baselines=Baselines(options.baselines),
        keywords=task.keywords,
        name=task.name,
        seed=options.seed,
        command="",
    )
    judging = number_rows(task.parts.judged, None, options.seed)
    drawn = judge_draws(request, bench, task.parts, judging, task.name)
    return [row for row in drawn.figures if row.by == ALL]


def over_tasks(rows: Sequence[FigureRow], seed: int) -> dict[str, Interval]:
    """The mean over tasks; an interval over draws, each averaged over the tasks first.

    What no draw changes has none, but where the family is one task: then it is over its rows.
    """
    if not rows[0].draws and len(rows) == 1:
        return dict(rows[0].intervals)
    if not rows[0].draws:
        values = [{name: row.intervals[name].value for name in FIGURES} for row in rows]
        return over_draws([mean(values)], seed)
    return over_draws(
        [mean(draws) for draws in zip(*(row.draws for row in rows), strict=True)], seed
    )


def mean(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure, leaving out where it is not defined."""
    means = {}
    for name in FIGURES:
        known = [value[name] for value in values if not np.isnan(value[name])]
        means[name] = float(np.mean(known)) if known else float("nan")
    return means


def print_table(found: dict[str, list[FigureRow]], seed: int) -> None:
    """One line for each family, method and number of shots."""
    shown = [name for name in FIGURES if name != "threshold"]
    print("\n| tasks | method | shots |", " | ".join(NAMES[name] for name in shown), "|")
    print("|---" * (3 + len(shown)) + "|")
    for family, rows in found.items():
        cells: dict[tuple[str, int | None], list[FigureRow]] = {}
        for row in rows:
            cells.setdefault((row.method, row.shots), []).append(row)
        for (method, shots), same in cells.items():
            figures = over_tasks(same, seed)
            line = " | ".join(cell(figures[name]) for name in shown)
            print(f"| {family} ({len(same)}) | {method} | {shots or '-'} | {line} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tasks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tasks", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--shots", nargs="+", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--method", choices=list(EvaluatedMethod), default="head")
    parser.add_argument("--baselines", choices=list(Baselines), default="usual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--final", action="store_true", help="judge the test rows, once")
    parser.add_argument("--json", type=Path, help="where to write every task's figures")
    options = parser.parse_args(argv)
    settings = Settings()
    side_by_side = SideBySide(settings.resolved_threads)
    found: dict[str, list[FigureRow]] = {}
    background = background_texts(settings)
    # Other work on the machine makes threads that wait for each other very slow.
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(limits=1, user_api="blas"):
        bench = open_workbench(settings, Path(scratch), side_by_side)
        tasks = list(experience_tasks(options.data, final=options.final))
        tasks += [] if options.final else list(title_tasks(options.data))
        for task in tasks:
            if task.family.removesuffix(", test") in options.tasks:
                parts = task.parts.without(background)
                print(f"{task.family}: {task.name}", file=sys.stderr, flush=True)
                rows = run(Task(task.family, task.name, task.keywords, parts), options, bench)
                found.setdefault(task.family, []).extend(rows)
    side_by_side.close()
    report(options, bench, found)
    return 0


def report(
    options: argparse.Namespace, bench: Workbench, found: dict[str, list[FigureRow]]
) -> None:
    """Print how it was made and the table; write the figures where they are wanted."""
    libraries = library_versions(tuning=options.method != "head" or options.baselines == "stock")
    print(", ".join(f"{name} {version}" for name, version in libraries.items()))
    print(
        f"encoder {bench.source.name}, {bench.encoder.digest[:12]}; seed {options.seed}, "
        f"{options.draws} draws; load average {os.getloadavg()[0]:.1f} at the end"
    )
    print_table(found, options.seed)
    if options.json:
        rows = [
            {
                "tasks": family,
                "method": row.method,
                "shots": row.shots,
                "rows": row.rows,
                "in": row.inside,
                "figures": {name: found.value for name, found in row.intervals.items()},
                "draws": row.draws,
            }
            for family, same in found.items()
            for row in same
        ]
        options.json.write_text(json.dumps(plain(rows), indent=1, allow_nan=False))


if __name__ == "__main__":
    raise SystemExit(main())
