"""Conversion of a Keras network to an ONNX graph.

Keras keeps pictures as (batch, height, width, channel), ONNX as (batch, channel, height, width). The imported
graph keeps Keras' order outside, with one ``Transpose`` at each end. Batch, height and width are free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import onnx
from onnx import ModelProto, TensorProto, helper

from fgbgpack.depth.keras.layers import KINDS, Bilinear, GraphBuilder, Value, convert
from fgbgpack.depth.keras.network import KerasNetwork, Layer, LayerError, import_error, read_network
from fgbgpack.depth.onnx_file import listed

_OPSET, _IR_VERSION = 17, 8


def import_keras(path: str | Path, *, bilinear: Bilinear = "half_pixel", fold: bool = True) -> ModelProto:
    """Converts a Keras HDF5 file with the whole model, as ``model.save("FILE.h5")`` writes it, to ONNX.

    The ONNX model has an input with the name of the input layer, float32 ``(n, height, width, channels)``,
    and an output with the name of the output layer and its axes in the same order.

    Args:
        path: A functional model of one input and one output, of the layers in ``KINDS``.
        bilinear: How bilinear up-sampling places the pixels, which the file does not tell. ``"half_pixel"``
            is what ``tf.image.resize`` and UpSampling2D do since TensorFlow 2, and so what Keras and
            DenseDepth's published layer give today. ``"align_corners"`` is what that layer did when
            DenseDepth's weights were published (``tf.image.resize_images(align_corners=True)``), and what its
            authors' PyTorch version does. ``"asymmetric"`` is TensorFlow 1's default.
        fold: Whether to merge a batch normalization into the convolution before it where that has no other
            consumer; this changes the answer by rounding only.

    Raises:
        MissingPackageError: h5py is not installed.
        DepthModelError: The file cannot be used, or layers cannot be converted: with every such layer.
    """
    path = Path(path)
    if bilinear not in get_args(Bilinear):
        raise import_error(f"bilinear: found {bilinear!r}, expected one of {listed(get_args(Bilinear))}.")
    network = read_network(path, kinds=KINDS)
    graph = GraphBuilder(_OPSET, bilinear, _foldable(network) if fold else {})
    ends = _convert_layers(network, graph, path)
    graph.nodes.add("Transpose", ends[1].name, output=network.output, perm=[0, 2, 3, 1])
    sizes: tuple[list[Any], list[Any]] = (["n", "height", "width"], ["n", "height_out", "width_out"])
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [*size, end.channels])
        for name, size, end in zip((network.input, network.output), sizes, ends, strict=True)
    ]
    proto = helper.make_graph(graph.nodes.take(), path.stem, tensors[:1], tensors[1:], graph.nodes.constants)
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(proto, producer_name="fgbgpack", ir_version=_IR_VERSION, opset_imports=opsets)
    onnx.checker.check_model(model)
    return model


def _convert_layers(network: KerasNetwork, graph: GraphBuilder, path: Path) -> tuple[Value, Value]:
    """Converts all layers. Returns the values of the input layer and of the output layer."""
    problems = []
    values: dict[str, Value] = {}
    for layer in network.layers.values():
        inputs = [values[name] for name in layer.sources if name in values]
        if len(inputs) < len(layer.sources):
            continue  # follows a layer that failed
        try:
            values[layer.name] = convert(graph, layer, inputs)
        except LayerError as exc:
            problems.append(f"{layer}: {exc}")
        except (KeyError, TypeError, ValueError, IndexError) as exc:
            problems.append(f"{layer}: its configuration is not as Keras writes it ({exc!r})")
    if problems:
        raise import_error(f"The network in {path} cannot be converted to ONNX:", problems)
    return values[network.input], values[network.output]


def _foldable(network: KerasNetwork) -> dict[str, Layer]:
    """The batch normalization that each convolution can absorb, by the convolution's name."""
    consumers: dict[str, list[Layer]] = {name: [] for name in network.layers}
    for layer in network.layers.values():
        for source in layer.sources:
            consumers[source].append(layer)
    return {
        name: consumers[name][0]
        for name, layer in network.layers.items()
        if layer.kind == "Conv2D"
        and layer.config.get("activation", "linear") == "linear"
        and [consumer.kind for consumer in consumers[name]] == ["BatchNormalization"]
    }
