"""Virtual environments of the peers, made once from full pin files and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_INSTALL_SECONDS = 1800
_MARK = ".installed"
# What a peer's figures hang on.
_REPORTED = (
    "setfit", "torch", "sentence-transformers", "transformers", "fastapi", "uvicorn", "uvloop",
    "httptools", "litserve", "mlserver", "infinity_emb", "optimum-onnx", "onnxruntime",
    "tokenizers", "numpy",
)  # fmt: skip


class CannotInstall(RuntimeError):
    """Why a peer's environment could not be made."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A peer's environment: its interpreter and the versions that matter."""

    python: Path
    versions: dict[str, str]

    def script(self, name: str) -> str:
        """A command that the environment installed."""
        return str(self.python.with_name(name))


def environment_of(name: str, requirements: Path, venvs: Path) -> Environment:
    """The environment of a peer, installed when its pins have changed; raises CannotInstall."""
    folder = venvs.resolve() / name
    python = folder / "bin" / "python"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    mark = folder / _MARK
    if not mark.exists() or mark.read_text() != digest:
        print(f"installing {name} ...", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)])
        mark.write_text(digest)
    return Environment(python, reported_versions(requirements.read_text()))


def reported_versions(requirements: str) -> dict[str, str]:
    """The pins of a requirement file that a report names."""
    lines = [line for line in requirements.splitlines() if "==" in line]
    pins = {line.split("==")[0]: line.split("==")[1] for line in lines}
    return {name: pins[name] for name in _REPORTED if name in pins}


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"not installed after {_INSTALL_SECONDS} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise CannotInstall("; ".join(errors[-2:]) or done.stderr[-300:])
