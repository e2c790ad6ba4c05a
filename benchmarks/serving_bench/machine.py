"""The machine that a measurement ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from service.settings import available_cpus

# Instructions that int8 products are fast with.
_INT8_FLAGS = ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_LIBRARIES = (
    "bentoml", "fastapi", "numpy", "onnxruntime", "orjson", "psutil", "pydantic", "starlette",
    "tokenizers", "uvicorn", "uvloop", "httptools", "vocation",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """CPU, memory, limits of the control group and load at this moment."""
    fields = _cpu_fields()
    load = os.getloadavg()
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "int8_instructions": [f for f in _INT8_FLAGS if f in fields.get("flags", "").split()],
        "cpus": os.cpu_count(),
        "cpus_allowed": available_cpus(),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_limit_bytes": _memory_limit(),
        "load_average": [round(value, 2) for value in load],
        "nice": os.nice(0),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def libraries() -> dict[str, str | None]:
    """Versions of what serves, None for what is not installed."""
    return {name: _version(name) for name in _LIBRARIES}


def _cpu_fields() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _memory_limit() -> int | None:
    for name in _MEMORY_LIMITS:
        try:
            limit = Path(name).read_text().strip()
        except OSError:
            continue
        # Version 1 writes a huge number where there is no limit.
        if limit.isdigit() and int(limit) < psutil.virtual_memory().total:
            return int(limit)
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
