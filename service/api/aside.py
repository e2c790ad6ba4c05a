"""Long work beside classify: off the event loop, few at once, on threads that give way to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.domain.errors import Overloaded

T = TypeVar("T")

_NICE = 10


class Aside:
    """Runs at most ``most`` pieces of work at once, and refuses one more."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Touched by the event loop alone, but for a place that is given back when work ends.
        self._running: set[threading.Event] = set()
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="aside", initializer=_give_way)

    async def run(self, work: Callable[[threading.Event], T]) -> T:
        """What ``work`` returns; its event is set when nobody waits for it any more.

        Work that was given up keeps its place until it has ended. Raises Overloaded when as many
        are running already.
        """
        if len(self._running) >= self._most:
            raise Overloaded("As many suggest requests are in progress as are taken at once.")
        given_up = threading.Event()
        self._running.add(given_up)
        future = self._threads.submit(work, given_up)
        future.add_done_callback(lambda _: self._running.discard(given_up))
        try:
            return await asyncio.wrap_future(future)
        finally:
            given_up.set()

    def close(self) -> None:
        """Give up what runs, and let the threads end."""
        for given_up in tuple(self._running):
            given_up.set()
        self._threads.shutdown(wait=True, cancel_futures=True)


def _give_way() -> None:
    # Linux keeps a priority for each thread; elsewhere the thread stays as it is.
    with contextlib.suppress(OSError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)
