"""Folds in processes of their own: what comes back, and that nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from service.training.cross_tuning import shared_folds
from service.training.forked import Forked
from tests.support.running_service import wait_for


def test_the_bytes_of_the_work_come_back() -> None:
    both = [Forked(lambda mark=mark: mark * 200_000) for mark in (b"a", b"b")]  # type: ignore[misc]
    assert [forked.result() for forked in both] == [b"a" * 200_000, b"b" * 200_000]


def test_work_that_raises_is_an_error_here() -> None:
    def fail() -> bytes:
        raise ValueError

    with pytest.raises(RuntimeError, match="could not be tuned"):
        Forked(fail).result()


def test_stopping_leaves_no_process() -> None:
    def for_ever() -> bytes:
        signal.pause()
        return b""

    forked = Forked(for_ever)
    (child,) = psutil.Process().children()
    forked.stop()
    assert not child.is_running()
    forked.stop()


_PARENT = """
import os, signal, sys
from service.training.forked import Forked

def for_ever():
    signal.pause()

forked = Forked(for_ever)
print(forked._process, flush=True)
{then}
"""


def _parent(then: str) -> subprocess.Popen[str]:
    program = _PARENT.format(then=then)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def _gone(process: int) -> Callable[[], bool]:
    return lambda: not psutil.pid_exists(process)


def test_a_killed_parent_takes_it_along() -> None:
    with _parent("signal.pause()") as parent:
        assert parent.stdout is not None
        forked = int(parent.stdout.readline())
        parent.kill()
        wait_for("the fork's end", _gone(forked), 10)


def test_a_kill_of_the_fork_ends_its_parent_by_the_same_signal() -> None:
    with _parent("forked.result()") as parent:
        assert parent.stdout is not None
        os.kill(int(parent.stdout.readline()), signal.SIGKILL)
        assert parent.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("folds", "processes", "shares"),
    [
        (6, 1, [[0, 1, 2, 3, 4, 5]]),
        (6, 2, [[1, 3, 5], [0, 2, 4]]),
        (6, 4, [[3], [0, 4], [1, 5], [2]]),
        (3, 16, [[2], [0], [1]]),
    ],
)
def test_folds_are_shared_so_that_the_first_process_has_time_for_the_version(
    folds: int, processes: int, shares: list[list[int]]
) -> None:
    assert shared_folds(folds, processes) == shares
