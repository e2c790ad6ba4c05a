"""Work that runs beside its caller in a fork of the process, with everything loaded already.

Small matrix products gain nothing from a second thread (docs/fine-tuning.md), while the folds of a
cross-validation are independent. A fork has the weights and libraries without loading them again,
and generators of its own, so that equal seeds give equal results on any number of processors.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable

# Of prctl(2), Linux: the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1


class Forked:
    """``work`` in a process of its own; its bytes are read by `result`."""

    def __init__(self, work: Callable[[], bytes]) -> None:
        read, write = os.pipe()
        parent = os.getpid()
        self._process: int | None = os.fork()
        if self._process == 0:
            os.close(read)
            _run(work, write, parent)
        os.close(write)
        self._content = os.fdopen(read, "rb")

    def result(self) -> bytes:
        """Wait for the end.

        Raises RuntimeError when the work raised; its traceback went to standard error. Killed by
        a signal, this process ends by the same one: whoever started it knows what that means.
        """
        if self._process is None:
            raise RuntimeError("the result was taken already")
        content = self._content.read()
        _, status = os.waitpid(self._process, 0)
        self._process = None
        self._content.close()
        if os.WIFSIGNALED(status):
            os.kill(os.getpid(), os.WTERMSIG(status))
        if status != 0:
            raise RuntimeError("a fold could not be tuned")
        return content

    def stop(self) -> None:
        """End the process if its result was not taken."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            self._process = None
            self._content.close()


def _run(work: Callable[[], bytes], write: int, parent: int) -> None:
    """Do the work and end the process, whatever happens."""
    status = 1
    try:
        _end_with(parent)
        # Held open, it would keep whoever reads this process's output waiting for its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        content = work()
        with os.fdopen(write, "wb") as pipe:
            pipe.write(content)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _end_with(parent: int) -> None:
    """Die when the parent does. Elsewhere than on Linux: at the end of the work."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
