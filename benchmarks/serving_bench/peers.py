"""The real peers: what somebody would pick instead, each with its best documented settings.

The sources of each setting stand in the peer's own file under ``benchmarks/peers/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving_bench.bundle import Bundle
from benchmarks.serving_bench.contenders import (
    PEERS,
    ROOT,
    Command,
    Contender,
    start_server,
    wait_ready,
)
from benchmarks.serving_bench.processes import NotStarted, free_port
from benchmarks.serving_bench.venvs import CannotInstall, Environment, environment_of

ENCODER = ROOT / "models" / "encoder"


@dataclass(frozen=True, slots=True)
class PeerSetup:
    """What every peer is given."""

    bundle: Bundle
    work: Path
    threads: int
    texts_per_run: int


def _setfit(environment: Environment, setup: PeerSetup) -> Command:
    return Command(
        _script(environment, "setfit_app", setup, "--encoder", str(ENCODER)),
        "/ready",
        "/classify",
        "texts",
    )


def _litserve(environment: Environment, setup: PeerSetup) -> Command:
    more = ("--texts-per-run", str(setup.texts_per_run))
    return Command(
        _script(environment, "litserve_app", setup, *more), "/health", "/predict", "texts"
    )


def _mlserver(environment: Environment, setup: PeerSetup) -> Command:
    folder = setup.work / "mlserver"
    folder.mkdir()
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "gzip_enabled": False,
    }
    model = {
        "name": "occupation",
        "implementation": "benchmarks.peers.mlserver_model.OccupationModel",
        "max_batch_size": 32,
        "max_batch_time": 0.002,
        "parameters": {
            "extra": {
                "bundle": str(setup.bundle.folder),
                "threads": setup.threads,
                "texts_per_run": setup.texts_per_run,
            },
        },
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return Command(
        (environment.script("mlserver"), "start", str(folder)),
        "/v2/health/ready",
        "/v2/models/occupation/infer",
        "v2",
        {"MLSERVER_HTTP_PORT": "{port}"},
    )


def _infinity(environment: Environment, setup: PeerSetup) -> Command:
    arguments = {
        # Where it runs, with the graph beside it: optimum-onnx 0.1.0 finds a graph by its bare name.
        "--model-id": ".",
        "--served-model-name": "encoder",
        "--engine": "optimum",
        "--device": "cpu",
        "--batch-size": "32",
        "--pooling-method": "mean",
        "--host": "127.0.0.1",
        "--port": "{port}",
        "--log-level": "error",
    }
    flat = tuple(part for pair in arguments.items() for part in pair)
    switches = ("--no-vector-disk-cache", "--no-trust-remote-code")
    return Command(
        (environment.script("infinity_emb"), "v2", *flat, *switches),
        "/health",
        "/embeddings",
        "openai",
        working_directory=setup.bundle.hub,
    )


_COMMANDS: dict[str, Callable[[Environment, PeerSetup], Command]] = {
    "setfit_torch": _setfit,
    "litserve": _litserve,
    "mlserver": _mlserver,
    "infinity": _infinity,
}
NAMES = tuple(_COMMANDS)


def environments(
    names: tuple[str, ...], venvs: Path
) -> tuple[dict[str, Environment], dict[str, str]]:
    """The environments of peers, and the reasons of those that cannot be had."""
    found: dict[str, Environment] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            found[name] = environment_of(name, PEERS / f"{name}.txt", venvs)
        except CannotInstall as error:
            missing[name] = f"cannot be installed: {error}"
    return found, missing


def start_peers(
    found: dict[str, Environment], setup: PeerSetup
) -> tuple[list[Contender], dict[str, str]]:
    """Start peers side by side; those that answer, and the reasons of those that do not."""
    started: list[tuple[Contender, Command]] = []
    ready: list[Contender] = []
    missing: dict[str, str] = {}
    for name, environment in found.items():
        command = _COMMANDS[name](environment, setup)
        started.append((start_server(name, "peer", setup.work, command, wait=False), command))
    for contender, command in started:
        try:
            wait_ready(contender, command.ready_path)
        except NotStarted as error:
            missing[contender.name] = f"does not start: {error}"
        else:
            ready.append(contender)
    return ready, missing


def _script(environment: Environment, name: str, setup: PeerSetup, *more: str) -> tuple[str, ...]:
    arguments = ("--bundle", str(setup.bundle.folder), "--threads", str(setup.threads))
    module = ("-m", f"benchmarks.peers.{name}")
    return (str(environment.python), *module, *arguments, "--port", "{port}", *more)
