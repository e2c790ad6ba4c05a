"""Seconds on the clock and of the processor."""

from __future__ import annotations

import resource
import time

from benchmarks.rows import Row


def processor_seconds() -> float:
    """Processor time of this process and of the children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def spent_since(started: float, processor: float) -> Row:
    """Seconds since two clocks were read."""
    return {
        "seconds": time.perf_counter() - started,
        "processor_seconds": processor_seconds() - processor,
    }
