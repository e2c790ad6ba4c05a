"""Compare recipes for heads on few-shot tasks at natural prevalence, on the served embeddings.

One command: ``python -m benchmarks.heads [--data ../shared/data] [--draws 5] [--shots 4 8 16 32 64]
[--recipes ...] [--results FILE] [--final]``; the recipes are in `benchmarks.recipes`.
Tasks are made of training rows only: JobBERT titles by ISCO code, French ROME titles by domain and
code, job ads cut to experiences (title + description, description alone, the French source alone).
Each is split by a hash of the text into rows to draw examples from and rows to judge on. A task's
share of positives among the judged rows is the declared prevalence. Weak positives come from
ESCO and ROME labels that are not judged: on ROME tasks from ESCO alone. ``--results`` keeps every
figure in a file and measures only what is not there, so that a long comparison can be run in
pieces. ``--final`` adds the test rows of `experiences_ai`: for a last report, not to choose by.
"""

from __future__ import annotations

from benchmarks.heads_bench.command import main

if __name__ == "__main__":
    raise SystemExit(main(__doc__))
