"""Who may call what: the one table of routes and scopes, and the guard that holds requests to it."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import Counter

from service.api.problems import FixedHeaders, Headers
from service.api.rate_limit import Quota, TokenBucket, share
from service.domain.errors import Forbidden, NotReady, RateLimited, Unauthenticated, VocationError
from service.domain.keys import Key, KeyScope, digest_secret, granted, split_key
from service.telemetry import metrics

_CLASSIFY, _REGISTER, _ADMIN = KeyScope

METRICS = ("GET", "/metrics")

# None is open to everybody. What is not in the table (another method, an unknown path, a page of
# BentoML's own) wants any valid key, so that nobody without one learns what is there.
ACCESS: Mapping[tuple[str, str], KeyScope | None] = {
    ("GET", "/livez"): None,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    METRICS: None,
    ("GET", "/"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/docs"): None,
    ("GET", "/docs/assets/{file}"): None,
    ("POST", "/v1/classify"): _CLASSIFY,
    ("GET", "/v1/occupations"): _CLASSIFY,
    ("POST", "/v1/occupations"): _REGISTER,
    ("GET", "/v1/occupations/{id}"): _CLASSIFY,
    ("DELETE", "/v1/occupations/{id}"): _ADMIN,
    # Texts, and what people said about them.
    ("GET", "/v1/occupations/{id}/examples"): _REGISTER,
    ("POST", "/v1/occupations/{id}/examples"): _REGISTER,
    ("DELETE", "/v1/occupations/{id}/examples/{example_id}"): _ADMIN,
    ("POST", "/v1/occupations/{id}/suggest"): _REGISTER,
    ("GET", "/v1/occupations/{id}/versions"): _CLASSIFY,
    ("GET", "/v1/occupations/{id}/versions/{number}"): _CLASSIFY,
    ("GET", "/v1/occupations/{id}/versions/{number}/card"): _CLASSIFY,
    ("PUT", "/v1/occupations/{id}/champion"): _REGISTER,
    ("GET", "/v1/registrations"): _CLASSIFY,
    ("GET", "/v1/registrations/{id}"): _CLASSIFY,
    ("DELETE", "/v1/registrations/{id}"): _REGISTER,
}
# Every key has this one.
ANY_KEY = _CLASSIFY

_CHALLENGE = 'Bearer realm="vocation"'
# Compared with when no key has the id: to refuse takes as long as when one has.
_NO_DIGEST = bytes(32)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard says of a request: who calls, headers of the reply, why it is refused."""

    caller: str | None = None
    headers: FixedHeaders = ()
    refusal: VocationError | None = None


_OPEN = Verdict()


@dataclass(frozen=True, slots=True)
class _Holder:
    """A key as the guard checks it."""

    name: str
    scopes: frozenset[KeyScope]
    secret_digest: bytes
    expires_at: float
    revoked: bool
    bucket: TokenBucket | None
    admitted: Counter
    forbidden: Counter
    rate_limited: Counter


class Guard:
    """Judges each request by its key, from memory alone.

    Once it has known a key, of whatever state, it stays shut to callers without one.
    """

    def __init__(
        self,
        api_processes: int,
        metrics_open: bool,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        rules = {**ACCESS, METRICS: None if metrics_open else _ADMIN}
        rules.update({("HEAD", path): scope for (m, path), scope in rules.items() if m == "GET"})
        self._rules = rules
        # Shut even where no key is configured.
        self._shut = frozenset() if metrics_open else frozenset({METRICS[1]})
        self._api_processes = api_processes
        self._clock = clock
        self._wall_clock = wall_clock
        self._holders: dict[bytes, _Holder] | None = None
        self.guarded = False

    def load(self, keys: Iterable[Key]) -> None:
        """Take these keys from now on; what a key has used of its limit stays used."""
        before = self._holders or {}
        holders = {key.id.encode(): self._holder(key, before) for key in keys}
        self.guarded = self.guarded or bool(holders)
        self._holders = holders

    def judge(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Verdict:
        """Judge a request by its method, its path's template and its headers."""
        if not self.guarded and self._holders is not None and path not in self._shut:
            return _OPEN
        needed = self._rules.get((method, path), ANY_KEY)
        if needed is None:
            return _OPEN
        if self._holders is None:
            return Verdict(refusal=NotReady("The service is starting."))
        holder = self._authenticate(headers, self._holders)
        if isinstance(holder, str):
            return _unauthenticated(holder)
        return _admit(holder, needed)

    def _authenticate(
        self, headers: Iterable[tuple[bytes, bytes]], holders: Mapping[bytes, _Holder]
    ) -> _Holder | str:
        """The holder of a valid key, or why there is none."""
        presented = [value for name, value in headers if name == b"authorization"]
        if not presented:
            return "missing"
        scheme, _, text = presented[0].partition(b" ")
        parts = split_key(text.strip(b" "))
        # Two headers may mean one thing to a proxy and another to us.
        if len(presented) > 1 or scheme.lower() != b"bearer" or parts is None:
            return "malformed"
        id, secret = parts
        holder = holders.get(id)
        expected = _NO_DIGEST if holder is None else holder.secret_digest
        same = hmac.compare_digest(digest_secret(secret), expected)
        if holder is None or not same:
            return "unknown"
        if holder.revoked:
            return "revoked"
        if self._wall_clock() >= holder.expires_at:
            return "expired"
        return holder

    def _holder(self, key: Key, before: Mapping[bytes, _Holder]) -> _Holder:
        return _Holder(
            name=key.name,
            scopes=granted(key.scopes),
            secret_digest=key.secret_digest,
            expires_at=float("inf") if key.expires_at is None else key.expires_at.timestamp(),
            revoked=key.revoked_at is not None,
            bucket=self._bucket(key, before.get(key.id.encode())),
            admitted=metrics.KEY_REQUESTS.labels(key.name, "admitted"),
            forbidden=metrics.KEY_REQUESTS.labels(key.name, "forbidden"),
            rate_limited=metrics.KEY_REQUESTS.labels(key.name, "rate_limited"),
        )

    def _bucket(self, key: Key, before: _Holder | None) -> TokenBucket | None:
        if key.requests_per_minute is None:
            return None
        if before is not None and before.bucket is not None:
            return before.bucket
        return TokenBucket(share(key.requests_per_minute, self._api_processes), self._clock)


def without_key(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers as the layers below the edge see them: no layer can log what it never had."""
    return [header for header in headers if header[0] != b"authorization"]


def _admit(holder: _Holder, needed: KeyScope) -> Verdict:
    quota = None if holder.bucket is None else holder.bucket.take()
    told = () if quota is None else _quota_headers(quota)
    if quota is not None and not quota.admitted:
        holder.rate_limited.inc()
        return _rate_limited(holder.name, quota, told)
    if needed not in holder.scopes:
        holder.forbidden.inc()
        return _forbidden(holder.name, needed, told)
    holder.admitted.inc()
    return Verdict(holder.name, told)


def _unauthenticated(reason: str) -> Verdict:
    metrics.AUTHENTICATION_FAILURES.labels(reason).inc()
    # RFC 6750, section 3.1: no error code where no key was presented. The reply is the same
    # whatever is wrong with a key.
    challenge = _CHALLENGE if reason == "missing" else f'{_CHALLENGE}, error="invalid_token"'
    return Verdict(
        headers=((b"www-authenticate", challenge.encode()),),
        refusal=Unauthenticated("Send a valid key: Authorization: Bearer <key>."),
    )


def _forbidden(name: str, needed: KeyScope, told: FixedHeaders) -> Verdict:
    challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{needed.value}"'
    return Verdict(
        name,
        (*told, (b"www-authenticate", challenge.encode())),
        Forbidden(f"This needs a key with the scope {needed.value}."),
    )


def _rate_limited(name: str, quota: Quota, told: FixedHeaders) -> Verdict:
    return Verdict(
        name,
        (*told, (b"retry-after", b"%d" % quota.retry_after_seconds)),
        RateLimited("This key has used its requests: wait as long as Retry-After says."),
    )


def _quota_headers(quota: Quota) -> FixedHeaders:
    # Source: draft-ietf-httpapi-ratelimit-headers-06; seconds, not times.
    return (
        (b"ratelimit-limit", b"%d" % quota.limit),
        (b"ratelimit-remaining", b"%d" % quota.remaining),
        (b"ratelimit-reset", b"%d" % quota.reset_seconds),
    )
