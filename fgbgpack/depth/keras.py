"""Keras networks to ONNX, with neither Keras nor TensorFlow: :func:`import_keras`, :func:`write_densedepth`.

Keras keeps pictures as (batch, height, width, channel), ONNX as (batch, channel, height, width). The imported
graph takes and gives Keras' order, and has one ``Transpose`` at each end. Batch, height and width are free.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fgbgpack.depth.keras_file import KerasNetwork, Layer, read_network
from fgbgpack.depth.registry import our_card
from fgbgpack.errors import DepthModelError

#: How pixel x of an axis that is made k times as long is found in the axis it comes from, n long:
#: (x + 1/2) / k - 1/2, or x * (n - 1) / (k * n - 1), or x / k. The names are ONNX's.
Bilinear = Literal["half_pixel", "align_corners", "asymmetric"]

DenseDepthWeights = Literal["nyu", "kitti"]

_OPSET, _IR_VERSION = 17, 8


def import_keras(path: str | Path, *, bilinear: Bilinear = "half_pixel", fold: bool = True) -> ModelProto:
    """Bring a Keras network to ONNX.

    Args:
        path: A Keras HDF5 file that holds the whole model, as ``model.save("FILE.h5")`` writes it: a
            functional model of one input and one output. Its layers may be InputLayer, Conv2D,
            BatchNormalization, Activation (linear, relu), ReLU, LeakyReLU, ZeroPadding2D, MaxPooling2D,
            AveragePooling2D, UpSampling2D, Concatenate, Add, and DenseDepth's own BilinearUpSampling2D.
        bilinear: How bilinear up-sampling places the pixels. The file does not say: BilinearUpSampling2D is
            code that lies outside of it, and UpSampling2D has changed with TensorFlow. ``"half_pixel"`` is
            what ``tf.image.resize`` and UpSampling2D do since TensorFlow 2, so it gives what Keras gives
            today, with DenseDepth's own layer as its authors publish it now. That layer called
            ``tf.image.resize_images(align_corners=True)`` of TensorFlow 1 when DenseDepth's weights were
            published, and its authors' PyTorch version still aligns corners: ``"align_corners"`` gives
            that. ``"asymmetric"`` is TensorFlow 1's default.
        fold: Merge a batch normalization into the convolution before it, where nothing else takes that one's
            output. The answer is the same without, up to rounding.

    Returns:
        An ONNX model. Its input has the name of the input layer, float32 ``(n, height, width, channels)``;
        its output has the name of the output layer and its axes in the same order.

    Raises:
        DepthModelError: h5py is not installed, the file cannot be used (see the message), or layers cannot
            be brought to ONNX: with every layer's name and kind, and what was expected.

    Example:
        >>> model = import_keras("nyu.h5")  # doctest: +SKIP
        >>> onnx.save(model, "network.onnx")  # doctest: +SKIP
    """
    path = Path(path)
    if bilinear not in get_args(Bilinear):
        raise DepthModelError(f"bilinear: found {bilinear!r}, expected one of {_listed(get_args(Bilinear))}.")
    network = read_network(path, kinds=_CONVERTERS)
    return _Conversion(network, bilinear, fold).model(path)


def write_densedepth(
    path: str | Path, out: str | Path, weights: DenseDepthWeights, *, bilinear: Bilinear = "half_pixel"
) -> None:
    """Bring DenseDepth to ONNX and write it, with its card beside it.

    The card's transform gives metres. For NYU it is that of DenseDepth's published ``predict`` (Alhashim
    and Wonka, arXiv:1812.11941): clip(1000 / y, 10, 1000) / 100. For KITTI it is clip(80 / y, 1, 80), from
    what its author wrote of the range and of the predictions; the published code does not have it.

    Args:
        path: DenseDepth's Keras file, ``nyu.h5`` or ``kitti.h5``.
        out: The ONNX file to write, ``FILE.onnx``; the card goes to ``FILE.json``. Both are replaced if they
            are there; each is written aside and put in place when it is whole.
        weights: Which of the two files it is; they give depth on different scales.
        bilinear: As in :func:`import_keras`; the card records it.

    Raises:
        DepthModelError: As in :func:`import_keras`; or the network is not built as DenseDepth is, or the
            files cannot be written.

    Example:
        >>> write_densedepth("nyu.h5", "models/densedepth-nyu.onnx", "nyu")  # doctest: +SKIP
        >>> load_model("models/densedepth-nyu.onnx").card["output"]["unit"]  # doctest: +SKIP
        'm'
    """
    path, out = Path(path), Path(out)
    if weights not in get_args(DenseDepthWeights):
        known = _listed(get_args(DenseDepthWeights))
        raise DepthModelError(f"weights: found {weights!r}, expected one of {known}.")
    if out.suffix != ".onnx":
        raise DepthModelError(f"{out}: expected a name that ends with .onnx; the card goes beside it.")
    model = import_keras(path, bilinear=bilinear)
    content = model.SerializeToString(deterministic=True)
    _try_densedepth(path, model, content)
    with path.open("rb") as file:
        origin = hashlib.file_digest(file, "sha256").hexdigest()
    card = {
        **{key: part for key, part in our_card(f"densedepth-{weights}").items() if key != "obtain"},
        "sha256": hashlib.sha256(content).hexdigest(),
        "x-keras-sha256": origin,
        "x-bilinear": bilinear,
    }
    _write(out, content)
    _write(out.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())


@dataclass(frozen=True)
class _Value:
    """A tensor of the graph being built, in ONNX's order of axes."""

    name: str
    channels: int


class _LayerError(Exception):
    """Why a layer cannot be brought to ONNX."""


class _Conversion:
    """One network on its way to ONNX."""

    def __init__(self, network: KerasNetwork, bilinear: Bilinear, fold: bool) -> None:
        self.bilinear = bilinear
        self._network = network
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._folded = self._find_foldable() if fold else {}

    def model(self, path: Path) -> ModelProto:
        """Bring all layers to ONNX.

        Raises:
            DepthModelError: Some cannot be; ``path`` is the file that the message names.
        """
        network, problems = self._network, []
        values: dict[str, _Value | None] = {}
        for layer in network.layers.values():
            inputs = [values[name] for name in layer.sources]
            # What follows a layer that failed is skipped, so that one mistake is told once.
            known = [value for value in inputs if value is not None]
            values[layer.name] = None
            if len(known) < len(inputs):
                continue
            where = f"layer {layer.name!r} ({layer.kind})"
            try:
                values[layer.name] = _CONVERTERS[layer.kind](self, layer, known)
            except _LayerError as exc:
                problems.append(f"{where}: {exc}")
            except (KeyError, TypeError, ValueError, IndexError) as exc:
                problems.append(f"{where}: its configuration is not as Keras writes it ({exc!r})")
        first, last = values[network.input], values[network.output]
        if problems or first is None or last is None:
            raise DepthModelError(f"The network in {path} cannot be brought to ONNX:", problems)
        self._nodes.append(
            helper.make_node("Transpose", [last.name], [network.output], "to_nhwc", perm=[0, 2, 3, 1])
        )
        sizes: tuple[list[Any], list[Any]] = (["n", "height", "width"], ["n", "height_out", "width_out"])
        tensor = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [tensor(network.input, TensorProto.FLOAT, [*sizes[0], first.channels])],
            [tensor(network.output, TensorProto.FLOAT, [*sizes[1], last.channels])],
            self._constants,
        )
        model = helper.make_model(
            graph,
            producer_name="fgbgpack",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET)],
        )
        onnx.checker.check_model(model)
        return model

    def add(
        self, op: str, layer: Layer, inputs: Sequence[str | NDArray[Any]], channels: int, **attributes: Any
    ) -> _Value:
        """Append a node; arrays among its inputs become constants. Returns its output."""
        name, names = f"{layer.name}/{len(self._nodes)}_{op}", []
        for index, value in enumerate(inputs):
            if not isinstance(value, str):
                self._constants.append(numpy_helper.from_array(value, f"{name}/{index}"))
                value = self._constants[-1].name
            names.append(value)
        self._nodes.append(helper.make_node(op, names, [name], name, **attributes))
        return _Value(name, channels)

    def normalization_after(self, layer: Layer) -> Layer | None:
        """The batch normalization that is merged into this convolution, if one is."""
        return self._folded.get(layer.name)

    def is_folded(self, layer: Layer) -> bool:
        """Whether this batch normalization is merged into the convolution before it."""
        return layer.sources[0] in self._folded

    def _find_foldable(self) -> dict[str, Layer]:
        """Batch normalizations that can be merged into a convolution, by that one's name."""
        layers = self._network.layers
        takers: dict[str, list[Layer]] = {name: [] for name in layers}
        for layer in layers.values():
            for source in layer.sources:
                takers[source].append(layer)
        return {
            name: takers[name][0]
            for name, layer in layers.items()
            if layer.kind == "Conv2D"
            and layer.config.get("activation", "linear") == "linear"
            and [taker.kind for taker in takers[name]] == ["BatchNormalization"]
        }


def _input(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    config = layer.config
    shape = config.get("batch_input_shape") or config["batch_shape"]
    if len(shape) != 4 or not isinstance(shape[3], int):
        raise _LayerError(f"has shape {shape}; expected (batch, height, width, channels), channels not free")
    return graph.add("Transpose", layer, [layer.name], shape[3], perm=[0, 3, 1, 2])


def _convolution(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    source = _single(layer, inputs)
    config = layer.config
    if config.get("groups", 1) != 1:
        raise _LayerError(f"groups = {config['groups']}; expected 1")
    size, filters = _pair(config["kernel_size"]), int(config["filters"])
    kernel = _weight(layer, "kernel", (*size, source.channels, filters)).astype(np.float64)
    bias = np.zeros(filters)
    if config.get("use_bias", True):
        bias = _weight(layer, "bias", (filters,)).astype(np.float64)
    normalization = graph.normalization_after(layer)
    if normalization is not None:
        factor, offset = _normalization_terms(normalization, filters)
        kernel, bias = kernel * factor, bias * factor + offset
    terms = [kernel.transpose(3, 2, 0, 1).astype(np.float32)]
    if bias.any():
        terms.append(bias.astype(np.float32))
    dilation = _pair(config.get("dilation_rate", 1))
    value = graph.add(
        "Conv",
        layer,
        [source.name, *terms],
        filters,
        kernel_shape=size,
        dilations=dilation,
        **_window(config, size, dilation),
    )
    return _activated(graph, layer, value, config.get("activation"))


def _batch_normalization(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    source = _single(layer, inputs)
    _require_channel_axis(layer)
    if graph.is_folded(layer):
        return source
    factor, offset = (
        term.reshape(-1, 1, 1).astype(np.float32) for term in _normalization_terms(layer, source.channels)
    )
    scaled = graph.add("Mul", layer, [source.name, factor], source.channels)
    return graph.add("Add", layer, [scaled.name, offset], source.channels)


def _normalization_terms(layer: Layer, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a batch normalization multiplies by and then adds, ``(channels,)`` each.

    Ioffe and Szegedy (2015), "Batch Normalization", algorithm 2, step 11.
    """
    config = layer.config
    mean, variance = (
        _weight(layer, name, (channels,)).astype(np.float64) for name in ("moving_mean", "moving_variance")
    )
    variance += float(config["epsilon"])
    if variance.min() <= 0:
        raise _LayerError("its moving_variance is negative")
    factor = 1 / np.sqrt(variance)
    if config.get("scale", True):
        factor *= _weight(layer, "gamma", (channels,))
    offset = -mean * factor
    if config.get("center", True):
        offset += _weight(layer, "beta", (channels,))
    return factor, offset


def _activation(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    return _activated(graph, layer, _single(layer, inputs), layer.config["activation"])


def _relu(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    for option, expected in {"max_value": None, "negative_slope": 0, "threshold": 0}.items():
        found = layer.config.get(option, expected)
        if found != expected and not (expected == 0 and found is None):
            raise _LayerError(f"{option} = {found}; expected {expected}")
    return _activated(graph, layer, _single(layer, inputs), "relu")


def _leaky_relu(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    source, config = _single(layer, inputs), layer.config
    slope = config["alpha"] if "alpha" in config else config["negative_slope"]
    if isinstance(slope, Mapping):  # as early versions of Keras write a NumPy number
        slope = slope["value"]
    return graph.add("LeakyRelu", layer, [source.name], source.channels, alpha=float(slope))


def _zero_padding(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    source = _single(layer, inputs)
    _require_channels_last(layer.config)
    (top, bottom), (left, right) = (_pair(pair) for pair in _either(layer.config["padding"]))
    pads = np.array([0, 0, top, left, 0, 0, bottom, right])
    return graph.add("Pad", layer, [source.name, pads], source.channels)


def _max_pooling(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    return _pooling(graph, layer, inputs, "MaxPool")


def _average_pooling(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    # Keras divides by the number of pixels that exist: so does AveragePool unless told otherwise.
    return _pooling(graph, layer, inputs, "AveragePool")


def _pooling(graph: _Conversion, layer: Layer, inputs: Sequence[_Value], op: str) -> _Value:
    source = _single(layer, inputs)
    size = _pair(layer.config["pool_size"])
    config = {**layer.config, "strides": layer.config.get("strides") or size}
    return graph.add(
        op, layer, [source.name], source.channels, kernel_shape=size, **_window(config, size, (1, 1))
    )


def _up_sampling(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    interpolation = layer.config.get("interpolation", "nearest")
    if interpolation not in ("nearest", "bilinear"):
        raise _LayerError(f"interpolation = {interpolation!r}; expected 'nearest' or 'bilinear'")
    if interpolation == "bilinear":
        return _bilinear_up_sampling(graph, layer, inputs)
    return _resized(
        graph,
        layer,
        inputs,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _bilinear_up_sampling(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    return _resized(graph, layer, inputs, mode="linear", coordinate_transformation_mode=graph.bilinear)


def _resized(graph: _Conversion, layer: Layer, inputs: Sequence[_Value], **attributes: str) -> _Value:
    source = _single(layer, inputs)
    _require_channels_last(layer.config)
    scales = np.array([1, 1, *_pair(layer.config["size"])], np.float32)
    return graph.add("Resize", layer, [source.name, "", scales], source.channels, **attributes)


def _concatenate(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    _require_channel_axis(layer)
    channels = sum(value.channels for value in inputs)
    return graph.add("Concat", layer, [value.name for value in inputs], channels, axis=1)


def _sum(graph: _Conversion, layer: Layer, inputs: Sequence[_Value]) -> _Value:
    channels = [value.channels for value in inputs]
    if len(inputs) < 2 or len(set(channels)) > 1:
        raise _LayerError(
            f"takes inputs of {_listed(channels)} channels; expected two or more, as many in each"
        )
    total, *rest = inputs
    for value in rest:
        total = graph.add("Add", layer, [total.name, value.name], total.channels)
    return total


_CONVERTERS: Mapping[str, Callable[[_Conversion, Layer, Sequence[_Value]], _Value]] = {
    "Activation": _activation,
    "Add": _sum,
    "AveragePooling2D": _average_pooling,
    "BatchNormalization": _batch_normalization,
    "BilinearUpSampling2D": _bilinear_up_sampling,
    "Concatenate": _concatenate,
    "Conv2D": _convolution,
    "InputLayer": _input,
    "LeakyReLU": _leaky_relu,
    "MaxPooling2D": _max_pooling,
    "ReLU": _relu,
    "UpSampling2D": _up_sampling,
    "ZeroPadding2D": _zero_padding,
}


def _activated(graph: _Conversion, layer: Layer, value: _Value, activation: object) -> _Value:
    if activation in (None, "linear"):
        return value
    if activation != "relu":
        raise _LayerError(f"activation = {activation!r}; expected 'linear' or 'relu'")
    return graph.add("Relu", layer, [value.name], value.channels)


def _window(config: Mapping[str, Any], size: tuple[int, int], dilation: tuple[int, int]) -> dict[str, Any]:
    """Strides and padding of a convolution or a pooling."""
    _require_channels_last(config)
    strides, padding = _pair(config["strides"]), config["padding"]
    if padding not in ("valid", "same"):
        raise _LayerError(f"padding = {padding!r}; expected 'valid' or 'same'")
    if padding == "valid" or size == (1, 1):  # single pixels never reach over the border
        return {"strides": strides}
    if any(length < stride for length, stride in zip(size, strides, strict=True)):
        # The formula for the padding is negative at some sizes, which ONNX Runtime refuses.
        raise _LayerError(
            f"padding = 'same' with windows of {size} at strides of {strides}, which skip pixels"
        )
    if strides != (1, 1):
        # How much is padded depends on the input's size, which is free. An odd pixel goes to the end.
        return {"strides": strides, "auto_pad": "SAME_UPPER"}
    totals = [step * (length - 1) for step, length in zip(dilation, size, strict=True)]
    return {"strides": strides, "pads": [total // 2 for total in totals] + [(t + 1) // 2 for t in totals]}


def _single(layer: Layer, inputs: Sequence[_Value]) -> _Value:
    if len(inputs) != 1:
        raise _LayerError(f"takes {len(inputs)} inputs; expected one")
    return inputs[0]


def _weight(layer: Layer, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    found = layer.weights.get(name)
    if found is None:
        present = _listed(layer.weights) or "none"
        raise _LayerError(f"the file has no weight {name!r} of it; it has {present}")
    if found.shape != shape:
        raise _LayerError(f"its weight {name!r} has shape {found.shape}; expected {shape}")
    return found


def _pair(value: Any) -> tuple[int, int]:
    first, second = _either(value)
    return int(first), int(second)


def _either(value: Any) -> Sequence[Any]:
    """Keras' way to give one value for both axes, or one for each."""
    return (value, value) if isinstance(value, int) else value


def _require_channels_last(config: Mapping[str, Any]) -> None:
    if config.get("data_format") not in (None, "channels_last"):
        raise _LayerError(f"data_format = {config['data_format']!r}; expected 'channels_last'")


def _require_channel_axis(layer: Layer) -> None:
    axis = layer.config.get("axis", -1)
    if axis not in (3, -1, [3], [-1]):
        raise _LayerError(f"axis = {axis}; expected the channels, 3 or -1")


def _try_densedepth(path: Path, model: ModelProto, content: bytes) -> None:
    """Run the network on a small noisy picture, and check that it answers as DenseDepth does.

    Raises:
        DepthModelError: It does not.
    """
    import onnxruntime

    side = 64
    channels = model.graph.input[0].type.tensor_type.shape.dim[3].dim_value
    picture = np.random.default_rng(0).random((1, side, side, channels), np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {model.graph.input[0].name: picture})
    except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
        raise DepthModelError(
            f"The network in {path} cannot run on a picture of {side}x{side}: {exc}"
        ) from exc
    expected = (1, side // 2, side // 2, 1)
    if channels != 3 or answer.shape != expected:
        raise DepthModelError(
            f"{path} is not DenseDepth: from {picture.shape} its network makes {answer.shape}; DenseDepth "
            f"makes {expected} from {(1, side, side, 3)}. Other networks go through import_keras."
        )
    if not np.isfinite(answer).all():
        raise DepthModelError(f"The network in {path} gives values that are not finite: the file is damaged.")


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".fgbgpack-{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as exc:
        raise DepthModelError(f"{path} cannot be written: {exc.strerror}.") from exc
    finally:
        aside.unlink(missing_ok=True)


def _listed(values: Any) -> str:
    return ", ".join(repr(value) for value in values)
