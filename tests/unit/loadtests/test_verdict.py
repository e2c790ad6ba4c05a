from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.profiles import EXPERIENCES, Profiles
from loadtests.verdict import Request, Thresholds, judge, percentile

MEMORY = [(float(second), 100) for second in range(60)]


def requests(count: int = 600, seconds: float = 60.0) -> list[Request]:
    """Equal requests at equal distances."""
    return [Request(n * seconds / count, "bot: profile", 10.0, failed=False) for n in range(count)]


def broken(made: list[Request], memory: list[tuple[float, int]] = MEMORY) -> list[str]:
    """What was not kept."""
    return [check.what for check in judge(made, memory, Thresholds()) if not check.passed]


def test_a_steady_run_keeps_every_threshold() -> None:
    assert broken(requests()) == []


def test_one_failed_request_is_one_too_many() -> None:
    made = requests()
    made[3] = replace(made[3], failed=True)
    assert broken(made) == ["share of requests that failed"]


def test_a_long_tail_is_not_kept() -> None:
    made = [replace(r, milliseconds=200.0) if n % 50 == 0 else r for n, r in enumerate(requests())]
    assert broken(made) == ["bot: profile: p99 / p50"]


def test_a_slow_first_second_is_forgiven_and_a_failed_one_is_not() -> None:
    cold = [replace(r, milliseconds=900.0) if r.at_seconds < 3 else r for r in requests()]
    assert broken(cold) == []
    cold[0] = replace(cold[0], failed=True)
    assert broken(cold) == ["share of requests that failed"]


def test_a_rate_that_falls_is_not_kept() -> None:
    made = [r for n, r in enumerate(requests()) if r.at_seconds < 40 or n % 2 == 0]
    assert broken(made) == ["rate, last third / first third"]


def test_memory_that_grows_is_not_kept() -> None:
    assert broken(requests(), [(float(n), 100 + n) for n in range(60)]) == [
        "memory, end / first third"
    ]


def test_a_run_that_hardly_asked_proves_nothing() -> None:
    assert "requests" in broken(requests(10))


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (99, 4), (25, 1), (0, 1)])
def test_percentiles_are_of_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], percent) == expected


def test_profiles_are_those_of_the_bot() -> None:
    """5 to 15 experiences, a third of the titles met before, the same again for the same seed."""
    stream, again = Profiles(1), Profiles(1)
    made = [stream.profile() for _ in range(200)]
    assert made == [again.profile() for _ in range(200)]
    assert {len(profile) for profile in made} <= set(range(EXPERIENCES[0], EXPERIENCES[1] + 1))
    titles = [experience["title"] for profile in made for experience in profile]
    met = sum(title in titles[:place] for place, title in enumerate(titles))
    assert 0.2 < met / len(titles) < 0.4


def test_registrations_are_of_new_occupations() -> None:
    bodies = Profiles(1).occupations()
    made = [next(bodies) for _ in range(20)]
    assert len({body["id"] for body in made}) == 20
    assert all(len(body["examples"]) == 8 for body in made)
