"""Start a service of its own, let the users at it, and judge what they were given.

``python -m loadtests [--seconds 60] [--users 10] [--json FILE]``. The soak is
``python -m loadtests --seconds 600``. Exit status 1: a threshold was not kept. ``--untimed`` is for
machines that do other work: timings are printed and not judged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from loadtests.profiles import EVENTS
from loadtests.verdict import Check, Request, Thresholds, judge, percentile

BIN = Path(sys.executable).parent
_START_SECONDS = 180.0
_SAMPLE_SECONDS = 1.0
# Small enough to be full after the first third of a soak of ten minutes: what grows then is no cache.
_KEPT_BYTES = {
    "VOCATION_EMBEDDING_CACHE_BYTES": str(8 << 20),
    "VOCATION_ENCODER_CACHE_BYTES": str(48 << 20),
}


@contextmanager
def running_service(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A service on a free port, stopped at the end; its address and its supervisor."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOCATION_")},
        "VOCATION_HOME": str(home / "vocation"),
        "BENTOML_HOME": str(home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        **_KEPT_BYTES,
    }
    address = f"http://127.0.0.1:{port}"
    with (home / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "vocation"), "serve", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_ready(f"{address}/readyz", process, home / "service.log")
        yield address, psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


class Memory(threading.Thread):
    """Resident bytes of the API processes, sampled while the users are at it."""

    def __init__(self, supervisor: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._supervisor = supervisor
        self._ended = threading.Event()
        self.samples: list[tuple[float, int]] = []

    def run(self) -> None:
        """Sample until stopped."""
        while not self._ended.wait(_SAMPLE_SECONDS):
            started = {}
            for process in self._supervisor.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    command = process.cmdline()
                    if "--service-name" in command and "vocation" in command:
                        started[process.pid] = (process.ppid(), process.memory_info().rss)
            # A process that serves is the child of one that waits, and shares what that one holds.
            size = sum(rss for parent, rss in started.values() if parent in started)
            self.samples.append((time.time(), size))

    def stop(self) -> None:
        """End the sampling."""
        self._ended.set()
        self.join()


def drive(address: str, users: int, seconds: int, events: Path) -> list[Request]:
    """Let Locust's users at the service; returns their requests."""
    subprocess.run(
        [
            *(str(BIN / "locust"), "-f", str(Path(__file__).with_name("locustfile.py"))),
            *("--headless", "--host", address, "--users", str(users), "--spawn-rate", str(users)),
            *("--run-time", f"{seconds}s", "--stop-timeout", "10", "--only-summary"),
            # What failed is judged here, by share.
            *("--exit-code-on-error", "0"),
        ],
        check=True,
        env={**os.environ, EVENTS: str(events), "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        # Its summary, which is taken from its events here.
        stderr=subprocess.DEVNULL,
    )
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    return [Request(row["at"], row["name"], row["milliseconds"], row["failed"]) for row in rows]


def report(requests: Sequence[Request], checks: Sequence[Check]) -> None:
    """Print what happened and what it was judged by."""
    print("| request | count | failed | p50 ms | p99 ms |")
    print("|---|---|---|---|---|")
    for name, count in sorted(Counter(request.name for request in requests).items()):
        own = [request for request in requests if request.name == name]
        times = [request.milliseconds for request in own]
        failed = sum(request.failed for request in own)
        print(
            f"| {name} | {count} | {failed} | {percentile(times, 50):.0f} "
            f"| {percentile(times, 99):.0f} |"
        )
    print("\n| check | figure | bound | |")
    print("|---|---|---|---|")
    for check in checks:
        said = "kept" if check.passed else "NOT KEPT"
        print(f"| {check.what} | {check.figure:.3f} | {check.bound} | {said} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--untimed", action="store_true", help="judge errors and memory alone")
    parser.add_argument("--json", type=Path, help="where to write requests' figures and checks")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with running_service(home) as (address, supervisor):
            memory = Memory(supervisor)
            memory.start()
            requests = drive(address, options.users, options.seconds, home / "events.jsonl")
            memory.stop()
    checks = judge(requests, memory.samples, Thresholds())
    report(requests, checks)
    sizes = [size for _, size in memory.samples]
    print(f"\nAPI processes: {min(sizes) / 1e6:.0f} to {max(sizes) / 1e6:.0f} MB resident")
    if options.json:
        rows = [{name: getattr(check, name) for name in Check.__slots__} for check in checks]
        options.json.write_text(json.dumps({"checks": rows, "memory_bytes": sizes}, indent=1))
    judged = [check for check in checks if not (options.untimed and check.is_timing)]
    return 0 if all(check.passed for check in judged) else 1


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(url, timeout=2) as reply,
        ):
            if reply.status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"the service did not start:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
