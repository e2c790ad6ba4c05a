from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import PROJECT_ROOT

SERVICE = PROJECT_ROOT / "service"
_TRAINING = {
    "torch",
    "transformers",
    "sentence_transformers",
    "setfit",
    "sklearn",
    "optimum",
    "onnx",
}
_UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_LOADED = """
import json, sys
import service.bento, service.api.running
service.bento.layers()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
_LOADED_AS_BENTOML_DOES = """
import json, sys
import bentoml
bentoml.load("service.bento:Api")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
_LOADED_WHEN_IT_FORKS = """
import json, sys
import bentoml
import service.successor
def told():
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
service.successor.serve_in_a_child = told
bentoml.load("service.bento:Api")
"""
# What only answering requests takes.
_ANSWERING = {"fastapi", "sqlalchemy"}


def test_the_layers_hold() -> None:
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0 broken" in checked.stdout


def _loaded(code: str, home: Path, *arguments: str) -> set[str]:
    """The libraries of a process that runs some code, as it tells them last."""
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT_ROOT,
        env={"PATH": "", "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_the_api_process_loads_no_training_library(tmp_path: Path) -> None:
    loaded = _loaded(_LOADED, tmp_path)
    assert {"bentoml", "onnxruntime", "tokenizers", "service"} | _ANSWERING <= loaded
    assert loaded & _TRAINING == set()


def test_the_supervisor_does_not_load_what_answers_requests(tmp_path: Path) -> None:
    loaded = _loaded(_LOADED_AS_BENTOML_DOES, tmp_path)
    assert {"bentoml", "service"} <= loaded
    assert loaded & _ANSWERING == set()


@pytest.mark.parametrize(("service", "expected"), [("vocation", _ANSWERING), ("trainer", set())])
def test_of_the_workers_the_apis_alone_loads_it_and_does_so_before_it_forks(
    tmp_path: Path, service: str, expected: set[str]
) -> None:
    loaded = _loaded(_LOADED_WHEN_IT_FORKS, tmp_path, "--service-name", service)
    assert loaded & _ANSWERING == expected


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SERVICE.rglob("*.py")):
        yield str(path.relative_to(PROJECT_ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def _unpicklings(tree: ast.Module) -> Iterator[int]:
    """Lines that import a pickling library or call a loader that unpickles."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) if any(n.name.split(".")[0] in _UNPICKLERS for n in names):
                yield node.lineno
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in _UNPICKLERS:
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                yield node.lineno
            case ast.Call(keywords=keywords) if any(k.arg == "allow_pickle" for k in keywords):
                yield node.lineno


def test_nothing_in_the_service_unpickles() -> None:
    found = [f"{path}:{line}" for path, tree in _modules() for line in _unpicklings(tree)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import joblib.memory",
        "from cloudpickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_each_way_to_unpickle_would_be_found(code: str) -> None:
    assert list(_unpicklings(ast.parse(code))) == [1]


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path, tree in _modules() if not ast.get_docstring(tree)]
    assert silent == []
