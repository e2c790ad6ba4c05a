"""Compare the service's speed with the machine's ceiling, a bare server and what others would use.

One command: ``python -m benchmarks.serving [--quick] [--json FILE] [--plot FILE.svg]``
(``python benchmarks/serving.py`` is the same). It starts every contender, alternates them in rounds
(A B C A B C ...) under the same client, texts and CPUs, and prints medians over the rounds.

Contenders:

- ``ceiling``: the served ONNX graph in one process, one text per run, one thread per CPU,
  tokenisation included; no head and no HTTP. It has the CPUs for itself, without a client beside it.
- ``ceiling_packed``: the same, each thread taking 8 texts at a time, which share runs as the service's do.
- ``bare``: a Starlette application on uvicorn around the very encoder and head of the service, with
  equal answers to the byte; nothing is validated, counted or logged. The floor of any Python service.
- ``vocation``: ``vocation serve`` with default settings, but for ``VOCATION_EMBEDDING_CACHE_BYTES=0`` and
  ``VOCATION_LONGEST_WAIT_SECONDS=60``: no peer keeps embeddings, and none refuses a long queue.
- peers, each in an environment of its own from ``benchmarks/peers/NAME.txt``: ``setfit_torch``
  (SetFit's ``predict_proba`` in PyTorch, fp32, behind FastAPI), ``litserve`` and ``mlserver`` (the
  ordinary int8 graph of the same weights, which this run exports with optimum's dynamic quantisation,
  per channel: what a user would have; the head's product and no familiarity check; both gather
  requests into batches), ``infinity`` (an embedding server, ONNX engine, that same graph: counted
  without a head, its embeddings are not even decoded). A peer that cannot be installed or started, or that stops
  answering, is named as missing, with the reason.

Peers do what is fastest, which is less than the service promises: they pad texts into shared runs of a
graph with one activation scale for each run, so that a score moves with the texts beside it.
``--texts-per-run 1`` makes ``litserve`` and ``mlserver`` keep to one text per run, and so to the service's
promise. How far a score is from the service's, which the report shows, is of both: the neighbours and
the other quantisation.

Every request asks for one occupation. Load is closed-loop over keep-alive connections: a cell is a
kind of text (titles of about 11 tokens, experiences of about 95), texts per request (1, 8) and
connections (1, 16, 64). Texts are distinct; every contender gets the same ones. Contenders that are
not measured are stopped (SIGSTOP), so they take no CPU.

What ``--json`` writes at the top level. Ratios are taken in each round and cell, then the median over
the rounds; then the median over the saturating cells (16 or 64 connections; ``--quick`` has 16 alone):

- ``of_ceiling_8``: experiences/s of ``vocation`` over ``ceiling``, 8 per request, titles and experiences.
- ``of_bare_8``, ``of_bare_1``: ``vocation`` over ``bare``, 8 or 1 per request.
- ``of_best_peer``: ``vocation`` over the best real peer (not ``bare``, not ``ceiling``) of the same
  cell, which is the one with the largest median there; 1 and 8 per request.
- ``of_setfit_torch``: ``vocation`` over ``setfit_torch``, in the same cells.
- ``p99_over_p50_half_load``: latency of ``vocation`` under Poisson arrivals at half of its saturating
  rate (titles, 8 per request), counted from the moment when a request was meant to be sent.

A figure whose contenders are missing is ``null``.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Started as a file, Python looks for imports beside it; its parts are found from the project's root.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.serving_bench.command import main  # noqa: E402 - once it can be found

if __name__ == "__main__":
    main(__doc__)
