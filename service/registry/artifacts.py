"""Content-addressed artifacts on any fsspec file system.

An artifact is a folder named by the SHA-256 of its listing (file names, sizes and SHA-256s), so a
digest names its bytes: equal artifacts are stored once, and a damaged one is never loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec

from service.domain.errors import ArtifactCorrupted, StorageUnavailable

_LISTING = "LISTING.json"
_STAGING = ".staging"
_CHUNK_BYTES = 1 << 20


class ArtifactStore:
    """Stores folders by digest; ``cache`` keeps local copies when the store is remote."""

    def __init__(self, url: str, cache: Path) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._local = "file" in (
            self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        )
        self._cache = cache

    def put(self, files: Mapping[str, bytes | Path]) -> str:
        """Store named files (bytes, or paths to copy) and return the artifact's digest.

        The listing comes last, on a local disk by one rename: a killed process leaves nothing
        that could be taken for whole. A damaged copy of the same artifact is replaced.
        """
        listing = _listing(files)
        digest = hashlib.sha256(listing).hexdigest()
        if self.whole(digest):
            return digest
        if self._local:
            self._put_local(files, listing, digest)
        else:
            self._write_all(self._folder(digest), files, listing)
        return digest

    def whole(self, digest: str) -> bool:
        """Whether an artifact is stored with every byte as its digest says.

        Raises StorageUnavailable when it cannot be fetched.
        """
        try:
            self.open_local(digest)
        except ArtifactCorrupted:
            return False
        return True

    def open_local(self, digest: str) -> Path:
        """A local folder with the artifact's files, each checked against the digest.

        Raises ArtifactCorrupted when a file is missing or differs, and StorageUnavailable when a
        remote store does not answer or the cache has no room: that may pass.
        """
        if self._local:
            folder = Path(self._folder(digest))
            _verify(folder, digest)
            return folder
        folder = self._cache / digest
        try:
            _verify(folder, digest)
        except ArtifactCorrupted:
            self._download(digest, folder)
            _verify(folder, digest)
        return folder

    def copy_to(self, target: ArtifactStore, digest: str) -> int:
        """Copy an artifact to another store, checked at both ends; returns its size in bytes.

        Raises ArtifactCorrupted when it is damaged here, StorageUnavailable when it cannot be
        fetched, and OSError when it cannot be written.
        """
        folder = self.open_local(digest)
        files: dict[str, bytes | Path] = {name: folder / name for name in _names(folder)}
        if target.put(files) != digest or not target.whole(digest):
            raise ArtifactCorrupted(f"Artifact {digest[:12]} changed while it was copied.")
        return sum((folder / name).stat().st_size for name in files)

    def remove(self, digest: str) -> None:
        """Remove an artifact from the store and from the cache."""
        if self._fs.exists(self._folder(digest)):
            self._fs.rm(self._folder(digest), recursive=True)
        shutil.rmtree(self._cache / digest, ignore_errors=True)

    def digests(self) -> Iterator[str]:
        """Digests of everything that is stored."""
        if not self._fs.exists(self._root):
            return
        for listing in self._fs.glob(f"{self._root}/??/*/{_LISTING}"):
            yield str(listing).split("/")[-2]

    def sweep_staging(self) -> None:
        """Remove what a killed process left in staging; for the one process that writes."""
        staging = f"{self._root}/{_STAGING}"
        if self._fs.exists(staging):
            self._fs.rm(staging, recursive=True)

    def _parent(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}"

    def _folder(self, digest: str) -> str:
        return f"{self._parent(digest)}/{digest}"

    def _put_local(self, files: Mapping[str, bytes | Path], listing: bytes, digest: str) -> None:
        staging = f"{self._root}/{_STAGING}/{uuid.uuid4().hex}"
        try:
            self._write_all(staging, files, listing)
            _sync_folder(Path(staging))
            target = Path(self._folder(digest))
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync_folder(target.parent.parent)
            try:
                Path(staging).rename(target)
            except OSError:
                # Taken: by another process with the same bytes, or by a damaged copy.
                if not self.whole(digest):
                    shutil.rmtree(target)
                    Path(staging).rename(target)
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _write_all(self, folder: str, files: Mapping[str, bytes | Path], listing: bytes) -> None:
        self._fs.makedirs(folder, exist_ok=True)
        for name, content in files.items():
            self._write(f"{folder}/{name}", content)
        self._write(f"{folder}/{_LISTING}", listing)

    def _write(self, path: str, content: bytes | Path) -> None:
        with self._fs.open(path, "wb") as target:
            if isinstance(content, bytes):
                target.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, target, _CHUNK_BYTES)
            if self._local:
                target.flush()
                os.fsync(target.fileno())

    def _download(self, digest: str, folder: Path) -> None:
        partial = folder.with_name(f"{digest}.{uuid.uuid4().hex}")
        try:
            partial.mkdir(parents=True)
            for path in self._fs.ls(self._folder(digest), detail=False):
                self._fs.get_file(path, str(partial / str(path).rsplit("/", 1)[-1]))
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        except FileNotFoundError:
            raise ArtifactCorrupted(f"Artifact {digest[:12]} is not in the store.") from None
        except Exception as error:
            # Each driver of a remote store has errors of its own.
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise StorageUnavailable(
                f"Artifact {digest[:12]} cannot be fetched: {reason}."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _names(folder: Path) -> list[str]:
    return [entry["name"] for entry in json.loads((folder / _LISTING).read_bytes())]


def _listing(files: Mapping[str, bytes | Path]) -> bytes:
    entries = [
        {
            "name": name,
            "sha256": _sha256(content),
            "size": len(content) if isinstance(content, bytes) else content.stat().st_size,
        }
        for name, content in sorted(files.items())
    ]
    return json.dumps(entries, indent=1).encode()


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _verify(folder: Path, digest: str) -> None:
    try:
        listing = (folder / _LISTING).read_bytes()
        if hashlib.sha256(listing).hexdigest() != digest:
            raise ArtifactCorrupted(f"Artifact {digest[:12]} has another listing than its digest.")
        for entry in json.loads(listing):
            if _sha256(folder / entry["name"]) != entry["sha256"]:
                raise ArtifactCorrupted(f"Artifact {digest[:12]}: {entry['name']} is damaged.")
    except OSError:
        raise ArtifactCorrupted(f"Artifact {digest[:12]} is missing or incomplete.") from None
    except (ValueError, TypeError, KeyError):
        raise ArtifactCorrupted(
            f"Artifact {digest[:12]} has a listing of another format."
        ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
