"""Where encoders can run here, and so in which precision new ones are built."""

from __future__ import annotations

import onnxruntime as ort

from service.domain.errors import DeviceUnavailable
from service.inference.encoder_spec import Precision
from service.settings import Device

CUDA = "CUDAExecutionProvider"

# The smallest ONNX model there is: y = Identity(x), float32[1].
_IDENTITY_GRAPH = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


def precision_for(device: Device) -> Precision:
    """The precision that new encoders are built in for a device.

    Raises DeviceUnavailable for ``cuda`` where ONNX Runtime cannot start its CUDA provider.
    """
    if device == "cpu":
        return "int8"
    if CUDA not in ort.get_available_providers():
        if device == "cuda":
            raise DeviceUnavailable(
                "VOCATION_DEVICE=cuda, but ONNX Runtime has no CUDA provider here: install "
                "onnxruntime-gpu in place of onnxruntime on a machine with an NVIDIA GPU."
            )
        return "int8"
    if not _starts(CUDA):
        if device == "cuda":
            raise DeviceUnavailable(
                "VOCATION_DEVICE=cuda, but ONNX Runtime's CUDA provider does not start here: is "
                "there an NVIDIA GPU, with the driver and the CUDA libraries that it needs?"
            )
        return "int8"
    return "fp16"


def _starts(provider: str) -> bool:
    # The list of providers is that of the build; only a session tells what the machine has.
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(_IDENTITY_GRAPH, options, providers=[provider])
    return provider in session.get_providers()
