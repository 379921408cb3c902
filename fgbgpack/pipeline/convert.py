"""From Zarr to HDF5 and back: chunks are copied as they are, their checksums looked at on the way."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline.conflicts import clear
from fgbgpack.pipeline.executor import Notice, OnEvent, Progress, check_workers, in_order, silent
from fgbgpack.storage import store as disk
from fgbgpack.storage.codecs import REPAIR, ChunkCodec, recode
from fgbgpack.storage.hdf5 import Form, Hdf5Store, Hdf5Writer, is_hdf5, root_of
from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import Keys

_GROUP_BYTES = 16 << 20  # of decoded chunks that are copied together
_AHEAD = 2  # such groups, or shards, done before their turn to be written


@dataclass(frozen=True)
class Transfer:
    """What a conversion between Zarr and HDF5 did.

    Attributes:
        path: Where the result is.
        kind: ``"hdf5"`` or ``"zarr"``.
        portable: Whether it is HDF5 for readers without plugins.
        samples: Samples in it.
        chunks: Chunks that this run copied.
        seconds: What the run took.
        source_bytes: Bytes that the source takes.
        total_bytes: Bytes that the result takes.
    """

    path: str
    kind: str
    portable: bool
    samples: int
    chunks: int
    seconds: float
    source_bytes: int
    total_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The transfer as JSON."""
        return dataclasses.asdict(self)


def convert(
    source: str | Path | Store,
    out: str | Path | Store,
    *,
    portable: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
) -> Transfer:
    """Copy a dataset from Zarr to HDF5 or from HDF5 to Zarr, or from HDF5 to portable HDF5 and back.

    All arrays, the document and the attributes are the same in both. Chunks are not decoded, but for those of
    a portable file, and Zarr made of HDF5 has the bytes of the Zarr that the HDF5 was made of. The checksum
    of each chunk is looked at. An HDF5 file appears whole or not at all; a Zarr dataset is incomplete until
    all is there, and the same call resumes it.

    Args:
        source: A dataset: a local folder or HDF5 file, a URL that fsspec opens, or a Zarr store.
        out: Where to make the other. It is HDF5 if it is called ``.h5`` or ``.hdf5``.
        portable: Of HDF5, whether to encode chunks anew with gzip, which every HDF5 library decodes, in place
            of zstd and blosc, for which it needs plugins. Such a file is several times as large.
        workers: Threads; ``None`` takes one for each processor. The bytes do not depend on it.
        overwrite: Replace another dataset at ``out``.
        on_event: Called in this thread with progress and notices.

    Raises:
        SpecError: ``out`` is ``source``, both are Zarr, or Zarr is to be portable.
        RecipeMismatchError: Another dataset is at ``out``.
        IncompleteDatasetError: ``source`` is not complete.
        DatasetError: ``source`` is damaged, something else is at ``out``, another process is writing it, a
            package is not installed, or the disk is full.

    Example:
        >>> from fgbgpack.pipeline import convert
        >>> convert("lobby.zarr", "lobby.h5").kind  # doctest: +SKIP
        'hdf5'
    """
    start = time.perf_counter()
    tell = silent if on_event is None else on_event
    check_workers(workers)
    held = Source(source)
    target_is_hdf5 = is_hdf5(out)
    if portable and not target_is_hdf5:
        raise SpecError(f"{out} is no HDF5 file, which only can be portable: call it .h5, or leave that out.")
    if not target_is_hdf5 and not isinstance(held.keys.store, Hdf5Store):
        raise SpecError(
            f"{held.keys.name} and {out} are both Zarr: copy the one as it is, or call the other .h5."
        )
    if target_is_hdf5:
        path = Path(str(out))
        copied = to_hdf5(held, path, portable=portable, workers=workers, overwrite=overwrite, tell=tell)
        result = Keys(disk.store_of(path, read_only=True), str(path))
    else:
        result = Keys(disk.store_of(out, read_only=False), disk.name_of(out))
        copied = to_zarr(held, result, workers=workers, overwrite=overwrite, tell=tell)
    return Transfer(
        path=result.name,
        kind="hdf5" if target_is_hdf5 else "zarr",
        portable=portable,
        samples=held.samples,
        chunks=copied,
        seconds=time.perf_counter() - start,
        source_bytes=sum(disk.stored_bytes(held.keys).values()),
        total_bytes=sum(disk.stored_bytes(result).values()),
    )


class Source:
    """The dataset that is copied: its metadata, and its chunks as they are.

    Raises:
        IncompleteDatasetError: It is not complete.
        DatasetError: It is not there or damaged.
    """

    def __init__(self, dataset: str | Path | Store) -> None:
        name = disk.name_of(dataset)
        self.keys = Keys(disk.store_of(dataset, read_only=True), name)
        document = disk.read_document(self.keys, name)
        if document is None:
            raise DatasetError(f"There is no dataset at {name}.")
        if not document["complete"]:
            raise IncompleteDatasetError(
                f"{name} is not complete: run the command that makes it again to finish it."
            )
        self.document = document
        self.root = json.loads(self.keys.get(disk.ROOT) or b"{}")
        nodes = self.root["consolidated_metadata"]["metadata"]
        found = self.keys.get_all(f"{path}/{disk.ROOT}" for path in nodes)
        self.metadata: dict[str, bytes] = {}
        self.readers: dict[str, ArrayReader] = {}
        self._forms: dict[str, Form] = {}
        for path, metadata in zip(nodes, found, strict=True):
            if nodes[path]["node_type"] == "array":
                array = disk.described_array(self.keys, path, metadata)
                self.readers[path] = ArrayReader.of(array, name)
                self._forms[path] = Form.of(array.metadata.to_dict(), f"{name}/{path}")
            if metadata is None:
                raise DatasetError(f"{name} has no group /{path}: it is damaged.")
            self.metadata[path] = metadata

    @property
    def samples(self) -> int:
        """Samples in the dataset."""
        return int(next(iter(self.readers.values())).layout.shape[0])

    def chunk_count(self, path: str) -> int:
        """Chunks of an array."""
        return math.prod(self._forms[path].grid)

    def numbers(self, path: str, shard: int) -> range:
        """The chunks of a shard of an array, less those beyond its end, by their numbers in C order."""
        per_shard = self._forms[path].in_shard
        return range(shard * per_shard, min((shard + 1) * per_shard, self.chunk_count(path)))

    def zarr_form(self, path: str) -> Form:
        """How an array is cut and encoded as Zarr, whatever it is stored as."""
        return self._forms[path]

    def recoded(self, path: str, numbers: Sequence[int], codec: ChunkCodec) -> list[bytes | None]:
        """Some chunks of an array, by their numbers in C order, as a codec encodes them.

        Raises:
            DatasetError: One is damaged; or it is missing, where there must be all.
        """
        reader, form = self.readers[path], self._forms[path]
        may_lack = path in disk.DEPTHS and self.document["depth"] is None
        found: list[bytes | None] = []
        places = [divmod(number, form.in_shard) for number in numbers]
        for place, encoded in zip(places, reader.encoded(places), strict=True):
            where = partial(self._name_of, path, place)
            if encoded is None and not may_lack:
                raise DatasetError(f"{where()} is missing. {REPAIR}")
            found.append(
                None if encoded is None else recode(encoded, reader.codec, codec, form.chunk_bytes, where)
            )
        return found

    def _name_of(self, path: str, place: tuple[int, int]) -> str:
        shard, inner = place
        key = self.readers[path].layout.key(shard)
        return f"Chunk {inner} of shard {self.keys.name}/{path}/{key}"


def to_hdf5(
    source: Source, path: Path, *, portable: bool, workers: int | None, overwrite: bool, tell: OnEvent
) -> int:
    """Make an HDF5 file of a dataset.

    Returns:
        How many chunks were written.

    Raises:
        SpecError: It is the dataset itself.
        RecipeMismatchError: Another dataset is there.
        DatasetError: Something else is there, the source is damaged, or the disk is full.
    """
    _check_target(source, path, overwrite=overwrite)
    paths = list(source.readers)
    counts = {array: source.chunk_count(array) for array in paths}
    total, done = sum(counts.values()), 0
    with _disk_errors(path), Hdf5Writer(path, portable=portable) as file:
        file.put_root(root_of(source.root), source.document, list(source.metadata))
        codecs = {}
        for node, metadata in source.metadata.items():
            if node in source.readers:
                codecs[node] = file.put_array(node, json.loads(metadata))
            else:
                file.put_group(node, json.loads(metadata))
        file.put_scales()
        tell(Progress("chunks", 0, total))

        def work(group: tuple[str, range]) -> list[bytes | None]:
            array, numbers = group
            return source.recoded(array, numbers, codecs[array])

        groups = [(array, numbers) for array in paths for numbers in _groups(source, array, counts[array])]
        for (array, numbers), chunks in in_order(work, groups, workers, ahead=_AHEAD):
            file.put_chunks(array, numbers.start, chunks)
            done += len(numbers)
            tell(Progress("chunks", done, total))
    return done


def _check_target(source: Source, path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise DatasetError(f"{path} is a folder: give another place for an HDF5 file.")
    if not path.exists():
        return
    if isinstance(source.keys.store, Hdf5Store) and path.samefile(source.keys.store.path):
        raise SpecError(f"{path} is the dataset itself: give another place for the result.")
    try:
        existing = disk.read_document(Keys(Hdf5Store(path), str(path)), str(path))
    except DatasetError as exc:
        raise DatasetError(
            f"{path} is there, and only a sound dataset of fgbgpack's is ever replaced: give another place, "
            f"or delete it. {exc.message}"
        ) from exc
    if existing != source.document and not overwrite:
        raise RecipeMismatchError(
            f"{path} is another dataset: give another place, or --overwrite to replace it."
        )


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Say clearly that a file cannot be written."""
    try:
        yield
    except OSError as exc:
        raise DatasetError(
            f"{path} cannot be written: {exc.strerror or exc}. Nothing of it was kept."
        ) from exc


def _groups(source: Source, path: str, count: int) -> Iterator[range]:
    """The chunks of an array, as many at a time as are copied together."""
    step = max(1, _GROUP_BYTES // source.zarr_form(path).chunk_bytes)
    for start in range(0, count, step):
        yield range(start, min(start + step, count))


def to_zarr(source: Source, keys: Keys, *, workers: int | None, overwrite: bool, tell: OnEvent) -> int:
    """Make a Zarr dataset of another, or finish it.

    Returns:
        How many chunks were written.

    Raises:
        RecipeMismatchError: Another dataset is there.
        DatasetError: Something else is there, the source is damaged, another process is writing it, or the
            disk is full.
    """
    begun = disk.begun(source.document)
    with disk.exclusive(keys.store, keys.name):
        existing = disk.read_document(keys, keys.name)
        if existing == source.document:
            tell(Notice(f"{keys.name} is complete already."))
            return 0
        if existing == begun:
            tell(Notice(f"Resuming {keys.name}."))
        else:
            if existing is not None and not overwrite:
                raise RecipeMismatchError(
                    f"{keys.name} is another dataset: give another place, or --overwrite to replace it."
                )
            clear(keys, existing)
        root = root_of(source.root)
        root["attributes"][disk.ATTRIBUTE] = begun
        keys.put(disk.ROOT, json.dumps(root).encode())
        for path, metadata in source.metadata.items():
            keys.put(f"{path}/{disk.ROOT}", metadata)
        copied = _copy_shards(source, keys, workers, tell)
        disk.write_document(keys, source.document)
        keys.sweep()
    return copied


def _copy_shards(source: Source, keys: Keys, workers: int | None, tell: OnEvent) -> int:
    """Write the shards that are missing; return how many chunks that was."""
    counts = {path: source.chunk_count(path) for path in source.readers}
    # Where chunks lie in no shards, nothing tells whether one is whole: those arrays are small.
    there = {
        path: keys.sound_shards(path, reader.layout) if source.zarr_form(path).sharded else set()
        for path, reader in source.readers.items()
    }
    todo = [
        (path, shard)
        for path, reader in source.readers.items()
        for shard in range(reader.layout.shards)
        if shard not in there[path]
    ]
    missing = sum(len(source.numbers(path, shard)) for path, shard in todo)
    total = sum(counts.values())
    done = total - missing

    def work(item: tuple[str, int]) -> None:
        path, shard = item
        form = source.zarr_form(path)
        chunks = source.recoded(path, source.numbers(path, shard), form.codec)
        written = [chunk for chunk in chunks if chunk is not None]
        if written:
            value = join(chunks, form.layout.grid) if form.sharded else written[0]
            keys.put(f"{path}/{form.layout.key(shard)}", value)

    tell(Progress("chunks", done, total))
    for (path, shard), _ in in_order(work, todo, workers, ahead=_AHEAD):
        done += len(source.numbers(path, shard))
        tell(Progress("chunks", done, total))
    return missing
