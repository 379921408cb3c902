"""A depth model's card, compiled into its graph.

The compiled graph takes rendered pictures and gives depth as it is stored, so that everything between the two
runs on the device of the network, and the host only binds buffers:

    images, uint8 (n, h * scale, w * scale, 3), RGB
      -> channel order, network's size, range, mean, std, layout       [card: input]
      -> the network, in float32 or (precision "fp16") float16       [depth/precision.py]
      -> (n, 1, H, W), transform to the card's quantity                 [card: output]
      -> average down to (n, 1, h, w)
      -> the grid                                                     [step, float32 (1,)]
    depth, float16 (n, h, w)

A network that takes the mask or the background's depth has more inputs and nodes: see
:mod:`fgbgpack.depth.guided`.

**The grid.** The low bits of a network's answer are noise that no codec can compress. So values are rounded
to multiples of ``step``, a power of two that is an input of the graph; 0 keeps them. Multiples up to 2048
times ``step`` are exact in float16; larger values are rounded once more, to the spacing of float16 there.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

from fgbgpack.depth.card import Card, NetworkInput, Quantity, Size, card_error
from fgbgpack.depth.guided import Guidance
from fgbgpack.depth.model import DepthModel
from fgbgpack.depth.nodes import Nodes, resampling, resize, resize_to
from fgbgpack.depth.onnx_file import (
    bind_batch,
    declared_shape,
    file_error,
    graphs_of,
    inputs_of,
    opset_of,
    outputs_of,
    read_graph,
)
from fgbgpack.depth.precision import Precision, in_half
from fgbgpack.depth.weights import Weights
from fgbgpack.errors import DepthModelError

#: The compiled graph's inputs and its output.
IMAGES, STEP, DEPTH = "images", "step", "depth"

#: The oldest opset with the operators written here (``Round`` is the newest of them).
_OLDEST_OPSET = 11

#: Prefix of every name of the network, so that none collides with ours.
_NETWORK = "network/"

_FLOAT16_BITS = 10  # stored bits of its significand
_FLOAT16_SMALLEST = 2.0**-24  # its smallest positive value, and its spacing near zero


def compile_graph(
    model: DepthModel,
    sample: Size,
    *,
    scale: int = 1,
    precision: Precision = "fp32",
    background: Quantity | None = None,
) -> ModelProto:
    """Compiles the card of ``model`` into its graph, for samples of ``(height, width)`` and pictures
    ``scale`` times larger.

    The graph has the inputs ``images``: uint8 ``(n, height * scale, width * scale, 3)``, RGB; those of the
    card's guides, see :mod:`fgbgpack.depth.guided`; and ``step``: float32 ``(1,)``, the grid. It has one
    output, ``depth``: float16 ``(n, height, width)``, in the card's quantity and unit, or for a guided
    network in ``background``. ``n`` is free, or the number that the network is bound to. Everything around
    the network is in float32. Large weights in files beside the model's file stay there: see
    :func:`new_session`.

    Raises:
        DepthModelError: The network's opset is too old to be converted, or it cannot run at this size, scale
            or precision; or it is a guided network, and ``background`` is not given.
        ValueError: ``background`` is given for a network that is not guided.
    """
    _check_guidance(model, scale, background)
    card, network = model.card, _network(model)
    rendered = (sample[0] * scale, sample[1] * scale)
    size = card.input.size.size_for(*rendered)
    batch = _bind_inputs(network.graph, card, size)
    answer_size = _answer_size(model, network)
    answer_type = outputs_of(network.graph)[card.output.name].type.tensor_type.elem_type
    _add_prefix(network.graph)
    if precision == "fp16":
        network = in_half(network, model)

    nodes = Nodes(opset_of(network))
    guidance = Guidance(nodes, card, sample, background)
    fed = {card.input.name: _feed(nodes, card.input, rendered, size)}
    for name, value in {**fed, **guidance.feed(size)}.items():
        nodes.add("Identity", value, output=_NETWORK + name)
    first = nodes.take()
    answer = _NETWORK + card.output.name
    if answer_type != TensorProto.FLOAT:
        answer = nodes.add("Cast", answer, to=TensorProto.FLOAT)
    answer = nodes.add("Reshape", answer, np.array([-1, 1, *answer_size]))
    answer = _transform(nodes, answer, card.output.transform)
    answer = _average_down(nodes, answer, answer_size, sample, scale)
    answer = guidance.settle(answer)
    answer = nodes.add("Reshape", _to_grid(nodes, answer), np.array([-1, *sample]))
    # Last, as a reshape at the end would copy what another node has just written.
    nodes.add("Cast", answer, to=TensorProto.FLOAT16, output=DEPTH)

    n: int | str = "n" if batch is None else batch
    graph = helper.make_graph(
        [*first, *network.graph.node, *nodes.take()],
        "fgbgpack_depth",
        [
            helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, [n, *rendered, 3]),
            *guidance.inputs(n),
            helper.make_tensor_value_info(STEP, TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info(DEPTH, TensorProto.FLOAT16, [n, *sample])],
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
    # The checker looks for files of weights in the current folder.
    if not any(tensor.external_data for tensor in compiled.graph.initializer):
        try:
            onnx.checker.check_model(compiled)
        except onnx.checker.ValidationError as exc:
            raise file_error(f"{model.path} is not a valid ONNX graph: {exc}") from exc
    return compiled


def rounding_bound(minimum: float, maximum: float, step: float) -> float:
    """The largest rounding error of stored depth, as a fraction of its range: half the step, and half the
    spacing of float16 at the largest magnitude where that is coarser, over ``maximum - minimum``; 0 where
    that is 0.
    """
    if maximum == minimum:
        return 0.0
    # frexp gives a fraction in [0.5, 1): the exponent less one is floor(log2), exactly.
    spacing = math.ldexp(1.0, math.frexp(max(abs(minimum), abs(maximum)))[1] - 1 - _FLOAT16_BITS)
    spacing = max(spacing, _FLOAT16_SMALLEST)
    return (step + (spacing if spacing > step else 0.0)) / 2 / (maximum - minimum)


def _check_guidance(model: DepthModel, scale: int, background: Quantity | None) -> None:
    if not model.card.is_guided:
        if background is not None:
            raise ValueError(f"background: {model.name} is not a guided network and takes no backgrounds")
    elif background is None:
        raise DepthModelError(
            f"{model.name!r} is a guided network: it needs the depth of the empty background. Use it beside "
            f"a scene network: --depth-mode guided --depth-model SCENE_NETWORK --depth-guide {model.name}",
            code="model-kind-mismatch",
        )
    elif scale != 1:
        raise DepthModelError(
            f"{model.name!r} is a guided network, which sees pictures at the sample's own size: found scale "
            f"{scale}, expected 1. The scale applies to the backgrounds, which the scene network sees.",
            code="model-kind-mismatch",
        )


def _feed(nodes: Nodes, source: NetworkInput, rendered: Size, size: Size) -> str:
    value, axes = IMAGES, "NHWC"
    is_resized, is_bytes = rendered != size, source.dtype == "uint8"
    if source.channels == "BGR":
        value = nodes.add("Gather", value, np.array([2, 1, 0]), axis=3)
    if source.planes == "NCHW" or is_resized:
        # Transposed as bytes, in a quarter of the memory of floats.
        value, axes = nodes.add("Transpose", value, perm=[0, 3, 1, 2]), "NCHW"
    if is_resized or not is_bytes:
        value = nodes.add("Cast", value, to=TensorProto.FLOAT)
    value = resize_to(nodes, value, rendered, size, source.filter)
    if not is_bytes:
        value = _normalise(nodes, value, source, axes)
    elif is_resized:
        value = nodes.clip(nodes.add("Round", value), 0, 255)
        value = nodes.add("Cast", value, to=TensorProto.UINT8)
    if axes != source.planes:
        value = nodes.add("Transpose", value, perm=[0, 2, 3, 1])
    if source.dtype == "float16":
        value = nodes.add("Cast", value, to=TensorProto.FLOAT16)
    if source.layout != source.planes:
        value = nodes.add("Reshape", value, np.array(source.shape(size, channels=3)))
    return value


def _normalise(nodes: Nodes, value: str, source: NetworkInput, axes: str) -> str:
    """0..255 to the card's range, less mean, over std: one product and one sum."""
    low, high = source.range
    std = np.array(source.std or [1, 1, 1], np.float64)
    factor = (high - low) / 255 / std
    offset = (low - np.array(source.mean or [0, 0, 0], np.float64)) / std
    shape = (3, 1, 1) if axes == "NCHW" else (3,)
    if (factor != 1).any():
        value = nodes.add("Mul", value, factor.reshape(shape).astype(np.float32))
    if (offset != 0).any():
        value = nodes.add("Add", value, offset.reshape(shape).astype(np.float32))
    return value


def _transform(nodes: Nodes, value: str, steps: Iterable[Mapping[str, Any]]) -> str:
    for step in steps:
        match next(iter(step.items())):
            case "clip", (low, high):
                value = nodes.clip(value, low, high)
            case "multiply", factor:
                value = nodes.add("Mul", value, np.array(factor, np.float32))
            case "add", offset:
                value = nodes.add("Add", value, np.array(offset, np.float32))
            case "sigmoid", _:
                value = nodes.add("Sigmoid", value)
            case _, dividend:
                value = nodes.add("Div", np.array(dividend, np.float32), value)
    return value


def _average_down(nodes: Nodes, value: str, answer: Size, sample: Size, scale: int) -> str:
    """Brings the answer to the sample's size: one with a whole number of values for each pixel is averaged;
    any other is resized to the rendered size and averaged from there, both in one product of weights.
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
    return resize(nodes, value, vertical, horizontal)


def _to_grid(nodes: Nodes, value: str) -> str:
    """Rounds to multiples of ``step``, or not at all where that is 0."""
    is_given = nodes.add("Greater", STEP, np.array([0.0], np.float32))
    divisor = nodes.add("Where", is_given, STEP, np.array([1.0], np.float32))
    rounded = nodes.add("Mul", nodes.add("Round", nodes.add("Div", value, divisor)), divisor)
    return nodes.add("Where", is_given, rounded, value)


def _network(model: DepthModel) -> ModelProto:
    """The model's own graph, without stored intermediate shapes, in an opset that has our operators."""
    network = read_graph(model.path)
    Weights(model.path, network).embed(network)
    inputs = list(inputs_of(network.graph).values())  # weights among them would not be constants
    opset = opset_of(network)
    if opset < _OLDEST_OPSET:
        try:
            network = onnx.version_converter.convert_version(network, _OLDEST_OPSET)
        except Exception as exc:  # the converter raises whatever its adapters do
            raise DepthModelError(
                f"{model.path} is of ONNX opset {opset} and could not be brought to opset {_OLDEST_OPSET}: "
                f"re-export the network with opset >= {_OLDEST_OPSET}. ({exc})",
                code="model-not-runnable",
            ) from exc
    _sort(network.graph)
    del network.graph.input[:], network.graph.value_info[:], network.graph.quantization_annotation[:]
    network.graph.input.extend(inputs)
    return network


def _sort(graph: GraphProto) -> None:
    """Brings the nodes of a graph in an order in which each follows what it needs, in place. ONNX demands
    that; ONNX Runtime does not, and what converts weights to float16 puts its casts at the end.
    """
    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [{maker[name] for name in _needed(node) if name in maker} for node in graph.node]
    if all(max(needed, default=-1) < i for i, needed in enumerate(needs)):
        return
    users: dict[int, list[int]] = {}
    for i, needed in enumerate(needs):
        for earlier in needed:
            users.setdefault(earlier, []).append(i)
    missing = [len(needed) for needed in needs]
    ready = [i for i, count in enumerate(missing) if count == 0]
    ordered = []
    while ready:
        i = heapq.heappop(ready)
        ordered.append(onnx.NodeProto.FromString(graph.node[i].SerializeToString()))
        for user in users.get(i, ()):
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(ready, user)
    if len(ordered) == len(graph.node):  # a cycle has its own error
        del graph.node[:]
        graph.node.extend(ordered)


def _needed(node: onnx.NodeProto) -> set[str]:
    """The names that a node, and the graphs within it, take from elsewhere or from each other."""
    inner = (name for graph in graphs_of(node) for part in graph.node for name in _needed(part))
    return {*node.input, *inner}


def _bind_inputs(graph: GraphProto, card: Card, size: Size) -> int | None:
    """Sets the size of the network's inputs. Returns the batch size that it is bound to, None if free."""
    channels = card.inputs
    values = [value for value in graph.input if value.name in channels]
    batches = [(declared_shape(value) or [None])[0] for value in values]
    batch = next((bound for bound in (card.input.batch, *batches) if bound is not None), None)
    for value in values:
        n: int | str = "n" if batch is None else batch
        _, *sides = card.input.shape(size, channels=channels[value.name])
        dims = [n, *sides]
        element = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, element, dims))
    return batch


def _answer_size(model: DepthModel, network: ModelProto) -> Size:
    """The size ``(H, W)`` of the network's answer: inferred, or else measured."""
    result = model.card.output
    probe = ModelProto()
    probe.CopyFrom(network)
    bind_batch(probe.graph)
    outputs_of(probe.graph)[result.name].type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(probe, data_prop=True)
        dims = declared_shape(outputs_of(inferred.graph)[result.name])
    except Exception:  # inference raises anything; running the network decides
        dims = None
    if dims is None or None in dims:
        dims = _measured_shape(model, probe)
    sides = dict(zip(result.axes, dims, strict=False))
    if len(dims) != len(result.axes) or sides.get("1", 1) != 1:
        raise card_error(
            f"{model.path}: the output {result.name!r} has shape {dims} for one picture; the card says "
            f"{result.axes}."
        )
    return cast(Size, (sides["H"], sides["W"]))


def _measured_shape(model: DepthModel, probe: ModelProto) -> list[int | None]:
    """The shape of the network's answer to one black picture, on the CPU."""
    black = {}
    for value in probe.graph.input:
        size = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        black[value.name] = np.zeros(size, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    try:
        session = new_session(model, probe, session_options(), providers=["CPUExecutionProvider"])
        return list(session.run([model.card.output.name], black)[0].shape)
    except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
        size = list(black[model.card.input.name].shape)
        raise DepthModelError(
            f"{model.path} cannot run on an input of shape {size}: {exc}", code="model-not-runnable"
        ) from exc


def session_options() -> Any:
    """Options of an ONNX Runtime session that silence its log, since failures are raised."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def new_session(model: DepthModel, network: ModelProto, options: Any, **arguments: Any) -> Any:
    """An ONNX Runtime session on the model's graph, alone or compiled, with the weights in files beside the
    model's. ``arguments`` are those of ONNX Runtime. Raises DepthModelError where weights cannot be read.
    """
    import onnxruntime

    weights = Weights(model.path, network).values(network.graph)
    if weights:
        # They point into these arrays, which must last until the session has copied them.
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(network.SerializeToString(), options, **arguments)


def _add_prefix(graph: GraphProto) -> None:
    """Puts the prefix before every name of the graph and of the graphs within its nodes."""
    for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.name = _NETWORK + entry.name
    for sparse in graph.sparse_initializer:
        sparse.values.name = _NETWORK + sparse.values.name
    for node in graph.node:
        node.name = node.name and _NETWORK + node.name
        node.input[:] = [name and _NETWORK + name for name in node.input]
        node.output[:] = [name and _NETWORK + name for name in node.output]
        for inner in graphs_of(node):
            _add_prefix(inner)
