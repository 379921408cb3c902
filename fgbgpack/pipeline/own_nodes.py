"""Arrays and groups that users put beside those of a dataset: they go along when it is converted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import BaseZarrError

from fgbgpack.document import Document
from fgbgpack.errors import DatasetError, FgbgError
from fgbgpack.files import disk_errors
from fgbgpack.inputs import parse_json
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.hdf5 import GROUP, Hdf5Store, OwnNode
from fgbgpack.storage.store import DatasetStore

#: A node, and the elements of an array in parts of some rows, to be taken before the next node.
OwnNodes: TypeAlias = Iterator[tuple[OwnNode, Iterator[NDArray[Any]]]]

_GROUP_BYTES = 16 << 20  # of rows that are copied together
# Elements that Zarr and HDF5 both know: truth values and numbers.
_KINDS = "biufc"


def own_paths(store: DatasetStore, document: Document) -> list[str]:
    """The paths of all nodes that are not the dataset's, in alphabetical order.

    They are found in the store and, as not every store can be listed, in the root's copy of the metadata.
    """
    if isinstance(store.store, Hdf5Store):
        return list(store.store.file.own)
    try:
        copied = parse_json(store.get(METADATA) or b"{}")["consolidated_metadata"]["metadata"]
        found = set(copied) if isinstance(copied, dict) else set[str]()
    except (ValueError, KeyError, TypeError):
        found = set()
    if store.store.supports_listing:
        keys = (key for key in store.find() if key.endswith(f"/{METADATA}"))
        found |= {key.removesuffix(f"/{METADATA}") for key in keys}
    return sorted(found - set(document.nodes))


def cannot_convert(node: OwnNode) -> str | None:
    """Why a node cannot be both in Zarr and in HDF5; ``None`` if it can."""
    if node.path == GROUP or node.path.startswith(f"{GROUP}/"):
        return f"in HDF5 /{GROUP} holds the dataset's document"
    if node.shape is not None and node.dtype is None:
        return "only arrays of numbers are both in Zarr and in HDF5"
    return None


def own_nodes(store: DatasetStore, paths: Iterable[str]) -> OwnNodes:
    """Nodes that are not the dataset's; DatasetError where one cannot be read."""
    if isinstance(store.store, Hdf5Store):
        yield from store.store.file.own_nodes()
        return
    for path in paths:
        with _readable(store, path):
            metadata = parse_json(store.get(f"{path}/{METADATA}") or b"{}")
            is_array = metadata["node_type"] == "array"
            attributes = dict(metadata.get("attributes") or {})
            array = zarr.open_array(store.store, path=path, mode="r") if is_array else None
        if array is None:
            yield OwnNode(path, None, None, None, metadata, attributes, (), ()), iter(())
            continue
        chunks = tuple(max(1, min(n, c)) for n, c in zip(array.shape, array.chunks, strict=True))
        dtype = array.dtype if array.dtype.kind in _KINDS else None
        names = tuple(metadata.get("dimension_names") or ())
        node = OwnNode(path, array.shape, chunks, dtype, metadata, attributes, names, ())
        yield node, _rows(store, path, array)


def _rows(store: DatasetStore, path: str, array: zarr.Array[Any]) -> Iterator[NDArray[Any]]:
    for rows in _steps(array):
        with _readable(store, path):
            values = np.asarray(array[rows])
        yield values


def _steps(array: zarr.Array[Any]) -> Iterator[Any]:
    """What indexes the array, some rows that were written together after the others."""
    if not array.shape:
        yield ()
        return
    step = (array.shards or array.chunks)[0]
    step *= max(1, _GROUP_BYTES // max(1, array.nbytes // max(1, array.shape[0]) * step))
    for start in range(0, array.shape[0], step):
        yield slice(start, min(start + step, array.shape[0]))


@contextmanager
def _readable(store: DatasetStore, path: str) -> Iterator[None]:
    """Turn what Zarr says of an array that cannot be read into a DatasetError."""
    try:
        yield
    except FgbgError:
        raise
    except (BaseZarrError, OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as exc:
        raise DatasetError(
            f"{store.name}/{path}, which fgbgpack did not make, cannot be read: {exc}. Repair it, or move it "
            "elsewhere.",
            code="own-array-unreadable",
        ) from exc


def put_own_node(store: DatasetStore, node: OwnNode, parts: Iterator[NDArray[Any]]) -> None:
    """Write a node to a Zarr store, with the metadata that it had if it has been Zarr before."""
    with disk_errors(store.name, "written"):
        if node.shape is None:
            found = node.node or {"zarr_format": 3, "node_type": "group"} | {"attributes": node.attributes}
            store.put(f"{node.path}/{METADATA}", json.dumps(found, indent=2).encode())
            return
        array = _made(store, node)
        if not node.shape:
            array[()] = next(parts)
            return
        start = 0
        for rows in _regrouped(parts, (array.shards or array.chunks)[0]):
            array[start : start + len(rows)] = rows
            start += len(rows)


def _regrouped(parts: Iterator[NDArray[Any]], step: int) -> Iterator[NDArray[Any]]:
    """The same rows in parts of a multiple of ``step``, but for the last, so that none is written twice."""
    waiting: list[NDArray[Any]] = []
    for part in parts:
        waiting.append(part)
        rows = np.concatenate(waiting)
        if whole := len(rows) // step * step:
            yield rows[:whole]
        waiting = [rows[whole:]]
    if waiting and len(waiting[0]):
        yield waiting[0]


def _made(store: DatasetStore, node: OwnNode) -> zarr.Array[Any]:
    """The array without elements."""
    shape, dtype = node.shape or (), node.dtype
    if node.node is not None:
        store.put(f"{node.path}/{METADATA}", json.dumps(node.node, indent=2).encode())
        with _readable(store, node.path):
            array = zarr.open_array(store.store, path=node.path, mode="r+")
            if (array.shape, array.dtype) == (shape, dtype):
                return array
    names = node.dimension_names if any(node.dimension_names) else None
    return zarr.create_array(
        store.store,
        name=node.path,
        shape=shape,
        dtype=dtype,
        chunks=node.chunks or "auto",
        dimension_names=names,
        attributes=node.attributes,
        overwrite=True,
    )
