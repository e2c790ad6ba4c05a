"""The Trainer process: prepares the base encoder and the bundled occupations, then works."""

from __future__ import annotations

import fcntl
import logging
import threading
from pathlib import Path
from typing import TextIO

from service.domain.errors import VocationError
from service.inference.encoder import SideBySide
from service.inference.model_cache import INITIALISED, ModelCache
from service.jobs import worker
from service.jobs.fine_tuning import FineTuning
from service.jobs.preparation import Preparation
from service.jobs.queue import RegistrationQueue
from service.jobs.registering import JOBS_READY, Registrar
from service.jobs.stages import Stages
from service.registry import erasing, generation, registrations
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database, utc_now
from service.registry.home import LOCK_FILE
from service.settings import Settings, available_cpus
from service.telemetry import logs, metrics

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 10.0
_TICK_SECONDS = 1.0


class TrainerProcess:
    """Starts in a thread, so that the process is alive while the first start takes its time."""

    def __init__(self, settings: Settings) -> None:
        logs.configure(settings.log_format, settings.log_level)
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)
        self._launched = False
        self._database: Database | None = None

    def start(self) -> None:
        """Start to work."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what runs is resumed by the next start."""
        self._stopping.set()
        if self._launched:
            worker.shut_down()
        self._thread.join(timeout=5)
        if self._database is not None:
            # The last connection to close folds the write-ahead log into the file.
            self._database.close()

    def _run(self) -> None:
        home = self._settings.home.resolve()
        while (lock := _open_lock(home)) is None:
            if self._stopping.wait(_RETRY_SECONDS):
                return
        # A second service on the same home stands by: two workers would run the same jobs.
        with lock:
            if not self._acquire(lock.fileno()):
                return
            while not self._stopping.is_set():
                try:
                    self._work(home)
                except VocationError as error:
                    logger.error("%s: %s", error.title, error.detail)
                except Exception:
                    logger.exception("the Trainer stopped; it tries again")
                self._stopping.wait(_RETRY_SECONDS)

    def _acquire(self, descriptor: int) -> bool:
        announced = False
        while not self._stopping.is_set():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not announced:
                    logger.info("another Trainer works on this home: standing by")
                    announced = True
                self._stopping.wait(_TICK_SECONDS)
            else:
                return True
        return False

    def _work(self, home: Path) -> None:
        database = self._database or Database(self._settings.resolved_database_url)
        self._database = database
        database.create_schema()
        artifacts = ArtifactStore(self._settings.resolved_artifact_url, home / "cache")
        side_by_side = SideBySide(available_cpus())
        cache = ModelCache(database, artifacts, side_by_side, version_entries=1, encoder_bytes=0)
        preparation = Preparation(self._settings, database, artifacts, side_by_side)
        tuning = FineTuning(self._settings, database, artifacts)
        tuning.sweep()
        if not self._launched:
            # Never beside the workers: an artifact is stored before a version refers to it.
            preparation.sweep()
        preparation.prepare_encoder()
        if not self._launched:
            worker.launch(
                database.engine,
                Stages(database, artifacts, cache),
                tuning,
                self._settings.training_timeout_seconds,
            )
            self._launched = True
        queue = RegistrationQueue(database.engine, self._settings.training_timeout_seconds)
        with database.write() as connection:
            generation.put(connection, JOBS_READY, utc_now())
        preparation.register_bundled(Registrar(database, queue), self._stopping)
        with database.write() as connection:
            if generation.get(connection, INITIALISED) is None:
                generation.put(connection, INITIALISED, utc_now())
                generation.bump(connection)
        logger.info("the Trainer is ready")
        while not self._stopping.wait(_TICK_SECONDS):
            self._tick(database, tuning)

    def _tick(self, database: Database, tuning: FineTuning) -> None:
        tuning.sweep()
        erasing.finish_erasures(database)
        with database.read() as connection:
            counts = registrations.count_by_state(connection)
            active = registrations.active_ids(connection)
        metrics.set_registrations(counts)
        for registration in worker.ended_without_word(active):
            with database.write() as connection:
                registrations.time_out(connection, registration)
        metrics.TRAINER_HEARTBEAT.set_to_current_time()


def _open_lock(home: Path) -> TextIO | None:
    """The lock's file, None where the home cannot be written now."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        return (home / LOCK_FILE).open("w")
    except OSError as error:
        logger.error("the Trainer cannot lock its home: %s", error.strerror)
        return None
