"""Real processes: a parent that waits, and children that say who they are and do as they are told."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.running_service import wait_for

_SERVING = """
import os, signal, sys, time
from service.successor import serve_in_a_child

def say(what):
    os.write(1, f"{what} {os.getpid()}\\n".encode())

# A shell starts what it puts into the background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
serve_in_a_child(orphan_seconds=0.2)
if sys.argv[1] == "ends":
    sys.exit(7)
if sys.argv[1] == "graceful":
    def stop(*_):
        say("stopping")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
say("serving")
while True:
    time.sleep(60)
"""


class Serving:
    """A parent and its children, by what the children have said."""

    def __init__(self, log: Path, how: str, metrics: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self.parent = subprocess.Popen(
                [sys.executable, "-c", _SERVING, how],
                stdout=out,
                start_new_session=True,
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
            )

    def said(self, what: str) -> list[int]:
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [int(process) for word, process in lines if word == what]

    def child(self, number: int = 1) -> int:
        """The process that was the so-manieth to serve."""
        return wait_for("a child", lambda: self.said("serving")[number - 1 : number], 20)[0]


@pytest.fixture
def serving(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serving]:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    started = Serving(tmp_path / "log", getattr(request, "param", "serves"), metrics)
    yield started
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.parent.pid, signal.SIGKILL)
    started.parent.wait()


@pytest.mark.parametrize("killing", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
def test_a_killed_child_has_a_successor_again_and_again(
    serving: Serving, killing: signal.Signals
) -> None:
    children = []
    for number in (1, 2, 3):
        children.append(serving.child(number))
        os.kill(children[-1], killing)
    assert len({*children, serving.child(4)}) == 4
    assert serving.parent.poll() is None


@pytest.mark.parametrize("serving", ["graceful"], indirect=True)
def test_a_parent_that_is_asked_to_end_asks_its_child_and_ends_after_it(serving: Serving) -> None:
    child = serving.child()
    serving.parent.terminate()
    assert serving.parent.wait(20) == 0
    assert serving.said("stopping") == [child]
    assert not psutil.pid_exists(child)


def test_a_child_that_was_asked_to_end_has_no_successor(serving: Serving) -> None:
    os.kill(serving.child(), signal.SIGTERM)
    assert serving.parent.wait(20) == 128 + signal.SIGTERM
    assert len(serving.said("serving")) == 1


def test_ctrl_c_ends_both(serving: Serving) -> None:
    child = serving.child()
    os.killpg(serving.parent.pid, signal.SIGINT)
    assert serving.parent.wait(20) != 0
    assert not psutil.pid_exists(child)


@pytest.mark.parametrize("serving", ["ends"], indirect=True)
def test_a_child_that_fails_by_itself_ends_its_parent_with_the_same_code(serving: Serving) -> None:
    assert serving.parent.wait(20) == 7


@pytest.mark.parametrize("serving", ["graceful"], indirect=True)
def test_the_child_of_a_killed_parent_serves_on_and_then_ends_gracefully(serving: Serving) -> None:
    child = serving.child()
    serving.parent.kill()
    serving.parent.wait()
    assert wait_for("its end", lambda: serving.said("stopping"), 20) == [child]


def test_what_a_killed_child_had_in_progress_is_forgotten(serving: Serving, tmp_path: Path) -> None:
    child = serving.child()
    gauge, counter = (
        tmp_path / "metrics" / f"{kind}_{child}.db" for kind in ("gauge_livesum", "counter")
    )
    gauge.touch()
    counter.touch()
    os.kill(child, signal.SIGKILL)
    serving.child(2)
    assert not gauge.exists()
    assert counter.exists()
