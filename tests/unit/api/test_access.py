from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.api import access
from service.api.access import ACCESS, Guard, Verdict, without_key
from service.domain.keys import Key, KeyScope, NewKey, digest_secret, make_key
from tests.support.keys import known_key

NOW = datetime(2031, 3, 4, 5, 6, 7, tzinfo=UTC)
CLASSIFY = ("POST", "/v1/classify")
REGISTER = ("POST", "/v1/occupations")
DELETE = ("DELETE", "/v1/occupations/{id}")


class Clocks:
    """Both clocks of a guard, moved together by a test."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    def wall(self) -> float:
        return NOW.timestamp() + self.passed


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def new() -> NewKey:
    return make_key()


def guard_of(
    clocks: Clocks, *keys: Key, api_processes: int = 1, metrics_open: bool = True
) -> Guard:
    guard = Guard(api_processes, metrics_open, clocks.monotonic, clocks.wall)
    guard.load(keys)
    return guard


def ask(
    guard: Guard, key: NewKey | str | None = None, route: tuple[str, str] = CLASSIFY
) -> Verdict:
    headers = [(b"accept", b"*/*")]
    if key is not None:
        value = f"Bearer {key.text}" if isinstance(key, NewKey) else key
        headers.append((b"authorization", value.encode("latin-1")))
    return guard.judge(*route, headers)


def code(verdict: Verdict) -> str | None:
    return None if verdict.refusal is None else verdict.refusal.code


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_without_keys_everybody_may_do_everything(clocks: Clocks) -> None:
    guard = guard_of(clocks)
    for route in [*ACCESS, ("GET", "/{unknown}"), ("PATCH", "/v1/occupations")]:
        assert ask(guard, route=route) == Verdict()


def test_before_the_keys_are_known_only_what_is_open_is_answered(clocks: Clocks) -> None:
    guard = Guard(1, metrics_open=True)
    assert code(ask(guard)) == "not_ready"
    assert code(ask(guard, make_key())) == "not_ready"
    assert code(ask(guard, route=("GET", "/livez"))) is None


def test_a_valid_key_is_admitted_and_named(clocks: Clocks, new: NewKey) -> None:
    guard = guard_of(clocks, known_key(new, KeyScope.CLASSIFY, name="bot"))
    assert ask(guard, new) == Verdict(caller="bot")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_taken_in_any_case(clocks: Clocks, new: NewKey, scheme: str) -> None:
    guard = guard_of(clocks, known_key(new))
    assert code(ask(guard, f"{scheme} {new.text}")) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "{text}",
        "Basic {text}",
        "Bearer {text}x",
        "Bearer {text}, {text}",
        "Bearer voc_éé",
        "Bearer \xff{text}",
        "Bearer\t{text}",
    ],
)
def test_what_is_not_a_bearer_key_is_malformed(clocks: Clocks, new: NewKey, value: str) -> None:
    guard = guard_of(clocks, known_key(new))
    before = counted("vocation_authentication_failures_total", reason="malformed")
    verdict = ask(guard, value.replace("{text}", new.text))
    assert code(verdict) == "unauthenticated"
    assert counted("vocation_authentication_failures_total", reason="malformed") == before + 1


def test_two_authorization_headers_are_refused_even_when_one_is_valid(
    clocks: Clocks, new: NewKey
) -> None:
    guard = guard_of(clocks, known_key(new))
    valid = (b"authorization", f"Bearer {new.text}".encode())
    for headers in ([valid, valid], [valid, (b"authorization", b"Basic eA==")]):
        assert code(guard.judge(*CLASSIFY, headers)) == "unauthenticated"


def _with(text: str, position: int) -> str:
    return text[:position] + ("a" if text[position] != "a" else "b") + text[position + 1 :]


def _refused_keys(new: NewKey) -> list[tuple[str, Key, str]]:
    day = timedelta(days=1)
    return [
        ("unknown", known_key(make_key()), new.text),
        ("unknown", known_key(new), _with(new.text, 13)),
        ("unknown", known_key(new), _with(new.text, -2)),
        ("unknown", known_key(new), _with(new.text, 5)),
        ("expired", known_key(new, expires_at=NOW), new.text),
        ("expired", known_key(new, expires_at=NOW - day), new.text),
        ("revoked", known_key(new, revoked_at=NOW + day), new.text),
        ("revoked", known_key(new, revoked_at=NOW, expires_at=NOW - day), new.text),
    ]


@pytest.mark.parametrize("case", range(8))
def test_a_key_that_is_wrong_expired_or_revoked_is_refused_in_the_same_words(
    clocks: Clocks, new: NewKey, case: int
) -> None:
    reason, key, text = _refused_keys(new)[case]
    before = counted("vocation_authentication_failures_total", reason=reason)
    verdict = ask(guard_of(clocks, key), f"Bearer {text}")
    assert verdict.refusal is not None
    assert verdict.refusal.detail == "Send a valid key: Authorization: Bearer <key>."
    assert verdict.headers == (
        (b"www-authenticate", b'Bearer realm="vocation", error="invalid_token"'),
    )
    assert verdict.caller is None
    assert counted("vocation_authentication_failures_total", reason=reason) == before + 1


def test_who_sends_no_key_is_told_how_and_of_no_error(clocks: Clocks, new: NewKey) -> None:
    verdict = ask(guard_of(clocks, known_key(new)))
    assert code(verdict) == "unauthenticated"
    assert verdict.headers == ((b"www-authenticate", b'Bearer realm="vocation"'),)


def test_a_key_is_valid_up_to_its_expiry(clocks: Clocks, new: NewKey) -> None:
    guard = guard_of(clocks, known_key(new, expires_at=NOW + timedelta(seconds=10)))
    clocks.passed = 9.9
    assert code(ask(guard, new)) is None
    clocks.passed = 10.0
    assert code(ask(guard, new)) == "unauthenticated"


@pytest.mark.parametrize("known", [True, False])
def test_digests_are_compared_in_constant_time_whether_the_id_is_known_or_not(
    clocks: Clocks, new: NewKey, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(given: Any, expected: Any) -> bool:
        compared.append((given, expected))
        return compare_digest(given, expected)

    monkeypatch.setattr("service.api.access.hmac.compare_digest", compare)
    guard = guard_of(clocks, known_key(new if known else make_key()))
    ask(guard, new)
    expected = new.secret_digest if known else bytes(32)
    assert compared == [(digest_secret(new.text[13:].encode()), expected)]


@pytest.mark.parametrize(
    ("scope", "route", "missing"),
    [
        (KeyScope.CLASSIFY, CLASSIFY, None),
        (KeyScope.CLASSIFY, REGISTER, "register"),
        (KeyScope.CLASSIFY, DELETE, "admin"),
        (KeyScope.REGISTER, CLASSIFY, None),
        (KeyScope.REGISTER, REGISTER, None),
        (KeyScope.REGISTER, DELETE, "admin"),
        (KeyScope.ADMIN, CLASSIFY, None),
        (KeyScope.ADMIN, REGISTER, None),
        (KeyScope.ADMIN, DELETE, None),
    ],
)
def test_a_key_without_the_scope_is_refused_and_told_which_one(
    clocks: Clocks, new: NewKey, scope: KeyScope, route: tuple[str, str], missing: str | None
) -> None:
    verdict = ask(guard_of(clocks, known_key(new, scope, name="bot")), new, route)
    assert verdict.caller == "bot"
    if missing is None:
        assert verdict.refusal is None
        return
    assert code(verdict) == "forbidden"
    assert verdict.refusal is not None
    assert missing in verdict.refusal.detail
    challenge = f'Bearer realm="vocation", error="insufficient_scope", scope="{missing}"'
    assert verdict.headers == ((b"www-authenticate", challenge.encode()),)


@pytest.mark.parametrize(
    "route",
    [
        ("GET", "/{unknown}"),
        ("POST", "/{unknown}"),
        ("PATCH", "/v1/occupations/{id}"),
        ("POST", "/livez"),
        ("POST", "/docs"),
        ("OPTIONS", "/v1/classify"),
        ("BREW", "/"),
    ],
)
def test_what_no_line_of_the_table_names_wants_any_valid_key(
    clocks: Clocks, new: NewKey, route: tuple[str, str]
) -> None:
    guard = guard_of(clocks, known_key(new, KeyScope.CLASSIFY))
    assert code(ask(guard, route=route)) == "unauthenticated"
    assert code(ask(guard, new, route)) is None


def test_a_head_request_is_judged_as_its_get(clocks: Clocks, new: NewKey) -> None:
    guard = guard_of(clocks, known_key(new, KeyScope.CLASSIFY))
    assert code(ask(guard, route=("HEAD", "/livez"))) is None
    assert code(ask(guard, new, ("HEAD", "/v1/occupations"))) is None
    assert code(ask(guard, new, ("HEAD", "/v1/occupations/{id}/examples"))) == "forbidden"


def test_metrics_are_open_unless_told_otherwise(clocks: Clocks, new: NewKey) -> None:
    guard = guard_of(clocks, known_key(new))
    assert code(ask(guard, route=access.METRICS)) is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_closed_metrics_want_an_admin_and_stay_closed_where_there_are_no_keys(
    clocks: Clocks, method: str
) -> None:
    register, admin = make_key(), make_key()
    keys = [
        known_key(register, KeyScope.REGISTER, name="a"),
        known_key(admin, KeyScope.ADMIN, name="b"),
    ]
    route = (method, "/metrics")
    guard = guard_of(clocks, *keys, metrics_open=False)
    assert code(ask(guard, route=route)) == "unauthenticated"
    assert code(ask(guard, register, route)) == "forbidden"
    assert code(ask(guard, admin, route)) is None
    without_keys = guard_of(clocks, metrics_open=False)
    assert code(ask(without_keys, route=route)) == "unauthenticated"
    assert code(ask(without_keys)) is None


def test_a_guard_that_has_known_a_key_never_opens_again(clocks: Clocks, new: NewKey) -> None:
    guard = guard_of(clocks, known_key(new))
    guard.load([known_key(new, revoked_at=NOW)])
    assert code(ask(guard)) == "unauthenticated"
    guard.load([])
    assert code(ask(guard)) == "unauthenticated"
    assert code(ask(guard, new)) == "unauthenticated"


def test_new_keys_and_revocations_act_from_the_next_request_on(clocks: Clocks, new: NewKey) -> None:
    guard = guard_of(clocks)
    guard.load([known_key(new)])
    assert code(ask(guard)) == "unauthenticated"
    assert code(ask(guard, new)) is None
    guard.load([known_key(new, revoked_at=NOW)])
    assert code(ask(guard, new)) == "unauthenticated"


def test_the_limit_of_a_key_is_told_with_every_reply_and_then_refuses(
    clocks: Clocks, new: NewKey
) -> None:
    guard = guard_of(clocks, known_key(new, name="bot", requests_per_minute=2))
    assert ask(guard, new).headers == (
        (b"ratelimit-limit", b"2"),
        (b"ratelimit-remaining", b"1"),
        (b"ratelimit-reset", b"30"),
    )
    ask(guard, new)
    refused = ask(guard, new)
    assert (refused.caller, code(refused)) == ("bot", "rate_limited")
    assert dict(refused.headers) == {
        b"ratelimit-limit": b"2",
        b"ratelimit-remaining": b"0",
        b"ratelimit-reset": b"60",
        b"retry-after": b"30",
    }
    clocks.passed += 30.0
    assert code(ask(guard, new)) is None


def test_a_key_without_a_limit_is_told_of_none(clocks: Clocks, new: NewKey) -> None:
    guard = guard_of(clocks, known_key(new))
    assert all(ask(guard, new).headers == () for _ in range(1000))


def test_one_keys_limit_is_not_anothers(clocks: Clocks) -> None:
    one, other = make_key(), make_key()
    keys = [
        known_key(one, name="one", requests_per_minute=1),
        known_key(other, name="other", requests_per_minute=1),
    ]
    guard = guard_of(clocks, *keys)
    assert [code(ask(guard, key)) for key in (one, one, other, other)] == [
        None,
        "rate_limited",
        None,
        "rate_limited",
    ]


def test_what_a_key_has_used_stays_used_when_another_key_is_created(
    clocks: Clocks, new: NewKey
) -> None:
    key = known_key(new, requests_per_minute=1)
    guard = guard_of(clocks, key)
    ask(guard, new)
    guard.load([key, known_key(make_key(), name="another")])
    assert code(ask(guard, new)) == "rate_limited"


def test_several_api_processes_share_a_limit(clocks: Clocks, new: NewKey) -> None:
    key = known_key(new, requests_per_minute=10)
    processes = [guard_of(clocks, key, api_processes=2) for _ in range(2)]
    taken = [code(ask(guard, new)) for guard in processes for _ in range(10)]
    assert taken.count(None) == 10


def test_a_forbidden_request_uses_the_limit_up_and_an_unauthenticated_or_open_one_does_not(
    clocks: Clocks, new: NewKey
) -> None:
    guard = guard_of(clocks, known_key(new, KeyScope.CLASSIFY, requests_per_minute=2))
    for _ in range(10):
        ask(guard, f"Bearer {_with(new.text, 20)}")
        ask(guard, new, ("GET", "/livez"))
    assert code(ask(guard, new, DELETE)) == "forbidden"
    assert code(ask(guard, new)) is None
    assert code(ask(guard, new, DELETE)) == "rate_limited"


def test_requests_are_counted_by_the_name_of_the_key_and_their_outcome(clocks: Clocks) -> None:
    new, name = make_key(), f"counted-{make_key().id}"
    guard = guard_of(clocks, known_key(new, KeyScope.CLASSIFY, name=name, requests_per_minute=3))
    for route in (CLASSIFY, CLASSIFY, DELETE, CLASSIFY):
        ask(guard, new, route)
    outcomes = {
        outcome: counted("vocation_key_requests_total", key=name, outcome=outcome)
        for outcome in ("admitted", "forbidden", "rate_limited")
    }
    assert outcomes == {"admitted": 2, "forbidden": 1, "rate_limited": 1}


def test_the_layers_below_get_every_header_but_the_key() -> None:
    headers = [(b"accept", b"*/*"), (b"authorization", b"Bearer x"), (b"x-request-id", b"7")]
    assert without_key(headers) == [(b"accept", b"*/*"), (b"x-request-id", b"7")]
