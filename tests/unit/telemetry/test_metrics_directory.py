from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.telemetry.metrics_directory import forget, keep_in_memory
from tests.support.running_service import wait_for

DISK = "/on/a/disk"
_WORKER = """
import os, sys, time
from pathlib import Path
from service.successor import serve_in_a_child
from service.telemetry.metrics_directory import keep_in_memory

keep_in_memory(os.environ, supervisor=int(sys.argv[1]), memory=Path(sys.argv[2]))
serve_in_a_child(orphan_seconds=60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def environment() -> dict[str, str]:
    """As BentoML starts a worker."""
    return {"PROMETHEUS_MULTIPROC_DIR": DISK}


@pytest.fixture
def supervisor() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def _folder(environment: dict[str, str]) -> Path:
    return Path(environment["PROMETHEUS_MULTIPROC_DIR"])


def test_the_workers_of_a_supervisor_share_a_folder_that_only_their_user_can_read(
    environment: dict[str, str], tmp_path: Path
) -> None:
    other = dict(environment)
    for worker in (environment, other):
        keep_in_memory(worker, os.getpid(), tmp_path)
    assert _folder(environment) == _folder(other)
    assert _folder(environment).parent == tmp_path
    assert _folder(environment).stat().st_mode & 0o777 == 0o700


def test_two_supervisors_do_not_add_up_their_metrics(
    environment: dict[str, str], tmp_path: Path
) -> None:
    other = dict(environment)
    keep_in_memory(environment, os.getpid(), tmp_path)
    keep_in_memory(other, os.getppid(), tmp_path)
    assert _folder(environment).is_dir()
    assert _folder(other).is_dir()
    assert _folder(environment) != _folder(other)


def test_what_a_supervisor_that_is_gone_has_left_is_removed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    # Its number is free, and that of a process that lives now once was another's.
    left = [
        tmp_path / f"vocation-metrics-{number}" for number in (f"{ended}-1", f"{os.getpid()}-1")
    ]
    for folder in left:
        folder.mkdir()
        (folder / "counter_1.db").touch()
    keep_in_memory(environment, os.getpid(), tmp_path)
    assert list(tmp_path.iterdir()) == [_folder(environment)]


def test_the_folder_of_a_killed_supervisor_stays_until_its_last_process_has_ended(
    environment: dict[str, str], tmp_path: Path, supervisor: subprocess.Popen[bytes]
) -> None:
    """Its workers go on, and what they count is found by their successors."""
    command = [sys.executable, "-c", _WORKER, str(supervisor.pid), str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        [left] = tmp_path.iterdir()
        for process in (supervisor, parent):
            process.kill()
            process.wait()
            keep_in_memory(dict(environment), os.getpid(), tmp_path)
            assert left.is_dir()
        orphan.kill()

    def removed() -> bool:
        keep_in_memory(dict(environment), os.getpid(), tmp_path)
        return not left.exists()

    assert wait_for("the sweep", removed, 20)


@pytest.mark.parametrize("made_again", [False, True])
def test_a_folder_that_another_start_sweeps_before_it_is_held_is_made_again(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    made_again: bool,
) -> None:
    hold = fcntl.flock
    swept: list[Path] = []

    def sweep_first(descriptor: int, how: int) -> None:
        if not swept:
            [folder] = tmp_path.iterdir()
            # Kept, as the number of a folder that is gone may be given again.
            swept.append(folder.rename(tmp_path / "swept"))
            if made_again:
                folder.mkdir(mode=0o700)
        hold(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    keep_in_memory(environment, os.getpid(), tmp_path)
    assert _folder(environment).parent == tmp_path
    with pytest.raises(BlockingIOError), _opened(_folder(environment)) as descriptor:
        hold(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_was_made_again_while_it_was_swept_is_not_removed(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"vocation-metrics-{os.getpid()}-1"
    left.mkdir()
    hold = fcntl.flock

    def make_again_first(descriptor: int, how: int) -> None:
        if how & fcntl.LOCK_EX:
            left.rename(tmp_path / "swept")
            left.mkdir()
        hold(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", make_again_first)
    keep_in_memory(environment, os.getpid(), tmp_path)
    assert left.is_dir()


def test_what_processes_that_have_ended_had_in_progress_is_forgotten_at_a_start(
    environment: dict[str, str], tmp_path: Path
) -> None:
    # The second one is not waited for, as where its parent was killed too.
    waited_for, left = (os.fork() or os._exit(0) for _ in range(2))
    os.waitpid(waited_for, 0)
    os.waitid(os.P_PID, left, os.WEXITED | os.WNOWAIT)
    first = dict(environment)
    keep_in_memory(first, os.getpid(), tmp_path)
    for process in (waited_for, left, os.getpid()):
        for kind in ("gauge_livesum", "gauge_livemostrecent", "gauge_max", "counter"):
            (_folder(first) / f"{kind}_{process}.db").touch()
    keep_in_memory(environment, os.getpid(), tmp_path)
    os.waitpid(left, 0)
    live = {file.name for file in _folder(environment).glob("gauge_live*")}
    assert live == {f"gauge_{mode}_{os.getpid()}.db" for mode in ("livesum", "livemostrecent")}
    assert len(list(_folder(environment).glob("counter_*"))) == 3
    assert len(list(_folder(environment).glob("gauge_max_*"))) == 3


def test_what_cannot_be_forgotten_stops_nobody(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(7, {})
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    files = [tmp_path / f"gauge_{mode}_7.db" for mode in ("livemin", "livesum")]
    for file in (*files, tmp_path / "gauge_livesum_17.db"):
        file.touch()
    # Another process is quicker, with one of them.
    remove = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda file: (remove(file), remove(file)))
    forget(7, environment)
    assert [file.name for file in tmp_path.iterdir()] == ["gauge_livesum_17.db"]


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_what_is_not_ours_stays_where_it_is(environment: dict[str, str], tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("vocation-metrics-", "vocation-metrics-a-b", "other")]
    for folder in others:
        folder.mkdir()
    keep_in_memory(environment, os.getpid(), tmp_path)
    assert all(folder.is_dir() for folder in others)


def test_a_link_that_somebody_has_laid_in_the_way_is_not_followed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    keep_in_memory(environment, os.getpid(), tmp_path)
    ours = _folder(environment)
    ours.rmdir()
    (tmp_path / "elsewhere").mkdir()
    ours.symlink_to(tmp_path / "elsewhere")
    environment["PROMETHEUS_MULTIPROC_DIR"] = DISK
    keep_in_memory(environment, os.getpid(), tmp_path)
    assert environment["PROMETHEUS_MULTIPROC_DIR"] == DISK


def test_without_a_file_system_in_memory_bentomls_folder_is_used(
    environment: dict[str, str], tmp_path: Path
) -> None:
    keep_in_memory(environment, os.getpid(), tmp_path / "missing")
    assert environment["PROMETHEUS_MULTIPROC_DIR"] == DISK


def test_a_process_that_is_no_worker_is_left_alone(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    keep_in_memory(environment, os.getpid(), tmp_path)
    assert environment == {}
    assert list(tmp_path.iterdir()) == []
