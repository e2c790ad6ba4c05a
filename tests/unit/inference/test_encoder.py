from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from service.domain.errors import EncoderUnusable
from service.inference.encoder import CpuEncoder, SideBySide, load_encoder
from service.inference.encoder_spec import SPEC_FILE, EncoderSpec, read_spec
from tests.support.tiny_encoder import DIMENSIONS, MAX_TOKENS

TEXTS = [f"Ingénieure {'x' * n}, Lyon" for n in range(32)]


def test_embeddings_come_in_the_order_of_the_texts(tiny_encoder: CpuEncoder) -> None:
    together = tiny_encoder.encode(TEXTS).embeddings
    backwards = tiny_encoder.encode(TEXTS[::-1]).embeddings
    assert together.shape == (32, DIMENSIONS)
    assert together.dtype == np.float32
    assert_array_equal(backwards[::-1], together)
    assert len(np.unique(together, axis=0)) == 32


def test_an_embedding_is_bit_identical_alone_and_among_31_others(
    tiny_encoder: CpuEncoder,
) -> None:
    together = tiny_encoder.encode(TEXTS).embeddings
    alone = np.concatenate([tiny_encoder.encode([text]).embeddings for text in TEXTS])
    assert together.tobytes() == alone.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_number_of_threads_changes_no_bit(
    tiny_encoder: CpuEncoder, tiny_encoder_folder: Path, threads: int
) -> None:
    runner = SideBySide(threads)
    encoder = CpuEncoder(tiny_encoder_folder, "tiny", runner)
    embeddings = encoder.encode(TEXTS).embeddings
    runner.close()
    assert embeddings.tobytes() == tiny_encoder.encode(TEXTS).embeddings.tobytes()


def test_a_text_longer_than_the_encoder_reads_is_flagged(tiny_encoder: CpuEncoder) -> None:
    # One token for each ASCII character, and two special ones.
    fits, too_long = "x" * (MAX_TOKENS - 2), "x" * (MAX_TOKENS - 1)
    encoded = tiny_encoder.encode([too_long, "short", fits])
    assert encoded.truncated.tolist() == [True, False, False]
    assert encoded.tokens.tolist() == [MAX_TOKENS, 7, MAX_TOKENS]


def test_no_texts_give_no_embeddings(tiny_encoder: CpuEncoder) -> None:
    encoded = tiny_encoder.encode([])
    assert encoded.embeddings.shape == (0, DIMENSIONS)
    assert encoded.tokens.tolist() == []


def test_one_encoder_serves_several_threads_at_once(tiny_encoder: CpuEncoder) -> None:
    expected = tiny_encoder.encode(TEXTS).embeddings.tobytes()
    answers: list[bytes] = []

    def encode() -> None:
        answers.append(tiny_encoder.encode(TEXTS).embeddings.tobytes())

    callers = [threading.Thread(target=encode) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [expected] * 4


def test_an_int8_artifact_is_loaded_for_the_cpu(
    tiny_encoder_folder: Path, side_by_side: SideBySide
) -> None:
    encoder = load_encoder(tiny_encoder_folder, "digest", side_by_side)
    assert isinstance(encoder, CpuEncoder)
    assert encoder.digest == "digest"


def test_side_by_side_keeps_the_order_and_calls_once_for_each_item(
    side_by_side: SideBySide,
) -> None:
    called: list[int] = []

    def square(number: int) -> int:
        called.append(number)
        return number * number

    assert side_by_side.map(square, range(50)) == [n * n for n in range(50)]
    assert sorted(called) == list(range(50))
    assert side_by_side.map(square, []) == []


def test_side_by_side_uses_as_many_threads_as_it_was_given() -> None:
    runner = SideBySide(3)
    # Nobody passes the barrier until three threads stand at it.
    barrier = threading.Barrier(3, timeout=30)
    runner.map(lambda _: barrier.wait(), range(3))
    runner.close()
    assert not barrier.broken


def test_an_error_in_any_thread_reaches_the_caller(side_by_side: SideBySide) -> None:
    def fail_on_odd(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match=r"\d"):
        side_by_side.map(fail_on_odd, range(20))
    assert side_by_side.map(fail_on_odd, range(0, 20, 2)) == list(range(0, 20, 2))


def test_what_an_encoder_says_of_itself_survives_the_file(tmp_path: Path) -> None:
    spec = EncoderSpec(
        name="xlm-r",
        precision="fp16",
        dimensions=768,
        max_tokens=512,
        pad_token_id=1,
        inputs=("input_ids", "attention_mask"),
        output="sentence_embedding",
        parity={"max_difference": 0.01},
        libraries={"optimum": "2.1.0"},
    )
    (tmp_path / "encoder.json").write_bytes(spec.to_json())
    assert read_spec(tmp_path) == spec


SHIPPED = Path(__file__).parents[3] / "models" / "encoder" / "onnx"


def test_what_is_written_today_has_the_bytes_of_the_encoder_that_is_shipped() -> None:
    """Its digest names it in every registry: a field more would make another encoder of it."""
    assert read_spec(SHIPPED).to_json() == (SHIPPED / SPEC_FILE).read_bytes()


def test_a_specification_from_before_trunks_and_packed_graphs_is_read(tmp_path: Path) -> None:
    fields = json.loads((SHIPPED / SPEC_FILE).read_bytes())
    for later in ("trunk", "packed", "parity", "libraries"):
        del fields[later]
    (tmp_path / SPEC_FILE).write_text(json.dumps(fields))
    spec = read_spec(tmp_path)
    assert (spec.trunk, spec.packed, spec.parity, spec.libraries) == (None, False, {}, {})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"a_later_field": 1}, "does not know, 'a_later_field'"),
        ({"format": 2}, "format 2, and this release reads up to 1"),
        ({"format": None}, "format None"),
        ({"precision": "int4"}, "'precision'"),
        ({"dimensions": "384"}, "'dimensions'"),
        ({"pad_token_id": True}, "'pad_token_id'"),
        ({"inputs": "input_ids"}, "'inputs'"),
        ({"inputs": [1]}, "'inputs'"),
        ({"trunk": 7}, "'trunk'"),
        ({"packed": 1}, "'packed'"),
        ({"parity": []}, "'parity'"),
    ],
)
def test_a_specification_that_is_not_known_here_is_refused_by_the_name_of_its_field(
    tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    """A newer release may have written it: what it means would be guessed."""
    fields = json.loads((SHIPPED / SPEC_FILE).read_bytes())
    (tmp_path / SPEC_FILE).write_text(json.dumps({**fields, **changed}))
    with pytest.raises(EncoderUnusable, match=f"{SPEC_FILE}.*{said}"):
        read_spec(tmp_path)


def test_a_specification_that_lacks_a_field_or_is_none_is_refused(tmp_path: Path) -> None:
    fields = json.loads((SHIPPED / SPEC_FILE).read_bytes())
    del fields["output"]
    (tmp_path / SPEC_FILE).write_text(json.dumps(fields))
    with pytest.raises(EncoderUnusable, match="no 'output'"):
        read_spec(tmp_path)
    (tmp_path / SPEC_FILE).unlink()
    with pytest.raises(EncoderUnusable, match="cannot be read"):
        read_spec(tmp_path)
