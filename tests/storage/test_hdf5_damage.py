"""HDF5 files that are damaged, incomplete or written by others are read right or refused by name."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import os
import shutil
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from builders import assert_same_arrays, names_in, tree, value
from refusals import refused

import fgbgpack
from fgbgpack import open_dataset
from fgbgpack.errors import DatasetError, MissingPackageError, SpecError
from fgbgpack.pipeline import convert
from fgbgpack.storage.hdf5 import Hdf5Store, parts, probe

FORMS = ("normal", "portable")


def read_all(path):
    dataset = open_dataset(path)
    return dataset.to_numpy() | {
        name: dataset.whole(name) for name in ("depth_min", "sources/background", "sources/foreground")
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_any_shorter_length_is_refused(own, form):
    path = own("depth", form)
    whole = path.read_bytes()
    lengths = {0, 1, 7, 8, 9, 95, 96, 97, 2_000, len(whole) - 1, len(whole) - 8, len(whole) // 2}
    for length in sorted(lengths | set(range(100, len(whole), 4_999)), reverse=True):
        os.truncate(path, length)
        with pytest.raises(DatasetError, match=r"own\.h5 is") as caught:
            open_dataset(path)
        assert caught.value.code in (("file-not-hdf5",) if length < 8 else ("file-cut-short", "file-damaged"))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "arrays"), [("guided", None), ("depth", ["depth", "depth_max"])])
def test_a_flipped_bit_in_a_chunk_is_an_error_that_names_it(own, tmp_path, kind, arrays, form):
    path = own(kind, form)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for name, array in Hdf5Store(path).file.arrays.items():
        if arrays is not None and name not in arrays:
            continue
        for number in rng.choice(len(array.chunks), min(2, len(array.chunks)), replace=False).tolist():
            offset, size = array.span(number)
            damaged = bytearray(whole)
            damaged[offset + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            shard, inner = divmod(number, array.form.chunks_per_shard)
            key = f"{name}/{array.form.layout.key(shard)}"
            named = rf"^Chunk {inner} of shard .*own\.h5/{key} "
            with refused(DatasetError, "checksum-wrong", named):
                open_dataset(path, pixels="stored").whole(name)
            with refused(DatasetError, "checksum-wrong", named):
                value(fgbgpack.store(path), key)
            with refused(DatasetError, "checksum-wrong", named):
                convert(path, tmp_path / "out.h5")
            assert names_in(tmp_path) == ["own.h5"]


def test_what_is_not_hdf5_is_refused(tmp_path):
    path = tmp_path / "it.h5"
    with refused(DatasetError, "dataset-missing", r"it\.h5"):
        open_dataset(path)
    for content in (b"", b"\x89HDF", b"PK\x03\x04 and more", bytes(5_000)):
        path.write_bytes(content)
        with refused(DatasetError, "file-not-hdf5", r"it\.h5"):
            open_dataset(path)
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros(5)
    with refused(DatasetError, "dataset-foreign", r"it\.h5"):
        open_dataset(path)
    path.write_bytes(path.read_bytes()[:8] + bytes(3_000))
    with refused(DatasetError, "file-damaged", r"it\.h5"):
        open_dataset(path)


def by_others(path):
    """Make a file of ours one that h5py wrote, in which attributes hold the metadata."""
    file = Hdf5Store(path).file
    with h5py.File(path) as old, h5py.File(path.with_name("others.h5"), "w") as new:
        for name, metadata in file.nodes.items():
            if name in file.arrays:
                old.copy(name, new, name=name, without_attrs=True)
            else:
                new.create_group(name)
            new[name].attrs["zarr"] = metadata.decode()
        new.attrs["fgbgpack"] = json.dumps(json.loads(file.root)["attributes"]["fgbgpack"])
    path.with_name("others.h5").replace(path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_others_wrote_is_read(own, kinds, tmp_path, form):
    path = by_others(own(form=form))
    store = Hdf5Store(path)
    assert not store.file.sealed
    assert_same_arrays(open_dataset(path).to_numpy(), open_dataset(kinds["depth"]).to_numpy())
    ours = Hdf5Store(kinds.hdf5("depth", form)).file
    for name in ours.arrays:
        np.testing.assert_array_equal(store.file.chunk_sums(name), ours.chunk_sums(name))
    convert(path, tmp_path / "it.h5", portable=form == "portable")
    assert (tmp_path / "it.h5").read_bytes() == kinds.hdf5("depth", form).read_bytes()
    open_dataset(path).save_split("mine", {"a": 0.5, "b": 0.5})
    assert Hdf5Store(path).file.sealed


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("", "document-damaged"),
        ("[]", "schema-mismatch"),
        ("{}", "schema-mismatch"),
        ('{"complete": true}', "schema-mismatch"),
        ('{"schema": "dataset/1.0", "complete": true, "depth": null}', "schema-violated"),
        ('{"schema": "dataset/7.0", "complete": true, "depth": null}', "schema-newer"),
    ],
)
def test_a_document_that_is_none_is_refused(own, document, code):
    path = by_others(own())
    with h5py.File(path, "r+") as file:
        file.attrs["fgbgpack"] = document
    with refused(DatasetError, code, r"own\.h5"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("node", "code"),
    [
        ('{"node_type": "array"}', "metadata-damaged"),
        ("[]", "file-damaged"),
        ("{", "file-damaged"),
        ("3", "file-damaged"),
        ('{"node_type": "group"}', "array-missing"),
    ],
)
def test_metadata_that_are_none_are_refused(own, node, code):
    path = by_others(own())
    with h5py.File(path, "r+") as file:
        file["image"].attrs["zarr"] = node
    with refused(DatasetError, code, r"own\.h5"):
        open_dataset(path)


def replaced(path, name, **options):
    """Write an array of a file anew, as another program might."""
    with h5py.File(path, "r+") as file:
        array, attributes = file[name][:], dict(file[name].attrs)
        kept = {key: value for key, value in attributes.items() if key in ("zarr", "quantity", "unit")}
        given = {"chunks": file[name].chunks, **options}
        for axis in range(file[name].ndim):
            for scale in list(file[name].dims[axis].values()):
                file[name].dims[axis].detach_scale(scale)
        del file[name]
        file.create_dataset(name, data=array.astype(given.pop("dtype", array.dtype)), **given)
        file[name].attrs.update(kept)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "none"),
        ({"compression": "lzf"}, r"\[32000\]"),
        ({"compression": "gzip", "scaleoffset": 0}, "filters"),
        ({"chunks": (4, 21, 33)}, r"\(4, 21, 33\)"),
        ({"chunks": None}, "None"),
        ({"dtype": np.uint16}, "uint16 .* uint8"),
    ],
)
def test_an_array_that_is_stored_otherwise_is_refused(own, kinds, options, named):
    path = own()
    replaced(path, "mask", **options)
    cut_otherwise = "dtype" in options or "chunks" in options
    with refused(DatasetError, "array-foreign" if cut_otherwise else "file-changed", r"own\.h5/mask "):
        open_dataset(path)
    path = by_others(Path(shutil.copy(kinds.hdf5("depth"), path)))
    replaced(path, "mask", **options)
    with refused(DatasetError, "array-foreign", rf"own\.h5/mask .*{named}"):
        open_dataset(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "fletcher32": True, "shuffle": True},
        hdf5plugin.Zstd(clevel=9),
        {**hdf5plugin.Zstd(clevel=1), "fletcher32": True},
    ],
)
def test_an_array_that_others_have_encoded_anew_is_read(own, kinds, tmp_path, options):
    path, expected = by_others(own()), open_dataset(kinds["depth"]).to_numpy()
    for name in ("image", "mask"):
        replaced(path, name, **options)
    assert_same_arrays(open_dataset(path).to_numpy(), expected)
    convert(path, tmp_path / "it.zarr")
    assert_same_arrays(open_dataset(tmp_path / "it.zarr").to_numpy(), expected)
    convert(path, tmp_path / "it.h5")
    assert_same_arrays(open_dataset(tmp_path / "it.h5").to_numpy(), expected)


def test_a_chunk_that_skips_filters_is_refused(own):
    path = by_others(own())
    with h5py.File(path, "r+") as file:
        array = file["mask"]
        array.id.write_direct_chunk((0, 0, 0), bytes(math.prod(array.chunks)), 1)
    with refused(DatasetError, "array-foreign", r"own\.h5/mask has chunks that skip a filter"):
        open_dataset(path)


def test_a_missing_chunk_is_refused_and_never_read_as_nothing(own, kinds):
    path = by_others(own())
    with h5py.File(path, "r+") as file:
        chunks = [file["mask"].id.get_chunk_info(i) for i in range(file["mask"].id.get_num_chunks())]
        encoded = [file["mask"].id.read_direct_chunk(chunk.chunk_offset) for chunk in chunks]
        creation, kind = file["mask"].id.get_create_plist(), file["mask"].id.get_type()
        space, attributes = file["mask"].id.get_space(), file["mask"].attrs["zarr"]
        del file["mask"]
        made = h5py.Dataset(h5py.h5d.create(file.id, b"mask", kind, space, creation))
        made.attrs["zarr"] = attributes
        for chunk, (mask, value) in list(zip(chunks, encoded, strict=True))[1:]:
            made.id.write_direct_chunk(chunk.chunk_offset, value, mask)
    with refused(DatasetError, "chunk-missing", r"own\.h5/mask .*\b1 of its 8 chunks"):
        open_dataset(path)
    # Where depth was not asked for, none of its chunks is there, and that is no damage.
    assert np.isnan(open_dataset(kinds.hdf5("plain", "normal")).depth[:]).all()


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_without_the_packages_one_is_told_what_to_install(kinds, tmp_path, monkeypatch, form):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    # Reading needs no plugins, nor does writing for who has none.
    assert len(open_dataset(kinds.hdf5("depth", form)).to_numpy()["image"]) == 36
    convert(kinds.hdf5("depth", form), tmp_path / "portable.h5", portable=True)
    convert(kinds.hdf5("depth", form), tmp_path / "it.zarr")
    with refused(MissingPackageError, "extra-missing", "hdf5plugin.*--portable"):
        convert(kinds["depth"], tmp_path / "it.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    convert(kinds.hdf5("depth", form), tmp_path / "new.zarr")
    others = tmp_path / "others.h5"
    content = bytearray(kinds.hdf5("depth", form).read_bytes())
    content[9] ^= 1
    others.write_bytes(content)
    for call in (
        lambda: convert(kinds["depth"], tmp_path / "it.h5", portable=True),
        lambda: open_dataset(others),
    ):
        with refused(MissingPackageError, "extra-missing", "h5py"):
            call()
    assert names_in(tmp_path) == ["it.zarr", "new.zarr", "others.h5", "portable.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["depth", "guided"])
def test_a_damaged_zarr_is_refused_and_leaves_no_file(kinds, tmp_path, kind):
    source = tmp_path / "it.zarr"
    expected = tree(kinds[kind])
    shutil.copytree(kinds[kind], source)
    shards = [name for name in expected if "/c/" in name]
    rng = np.random.default_rng(1)
    for name in [next(n for n in shards if n.startswith(f"{array}/c")) for array in ("image", "depth", "x")]:
        content = expected[name]
        damaged = bytearray(content)
        damaged[int(rng.integers(20, len(content) // 2))] ^= 4
        for change, codes in (
            (bytes(damaged), {"checksum-wrong"}),
            (content[: len(content) // 2], {"checksum-wrong", "chunk-foreign"}),
            (None, {"chunk-missing"}),
        ):
            if change is None:
                (source / name).unlink()
            else:
                (source / name).write_bytes(change)
            for portable in (False, True):
                with pytest.raises(DatasetError, match=rf"it\.zarr/{name} ") as caught:
                    convert(source, tmp_path / "it.h5", portable=portable)
                assert caught.value.code in codes
            assert names_in(tmp_path) == ["it.zarr"]
        (source / name).write_bytes(content)
    for name in ("image/zarr.json", "x/zarr.json"):
        for content, code in (
            (b"", "array-missing"),
            (b"{", "metadata-damaged"),
            (expected[name][:-9], "metadata-damaged"),
            (b'{"node_type": "group"}', "array-missing"),
        ):
            (source / name).write_bytes(content)
            with refused(DatasetError, code, rf"/{name.partition('/')[0]}\b"):
                convert(source, tmp_path / "it.h5")
        assert names_in(tmp_path) == ["it.zarr"]
        (source / name).write_bytes(expected[name])
    convert(source, tmp_path / "it.h5")


def test_only_hdf5_is_portable(kinds, tmp_path):
    with refused(SpecError, "target-not-hdf5", r"it\.zarr"):
        convert(kinds["plain"], tmp_path / "it.zarr", portable=True)


# --- damage that means harm -------------------------------------------------------------------------


def test_a_library_that_never_ends_is_ended(own, monkeypatch):
    path = own()
    with h5py.File(path, "r+") as file:
        file["labels"] = np.arange(36)
    endless = path.with_name("endless.py")
    endless.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(probe, "SECONDS", 0.5)
    monkeypatch.setattr(probe.child, "__file__", str(endless))
    with refused(DatasetError, "file-damaged", r"own\.h5 is damaged: .* within 0.5 s"):
        open_dataset(path)
    endless.write_text("import os\nos.abort()\n")
    with refused(DatasetError, "file-damaged", r"own\.h5 is damaged: .* ended with status -6"):
        open_dataset(path)


def test_exchanged_chunks_are_found(own):
    """Each is whole, and in the place of another of the same size."""
    path = own("depth")
    whole = bytearray(path.read_bytes())
    spans = [
        (name, *span)
        for name, array in Hdf5Store(path).file.arrays.items()
        for span in map(array.span, range(len(array.chunks)))
    ]
    contents = {(name, at): bytes(whole[at : at + size]) for name, at, size in spans}
    (name, first), (_, second) = next(
        (one, two)
        for one, two in itertools.combinations(contents, 2)
        if len(contents[one]) == len(contents[two]) and contents[one] != contents[two]
    )
    size = len(contents[name, first])
    one, two = whole[first : first + size], whole[second : second + size]
    whole[first : first + size], whole[second : second + size] = two, one
    path.write_bytes(whole)
    with refused(DatasetError, "chunk-foreign", name):
        open_dataset(path, pixels="stored").whole(name)


def rewritten(path, **changes):
    """Change what the slots of a file say, with digests that are right, as who means harm would."""
    file = Hdf5Store(path).file
    with path.open("r+b") as opened:
        parts.write_front(opened.fileno(), dataclasses.replace(file.front, sequence=9, **changes))


def with_index(path, change):
    """Change the index of a file likewise."""
    file = Hdf5Store(path).file
    content = change(file.index.encode())
    digest = hashlib.sha256(content).hexdigest()
    with path.open("r+b") as opened:
        opened.seek(file.front.index[0])
        opened.write(content)
    rewritten(path, index_sha256=digest, index=(file.front.index[0], len(content)))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: b"[]",
        lambda text: b"[" * 40_000,
        lambda text: b"\xff" * 99,
        lambda text: text.replace(b'"consolidated_metadata"', b'"other"'),
        lambda text: text.replace(b'"node_type": "array"', b'"node_type": ["array"]'),
        lambda text: text.replace(b'"chunk_shape"', b'"chunk"'),
        lambda text: text.replace(b'"mask": {', b'"mask": 5, "x": {'),
        lambda text: text.replace(b"36,", b"36000000000,"),
        lambda text: text.replace(b"36,", b"0,"),
        lambda text: text.replace(b"5,", b"0,"),
        lambda text: text.replace(b"5,", b"-5,"),
    ],
)
def test_a_document_that_means_harm_is_refused(own, change):
    path = own()
    rewritten(path, text=change(Hdf5Store(path).file.root))
    with pytest.raises(DatasetError):
        read_all(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: b"",
        lambda index: b"{}",
        lambda index: b"[" * 40_000,
        lambda index: index.replace(b'"image"', b'"imagf"'),
        lambda index: index.replace(b"[32015, 3]", b"[32001, 3]"),
        lambda index: index.replace(b"[32015, 3]", b'["3201", 3]'),
        lambda index: index.replace(b", 8]", b", -1]"),
        lambda index: index.replace(b", 8]", b", 9]"),
        lambda index: index[: index.index(b"\n") + 1] + bytes(len(index) - index.index(b"\n") - 1),
        lambda index: index[: index.index(b"\n") + 1] + b"\xfe" * (len(index) - index.index(b"\n") - 1),
        lambda index: index[:-5],
    ],
)
def test_an_index_that_means_harm_is_refused(own, change):
    path = own()
    with_index(path, change)
    with pytest.raises(DatasetError):
        read_all(path)


@pytest.mark.parametrize("index", [(0, 0), (10**15, 10**15), (0, 10**15)])
def test_an_index_that_is_not_there_is_made_anew(own, kinds, index):
    path = own()
    rewritten(path, index=index)
    assert_same_arrays(open_dataset(path).to_numpy(), open_dataset(kinds["depth"]).to_numpy())
    assert not Hdf5Store(path).file.sealed
