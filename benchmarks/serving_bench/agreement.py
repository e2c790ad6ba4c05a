"""Whether contenders do the same work: their scores of equal texts beside the service's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving_bench.bodies import Dialect
from benchmarks.serving_bench.contenders import Contender
from benchmarks.serving_bench.measure import Bench, running
from benchmarks.serving_bench.processes import NotStarted
from benchmarks.serving_bench.texts import KINDS

_PER_REQUEST = 32


def check(
    bench: Bench, contenders: Sequence[Contender], bundle: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Largest difference of a score from the service's, and whether the replies are equal.

    Contenders that do not answer as they should are in the second dictionary, with the reason.
    """
    rules = json.loads((bundle / "head.json").read_text())
    found: dict[str, dict[str, Any]] = {}
    wrong: dict[str, str] = {}
    ours = _replies(bench, next(c for c in contenders if c.role == "service"))
    expected = scores_of("vocation", ours, rules)
    for contender in contenders:
        if contender.role == "ceiling":
            continue
        try:
            replies = _replies(bench, contender)
            scores = scores_of(contender.dialect, replies, rules)
            difference = float(np.abs(np.array(scores) - np.array(expected)).max())
        except (NotStarted, ValueError, KeyError, TypeError) as error:
            wrong[contender.name] = f"does not answer: {type(error).__name__}: {error}"
            continue
        found[contender.name] = {
            "largest_difference": difference,
            "equal_replies": replies == ours,
        }
    return found, wrong


def scores_of(dialect: Dialect, replies: Sequence[str], rules: Mapping[str, Any]) -> list[float]:
    """The scores that replies carry; an embedding is put through the head."""
    return [score for reply in replies for score in _READERS[dialect](json.loads(reply), rules)]


def _replies(bench: Bench, contender: Contender) -> list[str]:
    replies = []
    with running(contender):
        for kind in KINDS:
            job = bench.job(contender, kind, _PER_REQUEST, (0, 1))
            found = bench.ask(contender, {**job, "mode": "once"})
            if found["status"] != 200:
                raise NotStarted(f"status {found['status']}: {found['body'][:300]}")
            replies.append(found["body"])
    return replies


def _vocation(reply: Any, _: Mapping[str, Any]) -> list[float]:
    return [item["scores"][0]["score"] for item in reply]


def _texts(reply: Any, _: Mapping[str, Any]) -> list[float]:
    items = reply["results"] if isinstance(reply, dict) else reply
    return [item["score"] for item in items]


def _v2(reply: Any, _: Mapping[str, Any]) -> list[float]:
    scores: list[float] = next(o["data"] for o in reply["outputs"] if o["name"] == "score")
    return scores


def _openai(reply: Any, rules: Mapping[str, Any]) -> list[float]:
    weights, bias = np.array(rules["weights"], dtype=np.float32), rules["bias"]
    rows = [
        np.frombuffer(base64.b64decode(item["embedding"]), dtype=np.float32)
        for item in reply["data"]
    ]
    return [float(1 / (1 + np.exp(-(row @ weights + bias)))) for row in rows]


_READERS: dict[Dialect, Callable[[Any, Mapping[str, Any]], list[float]]] = {
    "vocation": _vocation,
    "texts": _texts,
    "v2": _v2,
    "openai": _openai,
}
