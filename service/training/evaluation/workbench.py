"""What methods work on: the base encoder with its background, as a registration has them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from service.domain.errors import OccupationNotFound
from service.inference.device import precision_for
from service.inference.encoder import Encoded, Encoder, SideBySide, load_encoder
from service.inference.encoder_cache import BACKGROUND_TENSORS, EncoderCache
from service.inference.encoder_spec import EncoderSpec
from service.registry import encoders
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.settings import Settings
from service.telemetry.progress import Progress
from service.training.background import embed_background, read_background
from service.training.encoder_export import export_encoder
from service.training.encoder_source import EncoderSource, resolve_encoder

_CHUNK = 64


class KnownTexts:
    """An encoder that keeps what it has embedded: every method reads the same texts."""

    def __init__(self, encoder: Encoder) -> None:
        self.digest = encoder.digest
        self.spec: EncoderSpec = encoder.spec
        self._encoder = encoder
        self._rows: dict[str, int] = {}
        self._embeddings = np.empty((0, encoder.spec.dimensions), dtype=np.float32)
        self._tokens = np.empty(0, dtype=np.int64)
        self._truncated = np.empty(0, dtype=np.bool_)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed texts, each distinct one once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            self._learn(new)
        rows = [self._rows[text] for text in texts]
        return Encoded(self._embeddings[rows], self._tokens[rows], self._truncated[rows], 0.0, 0.0)

    def _learn(self, texts: Sequence[str]) -> None:
        if len(texts) <= _CHUNK:
            parts = [self._encoder.encode(texts)]
        else:
            parts = []
            with Progress("embedding the experiences", total=len(texts)) as progress:
                for start in range(0, len(texts), _CHUNK):
                    parts.append(self._encoder.encode(texts[start : start + _CHUNK]))
                    progress.advance(len(parts[-1].tokens))
        self._embeddings = np.concatenate([self._embeddings, *(p.embeddings for p in parts)])
        self._tokens = np.concatenate([self._tokens, *(p.tokens for p in parts)])
        self._truncated = np.concatenate([self._truncated, *(p.truncated for p in parts)])
        self._rows.update({text: len(self._rows) + row for row, text in enumerate(texts)})


@dataclass(frozen=True, slots=True)
class Workbench:
    """The base encoder and the background float32[m, d], in the order of ``background_texts``.

    ``encoder_folder`` holds the encoder's artifact and ``source`` the weights it was made from.
    """

    settings: Settings
    source: EncoderSource
    encoder: KnownTexts
    encoder_folder: Path
    background_texts: tuple[str, ...]
    background: NDArray[np.float32]
    side_by_side: SideBySide


def background_texts(settings: Settings) -> frozenset[str]:
    """The texts of the background, case folded: none of them is judged."""
    return frozenset(row.rendered.casefold() for row in read_background(settings.background))


def open_workbench(settings: Settings, scratch: Path, side_by_side: SideBySide) -> Workbench:
    """Take the base encoder from the home where a service has built it, else from its source.

    Nothing is written to the home: what has to be built goes to ``scratch``. Raises
    EncoderUnusable or DeviceUnavailable.
    """
    precision = precision_for(settings.device)
    source = resolve_encoder(settings.encoder)
    rows = read_background(settings.background)
    prepared = _prepared(settings, source.fingerprint(precision, settings.background))
    if prepared is not None:
        folder, digest, stored = prepared
        encoder = load_encoder(folder, digest, side_by_side)
        files: Mapping[str, bytes | Path] = {BACKGROUND_TENSORS: stored}
    else:
        source.verify()
        built = source.exported if precision == "int8" else None
        if built is None:
            built = scratch / "export"
            with warnings.catch_warnings():
                # The tracer's, of code that is not ours; the export compares the graphs itself.
                warnings.simplefilter("ignore")
                export_encoder(source.folder, built, precision, source.name, lambda *_: None)
        # Stored as a service stores it: the digest is the one that manifests name.
        store = ArtifactStore(str(scratch / "artifacts"), scratch / "cache")
        digest = store.put({path.name: path for path in built.iterdir()})
        folder = store.open_local(digest)
        encoder = load_encoder(folder, digest, side_by_side)
        with Progress("embedding the background", total=len(rows)) as progress:
            files = embed_background(encoder, rows, progress.advance)
    content = files[BACKGROUND_TENSORS]
    tensors = load(content if isinstance(content, bytes) else content.read_bytes())
    return Workbench(
        settings=settings,
        source=source,
        encoder=KnownTexts(encoder),
        encoder_folder=folder,
        background_texts=tuple(row.rendered for row in rows),
        background=tensors["embeddings"],
        side_by_side=side_by_side,
    )


def open_registry(settings: Settings) -> tuple[Database, ArtifactStore]:
    """The registry and the store of a home that a service has used; raises OccupationNotFound."""
    url = settings.resolved_database_url
    home = settings.home.resolve()
    # Opening a SQLite file makes it where there is none.
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise OccupationNotFound(
            "VOCATION_HOME has no registry yet: start the service there once, or name a file."
        )
    return Database(url), ArtifactStore(settings.resolved_artifact_url, home / "cache")


def registry_encoders(
    settings: Settings, database: Database, artifacts: ArtifactStore, side_by_side: SideBySide
) -> EncoderCache:
    """The encoders of a registry's versions."""

    def background_of(digest: str) -> str:
        with database.read() as connection:
            return encoders.background_of(connection, digest)

    return EncoderCache(artifacts, side_by_side, settings.encoder_cache_bytes, background_of)


def _prepared(settings: Settings, fingerprint: str) -> tuple[Path, str, Path] | None:
    """Folder and digest of a built encoder and the file of its background, None without them."""
    try:
        database, artifacts = open_registry(settings)
    except OccupationNotFound:
        return None
    try:
        with database.read() as connection:
            record = encoders.find_encoder(connection, fingerprint)
        whole = record is not None and all(
            artifacts.whole(digest) for digest in (record.digest, record.background_digest)
        )
        if record is None or not whole:
            return None
        stored = artifacts.open_local(record.background_digest) / BACKGROUND_TENSORS
        return artifacts.open_local(record.digest), record.digest, stored
    finally:
        database.close()
