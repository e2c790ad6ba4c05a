"""The child process of a fine-tuning as its parent sees it: started, followed, ended."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import VocationError
from service.domain.types import Stage

_CHILD = "service.training.setfit_child"
# Where the stages of the child begin and end within a registration's progress.
_PROGRESS = {
    Stage.TRAIN: (0.2, 0.6),
    Stage.EXPORT: (0.6, 0.8),
    Stage.CALIBRATE: (0.8, 0.9),
    Stage.GATE: (0.9, 0.95),
}
_STAGES = frozenset(stage.value for stage in _PROGRESS)
_REPORT_SECONDS = 0.5
_CANCEL_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit status (negative: the signal that killed it) and last words."""

    status: int
    said: str

    @property
    def last_line(self) -> str:
        """The last line of standard error, empty when it said nothing."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else ""


async def run_child(
    folder: Path, advance: Callable[[Stage, float], None], active: Callable[[], bool]
) -> Ended:
    """Run the job in ``folder`` to its end.

    Args:
        folder: holds ``job.json``; the results stand in ``folder/out``.
        advance: told the stage, and the progress of the registration from 0 to 1. It may block.
        active: whether the work is still wanted; the child is killed soon after it is not, and
            when this coroutine is cancelled. It may block.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _CHILD,
        str(folder),
        # Held open and never written to: the child ends when this process has ended.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C reaches every process of a terminal's group: it would look like a child that died
        # of itself, and the registration would not go on at the next start.
        start_new_session=True,
    )
    errors = asyncio.create_task(_read_all(child.stderr))
    watch = asyncio.create_task(_end_when_unwanted(child, active))
    try:
        await _follow(child, advance)
        status = await child.wait()
        return Ended(status, await errors)
    finally:
        watch.cancel()
        with contextlib.suppress(ProcessLookupError):
            child.kill()


async def _follow(
    child: asyncio.subprocess.Process, advance: Callable[[Stage, float], None]
) -> None:
    reported, last = 0.0, ""
    async for line in _lines(child.stdout):
        name, _, fraction = line.decode().strip().partition(" ")
        # A new stage is told at once; within a stage a write every half second is enough.
        recent = name == last and time.monotonic() - reported < _REPORT_SECONDS
        if recent or name not in _STAGES:
            continue
        stage = Stage(name)
        low, high = _PROGRESS[stage]
        reported, last = time.monotonic(), name
        await asyncio.to_thread(advance, stage, low + (high - low) * float(fraction))


async def _end_when_unwanted(child: asyncio.subprocess.Process, active: Callable[[], bool]) -> None:
    # dbos looks once a second for a cancelled workflow; a caller was promised one second.
    while await asyncio.to_thread(_still, active):  # noqa: ASYNC110 - no event
        await asyncio.sleep(_CANCEL_POLL_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        child.kill()


def _still(active: Callable[[], bool]) -> bool:
    try:
        return active()
    except VocationError:
        # A registry that cannot be read now has cancelled nothing that anybody knows of.
        return True


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    if stream is not None:
        async for line in stream:
            yield line


async def _read_all(stream: asyncio.StreamReader | None) -> str:
    return (await stream.read()).decode(errors="replace") if stream is not None else ""
