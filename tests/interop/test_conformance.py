"""The format as others know it: what fgbgpack writes is read by every tool that its users have, array by
array, and what those tools write in this format is read by fgbgpack.

Each tool gives what it finds in the same form, and all of it is compared, with no tolerance. A virtual
dataset as zarr-python and xarray see it is in test_virtual.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import hdf5plugin
import numpy as np
import pytest
import tensorstore
import xarray
import zarr
from kinds import Kinds
from sealing import accept, is_manifest
from stored import open_stored

JS = Path(__file__).parents[1] / "js"
PIXELS = ("image", "mask", "depth")


class Array(NamedTuple):
    """An array as some tool finds it. What a tool has no notion of is ``None``."""

    values: np.ndarray
    dimensions: tuple[str, ...] | None = None
    attributes: dict[str, Any] | None = None


class Found(NamedTuple):
    """What a tool finds of a dataset: its document, and its arrays by their paths."""

    document: dict[str, Any] | None
    arrays: dict[str, Array]


def assert_same(found: Found, expected: Found) -> None:
    """All that was found is as expected, and nothing is missing."""
    if found.document is not None:
        assert found.document == expected.document
    assert sorted(found.arrays) == sorted(expected.arrays)
    for name, array in expected.arrays.items():
        values, dimensions, attributes = found.arrays[name]
        assert (values.dtype, values.shape) == (array.values.dtype, array.values.shape), name
        # Not as numbers, among which NaN is like nothing, and 0 like -0.
        assert values.tobytes() == array.values.tobytes(), name
        if dimensions is not None:
            assert dimensions == array.dimensions, name
        if attributes is not None:
            assert attributes == array.attributes, name


def metadata_of(path: Path) -> dict[str, dict[str, Any]]:
    """The metadata of every array of a dataset on disk, by the array's path."""
    files = {file.parent.relative_to(path).as_posix(): file for file in path.rglob("zarr.json")}
    nodes = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    arrays = {name: node for name, node in nodes.items() if node["node_type"] == "array"}
    # The manifest is of one dataset, and named by what it holds.
    return {name: node for name, node in arrays.items() if not is_manifest(name)}


def own(path: Path, nodes: dict[str, dict[str, Any]]) -> Found:
    """A dataset as fgbgpack reads it, with what metadata say of its arrays."""
    ds = open_stored(path)
    arrays = {
        name: Array(ds.whole(name), tuple(node["dimension_names"]), node.get("attributes", {}))
        for name, node in nodes.items()
    }
    return Found(ds.document.to_dict(), arrays)


#: Kinds of datasets with all codecs and all ways to cut.
KINDS = ("guided", "depth", "banded")


@pytest.fixture(scope="module")
def made(kinds: Kinds):
    """Datasets by these kinds, each with what fgbgpack reads of it; not to be changed."""
    return {kind: (kinds[kind], own(kinds[kind], metadata_of(kinds[kind]))) for kind in KINDS}


def test_the_datasets_have_what_there_is_to_get_wrong(made):
    """Else this file could pass because it looks at too little."""
    codecs, cuts = set(), set()
    for path, found in made.values():
        assert {"image", "mask", "depth", "flip", "y", "sources/background", "depth_min"} <= set(found.arrays)
        for name in PIXELS:
            assert len([file for file in (path / name / "c").rglob("*") if file.is_file()]) > 1
            array = zarr.open_array(path / name, mode="r")
            cuts.add(sum(n > 1 for n in np.floor_divide(array.shards, array.chunks)))
        for node in metadata_of(path).values():
            compressor, checksum = cut_of(node)[2]
            codecs.add((compressor["name"], compressor["configuration"].get("cname"), checksum["name"]))
    assert codecs == {("zstd", None, "crc32c"), ("blosc", "zstd", "crc32c")}
    assert cuts >= {1, 2}
    kinds = {str(array.values.dtype) for array in made["guided"][1].arrays.values()}
    assert kinds == {"uint8", "int32", "bool", "float16", "float32"}


# --- Zarr, as others read it -----------------------------------------------------------------------


def by_zarr_python(path, names, _):
    group = zarr.open_group(path, mode="r")
    arrays = {}
    for name in names:
        array = group[name]
        arrays[name] = Array(array[...], array.metadata.dimension_names, array.attrs.asdict())
    return Found(group.attrs["fgbgpack"], arrays)


_ZARRS = """
import sys, numpy as np, zarr, zarrs
zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True})
group = zarr.open_group(sys.argv[1], mode=sys.argv[3])
names = sys.argv[4:]
assert type(group[names[0]]._async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline"
if sys.argv[3] == "r":
    np.savez(sys.argv[2], **{name.replace("/", "."): group[name][...] for name in names})
else:
    with np.load(sys.argv[2]) as values:
        for name in names:
            group[name][...] = values[name.replace("/", ".")]
"""


def run(*command: object) -> str:
    """What a program says that has to succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by_zarrs(path, names, folder):
    # It puts its own pipeline into zarr-python's configuration, for the whole process: so in another one.
    run(sys.executable, "-c", _ZARRS, path, folder / "all.npz", "r", *names)
    with np.load(folder / "all.npz") as values:
        return Found(None, {name: Array(values[name.replace("/", ".")]) for name in names})


def tensorstore_of(path: Path) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}


def by_tensorstore(path, names, _):
    arrays = {}
    for name in names:
        array = tensorstore.open(tensorstore_of(path / name), read=True, open=True).result()
        attributes = array.spec().to_json()["metadata"].get("attributes", {})
        arrays[name] = Array(array.read().result(), array.domain.labels, attributes)
    return Found(None, arrays)


def in_xarray(root: xarray.Dataset, sources: xarray.Dataset) -> dict[str, Array]:
    both = {**root.variables, **{f"sources/{name}": variable for name, variable in sources.variables.items()}}
    return {name: Array(v.values, v.dims, v.attrs) for name, v in both.items()}


def by_xarray(path, names, _):
    with xarray.open_zarr(path) as root, xarray.open_zarr(path, group="sources") as sources:
        return Found(root.attrs["fgbgpack"], in_xarray(root, sources))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_selected_in_xarray_and_no_array_is_called_like_a_dimension(made, kind):
    path, found = made[kind]
    for group in (None, "sources"):
        if group and not any(name.startswith("sources/") for name in found.arrays):
            continue
        with xarray.open_zarr(path, group=group) as frame:
            assert not set(frame.dims) & set(frame.variables)
            for name, variable in frame.variables.items():
                one = frame.isel({variable.dims[0]: 0})
                np.testing.assert_array_equal(one[name].values, variable.values[0])


def by_xarray_tree(path, names, _):
    with xarray.open_datatree(path, engine="zarr") as tree:
        return Found(tree.attrs["fgbgpack"], in_xarray(tree.dataset, tree["sources"].dataset))


def by_zarrita(path, names, folder):
    need_zarrita()
    told = json.loads(run("node", JS / "read.mjs", path, folder, *names))
    arrays = {}
    for name, array in told["arrays"].items():
        values = np.fromfile(folder / name.replace("/", "."), array["dtype"]).reshape(array["shape"])
        arrays[name] = Array(values, tuple(array["dimensions"]), array["attributes"])
    return Found(told["attributes"]["fgbgpack"], arrays)


def need_zarrita() -> None:
    node = shutil.which("node")
    if node is None or int(run(node, "--version").lstrip("v").partition(".")[0]) < 20:
        pytest.skip("reading in JavaScript needs Node 20 or newer")
    if not (JS / "node_modules" / "zarrita").is_dir():
        pytest.skip(f"zarrita is not installed: npm ci --prefix {JS} (make test does that, with npm)")


READERS = [by_zarr_python, by_zarrs, by_tensorstore, by_xarray, by_xarray_tree, by_zarrita]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", READERS)
def test_who_reads_zarr_reads_every_array(made, tmp_path, read, kind):
    path, expected = made[kind]
    assert_same(read(path, list(expected.arrays), tmp_path), expected)


# --- Zarr, as others write it ----------------------------------------------------------------------


def cut_of(node: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...] | None, list[dict[str, Any]]]:
    """The chunks of an array, its shards if it has any, and what compresses a chunk, by its metadata."""
    outer, codecs = tuple(node["chunk_grid"]["configuration"]["chunk_shape"]), node["codecs"]
    if codecs[0]["name"] != "sharding_indexed":
        return outer, None, codecs[1:]
    inner = codecs[0]["configuration"]
    return tuple(inner["chunk_shape"]), outer, inner["codecs"][1:]


def create_by_zarr_python(path, name, node, values):
    """An array with the metadata that zarr-python writes, and its values if there are any to write."""
    chunks, shards, compressors = cut_of(node)
    array = zarr.create_array(
        path,
        name=name,
        shape=node["shape"],
        chunks=chunks,
        shards=shards,
        dtype=node["data_type"],
        fill_value=np.nan if node["fill_value"] == "NaN" else node["fill_value"],
        compressors=compressors,
        dimension_names=node["dimension_names"],
        attributes=node.get("attributes", {}),
    )
    if values is not None:
        array[...] = values


def write_by_zarr_python(path, nodes, arrays, _):
    for name, node in nodes.items():
        create_by_zarr_python(path, name, node, arrays[name])


def write_by_zarrs(path, nodes, arrays, folder):
    for name, node in nodes.items():
        create_by_zarr_python(path, name, node, None)
    np.savez(folder / "all.npz", **{name.replace("/", "."): values for name, values in arrays.items()})
    run(sys.executable, "-c", _ZARRS, path, folder / "all.npz", "r+", *arrays)


def write_by_tensorstore(path, nodes, arrays, _):
    for name, node in nodes.items():
        spec = tensorstore_of(path / name) | {"metadata": node}
        tensorstore.open(spec, create=True).result().write(arrays[name]).result()


def other_values(was: Found) -> dict[str, np.ndarray]:
    """Not what fgbgpack wrote; and what is empty may be left out, whole chunks and whole shards of it."""
    values = {name: array.values.copy() for name, array in was.arrays.items()}
    for name in PIXELS:
        values[name][3:9] = values[name][3:9, ::-1, ::-1].copy()
        values[name][15:31] = np.nan if name == "depth" else 0
    return values


WRITERS = [write_by_zarr_python, write_by_zarrs, write_by_tensorstore]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", WRITERS)
def test_what_others_write_as_zarr_is_read(made, tmp_path, write, kind):
    path, was = made[kind]
    values = other_values(was)
    target = tmp_path / "theirs.zarr"
    zarr.create_group(target, attributes={"fgbgpack": was.document}).create_group("sources")
    write(target, metadata_of(path), values, tmp_path)
    accept(target)
    expected = {name: array._replace(values=values[name]) for name, array in was.arrays.items()}
    found = own(target, metadata_of(target))
    assert found.document.pop("manifest") != was.document["manifest"]
    document = {key: value for key, value in was.document.items() if key != "manifest"}
    found.document["generation"] = document["generation"]
    # They are read as they are stored, and not composed of a recipe.
    assert found.document["pixels"].pop("edited", False) == ("recipe" in document)
    assert_same(found, Found(document, expected))
    assert_samples_are_read(target, values)
    files, theirs = (
        {p.relative_to(root) for name in PIXELS for p in (root / name).rglob("*") if p.is_file()}
        for root in (path, target)
    )
    assert theirs < files, "nothing was left out"


def assert_samples_are_read(path: Path, values: dict[str, np.ndarray]) -> None:
    samples = [30, 4, 33, 15]
    batch = open_stored(path).read(samples)
    for name in PIXELS:
        np.testing.assert_array_equal(batch.arrays[name], values[name][samples], err_msg=name)


# --- HDF5, as others read it -----------------------------------------------------------------------


def plain(attributes) -> dict[str, Any]:
    """Attributes as Zarr has them, of those of an HDF5 array, which are text and numbers."""
    found = {}
    for name, value in attributes.items():
        if name == "zarr" or name.isupper():
            # What HDF5 itself writes there, of scales, is called in capitals.
            continue
        # Text of a fixed length is bytes to h5py.
        value = value.decode() if isinstance(value, bytes) else value
        text = isinstance(value, str)
        found[name] = json.loads(value) if text and value.startswith("{") else value if text else value.item()
    # There is no null.
    return {"unit": None, **found} if "quantity" in found else found


def document_of(slots):
    """The document of a file, from its two slots."""
    text = max(bytes(slot) for slot in slots)
    return json.loads(text[512:].rstrip(b"\0"))["attributes"]["fgbgpack"]


def by_h5py(path):
    arrays = {}

    def visit(name, thing):
        ours = name.startswith(("fgbgpack/", "manifest/"))
        if isinstance(thing, h5py.Dataset) and not thing.is_scale and not ours:
            labels = tuple(axis.label for axis in thing.dims)
            named = tuple(axis[0].name.rpartition("/")[2] for axis in thing.dims)
            assert named == labels
            arrays[name] = Array(thing[...], labels, plain(thing.attrs))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        assert b"/fgbgpack/document" in file.attrs["fgbgpack"]
        return Found(document_of(file["fgbgpack/document"][:]), arrays)


def by_h5netcdf(path):
    with (
        xarray.open_dataset(path, engine="h5netcdf") as root,
        xarray.open_dataset(path, engine="h5netcdf", group="sources") as sources,
        xarray.open_dataset(path, engine="h5netcdf", group="fgbgpack", phony_dims="sort") as ours,
    ):
        arrays = {
            name: Array(values, tuple(axes), plain(attributes))
            for name, (values, axes, attributes) in in_xarray(root, sources).items()
        }
        return Found(document_of(ours["document"].values), arrays)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["normal", "portable"])
@pytest.mark.parametrize("read", [by_h5py, by_h5netcdf])
def test_who_reads_hdf5_reads_every_array(made, kinds, read, form, kind):
    assert_same(read(kinds.hdf5(kind, form)), made[kind][1])


_RASTERIO = """
import sys, warnings, numpy as np, rasterio
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
path, out, *names = sys.argv[1:]
arrays = {}
for name in names:
    with rasterio.open(f'HDF5:"{path}"://{name}') as opened:
        arrays[name.replace("/", ".")] = opened.read()
np.savez(out, **arrays)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_gdal_reads_arrays_of_numbers_as_pictures(made, kinds, tmp_path, kind):
    """By rasterio, which brings a GDAL with it: of up to three axes, as bands, rows and columns."""
    if find_spec("rasterio") is None:
        pytest.skip("rasterio is not installed")
    arrays = made[kind][1].arrays
    expected = {
        name: array.values for name, array in arrays.items() if array.values.ndim < 4 and name != "flip"
    }
    assert {"mask", "depth", "depth_max", "y", "sources/foreground_size"} <= set(expected)
    # In another process: it has an HDF5 library of its own, and two in one process are one too many.
    run(sys.executable, "-c", _RASTERIO, kinds.hdf5(kind, "portable"), tmp_path / "all.npz", *expected)
    with np.load(tmp_path / "all.npz") as read:
        for name, values in expected.items():
            found = read[name.replace("/", ".")]
            # It has no numbers of 16 bits, and gives those as longer ones.
            assert found.dtype == (np.float32 if values.dtype == np.float16 else values.dtype), name
            np.testing.assert_array_equal(found.reshape(values.shape), values, err_msg=name)


_OSGEO = """
import json, sys, numpy as np
from osgeo import gdal
gdal.UseExceptions()
path, out = sys.argv[1:]
root = gdal.OpenEx(path, gdal.OF_MULTIDIM_RASTER).GetRootGroup()
arrays, axes = {}, {}
def visit(group, prefix):
    for name in group.GetMDArrayNames() or []:
        array = group.OpenMDArray(name)
            arrays[prefix + name] = array.ReadAsArray()
        axes[prefix + name] = [axis.GetName() for axis in array.GetDimensions()]
    for name in group.GetGroupNames() or []:
        visit(group.OpenGroup(name), prefix + name + ".")
visit(root, "")
np.savez(out, **arrays)
print(json.dumps({"axes": axes}))
"""


def python_with_osgeo() -> str:
    """A Python that has GDAL's own bindings: this one, or that of the system, whose packages have them."""
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3", shutil.which("python3")]):
        command = [str(python), "-c", "import osgeo.gdal, osgeo.gdal_array"]
        if python and Path(python).exists() and not subprocess.run(command, capture_output=True).returncode:
            return python
    pytest.skip("GDAL's own bindings for Python are not installed (python3-gdal in Debian)")


@pytest.mark.parametrize("kind", KINDS)
def test_gdal_reads_every_array_with_its_axes(made, kinds, tmp_path, kind):
    """By its own bindings, which know of any number of axes."""
    expected = made[kind][1]
    path = kinds.hdf5(kind, "portable")
    told = json.loads(run(python_with_osgeo(), "-c", _OSGEO, path, tmp_path / "all.npz"))
    arrays = {}
    with np.load(tmp_path / "all.npz") as read:
        document = document_of(read["fgbgpack.document"])
        for key, axes in told["axes"].items():
            if key.startswith("fgbgpack."):
                continue
            name = key.replace(".", "/")
            values = read[key].astype(expected.arrays[name].values.dtype)
            # It gives numbers of 16 bits, and truth values, as longer ones.
            np.testing.assert_array_equal(values.astype(read[key].dtype), read[key])
            arrays[name] = Array(values, tuple(axes))
    assert_same(Found(document, arrays), expected)


# --- HDF5, as others write it ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("portable", [False, True], ids=["zstd and blosc", "portable"])
def test_what_h5py_writes_is_read(made, tmp_path, portable, kind):
    path, was = made[kind]
    nodes, values = metadata_of(path), other_values(was)
    target = tmp_path / "theirs.h5"
    with h5py.File(target, "w") as file:
        file.attrs["fgbgpack"] = json.dumps(was.document)
        for name, node in nodes.items():
            chunks, _, (compressor, _) = cut_of(node)
            if portable:
                filters = {"compression": "gzip", "shuffle": True}
            elif compressor["name"] == "zstd":
                filters = hdf5plugin.Zstd(clevel=1)
            else:
                filters = hdf5plugin.Blosc(cname="zstd", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)
            array = file.create_dataset(name, data=values[name], chunks=chunks, fletcher32=True, **filters)
            array.attrs["zarr"] = json.dumps(node)
    expected = {name: array._replace(values=values[name]) for name, array in was.arrays.items()}
    assert_same(own(target, nodes), Found(was.document, expected))
    assert_samples_are_read(target, values)
