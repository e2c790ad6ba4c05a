"""Metrics live in memory: a disk that is full must not end the processes that count.

prometheus-client's multiprocess mode writes through memory maps of sparse files. Where the disk
has no room for a page of such a file, the kernel ends the process with SIGBUS (mmap(2)).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

# Linux keeps files there in memory (tmpfs(5)); other systems have no such folder.
_MEMORY = Path("/dev/shm")  # noqa: S108  # made with mode 700, and used only if it is our own
_PREFIX = "vocation-metrics-"
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_ENDED = "ZX"


def keep_in_memory(
    environment: MutableMapping[str, str], supervisor: int, memory: Path = _MEMORY
) -> None:
    """Point prometheus-client to a folder in memory, one for all processes of a supervisor.

    To be called before prometheus-client is imported. Does nothing in a process that BentoML has
    given no folder, and leaves BentoML's where there is no file system in memory. The folder stays
    while this process or a fork of it lives, its supervisor gone or not. Folders that nobody holds
    any more are removed, and so are the live gauges of processes that have ended.
    """
    started = _started(supervisor)
    if _VARIABLE not in environment or started is None:
        return
    _sweep(memory)
    folder = memory / f"{_PREFIX}{supervisor}-{started}"
    try:
        held = _hold(folder)
    except OSError:
        return
    if held:
        environment[_VARIABLE] = str(folder)
        for process in _counted(folder):
            if _started(process) is None:
                forget(process, environment)


def forget(process: int, environment: Mapping[str, str]) -> None:
    """Take a process out of the gauges that say what is there now.

    As prometheus-client's ``mark_process_dead``, which fails where another process does the same
    at that moment, or where the folder cannot be written.
    """
    if _VARIABLE not in environment:
        return
    for file in Path(environment[_VARIABLE]).glob(f"gauge_live*_{process}.db"):
        with contextlib.suppress(OSError):
            file.unlink()


def _hold(folder: Path) -> bool:
    """Make a folder and keep it; False where somebody else's is in the way.

    The lock (flock(2)) is that of this process and its forks, and ends with the last of them.
    Containers may share the file system and not the numbers of processes: it is valid in all.
    """
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(folder, _FOLDER)
        except FileNotFoundError:
            continue
        # Everybody may write in such a file system: somebody else's folder is not taken for ours.
        if os.fstat(descriptor).st_uid != os.getuid():
            os.close(descriptor)
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # Another start may have swept it between its making and the lock.
        if _is(folder, descriptor):
            return True
        os.close(descriptor)


def _sweep(memory: Path) -> None:
    for folder, process, started in _folders(memory):
        if _started(process) != started:
            with contextlib.suppress(OSError):
                _remove_unless_held(folder)


def _remove_unless_held(folder: Path) -> None:
    """Raises OSError where the folder is held, or cannot be opened."""
    descriptor = os.open(folder, _FOLDER)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is(folder, descriptor):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _is(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _folders(memory: Path) -> Iterator[tuple[Path, int, int]]:
    for folder in memory.glob(f"{_PREFIX}*-*"):
        process, _, started = folder.name.removeprefix(_PREFIX).partition("-")
        if process.isdecimal() and started.isdecimal():
            yield folder, int(process), int(started)


def _counted(folder: Path) -> set[int]:
    """The processes that have live gauges in a folder, as prometheus-client names its files."""
    numbers = {file.stem.rpartition("_")[2] for file in folder.glob("gauge_live*_*.db")}
    return {int(number) for number in numbers if number.isdecimal()}


def _started(process: int) -> int | None:
    """When a process was started, in ticks since boot (proc_pid_stat(5), field 22), or None.

    A number alone can be somebody else's by now. A process that has ended has none, though nobody
    may have waited for it.
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, field 2, stands in brackets and may hold anything; the state is field 3.
    state, *others = stat.rpartition(")")[2].split()
    return None if state in _ENDED else int(others[18])
