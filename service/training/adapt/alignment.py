"""Learn a word-to-word translation table from parallel labels, with no model and no network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

Table = dict[str, dict[str, float]]
Pair = tuple[Sequence[str], Sequence[str]]


def translation_table(pairs: Sequence[Pair], *, rounds: int = 6) -> Table:
    """Estimate p(target | source) for words of aligned labels: ``pairs`` of (source, target) words.

    IBM Model 1 (Brown et al., "The Mathematics of Statistical Machine Translation", Computational
    Linguistics 19(2), 1993) run in both directions and multiplied: a pair of words is kept only
    when each explains the other, which removes most function-word noise. Rows are normalised to
    sum 1.
    """
    forward = _model_1(pairs, rounds)
    backward = _model_1([(target, source) for source, target in pairs], rounds)
    table: Table = {}
    for source, row in forward.items():
        product = {
            target: weight * backward.get(target, {}).get(source, 0.0)
            for target, weight in row.items()
        }
        total = sum(product.values())
        if total > 0:
            table[source] = {target: weight / total for target, weight in product.items()}
    return table


def strongest(row: dict[str, float], *, keep: int = 3, least: float = 0.15) -> dict[str, float]:
    """Keep the best few translations of one word, renormalised; the rest of a row is noise."""
    best = sorted(row.items(), key=lambda item: (-item[1], item[0]))[:keep]
    kept = {word: weight for word, weight in best if weight >= least}
    total = sum(kept.values())
    return {word: weight / total for word, weight in kept.items()}


def _model_1(pairs: Sequence[Pair], rounds: int) -> Table:
    table: Table = defaultdict(dict)
    for source, target in pairs:
        for word in source:
            for other in target:
                table[word][other] = 1.0
    for _ in range(rounds):
        counts: dict[str, dict[str, float]] = {word: defaultdict(float) for word in table}
        for source, target in pairs:
            for other in target:
                total = sum(table[word][other] for word in source)
                for word in source:
                    counts[word][other] += table[word][other] / total
        for word, row in counts.items():
            mass = sum(row.values())
            table[word] = {other: count / mass for other, count in row.items()}
    return dict(table)
