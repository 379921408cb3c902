"""Weights that an ONNX file keeps in other files ("external data"): read, checked, and part of its digest.

ONNX Runtime does not read them: it refuses files outside of the model's folder, to which a download cache's
links lead, and weights of constants within nodes. So what it takes only as part of the graph is embedded, and
large initializers are given to the session as values, which no limit of two gigabytes stops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from fgbgpack.depth.onnx_file import file_error, graphs_of
from fgbgpack.files import sha256_of

#: Element types that a NumPy array of the host can be given to ONNX Runtime in.
_PLAIN = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT8, TensorProto.INT16,
    TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32,
    TensorProto.UINT64, TensorProto.BOOL,
}  # fmt: skip

#: Smaller tensors are embedded: shape inference needs the values of sizes.
_LEAST_GIVEN = 4096  # bytes

#: Types whose values take less than a byte.
_BITS = {
    getattr(TensorProto, name): bits
    for name, bits in (("UINT4", 4), ("INT4", 4), ("FLOAT4E2M1", 4), ("UINT2", 2), ("INT2", 2))
    if hasattr(TensorProto, name)
}


class Weights:
    """The files beside an ONNX file that its graph keeps weights in."""

    def __init__(self, path: Path, network: ModelProto) -> None:
        self._path = path
        tensors = (*network.graph.initializer, *_inner_tensors(network))
        external = [tensor for tensor in tensors if uses_external_data(tensor)]
        #: The files by the names that the graph has for them, sorted.
        self.files = {name: self._locate(name) for name in sorted({_info(t).location for t in external})}
        self._external = external

    def problems(self) -> list[str]:
        """One line for each file that is missing or too short, or that may not be read."""
        found = []
        for name, file in self.files.items():
            if _leaves_folder(name):
                found.append(
                    f"{name!r}: the graph keeps weights in it; expected a file in the model's folder"
                )
            elif not file.is_file():
                found.append(
                    f"{file}: not found; the graph keeps weights in it, so it belongs beside "
                    f"{self._path.name}"
                )
            else:
                parts = [_extent(t) for t in self._external if _info(t).location == name]
                needed, size = max(offset + length for offset, length in parts), file.stat().st_size
                if size < needed:
                    found.append(
                        f"{file}: found {size} bytes, and the graph has weights up to byte {needed}: the "
                        "file is truncated or of another version"
                    )
        return found

    def digest(self) -> str:
        """The SHA-256 of the ONNX file; where it has weights in other files, that of the lines ``DIGEST`` of
        the ONNX file and ``DIGEST  NAME`` of each of those, sorted by name.
        """
        own = sha256_of(self._path)
        if not self.files:
            return own
        lines = [own, *(f"{sha256_of(file)}  {name}" for name, file in self.files.items())]
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    def embed(self, network: ModelProto) -> None:
        """Embeds, in place, what ONNX Runtime takes only as part of the graph; large initializers of the
        main graph stay in their files. Raises DepthModelError where a file cannot be read.
        """
        embedded = [tensor for tensor in network.graph.initializer if not _is_given(tensor)]
        for tensor in (*embedded, *_inner_tensors(network)):
            if uses_external_data(tensor):
                tensor.raw_data = self._bytes(tensor)
                del tensor.external_data[:]
                tensor.data_location = TensorProto.DEFAULT

    def array(self, tensor: TensorProto) -> NDArray[Any]:
        """The values of a tensor, embedded or in a file. Raises DepthModelError where that cannot be read."""
        if not uses_external_data(tensor):
            return onnx.numpy_helper.to_array(tensor)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
        return np.frombuffer(self._bytes(tensor), dtype).reshape(tensor.dims)

    def values(self, graph: GraphProto) -> dict[str, NDArray[Any]]:
        """The initializers of a graph that are in files, by name. Raises DepthModelError where one cannot be
        read.
        """
        return {tensor.name: self.array(tensor) for tensor in graph.initializer if uses_external_data(tensor)}

    def _locate(self, name: str) -> Path:
        """The file of that name beside the ONNX file, or beside what that is a link to."""
        beside = self._path.parent / name
        return beside if beside.exists() else self._path.resolve().parent / name

    def _bytes(self, tensor: TensorProto) -> bytes:
        file = self.files[_info(tensor).location]
        offset, length = _extent(tensor)
        try:
            with file.open("rb") as stream:
                stream.seek(offset)
                content = stream.read(length)
        except OSError as exc:
            raise file_error(f"{file} cannot be read: {exc.strerror}.") from exc
        if len(content) != length:
            raise file_error(f"{file} is truncated: it has weights of {self._path}.")
        return content


def _inner_tensors(network: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a network but the initializers of its main graph: constants within nodes, sparse ones,
    and the initializers of graphs within nodes.
    """
    for sparse in network.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(network.graph.node)
    for function in network.functions:
        yield from _of_nodes(function.node)


def _of_nodes(nodes: Any) -> Iterator[TensorProto]:
    node: NodeProto
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            yield from attribute.tensors
        for graph in graphs_of(node):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            yield from _of_nodes(graph.node)


def _info(tensor: TensorProto) -> ExternalDataInfo:
    return ExternalDataInfo(tensor)


def _extent(tensor: TensorProto) -> tuple[int, int]:
    """Offset and length of a tensor's bytes in its file."""
    values = int(np.prod(tensor.dims, dtype=object))
    if tensor.data_type in _BITS:
        length = -(-values * _BITS[tensor.data_type] // 8)
    else:
        length = values * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return _info(tensor).offset or 0, length


def _is_given(tensor: TensorProto) -> bool:
    is_external = uses_external_data(tensor) and tensor.data_type in _PLAIN
    return is_external and _extent(tensor)[1] >= _LEAST_GIVEN


def _leaves_folder(name: str) -> bool:
    """Whether the name of a file leads out of the folder that it is in."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not name or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
