"""Full disks and damaged artifacts: said clearly, never served, and over once they are over.

A full disk is made with the kernel's limit on the size of files (``RLIMIT_FSIZE``), set on running
processes: their writes really fail, whoever runs the tests, and lifting it is the space freed.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from service.registry import encoders
from service.registry.database import Database
from service.registry.tables import versions
from tests.support.running_service import RunningService, running, wait_for
from tests.support.tiny_service import write_tiny_settings
from tests.support.training_faults import catch_any, check_published_once, register

# The head of so many examples of so many dimensions takes 6.5 MB in one file. The registry's files
# stay below the limit: SQLite starts its log again at 4 MB (wal_autocheckpoint).
DIMENSIONS, EXAMPLES, ARTIFACTS_TOO_LARGE = 1024, 1600, 5_500_000
# Less than one page of the registry.
NOTHING_FITS = 512
CHEF = {"text": "Cheffe de cuisine", "occupations": ["chef"]}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return write_tiny_settings(tmp_path_factory.mktemp("tiny"), DIMENSIONS)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, settings: Mapping[str, str]
) -> Iterator[RunningService]:
    with running(tmp_path_factory.mktemp("storage") / "home", environment=settings) as started:
        yield started


@contextlib.contextmanager
def full(process: psutil.Process, bytes: int) -> Iterator[None]:
    """No file of a process grows beyond so many bytes during the block."""
    process.rlimit(psutil.RLIMIT_FSIZE, (bytes, psutil.RLIM_INFINITY))
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


def _examples(count: int, mark: str) -> dict[str, Any]:
    return {"examples": [{"text": f"Cuisinier {mark} {n}", "label": "in"} for n in range(count)]}


def _add(service: RunningService, occupation: str, body: Mapping[str, Any]) -> str:
    reply = service.client.post(f"/v1/occupations/{occupation}/examples", json=body)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def _no_room(finished: Mapping[str, Any]) -> None:
    assert finished["state"] == "failed"
    assert finished["error"]["code"] == "storage_unavailable"
    # What the kernel says of a file beyond the limit; of a full disk, "No space left on device".
    assert "File too large" in finished["error"]["detail"]


def _wait_for_writes(process: psutil.Process) -> None:
    """Wait until a process has tried to write; it cannot say so, since its log is full too."""
    before = process.io_counters().write_count
    wait_for("writes that fail", lambda: process.io_counters().write_count > before + 20, 90)


def _nothing_staged(service: RunningService) -> None:
    assert not list((service.home / "artifacts").glob(".staging/*"))
    wait_for("no job's folder", lambda: not list(service.home.glob("jobs/*")), 60)


def test_a_head_that_finds_no_room_fails_clearly_and_the_champion_goes_on(
    service: RunningService,
) -> None:
    before = service.classify([CHEF])
    many = _examples(EXAMPLES, "extra")
    with full(service.worker("trainer"), ARTIFACTS_TOO_LARGE):
        failed = service.follow(_add(service, "chef", many))
        _no_room(failed)
        assert failed["versions"] == []
        assert service.classify([CHEF]) == before
        _nothing_staged(service)
    again = service.follow(_add(service, "chef", _examples(1, "other")))
    assert again["state"] == "succeeded", again
    assert service.classify([CHEF])[0]["scores"][0]["version"] == 2


@pytest.mark.parametrize("stage", ["training", "calibrate"])
def test_a_fine_tuning_that_finds_no_room_fails_clearly_and_the_head_goes_on(
    service: RunningService, stage: str
) -> None:
    occupation, id, child = catch_any(service, f"full-{stage}", stage)
    child.rlimit(psutil.RLIMIT_FSIZE, (NOTHING_FITS, NOTHING_FITS))
    child.resume()
    failed = service.follow(id)
    _no_room(failed)
    assert failed["versions"] == [{"version": 1, "method": "head", "champion": True}]
    asked = {"text": "Sommelier", "occupations": [occupation]}
    assert service.classify([asked])[0]["scores"][0]["version"] == 1
    _nothing_staged(service)


def test_while_the_registry_is_full_too_registrations_wait_and_then_end(
    service: RunningService,
) -> None:
    trainer = service.worker("trainer")
    with full(trainer, NOTHING_FITS):
        waiting = register(service, "waiting")
        _wait_for_writes(trainer)
        assert service.client.get(f"/v1/registrations/{waiting}").json()["state"] == "queued"
        assert service.classify([CHEF])
        with full(service.worker("vocation"), NOTHING_FITS):
            refused = service.client.post("/v1/occupations", json={"id": "x", **_examples(4, "x")})
            assert refused.status_code == 503
            assert refused.json()["code"] == "storage_unavailable"
            assert service.classify([CHEF])
    finished = service.follow(waiting)
    check_published_once(service, "waiting", finished["id"])
    assert service.worker("trainer").pid == trainer.pid


def test_a_registry_that_fills_up_at_the_last_step_loses_no_registration(
    service: RunningService,
) -> None:
    occupation, id, trainer = catch_any(service, "last-step", "publish")
    with full(trainer, NOTHING_FITS):
        trainer.resume()
        _wait_for_writes(trainer)
        assert service.client.get(f"/v1/registrations/{id}").json()["state"] == "running"
    finished = service.follow(id)
    assert (finished["state"], finished["error"]["code"]) == ("failed", "storage_unavailable")
    assert [version["method"] for version in finished["versions"]] == ["head"]
    # The occupation is not blocked by it.
    again = service.follow(_add(service, occupation, _examples(1, "more")))
    check_published_once(service, occupation, again["id"])
    _nothing_staged(service)


@pytest.fixture(scope="module")
def tuned_home(
    tmp_path_factory: pytest.TempPathFactory, settings: Mapping[str, str]
) -> tuple[Path, Mapping[str, str]]:
    """A stopped home with an occupation whose tuned version answers, and its artifacts' digests."""
    home = tmp_path_factory.mktemp("tuned") / "home"
    with running(home, environment=settings) as service:
        id = register(service, "tuned")
        service.follow(id)
        check_published_once(service, "tuned", id)
    registry = Database(f"sqlite:///{home / 'registry.sqlite'}")
    with registry.read() as connection:
        base = encoders.base_encoder(connection)
        rows = connection.execute(select(versions).where(versions.c.occupation == "tuned"))
        digests = {
            f"{row.method} {part}": row[f"{part}_digest"]
            for row in (row._mapping for row in rows)
            for part in ("encoder", "trunk", "artifact")
        }
    registry.close()
    assert base is not None
    return home, {**digests, "base": base.digest}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _file(home: Path, digest: str, name: str) -> Path:
    (folder,) = (home / "artifacts").glob(f"??/{digest}")
    return folder / name


def _error(item: Mapping[str, Any]) -> str:
    assert "scores" not in item, item
    return str(item["error"]["code"])


@pytest.mark.parametrize(
    ("artifact", "name", "damage"),
    [
        ("setfit trunk", "model.onnx", _truncate),
        ("setfit encoder", "model.onnx", _flip),
        ("setfit artifact", "head.safetensors", _flip),
        ("setfit artifact", "LISTING.json", _truncate),
    ],
)
def test_a_damaged_champion_is_not_served_and_a_registration_heals_the_occupation(
    tuned_home: tuple[Path, Mapping[str, str]],
    settings: Mapping[str, str],
    tmp_path: Path,
    artifact: str,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    home, digests = tmp_path / "home", tuned_home[1]
    shutil.copytree(tuned_home[0], home)
    damage(_file(home, digests[artifact], name))
    text = "Sommelier"
    asked = [{"text": text, "occupations": [id]} for id in ("tuned", "tuned@2", "tuned@1", "chef")]
    with running(home, environment=settings) as service:
        answers = service.classify(asked)
        assert [_error(answer) for answer in answers[:2]] == ["version_unavailable"] * 2
        # Its neighbours in the request, the former version among them, are answered.
        assert [answer["scores"][0]["version"] for answer in answers[2:]] == [1, 1]
        if artifact == "setfit trunk":
            # Other examples make another version, on the same trunk, which is stored anew.
            healed = service.follow(_add(service, "tuned", _examples(1, "more")))
            assert healed["state"] == "succeeded"
            answers = service.classify([*asked, {"text": text, "occupations": ["tuned@4"]}])
            assert all("scores" in answer for answer in answers)
            assert answers[0]["scores"][0]["version"] == 4
        else:
            promoted = service.client.put("/v1/occupations/tuned/champion", json={"version": 1})
            assert promoted.status_code == 200
            assert service.classify(asked)[0]["scores"][0]["version"] == 1


def test_damage_to_a_running_service_reaches_only_what_it_has_to_load(
    tuned_home: tuple[Path, Mapping[str, str]], settings: Mapping[str, str], tmp_path: Path
) -> None:
    home, digests = tmp_path / "home", tuned_home[1]
    shutil.copytree(tuned_home[0], home)
    asked = [{"text": "Sommelier", "occupations": [id]} for id in ("tuned", "chef")]
    challenger = {"text": "Sommelier", "occupations": ["tuned@1"]}
    with running(home, environment=settings) as service:
        before = service.classify(asked)
        # At its start the Trainer would find a damaged base encoder, and build it again.
        service.wait_for_trainer()
        paths = [
            _file(home, digests["setfit encoder"], "model.onnx"),
            _file(home, digests["head artifact"], "head.safetensors"),
            _file(home, digests["base"], "model.onnx"),
        ]
        whole = [path.read_bytes() for path in paths]
        for path in paths:
            _flip(path)
        # The champions are loaded; the challenger is not, and is never loaded from half a file.
        answers = service.classify([*asked, challenger])
        assert answers[:2] == before
        assert _error(answers[2]) == "version_unavailable"
        failed = service.follow(_add(service, "tuned", _examples(1, "more")))
        assert failed["state"] == "failed"
        assert failed["error"]["code"] == "artifact_corrupted"
        assert service.classify(asked) == before
        for path, content in zip(paths, whole, strict=True):
            path.write_bytes(content)
        assert service.classify([challenger])[0]["scores"][0]["version"] == 1
        healed = service.follow(_add(service, "tuned", _examples(1, "again")))
        assert healed["state"] == "succeeded", healed
