"""A network whose heavy work runs in float16.

Products (convolutions, matrix products) take float16 and give float16, and what follows them stays float16
as long as all that it is given is. Sums over many values, powers and roots are taken in float32, and so is
all that is not computed from the pictures: sizes worked out in floating point are exact only so. ONNX
Runtime comes with a converter of its own, which turns those sizes into float16 as well, brings weights beyond
65504 down to it without a word, and takes the bytes of weights that lie in files of their own for float16.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fgbgpack.depth.card import DepthModel
from fgbgpack.errors import DepthModelError

Precision = Literal["fp32", "fp16"]

#: What is always taken in float16: here the time goes, and products are what GPUs are fast at.
_PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}

#: What never is. Where these overflow, a division may follow that makes of the infinity a plausible zero.
_WIDE = {
    "Pow", "Exp", "Sqrt", "Reciprocal", "CumSum", "ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL1",
    "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp",
}  # fmt: skip

#: What gives a type that does not follow from what it is given, or only the shape of that.
_APART = {"Cast", "CastLike", "Shape", "Size", "Constant", "ConstantOfShape"}

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def in_half(network: ModelProto, model: DepthModel) -> ModelProto:
    """The same network, with float16 where it pays and does no harm. Inputs and outputs keep their types.

    Args:
        network: The network. A network that is in float16 already comes back as it is.
        model: Where it is from: weights may lie in files beside its file.

    Raises:
        DepthModelError: Nothing of it can run in float16.
    """
    if network.functions:
        network = onnx.inliner.inline_local_functions(network)
    converter = _Converter(network, model)
    if not converter.convert() and TensorProto.FLOAT16 not in converter.types.values():
        raise DepthModelError(
            f"{model.path} cannot run in fp16: none of its products (Conv, ConvTranspose, MatMul, Gemm) is "
            "in float32. Give --precision fp32."
        )
    return network


class _Converter:
    """Goes through a graph in order. Each float32 tensor may get a float16 twin, or be there as that only."""

    def __init__(self, network: ModelProto, model: DepthModel) -> None:
        self._graph = network.graph
        self._folder = str(model.path.resolve().parent)
        self._opset = next(entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx"))
        self._constants = {tensor.name: tensor for tensor in network.graph.initializer}
        self.types = {name: tensor.data_type for name, tensor in self._constants.items()}
        self.types |= _inferred_types(network, model)
        self._fed = {value.name for value in network.graph.input}
        self._nodes: list[NodeProto] = []
        self._twins: dict[str, str] = {}
        self._only_half: set[str] = set()

    def convert(self) -> int:
        """Convert the graph in place. Returns how many of its nodes run in float16 now."""
        count = 0
        for node in self._graph.node:
            is_fed = any(name in self._fed for name in _used_by(node))
            halved = self._halved_kinds(node) if is_fed else None
            if halved:
                self._add_half(node, halved)
                count += 1
            else:
                for name in _used_by(node):
                    self._make_whole(name)
                self._nodes.append(node)
            if is_fed and node.op_type not in ("Shape", "Size"):
                self._fed.update(node.output)
            if node.op_type == "Constant" and self.types.get(node.output[0]) == TensorProto.FLOAT:
                self._constants[node.output[0]] = _constant(node)
        for value in self._graph.output:
            self._make_whole(value.name)
        del self._graph.node[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._drop_unused_weights()
        return count

    def _halved_kinds(self, node: NodeProto) -> set[str] | None:
        """The types (as the operator's definition calls them) that become float16; None to leave the node."""
        if node.domain not in ("", "ai.onnx") or node.op_type in _WIDE | _APART or any(_graphs_of(node)):
            return None
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opset, "")
        except onnx.defs.SchemaError:
            return None
        allowed = {kind.type_param_str: kind.allowed_type_strs for kind in schema.type_constraints}
        kinds = set()
        for name, kind in zip(node.input, _kinds(schema.inputs), strict=False):
            if self.types.get(name) != TensorProto.FLOAT:
                continue
            is_fed = name in self._fed
            if is_fed and node.op_type not in _PRODUCTS and name not in self._twins:
                return None  # float32 beside float16 gives float32
            if "tensor(float16)" in allowed.get(kind, ()):
                if name in self._constants and not is_fed and not self._fits(name):
                    return None
                kinds.add(kind)
            elif is_fed:
                return None
        return kinds

    def _add_half(self, node: NodeProto, kinds: set[str]) -> None:
        schema = onnx.defs.get_schema(node.op_type, self._opset, "")
        half = NodeProto()
        half.CopyFrom(node)
        for index, kind in zip(range(len(node.input)), _kinds(schema.inputs), strict=False):
            name = node.input[index]
            if kind in kinds and self.types.get(name) == TensorProto.FLOAT:
                half.input[index] = self._twin(name)
            else:
                self._make_whole(name)
        for index, kind in zip(range(len(node.output)), _kinds(schema.outputs), strict=False):
            name = node.output[index]
            if name and kind in kinds:
                half.output[index] = self._twins[name] = _twin_name(name)
                self._only_half.add(name)
        self._nodes.append(half)

    def _twin(self, name: str) -> str:
        """The float16 twin of a float32 tensor, made where there is none yet."""
        if name not in self._twins:
            twin = self._twins[name] = _twin_name(name)
            if name in self._constants:
                value = self._value(name)
                # What is not 0 stays that way: the small number that keeps a division from 0 has to.
                small = (value != 0) & (np.abs(value) < _SMALLEST)
                value = np.where(small, np.copysign(_SMALLEST, value), value)
                self._graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), twin))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [twin], twin, to=TensorProto.FLOAT16))
        return self._twins[name]

    def _make_whole(self, name: str) -> None:
        """Make sure that the float32 tensor of that name is there."""
        if name in self._only_half:
            self._only_half.remove(name)
            cast_name = f"whole/{name}"
            self._nodes.append(
                helper.make_node("Cast", [self._twins[name]], [name], cast_name, to=TensorProto.FLOAT)
            )

    def _fits(self, name: str) -> bool:
        value = self._value(name)
        return bool((np.abs(value[np.isfinite(value)]) <= _LARGEST).all())

    def _value(self, name: str) -> NDArray[np.float32]:
        value = numpy_helper.to_array(self._constants[name], self._folder)
        return cast(NDArray[np.float32], value)

    def _drop_unused_weights(self) -> None:
        used = {name for node in self._graph.node for name in _used_by(node)}
        used |= {value.name for value in self._graph.output}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)


def _constant(node: NodeProto) -> TensorProto:
    value = helper.get_attribute_value(node.attribute[0])
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(np.array(value, np.float32))


def _twin_name(name: str) -> str:
    return f"half/{name}"


def _inferred_types(network: ModelProto, model: DepthModel) -> dict[str, int]:
    """The element type of every tensor that the nodes give or are fed."""
    try:
        graph = onnx.shape_inference.infer_shapes(network).graph
    except Exception as exc:  # it raises whatever it stumbles on
        raise DepthModelError(
            f"{model.path} cannot run in fp16, as the types of its tensors cannot be told: {exc}. Give "
            "--precision fp32."
        ) from exc
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def _kinds(formal: Sequence[onnx.defs.OpSchema.FormalParameter]) -> Iterator[str]:
    """The type of each parameter, as the operator's definition calls it; the last may stand for many."""
    for parameter in formal:
        yield parameter.type_str
    while formal and formal[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic:
        yield formal[-1].type_str


def _graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def _used_by(node: NodeProto) -> Iterator[str]:
    """The tensors that a node is given, and those that graphs within it take from around it."""
    yield from node.input
    for graph in _graphs_of(node):
        for inner in graph.node:
            yield from _used_by(inner)
        yield from (value.name for value in graph.output)
