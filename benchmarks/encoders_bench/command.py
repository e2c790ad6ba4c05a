"""The command line: which encoders on which tasks, and the table to print."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.encoders_bench.ablation import adapt_recipes
from benchmarks.encoders_bench.encode import load_encoder
from benchmarks.encoders_bench.experiences import experience_tasks
from benchmarks.encoders_bench.judge import Cell, evaluate
from benchmarks.encoders_bench.table import markdown, vars_of
from benchmarks.encoders_bench.task import Task
from benchmarks.encoders_bench.titles import esco_tasks, jobbert_tasks, linkedin_tasks, rome_tasks


def all_tasks(data: Path, *, use_test_rows: bool) -> list[Task]:
    """Every task of the table."""
    return [
        *rome_tasks(data),
        *jobbert_tasks(data),
        *linkedin_tasks(data),
        *esco_tasks(data),
        *experience_tasks(data, use_test_rows=use_test_rows),
    ]


def read_arguments(description: str | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoders", nargs="+", help="NAME=DIRECTORY; the first is the base")
    parser.add_argument("--ablation", type=Path, help="adapt held-out encoders in this directory")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument(
        "--groups", default="", help="only groups containing one of these, comma separated"
    )
    parser.add_argument(
        "--test-rows", action="store_true", help="judge experiences on the test rows"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="encode in bfloat16: faster, for choosing"
    )
    parser.add_argument("--cache", type=Path, help="keep embeddings here between runs")
    parser.add_argument("--json", type=Path, help="save the figures here")
    return parser.parse_args()


def main(description: str | None) -> None:
    """Command line entry: print the table, and save the figures as JSON when asked."""
    arguments = read_arguments(description)
    wanted = [part for part in arguments.groups.split(",") if part]
    tasks = [
        task
        for task in all_tasks(arguments.data, use_test_rows=arguments.test_rows)
        if not wanted or any(part in task.group for part in wanted)
    ]
    results: dict[str, dict[str, dict[int, Cell]]] = {}
    directories = {
        name: Path(path) for name, _, path in (named.partition("=") for named in arguments.encoders)
    }
    if arguments.ablation:
        base = next(iter(directories.values()))
        directories |= adapt_recipes(arguments.data, base, arguments.ablation)
    for name, directory in directories.items():
        encode = load_encoder(directory, is_bf16=arguments.bf16, cache=arguments.cache)
        results[name] = evaluate(encode, tasks, arguments.draws)
    print(markdown(results))
    if arguments.json:
        figures = {
            name: {
                group: {n: vars_of(cell) for n, cell in row.items()} for group, row in table.items()
            }
            for name, table in results.items()
        }
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
