"""The recipes by name, in the order of the tables."""

from __future__ import annotations

import numpy as np

from benchmarks.recipes.given import Recipe
from benchmarks.recipes.head import (
    discriminant_at_half,
    hard_negatives,
    hinted_head,
    labels_alone,
    served_head,
)
from benchmarks.recipes.logistic import logistic
from benchmarks.recipes.nearest import attention, nearest, neighbours
from benchmarks.recipes.prototype import prototype, similarity_alone
from benchmarks.recipes.weak_positives import (
    name_and_description,
    name_and_labels,
    name_only,
    one_hint,
    repeated,
)

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
