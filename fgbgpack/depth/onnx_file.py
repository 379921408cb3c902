"""Reading ONNX files: the graph, its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from fgbgpack.errors import DepthModelError
from fgbgpack.inputs import read_file

_LARGEST_PROTOBUF = (2 << 30) - 1  # bytes


def file_error(message: str) -> DepthModelError:
    """The error of a model's file that cannot be read."""
    return DepthModelError(message, code="model-file-corrupt")


def read_graph(path: Path) -> onnx.ModelProto:
    """Reads an ONNX file; tensors in files beside it stay there. Raises DepthModelError where it is none."""
    try:
        model = onnx.load_model_from_string(read_file(path, _LARGEST_PROTOBUF))
    except OSError as exc:
        raise file_error(f"{path} cannot be read: {exc.strerror}.") from exc
    except DecodeError as exc:
        raise file_error(
            f"{path} is not an ONNX file, or is truncated ({path.stat().st_size} bytes). Download it again; "
            "a file that was cloned with git may be only a pointer to large file storage."
        ) from exc
    if not model.opset_import or not model.graph.node:
        what = "is empty (0 bytes)" if path.stat().st_size == 0 else "holds no network"
        raise file_error(f"{path} {what}: an ONNX file was expected.")
    return model


def inputs_of(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
    """The inputs of a graph by name, without weights, which old files list as inputs too."""
    weights = {tensor.name for tensor in graph.initializer}
    return {value.name: value for value in graph.input if value.name not in weights}


def outputs_of(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
    """The outputs of a graph by name."""
    return {value.name: value for value in graph.output}


def declared_shape(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """The declared shape of a tensor, with ``None`` for a free axis; ``None`` where there is no shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim
    ]


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs within a node, such as the branches of an ``If``."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def bind_batch(graph: onnx.GraphProto) -> None:
    """Sets a free batch axis of the inputs to 1, in place."""
    for value in graph.input:
        batch = value.type.tensor_type.shape.dim[0]
        if batch.dim_param:
            batch.dim_value = 1


def dtype_name(value: onnx.ValueInfoProto) -> str:
    """ONNX's name of the element type of a tensor, such as ``"float"``."""
    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type)).lower()


def opset_of(network: onnx.ModelProto) -> int:
    """The version of the ONNX operators that a network uses; 0 where it uses none of them."""
    return next((entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx")), 0)


def listed(names: Iterable[object]) -> str:
    """Names for a message, in quotes, separated by commas."""
    return ", ".join(repr(name) for name in names) or "none"


def shape_text(dims: list[int | None]) -> str:
    """A declared shape for a message."""
    return "(" + ", ".join("free" if dim is None else str(dim) for dim in dims) + ")"
