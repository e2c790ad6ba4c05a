"""Any text that a caller can send is tokenised and scored: finite, and alike alone and in a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.domain.types import Experience
from service.inference.batch import ScoredExperience, ScoringRequest
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import CpuEncoder, SideBySide, load_encoder
from service.inference.model_cache import ModelCache
from service.inference.scorer import Scorer
from service.inference.snapshot import Target
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.registry.encoders import EncoderRecord
from service.settings import PROJECT_ROOT
from service.telemetry.predictions import PredictionTally
from tests.support.make import add_served, head

MOST = 10_000
_SETTINGS = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# Surrogates are not text in UTF-8; the schema refuses them, and NUL, before the tokeniser.
_ANY = st.characters(exclude_categories=["Cs"])
# What upsets tokenisers and normalisers: controls, bidirectional marks, joiners, combining marks,
# emoji with their joiners and skins, private and unassigned characters, the last code point.
_ODD = st.sampled_from(
    "\x01\x1b\x7f\x85\xad\u0300\u0489\u061c\u200b\u200d\u200e\u202e\u2028\u2029\u2060\u2066"
    "\ufe0f\ufeff\ufffd\uffff\ue000\U0001f468\U0001f3fd\U000e0041\U0010ffffßİŉﷺ한ก"
)
_texts = (
    st.text(_ANY, min_size=1, max_size=200)
    | st.text(_ODD, min_size=1, max_size=60)
    | st.builds(
        lambda unit, times: (unit * times)[:MOST],
        st.text(_ANY | _ODD, min_size=1, max_size=8),
        st.integers(1, MOST),
    )
).filter(str.strip)
LONGEST = [
    "x" * MOST,
    "é" * MOST,
    "한" * MOST,
    "\u0301" * MOST,
    "a" + "\u0489" * (MOST - 1),
    "\U0001f468\u200d" * (MOST // 2),
    "\u202e\u2066" * (MOST // 2),
    "\U0010ffff" * MOST,
    " ".join("a" for _ in range(MOST // 2)),
    "ﷺ" * MOST,
]


@pytest.fixture(scope="module")
def shipped_encoder() -> Iterator[CpuEncoder]:
    """The embedded encoder as it ships: its tokeniser and its int8 graph."""
    runner = SideBySide(1)
    folder = PROJECT_ROOT / "models" / "encoder" / "onnx"
    encoder = load_encoder(folder, "shipped", runner)
    assert isinstance(encoder, CpuEncoder)
    yield encoder
    runner.close()


@pytest.fixture
def scored(
    database: Database,
    artifacts: ArtifactStore,
    base_encoder: EncoderRecord,
    cache: ModelCache,
) -> tuple[Scorer, Target]:
    for number, id in enumerate(("chef", "nurse")):
        add_served(database, artifacts, base_encoder, id, head(number))
    cache.refresh()
    # Nothing kept: each answer is computed.
    scorer = Scorer(database, cache.encoders, EmbeddingCache(0), PredictionTally())
    return scorer, cache.resolve(cache.snapshot(), None)


def _scores(scored: tuple[Scorer, Target], texts: list[str]) -> list[tuple[float, ...]]:
    scorer, target = scored
    answers = scorer.score([ScoringRequest(None, Experience(text=t), target) for t in texts])
    scores = []
    for answer in answers:
        assert isinstance(answer, ScoredExperience)
        assert {score.label for score in answer.scores} <= {"in", "out", "uncertain"}
        scores.append(tuple(score.score for score in answer.scores))
    return scores


@_SETTINGS
@given(texts=st.lists(_texts, min_size=1, max_size=6))
@example(texts=LONGEST)
def test_any_text_has_the_same_finite_scores_alone_and_in_a_batch(
    scored: tuple[Scorer, Target], texts: list[str]
) -> None:
    together = _scores(scored, texts)
    assert all(0.0 <= score <= 1.0 for scores in together for score in scores)
    assert together == [_scores(scored, [text])[0] for text in texts]


@_SETTINGS
@given(text=_texts)
@example(text=LONGEST[0])
@example(text=LONGEST[3])
@example(text=LONGEST[5])
@example(text=LONGEST[9])
def test_the_shipped_tokeniser_reads_any_text(shipped_encoder: CpuEncoder, text: str) -> None:
    tokens = shipped_encoder._tokenizer(text)
    assert 2 <= len(tokens.ids) <= shipped_encoder.spec.max_tokens
    assert np.array_equal(tokens.ids, shipped_encoder._tokenizer(text).ids)


@settings(_SETTINGS, max_examples=25)
@given(text=_texts)
@example(text=LONGEST[3])
@example(text=LONGEST[7])
def test_the_shipped_encoder_gives_any_text_the_same_bits_alone_and_in_a_batch(
    shipped_encoder: CpuEncoder, text: str
) -> None:
    (alone,) = shipped_encoder.encode([text]).embeddings
    assert np.isfinite(alone).all()
    assert np.linalg.norm(alone) == pytest.approx(1.0, abs=1e-3)
    batch = shipped_encoder.encode(["Infirmière de bloc", text, "Chef"]).embeddings
    assert batch[1].tobytes() == alone.tobytes()


@pytest.mark.parametrize("index", range(len(LONGEST)))
def test_the_longest_texts_are_scored(scored: tuple[Scorer, Target], index: int) -> None:
    assert len(LONGEST[index]) <= MOST
    assert _scores(scored, [LONGEST[index]])
