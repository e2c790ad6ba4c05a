from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, available_cpus


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VOCATION_")]:
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("400000 200000", 2),
    ],
)
def test_the_cpus_are_bounded_by_the_quota_of_the_control_group(
    tmp_path: Path, quota: str, cpus: int
) -> None:
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(f"{quota}\n")
    assert available_cpus(tmp_path) == cpus


@pytest.mark.usefixtures("eight_cpus")
def test_the_strictest_quota_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    _write(tmp_path / "proc/self/cgroup", "0::/system.slice/vocation.service\n")
    _write(tmp_path / "sys/fs/cgroup/system.slice/cpu.max", "300000 100000")
    _write(tmp_path / "sys/fs/cgroup/system.slice/vocation.service/cpu.max", "max 100000")
    assert available_cpus(tmp_path) == 3


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_quotas_of_version_1_count_too(tmp_path: Path, controllers: str) -> None:
    _write(
        tmp_path / "proc/self/cgroup", f"9:name=systemd:/\n5:{controllers}:/job\n2:cpuset:/other\n"
    )
    _write(tmp_path / "sys/fs/cgroup" / controllers / "job/cpu.cfs_quota_us", "250000\n")
    _write(tmp_path / "sys/fs/cgroup" / controllers / "job/cpu.cfs_period_us", "100000\n")
    _write(tmp_path / "sys/fs/cgroup" / controllers / "cpu.cfs_quota_us", "-1\n")
    assert available_cpus(tmp_path) == 2


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize("content", ["", "200000", "1 2 3"])
def test_a_quota_that_cannot_be_read_bounds_nothing(tmp_path: Path, content: str) -> None:
    _write(tmp_path / "sys/fs/cgroup/cpu.max", content)
    assert available_cpus(tmp_path) == 8


@pytest.mark.usefixtures("eight_cpus")
def test_without_a_control_group_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "nothing") == 8


def test_every_setting_is_read_from_the_environment_under_its_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VOCATION_HOME", "/data/home")
    monkeypatch.setenv("VOCATION_API_WORKERS", "3")
    monkeypatch.setenv("ENCODER", "not-ours")
    settings = Settings()
    assert settings.home == Path("/data/home")
    assert settings.api_workers == 3
    assert settings.encoder == "vocation-fr-en"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VOCATION_DEVICE", "tpu"),
        ("VOCATION_THREADS", "0"),
        ("VOCATION_MAX_BATCH_SIZE", "many"),
        ("VOCATION_LOG_FORMAT", "xml"),
        ("VOCATION_TRACES_ENDPOINT", "collector:4318"),
        ("VOCATION_TRACES_ENDPOINT", "grpc://collector:4317"),
        ("VOCATION_TRACES_ENDPOINT", "http://collector:otlp/v1/traces"),
        ("VOCATION_TRACES_ENDPOINT", "http:///v1/traces"),
        ("VOCATION_TRACES_ENDPOINT", "http://collector:4318"),
        ("VOCATION_TRACES_SAMPLE_RATE", "1.1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("value", "endpoint"),
    [
        ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
        ("https://[::1]/otlp", "https://[::1]/otlp"),
        ("", None),
    ],
)
def test_traces_are_sent_where_a_url_says_and_an_empty_one_is_none(
    monkeypatch: pytest.MonkeyPatch, value: str, endpoint: str | None
) -> None:
    monkeypatch.setenv("VOCATION_TRACES_ENDPOINT", value)
    assert Settings().traces_endpoint == endpoint


def test_database_and_artifacts_live_in_the_home_unless_told_otherwise(tmp_path: Path) -> None:
    at_home = Settings(home=tmp_path)
    assert at_home.resolved_database_url == f"sqlite:///{tmp_path / 'registry.sqlite'}"
    assert at_home.resolved_artifact_url == str(tmp_path / "artifacts")
    elsewhere = Settings(database_url="postgresql://db/vocation", artifact_url="s3://bucket/x")
    assert elsewhere.resolved_database_url == "postgresql://db/vocation"
    assert elsewhere.resolved_artifact_url == "s3://bucket/x"


@pytest.mark.usefixtures("eight_cpus")
def test_the_cpus_are_shared_between_the_api_processes() -> None:
    everything = Settings().resolved_threads
    assert Settings(api_workers=2).resolved_threads == max(1, everything // 2)
    assert Settings(api_workers=100).resolved_threads == 1
    assert Settings(api_workers=100, threads=5).resolved_threads == 5


def test_settings_cannot_be_changed_after_the_start() -> None:
    with pytest.raises(ValidationError):
        Settings().home = Path("/elsewhere")  # type: ignore[misc]
