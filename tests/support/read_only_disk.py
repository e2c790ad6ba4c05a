"""A disk that becomes read-only under running processes, without privileges and without a mount.

The kernel refuses to remount a file system read-only while files on it are open for writing; it
does so itself when the disk fails (ext4's ``errors=remount-ro``). A small preloaded library answers
EROFS to every call that would write below a folder while a switch, a file, is there, by path and
through descriptors that were open before. What is written through memory maps cannot be caught:
SQLite's ``-shm`` (so its locks work on, as they do in memory that is already mapped) and the files
of prometheus-client, which are not in the home.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


class ReadOnlyDisk:
    """What stands below ``folder``, for processes that are started with ``environment``."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        library = scratch / "read_only_disk.so"
        self._switch = scratch / "read-only"
        _compile(library)
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "READ_ONLY_FOLDER": str(folder.resolve()),
            "READ_ONLY_SWITCH": str(self._switch),
        }

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written during the block."""
        self._switch.touch()
        try:
            yield
        finally:
            self._switch.unlink()


def _compile(library: Path) -> None:
    compiler = shutil.which("cc")
    assert compiler is not None, "these tests compile a small library: install a C compiler (cc)"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
