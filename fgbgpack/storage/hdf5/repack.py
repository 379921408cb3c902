"""Writing a file anew that has no room left for its document, and the lock of who changes a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fgbgpack.errors import DatasetError
from fgbgpack.files import locked
from fgbgpack.storage.codecs import ChunkCodec, recode
from fgbgpack.storage.hdf5.file import Hdf5File, StoredChunks
from fgbgpack.storage.hdf5.writer import Hdf5Writer

# A document is written in far less.
_WAIT_SECONDS, _PAUSE_SECONDS = 10.0, 0.02


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Keep other processes from changing files of a folder; DatasetError if one does so for long.

    The lock is the system's, on the folder: the HDF5 library may hold that of the file, for a reader.
    """
    end = time.monotonic() + _WAIT_SECONDS
    with ExitStack() as lock:
        while True:
            try:
                lock.enter_context(
                    locked(path.resolve().parent, f"Another process is writing {path}: wait for it.")
                )
                break
            except DatasetError:
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_SECONDS)
        yield


def repack(file: Hdf5File, text: bytes) -> None:
    """Replace a file by one with another root, whose metadata are this text; chunks stay as they are.

    Raises DatasetError if anything that others have added would be lost.
    """
    attributes, lost = file.own_attributes()
    if lost:
        raise _would_lose(file, ", ".join(lost))
    root = json.loads(text)
    root["attributes"] |= attributes
    text = json.dumps(root, indent=2, ensure_ascii=False).encode()
    writer = Hdf5Writer(file.path, portable=file.portable)
    with writer.open() as new:
        new.put_root(text)
        codecs = {}
        for path, metadata in file.nodes.items():
            if path in file.arrays:
                codecs[path] = new.put_array(path, json.loads(metadata))
            else:
                new.put_group(path)
        for node, parts in file.own_nodes():
            if node.left_out or (node.shape is not None and node.dtype is None):
                raise _would_lose(file, f"/{node.path}, which is not only numbers")
            new.put_own(node, parts)
        new.put_scales()
        new.reserve_index()
        for path, array in file.arrays.items():
            for number in range(len(array.chunks)):
                new.put_chunks(path, number, [_chunk(file, path, array, number, codecs[path])])


def _would_lose(file: Hdf5File, what: str) -> DatasetError:
    return DatasetError(
        f"{file.name} has no room for its document, and cannot be written anew with {what}: keep that in "
        "another file.",
        code="own-array-unknown",
    )


def _chunk(file: Hdf5File, path: str, array: StoredChunks, number: int, codec: ChunkCodec) -> bytes | None:
    if (encoded := file.read(path, number)) is None:
        return None
    name = f"Chunk {number} of {file.path}/{path}"
    return recode(encoded, array.codec, codec, array.form.chunk_bytes, lambda: name)
