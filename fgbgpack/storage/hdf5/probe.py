"""Asking the HDF5 library about a file that may be damaged: in a process of its own, for a limited time."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import DatasetError
from fgbgpack.files import try_lock
from fgbgpack.inputs import open_descriptor
from fgbgpack.storage.codecs import REPAIR
from fgbgpack.storage.hdf5 import child
from fgbgpack.storage.hdf5.form import h5py_for
from fgbgpack.storage.hdf5.parts import DOCUMENT, GROUP, is_marked_open

#: The code of a file that a program opened for writing and never closed.
NOT_CLOSED = "file-not-closed"
#: How long the library may be silent. It reads lists of chunks, seldom more than some megabytes.
SECONDS = 60.0
# A line of JSON: the names of nodes and, of files that others wrote, what the dataset says of itself.
_LINE_BYTES = 1 << 28


@dataclass(frozen=True)
class FoundArray:
    """An HDF5 array as the library finds it; ``chunks`` is ``None`` where it is not cut.

    ``table`` are (chunks, axes + 3) uint64: corner, offset, bytes and filter mask of each that is there.
    ``dtype`` is ``None`` where no numbers are stored. ``attributes`` are the names of its attributes.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    filters: tuple[int, ...]
    is_scale: bool
    table: NDArray[np.uint64] | None
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A file as the HDF5 library finds it.

    ``texts`` are attributes of the root (the path ``""``) and of all nodes, ``arrays`` are all arrays
    by their paths, and ``document`` is offset and shape of the array of the document. ``attributes`` are
    those of others in the root, and ``left_out`` the names of those that JSON does not know.
    """

    texts: dict[str, dict[str, str]]
    arrays: dict[str, FoundArray]
    document: tuple[int, ...] | None
    attributes: dict[str, Any]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class OwnNode:
    """An array or a group that is not fgbgpack's.

    A group has no ``shape``, an array of other things than numbers no ``dtype``. ``node`` are its Zarr
    metadata where it has been Zarr, ``left_out`` the names of attributes that JSON does not know.
    """

    path: str
    shape: tuple[int, ...] | None
    chunks: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    node: dict[str, Any] | None
    attributes: dict[str, Any]
    dimension_names: tuple[str | None, ...]
    left_out: tuple[str, ...]


def probe(path: Path, wanted: Sequence[str] | None) -> Found:
    """What is in a file, with the chunks of some arrays, by their paths (``None``: that say they are Zarr's).

    Raises DatasetError if the library finds the file damaged, crashes or does not come to an end, and
    MissingPackageError if h5py is not installed.
    """
    task = {"do": "describe", "path": os.fspath(path), "inside": GROUP, "document": DOCUMENT}
    with _asked(path, task | {"wanted": None if wanted is None else list(wanted)}) as answer:
        described = answer.json()
        arrays = {}
        for name, node in described["nodes"].items():
            if "shape" in node:
                table = None
                if "chunks_listed" in node:
                    axes = len(node["shape"]) + 3
                    table = answer.numbers((node["chunks_listed"], axes), np.dtype("<u8"))
                arrays[name] = FoundArray(
                    tuple(node["shape"]),
                    node["chunks"] and tuple(node["chunks"]),
                    node["dtype"] and np.dtype(node["dtype"]),
                    tuple(node["filters"]),
                    node["is_scale"],
                    table,
                    tuple(node["attributes"]),
                )
        texts = {"": described["text"]} | {name: node["text"] for name, node in described["nodes"].items()}
        document = described["document"]
        attributes, left_out = described["attributes"], tuple(described["left_out"])
        return Found(texts, arrays, document and tuple(document), attributes, left_out)


def left_open(path: Path) -> DatasetError | None:
    """What is to be said of a file that its own superblock calls open for writing, ``None`` of any other.

    Its code is ``file-in-use`` where a program holds the lock that the HDF5 library takes to write, and
    ``NOT_CLOSED`` where none does: the program was killed, or opened it without a lock.
    """
    try:
        # A lock belongs to whoever opened the file: not even this process has this one.
        file = open_descriptor(path)
    except OSError:
        return None
    try:
        if not is_marked_open(file):
            return None
        is_held = not try_lock(file, shared=True)
    except OSError:
        is_held = False
    finally:
        os.close(file)
    if is_held:
        return DatasetError(
            f"{path} is open for writing elsewhere, in this program or another: close it there first.",
            code="file-in-use",
        )
    return DatasetError(
        f"{path} was opened for writing by a program that has not closed it: close it there, unless that was "
        f"killed. {REPAIR}",
        code=NOT_CLOSED,
    )


def require_unused(path: Path) -> None:
    """See that no program holds a file open to write to it (DatasetError): what it writes would be lost."""
    if (opened := left_open(path)) is not None and opened.code != NOT_CLOSED:
        raise opened


@contextmanager
def own_node(path: Path, name: str, found: Found) -> Iterator[tuple[OwnNode, Iterator[NDArray[Any]]]]:
    """A node that is not fgbgpack's, and its elements in parts, along the first axis; as :func:`probe`."""
    array = found.arrays.get(name)
    text = found.texts[name].get("zarr")
    with _asked(path, {"do": "read", "path": os.fspath(path), "node": name}) as answer:
        described = answer.json()
        node = OwnNode(
            name,
            None if array is None else array.shape,
            None if array is None else array.chunks,
            None if array is None else array.dtype,
            None if text is None else json.loads(text),
            described["attributes"],
            tuple(described["dimension_names"]),
            tuple(described["left_out"]),
        )

        def parts() -> Iterator[NDArray[Any]]:
            if array is None or array.dtype is None or 0 in array.shape:
                return
            rows = 1 if not array.shape else array.shape[0]
            step = 1 if not array.chunks else array.chunks[0]
            for start in range(0, rows, step):
                count = min(step, rows - start)
                yield answer.numbers((count, *array.shape[1:]) if array.shape else (), array.dtype)

        yield node, parts()


class _Answer:
    """What the other process writes. It is ended when it is silent for too long; an end is an EOFError."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: IO[bytes]) -> None:
        self._process, self._pipe, self.too_slow = process, pipe, False

    def json(self) -> Any:
        """The next line, which is a JSON object."""
        with self._waiting():
            line = self._pipe.readline(_LINE_BYTES)
        try:
            value = json.loads(line)
        except ValueError:
            raise EOFError from None
        if "error" in value:
            raise DatasetError(str(value["error"]), code="file-damaged")
        return value

    def numbers(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The numbers that come next."""
        size = math.prod((dtype.itemsize, *shape))
        if size > child.MEMORY_BYTES:
            raise EOFError
        with self._waiting():
            content = self._pipe.read(size)
        if len(content) < size:
            raise EOFError
        return np.frombuffer(content, dtype).reshape(shape)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        timer = threading.Timer(SECONDS, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.too_slow = True
        self._process.kill()


@contextmanager
def _asked(path: Path, task: dict[str, Any]) -> Iterator[_Answer]:
    """Start the other process with a task; it has ended when the block is left."""
    h5py_for(str(path))
    if (opened := left_open(path)) is not None:
        # The library refuses it as well, or would read what is half-written.
        raise opened
    if not sys.executable:
        raise DatasetError(
            f"{path} was changed since fgbgpack wrote it, and there is no Python to look at it with.",
            code="file-changed",
        )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    # Its folder is not searched for modules (-P): there are others of common names in it.
    command = [sys.executable, "-P", child.__file__]
    process = subprocess.Popen(  # noqa: S603 - the path is data on its standard input
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    if process.stdin is None or process.stdout is None:
        raise ValueError("the other process has no pipes")
    answer = _Answer(process, process.stdout)
    try:
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.close()
        yield answer
    except (EOFError, BrokenPipeError) as exc:
        raise _failure(path, process, answer) from exc
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _failure(path: Path, process: subprocess.Popen[bytes], answer: _Answer) -> DatasetError:
    """Why there was no answer."""
    if answer.too_slow:
        why = f"the HDF5 library did not come to an end within {SECONDS:g} s"
    else:
        why = f"the HDF5 library ended with status {process.wait()}"
    return DatasetError(f"{path} is damaged: {why}. {REPAIR}", code="file-damaged")
