"""What an ONNX file says of itself: the graph, its inputs and outputs, and the files it keeps weights in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from fgbgpack.errors import DepthModelError


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; tensors that lie in files beside it stay there.

    Raises:
        DepthModelError: The file cannot be read or is no ONNX file.
    """
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except OSError as exc:
        raise DepthModelError(f"{path} cannot be read: {exc.strerror}.") from exc
    except DecodeError as exc:
        raise DepthModelError(
            f"{path} is no ONNX file, or a truncated one ({path.stat().st_size} bytes). Download it again; "
            "a file that was cloned with git may be only a pointer to large file storage."
        ) from exc
    if not model.opset_import or not model.graph.node:
        what = "is empty (0 bytes)" if path.stat().st_size == 0 else "holds no network"
        raise DepthModelError(f"{path} {what}: an ONNX file was expected.")
    return model


def inputs_of(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
    """The tensors that the graph has to be fed, by name. (Old files list their weights as inputs too.)"""
    weights = {tensor.name for tensor in graph.initializer}
    return {value.name: value for value in graph.input if value.name not in weights}


def outputs_of(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
    """The tensors that the graph gives, by name."""
    return {value.name: value for value in graph.output}


def declared_shape(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """The shape that a graph declares for a tensor: None for a free axis, None for no shape at all."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim
    ]


def dtype_name(value: onnx.ValueInfoProto) -> str:
    """The element type of a tensor as ONNX calls it, such as ``"float"``."""
    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type)).lower()


def missing_weights(path: Path, graph: onnx.GraphProto) -> list[str]:
    """One line for each file of weights that is not where the graph looks for it."""
    files = {ExternalDataInfo(t).location for t in graph.initializer if uses_external_data(t)}
    return [
        f"{path.parent / name}: not found; the graph keeps weights in it, so it belongs beside {path.name}"
        for name in sorted(files)
        if not (path.parent / name).is_file()
    ]


def listed(names: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(repr(name) for name in names) or "none"


def shape_text(dims: list[int | None]) -> str:
    """A declared shape for a message."""
    return "(" + ", ".join("free" if dim is None else str(dim) for dim in dims) + ")"
