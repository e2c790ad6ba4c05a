"""Versions of the libraries that a benchmark's figures depend on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

FITTING = ("numpy", "scipy", "scikit-learn", "onnxruntime")
TUNING = ("torch", "setfit", "sentence-transformers", "optimum-onnx", "onnxruntime", "numpy")


def versions_of(libraries: Sequence[str]) -> str:
    """Names and versions, separated by commas."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
