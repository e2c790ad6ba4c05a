"""One window at a time: a contender under a load, everybody else stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.serving_bench.contenders import Contender
from benchmarks.serving_bench.figures import Cell, Measurement, percentile
from benchmarks.serving_bench.processes import Conversation, NotStarted
from benchmarks.serving_bench.texts import Kind

# More than two cores of any machine give today; texts beyond it are repeated, and that is reported.
_TITLES_PER_CPU_SECOND = 2500
_EXPERIENCES_PER_CPU_SECOND = 500


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a window lasts."""

    warm_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since the start: of the server, of the client, of the whole machine."""

    server: float
    client: float
    machine: float


@dataclass
class Bench:
    """The client, the CPUs, and which texts have been used."""

    client: Conversation
    cpus: int
    next_text: int = 0
    # Contenders that stopped answering in the middle, with the reason.
    lost: dict[str, str] = field(default_factory=dict)
    usages: list[Usage] = field(default_factory=list)

    def take_texts(self, kind: Kind, per_request: int, seconds: float) -> tuple[int, int]:
        """Numbers that no window has had: the first, and how many requests they make."""
        per_second = (
            _TITLES_PER_CPU_SECOND if kind == "titles" else _EXPERIENCES_PER_CPU_SECOND
        ) * self.cpus
        requests = max(64, int(per_second * seconds) // per_request)
        first = self.next_text
        self.next_text += requests * per_request
        return first, requests

    def job(
        self, contender: Contender, kind: Kind, per_request: int, texts: tuple[int, int]
    ) -> dict[str, Any]:
        """The part of a job that every load has."""
        return {
            "port": contender.port,
            "path": contender.path,
            "dialect": contender.dialect,
            "kind": kind,
            "per_request": per_request,
            "first": texts[0],
            "requests": texts[1],
        }

    def ask(self, contender: Contender, job: Mapping[str, Any]) -> dict[str, Any]:
        """Let the client (or the ceiling itself) do a job; raises NotStarted when it fails."""
        asked = contender.conversation or self.client
        self.usages.clear()
        found = asked.ask(job, lambda: self.usages.append(self._usage(contender)))
        if found["event"] != "done":
            raise NotStarted(f"{contender.name}: {found['reason']}")
        self.usages.append(self._usage(contender))
        return found

    def window(
        self, contender: Contender, cell: Cell, texts: tuple[int, int], pace: Pace
    ) -> Measurement:
        """Measure a contender in a cell."""
        job = {
            **self.job(contender, cell.kind, cell.per_request, texts),
            "mode": "closed",
            "connections": cell.connections,
            "warm_seconds": pace.warm_seconds,
            "seconds": pace.seconds,
        }
        with running(contender):
            found = self.ask(contender, job)
            memory = contender.tree.memory_bytes()
        begin, end = self.usages[:2]
        wall, latencies = found["wall_seconds"], found["latencies"]
        requests = len(latencies) / found["seconds"]
        # The ceiling's latencies are those of single texts.
        experiences = requests * (1 if contender.role == "ceiling" else cell.per_request)
        server, client = (end.server - begin.server) / wall, (end.client - begin.client) / wall
        other = max(0.0, (end.machine - begin.machine) / wall - server - client)
        return Measurement(
            requests_per_second=requests,
            experiences_per_second=experiences,
            latency_p50=percentile(latencies, 0.5),
            latency_p99=percentile(latencies, 0.99),
            cpu_seconds_per_1000=1000 * server / experiences if experiences else float("nan"),
            server_cpu_share=server / self.cpus,
            client_cpu_share=found["cpu_seconds"] / wall / self.cpus,
            other_cpu_share=other / self.cpus,
            memory_pss=memory["pss"],
            memory_peak_rss=memory["peak_rss"],
            errors=found["errors"],
            repeated=found["repeated"],
        )

    def _usage(self, contender: Contender) -> Usage:
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        return Usage(contender.tree.cpu_seconds(), self.client.tree.cpu_seconds(), busy)


@contextmanager
def running(contender: Contender) -> Iterator[None]:
    """Let a stopped contender run for a while."""
    contender.tree.resume()
    try:
        yield
    finally:
        contender.tree.pause()


def alternate(
    bench: Bench,
    contenders: Sequence[Contender],
    cells: Sequence[Cell],
    rounds: int,
    pace: Pace,
    repeat: int | None = None,
) -> dict[str, dict[Cell, list[Measurement]]]:
    """Rounds of every contender in every cell (A B C A B C ...), all with the same texts.

    With ``repeat`` the texts of that many requests are asked for over and over. A contender that
    stops answering is left out of the results and named in ``bench.lost``.
    """
    results: dict[str, dict[Cell, list[Measurement]]] = {
        contender.name: {cell: [] for cell in cells} for contender in contenders
    }
    for number in range(rounds):
        for cell in cells:
            texts = bench.take_texts(cell.kind, cell.per_request, pace.warm_seconds + pace.seconds)
            texts = (texts[0], repeat or texts[1])
            for contender in contenders:
                if contender.name in bench.lost:
                    continue
                try:
                    measured = bench.window(contender, cell, texts, pace)
                except NotStarted as error:
                    bench.lost[contender.name] = f"stopped answering: {error}"
                    del results[contender.name]
                else:
                    results[contender.name][cell].append(measured)
        print(f"round {number + 1} of {rounds} done", flush=True)
    return results
