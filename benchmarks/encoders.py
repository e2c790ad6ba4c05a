"""Compare frozen encoders as few-shot features: titles and experiences, French, English, across.

One command: ``python -m benchmarks.encoders NAME=DIRECTORY ... [--data ../shared/data]``; with
``--ablation WORK`` it first adapts one encoder a recipe with the judged concepts held out.
Protocol: ``n`` positives and ``n`` negatives are drawn from a task's training rows, a logistic
head is fitted on the frozen embeddings, average precision is taken on the task's other rows at
their real share of positives. Draws are seeded by task and number, so every encoder sees the same
rows.
"""

from __future__ import annotations

from benchmarks.encoders_bench.command import main

if __name__ == "__main__":
    main(__doc__)
