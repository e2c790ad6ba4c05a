"""Who is compared, and how each is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.serving_bench.bodies import Dialect
from benchmarks.serving_bench.processes import Conversation, ProcessTree, answers, free_port

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
START_SECONDS = 240.0

# Settings that keep what a text gave before: off in a comparison, where no text comes twice.
# Closed loads keep more waiting than the service lets wait: peers refuse nobody.
NOTHING_REFUSED = {"VOCATION_LONGEST_WAIT_SECONDS": "60"}
CACHE_SETTINGS = ("VOCATION_EMBEDDING_CACHE_BYTES", "VOCATION_SCORE_CACHE_BYTES")

Role = Literal["ceiling", "bare", "service", "peer"]


@dataclass(frozen=True, slots=True)
class Command:
    """How a contender is started; ``{port}`` in an argument or a value becomes its port."""

    arguments: tuple[str, ...]
    ready_path: str
    path: str
    dialect: Dialect
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: Path | None = None


@dataclass(slots=True)
class Contender:
    """A running contender; those over HTTP have a port, the ceiling has a conversation."""

    name: str
    role: Role
    tree: ProcessTree
    port: int = 0
    path: str = ""
    dialect: Dialect = "vocation"
    conversation: Conversation | None = None


def plain_environment(work: Path) -> dict[str, str]:
    """This process's environment without settings of ours, homes within ``work``, no network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VOCATION_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "BENTOML_HOME": str(work / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
        "HF_HOME": str(work / "hub"),
        "HF_HUB_OFFLINE": "1",
    }


def start_service(
    name: str, work: Path, home: Path, settings: Mapping[str, str], *, wait: bool = True
) -> Contender:
    """Start ``vocation serve`` on a home; raises NotStarted."""
    command = Command(
        (str(Path(sys.executable).with_name("vocation")), "serve", "--port", "{port}"),
        "/readyz",
        "/v1/classify",
        "vocation",
        {"VOCATION_HOME": str(home), "VOCATION_EMBEDDING_CACHE_BYTES": "0", **settings},
    )
    return start_server(name, "service", work, command, wait=wait)


def start_bare(work: Path, home: Path, occupation: str, threads: int) -> Contender:
    """Start the bare server on the home of a service that has had its first start."""
    arguments = ("--home", str(home), "--occupation", occupation, "--threads", str(threads))
    command = Command(
        (sys.executable, "-m", "benchmarks.serving_bench.bare", *arguments, "--port", "{port}"),
        "/readyz",
        "/v1/classify",
        "vocation",
    )
    return start_server("bare", "bare", work, command, wait=False)


def start_ceiling(
    name: str, work: Path, encoder: Path, threads: int, texts_at_once: int, seed: int
) -> Contender:
    """Start a ceiling's process."""
    arguments = ("--encoder", str(encoder), "--threads", str(threads), "--seed", str(seed))
    more = ("--texts-at-once", str(texts_at_once), "--root", str(ROOT))
    tree = ProcessTree(
        (sys.executable, "-m", "benchmarks.serving_bench.ceiling", *arguments, *more),
        plain_environment(work),
        work / f"{name}.log",
        work,
        piped=True,
    )
    return Contender(name, "ceiling", tree, conversation=Conversation(tree))


def start_client(work: Path, occupation: str, seed: int) -> Conversation:
    """Start the load client's process."""
    arguments = ("--root", str(ROOT), "--occupation", occupation, "--seed", str(seed))
    tree = ProcessTree(
        (sys.executable, "-m", "benchmarks.serving_bench.client", *arguments),
        plain_environment(work),
        work / "client.log",
        work,
        piped=True,
    )
    return Conversation(tree)


def start_server(
    name: str, role: Role, work: Path, command: Command, *, wait: bool = True
) -> Contender:
    """Start a server on a free port; raises NotStarted when it is waited for in vain."""
    port = free_port()
    tree = ProcessTree(
        [argument.replace("{port}", str(port)) for argument in command.arguments],
        {
            **plain_environment(work),
            **{k: v.replace("{port}", str(port)) for k, v in command.environment.items()},
        },
        work / f"{name}.log",
        command.working_directory or work,
    )
    contender = Contender(name, role, tree, port, command.path, command.dialect)
    if wait:
        wait_ready(contender, command.ready_path)
    return contender


def wait_ready(contender: Contender, ready_path: str) -> None:
    """Wait until a contender answers; it is stopped when it does not. Raises NotStarted."""
    try:
        contender.tree.wait_ready(lambda: answers(contender.port, ready_path), START_SECONDS)
    except Exception:
        contender.tree.stop()
        raise
