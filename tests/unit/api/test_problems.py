from __future__ import annotations

import re
from collections.abc import Iterator

import orjson
import pytest

from service.api import problems
from service.domain import errors
from service.domain.errors import FieldError, InvalidFields, NotReady, VocationError

# What goes wrong where no caller waits: in the Trainer, at the start, in a stage, in a command.
_NEVER_SENT = (
    errors.ArtifactCorrupted,
    errors.BackupDamaged,
    errors.BackupFailed,
    errors.BackupRefused,
    errors.DeviceUnavailable,
    errors.EncoderUnusable,
    errors.FileExists,
    errors.KeyExists,
    errors.KeyNotFound,
    errors.NoKeyConfigured,
    errors.RegistryNotFound,
    errors.RegistryTooNew,
    errors.RegistryDamaged,
    errors.RestoreFailed,
    errors.RestoreRefused,
    errors.TrainingFailed,
    errors.VersionInUse,
)


def _all_errors(base: type[VocationError] = VocationError) -> Iterator[type[VocationError]]:
    """The errors of the domain; a layer's own kind of one of them keeps its code and status."""
    for error in base.__subclasses__():
        if error.__module__ == errors.__name__:
            yield error
        yield from _all_errors(error)


def test_every_error_has_a_stable_code_of_its_own() -> None:
    codes = [error.code for error in _all_errors()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_every_error_that_a_caller_can_meet_has_a_status() -> None:
    assert set(problems.STATUS) == set(_all_errors()) - set(_NEVER_SENT)


@pytest.mark.parametrize("error", _NEVER_SENT)
def test_an_internal_error_does_not_tell_its_details(error: type[VocationError]) -> None:
    document = problems.problem_of(error("a path of this machine"))
    assert document["status"] == 500
    assert "machine" not in document["detail"]


def test_invalid_fields_are_listed_with_their_pointers() -> None:
    fields = (FieldError("/experiences/0/text", "must not be blank"),)
    document = problems.problem_of(InvalidFields("See errors.", fields), "/v1/classify", "r-1")
    assert document["errors"] == [{"pointer": "/experiences/0/text", "detail": "must not be blank"}]
    assert (document["instance"], document["request_id"]) == ("/v1/classify", "r-1")


def test_a_problem_is_json_that_holds_no_more_than_its_members() -> None:
    document = problems.problem_of(NotReady("Not yet."))
    _, body = problems.render(document)
    assert orjson.loads(body) == {
        "type": "urn:vocation:problem:not_ready",
        "title": NotReady.title,
        "status": 503,
        "detail": "Not yet.",
        "code": "not_ready",
    }
