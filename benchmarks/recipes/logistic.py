"""Logistic regression on the examples and the background."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.recipes.given import Answer, Given, Recipe


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
