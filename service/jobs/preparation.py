"""What a start prepares: the base encoder, the background, the bundled occupations."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from service.domain.errors import EncoderUnusable
from service.domain.types import Origin, RegistrationState
from service.inference.device import precision_for
from service.inference.encoder import SideBySide, load_encoder
from service.inference.encoder_spec import Precision
from service.jobs.registering import Registrar
from service.registry import encoders, occupations, registrations, versions
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.settings import Settings
from service.telemetry.progress import Progress
from service.training.background import embed_background, read_background
from service.training.bundled import read_bundled
from service.training.encoder_source import EncoderSource, resolve_encoder

logger = logging.getLogger(__name__)

_EXPORT = "service.training.encoder_export"
_BUNDLED_POLL_SECONDS = 0.1
# In an encoder's artifact: what tells it from one of the same graph with another background.
_FINGERPRINT_FILE = "FINGERPRINT"


class Preparation:
    """Brings a home up to date; everything that is there already is left alone."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        artifacts: ArtifactStore,
        side_by_side: SideBySide,
    ) -> None:
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._side_by_side = side_by_side

    def sweep(self) -> None:
        """Remove what a killed process left: staging folders and artifacts nobody refers to."""
        self._artifacts.sweep_staging()
        with self._database.read() as connection:
            used = versions.referenced_artifacts(connection)
            used |= encoders.referenced_artifacts(connection)
        for digest in set(self._artifacts.digests()) - used:
            self._artifacts.remove(digest)

    def prepare_encoder(self) -> None:
        """Build the base encoder and embed the background, unless both are there.

        Another background makes another base encoder, if of the same graph: a version names its
        encoder, and keeps the background that it was trained and judged with. Raises
        EncoderUnusable or DeviceUnavailable.
        """
        precision = precision_for(self._settings.device)
        source = resolve_encoder(self._settings.encoder)
        fingerprint = source.fingerprint(precision, self._settings.background)
        with self._database.read() as connection:
            record = encoders.find_encoder(connection, fingerprint)
        if record is None or not self._stored(record) or self._taken(record):
            record = self._build(source, precision, fingerprint)
        with self._database.write() as connection:
            encoders.record_encoder(connection, record)
            encoders.set_base_encoder(connection, fingerprint)

    def register_bundled(self, registrar: Registrar, stopping: threading.Event) -> None:
        """Register new and changed bundled occupations, and wait for their first versions."""
        bundled = read_bundled(self._settings.occupations)
        with self._database.read() as connection:
            base = encoders.base_encoder(connection)
            known = occupations.source_digests(connection)
        if base is None:
            return
        started = []
        for item in bundled:
            # Another encoder makes another version too, and so does another background.
            digest = f"{item.file_digest[:32]}{base.digest[:32]}"
            new = item.occupation
            if new.id not in known:
                started.append(
                    registrar.register(new, origin=Origin.BUNDLED, source_digest=digest).id
                )
            elif known[new.id] is not None and known[new.id] != digest:
                started.append(registrar.replace(new, digest).id)
        self._wait_for(started, stopping)

    def _stored(self, record: EncoderRecord) -> bool:
        return self._artifacts.whole(record.digest) and self._artifacts.whole(
            record.background_digest
        )

    def _taken(self, record: EncoderRecord) -> bool:
        """Whether a record's artifact is already that of an encoder with another background."""
        with self._database.read() as connection:
            first = encoders.first_record(connection, record.digest)
        return (
            first is not None
            and first.fingerprint != record.fingerprint
            and first.background_digest != record.background_digest
        )

    def _build(
        self, source: EncoderSource, precision: Precision, fingerprint: str
    ) -> EncoderRecord:
        source.verify()
        with tempfile.TemporaryDirectory() as scratch:
            folder = source.exported if precision == "int8" else None
            if folder is None:
                folder = Path(scratch) / "encoder"
                _export(source, folder, precision)
            files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir()}
            digest = self._artifacts.put(files)
            record = EncoderRecord(fingerprint, digest, self._embed_background(digest))
            if self._taken(record):
                # Equal weights still make equal artifacts in a home that knows one background.
                files[_FINGERPRINT_FILE] = fingerprint.encode()
                record = replace(record, digest=self._artifacts.put(files))
        return record

    def _embed_background(self, digest: str) -> str:
        encoder = load_encoder(self._artifacts.open_local(digest), digest, self._side_by_side)
        rows = read_background(self._settings.background)
        with Progress("embedding the background", total=len(rows)) as progress:
            return self._artifacts.put(embed_background(encoder, rows, progress.advance))

    def _wait_for(self, started: list[str], stopping: threading.Event) -> None:
        if not started:
            return
        with Progress("registering the bundled occupations", total=len(started)) as progress:
            pending = set(started)
            while pending and not stopping.wait(_BUNDLED_POLL_SECONDS):
                with self._database.read() as connection:
                    finished = {
                        id
                        for id in pending
                        if (job := registrations.get_registration(connection, id)).versions
                        or job.state.finished
                    }
                    failed = [
                        id
                        for id in finished
                        if registrations.get_registration(connection, id).state
                        is RegistrationState.FAILED
                    ]
                for id in failed:
                    logger.error("a bundled occupation failed", extra={"registration": id})
                progress.advance(len(finished))
                pending -= finished


def _export(source: EncoderSource, target: Path, precision: Precision) -> None:
    """Export in a child process: the Trainer itself never holds torch in memory."""
    command = [sys.executable, "-m", _EXPORT, str(source.folder), str(target), precision]
    child = subprocess.Popen(
        [*command, source.name],
        # Held open and never written to: the child ends when this process has ended.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(child.stderr or ()), daemon=True)
    reader.start()
    with Progress(f"preparing the encoder {source.name}", total=0) as progress:
        for line in child.stdout or ():
            step, _, what = line.strip().partition(" ")
            done, _, total = step.partition("/")
            if done.isdigit() and total.isdigit():
                progress.step(int(done) - 1, int(total), what)
    status = child.wait()
    reader.join()
    if status == 2 and errors:
        raise EncoderUnusable(errors[-1].strip())
    if status != 0:
        logger.error("the export's last words: %s", "".join(errors[-20:]))
        raise EncoderUnusable(f"The export of {source.name} ended with status {status}.")
