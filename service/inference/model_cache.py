"""What this process has loaded: an immutable snapshot of the champions, swapped whole.

A request keeps the snapshot it was admitted with, so a promotion never splits it between two
versions, and nobody waits: the new snapshot is loaded and warmed beside the old one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from service.domain.errors import (
    NotReady,
    OccupationNotFound,
    VersionUnavailable,
    VocationError,
)
from service.domain.types import ModelVersion
from service.inference.encoder import SideBySide
from service.inference.encoder_cache import EncoderCache, LoadedEncoder
from service.inference.encoder_spec import read_spec
from service.inference.head import read_head
from service.inference.snapshot import LoadedVersion, Snapshot, Target, make_target
from service.registry import encoders, generation, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.telemetry import metrics
from service.telemetry.references import ShownReferences

logger = logging.getLogger(__name__)

# Set by the Trainer when the first start has registered the bundled occupations.
INITIALISED = "initialised"
# What kept a champion from being loaded may pass: a store out of reach, a full disk.
_AGAIN_SECONDS = 60.0


class ModelCache:
    """Loads champions and single versions, each once; their encoders are in ``encoders``."""

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        side_by_side: SideBySide,
        version_entries: int,
        encoder_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._version_entries = version_entries
        self._clock = clock
        self._again_at = math.inf
        self._lock = threading.Lock()
        # Loading takes a while: nobody who asks for what is loaded may wait for it.
        self._following = threading.Lock()
        self._loading = threading.Lock()
        self._versions: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()
        self._snapshot: Snapshot | None = None
        self._references = ShownReferences()
        self.encoders = EncoderCache(artifacts, side_by_side, encoder_bytes, self._background_of)

    def snapshot(self) -> Snapshot:
        """The current snapshot; raises NotReady before the first one."""
        if self._snapshot is None:
            raise NotReady("The encoder and the champions are being loaded.")
        return self._snapshot

    @property
    def ready(self) -> bool:
        """Whether there is a snapshot; never false again once true."""
        return self._snapshot is not None

    def refresh(self) -> bool:
        """Follow the registry: True when a new snapshot was swapped in.

        Before the first start has built the base encoder there is nothing to load. Champions that
        could not be loaded are tried again after a minute, if the registry has not moved either.
        """
        with self._database.read() as connection:
            current = generation.read(connection)
            if self._follows(current):
                return False
            if generation.get(connection, INITIALISED) is None:
                return False
            base = encoders.base_encoder(connection)
            if base is None:
                return False
            champions = versions.champions(connection)
            occupations = versions.occupation_ids(connection)
            published = versions.published_keys(connection)
        with self._following:
            if self._follows(current):
                # Another thread has followed meanwhile, as far or farther.
                return False
            self.encoders.pin([base.digest])
            self.encoders.get(base.digest)
            loaded, unavailable = self._load_champions(champions)
            missing = [v for v in champions if not _holds(loaded, v)]
            self._again_at = self._clock() + _AGAIN_SECONDS if missing else math.inf
            self._snapshot = Snapshot(current, occupations, loaded, frozenset(unavailable))
            self._forget_unused(base.digest, published)
            metrics.set_models_loaded(len(self.encoders), len(loaded) + len(self._versions))
            self._references.show({v.key: v.version.manifest for v in loaded.values()})
        metrics.set_generation(current)
        return True

    def resolve(self, snapshot: Snapshot, references: Sequence[str] | None) -> Target:
        """The target of ``id`` and ``id@version`` references; None means every champion.

        Raises what names the first reference that cannot be answered.
        """
        if references is None:
            return snapshot.all_champions()
        loaded = []
        for reference in dict.fromkeys(references):
            occupation, _, number = reference.partition("@")
            champion = snapshot.champions.get(occupation)
            if not number:
                loaded.append(snapshot.champion(occupation))
            elif champion is not None and champion.version.number == int(number):
                loaded.append(champion)
            else:
                loaded.append(self._version(snapshot, occupation, int(number)))
        return make_target(loaded)

    def require_whole(self, version: ModelVersion) -> None:
        """Raise VersionUnavailable where a stored file of a version is missing or differs.

        Whatever is loaded here: another process, or the next start, has to load it.
        """
        try:
            self._artifacts.open_local(version.artifact_digest)
            trunk = read_spec(self._artifacts.open_local(version.encoder_digest)).trunk
            if trunk is not None:
                self._artifacts.open_local(trunk)
        except (VocationError, OSError):
            key = (version.occupation, version.number)
            logger.exception("version is damaged", extra={"version": f"{key}"})
            raise VersionUnavailable("A stored file of this version is damaged.") from None

    def base_encoder(self) -> LoadedEncoder:
        """The encoder of new versions with the background as it embeds it; raises NotReady."""
        with self._database.read() as connection:
            base = encoders.base_encoder(connection)
        if base is None:
            raise NotReady("The base encoder is not built yet.")
        return self.encoders.get(base.digest)

    def _follows(self, current: int) -> bool:
        snapshot = self._snapshot
        if snapshot is None or snapshot.generation < current:
            return False
        return snapshot.generation > current or self._clock() < self._again_at

    def _version(self, snapshot: Snapshot, occupation: str, number: int) -> LoadedVersion:
        if occupation not in snapshot.occupations:
            raise OccupationNotFound("No occupation with this id is registered.")
        key = (occupation, number)
        cached = self._cached(key)
        if cached is not None:
            return cached
        with self._loading:
            cached = self._cached(key)
            if cached is not None:
                return cached
            with self._database.read() as connection:
                version = versions.get_version(connection, occupation, number)
            try:
                loaded = self._load(version)
            except Exception:
                # Whatever is wrong with it, the other items of the request are answered.
                logger.exception("version cannot be loaded", extra={"version": f"{key}"})
                raise VersionUnavailable("This version cannot be loaded.") from None
            with self._lock:
                self._versions[key] = loaded
                while len(self._versions) > self._version_entries:
                    self._versions.popitem(last=False)
            return loaded

    def _cached(self, key: tuple[str, int]) -> LoadedVersion | None:
        with self._lock:
            cached = self._versions.get(key)
            if cached is not None:
                self._versions.move_to_end(key)
            return cached

    def _load_champions(
        self, champions: Sequence[ModelVersion]
    ) -> tuple[dict[str, LoadedVersion], set[str]]:
        before = self._snapshot.champions if self._snapshot is not None else {}
        loaded: dict[str, LoadedVersion] = {}
        unavailable: set[str] = set()
        for version in champions:
            name = version.occupation
            old = before.get(name)
            if old is not None and old.version == version:
                loaded[name] = old
                continue
            try:
                loaded[name] = self._load(version)
            except Exception:
                # Whatever is wrong with it, the others are served. The occupation's former champion
                # goes on where there is one.
                logger.exception("champion cannot be loaded", extra={"occupation": name})
                if old is not None:
                    loaded[name] = old
                else:
                    unavailable.add(name)
        return loaded, unavailable

    def _load(self, version: ModelVersion) -> LoadedVersion:
        head = read_head(self._artifacts.open_local(version.artifact_digest))
        if self.encoders.has_room():
            # Ahead of its first request; beyond the bound, the first request loads it.
            self.encoders.get(version.encoder_digest)
        return LoadedVersion(version, head)

    def _background_of(self, encoder_digest: str) -> str:
        with self._database.read() as connection:
            return encoders.background_of(connection, encoder_digest)

    def _forget_unused(self, base_digest: str, published: frozenset[tuple[str, int]]) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            return
        used = {base_digest}
        used.update(v.version.encoder_digest for v in snapshot.champions.values())
        with self._lock:
            for key in [key for key in self._versions if key not in published]:
                del self._versions[key]
            used.update(v.version.encoder_digest for v in self._versions.values())
        self.encoders.keep_only(frozenset(used))


def _holds(loaded: Mapping[str, LoadedVersion], champion: ModelVersion) -> bool:
    served = loaded.get(champion.occupation)
    return served is not None and served.version == champion
