"""Processes of contenders: started, stopped in between, their CPU time and memory counted."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

_STOP_SECONDS = 20.0


class NotStarted(RuntimeError):
    """A contender that did not become ready; the message has the end of its log."""


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ProcessTree:
    """A process and all that it starts."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        working_directory: Path,
        *,
        piped: bool = False,
    ) -> None:
        self._log = log
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=working_directory,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else sink,
                stderr=sink,
                start_new_session=True,
                text=True,
            )

    def members(self) -> list[psutil.Process]:
        """The processes that live, parents first."""
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def pause(self) -> None:
        """Take the CPU away: SIGSTOP, parents first so that none misses a child."""
        for member in self.members():
            with contextlib.suppress(psutil.NoSuchProcess):
                member.suspend()

    def resume(self) -> None:
        """Go on: SIGCONT."""
        for member in reversed(self.members()):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()

    def cpu_seconds(self) -> float:
        """User and system time of all members, in seconds."""
        total = 0.0
        for member in self.members():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                total += times.user + times.system
        return total

    def memory_bytes(self) -> dict[str, int]:
        """Proportional set size and peak resident set of all members, each summed.

        A forked child's resident set holds what it shares with its parent, which counts once more.
        """
        totals = {"pss": 0, "peak_rss": 0}
        for member in self.members():
            with contextlib.suppress(OSError):
                rollup = _kilobytes(Path(f"/proc/{member.pid}/smaps_rollup"))
                status = _kilobytes(Path(f"/proc/{member.pid}/status"))
                totals["pss"] += 1024 * rollup["Pss"]
                totals["peak_rss"] += 1024 * status["VmHWM"]
        return totals

    def wait_ready(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait until it answers; raises NotStarted."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotStarted(f"ended with {self.process.returncode}: {self.log_end()}")
            if ready():
                return
            time.sleep(0.05)
        raise NotStarted(f"not ready after {timeout_seconds:g} s: {self.log_end()}")

    def log_end(self) -> str:
        """The last lines that it wrote."""
        return self._log.read_text(errors="replace")[-600:].strip()

    def stop(self) -> None:
        """Interrupt, wait, and kill what is left."""
        self.resume()
        family = self.members()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        _, alive = psutil.wait_procs(family, timeout=_STOP_SECONDS)
        for left in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        self.process.wait()


class Conversation:
    """A piped process that answers one JSON job a line with ``mark`` events and a last one."""

    def __init__(self, tree: ProcessTree) -> None:
        self.tree = tree

    def ask(self, job: Mapping[str, Any], mark: Callable[[], None]) -> dict[str, Any]:
        """Send a job; ``mark`` is called at each mark. Raises NotStarted when the process ends."""
        process = self.tree.process
        if process.stdin is None or process.stdout is None:
            raise NotStarted("not piped")
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] != "mark":
                return event
            mark()
        raise NotStarted(f"the process ended: {self.tree.log_end()}")


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _kilobytes(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text().splitlines()[1:])
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) == 3 and row[2] == "kB"}
