"""How a dataset gets its manifest, and what is not as the manifest says."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from zarr.storage import LocalStore

from fgbgpack.document import DEPTH, EXTREMES, MANIFEST, Document
from fgbgpack.errors import DatasetError
from fgbgpack.files import PARTIAL, disk_errors
from fgbgpack.inputs import parse_json
from fgbgpack.manifest_info import ManifestInfo
from fgbgpack.storage.arrays import METADATA, ArrayForm, Node, group_metadata
from fgbgpack.storage.beside import HIDDEN
from fgbgpack.storage.hdf5 import GROUP, Hdf5Store
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.manifest import (
    Checksums,
    check_chunks,
    checksums_of,
    chunk_count,
    copies_in,
    differing,
    joined_paths,
    manifest_array,
    manifest_of,
    parts_of,
)
from fgbgpack.storage.sharding import read_index

if TYPE_CHECKING:
    from fgbgpack.storage.store import DatasetStore

#: Objects that are read back together.
_READ_BACK = 8
_SHOWN = 3


def manifest_for(store: DatasetStore, document: Document, *, may_lack: bool = False) -> ManifestInfo | None:
    """The manifest of the arrays that are whole, published; the one before where nothing has changed. They
    ``may_lack`` chunks of nothing but the fill value, which other tools than this leave out.
    """
    paths, before = document.whole_arrays, store.manifest
    if not paths:
        return None
    known = {} if before is None else before.arrays
    if before is not None and set(known) == set(paths) and not store.written.changed & set(paths):
        return before
    forms = store.forms(paths, checked=False)
    found = zip(paths, store.get_all(f"{path}/{METADATA}" for path in paths), strict=True)
    nodes = {path: parse_json(value or b"{}") for path, value in found}
    checksums = {path: _checksums(store, path, forms[path], may_lack) for path in paths}
    manifest = manifest_of(nodes, checksums)
    spec = manifest_array(manifest)
    for number, part in enumerate(parts_of(checksums.values())):
        store.write_rows(spec, number, part)
    store.declare(spec)
    store.put_changed(f"{MANIFEST}/{METADATA}", group_metadata())
    return manifest


def sweep_manifests(store: DatasetStore, manifest: ManifestInfo | None) -> None:
    """Delete the manifests that are not that one, which the document names."""
    for path in manifests_of(store) - {manifest and manifest.path}:
        store.delete_below(path)


def manifests_of(store: DatasetStore) -> set[str]:
    """The paths of all manifests that are there, or of which something is left."""
    return {f"{MANIFEST}/{name}" for name in store.names_in(MANIFEST)} - {f"{MANIFEST}/{METADATA}"}


def faulty_objects(store: DatasetStore) -> dict[str, list[int]]:
    """The objects that are missing, or not what the manifest says, by the numbers of their shards, of each
    array that has some; all of an array whose metadata are others.

    Of shards the index and, in local files, the end of each chunk is looked at; nothing is decoded.
    """
    found: dict[str, list[int]] = {}
    if isinstance(store.store, Hdf5Store):
        # Its chunks are there, or it is not opened.
        return found if store.store.file.damage is None else {f"{GROUP}/index": []}
    for path in store.manifest.arrays if store.manifest is not None else ():
        checks = store.checks(path)
        try:
            form = store.forms([path])[path]
        except DatasetError:
            found[path] = []
            continue
        sound = store.sound_shards(path, form.layout, checks=checks, sharded=form.sharded)
        if faulty := sorted(set(range(form.layout.shards)) - sound):
            found[path] = faulty
    return found


def check_metadata(name: str, found: Mapping[str, bytes | None], manifest: ManifestInfo) -> None:
    """Raises DatasetError where metadata of arrays, by their paths, are not what the manifest says."""
    nodes = {path: parse_json(metadata or b"{}") for path, metadata in found.items()}
    if wrong := differing(nodes, manifest.arrays):
        raise DatasetError(
            f"The metadata of {joined_paths(wrong, _SHOWN)} in {name} are not what the manifest says: the "
            "dataset was replaced while it was open, or something else than fgbgpack has changed them. Open "
            "it again, or restore it from a copy.",
            code="metadata-foreign",
        )


def wrong_copies(name: str, root: Node, manifest: ManifestInfo | None) -> DatasetError | None:
    """What is wrong with the copies of the arrays' metadata in the root, if the manifest says others."""
    if manifest is None or not (wrong := differing(copies_in(root), manifest.arrays)):
        return None
    return DatasetError(
        f"The copies of the metadata of {joined_paths(wrong, _SHOWN)} in the root of {name} are not what the "
        "manifest says: something else than fgbgpack has changed them. Write them anew with fgbgpack repair, "
        "or restore the dataset from a copy.",
        code="metadata-foreign",
    )


def sweep(store: DatasetStore) -> None:
    """Delete what writers left in a local folder that were killed, or wrote only a part: files half-written,
    and what a complete dataset does not have, manifests and notes.
    """
    if not isinstance(store.store, LocalStore):
        return
    root, notes = store.store.root, store.store.root / HIDDEN
    with disk_errors(store.name):
        for left_over in root.rglob("*.partial"):
            if PARTIAL.search(left_over.name):
                left_over.unlink(missing_ok=True)
    if len(manifests_of(store)) > 1 or notes.is_dir():
        # Where something is wrong with the document, it does not say which.
        with suppress(DatasetError):
            document = type(store)(store.store, store.name).document()
            if document is not None and document.complete:
                sweep_manifests(store, document.manifest)
                shutil.rmtree(notes, ignore_errors=True)


def missing_shards(
    store: DatasetStore, layouts: Mapping[str, Layout], among: range | None = None
) -> list[int]:
    """The shards, by their numbers, that one of some arrays lacks, or the extremes that belong to depth; all
    have the same number of shards, of which only those ``among`` some are looked at.
    """
    there = [
        whole_shards(store, array, layout, sharded=array not in EXTREMES, among=among)
        for array, layout in layouts.items()
    ]
    if (depth := layouts.get(DEPTH)) is not None:
        there += [whole_shards(store, array, depth.vector, sharded=False, among=among) for array in EXTREMES]
    looked_at = range(next(iter(layouts.values())).shards) if among is None else among
    return sorted(set(looked_at).difference(set[int].intersection(*there)))


def whole_shards(
    store: DatasetStore,
    path: str,
    layout: Layout,
    *,
    sharded: bool = True,
    among: range | None = None,
    read_back: bool = False,
) -> set[int]:
    """The shards of an array, or ``among`` some of them, that can be kept when it is finished: those that are
    sound and, where a power loss may have left files without some of their pages, or if they are to be
    ``read_back``, of which every chunk is.

    What was looked at counts as written, and is not read back once more.
    """
    sound = store.sound_shards(path, layout, sharded=sharded, among=among)
    if not (read_back or isinstance(store.store, LocalStore)):
        return sound
    store.written.declare(path, layout, sharded=sharded)
    unknown = sorted(sound - store.written.of(path, layout).keys())
    for start in range(0, len(unknown), _READ_BACK):
        shards = unknown[start : start + _READ_BACK]
        keys = [f"{path}/{layout.key(shard)}" for shard in shards]
        for shard, key, value in zip(shards, keys, store.get_all(keys), strict=True):
            try:
                _check_object(value or b"", layout, f"{store.name}/{key}", sharded)
                store.written.note(key, value or b"")
            except DatasetError:
                sound.remove(shard)
    return sound


def _check_object(value: bytes, layout: Layout, name: str, sharded: bool) -> Checksums:
    """The checksums of the chunks of a shard, or of a chunk that is in none, which are found right."""
    index = read_index(value, len(value), layout.grid, name).reshape(-1, 2) if sharded else None
    check_chunks(value, index, name)
    return checksums_of(value, index)


def unfilled_arrays(document: Document) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays of depth, by their paths, where a dataset is complete without depth: they have
    no chunks, and no manifest covers them.
    """
    if not document.complete or document.depth is not None:
        return {}
    samples = document.samples
    return {DEPTH: (samples, document.height, document.width), **dict.fromkeys(EXTREMES, (samples,))}


def check_unfilled(name: str, path: str, form: ArrayForm, shape: tuple[int, ...]) -> None:
    """Raises DatasetError where the metadata of an array without depth are others than it has."""
    attributes = {"quantity": None, "unit": None} if path == DEPTH else {}
    is_right = form.layout.shape == shape and form.dtype == np.float16 and dict(form.attributes) == attributes
    if not (is_right and np.isnan(form.fill)):
        raise DatasetError(
            f"The metadata of {name}/{path} are not those of a dataset without depth: something else than "
            "fgbgpack has changed them. Restore the dataset from a copy.",
            code="array-foreign",
        )


def discard(store: DatasetStore, faulty: Mapping[str, list[int]]) -> None:
    """Delete faulty objects, so that they are made again: the extremes of depth with the shard that they
    belong to.
    """
    store.claim()
    for path, shards in faulty.items():
        if not shards:
            store.delete_below(path)
            continue
        layouts = {one: store.layout(one) for one in ((DEPTH, *EXTREMES) if path in EXTREMES else (path,))}
        store.delete(
            f"{one}/{layout.key(shard)}"
            for one, layout in layouts.items()
            if layout is not None
            for shard in shards
        )


def put_back(store: DatasetStore, values: Mapping[str, bytes | None]) -> None:
    """Have under some keys what was there before, whole or not, as of a damaged shard some chunks may be: the
    manifest goes on to say what it said.
    """
    store.delete(key for key, value in values.items() if value is None)
    for key, value in values.items():
        if value is not None:
            store.put(key, value)
            store.written.forget(key)


def _checksums(store: DatasetStore, path: str, form: ArrayForm, may_lack: bool) -> Checksums:
    """The checksums of all chunks of an array: as they were written, as the manifest before has them, or else
    read back.
    """
    layout, checks, written = form.layout, store.checks(path), store.written.of(path, form.layout)
    if len(written) == layout.shards:
        return written.all
    per_shard, count = math.prod(layout.grid), chunk_count(layout)
    found = np.zeros(count, np.uint32)
    parts: Iterable[tuple[int, Checksums]] = written.items()
    if checks is not None and checks.chunks == count:
        found[:] = checks.all()
    else:
        missing = [shard for shard in range(layout.shards) if shard not in written]
        groups = (missing[start : start + _READ_BACK] for start in range(0, len(missing), _READ_BACK))
        read_back = (_read_back(store, path, form, group, may_lack).items() for group in groups)
        parts = chain(parts, chain.from_iterable(read_back))
    for shard, part in parts:
        found[shard * per_shard : (shard + 1) * per_shard] = part
    return found


def _read_back(
    store: DatasetStore, path: str, form: ArrayForm, shards: list[int], may_lack: bool
) -> dict[int, Checksums]:
    """The checksums of the chunks of some shards, which are found right."""
    keys, found = [f"{path}/{form.layout.key(shard)}" for shard in shards], {}
    for shard, key, value in zip(shards, keys, store.get_all(keys), strict=True):
        if value is None and may_lack:
            continue
        if value is None:
            raise DatasetError(
                f"{store.name}/{key} is missing: something else writes to the dataset, or it is damaged.",
                code="shards-lost",
            )
        found[shard] = _check_object(value, form.layout, f"{store.name}/{key}", form.sharded)
    return found
