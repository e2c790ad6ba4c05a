"""Figures that tests of faults measure, so that docs/faults.md can be brought up to date."""

from __future__ import annotations

from typing import Protocol


class Measured(Protocol):
    """Records a figure of a test: in the report, and on the terminal with ``-s``."""

    def __call__(self, what: str, value: float, unit: str) -> None: ...
