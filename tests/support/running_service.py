"""A real service for end-to-end tests: real processes, a real registry, real HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

T = TypeVar("T")

BIN = Path(sys.executable).parent
SERVE = [str(BIN / "vocation"), "serve"]


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, condition: Callable[[], T | None], timeout_seconds: float = 120.0) -> T:
    """Poll a condition until it gives something true; fails with what was waited for."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        # Before the look: a test that was held up itself looks once more.
        is_last = time.monotonic() >= deadline
        found = condition()
        if found:
            return found
        if is_last:
            raise AssertionError(f"waited {timeout_seconds:g} s for {what}")
        time.sleep(0.05)


class RunningService:
    """One ``vocation serve`` (or ``bentoml serve``) with its own home and port."""

    def __init__(
        self,
        home: Path,
        *,
        command: Sequence[str] = SERVE,
        environment: Mapping[str, str] | None = None,
        working_directory: Path | None = None,
    ) -> None:
        self.home = home
        self.port = free_port()
        self.log = home.parent / f"{home.name}-{self.port}.log"
        self._command = [*command, "--port", str(self.port)]
        self._environment = {
            **os.environ,
            "VOCATION_HOME": str(home),
            "BENTOML_HOME": str(home.parent / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            # Its own tests turn it on: minutes of training would change champions under others.
            "VOCATION_FINE_TUNING": "off",
            **(environment or {}),
        }
        self._working_directory = working_directory
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def start(self, timeout_seconds: float = 180.0) -> float:
        """Start and wait for ``/readyz``; returns the seconds it took."""
        started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._working_directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for("/readyz", self._ready, timeout_seconds)
        except AssertionError:
            self.stop()
            raise AssertionError(f"not ready:\n{self.log.read_text()[-4000:]}") from None
        return time.monotonic() - started

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Interrupt the service as Ctrl-C does and wait until every process has ended."""
        if self.process is None:
            return
        family = self.family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        _, alive = psutil.wait_procs(family, timeout=30)
        self.process.wait()
        self.process = None
        for left in alive:
            left.kill()
        if alive:
            raise AssertionError(f"still running after the interrupt: {alive}")

    def kill(self) -> None:
        """End every process at once, as when the machine's power fails."""
        family = self.family()
        # The supervisor is the first: nobody is started again.
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait()
            self.process = None
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive, alive

    def family(self) -> list[psutil.Process]:
        """The supervisor and every process that it started."""
        if self.process is None:
            return []
        try:
            supervisor = psutil.Process(self.process.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def worker(self, service: str) -> psutil.Process:
        """The process that works as a BentoML service (``vocation`` or ``trainer``)."""
        return wait_for(f"a process of {service}", lambda: self.workers(service))[0]

    def workers(self, service: str) -> list[psutil.Process]:
        """The processes that work; each is the child of one that waits for its end."""
        started = self._started(service)
        ids = {process.pid for process, _ in started}
        return [process for process, parent in started if parent in ids]

    def waiting_process(self, service: str) -> psutil.Process:
        """The one that BentoML started, and that starts the worker's successor."""
        return wait_for("a parent", lambda: self._started(service))[0][0]

    def _started(self, service: str) -> list[tuple[psutil.Process, int]]:
        """Processes with the command of a worker of a BentoML service, and their parents' ids.

        Parents come first.
        """
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                command = process.cmdline()
                if "--service-name" in command:
                    name = command[command.index("--service-name") + 1]
                    found += [(process, process.ppid())] if name == service else []
        return found

    def wait_for_trainer(self) -> None:
        """Wait until the Trainer has loaded its libraries; ``/readyz`` does not."""
        wait_for("the Trainer", lambda: "the Trainer is ready" in self.log.read_text())

    def classify(self, experiences: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Score experiences; fails unless the reply is a 200."""
        reply = self.client.post("/v1/classify", json={"experiences": list(experiences)})
        assert reply.status_code == 200, reply.text
        answers: list[dict[str, Any]] = reply.json()
        return answers

    def follow(self, registration: str, timeout_seconds: float = 300.0) -> dict[str, Any]:
        """Poll a registration until it has finished."""

        def finished() -> dict[str, Any] | None:
            with contextlib.suppress(httpx.TransportError):
                reply = self.client.get(f"/v1/registrations/{registration}")
                if reply.status_code == 200:
                    body: dict[str, Any] = reply.json()
                    return body if body["state"] not in ("queued", "running") else None
            return None

        return wait_for(f"registration {registration}", finished, timeout_seconds)

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}")
        # A connection each: one of several API workers says nothing of the others.
        workers = int(self._environment.get("VOCATION_API_WORKERS", "1"))
        asked = 1 if workers == 1 else 20
        with contextlib.suppress(httpx.TransportError):
            return all(
                httpx.get(f"{self.client.base_url}/readyz", timeout=60).status_code == 200
                for _ in range(asked)
            )
        return False


@contextlib.contextmanager
def running(home: Path, **options: Any) -> Iterator[RunningService]:
    """A service that runs for the length of a block."""
    service = RunningService(home, **options)
    service.start()
    try:
        yield service
    finally:
        service.stop()
        service.client.close()
