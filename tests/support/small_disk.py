"""A disk that is really full: a small file system in memory, mounted for one service alone.

The service is started in a mount namespace of its own (unshare(1)); Linux lets ordinary users do
so in a user namespace (user_namespaces(7)), containers often do not.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
# $0 is the mount point, $1 the folder that is copied there, the rest the command.
_MOUNT = 'mount -t tmpfs -o size="$2" tmpfs "$0" && cp -r "$1" "$0" && shift 2 && exec "$@"'
_BLOCK_BYTES = 4096


def can_mount(folder: Path) -> bool:
    """Whether this machine lets a process mount a file system of its own."""
    command = [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class SmallDisk:
    """A mount point, a folder that is copied to it, and the size of the disk."""

    def __init__(self, folder: Path, content: Path, bytes: int) -> None:
        self._folder = folder
        self._start = [*_UNSHARE, "sh", "-c", _MOUNT, str(folder), str(content), str(bytes)]

    def command(self, command: Sequence[str]) -> list[str]:
        """A command that sees the disk; nobody else does."""
        return [*self._start, *command]

    def seen_by(self, process: int) -> Path:
        """The disk from outside, through a process that has it."""
        return Path(f"/proc/{process}/root{self._folder}")

    @contextlib.contextmanager
    def full(self, process: int) -> Iterator[None]:
        """Not a byte fits on the disk during the block."""
        filler = self.seen_by(process) / "filler"
        _fill(filler)
        try:
            yield
        finally:
            filler.unlink()


def _fill(filler: Path) -> None:
    block = bytes(_BLOCK_BYTES)
    with filler.open("wb", buffering=0) as out:
        try:
            while out.write(block):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
