"""Arrays as they are declared, against zarr-python's own; and what is found of arrays that are there."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import zarr
from builders import value
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from zarr.storage import MemoryStore

from fgbgpack.errors import DatasetError
from fgbgpack.storage.arrays import ArrayForm, ArraySpec, differences, group_metadata, parse_array
from fgbgpack.storage.codecs import BloscChunk, ZstdChunk
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.sealing import missing_shards
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import DatasetStore

DTYPES = (np.uint8, np.int8, np.int16, np.int32, np.bool_, np.float16, np.float32)
NAMES = ("sample", "y", "x", "channel")


@st.composite
def specs(draw, sharded=False):
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    chunk = (draw(st.integers(1, 4)), *shape[1:])
    shard = (chunk[0] * (draw(st.integers(1, 3)) if sharded else 1), *shape[1:])
    dtype = draw(st.sampled_from(DTYPES))
    itemsize = np.dtype(dtype).itemsize
    codec = draw(
        st.sampled_from(
            [
                ZstdChunk(),
                BloscChunk(itemsize),
                *([] if sharded else [None]),
            ]
        )
    )
    attributes = draw(
        st.sampled_from([{}, {"quantity": "depth", "unit": None}, {"größe": [1.5, {"a": "ß"}]}])
    )
    return ArraySpec(
        path=draw(st.sampled_from(["x", "sources/background"])),
        layout=Layout(shape, chunk, shard),
        dtype=dtype,
        dimensions=NAMES[: len(shape)],
        codec=codec,
        sharded=sharded,
        attributes=attributes,
    )


def by_zarr(spec):
    """The same array as zarr-python makes it."""
    store = MemoryStore()
    array = zarr.create_array(
        store,
        name=spec.path,
        shape=spec.layout.shape,
        chunks=spec.layout.chunk,
        shards=spec.layout.shard if spec.sharded else None,
        dtype=spec.dtype,
        fill_value=np.nan if issubclass(spec.dtype, np.floating) else 0,
        dimension_names=spec.dimensions,
        attributes=dict(spec.attributes),
        config={"write_empty_chunks": True},
        **({"compressors": None} if spec.codec is None else spec.codec.zarr_codecs()),
    )
    return store, array


def values_of(spec, seed):
    return np.random.default_rng(seed).integers(0, 2, spec.layout.shape).astype(spec.dtype)


@pytest.mark.slow
@settings(max_examples=60)
@given(specs(), st.integers(0, 5))
def test_metadata_and_chunks_are_those_that_zarr_writes(spec, seed):
    theirs, array = by_zarr(spec)
    values = values_of(spec, seed)
    # Rows that the last chunk has no values for are 0, whatever the fill value.
    whole = np.zeros((-(-len(values) // spec.layout.chunk[0]) * spec.layout.chunk[0], *values.shape[1:]))
    whole[: len(values)] = values
    array.resize(whole.shape)
    array[...] = whole
    array.resize(values.shape)
    ours = MemoryStore()
    store = DatasetStore(ours, "it")
    store.declare(spec)
    for number, rows in enumerate(spec.layout.rows()):
        store.write_rows(spec, number, values[rows])
    expected, found = (
        {key: content.to_bytes() for key, content in memory._store_dict.items() if spec.path in key}
        for memory in (theirs, ours)
    )
    assert found == expected
    np.testing.assert_array_equal(zarr.open_array(ours, path=spec.path, mode="r")[...], values)


@pytest.mark.slow
@settings(max_examples=40)
@given(specs(sharded=True), st.integers(0, 5))
def test_shards_of_a_declared_array_are_read_by_zarr_and_by_us(spec, seed):
    layout, values = spec.layout, values_of(spec, seed)
    memory = MemoryStore()
    store = DatasetStore(memory, "it")
    store.declare(spec)
    for shard in range(layout.shards):
        chunks = []
        for run in layout.chunk_runs(shard):
            chunk = np.zeros(layout.chunk, spec.dtype)
            chunk[: len(run)] = values[run.start : run.stop]
            chunks.append(spec.codec.encode(chunk))
        store.put(f"{spec.path}/{layout.key(shard)}", join(chunks, layout.grid))
    assert missing_shards(store, {spec.path: layout}) == []
    np.testing.assert_array_equal(zarr.open_array(memory, path=spec.path, mode="r")[...], values)
    np.testing.assert_array_equal(store.read(spec.path)[0], values)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.booleans().flatmap(lambda sharded: specs(sharded=sharded)))
def test_the_form_is_that_of_what_is_written(spec):
    if spec.codec is None:
        with pytest.raises(ValueError, match=f"{spec.path} is not encoded"):
            _ = spec.form
        with refused(DatasetError, "array-foreign", f"it/{spec.path}(.|\n)*bytes"):
            parse_array(spec.metadata(), spec.path, "it")
        return
    form = parse_array(spec.metadata(), spec.path, "it")
    # NaN does not equal itself.
    assert math.isnan(form.fill) == math.isnan(spec.form.fill) == issubclass(spec.dtype, np.floating)
    assert replace(form, fill=0) == replace(spec.form, fill=0)
    assert form == ArrayForm.of(json.loads(spec.metadata()), "it") or math.isnan(form.fill)
    grid = [-(-n // c) for n, c in zip(spec.layout.shape, spec.layout.chunk, strict=True)]
    assert form.grid == tuple(grid)
    assert form.chunk_count == math.prod(grid)
    assert form.chunks_per_shard == math.prod(spec.layout.grid)
    assert form.chunk_bytes == math.prod(spec.layout.chunk) * np.dtype(spec.dtype).itemsize
    numbers = [number for shard in range(form.layout.shards) for number in form.chunks_of(shard)]
    assert numbers == list(range(form.chunk_count))


IMAGE = ArraySpec("image", Layout((9, 4), (2, 4), (4, 4)), np.uint8, ("sample", "y"), sharded=True)


GZIP = {"name": "gzip", "configuration": {"level": 1}}


def changed(**fields):
    return json.dumps(json.loads(IMAGE.metadata()) | fields).encode()


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (None, "array-missing"),
        (b"", "array-missing"),
        (group_metadata(), "array-missing"),
        (b"{", "metadata-damaged"),
        (b"[]", "metadata-damaged"),
        (b"\xff", "metadata-damaged"),
        (IMAGE.metadata()[:-9], "metadata-damaged"),
        (changed(shape=[9]), "metadata-damaged"),
        (changed(data_type="colour"), "metadata-damaged"),
        (changed(codecs=[]), "metadata-damaged"),
        (changed(fill_value=None), "metadata-damaged"),
        (
            changed(codecs=[{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]),
            "array-foreign",
        ),
    ],
)
def test_an_array_that_is_not_there_or_damaged_or_foreign_is_named(metadata, code):
    with refused(DatasetError, code, r"lobby\.zarr.*/image|/image.*lobby\.zarr"):
        parse_array(metadata, "image", "lobby.zarr")


BIG_ENDIAN = {"name": "bytes", "configuration": {"endian": "big"}}
TRANSPOSE = {"name": "transpose", "configuration": {"order": [1, 0]}}


def edited(change):
    """The metadata of an image, of one byte an element, with a change."""
    node = json.loads(IMAGE.metadata())
    change(node)
    return json.dumps(node).encode()


def sharding(node):
    return node["codecs"][0]["configuration"]


def put(*path, to):
    """A change that puts a value in the place that a path leads to."""

    def change(node):
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = to

    return change


def in_shards(*path, to):
    return lambda node: put(*path, to=to)(sharding(node))


ABSURD = [
    None, True, -1, 0, 0.5, 2.0, 2**31, 2**60, 2**64, "", "4", [], {}, [4], [4, 4, 4], [0, 4], [-2, 4],
    [2.0, 4], [True, 4], ["2", 4], [2**31, 4], [2**60, 2**60],
]  # fmt: skip


@pytest.mark.parametrize("value", ABSURD)
def test_absurd_shapes_and_cuts_are_refused(value):
    outer = put("chunk_grid", "configuration", "chunk_shape", to=value)
    for change in (put("shape", to=value), outer, in_shards("chunk_shape", to=value)):
        with pytest.raises(DatasetError) as caught:
            parse_array(edited(change), "image", "it")
        assert caught.value.code in ("metadata-damaged", "array-foreign")
        assert caught.value.problems


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("zarr_format", to=2), "array-foreign"),
        (put("zarr_format", to=3.0), "array-foreign"),
        (lambda node: node.pop("zarr_format"), "metadata-damaged"),
        (put("data_type", to="int64"), "array-foreign"),
        (put("data_type", to=["uint8"]), "metadata-damaged"),
        (put("chunk_grid", "name", to="rectangular"), "array-foreign"),
        (put("chunk_key_encoding", "configuration", "separator", to="."), "array-foreign"),
        (put("chunk_key_encoding", "name", to="v2"), "array-foreign"),
        (put("fill_value", to=256), "metadata-damaged"),
        (put("fill_value", to=-1), "metadata-damaged"),
        (put("fill_value", to=0.0), "metadata-damaged"),
        (put("fill_value", to=False), "metadata-damaged"),
        (put("fill_value", to="NaN"), "metadata-damaged"),
        (put("storage_transformers", to=[{"name": "x"}]), "array-foreign"),
        (put("unknown", to={"name": "x"}), "array-foreign"),
        (put("dimension_names", to=["sample"]), "metadata-damaged"),
        (put("dimension_names", to=[1, 2]), "metadata-damaged"),
        (put("attributes", to=[]), "metadata-damaged"),
        (put("attributes", to={"quantity": "speed"}), "metadata-damaged"),
        (put("attributes", to={"unit": 3}), "metadata-damaged"),
        (put("attributes", to={"rounding": {"step": "large"}}), "metadata-damaged"),
        (put("codecs", to="zstd"), "metadata-damaged"),
        (put("codecs", to=[GZIP]), "array-foreign"),
        (in_shards("index_location", to="start"), "array-foreign"),
        (in_shards("index_codecs", to=[BIG_ENDIAN]), "array-foreign"),
        (in_shards("unknown", to=1), "array-foreign"),
        (in_shards("codecs", to=[]), "array-foreign"),
        (in_shards("codecs", 0, to=BIG_ENDIAN), "array-foreign"),
        (in_shards("codecs", 0, to=TRANSPOSE), "array-foreign"),
        (lambda node: sharding(node)["codecs"].insert(0, {"name": "transpose"}), "array-foreign"),
        (in_shards("codecs", 1, "configuration", "checksum", to=True), "array-foreign"),
        (in_shards("codecs", 1, "configuration", "checksum", to=0), "array-foreign"),
        (in_shards("codecs", 1, "configuration", "level", to=True), "array-foreign"),
        (in_shards("codecs", 1, "configuration", "level", to=2**60), "array-foreign"),
        (in_shards("codecs", 1, "configuration", "unknown", to=1), "array-foreign"),
        (lambda node: sharding(node)["codecs"].pop(), "array-foreign"),
    ],
)  # fmt: skip
def test_each_field_counts(change, code):
    with refused(DatasetError, code, "it/image"):
        parse_array(edited(change), "image", "it")


def test_what_a_reader_may_skip_is_skipped():
    extension = {"name": "x", "must_understand": False}
    assert parse_array(edited(put("x", to=extension)), "image", "it") == IMAGE.form


@pytest.mark.parametrize(
    ("shape", "chunk", "shard", "found"),
    [
        ((2**31 - 1, 4), (2**30, 4), (2**30, 4), "bytes of a chunk"),
        ((2**31 - 1, 4), (1, 4), (2**21, 4), "chunks in a shard"),
        ((2**31 - 1, 4), (2, 4), (2, 4), "shards"),
        ((2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (1, 2**31 - 1), "shards"),
    ],
)
def test_more_than_memory_can_hold_is_refused_before_it_is_taken(shape, chunk, shard, found):
    def change(node):
        node["shape"] = shape
        node["chunk_grid"]["configuration"]["chunk_shape"] = shard
        sharding(node)["chunk_shape"] = chunk

    with refused(DatasetError, "metadata-damaged", f"[0-9] {found}, expected at most"):
        parse_array(edited(change), "image", "it")


def test_all_problems_are_told_at_once():
    def change(node):
        node.update(shape=[0], fill_value="x", data_type="uint8", zarr_format=4)

    with refused(DatasetError, "metadata-damaged") as caught:
        parse_array(edited(change), "image", "it")
    assert [line.partition(":")[0] for line in caught.value.problems] == [
        "fill_value",
        "shape",
        "zarr_format",
    ]


@pytest.mark.slow
@settings(max_examples=60)
@given(specs(), specs())
def test_what_is_written_as_declared_does_not_differ(one, other):
    if one.codec is None:
        return
    found = parse_array(one.metadata(), one.path, "it")
    assert differences(found, one) == []
    alike = replace(other, path=one.path)
    lines = differences(found, alike)
    assert (lines == []) == (alike.metadata() == one.metadata() or not _counts(one, alike))


def _counts(one, other):
    """Whether two arrays differ in more than attributes that say nothing of what numbers mean."""
    nodes = [json.loads(spec.metadata()) for spec in (one, other)]
    for node in nodes:
        node["attributes"] = {key: node["attributes"].get(key) for key in ("quantity", "unit")}
    return nodes[0] != nodes[1]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"layout": Layout((8, 4), (2, 4), (4, 4))}, "shape"),
        ({"layout": Layout((9, 4), (1, 4), (4, 4))}, "chunks"),
        ({"layout": Layout((9, 4), (2, 4), (8, 4))}, "shards"),
        ({"dtype": np.bool_}, "type"),
        ({"codec": BloscChunk(1)}, "codec"),
        ({"codec": ZstdChunk(level=5)}, "codec"),
        ({"dimensions": ("sample", "x")}, "axes"),
        ({"sharded": False}, "shards"),
        ({"attributes": {"quantity": "depth"}}, "quantity"),
        ({"attributes": {"unit": "m"}}, "unit"),
    ],
)
def test_each_difference_is_a_line(fields, named):
    (line,) = differences(IMAGE.form, replace(IMAGE, **fields))
    assert line.startswith(f"{named}: found ")


def test_a_group_is_that_of_zarr():
    store = MemoryStore()
    zarr.create_group(store)
    assert json.loads(group_metadata()) == json.loads(value(store, "zarr.json"))
