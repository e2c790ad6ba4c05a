"""The ways to choose what to label that `benchmarks.suggesting` compares.

Each gives the places of the candidates to label, the most wanted first. All see the same: the
candidates as the head scores them, what is labelled so far, the background and the prevalence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.inference.head import IN
from service.inference.suggesting import Candidates, choose
from service.training.calibration import sigmoid
from service.training.head import uncalibrated_line
from service.training.neighbours import unlike_positives

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known before a choice; embeddings are float32[n, d] of unit length.

    ``logits`` float64[n] are the candidates' by the head of the moment, ``threshold`` is a logit.
    """

    candidates: Embeddings
    logits: Floats
    threshold: float
    examples: Embeddings
    labels: NDArray[np.bool_]
    crowd: Embeddings
    name: Embeddings
    prevalence: float

    @property
    def ranked(self) -> Places:
        """Places by falling score."""
        return np.argsort(-self.logits, kind="stable")

    @property
    def standard(self) -> Floats:
        """Logits of mean 0 and deviation 1."""
        centred: Floats = (self.logits - self.logits.mean()) / self.logits.std()
        return centred


Strategy = Callable[[Situation, int], Places]


def served(situation: Situation, count: int) -> Places:
    """What the service suggests."""
    every = len(situation.logits)
    return np.array(
        choose(
            Candidates(
                situation.candidates,
                sigmoid(situation.logits),
                labels=np.full(every, IN),
                familiar=np.ones(every, dtype=np.bool_),
            ),
            count,
        )
    )


def highest(situation: Situation, count: int) -> Places:
    """The highest scores: likely positives and the hardest negatives."""
    return situation.ranked[:count]


def nearest_threshold(situation: Situation, count: int) -> Places:
    """Uncertainty sampling: the smallest margin (Lewis and Gale, 1994)."""
    return _smallest(np.abs(situation.logits - situation.threshold), count)


def half_and_half(situation: Situation, count: int) -> Places:
    """The highest scores and the smallest margins, in turn."""
    both = zip(highest(situation, count), nearest_threshold(situation, count), strict=True)
    return np.array(list(dict.fromkeys(int(place) for pair in both for place in pair))[:count])


def dense_margin(situation: Situation, count: int) -> Places:
    """Small margins where candidates are many (Settles and Craven, 2008)."""
    margin = np.abs(situation.logits - situation.threshold)
    similarity = situation.candidates @ situation.candidates.T
    density = np.sort(similarity, axis=1)[:, -21:-1].mean(axis=1)
    return _smallest(margin / margin.std() - density / density.std(), count)


def committee(situation: Situation, count: int) -> Places:
    """Where heads that each leave one positive out disagree, among the upper fifth of scores."""
    positives = np.flatnonzero(situation.labels)
    copies = np.arange(len(positives))
    kept = unlike_positives(situation.examples[positives], copies, situation.crowd)
    opinions = []
    for left_out in positives[:8]:
        others = np.arange(len(situation.labels)) != left_out
        line = uncalibrated_line(
            situation.examples[others],
            situation.labels[others],
            situation.crowd[kept],
            situation.name,
            np.ones(int(others.sum())),
            np.arange(int(others.sum())),
        )
        opinions.append(situation.candidates @ line.weights + line.bias)
    upper = situation.ranked[: max(count, len(situation.logits) // 5)]
    return upper[_smallest(-np.std(opinions, axis=0)[upper], count)]


def far_but_high(situation: Situation, count: int) -> Places:
    """Expected negatives: among the 64 highest scores, the farthest from every positive."""
    upper = situation.ranked[: 4 * count]
    positives = situation.examples[situation.labels]
    return upper[_smallest((situation.candidates[upper] @ positives.T).max(axis=1), count)]


def core_set(situation: Situation, count: int) -> Places:
    """Farthest point first over the whole pool, scores aside (Sener and Savarese, 2018)."""
    return _farthest(situation, np.arange(len(situation.logits)), count)


def spread(times: int) -> Strategy:
    """Farthest point first among the highest scores, ``times`` as many as are wanted."""
    return lambda situation, count: _farthest(situation, situation.ranked[: times * count], count)


def clusters(situation: Situation, count: int) -> Places:
    """The highest score of each cluster (k-means) of the 64 highest scores."""
    upper = situation.ranked[: 4 * count]
    rows = situation.candidates[upper].astype(np.float64)
    centres = situation.candidates[_farthest(situation, upper, count)].astype(np.float64)
    for _ in range(10):
        members = (rows @ centres.T).argmax(axis=1)
        for number in np.unique(members):
            total = rows[members == number].sum(axis=0)
            centres[number] = total / np.linalg.norm(total)
    members = (rows @ centres.T).argmax(axis=1)
    return upper[[int(np.flatnonzero(members == number)[0]) for number in np.unique(members)]]


def distinct(ceiling: float) -> Strategy:
    """The highest scores, leaving out what is more similar than that to one chosen before."""

    def choose_distinct(situation: Situation, count: int) -> Places:
        chosen: list[int] = []
        for place in situation.ranked:
            near = situation.candidates[chosen] @ situation.candidates[place]
            if near.max(initial=-1.0) < ceiling:
                chosen.append(int(place))
            if len(chosen) == count:
                break
        return np.array(chosen)

    return choose_distinct


def ladder(situation: Situation, count: int) -> Places:
    """Ranks 1 to 200, evenly in their logarithm."""
    ranks = np.geomspace(1, max(count, min(200, len(situation.logits))), count)
    wanted = dict.fromkeys([*(np.round(ranks).astype(int) - 1).tolist(), *range(count)])
    return situation.ranked[sorted(list(wanted)[:count])]


def lowered(power: float, believed: float, noise: float = 1.0) -> Strategy:
    """As the service does, with other constants: see `service.inference.suggesting`."""

    def choose_lowered(situation: Situation, count: int) -> Places:
        expected = situation.standard
        steps: list[Floats] = []
        chosen: list[int] = []
        open_places = np.ones(len(expected), dtype=np.bool_)
        for _ in range(count):
            place = int(np.argmax(np.where(open_places, expected, -np.inf)))
            chosen.append(place)
            open_places[place] = False
            cosine = situation.candidates.astype(np.float64) @ situation.candidates[place]
            shared = np.maximum(cosine, 0.0) ** power
            for step in steps:
                shared = shared - step * step[place]
            doubt = shared[place] + noise
            steps.append(shared / np.sqrt(doubt))
            expected = expected + shared / doubt * (believed - expected[place])
        return np.array(chosen)

    return choose_lowered


def summed(weight: float) -> Strategy:
    """The logit less ``weight`` times the squared cosines to all that is chosen."""

    def choose_summed(situation: Situation, count: int) -> Places:
        value = situation.standard.copy()
        chosen: list[int] = []
        for _ in range(count):
            place = int(np.argmax(value))
            chosen.append(place)
            cosine = situation.candidates @ situation.candidates[place]
            value -= weight * np.maximum(cosine, 0.0) ** 2
            value[place] = -np.inf
        return np.array(chosen)

    return choose_summed


def unfamiliar(situation: Situation, count: int) -> Places:
    """What is least like the background and the examples."""
    seen = np.concatenate([situation.crowd, situation.examples])
    return _smallest((situation.candidates @ seen.T).max(axis=1), count)


STRATEGIES: dict[str, Strategy] = {
    "served": served,
    "highest": highest,
    "margin": nearest_threshold,
    "highest + margin": half_and_half,
    "margin x density": dense_margin,
    "committee": committee,
    "high, far from positives": far_but_high,
    "core-set": core_set,
    "spread of top 32": spread(2),
    "spread of top 64": spread(4),
    "clusters of top 64": clusters,
    "distinct below .65": distinct(0.65),
    "ladder": ladder,
    "lowered, power 1": lowered(1.0, -1.0),
    "lowered, power 4": lowered(4.0, -1.0),
    "lowered, power 8": lowered(8.0, -1.0),
    "lowered, power 2, to -2": lowered(2.0, -2.0),
    "summed": summed(1.0),
    "unfamiliar": unfamiliar,
}


def _smallest(values: Floats | Embeddings, count: int) -> Places:
    return np.argsort(values, kind="stable")[:count]


def _farthest(situation: Situation, among: Places, count: int) -> Places:
    rows = situation.candidates[among]
    near = (rows @ situation.examples.T).max(axis=1)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        place = int(np.argmin(near))
        chosen.append(place)
        near = np.maximum(near, rows @ rows[place])
        near[chosen] = np.inf
    return among[chosen]
