"""A token bucket for each key with a limit: so many requests at once, refilled over a minute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

_WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Quota:
    """What one request left: whole requests and whole seconds, as headers carry them."""

    admitted: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_after_seconds: int


class TokenBucket:
    """Admits ``limit`` requests at once and then ``limit`` a minute, evenly.

    Source: the leaky bucket as a meter (J. Turner, "New directions in communications", 1986).
    Used by one thread: the event loop's.
    """

    __slots__ = ("_at", "_clock", "_rate", "_tokens", "limit")

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._rate = limit / _WINDOW_SECONDS
        self._clock = clock
        self._tokens = float(limit)
        self._at = clock()

    def take(self) -> Quota:
        """Take a token where there is one."""
        now = self._clock()
        self._tokens = min(float(self.limit), self._tokens + (now - self._at) * self._rate)
        self._at = now
        admitted = self._tokens >= 1.0
        if admitted:
            self._tokens -= 1.0
        missing = max(0.0, 1.0 - self._tokens)
        return Quota(
            admitted=admitted,
            limit=self.limit,
            remaining=int(self._tokens),
            reset_seconds=math.ceil((self.limit - self._tokens) / self._rate),
            retry_after_seconds=max(1, math.ceil(missing / self._rate)),
        )


def share(requests_per_minute: int, processes: int) -> int:
    """The part of a key's limit that one of several API processes admits, at least 1.

    Rounded up: together they admit at most ``processes - 1`` a minute more than the limit.
    """
    return -(-requests_per_minute // processes)
