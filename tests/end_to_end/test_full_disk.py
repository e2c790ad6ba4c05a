"""A disk without a free byte under a running service, API process killed on it included."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.measured import Measured
from tests.support.running_service import SERVE, RunningService, wait_for
from tests.support.small_disk import SmallDisk, can_mount
from tests.support.sommelier import SOMMELIER

DISK_BYTES = 64 << 20
CHEF = {"text": "Cheffe de cuisine", "occupations": ["chef"]}
NEW = {**SOMMELIER, "id": "sommelier", "training": {"method": "head"}}


@pytest.fixture
def disk(prepared_tiny_home: Path, tmp_path: Path) -> SmallDisk:
    folder = tmp_path / "disk"
    folder.mkdir()
    if not can_mount(folder):
        pytest.skip("the kernel lets nobody mount a file system here")
    return SmallDisk(folder, prepared_tiny_home, DISK_BYTES)


def _new_series(service: RunningService) -> set[int]:
    """Ask what gives metrics series that they did not have; how each was answered."""
    paths = [f"/v1/occupations/{id}" for id in ("chef", "nobody")] + ["/v1/nothing", "/v1/classify"]
    return {
        service.client.request(method, path).status_code
        for path in paths
        for method in ("GET", "PUT", "DELETE", "OPTIONS")
        if (method, path) != ("DELETE", "/v1/occupations/chef")
    }


def _accepted(service: RunningService) -> str | None:
    reply = service.client.post("/v1/occupations", json=NEW)
    return str(reply.json()["id"]) if reply.status_code == 202 else None


def _answers(service: RunningService) -> list[dict[str, object]] | None:
    # A successor that is not ready yet answers too.
    with contextlib.suppress(httpx.TransportError):
        reply = service.client.post("/v1/classify", json={"experiences": [CHEF]})
        if reply.status_code == 200:
            answers: list[dict[str, object]] = reply.json()
            return answers
    return None


def test_on_a_disk_without_a_free_byte_classify_goes_on_even_from_a_new_process(
    disk: SmallDisk, tmp_path: Path, tiny_settings: Mapping[str, str], measured: Measured
) -> None:
    home = tmp_path / "disk" / "home"
    service = RunningService(home, command=disk.command(SERVE), environment=tiny_settings)
    service.start()
    try:
        service.wait_for_trainer()
        before = service.classify([CHEF])
        with disk.full(service.family()[0].pid):
            assert _new_series(service) <= {200, 404, 405}
            refused = service.client.post("/v1/occupations", json=NEW)
            assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
            assert "disk is full" in refused.json()["detail"]
            service.worker("vocation").kill()
            killed = time.monotonic()
            assert wait_for("an answer", lambda: _answers(service), 30) == before
            measured("silence after the API process was killed", time.monotonic() - killed, "s")
            _new_series(service)
        assert service.classify([CHEF]) == before
        registration = wait_for("a registration that is accepted", lambda: _accepted(service), 30)
        assert service.follow(registration)["state"] == "succeeded"
    finally:
        service.stop()
        service.client.close()


def test_what_the_api_process_maps_for_metrics_is_on_no_disk(
    tiny_home: Path, tiny_settings: Mapping[str, str]
) -> None:
    service = RunningService(tiny_home, environment=tiny_settings)
    service.start()
    try:
        mapped = {Path(each.path) for each in service.worker("vocation").memory_maps()}
        metrics = {path for path in mapped if path.name.startswith(("counter_", "histogram_"))}
        assert metrics
        in_memory = {
            part.mountpoint for part in psutil.disk_partitions(all=True) if part.fstype == "tmpfs"
        }
        assert all(str(path.parent.parent) in in_memory for path in metrics)
    finally:
        service.stop()
        service.client.close()
