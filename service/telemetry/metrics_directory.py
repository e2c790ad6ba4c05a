"""Metrics live in memory: a disk that is full must not end the processes that count.

prometheus-client's multiprocess mode writes through memory maps of sparse files. Where the disk
has no room for a page of such a file, the kernel ends the process with SIGBUS (mmap(2)).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, MutableMapping
from pathlib import Path

# Linux keeps files there in memory (tmpfs(5)); other systems have no such folder.
_MEMORY = Path("/dev/shm")  # noqa: S108  # made with mode 700, and used only if it is our own
_PREFIX = "vocation-metrics-"
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def keep_in_memory(
    environment: MutableMapping[str, str], supervisor: int, memory: Path = _MEMORY
) -> None:
    """Point prometheus-client to a folder in memory, one for all processes of a supervisor.

    To be called before prometheus-client is imported. Does nothing in a process that BentoML has
    given no folder, and leaves BentoML's where there is no file system in memory. What supervisors
    that are gone have left there is removed.
    """
    started = _started(supervisor)
    if _VARIABLE not in environment or started is None:
        return
    _sweep(memory)
    folder = memory / f"{_PREFIX}{supervisor}-{started}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        # Everybody may write in such a file system: somebody else's folder is not taken for ours.
        own = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
    except OSError:
        return
    if own:
        environment[_VARIABLE] = str(folder)


def _sweep(memory: Path) -> None:
    for folder, process, started in _folders(memory):
        if _started(process) != started:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(memory: Path) -> Iterator[tuple[Path, int, int]]:
    for folder in memory.glob(f"{_PREFIX}*-*"):
        process, _, started = folder.name.removeprefix(_PREFIX).partition("-")
        if process.isdecimal() and started.isdecimal():
            yield folder, int(process), int(started)


def _started(process: int) -> int | None:
    """When a process was started, in ticks since boot (proc_pid_stat(5), field 22), or None.

    A number alone can be somebody else's by now.
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, field 2, stands in brackets and may hold anything.
    return int(stat.rpartition(")")[2].split()[19])
