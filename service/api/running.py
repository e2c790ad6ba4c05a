"""What one API process opens when it starts; heavy to import, so only the started process does."""

from __future__ import annotations

import gc
import logging
import threading

from service.api import exposure
from service.api.access import Guard
from service.api.aside import Aside
from service.api.context import ApiContext
from service.inference.device import precision_for
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import SideBySide
from service.inference.model_cache import ModelCache
from service.inference.scorer import Scorer
from service.inference.scoring_queue import ScoringQueue, TracesBatches
from service.inference.sharing import Sharing
from service.inference.suggester import Suggester
from service.jobs.queue import RegistrationQueue
from service.jobs.registering import Registrar
from service.registry import generation, keys
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.settings import Settings
from service.telemetry.predictions import PredictionTally

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
# Longest time that a process loads champions before it takes connections, ready or not.
_FIRST_LOOK_SECONDS = 10.0
# On a CPU a run of 16 titles makes the most of the weights that it reads. Of long texts, which gain
# less, a batch ends with the fifth or so, so that a title beside them is soon answered: experiences
# of 420 characters took 9.8, 9.4 and 9.8 ms of one processor in batches of 3, 5 and 8.
_CPU_BATCH, _GPU_BATCH = 16, 64
_CPU_CHARACTERS = 2_000
# Suggest calls at once: each keeps one CPU busy for seconds.
_SUGGEST_CALLS = 2


class RunningProcess:
    """The opened registry, the caches and the threads of one API process."""

    def __init__(
        self, settings: Settings, guard: Guard, trace: TracesBatches | None = None
    ) -> None:
        self._poll_seconds = settings.registry_poll_seconds
        self._database = Database(settings.resolved_database_url)
        self._database.create_schema()
        self._keys = KeyFollower(self._database, guard)
        # Before the first request, and before anything that takes time.
        self._keys.refresh()
        if not guard.guarded:
            exposure.warn_if_reachable(exposure.listening_addresses(), intended=settings.open)
        self._queue = RegistrationQueue(self._database.engine, settings.training_timeout_seconds)
        on_gpu = precision_for(settings.device) == "fp16"
        threads = settings.resolved_threads
        # On a CPU each thread of the queue scores its own texts; on a GPU one thread feeds it.
        self._side_by_side = SideBySide(threads if on_gpu else 1)
        artifacts = ArtifactStore(settings.resolved_artifact_url, settings.home.resolve() / "cache")
        self.cache = ModelCache(
            self._database,
            artifacts,
            self._side_by_side,
            settings.version_cache_entries,
            settings.encoder_cache_bytes,
        )
        registrar = Registrar(self._database, self._queue)
        embeddings = EmbeddingCache(settings.embedding_cache_bytes)
        self._aside = Aside(_SUGGEST_CALLS)
        self.context = ApiContext(
            self._database,
            registrar,
            self.cache,
            Suggester(self._database, self.cache, embeddings),
            self._aside,
        )
        self._tally = PredictionTally()
        scorer = Scorer(self._database, self.cache.encoders, embeddings, self._tally)
        self.scoring = ScoringQueue(
            scorer,
            _sharing(threads, settings.max_batch_size, on_gpu=on_gpu),
            settings.longest_wait_seconds,
            trace,
        )
        self._stopping, self._looked = threading.Event(), threading.Event()
        self._followers = [
            threading.Thread(target=self._follow_registry, name="registry", daemon=True),
            # A thread of its own: a revoked key does not wait for a model to load.
            threading.Thread(target=self._follow_keys, name="keys", daemon=True),
            threading.Thread(target=self._flush_metrics, name="metrics", daemon=True),
        ]
        for follower in self._followers:
            follower.start()
        # Connections wait in the listening socket, as they do while a process starts: one that
        # follows upon a killed one refuses nobody. The very first start has nothing to load yet.
        self._looked.wait(_FIRST_LOOK_SECONDS)

    def stop(self) -> None:
        """Stop following, flush the metrics and close the connections."""
        self._stopping.set()
        for follower in self._followers:
            follower.join(timeout=5)
        self._aside.close()
        self.scoring.close()
        self._side_by_side.close()
        self._tally.flush()
        self._queue.close()
        self._database.close()

    def _follow_registry(self) -> None:
        frozen = False
        while not self._stopping.is_set():
            try:
                if self.cache.refresh() and not frozen:
                    _freeze_start_up()
                    frozen = True
            except Exception:
                # A registry that cannot be read now may be readable in a moment; what is loaded
                # goes on answering.
                logger.exception("the registry could not be followed")
            self._looked.set()
            self._stopping.wait(self._poll_seconds)

    def _follow_keys(self) -> None:
        failing = False
        while not self._stopping.wait(self._poll_seconds):
            try:
                self._keys.refresh()
                failing = False
            except Exception:
                # The keys known so far go on; said once, for the registry's follower says it too.
                if not failing:
                    logger.exception("the keys could not be followed")
                failing = True

    def _flush_metrics(self) -> None:
        while not self._stopping.wait(_FLUSH_SECONDS):
            self._tally.flush()


class KeyFollower:
    """Hands the guard the registry's keys whenever the generation has moved."""

    def __init__(self, database: Database, guard: Guard) -> None:
        self._database = database
        self._guard = guard
        self._generation: int | None = None

    def refresh(self) -> None:
        """Look at the generation, and read the keys if it is another one."""
        with self._database.read() as connection:
            # First: a key that is written in between is read now and once more at the next look.
            current = generation.read(connection)
            if current == self._generation:
                return
            known = keys.list_keys(connection)
        self._guard.load(known)
        self._generation = current


def _sharing(threads: int, max_batch_size: int | None, *, on_gpu: bool) -> Sharing:
    if on_gpu:
        return Sharing(1, max_batch_size or _GPU_BATCH)
    return Sharing(threads, max_batch_size or _CPU_BATCH, 2 * threads, _CPU_CHARACTERS)


def _freeze_start_up() -> None:
    # Objects of the start-up live for ever: full collections over them stall requests
    # (measured: p99 of 150 to 370 ms without this, 27 ms with it).
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
