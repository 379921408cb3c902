"""A depth model's card, compiled into its graph.

The compiled graph takes the batch as it is rendered and gives the batch as it is stored, so that all
work between the two runs where the network runs, and the host only binds buffers:

    images, uint8 (n, h * scale, w * scale, 3), RGB
      -> channel order, network's size, range, mean, std, layout       [card: input]
      -> the network, in float32 or (precision "fp16") float16       [depth/precision.py]
      -> (n, 1, H, W), transform to the card's quantity                 [card: output]
      -> average down to (n, 1, h, w)
      -> the grid                                                     [step, float32 (1,)]
    depth, float16 (n, h, w)

**Resizing** is two matrix products with constant weights. ONNX's own ``Resize`` differs between opsets
and execution providers and cannot antialias before opset 18; a product does the same everywhere.

**The grid.** The low bits of a network's answer are noise that no codec can compress. So values are
rounded to multiples of ``step``, a power of two that is the graph's second input; 0 leaves them as they
are. Multiples of it up to 2048 times as large are exactly a float16; larger values are rounded once more,
to the spacing of float16 there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from fgbgpack.depth.card import DepthModel, declared_shape, input_size, read_graph
from fgbgpack.depth.precision import Precision, in_half
from fgbgpack.errors import DepthModelError

Filter = Literal["nearest", "bilinear", "bicubic"]
Size = tuple[int, int]

#: The compiled graph's inputs and its output.
IMAGES, STEP, DEPTH = "images", "step", "depth"

#: The oldest opset whose operators this module writes (``Round`` came with it).
_OLDEST_OPSET = 11

#: Every name of the network gets this prefix, so that none is also one of ours.
_NETWORK = "network/"

_FLOAT16_BITS = 10  # stored bits of its significand
_FLOAT16_SMALLEST = 2.0**-24  # its smallest positive value, and its spacing near zero


def compile_graph(
    model: DepthModel, *, height: int, width: int, scale: int, precision: Precision = "fp32"
) -> ModelProto:
    """Compile the card of ``model`` into its graph.

    Args:
        model: The network and its card.
        height: Height of a sample; pictures are rendered ``scale`` times as high.
        width: Width of a sample; likewise.
        scale: How many times larger than the sample the pictures are rendered, at least 1.
        precision: What the network's own products are taken in; what is done before and after it is always
            in float32.

    Returns:
        A graph with two inputs, ``images``: uint8 ``(n, height * scale, width * scale, 3)``, RGB, and
        ``step``: float32 ``(1,)``, see the module's text; and one output, ``depth``: float16
        ``(n, height, width)``, in the card's quantity and unit. ``n`` is free, or the number that the
        network itself is bound to. Weights that lie in files beside the model's file are still there, not
        in the result.

    Raises:
        DepthModelError: The network's opset is too old to be converted, or it cannot run at this size or in
            this precision.
    """
    network = _network(model)
    rendered = (height * scale, width * scale)
    size = input_size(model.card, *rendered)
    batch = _bind_input(network.graph, model.card["input"], size)
    answer_size = _answer_size(model, network)
    answer_type = _output(network.graph, model).type.tensor_type.elem_type
    _add_prefix(network.graph)
    if precision == "fp16":
        network = in_half(network, model)

    nodes = _Nodes(_opset(network))
    fed = _feed(nodes, model.card["input"], rendered, size)
    nodes.add("Identity", fed, output=_NETWORK + model.card["input"]["name"])
    first = nodes.take()
    answer = _NETWORK + model.card["output"]["name"]
    if answer_type != TensorProto.FLOAT:
        answer = nodes.add("Cast", answer, to=TensorProto.FLOAT)
    answer = nodes.add("Reshape", answer, np.array([-1, 1, *answer_size]))
    answer = _transform(nodes, answer, model.card["output"].get("transform", []))
    answer = _average_down(nodes, answer, answer_size, (height, width), scale)
    answer = nodes.add("Cast", _to_grid(nodes, answer), to=TensorProto.FLOAT16)
    nodes.add("Reshape", answer, np.array([-1, height, width]), output=DEPTH)

    n: int | str = "n" if batch is None else batch
    graph = helper.make_graph(
        [*first, *network.graph.node, *nodes.take()],
        "fgbgpack_depth",
        [
            helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, [n, *rendered, 3]),
            helper.make_tensor_value_info(STEP, TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info(DEPTH, TensorProto.FLOAT16, [n, height, width])],
        [*network.graph.initializer, *nodes.constants],
        sparse_initializer=list(network.graph.sparse_initializer),
    )
    compiled = helper.make_model(
        graph,
        producer_name="fgbgpack",
        ir_version=max(network.ir_version, 6),
        opset_imports=list(network.opset_import),
        functions=list(network.functions),
    )
    _check(model, compiled)
    return compiled


def rounding_bound(minimum: float, maximum: float, step: float) -> float:
    """How far stored depth can lie from what the network said, as a fraction of the range of all of it.

    Args:
        minimum: The smallest stored value, finite.
        maximum: The largest stored value, finite.
        step: The grid that values were rounded to, a power of two.

    Returns:
        Half the step, and half the spacing of float16 at the largest magnitude where that is coarser than
        the step, over ``maximum - minimum``; 0 where that is 0.
    """
    if maximum == minimum:
        return 0.0
    # frexp gives a fraction in [0.5, 1): the exponent less one is floor(log2), exactly.
    spacing = math.ldexp(1.0, math.frexp(max(abs(minimum), abs(maximum)))[1] - 1 - _FLOAT16_BITS)
    spacing = max(spacing, _FLOAT16_SMALLEST)
    return (step + (spacing if spacing > step else 0.0)) / 2 / (maximum - minimum)


def resampling(source: int, target: int, filter_name: Filter) -> NDArray[np.float64]:
    """The weights that resize one axis, as Pillow does it on floating-point pictures.

    Pixel centres lie at half-integers; shrinking stretches the filter by the same factor
    (antialiasing), except for ``nearest``; at the borders the weights of the pixels that exist are
    scaled to the sum 1. Bicubic is the kernel of Keys (1981), "Cubic convolution interpolation for
    digital image processing", equation 15: a = -1/2.

    Args:
        source: Length of the axis.
        target: Length that it shall have.
        filter_name: The filter.

    Returns:
        ``(target, source)``, float64; each row has sum 1.
    """
    ratio = source / target
    centres = (np.arange(target) + 0.5) * ratio
    if filter_name == "nearest":
        # Where a centre lies between two pixels, rounding decides: so it is rounded as in Pillow, sum by sum.
        centres = np.cumsum(np.r_[ratio / 2, np.full(target - 1, ratio)])
        return np.eye(source)[np.minimum(centres.astype(np.int64), source - 1)]
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / max(ratio, 1.0)
    if filter_name == "bilinear":
        weights = np.maximum(0.0, 1.0 - distance)
    else:
        near = (1.5 * distance - 2.5) * distance**2 + 1.0
        far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
        weights = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
    return cast(NDArray[np.float64], weights / weights.sum(axis=1, keepdims=True))


class _Nodes:
    """Nodes being written, in order, with their constants, in the network's own opset."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.constants: list[TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._count = 0

    def add(self, op: str, *inputs: str | NDArray[Any], output: str = "", **attributes: Any) -> str:
        """Append a node; arrays among its inputs become constants. Returns the name of its output."""
        self._count += 1
        name = f"fgbgpack/{self._count}_{op}"
        names = []
        for index, value in enumerate(inputs):
            if not isinstance(value, str):
                self.constants.append(numpy_helper.from_array(value, f"{name}/{index}"))
                value = self.constants[-1].name
            names.append(value)
        self._nodes.append(helper.make_node(op, names, [output or name], name=name, **attributes))
        return output or name

    def clip(self, value: str, low: float, high: float) -> str:
        """Clip, but leave NaN alone: what ``Clip`` makes of it depends on the provider."""
        low_, high_ = np.float32(low), np.float32(high)
        value = self.add("Where", self.add("Less", value, np.array(low_)), np.array(low_), value)
        return self.add("Where", self.add("Greater", value, np.array(high_)), np.array(high_), value)

    def take(self) -> list[onnx.NodeProto]:
        """The nodes since the last call."""
        nodes, self._nodes = self._nodes, []
        return nodes


def _feed(nodes: _Nodes, card: Mapping[str, Any], rendered: Size, size: Size) -> str:
    """From the rendered picture to what the network's input takes."""
    value, axes = IMAGES, "NHWC"
    if card["channels"] == "BGR":
        value = nodes.add("Gather", value, np.array([2, 1, 0]), axis=3)
    if card["layout"] == "NCHW" or rendered != size:
        # Moved as bytes, not as floats: a quarter of the memory.
        value, axes = nodes.add("Transpose", value, perm=[0, 3, 1, 2]), "NCHW"
    wants_bytes = card.get("dtype", "float32") == "uint8"
    if rendered != size or not wants_bytes:
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    if rendered != size:
        vertical, horizontal = (
            resampling(source, target, card.get("filter", "bilinear"))
            for source, target in zip(rendered, size, strict=True)
        )
        value = _resize(nodes, value, vertical, horizontal)
    if wants_bytes:
        if rendered != size:
            value = nodes.clip(nodes.add("Round", value), 0, 255)
            value = nodes.add("Cast", value, to=TensorProto.UINT8)
    else:
        value = _normalise(nodes, value, card, axes)
    if axes != card["layout"]:
        value = nodes.add("Transpose", value, perm=[0, 2, 3, 1])
    if card.get("dtype") == "float16":
        value = nodes.add("Cast", value, to=TensorProto.FLOAT16)
    return value


def _normalise(nodes: _Nodes, value: str, card: Mapping[str, Any], axes: str) -> str:
    """0..255 to the card's range, less mean, over std: one product and one sum."""
    low, high = card["range"]
    std = np.array(card.get("std", [1, 1, 1]), np.float64)
    factor = (high - low) / 255 / std
    offset = (low - np.array(card.get("mean", [0, 0, 0]), np.float64)) / std
    shape = (3, 1, 1) if axes == "NCHW" else (3,)
    if (factor != 1).any():
        value = nodes.add("Mul", value, factor.reshape(shape).astype(np.float32))
    if (offset != 0).any():
        value = nodes.add("Add", value, offset.reshape(shape).astype(np.float32))
    return value


def _resize(nodes: _Nodes, value: str, vertical: NDArray[Any], horizontal: NDArray[Any]) -> str:
    """Apply weights to the last two axes, in the order that takes fewer multiplications."""
    (tall, h), (wide, w) = vertical.shape, horizontal.shape
    rows_first = tall * w * (h + wide) <= wide * h * (w + tall)
    for rows in (rows_first, not rows_first):
        weights = (vertical if rows else horizontal.T).astype(np.float32)
        if weights.shape[0] != weights.shape[1] or (weights != np.eye(len(weights))).any():
            value = nodes.add("MatMul", weights, value) if rows else nodes.add("MatMul", value, weights)
    return value


def _transform(nodes: _Nodes, value: str, steps: Iterable[Mapping[str, Any]]) -> str:
    """The card's steps from the raw answer to its quantity."""
    for step in steps:
        match next(iter(step.items())):
            case "clip", (low, high):
                value = nodes.clip(value, low, high)
            case "multiply", factor:
                value = nodes.add("Mul", value, np.array(factor, np.float32))
            case "add", offset:
                value = nodes.add("Add", value, np.array(offset, np.float32))
            case _, dividend:
                value = nodes.add("Div", np.array(dividend, np.float32), value)
    return value


def _average_down(nodes: _Nodes, value: str, answer: Size, sample: Size, scale: int) -> str:
    """Bring the answer to the sample's size.

    An answer of a whole number of values for each pixel is averaged; any other is resized to the rendered
    size and averaged from there (both in one, since one product of weights does both).
    """
    down, right = answer[0] // sample[0], answer[1] // sample[1]
    if answer == (down * sample[0], right * sample[1]):
        if (down, right) == (1, 1):
            return value
        return nodes.add("AveragePool", value, kernel_shape=[down, right], strides=[down, right])
    vertical, horizontal = (
        np.kron(np.eye(size), np.full((1, scale), 1 / scale)) @ resampling(source, size * scale, "bilinear")
        for source, size in zip(answer, sample, strict=True)
    )
    return _resize(nodes, value, vertical, horizontal)


def _to_grid(nodes: _Nodes, value: str) -> str:
    """Round to multiples of ``step``, or not at all where that is 0: see the module's text."""
    is_given = nodes.add("Greater", STEP, np.array([0.0], np.float32))
    divisor = nodes.add("Where", is_given, STEP, np.array([1.0], np.float32))
    rounded = nodes.add("Mul", nodes.add("Round", nodes.add("Div", value, divisor)), divisor)
    return nodes.add("Where", is_given, rounded, value)


def _network(model: DepthModel) -> ModelProto:
    """The model's own graph, without stored intermediate shapes, in an opset that has what we write."""
    network = read_graph(model.path)
    weights = {tensor.name for tensor in network.graph.initializer}
    # Old files list their weights as inputs too; as such they would not be constants.
    inputs = [value for value in network.graph.input if value.name not in weights]
    if _opset(network) < _OLDEST_OPSET:
        try:
            network = onnx.version_converter.convert_version(network, _OLDEST_OPSET)
        except Exception as exc:  # the converter raises whatever its adapters do
            raise DepthModelError(
                f"{model.path} is of ONNX opset {_opset(network)} and could not be brought to opset "
                f"{_OLDEST_OPSET}: re-export the network with opset >= {_OLDEST_OPSET}. ({exc})"
            ) from exc
    del network.graph.input[:], network.graph.value_info[:], network.graph.quantization_annotation[:]
    network.graph.input.extend(inputs)
    return network


def _opset(network: ModelProto) -> int:
    return next((entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _bind_input(graph: GraphProto, card: Mapping[str, Any], size: Size) -> int | None:
    """Give the network's input its size. Returns the batch size that it is bound to, None if it is free."""
    value = next(value for value in graph.input if value.name == card["name"])
    batch = (declared_shape(value) or [None])[0]
    sides = {"N": "n" if batch is None else batch, "C": 3, "H": size[0], "W": size[1]}
    element = value.type.tensor_type.elem_type
    dims = [sides[axis] for axis in card["layout"]]
    value.CopyFrom(helper.make_tensor_value_info(card["name"], element, dims))
    return batch


def _output(graph: GraphProto, model: DepthModel) -> onnx.ValueInfoProto:
    by_name: dict[str, onnx.ValueInfoProto] = {value.name: value for value in graph.output}
    return by_name[model.card["output"]["name"]]


def _answer_size(model: DepthModel, network: ModelProto) -> Size:
    """The size ``(H, W)`` of the network's answer: inferred, or measured where that cannot tell."""
    probe = ModelProto()
    probe.CopyFrom(network)
    _bind_batch(probe.graph, model)
    axes = model.card["output"]["axes"]
    try:
        inferred = onnx.shape_inference.infer_shapes(probe, data_prop=True)
        dims = declared_shape(_output(inferred.graph, model))
    except Exception:  # whatever it stumbles on, running the network decides
        dims = None
    if dims is None or None in dims:
        dims = _measured_shape(model, probe)
    sides = dict(zip(axes, dims, strict=False))
    if len(dims) != len(axes) or sides.get("1", 1) != 1:
        raise DepthModelError(
            f"{model.path}: the output {model.card['output']['name']!r} has shape {dims} for one picture; "
            f"the card says {axes}."
        )
    return cast(Size, (sides["H"], sides["W"]))


def _measured_shape(model: DepthModel, probe: ModelProto) -> list[int | None]:
    """The shape of the network's answer to one black picture, on the CPU."""
    import onnxruntime

    value = probe.graph.input[0]
    size = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    black = np.zeros(size, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    try:
        session = onnxruntime.InferenceSession(
            probe.SerializeToString(), session_options(model), providers=["CPUExecutionProvider"]
        )
        return list(session.run([model.card["output"]["name"]], {value.name: black})[0].shape)
    except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
        raise DepthModelError(f"{model.path} cannot run on an input of shape {size}: {exc}") from exc


def session_options(model: DepthModel) -> Any:
    """Options of an ONNX Runtime session on the model's graph, alone or compiled.

    They keep it silent, since what goes wrong is raised, and say where weights beside the file lie.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(model.path.resolve().parent)
    )
    return options


def _bind_batch(graph: GraphProto, model: DepthModel) -> None:
    """Bind a free batch to 1 in the network's input, and forget the declared shape of its output."""
    dims = graph.input[0].type.tensor_type.shape.dim
    if dims[0].dim_param:
        dims[0].dim_value = 1
    _output(graph, model).type.tensor_type.ClearField("shape")


def _add_prefix(graph: GraphProto) -> None:
    """Put the prefix before every name of the graph and of the graphs within its nodes."""
    for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.name = _NETWORK + entry.name
    for sparse in graph.sparse_initializer:
        sparse.values.name = _NETWORK + sparse.values.name
    for node in graph.node:
        node.name = node.name and _NETWORK + node.name
        node.input[:] = [name and _NETWORK + name for name in node.input]
        node.output[:] = [name and _NETWORK + name for name in node.output]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _add_prefix(inner)


def _check(model: DepthModel, compiled: ModelProto) -> None:
    if any(tensor.external_data for tensor in compiled.graph.initializer):
        return  # the checker would look for the files in the current folder
    try:
        onnx.checker.check_model(compiled)
    except onnx.checker.ValidationError as exc:
        raise DepthModelError(f"{model.path} is no valid ONNX graph: {exc}") from exc
