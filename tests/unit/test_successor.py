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
import errno, os, signal, sys, time
from pathlib import Path
from service import successor

def say(what):
    os.write(1, f"{what} {os.getpid()}\\n".encode())

def fail_twice(call, failures=[1, 2]):
    def failing():
        if failures:
            failures.pop()
            say("failed")
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return call()
    return failing

how = sys.argv[1]
# A shell starts what it puts into the background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
if how == "children ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if how == "another system":
    del signal.sigtimedwait
if how == "long pause":
    successor._FIRST_PAUSE_SECONDS = successor._LONGEST_PAUSE_SECONDS = 60.0
if how.startswith("no "):
    name = how.split()[1]
    setattr(os, name, fail_twice(getattr(os, name)))
successor.serve_in_a_child(orphan_seconds=0.2, hanging_seconds=2.0)
# As prometheus-client names what the process counts.
for kind in ("gauge_livesum", "gauge_livemin", "counter"):
    Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"{kind}_{os.getpid()}.db").touch()
if how == "ends":
    say("serving")
    sys.exit(7)
if how in ("graceful", "hangs"):
    def stop(*_):
        say("stopping")
        if how == "graceful":
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
        self._metrics = metrics
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

    def counts(self, child: int) -> set[str]:
        """The kinds of metrics that a child has."""
        files = self._metrics.glob(f"*_{child}.db")
        return {file.stem.removesuffix(f"_{child}") for file in files}


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


@pytest.mark.parametrize("serving", ["hangs"], indirect=True)
def test_an_orphan_that_does_not_end_when_it_is_asked_to_is_killed(serving: Serving) -> None:
    child = serving.child()
    serving.parent.kill()
    serving.parent.wait()
    assert wait_for("being asked", lambda: serving.said("stopping"), 20) == [child]
    assert wait_for("its end", lambda: _has_ended(child), 20)


@pytest.mark.parametrize("serving", ["long pause"], indirect=True)
def test_a_parent_that_is_asked_to_end_before_there_is_a_successor_ends_at_once(
    serving: Serving,
) -> None:
    child = serving.child()
    os.kill(child, signal.SIGKILL)
    # It is waited for, so the pause has begun.
    wait_for("the pause", lambda: not psutil.pid_exists(child), 20)
    serving.parent.terminate()
    assert serving.parent.wait(20) == 128 + signal.SIGTERM
    assert serving.said("serving") == [child]


@pytest.mark.parametrize("serving", ["no fork", "no pipe"], indirect=True)
def test_where_no_process_can_be_started_the_parent_tries_again(serving: Serving) -> None:
    os.kill(serving.child(), signal.SIGKILL)
    assert serving.child(2)
    assert serving.said("failed") == [serving.parent.pid] * 2
    assert serving.parent.poll() is None


@pytest.mark.parametrize("serving", ["children ignored", "another system"], indirect=True)
def test_a_successor_needs_neither_the_signals_it_was_started_with_nor_those_of_linux_alone(
    serving: Serving,
) -> None:
    os.kill(serving.child(), signal.SIGKILL)
    assert serving.child(2)
    serving.parent.terminate()
    assert serving.parent.wait(20) == 128 + signal.SIGTERM


def test_what_a_killed_child_had_in_progress_is_forgotten(serving: Serving) -> None:
    child = serving.child()
    os.kill(child, signal.SIGKILL)
    successor = serving.child(2)
    assert serving.counts(child) == {"counter"}
    assert serving.counts(successor) == {"counter", "gauge_livesum", "gauge_livemin"}


@pytest.mark.parametrize("serving", ["ends", "serves", "graceful"], indirect=True)
def test_what_a_child_that_was_not_killed_had_in_progress_is_forgotten(serving: Serving) -> None:
    child = serving.child()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
    serving.parent.wait(20)
    assert serving.counts(child) == {"counter"}


@pytest.mark.parametrize("serving", ["graceful", "hangs"], indirect=True)
def test_what_an_orphan_had_in_progress_is_forgotten_when_it_is_asked_to_end(
    serving: Serving,
) -> None:
    child = serving.child()
    serving.parent.kill()
    serving.parent.wait()
    wait_for("being asked", lambda: serving.said("stopping"), 20)
    assert serving.counts(child) == {"counter"}


_LOADED = """
import sys
import onnxruntime
import service.successor
from service.domain.errors import DeviceUnavailable

sessions = []
class Session:
    def __init__(self, *_, **__):
        sessions.append(self)
    def get_providers(self):
        return ["CPUExecutionProvider"]

onnxruntime.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
onnxruntime.InferenceSession = Session
service.successor.serve_in_a_child = lambda: print("forks after", len(sessions), "sessions")
try:
    import service.bento
    print("loaded")
    service.bento.process.start()
except DeviceUnavailable as error:
    print(error.detail)
"""


@pytest.mark.parametrize(
    ("arguments", "before"),
    [
        (["--service-name", "vocation"], ["forks after 0 sessions", "loaded"]),
        (["--service-name", "trainer"], ["forks after 0 sessions", "loaded"]),
        # BentoML's supervisor, in which nothing forks and which ends here.
        ([], []),
    ],
)
def test_a_gpu_is_asked_for_by_the_supervisor_and_by_children_and_never_before_a_fork(
    tmp_path: Path, arguments: list[str], before: list[str]
) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED, *arguments],
        env={
            **os.environ,
            "VOCATION_DEVICE": "cuda",
            "VOCATION_HOME": str(tmp_path),
            "BENTOML_HOME": str(tmp_path / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *lines, last = loaded.stdout.splitlines()
    assert lines == before
    assert "CUDA provider does not start here" in last


def _has_ended(process: int) -> bool:
    # Whoever takes orphans in may not wait for them.
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
