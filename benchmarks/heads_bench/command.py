"""The command line: which recipes on which draws, and the tables to print."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks.dev_tasks.embedder import Embedder
from benchmarks.dev_tasks.experiences import experience_tasks
from benchmarks.dev_tasks.materials import Materials, embed_background
from benchmarks.dev_tasks.titles import title_tasks
from benchmarks.heads_bench.cells import Cell
from benchmarks.heads_bench.measure import run
from benchmarks.heads_bench.tables import print_beside, print_families, print_recipes
from benchmarks.recipes.compared import RECIPES
from benchmarks.rows import read_jsonl
from benchmarks.versions import FITTING, versions_of
from service.settings import DEFAULT_ENCODER

SHOTS = (4, 8, 16, 32, 64)


def main(description: str | None, argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=description)
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
    crowd, titles = embed_background(options.background, embed)
    materials = Materials(options.data, embed, titles)
    tasks = [*title_tasks(materials), *experience_tasks(materials, final=False)]
    kept = options.results and options.results.exists()
    known = [Cell(**row) for row in read_jsonl(options.results)] if kept else []
    print(f"{embed.name} ({embed.digest}), int8; {versions_of(FITTING)}")
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
