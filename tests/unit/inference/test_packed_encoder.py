"""Packed graphs run several texts at once and change no bit for it; others run one at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from service.domain.errors import EncoderUnusable
from service.inference.encoder import CpuEncoder, SideBySide
from service.inference.split_encoder import SplitEncoder, Trunk, encode_tops
from service.inference.tokenizer import Tokens
from service.registry.artifacts import ArtifactStore
from tests.support.tiny_encoder import write_tiny_encoder
from tests.support.tiny_split import put_tuned

TEXTS = [f"Ingénieure {'x' * n}, Lyon" for n in range(40)]


@pytest.fixture(scope="module")
def packed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    write_tiny_encoder(folder, packed=True)
    return folder


@pytest.fixture(scope="module")
def packed(packed_folder: Path, side_by_side: SideBySide) -> CpuEncoder:
    return CpuEncoder(packed_folder, "packed", side_by_side)


@pytest.fixture(scope="module")
def tops(
    packed_folder: Path, tmp_path_factory: pytest.TempPathFactory, side_by_side: SideBySide
) -> list[SplitEncoder]:
    """Two packed tops on one trunk."""
    folder = tmp_path_factory.mktemp("tops")
    artifacts = ArtifactStore(str(folder / "artifacts"), folder / "cache")
    made = [
        put_tuned(artifacts, packed_folder, folder / str(seed), side_by_side, seed)[0]
        for seed in (1, 2)
    ]
    trunk = made[0].trunk
    return [
        SplitEncoder(trunk, folder / str(seed) / "top", top.digest, side_by_side)
        for seed, top in zip((1, 2), made, strict=True)
    ]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(max_size=80), min_size=1, max_size=30), seed=st.integers(0, 1000))
def test_a_packed_embedding_is_the_same_to_the_bit_alone_and_in_any_company(
    packed: CpuEncoder, texts: list[str], seed: int
) -> None:
    alone = np.concatenate([packed.encode([text]).embeddings for text in texts])
    order = random.Random(seed).sample(range(len(texts)), len(texts))  # noqa: S311  # no secret
    together = packed.encode([texts[number] for number in order]).embeddings
    assert together.tobytes() == alone[order].tobytes()


def test_packed_embeddings_are_those_of_one_text_per_run(
    packed: CpuEncoder, tiny_encoder: CpuEncoder
) -> None:
    expected, found = tiny_encoder.encode(TEXTS), packed.encode(TEXTS)
    assert found.embeddings.tobytes() == expected.embeddings.tobytes()
    assert_array_equal(found.tokens, expected.tokens)
    assert_array_equal(found.truncated, expected.truncated)


def test_no_texts_give_no_packed_embeddings(packed: CpuEncoder) -> None:
    assert len(packed.encode([]).embeddings) == 0


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each run of a whole encoder has had."""
    counted: list[int] = []
    ran = CpuEncoder._run

    def run(encoder: CpuEncoder, texts: Sequence[Tokens]) -> NDArray[np.float32]:
        counted.append(len(texts))
        return ran(encoder, texts)

    monkeypatch.setattr(CpuEncoder, "_run", run)
    return counted


def test_texts_of_a_packed_graph_share_runs_and_those_of_another_do_not(
    packed: CpuEncoder, tiny_encoder: CpuEncoder, runs: list[int]
) -> None:
    packed.encode(TEXTS)
    assert sum(runs) == len(TEXTS)
    assert max(runs) > 1
    runs.clear()
    tiny_encoder.encode(TEXTS)
    assert runs == [1] * len(TEXTS)


def test_where_kernels_do_not_keep_texts_apart_each_has_a_run_of_its_own_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a processor whose kernels add in another order: whoever shares a run moves the others."""
    write_tiny_encoder(tmp_path, packed=True, entangled=True)
    encoder = CpuEncoder(tmp_path, "entangled", SideBySide(1))
    assert "does not keep texts apart" in caplog.text
    together = encoder.encode(TEXTS).embeddings
    alone = np.concatenate([encoder.encode([text]).embeddings for text in TEXTS])
    assert together.tobytes() == alone.tobytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_packed_tops_give_the_same_bits_together_and_alone(
    tops: list[SplitEncoder], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some texts are asked for by both tops, some by one, some twice by one."""
    first, second = tops
    runner = SideBySide(threads)
    wanted = {
        "first": (first, [*TEXTS[:25], TEXTS[3]]),
        "second": (second, TEXTS[:9:-1]),
    }
    for top in tops:
        monkeypatch.setattr(top, "side_by_side", runner)
    encoded = encode_tops(wanted)
    for digest, (top, texts) in wanted.items():
        alone = np.concatenate([top.encode([text]).embeddings for text in texts])
        assert encoded[digest].embeddings.tobytes() == alone.tobytes()
        assert encoded[digest].tokens.tolist() == top.encode(texts).tokens.tolist()
    one, other = (top.encode(TEXTS).embeddings for top in tops)
    assert one.tobytes() != other.tobytes()
    runner.close()


def test_packed_tops_embed_as_tops_of_one_text_per_run_do(
    tops: list[SplitEncoder],
    tiny_encoder_folder: Path,
    artifacts: ArtifactStore,
    tmp_path: Path,
    side_by_side: SideBySide,
) -> None:
    single, _ = put_tuned(artifacts, tiny_encoder_folder, tmp_path / "single", side_by_side, 1)
    assert not single.spec.packed
    assert_array_equal(single.encode(TEXTS).embeddings, tops[0].encode(TEXTS).embeddings)


def test_a_trunk_runs_once_for_the_texts_that_the_same_tops_share(
    tops: list[SplitEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    first, second = tops
    ran = first.trunk.run

    def counted(texts: Sequence[Tokens]) -> object:
        runs.append(len(texts))
        return ran(texts)

    monkeypatch.setattr(first.trunk, "run", counted)
    for top in tops:
        monkeypatch.setattr(top, "side_by_side", SideBySide(1))
    titles = ["Chef", "Data", "Lyon", "Juge"]
    encode_tops({"first": (first, titles), "second": (second, titles)})
    assert runs == [4]
    runs.clear()
    encode_tops({"first": (first, titles), "second": (second, titles[:1])})
    assert sorted(runs) == [1, 3]


@pytest.mark.parametrize("packed_part", ["trunk", "top"])
def test_a_packed_part_and_one_that_is_not_are_refused(
    packed_part: str,
    packed_folder: Path,
    tiny_encoder_folder: Path,
    artifacts: ArtifactStore,
    tmp_path: Path,
    side_by_side: SideBySide,
) -> None:
    for name, whole in (("packed", packed_folder), ("single", tiny_encoder_folder)):
        put_tuned(artifacts, whole, tmp_path / name, side_by_side, 1)
    of = {True: tmp_path / "packed", False: tmp_path / "single"}
    trunk = Trunk(of[packed_part == "trunk"] / "trunk", "trunk")
    with pytest.raises(EncoderUnusable, match="packed"):
        SplitEncoder(trunk, of[packed_part == "top"] / "top", "top", side_by_side)
