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
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


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


def test_the_api_process_loads_no_training_library(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _LOADED],
        cwd=PROJECT_ROOT,
        env={"PATH": "", "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert {"bentoml", "onnxruntime", "tokenizers", "service"} <= loaded
    assert loaded & _TRAINING == set()


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
