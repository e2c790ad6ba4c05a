from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.telemetry.metrics_directory import keep_in_memory

DISK = "/on/a/disk"


@pytest.fixture
def environment() -> dict[str, str]:
    """As BentoML starts a worker."""
    return {"PROMETHEUS_MULTIPROC_DIR": DISK}


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
