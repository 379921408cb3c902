"""A dataset on disk: its store, its document, the layout of its arrays, and how they are written."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, StorePath

from fgbgpack import schema
from fgbgpack.composition.placement import Plan
from fgbgpack.errors import DatasetError
from fgbgpack.sources.catalog import Catalog
from fgbgpack.storage.codecs import BloscChunk, ZstdChunk
from fgbgpack.storage.hdf5 import Hdf5Store, is_hdf5
from fgbgpack.storage.layout import Extent, Layout, depth_layout
from fgbgpack.storage.sharding import index_bytes, read_index

ROOT = "zarr.json"
ATTRIBUTE = "fgbgpack"
IMAGE, MASK, DEPTH, DEPTH_MIN, DEPTH_MAX = "image", "mask", "depth", "depth_min", "depth_max"
DEPTHS = (DEPTH, DEPTH_MIN, DEPTH_MAX)
PLACEMENTS = ("background", "foreground", "flip", "replica", "y", "x")
SOURCES = "sources"
SOURCE_ARRAYS = tuple(f"{SOURCES}/{name}" for name in ("background", "foreground", "foreground_size"))
BACKGROUND_DEPTH = f"{SOURCES}/background_depth"
#: The names of imported samples, (n, bytes) of UTF-8 padded with zeros: all readers of Zarr have such arrays.
NAME = "name"
_OF_RECIPE = (*PLACEMENTS, SOURCES, *SOURCE_ARRAYS)

PIXEL_CODEC = ZstdChunk()
#: Of depth per sample, and of guided depth, which repeats that of its background.
DEPTH_CODEC = BloscChunk(itemsize=2)
GUIDED_DEPTH_CODEC = BloscChunk(itemsize=2, compressor="lz4hc", level=7, whole=True)
BACKGROUND_DEPTH_CODEC = BloscChunk(itemsize=4)

_CONCURRENT_REQUESTS = 32
_SHOWN = 3
_VECTOR_CHUNK = 1 << 16
_SOURCE_CHUNK_BYTES = 8 << 20
#: The depth of backgrounds is cut into about so many shards: few files, and little to do again after a kill.
_BACKGROUND_DEPTH_SHARDS = 64
#: What Zarr's local store calls a file until it is whole.
_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")

T = TypeVar("T")


# --- the store -------------------------------------------------------------------------------------


def store_of(target: str | Path | Store, *, read_only: bool) -> Store:
    """The Zarr store of a local folder, an HDF5 file, a URL that fsspec opens, or the store itself.

    Raises:
        DatasetError: A local path that is to be read and is not there or no dataset, or an HDF5 file that is
            to be written.
    """
    if isinstance(target, Store):
        return target
    if str(target).startswith("file://"):
        target = url2pathname(urlsplit(str(target)).path)
    elif "://" in str(target):
        return _remote_store(str(target), read_only)
    path = Path(target)
    if path.is_file() or (is_hdf5(path) and not path.is_dir()):
        if not read_only:
            raise DatasetError(
                f"{path} is {'an HDF5' if is_hdf5(path) else 'a'} file, which is not written here: make a "
                "folder (Zarr); fgbgpack convert makes HDF5 of that, and that of HDF5."
            )
        return Hdf5Store(path)
    if read_only and not path.is_dir():
        raise DatasetError(f"There is no dataset at {path}: no such folder.")
    return LocalStore(path, read_only=read_only)


def _remote_store(url: str, read_only: bool) -> Store:
    try:
        return FsspecStore.from_url(url, read_only=read_only)
    except ImportError as exc:
        raise DatasetError(
            f"{url} is a URL, which needs fsspec and the package of its protocol: pip install fsspec ({exc})"
        ) from exc
    except ValueError as exc:
        raise DatasetError(f"{url} is a URL that fsspec does not open: {exc}.") from exc


def name_of(target: str | Path | Store) -> str:
    """How messages call a dataset."""
    return str(target)


class Keys:
    """The keys of a store, read and written whole, from any thread.

    Args:
        store: Any Zarr store. A key must appear whole or not at all when it is set, as it does in all
            of Zarr's own stores.
        name: What messages call it.

    Attributes:
        store: The store.
        name: What messages call it.

    Raises:
        DatasetError: From every method, where the store cannot be read or written.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name

    @property
    def exist(self) -> bool:
        """Whether there is anything to read; asking does not make a local folder, as reading would."""
        return not isinstance(self.store, LocalStore) or self.store.root.is_dir()

    def get(self, key: str) -> bytes | None:
        """The value of a key; ``None`` if there is none."""
        value = self._run(self.store.get(key, default_buffer_prototype()))
        return None if value is None else value.to_bytes()

    def get_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """The values of some keys, which are asked for at once; ``None`` for those that are not there."""

        async def get(key: str) -> bytes | None:
            value = await self.store.get(key, default_buffer_prototype())
            return None if value is None else value.to_bytes()

        return self._each(list(keys), get)

    def put(self, key: str, value: bytes) -> None:
        """Publish a value under a key, in one step."""
        self._run(self.store.set(key, default_buffer_prototype().buffer.from_bytes(value)))

    def find(self, prefix: str, at_most: int | None = None) -> list[str]:
        """The keys that start with ``prefix``, sorted, without what a writer has not finished."""

        async def collect() -> list[str]:
            found: list[str] = []
            async for key in self.store.list_prefix(prefix):
                if not _PARTIAL.search(key):
                    found.append(key)
                if len(found) == at_most:
                    break
            return sorted(found)

        return self._run(collect())

    def delete_below(self, prefix: str) -> None:
        """Delete every key below ``prefix``."""
        self._run(self.store.delete_dir(prefix))

    def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """The size of the value of each key, in bytes."""
        keys = list(keys)
        return dict(zip(keys, self._each(keys, self.store.getsize), strict=True))

    def sound_shards(self, array: str, layout: Layout) -> set[int]:
        """Which shards of an array are there, with an index that is whole and points inside them."""
        if isinstance(self.store, Hdf5Store):
            return self.store.file.shards_there(array)
        known = {f"{array}/{layout.key(i)}": i for i in range(layout.shards)}
        present = [key for key in self.find(f"{array}/c/") if key in known]
        tail_bytes = index_bytes(math.prod(layout.grid))

        async def check(key: str) -> bool:
            size = await self.store.getsize(key)
            tail = await self.store.get(key, default_buffer_prototype(), SuffixByteRequest(tail_bytes))
            try:
                read_index(b"" if tail is None else tail.to_bytes(), size, layout.grid, key)
            except DatasetError:
                return False
            return True

        sound = self._each(present, check)
        return {known[key] for key, good in zip(present, sound, strict=True) if good}

    def sweep(self) -> None:
        """Delete what writers that were killed left half-written in a local folder."""
        if isinstance(self.store, LocalStore):
            with _explained(self.name):
                for left_over in self.store.root.rglob("*.partial"):
                    if _PARTIAL.search(left_over.name):
                        left_over.unlink(missing_ok=True)

    def _each(self, keys: list[str], action: Callable[[str], Coroutine[Any, Any, T]]) -> list[T]:
        async def all_of_them() -> list[T]:
            limit = asyncio.Semaphore(_CONCURRENT_REQUESTS)

            async def one(key: str) -> T:
                async with limit:
                    return await action(key)

            return await asyncio.gather(*(one(key) for key in keys))

        return self._run(all_of_them())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with _explained(self.name):
            try:
                return sync(work)
            except (OSError, DatasetError):
                raise
            except Exception as exc:  # each kind of store has errors of its own
                raise DatasetError(f"{self.name} cannot be read or written: {exc}.") from exc


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Say clearly that the disk is full, or that the place cannot be read or written."""
    try:
        yield
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DatasetError(
                f"The disk that holds {name} is full: make room and run the same command again. "
                "What is written already stays."
            ) from exc
        raise DatasetError(f"{name} cannot be read or written: {exc}.") from exc


@contextmanager
def exclusive(store: Store, name: str) -> Iterator[None]:
    """Keep other processes of this machine from writing the same dataset: two writers lose data.

    The lock is the system's, on the folder itself: it leaves no file, and a process that dies frees it.

    Raises:
        DatasetError: Another process writes it, or the folder cannot be made.
    """
    if not isinstance(store, LocalStore) or os.name != "posix":
        yield
        return
    try:
        with ExitStack() as lock:
            with _explained(name):
                store.root.mkdir(parents=True, exist_ok=True)
                lock.enter_context(
                    locked(store.root, f"Another process is writing {name}: wait for it, or end it.")
                )
            Keys(store, name).sweep()
            yield
    finally:
        # Where nothing was written, nothing is left: a folder with anything in it stays.
        with suppress(OSError):
            store.root.rmdir()


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """Hold the system's lock on a folder, where the system has such a thing.

    Raises:
        DatasetError: Another process holds it: ``refusal``.
        OSError: The folder cannot be opened.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A folder that another process has just removed is still there to be locked.
            alone = folder.is_dir() and os.path.samestat(os.fstat(held), folder.stat())
        except BlockingIOError:
            alone = False
        if not alone:
            raise DatasetError(refusal)
        yield
    finally:
        os.close(held)


# --- the document ----------------------------------------------------------------------------------


def read_document(keys: Keys, name: str) -> dict[str, Any] | None:
    """The document of a dataset, checked and of the newest version; ``None`` where nothing is at all.

    Raises:
        DatasetError: Something else is there, or a document that is damaged or of a newer schema.
    """
    if not keys.exist:
        return None
    root = keys.get(ROOT)
    if root is None:
        others = keys.find("", at_most=_SHOWN)
        if others:
            raise DatasetError(
                f"{name} holds other things than a dataset ({', '.join(others)}, ...): give another place."
            )
        return None
    try:
        node = json.loads(root)
        document = node["attributes"][ATTRIBUTE]
    except (ValueError, KeyError, TypeError) as exc:
        kind = "a Zarr store" if b"zarr_format" in root else "a folder"
        raise DatasetError(f"{name} is {kind} that fgbgpack did not make: give another place.") from exc
    document = schema.read("dataset", document, where=name)
    if has_recipe(document):
        document["spec"] = schema.read("spec", document["spec"], where=f"the spec in {name}")
    if document["depth"] is not None and document["depth"]["mode"] != "imported":
        card = document["depth"]["model"]
        document["depth"]["model"] = schema.read(
            "depth-model", card, where=f"the depth model's card in {name}"
        )
        if document["depth"]["guide"] is not None:
            card = document["depth"]["guide"]["model"]
            document["depth"]["guide"]["model"] = schema.read(
                "depth-model", card, where=f"the guided network's card in {name}"
            )
    return document


def write_document(keys: Keys, document: Mapping[str, Any]) -> None:
    """Publish the document, checked, in the root group; other attributes of the group stay.

    Once the dataset is complete its arrays' metadata will not change, and the group gets a copy of it
    (Zarr's inline consolidated metadata): a reader far away then asks once instead of once an array.

    Raises:
        DatasetError: The document does not follow its schema.
    """
    checked = schema.read("dataset", document, where="the document to be written")
    root = keys.get(ROOT)
    node: dict[str, Any] = (
        json.loads(root) if root else {"zarr_format": 3, "node_type": "group", "attributes": {}}
    )
    node["attributes"][ATTRIBUTE] = checked
    node.pop("consolidated_metadata", None)
    if checked["complete"]:
        nodes = [*DEPTHS, *(_OF_RECIPE if has_recipe(checked) else (NAME,))]
        if not is_virtual(checked):
            nodes = [IMAGE, MASK, *nodes]
        if is_guided(checked["depth"]):
            nodes.append(BACKGROUND_DEPTH)
        below = {path: json.loads(keys.get(f"{path}/{ROOT}") or b"{}") for path in nodes}
        node["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": below}
    keys.put(ROOT, json.dumps(node, indent=2, ensure_ascii=False).encode())


def has_recipe(document: Mapping[str, Any]) -> bool:
    """Whether a dataset was made of sources and placements; else its pictures were imported as they were."""
    return "imported" not in document


def begun(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a dataset while all that is in it is still being written."""
    depth = document["depth"]
    return {
        **document,
        "complete": False,
        "pixels": {**document["pixels"], "complete": False},
        "depth": None if depth is None else {**depth, "complete": False},
    }


def is_guided(section: Mapping[str, Any] | None) -> bool:
    """Whether the depth section of a document is of depth that that of the backgrounds guided."""
    return section is not None and section["mode"] == "guided"


def is_virtual(document: Mapping[str, Any]) -> bool:
    """Whether a dataset has no /image and /mask: they are made of its recipe when they are read."""
    return not document["pixels"].get("stored", True)


# --- the layout ------------------------------------------------------------------------------------


def write_depth_arrays(
    keys: Keys, plan: Plan | Extent, section: Mapping[str, Any] | None, largest_error: float | None = None
) -> None:
    """Publish the metadata of /depth, of the minimum and maximum of each sample beside it, and of the
    backgrounds' depth where that guides it.

    Args:
        keys: The dataset.
        plan: Its samples.
        section: The depth section of its document; ``None`` while depth is not filled.
        largest_error: The largest rounding error, as a fraction of the range of all depth; ``None``
            until all depth is there.
    """
    layout = depth_layout(plan, guided=is_guided(section))
    codec = GUIDED_DEPTH_CODEC if is_guided(section) else DEPTH_CODEC
    codecs = codec.zarr_codecs(2 * math.prod(layout.chunk))
    memory = MemoryStore()
    attributes = _depth_attributes(section, largest_error)
    _create(memory, DEPTH, layout, np.float16, codecs, ("sample", "y", "x"), attributes)
    extent = Layout(layout.shape[:1], layout.shard[:1], layout.shard[:1])
    for array in (DEPTH_MIN, DEPTH_MAX):
        _create(memory, array, extent, np.float16, PIXEL_CODEC.zarr_codecs(), ("sample",), {})
    if section is not None and is_guided(section) and isinstance(plan, Plan):
        codecs, dimensions = BACKGROUND_DEPTH_CODEC.zarr_codecs(), ("background", "y", "x")
        layout = background_depth_layout(plan)
        _create(memory, BACKGROUND_DEPTH, layout, np.float32, codecs, dimensions, _meaning(section))
    _publish(memory, keys)


def _depth_attributes(section: Mapping[str, Any] | None, largest_error: float | None) -> dict[str, Any]:
    """The attributes of /depth: what its numbers mean and, once that is known, how they were rounded."""
    if section is None:
        return {"quantity": None, "unit": None}
    if section["mode"] == "imported":
        rounding = {
            "rule": "to the nearest float16",
            "largest_error": largest_error,
            "largest_error_of": "max - min of all depth",
        }
        return {**_meaning(section), **({} if largest_error is None else {"rounding": rounding})}
    if section["step"] is None:
        return _meaning(section)
    return {
        **_meaning(section),
        "rounding": {
            "step": section["step"],
            "rule": "to the nearest multiple of step, then to the nearest float16",
            "largest_error": largest_error,
            "largest_error_of": "max - min of all depth",
        },
    }


def _meaning(section: Mapping[str, Any]) -> dict[str, Any]:
    """What the numbers of depth mean: in the terms of the model's card, or of who imported it."""
    output = section if section["mode"] == "imported" else section["model"]["output"]
    return {"quantity": output["quantity"], "unit": output["unit"]}


def background_depth_layout(plan: Plan) -> Layout:
    """The layout of the backgrounds' depth: a chunk is that of one background."""
    backgrounds = len(plan.background_words)
    size = (plan.height, plan.width)
    held = max(1, _SOURCE_CHUNK_BYTES // (4 * plan.height * plan.width))
    held = min(held, -(-backgrounds // _BACKGROUND_DEPTH_SHARDS))
    return Layout((backgrounds, *size), (1, *size), (held, *size))


def read_background_depth(keys: Keys) -> NDArray[np.float32]:
    """The whole of /sources/background_depth, (B, h, w).

    Raises:
        DatasetError: It is damaged.
    """
    try:
        with _explained(keys.name):
            return np.asarray(zarr.open_array(store=keys.store, path=BACKGROUND_DEPTH, mode="r")[:])
    except (ValueError, RuntimeError, KeyError) as exc:
        raise DatasetError(
            f"The depth of the backgrounds in {keys.name} is damaged ({exc}): delete {BACKGROUND_DEPTH} "
            "there and run the same command again."
        ) from exc


def described_array(keys: Keys, path: str, metadata: bytes | None) -> zarr.Array[Any]:
    """An array as its own metadata describe it, which have been read.

    Raises:
        DatasetError: There is none, or they are damaged.
    """
    try:
        described = json.loads(metadata or b"{}")
        is_array = described.get("node_type") == "array"
        array = zarr.Array.from_dict(StorePath(keys.store, path), described) if is_array else None
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DatasetError(f"The metadata of array /{path} in {keys.name} is damaged: {exc}.") from exc
    if array is None:
        raise DatasetError(f"{keys.name} has no array /{path}: it is damaged, or its creation was cut off.")
    return array


def stored_layout(keys: Keys, array: str) -> Layout | None:
    """How an array that is there is cut; ``None`` if there is none."""
    if keys.get(f"{array}/{ROOT}") is None:
        return None
    return _layout_of(zarr.open_array(store=keys.store, path=array, mode="r"))


def _layout_of(array: zarr.Array[Any]) -> Layout:
    return Layout(array.shape, array.chunks, array.shards or array.chunks)


def write_pixel_arrays(keys: Keys, layouts: tuple[Layout, Layout]) -> None:
    """Publish the metadata of /image and /mask."""
    image, mask = layouts
    memory = MemoryStore()
    codecs = PIXEL_CODEC.zarr_codecs()
    _create(memory, IMAGE, image, np.uint8, codecs, ("sample", "y", "x", "channel"), {})
    _create(memory, MASK, mask, np.uint8, codecs, ("sample", "y", "x"), {})
    _publish(memory, keys)


def write_names(keys: Keys, names: Sequence[str]) -> None:
    """Publish the names of imported samples, none of which is empty."""
    memory = MemoryStore()
    longest = max(len(name.encode()) for name in names)
    chunk = min(len(names), max(1, _SOURCE_CHUNK_BYTES // longest))
    layout = Layout((len(names), longest), (chunk, longest), (chunk, longest))
    array = _create(memory, NAME, layout, np.uint8, PIXEL_CODEC.zarr_codecs(), ("sample", "byte"), {})
    for start in range(0, len(names), chunk):
        some = np.array([name.encode() for name in names[start : start + chunk]], f"S{longest}")
        array[start : start + len(some)] = some.view(np.uint8).reshape(-1, longest)
        _publish(memory, keys)


def write_static(keys: Keys, plan: Plan, catalog: Catalog) -> None:
    """Publish the placements and the sources."""
    memory = MemoryStore()
    codecs = PIXEL_CODEC.zarr_codecs()
    chunk = min(plan.samples, _VECTOR_CHUNK)
    whole = Layout((plan.samples,), (chunk,), (chunk,))
    dtypes = {"flip": np.bool_}
    vectors = [
        _create(memory, name, whole, dtypes.get(name, np.int32), codecs, ("sample",), {})
        for name in PLACEMENTS
    ]
    for start in range(0, plan.samples, chunk):
        stop = min(start + chunk, plan.samples)
        placements = plan.placements_of(range(start, stop))
        for name, vector in zip(PLACEMENTS, vectors, strict=True):
            vector[start:stop] = getattr(placements, name)
        _publish(memory, keys)

    zarr.create_group(store=memory, path=SOURCES)
    described: tuple[tuple[NDArray[Any], tuple[str, ...]], ...] = (
        (catalog.background, ("background", "y", "x", "channel")),
        (catalog.foreground, ("foreground", "patch_y", "patch_x", "rgba")),
        (catalog.foreground_size, ("foreground", "side")),
    )
    for path, (pictures, dimensions) in zip(SOURCE_ARRAYS, described, strict=True):
        step = max(1, min(len(pictures), _SOURCE_CHUNK_BYTES // max(1, pictures[0].nbytes)))
        cut = (step, *pictures.shape[1:])
        layout = Layout(pictures.shape, cut, cut)
        array = _create(memory, path, layout, pictures.dtype.type, codecs, dimensions, {})
        for first in range(0, len(pictures), step):
            array[first : first + step] = pictures[first : first + step]
            _publish(memory, keys)


def _create(
    store: Store,
    path: str,
    layout: Layout,
    dtype: type[np.generic],
    codecs: Mapping[str, Any],
    dimensions: tuple[str, ...],
    attributes: dict[str, Any],
) -> Any:
    sharded = layout.shard != layout.chunk or path in (IMAGE, MASK, DEPTH, BACKGROUND_DEPTH)
    return zarr.create_array(
        store=store,
        name=path,
        shape=layout.shape,
        chunks=layout.chunk,
        shards=layout.shard if sharded else None,
        dtype=dtype,
        fill_value=np.nan if issubclass(dtype, np.floating) else 0,
        dimension_names=dimensions,
        attributes=attributes,
        # A chunk of nothing but zeros is data like any other: its absence would mean it was never written.
        config={"write_empty_chunks": True},
        **codecs,
    )


def _publish(memory: MemoryStore, keys: Keys) -> None:
    """Move what was written in memory to the store, values before the metadata that tells of them."""
    staged = Keys(memory, "memory")
    for key in sorted(staged.find(""), key=lambda key: key.endswith(ROOT)):
        value = staged.get(key)
        # Zarr gives the store in memory groups of its own: the dataset's root holds its document.
        if key != ROOT and value is not None and keys.get(key) != value:
            keys.put(key, value)
        if not key.endswith(ROOT):
            sync(memory.delete(key))


def own_keys(keys: Keys) -> list[str]:
    """The keys that belong to a dataset; files that lie beside its document, as its cards do, are none."""
    return [key for key in keys.find("") if "/" in key or key == ROOT]


def stored_bytes(keys: Keys) -> dict[str, int]:
    """Bytes that each array takes in a store, by its path; the document is ``zarr.json``."""
    if isinstance(keys.store, Hdf5Store):
        return keys.store.file.stored_bytes()
    total: dict[str, int] = {}
    for key, size in keys.sizes(own_keys(keys)).items():
        parts = key.split("/")
        path = "/".join(parts[:2] if parts[0] == SOURCES and len(parts) > 2 else parts[:1])
        total[path] = total.get(path, 0) + size
    return total


def plan_of(spec: Mapping[str, Any], catalog: Catalog) -> Plan:
    """The plan of a spec's document with its sources."""
    return Plan(
        height=spec["height"],
        width=spec["width"],
        background_words=tuple(source.word for source in catalog.backgrounds),
        foreground_words=tuple(source.word for source in catalog.foregrounds),
        foreground_sizes=tuple((int(h), int(w)) for h, w in catalog.foreground_size),
        placements=spec["placements"],
        flip=spec["flip"],
        seed=spec["seed"],
    )
