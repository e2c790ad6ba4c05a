"""The command line: which methods on which draws, and the table to print."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.training_bench.methods import METHODS, prepare
from benchmarks.training_bench.results import Result, print_table
from benchmarks.training_bench.tasks import tasks
from benchmarks.versions import TUNING, versions_of
from service.settings import DEFAULT_ENCODER


def main(description: str | None, argv: Sequence[str] | None = None) -> int:
    """Run the methods on the tasks and print the table."""
    names = ("title + description", "description", "jobbert")
    parser = argparse.ArgumentParser(description=description)
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
    results = measure(options)
    print(versions_of(TUNING))
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


def measure(options: argparse.Namespace) -> list[Result]:
    """Every method on every draw of every task; each result is shown as it is found."""
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
    return results
