"""What the HDF5 library says of a file, run as a program of its own: :mod:`probe` starts it.

On a damaged file the library may loop for ever, crash or take all memory: here that ends this process alone.
It must not import fgbgpack. It is told what to do in one line of JSON on its standard input, and answers on
its standard output with a line of JSON, and then with the numbers that this speaks of.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

MEMORY_BYTES = 8 << 30
_BLOCK_BYTES = 16 << 20
# Numbers of HDF5 elements that are also those of Zarr; all else has no counterpart there.
_KINDS = "biufc"
# How the name begins of a scale that has no values of its own.
_NO_VALUES = b"This is a netCDF dimension but not a netCDF variable"


def describe(file: Any, wanted: list[str] | None, inside: str, document: str) -> Iterator[Any]:
    """All nodes of a file, and the chunks of the arrays that are wanted (``None``: of all but bare scales).

    Yields a JSON value, then for each array with ``chunks_listed`` its chunks: int64 (n, axes + 3), corner,
    offset, bytes and filter mask.
    """
    tables: list[Any] = []
    found: dict[str, Any] = {"text": _texts(file), "nodes": {}, "document": None}
    found["attributes"], found["left_out"] = _attributes(file)

    def visit(name: str, thing: Any) -> None:
        if name == inside or name.startswith(f"{inside}/"):
            return
        node: dict[str, Any] = {"text": _texts(thing)}
        found["nodes"][name] = node
        if hasattr(thing, "shape"):
            node |= _array(thing)
            node["attributes"] = [attribute for attribute in thing.attrs if not is_reserved(attribute)]
            if name in wanted if wanted is not None else not node["is_scale"]:
                table = _chunks(thing)
                node["chunks_listed"] = len(table)
                tables.append(table)

    file.visititems(visit)
    with suppress(KeyError):
        array = file[document]
        found["document"] = [array.id.get_offset(), *array.shape]
    yield found
    yield from tables


def is_reserved(name: str) -> bool:
    """Whether HDF5 itself writes attributes of that name, in capitals, or fgbgpack does."""
    return name.isupper() or name in ("zarr", "zarr_order") or name.startswith("fgbgpack")


def _attributes(thing: Any) -> tuple[dict[str, Any], list[str]]:
    """The attributes of others by their names, and the names of those that JSON does not know."""
    attributes, left_out = {}, []
    for name in thing.attrs:
        if is_reserved(name):
            continue
        try:
            value = thing.attrs[name]
            plain = value.tolist() if hasattr(value, "tolist") else value
            plain = plain.decode() if isinstance(plain, bytes) else plain
            json.dumps(plain)
            attributes[name] = plain
        except (TypeError, ValueError, OSError):
            left_out.append(name)
    return attributes, left_out


def _texts(thing: Any) -> dict[str, str]:
    """The attributes that hold what a dataset says of itself, as text."""
    found = {}
    for name in ("fgbgpack", "zarr", "zarr_order"):
        if name in thing.attrs:
            value = thing.attrs[name]
            found[name] = value.decode() if isinstance(value, bytes) else str(value)
    return found


def _array(array: Any) -> dict[str, Any]:
    creation, name = array.id.get_create_plist(), array.attrs.get("NAME")
    try:
        dtype, kind = array.dtype.str, array.dtype.kind
    except TypeError:
        dtype, kind = "", ""
    return {
        "shape": array.shape,
        "chunks": array.chunks,
        "dtype": dtype if kind in _KINDS else None,
        "filters": [creation.get_filter(i)[0] for i in range(creation.get_nfilters())],
        "is_scale": isinstance(name, bytes) and name.startswith(_NO_VALUES),
    }


def _chunks(array: Any) -> Any:
    import numpy as np

    listed: list[tuple[int, ...]] = []
    if array.chunks is not None:
        array.id.chunk_iter(
            lambda chunk: listed.append(
                (*chunk.chunk_offset, chunk.byte_offset, chunk.size, chunk.filter_mask)
            )
        )
    return np.array(listed, "<u8").reshape(-1, len(array.shape) + 3)


def read_own(file: Any, path: str) -> Iterator[Any]:
    """The attributes and names of the axes of a node, and then all elements of it if it is an array."""
    thing = file[path]
    attributes, left_out = _attributes(thing)
    is_array = hasattr(thing, "shape")
    labels = [axis.label or None for axis in thing.dims] if is_array else []
    yield {"attributes": attributes, "left_out": left_out, "dimension_names": labels}
    is_array = is_array and _array(thing)["dtype"] is not None
    if is_array and thing.shape and thing.size:
        row_bytes = thing.dtype.itemsize * (thing.size // thing.shape[0])
        step = (thing.chunks or (1,))[0]
        step *= max(1, _BLOCK_BYTES // (row_bytes * step))
        for start in range(0, thing.shape[0], step):
            yield thing[start : start + step]
    elif is_array and thing.size:
        yield thing[()]


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def answer(task: dict[str, Any], out: BinaryIO) -> None:
    """Do a task, and write what comes of it."""
    import h5py
    import numpy as np

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401
    try:
        # Whoever writes holds a lock of his own; the file is never written here.
        with h5py.File(task["path"], "r", locking=False) as file:
            if task["do"] == "describe":
                parts = describe(file, task["wanted"], task["inside"], task["document"])
            else:
                parts = read_own(file, task["node"])
            for part in parts:
                if isinstance(part, dict):
                    out.write(json.dumps(part).encode() + b"\n")
                else:
                    out.write(np.ascontiguousarray(part).tobytes())
    except Exception as exc:
        out.write(json.dumps({"error": f"{exc}"}).encode() + b"\n")
        out.flush()
        sys.exit(3)
    out.flush()


if __name__ == "__main__":
    _limit_memory()
    answer(json.loads(sys.stdin.readline()), sys.stdout.buffer)
