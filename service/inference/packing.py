"""Which texts share an ONNX run, where a graph keeps them apart in one, and what the run reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.inference.tokenizer import Tokens

logger = logging.getLogger(__name__)

# Tokens of a run's grid, padding included. With 128, 192, 256, 320, 512 and 800, processor ms a text,
# medians of 8 turns on one thread: batches of 8 experiences (93 tokens) 10.4, 10.1, 9.8, 9.7, 10.4
# and 12.6; of 8 titles (10 tokens) 1.35, 1.27, 1.24, 1.24, 1.24 and 1.23.
MOST_TOKENS_A_RUN = 256
# A text that would be padded by more than itself and this many tokens goes into another run. Seven
# titles and an experience within 192 tokens of grid: 1.6 to 1.9 times as fast with this, 1.3 to 1.5 without.
_PADDING_TOKENS = 16

# Texts that share a run: of unequal lengths, so that some are padded. ONNX Runtime may take other
# kernels for longer rows, so both ends of what is served are tried: titles (5, 7 and 10 tokens of
# the shipped tokeniser), and experiences that fill a run (84, 65 and 57 tokens). That takes 50 ms of
# the 130 ms in which the shipped encoder is loaded; titles alone take 8 ms.
_PROBES = (
    ("Stagiaire", "Cheffe de cuisine, Lyon", "Senior data engineer: payments, on call"),
    (
        "Data engineer, regional transport authority. Built the pipelines that collect ticket "
        "validations from buses and trams, wrote the jobs that clean them, and kept the warehouse "
        "that planners query every morning. Led a team of four, moved nightly batches to "
        "streaming, cut the cost of storage by a third, wrote tests, and trained two "
        "apprentices who now look after the reports on punctuality and passenger counts.",
        "Pastry cook, hotel with ninety rooms. Prepared breakfast pastries and desserts for two "
        "restaurants, planned orders with the suppliers, and kept the records of temperatures and "
        "allergens. Replaced the head of the kitchen during holidays, and taught three trainees "
        "to temper chocolate and to plate for banquets of two hundred guests.",
        "Infirmière coordinatrice, service de soins à domicile. Planification des tournées de douze "
        "soignants, évaluation des besoins à la sortie de l'hôpital, suivi des dossiers avec les "
        "médecins et les familles. Formation des nouveaux arrivants aux gestes et à l'hygiène.",
    ),
)


def shared_runs(lengths: Sequence[int], threads: int, *, together: bool) -> list[list[int]]:
    """Which texts share a run, by their numbers: packs, or each text alone, the longest first."""
    if together:
        return packs(lengths, threads)
    return [[number] for number in sorted(range(len(lengths)), key=lambda n: -lengths[n])]


def keeps_apart(
    tokenise: Callable[[str], Tokens], run: Callable[[Sequence[Tokens]], NDArray[np.float32]]
) -> bool:
    """Whether texts that share a run have the bits that each has alone; said in the log where not.

    ``run`` gives the embeddings float32[n, d] of the texts of one run. What keeps texts apart are
    kernels of ONNX Runtime, which it chooses by the processor: they are tried, not trusted.
    """
    if all(_kept_apart([tokenise(probe) for probe in probes], run) for probes in _PROBES):
        return True
    logger.warning(
        "ONNX Runtime %s does not keep texts apart on this processor: each has a run of its own",
        ort.__version__,
    )
    return False


def _kept_apart(
    texts: Sequence[Tokens], run: Callable[[Sequence[Tokens]], NDArray[np.float32]]
) -> bool:
    alone = np.concatenate([run([text]) for text in texts])
    return run(texts).tobytes() == alone.tobytes()


def packs(
    lengths: Sequence[int], threads: int, most_tokens: int = MOST_TOKENS_A_RUN
) -> list[list[int]]:
    """Which texts share a run, by their numbers; the pack with the longest text comes first.

    ``lengths`` are the texts' tokens. Neighbours by length share a run as long as its rows times
    its longest text stay within ``most_tokens``; a longer text has a run of its own. Where
    ``threads`` of one caller run side by side, a pack ends near one thread's part of all tokens.
    """
    part = sum(lengths) / threads
    made: list[list[int]] = []
    longest = tokens = 0
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = lengths[number]
        if (
            not made
            or longest * (len(made[-1]) + 1) > most_tokens
            or longest > 2 * length + _PADDING_TOKENS
            or tokens + length / 2 > part
        ):
            made.append([])
            longest, tokens = length, 0
        made[-1].append(number)
        tokens += length
    return made


def padded(
    rows: Sequence[NDArray[np.int64]], pad_token_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids int64[n] of one run's texts as ids and mask, both int64[rows, longest]."""
    lengths = [len(row) for row in rows]
    ids = np.full((len(rows), max(lengths)), pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        ids[number, :length] = row
        mask[number, :length] = 1
    return ids, mask
