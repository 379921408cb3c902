"""What is on disk: the same to every reader, read by chunks, refused where it is not what it should be."""

from __future__ import annotations

import hashlib
import json
import sys

import naive
import numpy as np
import pytest
import zarr
from builders import SMALL_SHARDS, Pictures, depth_of
from refusals import refused
from sealing import is_manifest
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from fgbgpack import create, fill_depth
from fgbgpack.dataset.dataset import open_dataset
from fgbgpack.document import PLACEMENTS
from fgbgpack.errors import DatasetError, MissingPackageError
from fgbgpack.storage.layout import LayoutPolicy

ARRAYS = {
    "image": ("uint8", ("sample", "height", "width", "channel")),
    "mask": ("uint8", ("sample", "height", "width")),
    "depth": ("float16", ("sample", "height", "width")),
    "depth_min": ("float16", ("sample",)),
    "depth_max": ("float16", ("sample",)),
    **{name: ("bool" if name == "flip" else "int32", ("sample",)) for name in PLACEMENTS},
    "sources/background": ("uint8", ("backgrounds", "height", "width", "channel")),
    "sources/foreground": ("uint8", ("foregrounds", "patch_height", "patch_width", "rgba")),
    "sources/foreground_size": ("int32", ("foregrounds", "side")),
    "sources/foreground_cut": ("uint8", ("foregrounds",)),
}

GUIDED_ARRAYS = ARRAYS | {"sources/background_depth": ("float32", ("backgrounds", "height", "width"))}


def everything(group, arrays=ARRAYS):
    return {name: np.asarray(group[name][...]) for name in arrays}


def same(found, expected):
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def check_pixels(path):
    """Every stored image and mask equals the naive composite of the stored sources at the stored place."""
    ds = open_dataset(path, allow_incomplete=True)
    catalog = ds.catalog()
    images, masks = ds.image[:], ds.mask[:]
    for i, image, mask in naive.samples(
        ds.placements, catalog.background, catalog.foreground, catalog.foreground_size
    ):
        np.testing.assert_array_equal(images[i], image, err_msg=str(i))
        np.testing.assert_array_equal(masks[i], mask, err_msg=str(i))
    return ds


# --- what it holds ---------------------------------------------------------------------------------


def test_every_sample_is_the_naive_composite(dataset):
    ds = check_pixels(dataset)
    assert len(ds) == 36
    assert ds.mask[:].any(axis=(1, 2)).all()
    assert (ds.height, ds.width) == (21, 33)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "shapes"),
    [
        # Several chunks of which the last is cut short.
        ({"chunk": 5}, {"chunks": (5, 21, 33, 3), "shards": (40, 21, 33, 3)}),
        # More than a chunk may hold: pictures are cut into bands, which do not divide the height.
        (
            {"width": 700, "height": 500, "foreground_height": 333, "placements": 1, "chunk": 7},
            {"chunks": (7, 167, 700, 3), "shards": (14, 501, 700, 3)},
        ),
        (
            {
                "width": 420,
                "height": 499,
                "foreground_height": 499,
                "placements": 2,
                "flip": False,
                "chunk": 12,
            },
            {"chunks": (12, 167, 420, 3), "shards": (12, 501, 420, 3)},
        ),
        (
            {"width": 8, "height": 8, "foreground_height": 1, "flip": False, "chunk": 1},
            {"chunks": (1, 8, 8, 3)},
        ),
        # A patch as high as the picture.
        ({"width": 60, "height": 21, "foreground_height": 21, "fit": "stretch", "chunk": 65536}, {}),
    ],
)
def test_every_shape_of_dataset(tmp_path, pictures, fields, shapes):
    if fields.get("width") == 700:
        pictures = Pictures(tmp_path / "large", 3, 2, (500, 700), (333, 280))
    create(tmp_path / "it.zarr", pictures.spec(**fields), workers=3, layout=LayoutPolicy(min_shards=1))
    ds = check_pixels(tmp_path / "it.zarr")
    for key, shape in shapes.items():
        assert getattr(ds.image, key) == shape


def test_many_shards(tmp_path, pictures):
    create(tmp_path / "it.zarr", pictures.spec(chunk=5), layout=SMALL_SHARDS)
    ds = check_pixels(tmp_path / "it.zarr")
    assert ds.image.shards == (15, 21, 33, 3)
    assert len([*(tmp_path / "it.zarr/image/c").iterdir()]) == 3


def test_one_sample_is_a_dataset(tmp_path):
    one = Pictures(tmp_path / "one", backgrounds=1, foregrounds=1)
    create(tmp_path / "it.zarr", one.spec(placements=1, flip=False))
    assert len(check_pixels(tmp_path / "it.zarr")) == 1


@pytest.mark.parametrize("depth", ["per-sample", "guided"])
def test_the_arrays_are_those_of_the_format(depth_dataset, guided_dataset, depth):
    path, arrays = (guided_dataset, GUIDED_ARRAYS) if depth == "guided" else (depth_dataset, ARRAYS)
    group = zarr.open_group(path, mode="r")
    found = {name: array for name, array in group.members(max_depth=None) if isinstance(array, zarr.Array)}
    (manifest,) = filter(is_manifest, found)
    assert found[manifest].metadata.dimension_names == ("chunk",)
    assert set(found) == {manifest, *arrays}
    for name, (dtype, dimensions) in arrays.items():
        assert str(found[name].dtype) == dtype, name
        assert found[name].metadata.dimension_names == dimensions, name
    # Only codecs that every reader of Zarr v3 knows.
    text = "".join(metadata.read_text() for metadata in path.rglob("zarr.json"))
    names = {codec["name"] for codec in find_codecs(json.loads(f"[{text.replace('}{', '},{')}]"))}
    assert names <= {"bytes", "zstd", "blosc", "crc32c", "sharding_indexed"}
    assert found["image"].shards is not None
    assert found["depth"].shards is not None


def find_codecs(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key in {"codecs", "index_codecs"}:
                yield from value
            yield from find_codecs(value)
    elif isinstance(node, list):
        for value in node:
            yield from find_codecs(value)


def test_the_document_records_what_the_dataset_was_made_of(dataset, pictures):
    ds = open_dataset(dataset)
    document = ds.document
    assert document.complete is True
    assert document.spec == pictures.spec()
    assert document.recipe.samples == 36
    for kind, folder in (("backgrounds", pictures.backgrounds), ("foregrounds", pictures.foregrounds)):
        listed = getattr(document.sources, kind)
        assert [source.name for source in listed] == sorted(path.name for path in folder.iterdir())
        for source in listed:
            assert source.sha256 == hashlib.sha256((folder / source.name).read_bytes()).hexdigest()
    assert {"fgbgpack", "zarr", "numpy"} <= set(document.software)
    assert document.depth is None
    assert np.isnan(ds.depth[:]).all()


# --- the Dataset -----------------------------------------------------------------------------------


def test_samples_and_slices(depth_dataset):
    ds = open_dataset(depth_dataset)
    images, masks, depths = ds.image[:], ds.mask[:], ds.depth[:]
    for index in (0, 7, 35, -1, np.int64(12)):
        sample = ds[index]
        np.testing.assert_array_equal(sample.image, images[index])
        np.testing.assert_array_equal(sample.mask, masks[index])
        np.testing.assert_array_equal(sample.depth, depths[index])
        for name in PLACEMENTS:
            value = getattr(sample, name)
            assert value.shape == ()
            assert value == getattr(ds.placements, name)[index]
    for part in (slice(3, 9), slice(None), slice(-5, None), slice(30, 99), slice(9, 3), slice(1, 30, 7)):
        batch = ds[part]
        np.testing.assert_array_equal(batch.image, images[part])
        np.testing.assert_array_equal(batch.mask, masks[part])
        np.testing.assert_array_equal(batch.depth, depths[part])
        np.testing.assert_array_equal(batch.y, ds.placements.y[part])
    for index in (36, -37):
        with pytest.raises(IndexError):
            ds[index]
    assert sum(1 for _ in ds) == len(ds) == 36
    assert "36 samples of 33x21 with depth" in repr(ds)


def test_a_batch_without_depth_has_none(dataset):
    ds = open_dataset(dataset)
    assert not ds.has_depth
    assert ds[0].depth is None
    assert ds[:3].depth is None


def test_depth_extremes_are_those_of_the_stored_depth(depth_dataset):
    ds = open_dataset(depth_dataset)
    depth = ds.depth[:]
    assert np.isfinite(depth).all()
    np.testing.assert_array_equal(ds.whole("depth_min"), depth.min(axis=(1, 2)))
    np.testing.assert_array_equal(ds.whole("depth_max"), depth.max(axis=(1, 2)))


def test_stored_bytes_are_those_on_disk(depth_dataset):
    sizes = open_dataset(depth_dataset).stored_bytes()
    assert sum(sizes.values()) == sum(p.stat().st_size for p in depth_dataset.rglob("*") if p.is_file())
    for name in ("image", "mask", "depth", "sources/background", "x"):
        folder = depth_dataset / name
        assert sizes[name] == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


# --- the copy of all metadata ----------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["depth_dataset", "guided_dataset"])
def test_consolidated_metadata_is_the_metadata(request, fixture):
    path = request.getfixturevalue(fixture)
    root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    copies = root["consolidated_metadata"]["metadata"]
    on_disk = {
        metadata.parent.relative_to(path).as_posix(): json.loads(metadata.read_text())
        for metadata in path.rglob("zarr.json")
        if metadata.parent != path
    }
    assert copies == on_disk
    group = zarr.open_consolidated(path)
    np.testing.assert_array_equal(group["sources/foreground_size"][:], [[10, 8], [10, 8]])


# --- reading by chunks -----------------------------------------------------------------------------


class Counting(WrapperStore):
    """A store that remembers what is read of it."""

    def __init__(self, store):
        super().__init__(store)
        self.reads = []

    if hasattr(Store, "get_ranges"):
        # Newer Zarr reads parts this way: by its own default, which is in terms of get, they are counted.
        get_ranges = Store.get_ranges

    async def get(self, key, prototype, byte_range=None):
        value = await super().get(key, prototype, byte_range)
        self.reads.append((key, 0 if value is None else len(value)))
        return value

    def data(self):
        """Bytes read of each shard or chunk since the last call, by its key."""
        total = {}
        for key, size in self.reads:
            if "/c/" in key:
                total[key] = total.get(key, 0) + size
        self.reads.clear()
        return total


@pytest.fixture(scope="module")
def three_shards(tmp_path_factory, pictures):
    """A dataset of three image shards of three chunks each, not to be changed."""
    path = tmp_path_factory.mktemp("datasets") / "it.zarr"
    create(path, pictures.spec(chunk=5), layout=SMALL_SHARDS)
    return path


@pytest.fixture
def counted(three_shards):
    """The same through a store that counts."""
    store = Counting(LocalStore(three_shards, read_only=True))
    return open_dataset(store, pixels="stored"), store


def test_opening_reads_no_data(counted):
    assert counted[1].data() == {}


def test_a_slice_reads_only_the_chunks_that_it_touches(counted):
    ds, store = counted
    whole = {key.name: key.stat().st_size for key in (store._store.root / "image/c").glob("*")}
    assert sorted(whole) == ["0", "1", "2"]
    sizes = []
    for first in (0, 5, 10):
        _ = ds.image[first : first + 5]
        read = {key: size for key, size in store.data().items() if not is_manifest(key)}
        assert set(read) == {"image/c/0/0/0/0"}
        sizes.append(read["image/c/0/0/0/0"])
    shard = (store._store.root / "image/c/0/0/0/0").stat().st_size
    assert sum(sizes) == shard, "three chunks and an index make the shard, and each was read once"
    _ = ds.image[17]
    assert set(store.data()) == {"image/c/1/0/0/0"}
    _ = ds.mask[14:16]
    assert {key for key in store.data() if not is_manifest(key)} == {"mask/c/0/0/0", "mask/c/1/0/0"}
    _ = ds.depth[20]
    assert set(store.data()) <= {f"depth/c/{i}/0/0" for i in range(99)}


def test_a_sample_reads_one_chunk_of_each_array_and_no_placements(counted):
    ds, store = counted
    _ = ds[16]
    first = {key for key in store.data() if not is_manifest(key)}
    assert first == {"image/c/1/0/0/0", "mask/c/1/0/0", "sources/foreground_size/c/0/0"}
    _ = ds[20]
    assert set(store.data()) == {"image/c/1/0/0/0", "mask/c/1/0/0"}
    _ = ds[21]
    assert store.data() == {}, "the chunk that was decoded last is still there"


# --- guided depth ----------------------------------------------------------------------------------


def test_guided_depth_is_in_chunks_of_one_background_cut_by_rows(guided_dataset, depth_dataset):
    array = open_dataset(guided_dataset).depth
    assert (array.chunks, array.shards) == ((12, 7, 33), (12, 21, 33)), "those of one background, in bands"
    assert open_dataset(depth_dataset).depth.chunks == (4, 21, 33)


@pytest.mark.slow
def test_guided_depth_in_bands_is_that_in_whole_maps(
    guided_dataset, tmp_path, pictures, depth_model, guide_model
):
    create(tmp_path / "it.zarr", pictures.spec(depth=depth_of(depth_model, guide=str(guide_model), scale=2)))
    whole, cut = open_dataset(tmp_path / "it.zarr"), open_dataset(guided_dataset)
    assert whole.depth.chunks[1] == 21
    np.testing.assert_array_equal(whole.depth[:], cut.depth[:])
    np.testing.assert_array_equal(whole.depth[3::5, 6:8], cut.depth[3::5, 6:8])


def test_of_a_map_in_bands_only_those_are_decoded_that_are_asked_for(guided_dataset):
    for rows, bands in ((slice(8, 13), 1), (slice(5, 9), 2), (slice(None), 3), (20, 1)):
        with open_dataset(guided_dataset) as ds:
            _ = ds.depth[17, rows]
            assert ds.depth.chunks_decoded == bands


class Stopping(WrapperStore):
    """A store that takes so many keys and no more."""

    def __init__(self, store, writes=0):
        super().__init__(store)
        self.left = writes

    async def set(self, key, value):
        if not self.left:
            raise RuntimeError("stopped here")
        self.left -= 1
        await super().set(key, value)


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, "per-sample", "guided"])
def test_depth_that_is_stopped_anywhere_is_finished_by_the_same_command(
    pictures, depth_model, guide_model, before
):
    """Whatever was written last: the arrays of one mode are never taken for those of the other."""
    options = {"layout": SMALL_SHARDS, "overwrite": True}
    guided = depth_of(depth_model, guide=str(guide_model))
    other = depth_of(depth_model, guide=str(guide_model), scale=2)
    first = {None: None, "per-sample": depth_of(depth_model), "guided": other}[before]
    begun = MemoryStore()
    create(begun, pictures.spec(depth=first), layout=SMALL_SHARDS)
    expected = MemoryStore(dict(begun._store_dict))
    fill_depth(expected, guided, **options)
    for writes in range(9):  # until the first shards are written
        store = MemoryStore(dict(begun._store_dict))
        with refused(DatasetError, "io-failed", "stopped here"):
            fill_depth(Stopping(store, writes), guided, workers=1, **options)
        fill_depth(store, guided, workers=1, **options)
        found = {key: value.to_bytes() for key, value in store._store_dict.items()}
        assert found == {key: value.to_bytes() for key, value in expected._store_dict.items()}, writes


# --- other stores ----------------------------------------------------------------------------------


def test_a_memory_store(pictures, dataset):
    store = MemoryStore()
    report = create(store, pictures.spec())
    assert report.complete
    same(everything(zarr.open_group(store, mode="r")), everything(zarr.open_group(dataset, mode="r")))
    assert open_dataset(store)[3].image.shape == (21, 33, 3)
    with refused(DatasetError, "dataset-missing"):
        open_dataset(MemoryStore())


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_a_url(tmp_path, pictures, dataset, protocol):
    pytest.importorskip("fsspec", reason="a URL needs fsspec, which is not a dependency")
    url = f"{protocol}://{tmp_path}/it.zarr"
    assert create(url, pictures.spec()).complete
    assert create(url, pictures.spec()).created == 0
    expected = everything(zarr.open_group(dataset, mode="r"))
    ds = open_dataset(url)
    same({name: ds.whole(name) for name in ARRAYS}, expected)


@pytest.mark.parametrize("url", ["s3://bucket/it.h5", "memory://bucket/it.HDF5"])
def test_an_hdf5_file_at_a_url_is_refused(url, pictures):
    for action in (lambda: open_dataset(url), lambda: create(url, pictures.spec())):
        with refused(DatasetError, "target-unsupported"):
            action()


def test_a_url_without_fsspec_says_what_to_install(monkeypatch, pictures):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    url = "sftp://host/it.zarr"
    for action in (lambda: open_dataset(url), lambda: create(url, pictures.spec())):
        with refused(MissingPackageError, "extra-missing", "fsspec"):
            action()
