"""Encoders in memory: loaded once, by digest, and bounded in bytes.

One process can serve more tuned occupations than fit in memory: the least recently used encoder
makes room, and is loaded again when it is asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.inference.encoder import Encoder, SideBySide, load_encoder
from service.inference.encoder_spec import MODEL_FILE, read_spec
from service.inference.split_encoder import SplitEncoder, Trunk
from service.registry.artifacts import ArtifactStore

BACKGROUND_TENSORS = "background.safetensors"
WARM_UP_TEXT = "Ingénieur machine learning, data science team."


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """An encoder and the background float32[m, d] as it embeds it."""

    encoder: Encoder
    background: NDArray[np.float32]
    bytes: int


class EncoderCache:
    """Least recently used encoders within ``max_bytes`` of model files.

    ``background_of`` gives the digest of the artifact that holds an encoder's background, for
    encoders that do not carry their own (the base encoder's is shared by many versions).
    """

    def __init__(
        self,
        artifacts: ArtifactStore,
        side_by_side: SideBySide,
        max_bytes: int,
        background_of: Callable[[str], str],
    ) -> None:
        self._artifacts = artifacts
        self._side_by_side = side_by_side
        self._max_bytes = max_bytes
        self._background_of = background_of
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._loaded: OrderedDict[str, LoadedEncoder] = OrderedDict()
        self._trunks: dict[str, Trunk] = {}
        self._pinned: frozenset[str] = frozenset()

    def get(self, digest: str) -> LoadedEncoder:
        """The encoder, loaded once however many threads ask for it at the same time.

        Raises ArtifactCorrupted or EncoderUnusable.
        """
        with self._lock:
            found = self._loaded.get(digest)
            if found is not None:
                self._loaded.move_to_end(digest)
                return found
            single_flight = self._loading.setdefault(digest, threading.Lock())
        with single_flight:
            try:
                with self._lock:
                    found = self._loaded.get(digest)
                if found is None:
                    found = self._load(digest)
                    with self._lock:
                        self._loaded[digest] = found
                        self._evict()
            finally:
                with self._lock:
                    self._loading.pop(digest, None)
        return found

    def pin(self, digests: Iterable[str]) -> None:
        """Keep these in memory whatever their size: what most requests need."""
        with self._lock:
            self._pinned = frozenset(digests)

    def has_room(self) -> bool:
        """Whether another encoder may be loaded ahead of its first request."""
        with self._lock:
            return self._bytes() < self._max_bytes

    def keep_only(self, digests: frozenset[str]) -> None:
        """Forget encoders that no version needs any more."""
        with self._lock:
            for digest in [digest for digest in self._loaded if digest not in digests]:
                del self._loaded[digest]
            self._drop_unused_trunks()

    def __len__(self) -> int:
        with self._lock:
            return len(self._loaded)

    def _load(self, digest: str) -> LoadedEncoder:
        folder = self._artifacts.open_local(digest)
        spec = read_spec(folder)
        size = (folder / MODEL_FILE).stat().st_size
        encoder: Encoder
        if spec.trunk is None:
            encoder = load_encoder(folder, digest, self._side_by_side)
        else:
            encoder = SplitEncoder(self._trunk(spec.trunk), folder, digest, self._side_by_side)
        encoder.encode([WARM_UP_TEXT])
        return LoadedEncoder(encoder, self._background(folder, digest), size)

    def _trunk(self, digest: str) -> Trunk:
        with self._lock:
            trunk = self._trunks.get(digest)
        if trunk is None:
            trunk = Trunk(self._artifacts.open_local(digest), digest)
            with self._lock:
                trunk = self._trunks.setdefault(digest, trunk)
        return trunk

    def _background(self, folder: Path, digest: str) -> NDArray[np.float32]:
        own = folder / BACKGROUND_TENSORS
        if not own.exists():
            own = self._artifacts.open_local(self._background_of(digest)) / BACKGROUND_TENSORS
        background: NDArray[np.float32] = load_file(own)["embeddings"]
        return background

    def _evict(self) -> None:
        for digest in list(self._loaded):
            if self._bytes() <= self._max_bytes or len(self._loaded) == 1:
                break
            # The newest stays: somebody is about to use it.
            if digest not in self._pinned and digest != next(reversed(self._loaded)):
                del self._loaded[digest]
        self._drop_unused_trunks()

    def _drop_unused_trunks(self) -> None:
        used = {
            loaded.encoder.trunk.digest
            for loaded in self._loaded.values()
            if isinstance(loaded.encoder, SplitEncoder)
        }
        for digest in [digest for digest in self._trunks if digest not in used]:
            # A trunk whose first top is just being loaded is not here for long.
            if not self._loading:
                del self._trunks[digest]

    def _bytes(self) -> int:
        return sum(loaded.bytes for loaded in self._loaded.values())
