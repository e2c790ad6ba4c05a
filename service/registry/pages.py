"""Cursors of paginated lists: opaque to callers, the last row's key to us."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.domain.errors import FieldError, InvalidFields

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of one page and the cursor of the next one, None on the last page."""

    items: Sequence[T]
    next_cursor: str | None


def encode_cursor(key: str | int) -> str:
    """The cursor that continues after ``key``."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[T]) -> T:
    """The key behind a cursor; raises InvalidFields when it is not one of ours."""
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        storable = _storable(key)
    except (binascii.Error, ValueError):
        key, storable = None, False
    # Exactly the type: true is an int to isinstance.
    if type(key) is not kind or not storable:
        raise InvalidFields(
            "The cursor is not one that this service gave.",
            (FieldError("/query/cursor", "not a cursor of this list"),),
        )
    return key


def _storable(key: object) -> bool:
    if isinstance(key, int):
        return 0 <= key < 2**63
    return isinstance(key, str) and bool(key.encode())
