"""Writes down how long each garbage collection stops a process: Python imports it at its start.

On ``PYTHONPATH`` of a service. One line a collection in the file that ``COLLECTIONS`` names, with
the process id appended: when it ended (seconds since 1970), its generation, its seconds.
"""

from __future__ import annotations

import gc
import os
import time
from typing import Any


def _watch(path: str) -> None:
    begun = 0.0

    def collected(phase: str, about: dict[str, Any]) -> None:
        nonlocal begun
        if phase == "start":
            begun = time.perf_counter()
            return
        seconds = time.perf_counter() - begun
        with open(f"{path}.{os.getpid()}", "a") as lines:  # noqa: PTH123 - nothing more is loaded
            lines.write(f"{time.time()} {about['generation']} {seconds}\n")

    gc.callbacks.append(collected)


if "COLLECTIONS" in os.environ:
    _watch(os.environ["COLLECTIONS"])
