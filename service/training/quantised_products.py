"""Matrix products of int8 as ONNX nodes, and what makes their inputs fit into eight bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from service.training.activation_ranges import Range

Floats = NDArray[np.float32]

# ONNX Runtime's own operators: integer products that end in floats, GELU, a product with a
# transposed matrix (onnxruntime, docs/ContribOperators.md).
RUNTIME = "com.microsoft"

# How much of the work of large channels goes from activations to weights (Xiao et al., 2023,
# SmoothQuant, equation 4; .5 there). From .5 to .8 the mean cosine of the embedded encoder with
# PyTorch is .9989 to .9992.
SMOOTHING = 0.6
_LEAST_ACTIVATION, _LEAST_WEIGHT = 1e-3, 1e-4

# GELU is never under -.17 (its minimum is -.16997 at -.7518): with a step of at least .17/16,
# sixteen of the 255 steps are enough under zero, and 239 are left over it.
_GELU_STEPS_UNDER_ZERO = 16
_GELU_LEAST = 0.17


class GraphWriter:
    """Collects nodes and constants under names that follow from the order of calls alone."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """A named tensor, written once."""
        if name not in self.constants:
            array = np.array(value, dtype=dtype, order="C")
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def whole_numbers(self, *values: int) -> str:
        """A tensor int64[len(values)]."""
        return self.constant("list_" + "_".join(map(str, values)), list(values), np.int64)

    def whole_number(self, value: int) -> str:
        """A tensor int64[]."""
        return self.constant(f"number_{value}", value, np.int64)

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        name = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name


@dataclass(frozen=True, slots=True)
class Linear:
    """A product with float32[inputs, outputs] and a bias, of inputs divided by ``divisor``."""

    weight: Floats
    bias: Floats
    divisor: Floats
    low: float
    high: float


def smooth(weight: Floats, bias: Floats, inputs: Range) -> Linear:
    """Make large channels of the inputs smaller and their weights larger (SmoothQuant)."""
    activation = np.maximum(np.maximum(inputs.high, -inputs.low), _LEAST_ACTIVATION)
    strength = np.maximum(np.abs(weight).max(axis=1), _LEAST_WEIGHT)
    divisor = activation**SMOOTHING / strength ** (1 - SMOOTHING)
    divisor = (divisor / np.exp(np.log(divisor).mean())).astype(np.float32)
    low, high = float((inputs.low / divisor).min()), float((inputs.high / divisor).max())
    # Zero has to be one of the steps.
    return Linear(
        (weight * divisor[:, None]).astype(np.float32), bias, divisor, min(low, 0.0), max(high, 0.0)
    )


def smoothed(writer: GraphWriter, name: str, inputs: str, linear: Linear) -> str:
    """Inputs divided by what makes their large channels smaller."""
    factor = writer.constant(f"{name}.smoothing", 1 / linear.divisor)
    return writer.node("Mul", inputs, factor)


def static_product(writer: GraphWriter, name: str, inputs: str, linear: Linear) -> str:
    """A product of inputs quantised to uint8 by the scale of the measured range."""
    step = np.float32(max((linear.high - linear.low) / 255, 1e-12))
    zero = np.clip(np.rint(-linear.low / step), 0, 255)
    scale = writer.constant(f"{name}.step", step)
    zero_point = writer.constant(f"{name}.zero", zero, np.uint8)
    return writer.node(
        "MatMulIntegerToFloat",
        writer.node("QuantizeLinear", inputs, scale, zero_point),
        *_columns(writer, name, linear.weight, scale),
        zero_point,
        "",
        writer.constant(f"{name}.bias", linear.bias),
        domain=RUNTIME,
    )


def product_by_token(writer: GraphWriter, name: str, inputs: str, weight: Floats) -> str:
    """A product of what GELU gave, quantised to uint8 with one scale for each token."""
    steps = writer.constant("gelu.steps", 1 / (255 - _GELU_STEPS_UNDER_ZERO))
    least = writer.constant("gelu.least", _GELU_LEAST / _GELU_STEPS_UNDER_ZERO)
    last = writer.whole_numbers(-1)
    greatest = writer.node("ReduceMax", inputs, last, keepdims=1)
    scale = writer.node("Max", writer.node("Mul", greatest, steps), least)
    by_token = writer.node("Squeeze", scale, last)
    zeros = writer.node(
        "ConstantOfShape",
        writer.node("Shape", by_token),
        value=helper.make_tensor("value", TensorProto.UINT8, [1], [_GELU_STEPS_UNDER_ZERO]),
    )
    product = writer.node(
        "MatMulIntegerToFloat",
        writer.node("QuantizeLinear", inputs, by_token, zeros, axis=0),
        *_columns(writer, name, weight, writer.constant("one", 1.0)),
        writer.constant("gelu.zero", _GELU_STEPS_UNDER_ZERO, np.uint8),
        domain=RUNTIME,
    )
    return writer.node("Mul", product, scale)


def _columns(writer: GraphWriter, name: str, weight: Floats, input_scale: str) -> tuple[str, ...]:
    """Weights in int8, symmetric, a scale for each column, with the scale of the inputs between."""
    scale = np.maximum(np.abs(weight).max(axis=0) / np.float32(127), 1e-12).astype(np.float32)
    numbers = writer.constant(f"{name}.weight", np.rint(weight / scale), np.int8)
    return numbers, input_scale, writer.constant(f"{name}.scale", scale)
