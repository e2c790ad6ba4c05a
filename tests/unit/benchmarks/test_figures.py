from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest

from benchmarks.serving_bench.arrivals import arrival_times, overload_times, read_overload
from benchmarks.serving_bench.figures import (
    Cell,
    Measurement,
    best_of,
    cell_ratio,
    percentile,
    ratio,
    ratio_to_best,
    summary,
)
from benchmarks.serving_bench.loads import Answer

TITLES_1 = Cell("titles", 1, 16)
TITLES_8 = Cell("titles", 8, 16)
TITLES_8_ALONE = Cell("titles", 8, 1)
EXPERIENCES_8 = Cell("experiences", 8, 64)


def measured(*rates: float) -> Sequence[Measurement]:
    return [
        Measurement(
            requests_per_second=rate / 8,
            experiences_per_second=rate,
            latency_p50=0.01,
            latency_p99=0.02,
            cpu_seconds_per_1000=1.0,
            server_cpu_share=0.9,
            client_cpu_share=0.01,
            other_cpu_share=0.0,
            memory_pss=1,
            memory_peak_rss=1,
            errors={},
            repeated=False,
        )
        for rate in rates
    ]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_a_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))


def test_a_ratio_is_taken_in_each_round_before_the_median() -> None:
    # The medians alone (20 over 20) would hide that two rounds of three are lost.
    results = {"a": {TITLES_8: measured(10, 20, 40)}, "b": {TITLES_8: measured(20, 40, 10)}}
    assert cell_ratio(results, "a", "b", TITLES_8) == 0.5


def test_a_round_without_a_rate_to_compare_with_is_left_out() -> None:
    results = {"a": {TITLES_8: measured(10, 30)}, "b": {TITLES_8: measured(0, 10)}}
    assert cell_ratio(results, "a", "b", TITLES_8) == 3.0


def test_only_cells_that_saturate_count() -> None:
    results = {
        "a": {TITLES_8: measured(10), TITLES_8_ALONE: measured(1), EXPERIENCES_8: measured(30)},
        "b": {TITLES_8: measured(10), TITLES_8_ALONE: measured(9), EXPERIENCES_8: measured(10)},
    }
    assert ratio(results, "a", "b", (8,)) == 2.0


def test_the_best_peer_is_chosen_in_each_cell() -> None:
    results = {
        "a": {TITLES_8: measured(10), EXPERIENCES_8: measured(10)},
        "b": {TITLES_8: measured(20), EXPERIENCES_8: measured(1)},
        "c": {TITLES_8: measured(1), EXPERIENCES_8: measured(5)},
    }
    assert best_of(results, ("b", "c"), TITLES_8) == "b"
    assert best_of(results, ("b", "c"), EXPERIENCES_8) == "c"
    assert ratio_to_best(results, "a", ("b", "c"), (8,)) == 1.25


def test_the_summary_has_every_figure_of_its_definition() -> None:
    rates = {
        "vocation": (100, 400),
        "ceiling": (500, 500),
        "bare": (200, 800),
        "setfit_torch": (50, 100),
        "litserve": (100, 200),
    }
    results = {
        name: {TITLES_1: measured(one), TITLES_8: measured(eight)}
        for name, (one, eight) in rates.items()
    }
    assert summary(results, ("setfit_torch", "litserve"), {"p50": 0.01, "p99": 0.025}) == {
        "of_ceiling_8": 0.8,
        "of_bare_8": 0.5,
        "of_bare_1": 0.5,
        "of_best_peer": 1.5,
        "of_setfit_torch": 3.0,
        "p99_over_p50_half_load": 2.5,
    }


def test_a_figure_without_its_contenders_is_null() -> None:
    results = {"vocation": {TITLES_8: measured(100)}}
    figures = summary(results, (), None)
    assert len(figures) == 6
    assert json.dumps(list(figures.values())) == json.dumps([None] * 6)


def test_paced_arrivals_have_equal_gaps() -> None:
    assert arrival_times("paced", 4.0, 1.0, seed=1) == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_keep_their_rate_and_their_seed() -> None:
    times = arrival_times("poisson", 100.0, 100.0, seed=3)
    assert times == sorted(times) == arrival_times("poisson", 100.0, 100.0, seed=3)
    assert len(times) == pytest.approx(10_000, rel=0.05)
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    # An exponential's standard deviation is its mean.
    assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(
        mean, rel=0.05
    )


def test_a_server_that_stays_slow_has_not_recovered() -> None:
    calm = [Answer(n / 10, 0.0, 0.1, 200, retry_after=False) for n in range(10)]
    slow = [Answer(4 + n / 10, 0.0, 0.5, 200, retry_after=False) for n in range(40)]
    found = read_overload([*calm, *slow], begin=1.0, end=4.0, peak_per_second=10.0)
    assert found["recovery_seconds"] is None


def test_an_overload_is_three_phases_of_a_quarter_three_times_and_a_quarter() -> None:
    times = overload_times(100.0, 10.0, seed=1)
    assert times == sorted(times)
    storm = [time for time in times if 5.0 <= time < 15.0]
    assert len(storm) == pytest.approx(3000, rel=0.1)
    assert len([time for time in times if time < 5.0]) == pytest.approx(125, rel=0.3)
    assert max(times) < 25.0


def test_an_overload_is_read_by_what_was_answered_within_it() -> None:
    def answer(meant: float, latency: float, status: int) -> Answer:
        return Answer(meant, 0.0, latency, status, retry_after=status == 429)

    calm = [answer(n / 10, 0.1, 200) for n in range(10)]
    # Ten a second for three seconds from 1.0: one in two is refused at once.
    storm = [answer(1 + n / 10, 0.01, 429 if n % 2 else 200) for n in range(30)]
    # Good again from 4.4 on (the bound is twice the p99 of the calm, 0.2 s), but for one much later.
    after = [answer(4 + n / 10, 0.5 if n < 4 or n == 30 else 0.1, 200) for n in range(40)]
    found = read_overload([*calm, *storm, *after], begin=1.0, end=4.0, peak_per_second=10.0)
    assert found["offered_requests_per_second"] == pytest.approx(10.0)
    assert found["goodput_of_peak"] == pytest.approx(0.5)
    assert found["refusals"] == found["refusals_with_retry_after"] == 15
    assert found["refusal_p99"] == pytest.approx(0.01)
    assert found["recovery_seconds"] == pytest.approx(0.4)
    assert found["statuses"] == {"200": 15, "429": 15}
