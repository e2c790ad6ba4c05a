"""Errors that a caller can act on, each with a stable code.

A ``detail`` never repeats a caller's text: it may reach logs and replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One invalid field: ``pointer`` is an RFC 6901 JSON pointer into the request body."""

    pointer: str
    detail: str


class VocationError(Exception):
    """Base of every error with a stable, documented code."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields


class InvalidJson(VocationError):
    code = "invalid_json"
    title = "The body is not JSON"


class InvalidFields(VocationError):
    code = "invalid_fields"
    title = "Invalid fields"


class UnsupportedMediaType(VocationError):
    code = "unsupported_media_type"
    title = "Unsupported media type"


class BodyTooLarge(VocationError):
    code = "body_too_large"
    title = "The body is too large"


class BodyTooSlow(VocationError):
    code = "body_too_slow"
    title = "The body did not arrive in time"


class OccupationNotFound(VocationError):
    code = "occupation_not_found"
    title = "Occupation not found"


class OccupationNotReady(VocationError):
    code = "occupation_not_ready"
    title = "The occupation has no version yet"


class OccupationExists(VocationError):
    code = "occupation_exists"
    title = "The occupation exists"


class OccupationBusy(VocationError):
    code = "occupation_busy"
    title = "A registration of the occupation is running"


class ExampleNotFound(VocationError):
    code = "example_not_found"
    title = "Example not found"


class VersionNotFound(VocationError):
    code = "version_not_found"
    title = "Version not found"


class VersionInUse(VocationError):
    code = "version_in_use"
    title = "The version is in use"


class VersionUnavailable(VocationError):
    code = "version_unavailable"
    title = "The version cannot be loaded"


class RegistrationNotFound(VocationError):
    code = "registration_not_found"
    title = "Registration not found"


class RegistrationFinished(VocationError):
    code = "registration_finished"
    title = "The registration has finished"


class RegistrationCancelled(VocationError):
    code = "registration_cancelled"
    title = "The registration was cancelled"


class IdempotencyKeyReused(VocationError):
    code = "idempotency_key_reused"
    title = "The idempotency key was used with another body"


class Unauthenticated(VocationError):
    code = "unauthenticated"
    title = "A valid key is needed"


class Forbidden(VocationError):
    code = "forbidden"
    title = "The key does not have the scope"


class RateLimited(VocationError):
    code = "rate_limited"
    title = "Too many requests with this key"


class KeyExists(VocationError):
    code = "key_exists"
    title = "The key exists"


class KeyNotFound(VocationError):
    code = "key_not_found"
    title = "Key not found"


class NoKeyConfigured(VocationError):
    code = "no_key_configured"
    title = "No key is configured"


class NotReady(VocationError):
    code = "not_ready"
    title = "The service is not ready"


class Overloaded(VocationError):
    code = "overloaded"
    title = "The service is overloaded"


class StorageUnavailable(VocationError):
    code = "storage_unavailable"
    title = "The registry cannot be written"


class TrainingFailed(VocationError):
    code = "training_failed"
    title = "Training failed"


class EncoderUnusable(VocationError):
    code = "encoder_unusable"
    title = "The encoder cannot be used"


class DeviceUnavailable(VocationError):
    code = "device_unavailable"
    title = "The device is not available"


class ArtifactCorrupted(VocationError):
    code = "artifact_corrupted"
    title = "A stored artifact is damaged"


class RegistryTooNew(VocationError):
    code = "registry_too_new"
    title = "The registry was written by a newer release"


class RegistryDamaged(VocationError):
    code = "registry_damaged"
    title = "The registry is damaged"


class RegistryNotFound(VocationError):
    code = "registry_not_found"
    title = "There is no registry here"


class BackupRefused(VocationError):
    code = "backup_refused"
    title = "This cannot be backed up"


class BackupFailed(VocationError):
    code = "backup_failed"
    title = "The backup failed"


class BackupDamaged(VocationError):
    code = "backup_damaged"
    title = "The backup is damaged"


class RestoreRefused(VocationError):
    code = "restore_refused"
    title = "This cannot be restored"


class RestoreFailed(VocationError):
    code = "restore_failed"
    title = "The restore failed"


class FileExists(VocationError):
    code = "file_exists"
    title = "The file exists"
