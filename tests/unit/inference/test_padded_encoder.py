"""The padded batches of GPUs, run here on the CPU provider: same packing, same invariance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.domain.errors import DeviceUnavailable
from service.inference.device import precision_for
from service.inference.encoder import CpuEncoder, PaddedEncoder

TEXTS = [f"poste {'long ' * n}numéro {n}" for n in range(40)]


@pytest.fixture(scope="module")
def padded(tiny_encoder_folder: Path) -> PaddedEncoder:
    return PaddedEncoder(tiny_encoder_folder, "tiny", "CPUExecutionProvider")


def test_padding_does_not_change_an_embedding(
    padded: PaddedEncoder, tiny_encoder: CpuEncoder
) -> None:
    assert np.allclose(
        padded.encode(TEXTS).embeddings, tiny_encoder.encode(TEXTS).embeddings, atol=1e-6
    )


def test_an_embedding_is_the_same_to_the_bit_alone_and_in_any_batch(padded: PaddedEncoder) -> None:
    together = padded.encode(TEXTS).embeddings
    reversed_order = padded.encode(TEXTS[::-1]).embeddings[::-1]
    assert np.array_equal(together, reversed_order)
    for index in (0, 7, 39):
        assert np.array_equal(padded.encode([TEXTS[index]]).embeddings[0], together[index])


def test_a_provider_that_cannot_start_is_an_error(tiny_encoder_folder: Path) -> None:
    with pytest.raises((DeviceUnavailable, ValueError)):
        PaddedEncoder(tiny_encoder_folder, "tiny", "NoSuchExecutionProvider")


def test_cuda_without_a_gpu_is_a_clear_error_and_auto_falls_back_to_int8(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceUnavailable, match="VOCATION_DEVICE=cuda"):
        precision_for("cuda")
    assert precision_for("auto") == "int8"


def test_a_gpu_build_on_a_machine_without_a_gpu_serves_int8_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The build lists the provider; no session can start it here.
    monkeypatch.setattr(
        "onnxruntime.get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    assert precision_for("auto") == "int8"
    assert precision_for("cpu") == "int8"
    with pytest.raises(DeviceUnavailable, match="does not start"):
        precision_for("cuda")
