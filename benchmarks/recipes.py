"""The recipes that `benchmarks.heads` compares: few-shot families on a frozen encoder.

Families that only rank (a prototype, nearest neighbours, the occupation's name) are calibrated and
given a threshold as the served head is, from held-out scores, so that their F1 can be compared
with it. Without any example there is nothing to calibrate on: there the threshold is the score
that the declared share of the background exceeds, and no probability is claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from service.training.calibration import fit_affine, sigmoid
from service.training.discriminant import class_weights, fit_discriminant
from service.training.head import fit_head
from service.training.neighbours import unlike_positives
from service.training.population import expected_population, possible_populations
from service.training.thresholds import f1_threshold

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]
Labels = NDArray[np.bool_]

# Background rows or labels that count as hard negatives, and how much more a row of them weighs.
HARD_ROWS, HARD_WEIGHT = 200, 3.0
# What mined labels weigh together, the background being 1.
MINED_ROWS, MINED_WEIGHT = 500, 0.3


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores of the judged rows and where `in` begins; the band is empty where there is none.

    ``probability`` is false for scores that rank and promise nothing else.
    """

    scores: Floats
    threshold: float
    low: float = 1.0
    high: float = 0.0
    probability: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What a recipe is given; embeddings are float32[n, d] of unit length.

    ``description`` is empty where the occupation has none. ``near`` are the reference labels
    (ESCO, ROME) nearest to the name, nearest first, and ``reference`` all of them.
    """

    rows: Embeddings
    labels: Labels
    crowd: Embeddings
    prevalence: float
    name: Embeddings
    judged: Embeddings
    description: Embeddings
    near: Embeddings
    reference: Embeddings


@dataclass(frozen=True, slots=True)
class Ranked:
    """One family's scores float64: examples and background held out, then the judged rows."""

    examples: Floats
    crowd: Floats
    judged: Floats


Recipe = Callable[[Given], Answer]
Pick = Callable[[Given], Embeddings]
# From similarities float32[n, k] (-inf: not to be looked at) to scores float64[n].
Reduce = Callable[[Embeddings], Floats]


def copies_of(rows: Embeddings) -> NDArray[np.intp]:
    """Equal numbers for equal rows."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


@lru_cache(maxsize=1)
def kept_background(given: Given) -> Embeddings:
    """The background without its likely positives, as the served head sees it."""
    copies = copies_of(given.rows)[given.labels]
    return given.crowd[unlike_positives(given.rows[given.labels], copies, given.crowd)]


def calibrated(given: Given, ranked: Ranked) -> Answer:
    """The served head's calibration and threshold, on another family's scores."""
    copies = copies_of(given.rows)
    shares = 1.0 / np.bincount(copies)[copies]
    evidence = (ranked.examples, given.labels, shares, ranked.crowd, given.prevalence)
    population = expected_population(*evidence)
    positives = float(shares[given.labels].sum())
    softened = population.outcomes * (positives + 1.0) / (positives + 2.0)
    weights = population.weights * positives / given.prevalence
    fitted = fit_affine(population.scores, softened, weights)
    best = fitted.logits(np.array([f1_threshold(possible_populations(*evidence))]))
    threshold = float(np.clip(sigmoid(best)[0], 1e-4, 1.0 - 1e-4))
    return Answer(sigmoid(fitted.logits(ranked.judged)), threshold)


def served_head(pick: Pick | None = None) -> Recipe:
    """What registration fits and the service answers; it is given the name as its only hint."""

    def recipe(given: Given) -> Answer:
        fit = fit_head(
            given.rows,
            given.labels,
            given.crowd,
            prevalence=given.prevalence,
            seed=0,
            hints=pick(given) if pick else None,
        )
        scores = sigmoid((given.judged @ fit.weights).astype(np.float64) + fit.bias)
        return Answer(scores, fit.threshold, fit.uncertain_low, fit.uncertain_high)

    return recipe


def name_only(given: Given) -> Embeddings:
    """The occupation's name, one row."""
    return given.name


def name_and_description(given: Given) -> Embeddings:
    """The name, and the description where there is one."""
    return np.concatenate([given.name, given.description])


def name_and_labels(count: int) -> Pick:
    """The name, the description and the ``count`` nearest reference labels, each a row."""
    return lambda given: np.concatenate([name_and_description(given), given.near[:count]])


def repeated(pick: Pick, times: int) -> Pick:
    """The same weak positives several times: each weighs as many examples."""
    return lambda given: np.repeat(pick(given), times, axis=0)


def one_hint(pick: Pick) -> Pick:
    """The mean of several weak positives as a single one: they weigh one example together."""

    def picked(given: Given) -> Embeddings:
        mean = pick(given).mean(axis=0, keepdims=True)
        unit: Embeddings = mean / np.linalg.norm(mean)
        return unit

    return picked


def labels_alone(count: int) -> Recipe:
    """No example at all: name, description and labels stand for positives, calibration and all."""

    def recipe(given: Given) -> Answer:
        weak = name_and_labels(count)(given)
        return served_head()(replace(given, rows=weak, labels=np.ones(len(weak), dtype=np.bool_)))

    return recipe


def similarity_alone(pick: Pick) -> Recipe:
    """Bi-encoder zero-shot: cosine similarity to what describes the occupation."""

    def recipe(given: Given) -> Answer:
        query = one_hint(pick)(given)[0]
        threshold = float(np.quantile(given.crowd @ query, 1.0 - given.prevalence))
        scores = (given.judged @ query).astype(np.float64)
        return Answer(scores, threshold, probability=False)

    return recipe


def prototype(pick: Pick | None = None, *, centred: bool = False) -> Recipe:
    """Cosine to the mean of the positives, each held out of its own mean.

    Source: Snell, Swersky and Zemel, "Prototypical networks for few-shot learning" (2017), here
    with cosine on a frozen encoder. ``centred`` first subtracts the background's mean, as Wang et
    al., "SimpleShot" (2019), subtract that of the base classes, and takes the mean of the `out`
    examples off the mean of the positives.
    """

    def recipe(given: Given) -> Answer:
        centre = given.crowd.mean(axis=0) if centred else np.zeros(given.crowd.shape[1])

        def unit(rows: Embeddings) -> Floats:
            moved = rows.astype(np.float64) - centre
            return np.asarray(moved / np.linalg.norm(moved, axis=-1, keepdims=True))

        rows, copies = unit(given.rows), copies_of(given.rows)
        weak = unit(pick(given)) if pick else rows[:0]

        def mean(kept: Labels) -> Floats:
            inside = np.concatenate([rows[kept & given.labels], weak]).mean(axis=0)
            outside = rows[kept & ~given.labels]
            if centred and len(outside):
                inside = inside - outside.mean(axis=0)
            return np.asarray(inside / np.linalg.norm(inside))

        held_out = np.array([rows[row] @ mean(copies != copies[row]) for row in range(len(rows))])
        query = mean(np.ones(len(rows), dtype=np.bool_))
        return calibrated(
            given,
            Ranked(held_out, unit(kept_background(given)) @ query, unit(given.judged) @ query),
        )

    return recipe


@lru_cache(maxsize=1)  # every neighbour rule asks for the same of one draw
def similarities(given: Given) -> tuple[Embeddings, Embeddings, Embeddings, Embeddings]:
    """Cosines of the known rows (examples, kept background) and the judged rows.

    Known to positives and to all others, judged to positives and to all others; float32, and -inf
    between a known row and itself or its copies.
    """
    kept, copies = kept_background(given), copies_of(given.rows)
    own = np.concatenate([copies, copies.max() + 1 + np.arange(len(kept))])
    known = np.concatenate([given.rows, kept])
    inside = np.concatenate([given.labels, np.zeros(len(kept), dtype=np.bool_)])

    def among(sides: Labels) -> Embeddings:
        products: Embeddings = known @ known[sides].T
        products[own[:, None] == own[sides][None, :]] = -np.inf
        return products

    judged = [given.judged @ known[sides].T for sides in (inside, ~inside)]
    return among(inside), among(~inside), judged[0], judged[1]


def neighbours(inside: Reduce, outside: Reduce | None = None) -> Recipe:
    """Similarity to the nearest positives, less that to the nearest of `out` and background."""

    def recipe(given: Given) -> Answer:
        known_in, known_out, judged_in, judged_out = similarities(given)
        known, judged = inside(known_in), inside(judged_in)
        if outside is not None:
            known, judged = known - outside(known_out), judged - outside(judged_out)
        size = len(given.rows)
        return calibrated(given, Ranked(known[:size], known[size:], judged))

    return recipe


def nearest(count: int) -> Reduce:
    """Mean similarity to the ``count`` nearest, or to as many as are left beside the row itself."""

    def reduce(near: Embeddings) -> Floats:
        if count == 1:
            return np.asarray(near.max(axis=1), dtype=np.float64)
        taken = min(count, near.shape[1] - 1)
        ordered = np.partition(near, near.shape[1] - taken, axis=1)
        return np.asarray(ordered[:, -taken:].mean(axis=1), dtype=np.float64)

    return reduce


def attention(temperature: float) -> Reduce:
    """Logarithm of the summed attention to all of them.

    Source: Vinyals et al., "Matching networks for one shot learning" (2016), eq. 1.
    """

    def reduce(near: Embeddings) -> Floats:
        # Cosines are at most 1, so that nothing overflows.
        attended = np.exp((near - 1.0) / np.float32(temperature)).sum(axis=1, dtype=np.float64)
        logs: Floats = np.log(np.maximum(attended, 1e-300))
        return logs

    return reduce


def evenly(rows: Embeddings) -> Floats:
    """Equal weights float64 that sum to 1."""
    return np.full(len(rows), 1.0 / len(rows))


def hinted_head(pick: Pick) -> Recipe:
    """The head with other weak positives as hints; with the name alone it is the served one."""

    def recipe(given: Given) -> Answer:
        kept = kept_background(given)
        ranked = weighted_head(given, pick(given), kept, evenly(kept), kept[:0])
        return calibrated(given, ranked)

    return recipe


def hard_negatives(mode: str) -> Recipe:
    """The head with the name as hint, harder negatives weighing more.

    ``nearest``: the kept background rows nearest to a positive; ``boundary``: those of highest
    held-out score in a first fit; ``mined``: reference labels nearest to a positive, those
    that would be set aside left out, beside the background.
    """

    def recipe(given: Given) -> Answer:
        kept, copies = kept_background(given), copies_of(given.rows)
        positives = given.rows[given.labels]
        weights, mined = evenly(kept), kept[:0]
        if mode == "mined":
            fit_for = unlike_positives(positives, copies[given.labels], given.reference)
            labels = given.reference[fit_for]
            order = np.argsort(-(labels @ positives.T).max(axis=1), kind="stable")
            mined = labels[order[:MINED_ROWS]]
        else:
            near = (kept @ positives.T).max(axis=1).astype(np.float64)
            if mode == "boundary":
                near = weighted_head(given, given.name, kept, weights, mined).crowd
            weights[np.argsort(-near, kind="stable")[:HARD_ROWS]] *= HARD_WEIGHT
            weights /= weights.sum()
        return calibrated(given, weighted_head(given, given.name, kept, weights, mined))

    return recipe


def weighted_head(
    given: Given, hints: Embeddings, kept: Embeddings, weights: Floats, mined: Embeddings
) -> Ranked:
    """The head's direction, with hints, weights float64 of background rows, and mined labels."""
    copies, size = copies_of(given.rows), len(given.rows)
    shares = 1.0 / np.bincount(copies)[copies]
    weak = np.ones(len(hints))
    each = class_weights(np.append(given.labels, weak > 0), np.append(shares, weak))
    rows = np.concatenate([given.rows, kept, hints, mined]).astype(np.float64)
    extra = np.full(len(mined), MINED_WEIGHT / max(len(mined), 1))
    targets = [np.where(given.labels, 1.0, -1.0), np.full(len(kept), -1.0), weak, -np.sign(extra)]
    line = fit_discriminant(
        rows,
        np.concatenate(targets),
        np.concatenate([each[:size], weights, each[size:], extra]),
        np.concatenate([copies, copies.max() + 1 + np.arange(len(rows) - size)]),
    )
    held_out = line.held_out
    judged = (given.judged @ line.weights.astype(np.float32)).astype(np.float64) + line.bias
    return Ranked(held_out[:size], held_out[size : size + len(kept)], judged)


def discriminant_at_half(given: Given) -> Answer:
    """The served head's direction, uncalibrated: the margin through a sigmoid, threshold 0.5."""
    kept = kept_background(given)
    each = class_weights(given.labels, np.ones(len(given.rows)))
    rows = np.concatenate([given.rows, kept]).astype(np.float64)
    line = fit_discriminant(
        rows,
        np.concatenate([np.where(given.labels, 1.0, -1.0), np.full(len(kept), -1.0)]),
        np.concatenate([each, np.full(len(kept), 1 / len(kept))]),
        np.arange(len(rows)),
    )
    margins = given.judged.astype(np.float64) @ line.weights + line.bias
    return Answer(sigmoid(2.0 * margins), 0.5)


def logistic(background_weight: str) -> Recipe:
    """Logistic regression, the background weighing nothing, as the positives, or as the rest."""

    def recipe(given: Given) -> Answer:
        size = float(given.labels.sum())
        prior = size * (1 - given.prevalence) / given.prevalence
        total = {"none": 0.0, "balanced": size, "prior": prior}[background_weight]
        keep = given.crowd if total else given.crowd[:0]
        solver = "newton-cholesky" if total else "lbfgs"  # the faster one for each shape
        model = LogisticRegression(C=10.0, max_iter=300, solver=solver)
        model.fit(
            np.concatenate([given.rows, keep]),
            np.concatenate([given.labels, np.zeros(len(keep), dtype=np.bool_)]),
            sample_weight=np.concatenate(
                [np.ones(len(given.rows)), np.full(len(keep), total / len(given.crowd))]
            ),
        )
        return Answer(model.predict_proba(given.judged)[:, 1].astype(np.float64), 0.5)

    return recipe


WEAK_ONLY = "name + description + 20 labels, head"
# Those that use no example, and so are measured once.
ZERO_SHOT = ("name, cosine", "name + description, cosine", "name + 10 labels, cosine", WEAK_ONLY)
NEEDS_OUTS = "logistic, examples alone"

RECIPES: dict[str, Recipe] = {
    "served head": served_head(),
    "served head + name": served_head(name_only),
    "name, cosine": similarity_alone(name_only),
    "name + description, cosine": similarity_alone(name_and_description),
    "name + 10 labels, cosine": similarity_alone(
        lambda given: np.concatenate([given.name, given.near[:10]])
    ),
    WEAK_ONLY: labels_alone(20),
    "prototype": prototype(),
    "prototype + name": prototype(name_only),
    "prototype, centred": prototype(centred=True),
    "prototype, centred + name": prototype(name_only, centred=True),
    "nearest positive": neighbours(nearest(1)),
    "5 nearest positives": neighbours(nearest(5)),
    "1-NN, in less out": neighbours(nearest(1), nearest(1)),
    "5-NN, in less out": neighbours(nearest(5), nearest(5)),
    "matching (attention 0.05)": neighbours(attention(0.05), attention(0.05)),
    "logistic + background, prior": logistic("prior"),
    "logistic + background, balanced": logistic("balanced"),
    NEEDS_OUTS: logistic("none"),
    "discriminant at 0.5": discriminant_at_half,
    "+ name three times": hinted_head(repeated(name_only, 3)),
    "+ name six times": hinted_head(repeated(name_only, 6)),
    "+ name twelve times": hinted_head(repeated(name_only, 12)),
    "+ name, description three times": hinted_head(repeated(name_and_description, 3)),
    "+ name, 5 labels": hinted_head(lambda given: np.concatenate([given.name, given.near[:5]])),
    "+ name, description": hinted_head(name_and_description),
    "+ name, description as one": hinted_head(one_hint(name_and_description)),
    "+ name, description, 5 labels": hinted_head(name_and_labels(5)),
    "+ name, description, 20 labels": hinted_head(name_and_labels(20)),
    "+ name, nearest background x3": hard_negatives("nearest"),
    "+ name, boundary background x3": hard_negatives("boundary"),
    "+ name, 500 mined labels": hard_negatives("mined"),
}
