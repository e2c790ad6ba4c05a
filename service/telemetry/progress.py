"""Progress of long work: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

logger = logging.getLogger(__name__)


class Progress:
    """Shows how far some work is; use it as a context manager."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._announced = -1
        self._bar: tqdm[None] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total or None, desc=what, file=sys.stderr, leave=True)

    def advance(self, count: int) -> None:
        """Add finished items."""
        self._show(self._done + count, "")

    def step(self, done: int, total: int, what: str) -> None:
        """Say which step of how many begins."""
        self._total = total
        if self._bar is not None:
            self._bar.total = total
        self._show(done, what)

    def _show(self, done: int, what: str) -> None:
        self._done = done
        if self._bar is not None:
            if what:
                self._bar.set_postfix_str(what)
            self._bar.n = done
            self._bar.refresh()
            return
        quarter = 4 * done // self._total if self._total else 0
        if what or quarter > self._announced:
            self._announced = quarter
            logger.info("%s: %d/%d %s", self._what, done, self._total, what)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._total:
            self._show(self._total, "done")
        if self._bar is not None:
            self._bar.close()
