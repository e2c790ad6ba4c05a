"""The bento and the container image: built, then served where nothing else is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import PROJECT_ROOT
from tests.support.running_service import BIN, RunningService, running
from tests.support.sommelier import SOMMELIER

# Put first on the path of every Python that is started: a connection to anywhere else is recorded
# and refused.
_NO_NETWORK = """
import os, socket
_connect = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
        with open(os.environ["REFUSED_CONNECTIONS"], "a") as refused:
            refused.write(f"{address}\\n")
        raise OSError("no network in this test")
    return _connect(self, address)
socket.socket.connect = connect
socket.socket.connect_ex = lambda self, address: connect(self, address) or 0
"""


@pytest.fixture
def no_network(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "no-network"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_NO_NETWORK)
    return {
        "PYTHONPATH": str(folder),
        "REFUSED_CONNECTIONS": str(tmp_path / "refused-connections"),
    }


def test_the_bento_serves_from_an_empty_directory_without_network(
    tmp_path: Path, no_network: dict[str, str]
) -> None:
    environment = {"BENTOML_HOME": str(tmp_path / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    subprocess.run(
        [str(BIN / "bentoml"), "build"],
        cwd=PROJECT_ROOT,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    with running(
        tmp_path / "home",
        command=[str(BIN / "bentoml"), "serve", "vocation:latest"],
        environment={**environment, **no_network},
        working_directory=empty,
    ) as service:
        _register_and_classify(service)
        source = Path(_code_of(service, tmp_path / "bentoml"))
        assert source.is_relative_to(tmp_path / "bentoml")
    assert not list(empty.iterdir())
    refused = Path(no_network["REFUSED_CONNECTIONS"])
    assert not refused.exists(), refused.read_text()


def test_the_dockerfile_steps_give_a_service_in_a_clean_directory(tmp_path: Path) -> None:
    image = _execute_dockerfile(tmp_path)
    command = [str(image.bin / image.command[0]), *image.command[1:]]
    environment = {**image.environment, "HOST": "127.0.0.1", "PATH": f"{image.bin}:/usr/bin:/bin"}
    environment["VOCATION_HOME"] = str(tmp_path / "data")
    with running(
        tmp_path / "data",
        command=command,
        environment=environment,
        working_directory=image.folder,
    ) as service:
        _register_and_classify(service)


class _Image:
    """What the Dockerfile's steps left: a folder, a Python, an environment and a command."""

    def __init__(self, folder: Path, bin: Path) -> None:
        self.folder = folder
        self.bin = bin
        self.environment: dict[str, str] = {}
        self.command: list[str] = []


def _execute_dockerfile(scratch: Path) -> _Image:
    venv = scratch / "python"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    image = _Image(scratch / "app", venv / "bin")
    image.folder.mkdir()
    steps = (PROJECT_ROOT / "Dockerfile").read_text()
    for line in steps.splitlines():
        keyword, _, rest = line.partition(" ")
        if keyword == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(PROJECT_ROOT / source, image.folder / target, source)
        elif keyword == "RUN":
            path = f"{image.bin}:{os.environ['PATH']}"
            subprocess.run(
                ["sh", "-ec", rest], cwd=image.folder, env={**os.environ, "PATH": path}, check=True
            )
        elif keyword == "ENV":
            image.environment.update(dict(item.split("=", 1) for item in shlex.split(rest)))
        elif keyword == "CMD":
            image.command = re.findall(r'"([^"]+)"', rest)
        else:
            assert keyword in {"FROM", "WORKDIR", "EXPOSE", "VOLUME", "#", ""}, line
    return image


def _copy(source: Path, target: Path, name: str) -> None:
    if source.is_dir():
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", name],
            cwd=PROJECT_ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\n")
        for path in filter(None, tracked):
            destination = target / Path(path).relative_to(name)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT_ROOT / path, destination)
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / source.name)


def _register_and_classify(service: RunningService) -> None:
    accepted = service.client.post("/v1/occupations", json=SOMMELIER)
    assert accepted.status_code == 202, accepted.text
    assert service.follow(accepted.json()["id"])["state"] == "succeeded"
    answers = service.classify(
        [
            {"text": "Sommelière, restaurant étoilé", "occupations": ["sommelier"]},
            {"text": "Data engineer, Spark", "occupations": ["sommelier"]},
        ]
    )
    scores = [answer["scores"][0]["score"] for answer in answers]
    assert scores[0] > scores[1]


def _code_of(service: RunningService, default: Path) -> str:
    """The folder that the API process works in."""
    return service.worker("vocation").cwd() or str(default)
