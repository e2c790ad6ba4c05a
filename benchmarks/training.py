"""Time to a decision and accuracy: ``head``, ``setfit`` as shipped, and setfit's stock recipe.

One command: ``python -m benchmarks.training [--data ../shared/data] [--tasks ...] [--shots 8 16 32 64]
[--draws 5] [--methods head setfit stock] [--rows 1000] [--json FILE]``.
Examples are drawn from one half of the training rows, ``--rows`` rows of the other half are judged
at their real share of positives, which is the declared prevalence. Every method sees the same
draws. ``setfit`` is the child process that a registration starts, judged by the int8 graphs that
it wrote; its seconds run from the start of the process to its decision. ``stock`` tunes all layers
with setfit's sampled pairs, in PyTorch, under the same head; its seconds are training alone.
Processor seconds are reported beside, since other work on a machine makes only them comparable.
"""

from __future__ import annotations

import sys

from benchmarks.training_bench.command import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
