"""Catching a registration in a stage, killing what works on it, and what must hold at its end."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.registry import encoders, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from tests.support.running_service import RunningService, wait_for
from tests.support.sommelier import SOMMELIER

STAGES = ("head", "train", "export", "calibrate", "gate", "publish")
# Progress at the beginning and the end of the stages, as a registration reports it. ``training``
# is the part of ``train`` after the child has loaded its libraries, which takes seconds; ``publish``
# is that of the tuned version.
_PROGRESS = {
    "head": (0.1, 0.1),
    "train": (0.2, 0.6),
    "training": (0.201, 0.6),
    "export": (0.6, 0.8),
    "calibrate": (0.8, 0.9),
    "gate": (0.9, 0.95),
    "publish": (0.96, 0.99),
}
_OF_THE_TRAINER = ("head", "publish")
# Looking closely begins here: the stages after the export are short.
_CLOSE = {"publish": 0.8, "gate": 0.6, "calibrate": 0.6}
# A process that is being caught runs this long between two looks (of processor time: on a busy
# machine it waits for its turn), and stands still while the others write down and answer what it
# has said. The export lasts a second; of what follows, the shortest stage lasts some ten
# milliseconds.
_RUN_SECONDS_OF_EXPORT, _RUN_SECONDS = 0.02, 0.002
_STILL_SECONDS = 0.03
# Where it does nothing, waiting for others, it is looked at again after this.
_IDLE_SECONDS = 0.2
# Times that a stage may be missed.
_ATTEMPTS = 5


class Missed(Exception):
    """The registration had passed the stage before its process could be stopped."""


def register(service: RunningService, id: str, method: str = "setfit") -> str:
    """Register an occupation; returns the registration's id."""
    body = {**SOMMELIER, "id": id, "training": {"method": method}}
    reply = service.client.post("/v1/occupations", json=body)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def training_child(service: RunningService) -> psutil.Process | None:
    """The process that fine-tunes, None where there is none."""
    for process in service.family():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "service.training.setfit_child" in process.cmdline():
                return process
    return None


def read_registration(service: RunningService, id: str) -> dict[str, Any]:
    """A registration, also while an API process is being replaced."""

    def read() -> dict[str, Any] | None:
        with contextlib.suppress(httpx.TransportError):
            reply = service.client.get(f"/v1/registrations/{id}")
            if reply.status_code == 200:
                body: dict[str, Any] = reply.json()
                return body
        return None

    return wait_for(f"an answer about registration {id}", read)


def catch(service: RunningService, id: str, stage: str) -> psutil.Process:
    """Stop the process that works on a registration while the registration is in a stage.

    Raises Missed. On a busy machine a stage of some milliseconds may be: :func:`catch_any`.
    """
    low, high = _PROGRESS[stage]
    if stage in _OF_THE_TRAINER:
        process = service.worker("trainer")
    else:
        process = wait_for("the training child", lambda: training_child(service))
    near = _CLOSE.get(stage, low) if stage != "head" else 0.0
    wait_for(f"what is before {stage}", lambda: _progress(service, id) >= near, 300)
    # The process runs in short slices between looks: on a busy machine it needs many.
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
        time.sleep(_STILL_SECONDS)
        progress = _progress(service, id)
        if progress > high or _dead(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
            raise Missed(stage)
        if progress >= low:
            return process
        exporting = progress < _PROGRESS["calibrate"][0]
        _let_run(process, _RUN_SECONDS_OF_EXPORT if exporting else _RUN_SECONDS)
    raise AssertionError(f"the registration did not reach {stage}")


def catch_any(
    service: RunningService, occupation: str, stage: str
) -> tuple[str, str, psutil.Process]:
    """Register an occupation and catch it in a stage, again with another one where it was missed.

    Returns the occupation, its registration and the stopped process.
    """
    for attempt in range(_ATTEMPTS):
        name = f"{occupation}-{attempt}"
        id = register(service, name)
        with contextlib.suppress(Missed):
            return name, id, catch(service, id, stage)
        service.follow(id)
    raise AssertionError(f"missed {stage} every time")


def _let_run(process: psutil.Process, seconds: float) -> None:
    begin, deadline = _run_seconds(process), time.monotonic() + _IDLE_SECONDS
    # It may end meanwhile.
    with contextlib.suppress(psutil.NoSuchProcess):
        while time.monotonic() < deadline and _run_seconds(process) - begin < seconds:
            process.resume()
            time.sleep(seconds)
            # The scheduler writes down what a thread ran when it stops.
            process.suspend()


def _run_seconds(process: psutil.Process) -> float:
    """Processor time of all its threads, by the scheduler: nanoseconds, where psutil has ticks."""
    nanoseconds = 0
    # Threads, and the process, may end meanwhile.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def _progress(service: RunningService, id: str) -> float:
    return float(read_registration(service, id)["progress"])


def kill(service: RunningService, victim: str, caught: psutil.Process) -> None:
    """Kill a victim with SIGKILL (``interrupt``: SIGINT, as Ctrl-C) and let the caught go on.

    Returns when the victim, and what may not outlive it, are dead. A killed service is started
    again; BentoML starts killed workers again by itself.
    """
    if victim in ("service", "interrupt"):
        if victim == "service":
            service.kill()
        else:
            caught.resume()
            service.stop(signal.SIGINT)
        service.start()
        return
    process = caught if victim == "child" else service.worker(_WORKERS[victim])
    process.kill()
    wait_for(f"the end of the {victim}", lambda: _dead(process), 60)
    if caught == process:
        return
    caught.resume()
    if victim == "trainer":
        wait_for("the end of its child", lambda: _dead(caught), 60)


_WORKERS = {"trainer": "trainer", "api": "vocation"}


def _dead(process: psutil.Process) -> bool:
    # A dead process stays a zombie until its parent looks.
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_at(
    service: RunningService, occupation: str, kills: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Register an occupation and kill victims, each in a stage, one after the other.

    A stage that was missed is tried again with another registration. Returns the occupations and
    their registrations, which have all ended.
    """
    registered: list[tuple[str, str]] = []
    missed = 0
    while missed < _ATTEMPTS:
        name = f"{occupation}-{len(registered)}"
        id = register(service, name)
        registered.append((name, id))
        missed += 1
        with contextlib.suppress(Missed):
            while kills:
                victim, stage = kills[0]
                kill(service, victim, catch(service, id, stage))
                kills, missed = kills[1:], 0
                if victim != "api" and stage not in _OF_THE_TRAINER:
                    _wait_for_another_child(service, id)
        service.follow(id)
        if not kills:
            return registered
    raise AssertionError(f"missed {kills[0]} every time")


def _wait_for_another_child(service: RunningService, id: str) -> None:
    # Until then the registration reports how far the former child had come.
    begin, _ = _PROGRESS["train"]
    wait_for("another child", lambda: _progress(service, id) <= begin)


def check_published_once(service: RunningService, occupation: str, registration: str) -> None:
    """One version by each method, and the tuned one answers."""
    finished = read_registration(service, registration)
    assert finished["state"] == "succeeded", finished
    published = [(version["method"], version["champion"]) for version in finished["versions"]]
    assert published == [("head", False), ("setfit", True)]
    champion = finished["versions"][1]["version"]
    answers = [
        service.classify([{"text": "Sommelière", "occupations": [asked]}])
        for asked in (occupation, f"{occupation}@{champion}")
    ]
    assert answers[0] == answers[1]
    assert answers[0][0]["scores"][0]["version"] == champion


def check_nothing_left(service: RunningService, temporary: Path, before: set[Path]) -> None:
    """Whole artifacts that versions refer to, and no other file or process of a registration."""
    home = service.home
    store = ArtifactStore(str(home / "artifacts"), home / "cache")
    registry = Database(f"sqlite:///{home / 'registry.sqlite'}")
    with registry.read() as connection:
        used = versions.referenced_artifacts(connection)
        used |= encoders.referenced_artifacts(connection)
    registry.close()
    assert set(store.digests()) == used
    assert all(store.whole(digest) for digest in used)
    folders = {path.parent.name for path in (home / "artifacts").glob("??/*/*")}
    assert folders == used
    assert not list((home / "artifacts").glob(".staging/*"))
    wait_for("the jobs' folders to go", lambda: not list((home / "jobs").iterdir()), 60)
    # BentoML keeps an empty folder for each worker that it has had.
    assert [p for p in temporary.rglob("*") if p not in before and p.is_file()] == []
    assert [p for p in psutil.process_iter(["cmdline"]) if _works_in(p, home / "jobs")] == []
    assert "cannot be loaded" not in service.log.read_text()


def _works_in(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in argument for argument in process.info["cmdline"] or ())
