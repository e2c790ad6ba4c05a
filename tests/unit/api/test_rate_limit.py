from __future__ import annotations

import pytest

from service.api.rate_limit import Quota, TokenBucket, share


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admitted(bucket: TokenBucket, tries: int) -> int:
    return sum(bucket.take().admitted for _ in range(tries))


def test_as_many_as_the_limit_are_admitted_at_once_and_no_more(clock: Clock) -> None:
    assert admitted(TokenBucket(60, clock), 100) == 60


@pytest.mark.parametrize(("seconds", "more"), [(0.9, 0), (1.0, 1), (30.0, 30), (3600.0, 60)])
def test_an_empty_bucket_refills_evenly_over_a_minute_and_not_beyond_its_limit(
    clock: Clock, seconds: float, more: int
) -> None:
    bucket = TokenBucket(60, clock)
    admitted(bucket, 60)
    clock.now += seconds
    assert admitted(bucket, 100) == more


def test_over_an_hour_of_trying_the_rate_holds(clock: Clock) -> None:
    bucket = TokenBucket(6, clock)
    taken = 0
    for _ in range(3600):
        clock.now += 1.0
        taken += admitted(bucket, 3)
    # One full bucket at the start, then six a minute; the last one may be a rounding away.
    assert taken in (365, 366)


def test_what_is_left_is_told_in_whole_requests_and_seconds(clock: Clock) -> None:
    bucket = TokenBucket(3, clock)
    assert bucket.take() == Quota(
        admitted=True, limit=3, remaining=2, reset_seconds=20, retry_after_seconds=1
    )
    admitted(bucket, 2)
    assert bucket.take() == Quota(
        admitted=False, limit=3, remaining=0, reset_seconds=60, retry_after_seconds=20
    )


def test_who_waits_as_long_as_told_is_admitted(clock: Clock) -> None:
    bucket = TokenBucket(7, clock)
    admitted(bucket, 7)
    for _ in range(20):
        refused = bucket.take()
        assert not refused.admitted
        clock.now += refused.retry_after_seconds
        assert bucket.take().admitted


def test_refused_requests_use_nothing_up(clock: Clock) -> None:
    bucket = TokenBucket(60, clock)
    admitted(bucket, 1000)
    clock.now += 1.0
    assert bucket.take().admitted


@pytest.mark.parametrize(
    ("limit", "processes", "each"), [(60, 1, 60), (60, 2, 30), (61, 2, 31), (1, 4, 1), (5, 4, 2)]
)
def test_the_limit_is_shared_out_over_the_api_processes_rounded_up(
    limit: int, processes: int, each: int
) -> None:
    assert share(limit, processes) == each
    assert limit <= each * processes < limit + processes
