"""Write an encoder to ship: half-precision weights, checksums, notices."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

NOTICE = """# Notices for the encoder in this directory

The weights were adapted from **all-MiniLM-L6-v2** (sentence-transformers; Apache License 2.0),
which is built on nreimers/MiniLM-L6-H384-uncased and Microsoft's MiniLM-L12-H384-uncased (MIT
License).

The vocabulary and the weights were learnt on facts from these open references; none of their files
is contained here.

- **ESCO**, European Skills, Competences, Qualifications and Occupations (European Commission):
occupation and
  skill labels in French and English, English descriptions. CC BY 4.0. This service uses the ESCO
  classification of the European Commission.
- **ROME**, Repertoire operationnel des metiers et des emplois (France Travail): French job names
and
  descriptions. Licence Ouverte / Open Licence 2.0 (Etalab).
- **O*NET Database** (U.S. Department of Labor, Employment and Training Administration): English
occupation
  descriptions. CC BY 4.0. O*NET is a trademark of USDOL/ETA; USDOL/ETA has not approved, endorsed
  or tested these modifications.
"""


def blend(student: SentenceTransformer, start: dict[str, torch.Tensor], start_share: float) -> None:
    """Average the starting weights into ``student`` in place.

    ``start`` is the state the training began from; ``start_share`` in [0, 1]. Averaging points of
    one training keeps what the start knew at no cost when serving ("model soups", Wortsman et al.,
    2022).
    """
    if not start_share:
        return
    state = student.state_dict()
    mixed = {
        name: torch.lerp(value, start[name].to(value), start_share)
        if value.is_floating_point()
        else value
        for name, value in state.items()
    }
    student.load_state_dict(mixed)


def write_encoder(student: SentenceTransformer, directory: Path, *, max_pieces: int = 256) -> str:
    """Save a sentence-transformers directory with float16 safetensors; give the weights' SHA-256.

    The saved configuration says float32, so that every transformers version computes in float32
    from the half-precision file.
    """
    student.max_seq_length = max_pieces
    student.save(str(directory), create_model_card=False, safe_serialization=True)
    weights = directory / "model.safetensors"
    halved = {
        name: value.to(torch.float16).contiguous() if value.is_floating_point() else value
        for name, value in load_file(weights).items()
    }
    save_file(halved, weights, metadata={"format": "pt"})
    # safetensors writes for its owner alone; what ships is readable by the service's user.
    weights.chmod(0o644)
    configuration = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    configuration.pop("torch_dtype", None)
    configuration["dtype"] = "float32"
    # The machine that trained it keeps its paths to itself.
    configuration.pop("_name_or_path", None)
    (directory / "config.json").write_text(
        json.dumps(configuration, indent=2) + "\n", encoding="utf-8"
    )
    (directory / "NOTICE.md").write_text(NOTICE, encoding="utf-8")
    return _sha256(weights)


def write_checksums(directory: Path) -> None:
    """List every file with its SHA-256, in the format that ``sha256sum --check`` reads."""
    lines = [
        f"{_sha256(path)}  {path.relative_to(directory).as_posix()}\n"
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "SHA256SUMS"
    ]
    (directory / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
