"""The served head's calibration and threshold, for what another family ranks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.arrays import Embeddings
from benchmarks.recipes.given import Answer, Given, Ranked
from service.training.calibration import fit_affine, sigmoid
from service.training.neighbours import unlike_positives
from service.training.population import expected_population, possible_populations
from service.training.thresholds import f1_threshold


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
