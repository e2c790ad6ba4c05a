"""The JSON of an artifact, judged field by field before anything is made of it.

An artifact may come from an older release, whose fields are all known here, or from a newer one.
What is not known may change a score, so it is refused and never passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service.domain.errors import VocationError

# What this release writes and reads. It stands in no file, so that equal artifacts of earlier
# releases keep their digests: a file without a `format` has format 1. A release whose artifacts an
# earlier one must not read writes the next number, and moves EXPORT_RECIPES with it, so that after
# a rollback the earlier one does not take the later base encoder for its own.
FORMAT = 1

_FORMAT_FIELD = "format"

Kind = Callable[[Any], bool]


def read_fields(
    file: Path,
    required: Mapping[str, Kind],
    optional: Mapping[str, Kind],
    fault: type[VocationError],
) -> dict[str, Any]:
    """The fields of a file that holds one JSON object; optional ones may be absent.

    Raises ``fault``, whose detail names the file and the first field that is of a newer format,
    unknown, missing, or of another kind than told.
    """
    try:
        fields = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise fault(f"{file.name} cannot be read: {type(error).__name__}.") from error
    if not isinstance(fields, dict):
        raise fault(f"{file.name} holds no JSON object.")
    written = fields.pop(_FORMAT_FIELD, FORMAT)
    if not is_whole(written) or written > FORMAT:
        raise fault(
            f"{file.name} has the format {written!r}, and this release reads up to {FORMAT}: "
            "a newer one made it."
        )
    kinds = {**required, **optional}
    for name, value in fields.items():
        if name not in kinds:
            raise fault(
                f"{file.name} has a field that this release does not know, {name!r}: "
                "a newer one made it."
            )
        if not kinds[name](value):
            raise fault(f"{file.name}: {name!r} has a value that this release cannot read.")
    for name in required:
        if name not in fields:
            raise fault(f"{file.name} has no {name!r}.")
    return fields


def is_text(value: Any) -> bool:
    """Whether a value is a string."""
    return isinstance(value, str)


def is_flag(value: Any) -> bool:
    """Whether a value is true or false."""
    return isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; a flag is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a number, whole or not."""
    return is_whole(value) or isinstance(value, float)


def is_texts(value: Any) -> bool:
    """Whether a value is a list of strings."""
    return isinstance(value, list) and all(is_text(item) for item in value)


def is_object(value: Any) -> bool:
    """Whether a value is a JSON object, whatever it holds."""
    return isinstance(value, dict)
