from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest

from benchmarks.serving_bench.agreement import scores_of
from benchmarks.serving_bench.report import document, facts_table, table
from benchmarks.serving_bench.session import Findings
from benchmarks.serving_bench.venvs import reported_versions
from tests.unit.benchmarks.test_figures import TITLES_8, measured

RULES = {"weights": [1.0, -1.0], "bias": 0.5}


def test_a_table_is_markdown_with_its_numbers_to_the_right() -> None:
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_nested_facts_become_one_name_each() -> None:
    shown = facts_table({"machine": {"cpus": 2, "load": [0.5]}, "share": 0.25})
    assert "| machine.cpus | 2 |" in shown
    assert "| machine.load | [0.5] |" in shown
    assert "| share | 0.25 |" in shown


def test_the_document_has_the_figures_at_the_top_and_is_json_without_nan() -> None:
    findings = Findings(results={"vocation": {TITLES_8: list(measured(10))}})
    findings.overload = {"refusal_p99": math.nan}
    whole = document({"seed": 1}, {"of_bare_8": 0.5}, findings)
    read = json.loads(json.dumps(whole, allow_nan=False))
    assert read["of_bare_8"] == 0.5
    assert read["seed"] == 1
    assert read["overload"]["refusal_p99"] is None
    (cell,) = read["results"]
    assert (cell["contender"], cell["kind"], cell["per_request"]) == ("vocation", "titles", 8)
    assert cell["rounds"][0]["experiences_per_second"] == 10


def test_the_scores_of_every_dialect_are_found() -> None:
    scored = [{"scores": [{"score": 0.25}]}, {"scores": [{"score": 0.5}]}]
    tensors = {"outputs": [{"name": "label"}, {"name": "score", "data": [0.25, 0.5]}]}
    assert scores_of("vocation", [json.dumps(scored)], RULES) == [0.25, 0.5]
    assert scores_of("texts", ['[{"score": 0.25}]', '{"results": [{"score": 0.5}]}'], RULES) == [
        0.25,
        0.5,
    ]
    assert scores_of("v2", [json.dumps(tensors)], RULES) == [0.25, 0.5]


def test_an_embedding_is_put_through_the_head() -> None:
    row = base64.b64encode(np.array([1.0, 1.5], dtype=np.float32).tobytes()).decode()
    found = scores_of("openai", [json.dumps({"data": [{"embedding": row}]})], RULES)
    # 1.0 - 1.5 + 0.5 = 0: even odds.
    assert found == [pytest.approx(0.5)]


def test_the_pins_that_a_peers_figures_hang_on_are_reported() -> None:
    pins = "# all of it\ntorch==2.13.0\nsix==1.17.0\nlitserve==0.2.19\n"
    assert reported_versions(pins) == {"torch": "2.13.0", "litserve": "0.2.19"}
