"""The service under full load while something else happens: a registration, garbage collections."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving_bench.contenders import Contender, start_service
from benchmarks.serving_bench.figures import Cell
from benchmarks.serving_bench.measure import Bench, Pace
from benchmarks.serving_bench.processes import NotStarted
from benchmarks.serving_bench.starts import occupations, request

_CELL = Cell("titles", 8, 16)
_PROBE = Path(__file__).with_name("collection_probe")
_LIMIT_SECONDS = 300.0
_COLLECTIONS_SECONDS = 20.0
_ENDED = ("succeeded", "failed", "cancelled")


def registration_beside_load(
    bench: Bench, work: Path, template: Path, rounds: int, pace: Pace
) -> dict[str, Any]:
    """Throughput with a fine-tuning running beside it, over that without, in each round."""
    home = work / "beside-home"
    shutil.copytree(template, home)
    service = start_service("beside", work, home, {})
    alone, beside, taken = [], [], []
    try:
        for occupation, _ in zip(occupations(), range(rounds), strict=False):
            alone.append(_throughput(bench, service, pace))
            body = {**occupation, "training": {"method": "setfit"}}
            begun = time.monotonic()
            id = request(service.port, "POST", "/v1/occupations", body)["id"]
            _wait(service.port, id, ("train", "export", "calibrate"))
            beside.append(_throughput(bench, service, pace))
            state, stage = _state(service.port, id)
            if state in _ENDED or stage == "publish":
                raise NotStarted("the fine-tuning ended before the window did")
            _wait(service.port, id, ())
            taken.append(time.monotonic() - begun)
    finally:
        service.tree.stop()
    return {
        "ratio": median(b / a for a, b in zip(alone, beside, strict=True)),
        "alone_experiences_per_second": alone,
        "beside_experiences_per_second": beside,
        "registration_seconds": taken,
    }


def collections_under_load(bench: Bench, work: Path, template: Path) -> dict[str, Any]:
    """The longest stop of an API process by garbage collection during a full load."""
    home, found = work / "collections-home", work / "collections"
    shutil.copytree(template, home)
    settings = {"PYTHONPATH": str(_PROBE), "COLLECTIONS": str(found)}
    service = start_service("collections", work, home, settings)
    try:
        # What the start leaves to collect is not of the load.
        _throughput(bench, service, Pace(1.0, 1.0))
        begun = time.time()
        rate = _throughput(bench, service, Pace(1.0, _COLLECTIONS_SECONDS))
        ended = time.time()
        process = next(
            member
            for member in service.tree.members()
            if "worker.service" in " ".join(member.cmdline())
            and "trainer" not in " ".join(member.cmdline())
        )
    finally:
        service.tree.stop()
    path = found.with_name(f"{found.name}.{process.pid}")
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    within = [
        (int(generation), float(seconds))
        for at, generation, seconds in lines
        if begun <= float(at) <= ended
    ]
    return {
        "experiences_per_second": rate,
        "collections": len(within),
        "full_collections": sum(generation == 2 for generation, _ in within),
        "longest_seconds": max((seconds for _, seconds in within), default=0.0),
        "since_start_longest_seconds": max((float(line[2]) for line in lines), default=0.0),
    }


def _throughput(bench: Bench, service: Contender, pace: Pace) -> float:
    texts = bench.take_texts(_CELL.kind, _CELL.per_request, pace.warm_seconds + pace.seconds)
    measured = bench.window(service, _CELL, texts, pace)
    service.tree.resume()
    return measured.experiences_per_second


def _state(port: int, id: str) -> tuple[str, str | None]:
    found = request(port, "GET", f"/v1/registrations/{id}")
    return found["state"], found["stage"]


def _wait(port: int, id: str, stages: tuple[str, ...]) -> None:
    """Until the registration is in one of the stages, or has ended."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        state, stage = _state(port, id)
        if state in _ENDED or stage in stages:
            return
        time.sleep(0.1)
    raise NotStarted(f"a registration did not get on within {_LIMIT_SECONDS:g} s")
