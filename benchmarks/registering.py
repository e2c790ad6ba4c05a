"""What a researcher waits for: seconds from the request to the first answer and to the champion.

One command: ``python -m benchmarks.registering [--data ../shared/data] [--task "title +
description"] [--shots 16] [--runs 5] [--json FILE]``. A real ``vocation serve`` on a new home
takes one registration after the other, method ``auto``, over HTTP. The clock starts before the
request is sent. First answer: the first ``classify`` that has the new occupation. Champion
decided: the registration has ended, the tuned version promoted or kept as a challenger. Examples
are drawn from the training rows as `benchmarks.training` draws them; run number is seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving_bench.contenders import start_service
from benchmarks.serving_bench.starts import request
from benchmarks.training_bench.tasks import Task, tasks
from benchmarks.versions import TUNING, versions_of

Row = dict[str, Any]
_POLL_SECONDS = 0.02
_LIMIT_SECONDS = 600.0


def register(port: int, one: Task, shots: int, seed: int) -> Row:
    """Register once and wait for its end; seconds of each stage from the tuned manifest."""
    name = f"run-{seed}"
    body = {
        "id": name,
        "name": one.title,
        "prevalence": round(one.prevalence, 4),
        "examples": [
            {"text": example.experience.text, "label": example.label.value}
            for example in one.draw(shots, seed)
        ],
        "training": {"method": "auto"},
    }
    question = {"experiences": [{"text": one.judged[0], "occupations": [name]}]}
    started = time.perf_counter()
    registration = request(port, "POST", "/v1/occupations", body)["id"]
    first_answer = None
    while True:
        found = request(port, "GET", f"/v1/registrations/{registration}")
        if first_answer is None and found["versions"]:
            request(port, "POST", "/v1/classify", question)
            first_answer = time.perf_counter() - started
        if found["state"] in ("succeeded", "failed", "cancelled"):
            break
        if time.perf_counter() - started > _LIMIT_SECONDS:
            raise TimeoutError(f"{found['state']} after {_LIMIT_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)
    decided = time.perf_counter() - started
    if found["state"] != "succeeded":
        raise RuntimeError(f"{found['state']}: {found['error']}")
    last = found["versions"][-1]
    version = request(port, "GET", f"/v1/occupations/{name}/versions/{last['version']}")
    return {
        "seed": seed,
        "first_answer_seconds": first_answer,
        "champion_seconds": decided,
        "promoted": last["champion"],
        "stages": version["manifest"]["durations_seconds"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Start the service, register as often as asked, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--task", default="title + description")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write every run")
    options = parser.parse_args(argv)
    (one,) = tasks(options.data, [options.task], rows=1000, most_codes=1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        service = start_service("registering", work, work / "home", {})
        try:
            runs = [register(service.port, one, options.shots, n) for n in range(options.runs)]
        finally:
            service.tree.stop()
    print(versions_of(TUNING))
    print(f"{options.task}, {options.shots} + {options.shots} examples, {os.cpu_count()} CPUs, ")
    print(f"load average {load:.1f} at the start; seeds 0 to {options.runs - 1}\n")
    print("| run | first answer, s | champion decided, s | promoted | stages, s |")
    print("|---|---|---|---|---|")
    for run in runs:
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in run["stages"].items())
        print(
            f"| {run['seed']} | {run['first_answer_seconds']:.2f} "
            f"| {run['champion_seconds']:.1f} | {'yes' if run['promoted'] else 'no'} | {stages} |"
        )
    for figure in ("first_answer_seconds", "champion_seconds"):
        values = [run[figure] for run in runs]
        print(f"{figure}: median {statistics.median(values):.2f}, worst {max(values):.2f}")
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
