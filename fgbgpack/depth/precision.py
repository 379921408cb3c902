"""Networks whose heavy operations run in float16.

Products (convolutions, matrix products) run in float16, and so does what follows them as long as all of its
inputs are float16. Sums over many values, powers and roots stay in float32, and so does everything that does
not depend on the pictures: sizes computed in floating point are exact only so. The converter of ONNX Runtime
also turns those sizes into float16, clips weights beyond 65504 silently, and reads the bytes of weights in
external files as float16.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fgbgpack.depth.model import DepthModel
from fgbgpack.depth.onnx_file import graphs_of, opset_of
from fgbgpack.depth.weights import Weights
from fgbgpack.errors import DepthModelError

Precision = Literal["fp32", "fp16"]

#: Always in float16: most of the time goes into these, and GPUs run them fastest.
_PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}

#: Never in float16: where these overflow, a division may turn the infinity into a plausible zero.
_WIDE = {
    "Pow", "Exp", "Sqrt", "Reciprocal", "CumSum", "ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL1",
    "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp",
}  # fmt: skip

#: Operators whose output type, or whose whole output, does not follow from the type of their input.
_APART = {"Cast", "CastLike", "Shape", "Size", "Constant", "ConstantOfShape"}

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def _unsupported(message: str) -> DepthModelError:
    return DepthModelError(f"{message} Give --precision fp32.", code="precision-unsupported")


def in_half(network: ModelProto, model: DepthModel) -> ModelProto:
    """The network in float16 where that is fast and safe; inputs and outputs keep their types.

    One that is in float16 already is returned unchanged. Raises DepthModelError where none of it can run so.
    """
    if network.functions:
        network = onnx.inliner.inline_local_functions(network)
    converter = _Converter(network, model)
    if not converter.convert() and TensorProto.FLOAT16 not in converter.types.values():
        raise _unsupported(
            f"{model.path} cannot run in fp16: none of its products (Conv, ConvTranspose, MatMul, Gemm) is "
            "in float32."
        )
    return network


class _Converter:
    """Converts a graph in order. A float32 tensor may get a float16 twin, or exist as its twin only."""

    def __init__(self, network: ModelProto, model: DepthModel) -> None:
        self._graph = network.graph
        self._weights = Weights(model.path, network)
        self._opset = opset_of(network)
        self._constants = {tensor.name: tensor for tensor in network.graph.initializer}
        self.types = {name: tensor.data_type for name, tensor in self._constants.items()}
        self.types |= _inferred_types(network, model)
        # Tensors that depend on the pictures.
        self._fed = {value.name for value in network.graph.input}
        self._nodes: list[NodeProto] = []
        self._twins: dict[str, str] = {}
        self._only_half: set[str] = set()

    def convert(self) -> int:
        """Converts the graph in place. Returns how many nodes run in float16 now."""
        count = 0
        for node in self._graph.node:
            is_fed = any(name in self._fed for name in _used_by(node))
            halved = self._float16_types(node) if is_fed else None
            if halved:
                self._add_in_float16(node, halved)
                count += 1
            else:
                for name in _used_by(node):
                    self._ensure_float32(name)
                self._nodes.append(node)
            if is_fed and node.op_type not in ("Shape", "Size"):
                self._fed.update(node.output)
            if node.op_type == "Constant" and self.types.get(node.output[0]) == TensorProto.FLOAT:
                self._constants[node.output[0]] = _constant(node)
        for value in self._graph.output:
            self._ensure_float32(value.name)
        del self._graph.node[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in _used_by(node)}
        used |= {value.name for value in self._graph.output}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        return count

    def _float16_types(self, node: NodeProto) -> set[str] | None:
        """The type parameters of the operator that become float16; ``None`` to keep the node in float32."""
        if node.domain not in ("", "ai.onnx") or node.op_type in _WIDE | _APART or any(graphs_of(node)):
            return None
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opset, "")
        except onnx.defs.SchemaError:
            return None
        allowed = {kind.type_param_str: kind.allowed_type_strs for kind in schema.type_constraints}
        kinds = set()
        for name, kind in zip(node.input, _type_parameters(schema.inputs), strict=False):
            if self.types.get(name) != TensorProto.FLOAT:
                continue
            is_fed = name in self._fed
            if is_fed and node.op_type not in _PRODUCTS and name not in self._twins:
                return None  # float32 beside float16 gives float32
            if "tensor(float16)" in allowed.get(kind, ()):
                if name in self._constants and not is_fed:
                    value = self._value(name)
                    if (np.abs(value[np.isfinite(value)]) > _LARGEST).any():
                        return None
                kinds.add(kind)
            elif is_fed:
                return None
        return kinds

    def _add_in_float16(self, node: NodeProto, kinds: set[str]) -> None:
        schema = onnx.defs.get_schema(node.op_type, self._opset, "")
        half = NodeProto()
        half.CopyFrom(node)
        for index, kind in zip(range(len(node.input)), _type_parameters(schema.inputs), strict=False):
            name = node.input[index]
            if kind in kinds and self.types.get(name) == TensorProto.FLOAT:
                half.input[index] = self._twin(name)
            else:
                self._ensure_float32(name)
        for index, kind in zip(range(len(node.output)), _type_parameters(schema.outputs), strict=False):
            name = node.output[index]
            if name and kind in kinds:
                half.output[index] = self._twins[name] = f"half/{name}"
                self._only_half.add(name)
        self._nodes.append(half)

    def _twin(self, name: str) -> str:
        """The float16 twin of a float32 tensor, created if need be."""
        if name not in self._twins:
            twin = self._twins[name] = f"half/{name}"
            if name in self._constants:
                value = self._value(name)
                # Non-zero values stay non-zero: one may be the epsilon of a division.
                small = (value != 0) & (np.abs(value) < _SMALLEST)
                value = np.where(small, np.copysign(_SMALLEST, value), value)
                self._graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), twin))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [twin], twin, to=TensorProto.FLOAT16))
        return self._twins[name]

    def _ensure_float32(self, name: str) -> None:
        """Creates the float32 tensor of that name where only its twin exists."""
        if name in self._only_half:
            self._only_half.remove(name)
            half, node_name = self._twins[name], f"whole/{name}"
            self._nodes.append(helper.make_node("Cast", [half], [name], node_name, to=TensorProto.FLOAT))

    def _value(self, name: str) -> NDArray[np.float32]:
        return cast(NDArray[np.float32], self._weights.array(self._constants[name]))


def _constant(node: NodeProto) -> TensorProto:
    value = helper.get_attribute_value(node.attribute[0])
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(np.array(value, np.float32))


def _inferred_types(network: ModelProto, model: DepthModel) -> dict[str, int]:
    try:
        graph = onnx.shape_inference.infer_shapes(network).graph
    except Exception as exc:  # inference raises anything
        raise _unsupported(
            f"{model.path} cannot run in fp16, as the types of its tensors cannot be inferred: {exc}."
        ) from exc
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def _type_parameters(formal: Sequence[onnx.defs.OpSchema.FormalParameter]) -> Iterator[str]:
    """The type parameter of each formal parameter; a variadic last one repeats without end."""
    for parameter in formal:
        yield parameter.type_str
    while formal and formal[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic:
        yield formal[-1].type_str


def _used_by(node: NodeProto) -> Iterator[str]:
    """The inputs of a node, and of the graphs within it."""
    yield from node.input
    for graph in graphs_of(node):
        for inner in graph.node:
            yield from _used_by(inner)
        yield from (value.name for value in graph.output)
