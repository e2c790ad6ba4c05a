"""Keys of callers: scopes, what a key looks like, and the digest that stands for its secret."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

_PREFIX = "voc_"
_ID_LETTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 8
_SECRET_BYTES = 32
# 32 bytes in base64url without padding.
_SECRET_LENGTH = 43
_ID_STARTS = len(_PREFIX)
_SECRET_STARTS = _ID_STARTS + _ID_LENGTH + 1
_KEY_LENGTH = _SECRET_STARTS + _SECRET_LENGTH
# A name is a metric label and a field of log lines: nothing in it needs quoting.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class KeyScope(StrEnum):
    """What a key may do; each scope holds the ones before it."""

    CLASSIFY = "classify"
    REGISTER = "register"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the registry knows it."""

    id: str
    name: str
    scopes: frozenset[KeyScope]
    secret_digest: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    requests_per_minute: int | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at its birth: ``text`` is for its holder alone and is stored nowhere."""

    id: str
    text: str = field(repr=False)
    secret_digest: bytes = field(repr=False)


def make_key() -> NewKey:
    """A random key ``voc_<id>_<secret>`` with a secret of 256 bits."""
    id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    return NewKey(id, f"{_PREFIX}{id}_{secret}", digest_secret(secret.encode()))


def split_key(text: bytes) -> tuple[bytes, bytes] | None:
    """The id and the secret of what a caller presents; None unless it has the form of a key."""
    if len(text) != _KEY_LENGTH or not text.startswith(_PREFIX.encode()):
        return None
    id, separator, secret = (
        text[_ID_STARTS : _SECRET_STARTS - 1],
        text[_SECRET_STARTS - 1],
        text[_SECRET_STARTS:],
    )
    return (id, secret) if separator == ord("_") else None


def digest_secret(secret: bytes) -> bytes:
    """The SHA-256 of a secret.

    A fast hash without salt is enough for 256 random bits, which nobody guesses at any speed.
    Source: NIST SP 800-63B, 5.1.2.2 (secrets of at least 112 bits are hashed with an approved
    one-way function; salt and key derivation are for less); OWASP ASVS 5.0, 6.5.2, says the same.
    """
    return hashlib.sha256(secret).digest()


def granted(scopes: Iterable[KeyScope]) -> frozenset[KeyScope]:
    """The scopes of a key with those that they hold."""
    order = list(KeyScope)
    return frozenset(held for scope in scopes for held in order[: order.index(scope) + 1])


def is_key_name(name: str) -> bool:
    """Whether a name is 1 to 64 letters, digits, ``.``, ``_`` and ``-``."""
    return _NAME.fullmatch(name) is not None
