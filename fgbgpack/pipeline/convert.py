"""From Zarr to HDF5 and back: chunks are copied as they are, and their checksums verified on the way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from fgbgpack.document import ATTRIBUTE, DEPTHS, DIGEST, MANIFEST, OBJECTS, SOURCES
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.files import disk_errors
from fgbgpack.inputs import parse_json
from fgbgpack.pipeline.events import Progress, Reporting, StageName, reporting, silent
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.own_nodes import OwnNodes, cannot_convert, own_nodes, own_paths, put_own_node
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.pipeline.stage import Product, Stage
from fgbgpack.pipeline.workers import engine_of
from fgbgpack.storage.arrays import METADATA, ArrayForm
from fgbgpack.storage.codecs import REPAIR, ChunkCodec, recode
from fgbgpack.storage.hdf5 import (
    ATTRIBUTE_BYTES,
    Hdf5Store,
    Hdf5Writer,
    is_hdf5,
    require_unused,
    root_of,
    root_text,
)
from fgbgpack.storage.manifest import with_document
from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.sealing import whole_shards
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located_all, name_of, require_writable_name

_GROUP_BYTES = 16 << 20  # of decoded chunks that are copied together
_AHEAD = 2  # such groups done before their turn to be written
_ANOTHER = "the dataset is another one"


@dataclass(frozen=True)
class Transfer(Result):
    """What a conversion between Zarr and HDF5 did in ``seconds``; the ``samples`` are at ``path``.

    Attributes:
        kind: ``"hdf5"`` or ``"zarr"``.
        portable: Whether it is HDF5 for readers without plugins.
        chunks: Chunks that this run copied.
        source_bytes: Bytes that the source takes.
        total_bytes: Bytes that the result takes.
    """

    kind: str
    portable: bool
    chunks: int
    source_bytes: int
    total_bytes: int


def convert(
    source: Target,
    out: Target,
    *,
    portable: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Transfer:
    """Copy a dataset from Zarr to HDF5 or from HDF5 to Zarr, or from HDF5 to portable HDF5 and back.

    All arrays, the document and the attributes are the same in both. Arrays and groups that users added go
    along; a notice names those that cannot. Chunks are not decoded, but for those of a portable file, and
    Zarr made of HDF5 has the bytes of the Zarr that the HDF5 was made of. The checksum of each chunk is
    looked at. An HDF5 file appears whole or not at all; a Zarr dataset is incomplete until
    all is there, and the same call resumes it.

    Args:
        source: A dataset: a local folder or HDF5 file, a URL that fsspec opens, or a Zarr store.
        out: Where to make the other. It is HDF5 if it is called ``.h5`` or ``.hdf5``.
        portable: Of HDF5, whether to encode chunks anew with gzip, which every HDF5 library decodes, in place
            of zstd and blosc, for which it needs plugins. Such a file is several times as large.
        workers: Threads; ``None`` takes one for each processor. The bytes do not depend on it.
        executor: What runs the work in place of threads, as for :func:`create`.
        overwrite: Replace another dataset at ``out``.
        storage_options: What obstore or fsspec opens those of both with that are URLs, beside the
            environment; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: ``out`` is ``source``, both are Zarr, or Zarr is to be portable.
        RecipeMismatchError: Another dataset is at ``out``.
        IncompleteDatasetError: ``source`` is not complete.
        DatasetError: ``source`` is damaged, something else is at ``out``, another process is writing it, or
            the disk is full.
        MissingPackageError: A package is not installed.

    Example:
        >>> from fgbgpack.pipeline import convert
        >>> convert("lobby.zarr", "lobby.h5").kind  # doctest: +SKIP
        'hdf5'
    """
    source, out = located_all([source, out], storage_options)
    require_writable_name(out)
    engine, copied = engine_of(workers, executor), Source.open(source)
    to_file = is_hdf5(out)
    if portable and not to_file:
        raise SpecError(
            f"{name_of(out)} is no HDF5 file, which only can be portable: call it .h5, or leave that out.",
            code="target-not-hdf5",
        )
    if not to_file and not isinstance(copied.store.store, Hdf5Store):
        raise SpecError(
            f"{copied.store.name} and {name_of(out)} are both Zarr: copy the one as it is, or call the other "
            ".h5.",
            code="target-not-hdf5",
        )
    path = Path(str(out))
    # The file is there only when all is copied.
    store = copied.store if to_file else DatasetStore.open(out, read_only=False)
    with reporting(on_event) as notify:
        run = Run(store, engine, notify)
        if to_file:
            check_target(copied, path, run, overwrite=overwrite)
            to_hdf5(copied, path, run, portable=portable)
            store = DatasetStore.open(path, read_only=True)
        else:
            to_zarr(copied, run, overwrite=overwrite)
    return Transfer(
        path=name_of(out),
        samples=copied.document.samples,
        seconds=run.seconds,
        kind="hdf5" if to_file else "zarr",
        portable=portable,
        chunks=run.written["chunks"],
        source_bytes=sum(copied.store.stored_bytes().values()),
        total_bytes=sum(store.stored_bytes().values()),
    )


def _is_group(metadata: bytes) -> bool:
    try:
        return bool(parse_json(metadata)["node_type"] == "group")
    except (ValueError, KeyError, TypeError):
        return False


class Source:
    """The dataset that is copied: its metadata, and its chunks as they are. What is pickled can only copy
    chunks.

    ``forms`` are how each array is cut and encoded as Zarr, whatever it is stored as. Of one that
    ``may_be_damaged`` shards that are not whole are left out, and collected in ``lost`` by the paths of their
    arrays and their numbers. Raises IncompleteDatasetError or DatasetError if it is not complete, missing or
    damaged.
    """

    def __init__(self, store: DatasetStore, *, may_be_damaged: bool = False) -> None:
        self.store = store
        self.may_be_damaged = may_be_damaged
        self.lost: set[tuple[str, int]] = set()
        self.document = store.existing_document(complete=True)
        self.root: dict[str, Any] = store.root()
        attributes = self.root["attributes"]
        self._lost_attributes: list[str] = []
        if isinstance(store.store, Hdf5Store):
            own, self._lost_attributes = store.store.file.own_attributes()
            attributes = attributes | own
        self.root["attributes"] = with_document(attributes, attributes[ATTRIBUTE])
        # What belongs to it follows from the document: the root's copy of the metadata may lack some.
        nodes = self.document.nodes
        self.forms: dict[str, ArrayForm] = store.forms(
            path for path in nodes if path not in (SOURCES, OBJECTS, MANIFEST)
        )
        found = store.get_all(f"{path}/{METADATA}" for path in nodes)
        self.metadata = {path: metadata or b"" for path, metadata in zip(nodes, found, strict=True)}
        for path in self.metadata.keys() - self.forms.keys():
            if not _is_group(self.metadata[path]):
                raise DatasetError(
                    f"{store.name} has no group /{path}: it is damaged.", code="metadata-damaged"
                )
        self.own = own_paths(store, self.document)
        self._lacks_depth = self.document.depth is None

    def __getstate__(self) -> dict[str, Any]:
        # What is enough to copy chunks.
        kept = ("store", "may_be_damaged", "forms", "_lacks_depth")
        return {name: self.__dict__[name] for name in kept}

    @cached_property
    def _readers(self) -> dict[str, ArrayReader]:
        return {path: self.store.reader(path, form) for path, form in self.forms.items()}

    @classmethod
    def open(cls, dataset: Target) -> Source:
        """The dataset at a target."""
        return cls(DatasetStore.open(dataset, read_only=True))

    def root_text(self) -> bytes:
        """The root's metadata, with the document and a copy of the metadata of all nodes of the dataset."""
        attributes = {**self.root["attributes"], ATTRIBUTE: self.document.to_dict()}
        nodes = {path: parse_json(metadata) for path, metadata in self.metadata.items()}
        return root_text({**self.root, "attributes": attributes}, nodes)

    @property
    def chunk_count(self) -> int:
        """Chunks of all arrays."""
        return sum(form.chunk_count for form in self.forms.values())

    def own_nodes(self, run: Run) -> OwnNodes:
        """What users put beside the dataset, less what cannot be converted: ``run`` tells of that."""
        if self._lost_attributes:
            run.notify(f"Attributes are left out that others have added: {', '.join(self._lost_attributes)}.")
        for node, parts in own_nodes(self.store, self.own):
            if why := cannot_convert(node):
                run.notify(f"/{node.path} is left out: {why}.")
                continue
            if node.left_out:
                names = ", ".join(node.left_out)
                run.notify(f"/{node.path}: attributes that JSON does not know are left out: {names}.")
            if node.node is not None and len(json.dumps(node.node)) > ATTRIBUTE_BYTES:
                run.notify(f"/{node.path}: its attributes, too many for HDF5, are left out.")
                node = dataclasses.replace(node, node=None, attributes={})
            yield node, parts

    def may_lack(self, path: str) -> bool:
        """Whether an array has no chunks: that of depth where none was asked for."""
        return path in DEPTHS and self._lacks_depth

    def recoded(self, path: str, numbers: Sequence[int], codec: ChunkCodec) -> list[bytes | None]:
        """Some chunks of an array, by their numbers in C order, as a codec encodes them (DatasetError)."""
        reader, form, may_lack = self._readers[path], self.forms[path], self.may_lack(path)
        found: list[bytes | None] = []
        places = [divmod(number, form.chunks_per_shard) for number in numbers]
        for place, encoded in zip(places, reader.encoded(places), strict=True):
            where = partial(self._name_of, path, place)
            if encoded is None and not may_lack:
                raise DatasetError(f"{where()} is missing. {REPAIR}", code="chunk-missing")
            found.append(
                None if encoded is None else recode(encoded, reader.codec, codec, form.chunk_bytes, where)
            )
        return found

    def _name_of(self, path: str, place: tuple[int, int]) -> str:
        shard, inner = place
        return f"Chunk {inner} of shard {self.store.name}/{path}/{self.forms[path].layout.key(shard)}"


# --- to HDF5 ---------------------------------------------------------------------------------------


def to_hdf5(source: Source, path: Path, run: Run, *, portable: bool) -> None:
    """Make an HDF5 file of a dataset, in the place of one that may be there; ``run`` counts the chunks."""
    total, done = source.chunk_count, 0
    with (
        disk_errors(str(path), "written", "Nothing of it was kept."),
        Hdf5Writer(path, portable=portable).open() as file,
    ):
        file.put_root(source.root_text())
        codecs = {}
        for node, metadata in source.metadata.items():
            if node in source.forms:
                codecs[node] = file.put_array(node, parse_json(metadata))
            else:
                file.put_group(node)
        for own, parts in source.own_nodes(run):
            file.put_own(own, parts)
        # Those of users may be scales.
        file.put_scales()
        file.reserve_index()
        run.on_event(Progress("chunks", 0, total))

        def work(group: tuple[str, range]) -> list[bytes | None]:
            array, numbers = group
            return source.recoded(array, numbers, codecs[array])

        # Small ones first: what all else can be made of is also there when the file is cut short.
        forms = sorted(source.forms.items(), key=lambda named: named[1].chunk_count * named[1].chunk_bytes)
        groups = [(array, numbers) for array, form in forms for numbers in _groups(form)]
        for (array, numbers), chunks in run.threads.in_order(work, groups, ahead=_AHEAD):
            file.put_chunks(array, numbers.start, chunks)
            done += len(numbers)
            run.on_event(Progress("chunks", done, total))
    run.written["chunks"] += done


def _groups(form: ArrayForm) -> Iterator[range]:
    """The chunks of an array, as many at a time as are copied together."""
    step = max(1, _GROUP_BYTES // form.chunk_bytes)
    for start in range(0, form.chunk_count, step):
        yield range(start, min(start + step, form.chunk_count))


def check_target(source: Source, path: Path, run: Run, *, overwrite: bool) -> None:
    """See that an HDF5 file may be made at a path, as :func:`convert` does."""
    if path.is_dir():
        raise DatasetError(
            f"{path} is a folder: give another place for an HDF5 file.", code="target-is-folder"
        )
    if not path.exists():
        return
    require_unused(path)
    if isinstance(source.store.store, Hdf5Store) and path.samefile(source.store.store.path):
        raise SpecError(
            f"{path} is the dataset itself: give another place for the result.", code="target-is-source"
        )
    try:
        target = DatasetStore(Hdf5Store(path), str(path))
        target.existing_document()
        lost = set(own_paths(target, source.document)) - set(source.own)
    except DatasetError as exc:
        raise DatasetError(
            f"{path} is there, and only a sound dataset of fgbgpack's is ever replaced: give another place, "
            f"or delete it. {exc.message}",
            code="dataset-foreign",
        ) from exc
    differences = [f"/{own}: only the one that is there has it" for own in sorted(lost)]
    Run(target, run.engine, run.on_event).existing(
        lambda existing: differences if existing == source.document else [_ANOTHER, *differences],
        overwrite=overwrite,
    )


# --- to Zarr ---------------------------------------------------------------------------------------


def to_zarr(source: Source, run: Run, *, overwrite: bool, keeps_manifest: bool = False) -> None:
    """Make a Zarr dataset of another, or finish it, as :func:`convert` does.

    It keeps the manifest of the other, if asked for or if something of it is lost, to tell what is not as it
    was.
    """
    begun = source.document.begun()
    with run.exclusive():
        existing = run.existing(
            lambda existing: [] if existing == source.document or existing.begun() == begun else [_ANOTHER],
            overwrite=overwrite,
        )
        if existing == source.document:
            run.notify(f"{run.name} is complete already.")
            return
        if existing is None:
            run.begin(begun)
        else:
            run.notify(f"Resuming {run.name}.")
        store = run.store
        root, begun_root = root_of(source.root), store.root()
        root["attributes"] |= {name: begun_root["attributes"][name] for name in (ATTRIBUTE, DIGEST)}
        store.replace_root(root)
        for path, metadata in source.metadata.items():
            store.put(f"{path}/{METADATA}", metadata)
        for path, form in source.forms.items():
            store.written.declare(path, form.layout, sharded=form.sharded)
        run.execute(_ChunkCopy(source))
        for own, parts in source.own_nodes(run):
            put_own_node(store, own, parts)
        if source.lost or keeps_manifest:
            store.replace_root(parse_json(source.root_text()), was_complete=False)
        else:
            store.commit(source.document)


class _ChunkCopy:
    """The stage that copies the chunks of all arrays; its shards are those of all of them in turn."""

    name: ClassVar[StageName] = "chunks"
    recipe_store = None

    def __init__(self, source: Source) -> None:
        self._source = source
        self._copied: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        # What is copied already is known where the work is sent from.
        return {"_source": self._source, "_copied": set()}

    @cached_property
    def _shards(self) -> list[tuple[str, int]]:
        """The array and the number of every shard."""
        forms = self._source.forms
        return [(path, shard) for path, form in forms.items() for shard in range(form.layout.shards)]

    @property
    def total(self) -> int:
        return self._source.chunk_count

    def size(self, shard: int) -> int:
        path, number = self._shards[shard]
        return len(self._source.forms[path].chunks_of(number))

    def missing(self, store: DatasetStore) -> list[int]:
        """The shards that are not there; chunks in no shard are copied once: nothing tells their state."""
        there = {
            (path, shard)
            for path, form in self._source.forms.items()
            if form.sharded
            for shard in whole_shards(store, path, form.layout)
        }
        there |= {
            (path, shard)
            for path, shard in map(self._shards.__getitem__, self._copied)
            if self._source.may_lack(path) or not self._source.forms[path].sharded
        }
        there |= self._source.lost
        return [number for number, shard in enumerate(self._shards) if shard not in there]

    def is_needed(self, shard: int) -> bool:
        return True

    def part(self, shard: int) -> Stage:
        return self

    def take(self, shard: int, found: bool) -> None:
        """Note that a shard is copied, and whether what it holds is lost."""
        self._copied.add(shard)
        if found:
            self._source.lost.add(self._shards[shard])

    def produce(self, shard: int, monitor: Monitor) -> Product:
        monitor.check()
        path, number = self._shards[shard]
        form = self._source.forms[path]
        try:
            chunks = self._source.recoded(path, form.chunks_of(number), form.codec)
        except DatasetError as exc:
            if not self._source.may_be_damaged or exc.code == "io-failed":
                raise
            monitor.advance(len(form.chunks_of(number)))
            return Product(found=True)
        monitor.advance(len(chunks))
        written = [chunk for chunk in chunks if chunk is not None]
        if not written:
            return Product(found=False)
        value = join(chunks, form.layout.grid) if form.sharded else written[0]
        return Product({f"{path}/{form.layout.key(number)}": value}, found=False)
