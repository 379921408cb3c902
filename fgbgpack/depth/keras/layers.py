"""Conversion of single Keras layers to ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgbgpack.depth.keras.network import Layer, LayerError
from fgbgpack.depth.nodes import Nodes
from fgbgpack.depth.onnx_file import listed

#: Where pixel x of an axis enlarged k times lies on the original axis of n pixels, in ONNX's names:
#: (x + 1/2) / k - 1/2, or x * (n - 1) / (k * n - 1), or x / k.
Bilinear = Literal["half_pixel", "align_corners", "asymmetric"]


@dataclass(frozen=True)
class Value:
    """A tensor of the graph, in ONNX's order of axes."""

    name: str
    channels: int


class GraphBuilder:
    """The graph of a network, and the batch normalization that each convolution absorbs, by its name."""

    def __init__(self, opset: int, bilinear: Bilinear, folded: Mapping[str, Layer]) -> None:
        self.nodes = Nodes(opset)
        self.bilinear = bilinear
        self.folded = folded

    def add(
        self, op: str, layer: Layer, inputs: Sequence[str | NDArray[Any]], channels: int, **attributes: Any
    ) -> Value:
        """Appends a node of a layer; arrays among its inputs become constants. Returns its output."""
        return Value(self.nodes.add(op, *inputs, prefix=layer.name, **attributes), channels)


def convert(graph: GraphBuilder, layer: Layer, inputs: Sequence[Value]) -> Value:
    """Converts one layer. Raises LayerError where it has options that are not supported, or lacks weights;
    KeyError, TypeError, ValueError or IndexError where its configuration is not as Keras writes it.
    """
    if len(inputs) != 1 and layer.kind not in ("InputLayer", "Add", "Concatenate"):
        raise LayerError(f"takes {len(inputs)} inputs; expected one")
    return _CONVERTERS[layer.kind](graph, layer, *inputs)


def _input(graph: GraphBuilder, layer: Layer, *_: Value) -> Value:
    shape = layer.config.get("batch_input_shape") or layer.config["batch_shape"]
    if len(shape) != 4 or not isinstance(shape[3], int):
        raise LayerError(f"has shape {shape}; expected (batch, height, width, channels), channels not free")
    return graph.add("Transpose", layer, [layer.name], shape[3], perm=[0, 3, 1, 2])


def _convolution(graph: GraphBuilder, layer: Layer, source: Value) -> Value:
    config = layer.config
    layer.require("groups", 1)
    size, filters = _pair(config["kernel_size"]), int(config["filters"])
    kernel = layer.weight("kernel", (*size, source.channels, filters))
    bias = layer.weight("bias", (filters,)) if config.get("use_bias", True) else np.zeros(filters)
    if layer.name in graph.folded:
        factor, offset = _normalization_terms(graph.folded[layer.name], filters)
        kernel, bias = kernel * factor, bias * factor + offset
    terms = [kernel.transpose(3, 2, 0, 1), *([bias] if bias.any() else [])]
    dilation = _pair(config.get("dilation_rate", 1))
    value = graph.add(
        "Conv",
        layer,
        [source.name, *(term.astype(np.float32) for term in terms)],
        filters,
        kernel_shape=size,
        dilations=dilation,
        **_window(layer, size, config["strides"], dilation),
    )
    return _activation(graph, layer, value)


def _batch_normalization(graph: GraphBuilder, layer: Layer, source: Value) -> Value:
    _require_channel_axis(layer)
    if layer.sources[0] in graph.folded:
        return source
    factor, offset = (
        term.reshape(-1, 1, 1).astype(np.float32) for term in _normalization_terms(layer, source.channels)
    )
    scaled = graph.add("Mul", layer, [source.name, factor], source.channels)
    return graph.add("Add", layer, [scaled.name, offset], source.channels)


def _normalization_terms(layer: Layer, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor and offset, ``(channels,)`` each: Ioffe and Szegedy (2015), "Batch Normalization", algorithm 2,
    step 11.
    """
    config = layer.config
    mean, variance = (layer.weight(name, (channels,)) for name in ("moving_mean", "moving_variance"))
    variance = variance + float(config["epsilon"])
    if variance.min() <= 0:
        raise LayerError("its moving_variance is negative")
    factor = 1 / np.sqrt(variance)
    if config.get("scale", True):
        factor *= layer.weight("gamma", (channels,))
    offset = -mean * factor
    if config.get("center", True):
        offset += layer.weight("beta", (channels,))
    return factor, offset


def _activation(graph: GraphBuilder, layer: Layer, source: Value) -> Value:
    is_relu = layer.require("activation", "linear", "relu", None) == "relu"
    return graph.add("Relu", layer, [source.name], source.channels) if is_relu else source


def _relu(graph: GraphBuilder, layer: Layer, source: Value) -> Value:
    layer.require("max_value", None)
    layer.require("negative_slope", 0, None)
    layer.require("threshold", 0, None)
    return graph.add("Relu", layer, [source.name], source.channels)


def _leaky_relu(graph: GraphBuilder, layer: Layer, source: Value) -> Value:
    slope = layer.config["alpha"] if "alpha" in layer.config else layer.config["negative_slope"]
    if isinstance(slope, Mapping):  # as early versions of Keras write a NumPy number
        slope = slope["value"]
    return graph.add("LeakyRelu", layer, [source.name], source.channels, alpha=float(slope))


def _zero_padding(graph: GraphBuilder, layer: Layer, source: Value) -> Value:
    layer.require("data_format", "channels_last", None)
    (top, bottom), (left, right) = map(_pair, _both(layer.config["padding"]))
    pads = np.array([0, 0, top, left, 0, 0, bottom, right])
    return graph.add("Pad", layer, [source.name, pads], source.channels)


def _pooling(graph: GraphBuilder, layer: Layer, source: Value) -> Value:
    # Keras averages over the pixels that exist, and so does AveragePool by default.
    op = layer.kind.removesuffix("ing2D")
    size = _pair(layer.config["pool_size"])
    window = _window(layer, size, layer.config.get("strides") or size, (1, 1))
    return graph.add(op, layer, [source.name], source.channels, kernel_shape=size, **window)


def _up_sampling(graph: GraphBuilder, layer: Layer, source: Value) -> Value:
    is_bilinear = layer.kind == "BilinearUpSampling2D"
    is_bilinear = is_bilinear or layer.require("interpolation", "nearest", "bilinear") == "bilinear"
    layer.require("data_format", "channels_last", None)
    scales = np.array([1, 1, *_pair(layer.config["size"])], np.float32)
    mode = (
        {"mode": "linear", "coordinate_transformation_mode": graph.bilinear}
        if is_bilinear
        else {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    )
    return graph.add("Resize", layer, [source.name, "", scales], source.channels, **mode)


def _concatenate(graph: GraphBuilder, layer: Layer, *inputs: Value) -> Value:
    _require_channel_axis(layer)
    channels = sum(value.channels for value in inputs)
    return graph.add("Concat", layer, [value.name for value in inputs], channels, axis=1)


def _sum(graph: GraphBuilder, layer: Layer, *inputs: Value) -> Value:
    channels = [value.channels for value in inputs]
    if len(inputs) < 2 or len(set(channels)) > 1:
        raise LayerError(f"takes inputs of {listed(channels)} channels; expected two or more of as many each")
    total, *rest = inputs
    for value in rest:
        total = graph.add("Add", layer, [total.name, value.name], total.channels)
    return total


_CONVERTERS: Mapping[str, Callable[..., Value]] = {
    "Activation": _activation,
    "Add": _sum,
    "AveragePooling2D": _pooling,
    "BatchNormalization": _batch_normalization,
    "BilinearUpSampling2D": _up_sampling,
    "Concatenate": _concatenate,
    "Conv2D": _convolution,
    "InputLayer": _input,
    "LeakyReLU": _leaky_relu,
    "MaxPooling2D": _pooling,
    "ReLU": _relu,
    "UpSampling2D": _up_sampling,
    "ZeroPadding2D": _zero_padding,
}

#: The kinds of layers that can be converted.
KINDS = frozenset(_CONVERTERS)


def _window(layer: Layer, size: tuple[int, int], strides: Any, dilation: tuple[int, int]) -> dict[str, Any]:
    """Strides and padding of a convolution or a pooling."""
    layer.require("data_format", "channels_last", None)
    strides, padding = _pair(strides), layer.require("padding", "valid", "same")
    if padding == "valid" or size == (1, 1):  # single pixels never reach over the border
        return {"strides": strides}
    if any(length < stride for length, stride in zip(size, strides, strict=True)):
        # The formula for the padding is negative at some sizes, which ONNX Runtime refuses.
        raise LayerError(
            f"padding = 'same' with windows of {size} at strides of {strides}, which skip pixels"
        )
    if strides != (1, 1):
        # The padding depends on the input's size, which is free. An odd pixel goes to the end.
        return {"strides": strides, "auto_pad": "SAME_UPPER"}
    totals = [step * (length - 1) for step, length in zip(dilation, size, strict=True)]
    return {"strides": strides, "pads": [total // 2 for total in totals] + [(t + 1) // 2 for t in totals]}


def _pair(value: Any) -> tuple[int, int]:
    first, second = _both(value)
    return int(first), int(second)


def _both(value: Any) -> Sequence[Any]:
    """A value for each axis; Keras may write one for both."""
    return (value, value) if isinstance(value, int) else value


def _require_channel_axis(layer: Layer) -> None:
    axis = layer.config.get("axis", -1)
    if axis not in (3, -1, [3], [-1]):
        raise LayerError(f"axis = {axis}; expected the channels, 3 or -1")
