"""One run: starts every contender, measures the sections that were asked for, stops everything."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving_bench import agreement, arrivals, beside, peers, starts, variants
from benchmarks.serving_bench.bundle import Export, write_bundle
from benchmarks.serving_bench.contenders import (
    NOTHING_REFUSED,
    Contender,
    Role,
    start_bare,
    start_ceiling,
    start_client,
    start_service,
    wait_ready,
)
from benchmarks.serving_bench.figures import Cell, Measurement
from benchmarks.serving_bench.measure import Bench, Pace, alternate
from service.settings import available_cpus

SECTIONS = ("peers", "starts", "workers", "overload", "cache", "registration", "collections")
OCCUPATION = "ai-engineering"
# Texts at a time of the ceiling that packs: as many as a large cell has in a request.
_PACKED_TEXTS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and for how long."""

    sections: tuple[str, ...]
    cells: tuple[Cell, ...]
    rounds: int
    pace: Pace
    half_load_seconds: float
    overload_seconds: float
    occupations: int
    seed: int
    peers: tuple[str, ...]
    texts_per_run: int
    half_load_roles: tuple[Role, ...]


@dataclass
class Findings:
    """Everything that a run measured; what was not asked for is None."""

    missing: dict[str, str] = field(default_factory=dict)
    peer_versions: dict[str, dict[str, str]] = field(default_factory=dict)
    agreement: dict[str, dict[str, Any]] = field(default_factory=dict)
    start_seconds: dict[str, float] = field(default_factory=dict)
    results: dict[str, dict[Cell, list[Measurement]]] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    half_load: dict[str, Any] | None = None
    overload: dict[str, Any] | None = None
    starts: dict[str, Any] | None = None
    workers: variants.Measured | None = None
    cache: variants.Measured | None = None
    registration: dict[str, Any] | None = None
    collections: dict[str, Any] | None = None


class Session:
    """The running contenders of one run."""

    def __init__(self, plan: Plan, work: Path, venvs: Path) -> None:
        self._plan = plan
        self._work = work
        self._template = work / "template-home"
        self._stack = ExitStack()
        self.findings = Findings()
        self._environments, self.findings.missing = peers.environments(plan.peers, venvs)
        self.findings.peer_versions = {n: e.versions for n, e in self._environments.items()}

    def run(self) -> Findings:
        """Measure every section of the plan."""
        with self._stack:
            contenders, bench = self._start()
            self._compare(bench, contenders)
            self._sections(bench, next(c for c in contenders if c.role == "service"))
        return self.findings

    def _start(self) -> tuple[list[Contender], Bench]:
        plan, work, cpus = self._plan, self._work, available_cpus()
        # A first start makes the home that every service of this run gets a copy of; the peers' graph
        # is exported beside it.
        export = Export(peers.ENCODER, work / "bundle" / "encoder")
        self._stack.callback(export.stop)
        start_service("first", work, self._template, {}).tree.stop()
        bundle = write_bundle(self._template, peers.ENCODER, work / "bundle", OCCUPATION, export)
        home = work / "home"
        shutil.copytree(self._template, home)
        client = start_client(work, OCCUPATION, plan.seed)
        self._stack.callback(client.tree.stop)
        ceilings = []
        for name, at_once in (("ceiling", 1), ("ceiling_packed", _PACKED_TEXTS)):
            ceiling = start_ceiling(name, work, bundle.served, cpus, at_once, plan.seed)
            self._stack.callback(ceiling.tree.stop)
            ceilings.append(ceiling)
        begun = time.monotonic()
        service = start_service("vocation", work, home, NOTHING_REFUSED)
        self._stack.callback(service.tree.stop)
        self.findings.start_seconds["later"] = time.monotonic() - begun
        bare = start_bare(work, self._template, OCCUPATION, cpus)
        self._stack.callback(bare.tree.stop)
        setup = peers.PeerSetup(bundle, work, cpus, plan.texts_per_run)
        ready, missing = peers.start_peers(self._environments, setup)
        for peer in ready:
            self._stack.callback(peer.tree.stop)
        self.findings.missing.update(missing)
        wait_ready(bare, "/readyz")
        contenders = [*ceilings, bare, service, *ready]
        for contender in contenders:
            contender.tree.pause()
        print(f"{len(contenders)} contenders started", flush=True)
        bench = Bench(client, cpus)
        self.findings.agreement, wrong = agreement.check(bench, contenders, bundle.folder)
        self.findings.missing.update(wrong)
        return [c for c in contenders if c.name not in wrong], bench

    def _compare(self, bench: Bench, contenders: Sequence[Contender]) -> None:
        plan, findings = self._plan, self.findings
        findings.peers = tuple(c.name for c in contenders if c.role == "peer")
        if "peers" in plan.sections:
            findings.results = alternate(bench, contenders, plan.cells, plan.rounds, plan.pace)
            findings.missing.update(bench.lost)
            findings.half_load = {
                c.name: arrivals.half_load(
                    bench,
                    c,
                    arrivals.peak_rate(bench, c),
                    plan.half_load_seconds,
                    plan.seed,
                )
                for c in contenders
                if c.role in plan.half_load_roles and c.name in findings.results
            }

    def _sections(self, bench: Bench, ours: Contender) -> None:
        plan, findings = self._plan, self.findings
        if "overload" in plan.sections:
            findings.overload = variants.measure_overload(
                bench, self._work, self._template, plan.overload_seconds, plan.seed
            )
        variant = (bench, ours, self._work, self._template, plan.rounds, plan.pace)
        if "workers" in plan.sections:
            findings.workers = variants.compare_workers(*variant)
        if "cache" in plan.sections:
            findings.cache = variants.compare_cache(*variant)
        if "registration" in plan.sections:
            findings.registration = beside.registration_beside_load(
                bench, self._work, self._template, plan.rounds, plan.pace
            )
        if "collections" in plan.sections:
            findings.collections = beside.collections_under_load(bench, self._work, self._template)
        if "starts" in plan.sections:
            findings.starts = starts.measure_starts(self._work, self._template, plan.occupations)
