"""Exports: read by the tools they are meant for, the same bytes every time, whole or not there at all."""

from __future__ import annotations

import csv
import errno
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import naive
import numpy as np
import pytest
import webdataset
from builders import Pictures, depth_of, tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.cli import app
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.export import TARGETS, export
from fgbgpack.export import job as export_job
from fgbgpack.export.kernels import paeth_filter
from fgbgpack.export.names import safe, told_apart
from fgbgpack.export.pictures import DepthScale, png
from fgbgpack.pipeline import ImportSpec, Notice, Progress, import_folder

N, HEIGHT, WIDTH = 36, 21, 33
PLACEMENTS = ("background", "foreground", "flip", "replica", "y", "x")
PARTS = {"train": 2 / 3, "val": 1 / 3}


@pytest.fixture(scope="module")
def held(tmp_path_factory, depth_dataset):
    """A dataset of 36 samples with depth and a split, open."""
    path = tmp_path_factory.mktemp("held") / "held.zarr"
    shutil.copytree(depth_dataset, path)
    ds = open_dataset(path)
    ds.save_split("by-background", PARTS)
    return ds


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Six samples without a recipe, in folders, with some depth that is not known."""
    folder = tmp_path_factory.mktemp("imported")
    random = np.random.default_rng(3)
    for i, name in enumerate(("a/0", "a/1", "a.png/0", "b/con", "b/ü", "c")):
        for kind, shape in (("image", (HEIGHT, WIDTH, 3)), ("mask", (HEIGHT, WIDTH))):
            path = folder / "files" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
        depth = random.integers(100 * i, 1000, (HEIGHT, WIDTH)).astype(np.uint16)
        depth[:2] = 0
        path = folder / "files" / "depth" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(depth).save(path)
    spec = ImportSpec(
        str(folder / "files"), images="image", masks="mask", depths="depth",
        depth_quantity="depth", depth_unit="m", depth_factor=0.01, depth_invalid=0,
    )  # fmt: skip
    import_folder(folder / "imported.zarr", spec)
    return open_dataset(folder / "imported.zarr")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def document(out: Path) -> dict:
    return json.loads((out / "fgbgpack.json").read_text(encoding="utf-8"))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "placements.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_pillow_reads(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


# --- pictures --------------------------------------------------------------------------------------


@st.composite
def pictures_of_bytes(draw):
    """Pictures as different as noise, ramps and plain ones, of one or three channels."""
    height, width, channels = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.sampled_from([1, 3]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([1, 2, 40, 256]))
    noise = random.integers(0, spread, (height, width, channels))
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * draw(st.integers(-30, 30))
    return ((noise + ramp) % 256).astype(np.uint8)


class TestPng:
    @given(pictures_of_bytes())
    def test_the_filter_is_its_naive_twin(self, picture):
        rows, step = picture.reshape(len(picture), -1), picture.shape[2]
        out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
        getattr(paeth_filter, "py_func", paeth_filter)(rows, step, out)
        np.testing.assert_array_equal(out, naive.paeth(rows, step))
        paeth_filter(rows, step, out)
        np.testing.assert_array_equal(out, naive.paeth(rows, step))

    @given(pictures_of_bytes())
    def test_pillow_reads_what_was_written(self, picture):
        for pixels, mode in (
            (np.repeat(picture, 3 // picture.shape[2], axis=2), "RGB"),
            (picture[..., 0], "L"),
            (picture[..., 0].astype(np.uint16) * 257 - 1, "I;16"),
        ):
            with Image.open(io.BytesIO(png(pixels))) as read:
                assert read.mode == mode
                np.testing.assert_array_equal(np.asarray(read), pixels)
            assert png(pixels.copy()) == png(pixels)

    def test_it_takes_pictures_that_lie_apart_in_memory(self):
        pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
        for part in (pixels[::2, 1::3], pixels[::-1, :, 1], pixels.astype(np.uint16)[:, ::2, 0]):
            with Image.open(io.BytesIO(png(part))) as read:
                np.testing.assert_array_equal(np.asarray(read), part)

    def test_a_plain_picture_is_small(self):
        assert len(png(np.zeros((128, 128, 3), np.uint8))) < 400
        assert len(png(np.full((128, 128), 7, np.uint8))) < 300


class TestDepthScale:
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("unknown", [False, True])
    def test_it_is_undone_within_half_a_step(self, bits, unknown):
        depth = np.random.default_rng(1).normal(3, 4, (5, 6, 7)).astype(np.float16)
        low, high = depth.min(axis=(1, 2)), depth.max(axis=(1, 2))
        scale = DepthScale.of(low, high, bits, unknown=unknown)
        said = scale.to_dict()
        numbers = scale.apply(depth)
        assert numbers.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert numbers.min() == (1 if unknown else 0)
        assert numbers.max() == 2**bits - 1
        undone = eval(said["to_depth"], {}, {"value": numbers.astype(np.float64), **said})
        step = (said["high"] - said["low"]) / (2**bits - 1 - unknown)
        assert np.abs(undone - depth.astype(np.float64)).max() <= step / 2 * (1 + 1e-9)
        assert said["unknown"] == (0 if unknown else None)

    def test_unknown_depth_is_0_and_nothing_else_is(self):
        depth = np.array([[1, np.nan], [2, 4]], np.float16)
        nothing = np.full(2, np.nan, np.float16)
        scale = DepthScale.of(
            np.array([1, np.nan], np.float16), np.array([4, np.nan], np.float16), 8, unknown=True
        )
        assert scale.apply(depth).tolist() == [[1, 0], [86, 255]]
        assert DepthScale.of(nothing, nothing, 8, unknown=True).apply(depth)[0, 1] == 0

    def test_depth_that_is_everywhere_the_same(self):
        flat = np.full(3, 2.5, np.float16)
        scale = DepthScale.of(flat, flat, 16, unknown=False)
        assert scale.apply(flat).tolist() == [0, 0, 0]
        said = scale.to_dict()
        assert eval(said["to_depth"], {}, {"value": 0, **said}) == 2.5


class TestNames:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("mall-03", "mall-03"),
            ("Straße 1 (ü)", "Straße 1 (ü)"),
            ("a/b\\c:d", "a_b_c_d"),
            ("tab\there", "tab_here"),
            ("trailing. ", "trailing"),
            ("..", "_"),
            ("", "_"),
            (".hidden", "_.hidden"),
            ("-rf", "_-rf"),
            ("CON", "_CON"),
            ("lpt1.old", "_lpt1.old"),
            ("console", "console"),
            ("bad\udcffbyte", "bad_byte"),
        ],
    )
    def test_safe(self, name, expected):
        assert safe(name) == expected

    def test_a_long_name_is_cut_between_letters(self):
        found = safe("ü" * 200)
        assert set(found) == {"ü"}
        assert 100 < len(found.encode()) <= 120

    @given(st.lists(st.sampled_from(["a", "A", "a-2", "a-3", "b", "B-2", "b-2"]), max_size=9))
    def test_told_apart(self, names):
        found = told_apart(names, taken=["b"])
        folded = [name.casefold() for name in found]
        assert len(set(folded)) == len(names)
        assert "b" not in folded
        for name, given_name in zip(found, names, strict=True):
            assert name.startswith(given_name)
            if folded.count(given_name.casefold()) == 0:
                assert given_name.casefold() == "b"


# --- each form, by the tool that it is for ---------------------------------------------------------


class TestFolder:
    @pytest.mark.parametrize("bits", [None, 8, 16])
    def test_pillow_reads_the_same(self, held, tmp_path, bits):
        report = export(held, tmp_path / "out", to="folder", depth_bits=bits)
        found = rows(tmp_path / "out")
        said = document(tmp_path / "out")["depth"]
        assert (said["quantity"], said["unit"]) == ("inverse_depth", None)
        mapping = said["mapping"]
        assert mapping["bits"] == (bits or 16)
        assert mapping["low"] == np.nanmin(held.depth[:])
        assert mapping["high"] == np.nanmax(held.depth[:])
        step = (mapping["high"] - mapping["low"]) / (2 ** mapping["bits"] - 1)
        names = {
            kind: [one["name"] for one in held.document["sources"][f"{kind}s"]] for kind in PLACEMENTS[:2]
        }
        assert [int(row["sample"]) for row in found] == list(range(N))
        for i, row in enumerate(found):
            sample = held[i]
            sources = "/".join(Path(row[kind]).stem for kind in ("background", "foreground"))
            path = f"{sources}/{row['flip']}-{row['replica']}"
            for field in ("image", "mask", "depth"):
                assert row[field] == f"{field}/{path}.png"
            np.testing.assert_array_equal(as_pillow_reads(tmp_path / "out" / row["image"]), sample.image)
            np.testing.assert_array_equal(as_pillow_reads(tmp_path / "out" / row["mask"]), sample.mask)
            numbers = as_pillow_reads(tmp_path / "out" / row["depth"])
            assert numbers.dtype == (np.uint8 if bits == 8 else np.uint16)
            depth = mapping["low"] + numbers * step
            assert np.abs(depth - sample.depth.astype(np.float64)).max() <= step / 2 * (1 + 1e-9)
            assert row["background"] == names["background"][sample.background]
            assert row["foreground"] == names["foreground"][sample.foreground]
            for name in PLACEMENTS[2:]:
                assert int(row[name]) == getattr(sample, name)
        assert report.files == 3 * N + 2 == len(tree(tmp_path / "out"))
        assert report.bytes == sum(map(len, tree(tmp_path / "out").values()))

    def test_names_that_file_systems_do_not_take_or_that_are_the_same(self, tmp_path):
        pictures = Pictures(tmp_path / "pictures", backgrounds=0, foregrounds=1)
        for i, name in enumerate(("a.png", "A.bmp", "a-2.png", "aux.png", "what?.png", "what_.png")):
            pictures.background(name, 40, 60, seed=i)
        create(tmp_path / "ds.zarr", pictures.spec(placements=1, flip=False))
        export(tmp_path / "ds.zarr", tmp_path / "out", to="folder")
        ds = open_dataset(tmp_path / "ds.zarr")
        found = {row["background"]: row["image"].split("/")[1] for row in rows(tmp_path / "out")}
        assert found == {
            "A.bmp": "A", "a.png": "a-3", "a-2.png": "a-2", "aux.png": "_aux", "what?.png": "what_",
            "what_.png": "what_-2",
        }  # fmt: skip
        for row in rows(tmp_path / "out"):
            picture = as_pillow_reads(tmp_path / "out" / row["image"])
            np.testing.assert_array_equal(picture, ds.image[int(row["sample"])])

    def test_without_a_recipe(self, imported, tmp_path):
        export(imported, tmp_path / "out", to="folder")
        found = rows(tmp_path / "out")
        assert list(found[0]) == ["sample", "image", "mask", "depth", "name"]
        assert [row["name"] for row in found] == imported.names
        paths = dict(zip(imported.names, (row["image"] for row in found), strict=True))
        assert paths["a/0"] == "image/a/0.png"
        assert paths["a.png/0"] == "image/a.png_/0.png"
        assert paths["b/con"] == "image/b/_con.png"
        mapping = document(tmp_path / "out")["depth"]["mapping"]
        for i, row in enumerate(found):
            for field in ("image", "mask"):
                picture = as_pillow_reads(tmp_path / "out" / row[field])
                np.testing.assert_array_equal(picture, getattr(imported, field)[i])
            numbers = as_pillow_reads(tmp_path / "out" / row["depth"])
            depth = imported.depth[i].astype(np.float64)
            np.testing.assert_array_equal(numbers == mapping["unknown"], np.isnan(depth))
            undone = eval(mapping["to_depth"], {}, {"value": numbers.astype(np.float64), **mapping})
            step = (mapping["high"] - mapping["low"]) / 65534
            assert np.nanmax(np.abs(np.where(np.isnan(depth), np.nan, undone - depth))) <= step / 2 * (
                1 + 1e-9
            )

    def test_a_dataset_of_it_has_the_same_pixels(self, held, tmp_path):
        export(held, tmp_path / "out", to="folder", fields=["image", "mask"])
        spec = ImportSpec(str(tmp_path / "out"), images="image", masks="mask")
        import_folder(tmp_path / "again.zarr", spec)
        again = open_dataset(tmp_path / "again.zarr")
        order = {
            row["image"].removeprefix("image/").removesuffix(".png"): int(row["sample"])
            for row in rows(tmp_path / "out")
        }
        samples = [order[name] for name in again.names]
        np.testing.assert_array_equal(again.image[:], held.image[samples])
        np.testing.assert_array_equal(again.mask[:], held.mask[samples])


def webdataset_samples(urls: object, **options) -> list[dict]:
    """All samples, with image and mask decoded to arrays."""
    found = webdataset.WebDataset(urls, **({"shardshuffle": False} | options))
    gray = webdataset.imagehandler("l8")
    mask = webdataset.handle_extension("mask.png", lambda data: gray("png", data))
    with warnings.catch_warnings():
        # It leaves its files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(found.decode(mask, "rgb8"))
        gc.collect()
    return samples


class TestWebdataset:
    def test_the_library_reads_the_same(self, held, tmp_path):
        export(held, tmp_path / "out", to="webdataset")
        found = webdataset_samples(str(tmp_path / "out" / "samples-000000.tar"))
        assert [sample["__key__"] for sample in found] == [f"{i:08d}" for i in range(N)]
        for i, sample in enumerate(found):
            expected = held[i]
            np.testing.assert_array_equal(sample["image.png"], expected.image)
            np.testing.assert_array_equal(sample["mask.png"], expected.mask)
            assert sample["depth.npy"].dtype == np.float16
            np.testing.assert_array_equal(sample["depth.npy"], expected.depth)
            placed = sample["json"]
            sources = held.document["sources"]
            assert placed.pop("sample") == i
            assert placed.pop("background") == sources["backgrounds"][expected.background]["name"]
            assert placed.pop("foreground") == sources["foregrounds"][expected.foreground]["name"]
            assert placed == {name: getattr(expected, name).item() for name in PLACEMENTS[2:]}

    def test_shards_are_cut_by_samples_and_read_in_any_order(self, held, tmp_path):
        export(held, tmp_path / "out", to="webdataset", shard_samples=7)
        sizes = json.loads((tmp_path / "out" / "sizes.json").read_text())
        assert list(sizes.values()) == [7, 7, 7, 7, 7, 1]
        assert list(sizes) == [f"samples-{i:06d}.tar" for i in range(6)]
        url = tmp_path / "out" / "samples-{000000..000005}.tar"
        found = webdataset_samples(str(url), shardshuffle=6, seed=1)
        numbers = [int(sample["__key__"]) for sample in found]
        assert sorted(numbers) == list(range(N)) != numbers
        for number, sample in zip(numbers, found, strict=True):
            np.testing.assert_array_equal(sample["image.png"], held.image[number])

    def test_shards_are_cut_by_bytes(self, held, tmp_path):
        export(held, tmp_path / "out", to="webdataset", shard_bytes=60_000)
        shards = sorted((tmp_path / "out").glob("*.tar"))
        assert len(shards) > 3
        assert all(30_000 < shard.stat().st_size <= 60_000 for shard in shards[:-1])
        assert len(webdataset_samples(list(map(str, shards)))) == N
        # A sample that is larger than a shard may be still has one.
        export(held, tmp_path / "small", to="webdataset", shard_bytes=1, samples=[0, 5])
        assert sorted(json.loads((tmp_path / "small" / "sizes.json").read_text()).values()) == [1, 1]

    def test_tar_files_are_plain(self, held, tmp_path):
        export(held, tmp_path / "out", to="webdataset", samples=slice(3))
        with tarfile.open(tmp_path / "out" / "samples-000000.tar") as tar:
            assert tar.format == tarfile.USTAR_FORMAT or tar.pax_headers == {}
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                assert (member.mode, member.isreg()) == (0o644, True)
        listed = subprocess.run(
            ["tar", "-tf", tmp_path / "out" / "samples-000000.tar"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert listed.stdout.split()[:4] == [
            f"00000000.{end}" for end in ("image.png", "mask.png", "depth.npy", "json")
        ]
        assert listed.stderr == ""

    def test_without_a_recipe(self, imported, tmp_path):
        export(imported, tmp_path / "out", to="webdataset", fields="image")
        found = webdataset_samples(str(tmp_path / "out" / "samples-000000.tar"))
        assert [sample["json"] for sample in found] == [
            {"sample": i, "name": name} for i, name in enumerate(imported.names)
        ]
        assert set(found[0]) == {"__key__", "__url__", "__local_path__", "image.png", "json"} & set(found[0])
        assert "mask.png" not in found[0]


class TestNpz:
    @pytest.mark.parametrize("held_at_once", [None, 7, 36, 100])
    def test_numpy_reads_the_same(self, held, tmp_path, monkeypatch, held_at_once):
        # Runs of five samples, so that files end within them.
        monkeypatch.setattr(export_job, "_RUN_BYTES", 5 * 6 * HEIGHT * WIDTH + 200)
        export(held, tmp_path / "out", to="npz", shard_samples=held_at_once)
        files = sorted((tmp_path / "out").glob("part-*.npz"))
        assert len(files) == (6 if held_at_once == 7 else 1)
        loaded = []
        for file in files:
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None
            with np.load(file, allow_pickle=False) as arrays:
                loaded.append(dict(arrays))
        whole = {name: np.concatenate([arrays[name] for arrays in loaded]) for name in loaded[0]}
        assert list(whole) == ["image", "mask", "depth", "sample", *PLACEMENTS]
        for name in ("image", "mask", "depth"):
            np.testing.assert_array_equal(whole[name], getattr(held, name)[:])
            assert whole[name].dtype == getattr(held, name).dtype
        for name in PLACEMENTS:
            np.testing.assert_array_equal(whole[name], getattr(held.placements, name))
        np.testing.assert_array_equal(whole["sample"], np.arange(N))
        sources = document(tmp_path / "out")["details"]["sources"]
        assert sources["background"] == [one["name"] for one in held.document["sources"]["backgrounds"]]

    def test_without_a_recipe(self, imported, tmp_path):
        export(imported, tmp_path / "out", to="npz", samples=[5, 2, 2])
        with np.load(tmp_path / "out" / "part-00000.npz") as arrays:
            assert arrays["name"].tolist() == [imported.names[2], imported.names[5]]
            np.testing.assert_array_equal(arrays["depth"], imported.depth[[2, 5]])

    def test_files_that_zip_cannot_hold_are_refused(self, held, tmp_path):
        with pytest.raises(SpecError, match=r"--shard-samples: 9,?000,?000 .* at most 1,?0\d\d,?\d\d\d"):
            export(held, tmp_path / "out", to="npz", shard_samples=9_000_000)
        assert names_in(tmp_path) == []


# --- what holds for all forms ----------------------------------------------------------------------


@pytest.mark.parametrize("to", TARGETS)
class TestEveryForm:
    def test_the_same_bytes_with_any_number_of_workers(self, held, tmp_path, monkeypatch, to):
        # Runs of a few samples, of which several are under way.
        monkeypatch.setattr(export_job, "_RUN_BYTES", 9_000)
        monkeypatch.setattr(export_job, "_READ_BYTES", 30_000)
        for workers in (1, 2, 5):
            export(held, tmp_path / str(workers), to=to, split="by-background", workers=workers)
        first = tree(tmp_path / "1")
        assert len(first) > 2
        assert first == tree(tmp_path / "2") == tree(tmp_path / "5")

    def test_the_same_bytes_of_a_virtual_dataset(self, dataset, pictures, tmp_path, to):
        create(tmp_path / "virtual.zarr", pictures.spec(), virtual=True)
        export(tmp_path / "virtual.zarr", tmp_path / "a", to=to)
        export(dataset, tmp_path / "b", to=to)
        assert tree(tmp_path / "a") == tree(tmp_path / "b")

    def test_what_it_says_of_itself(self, held, tmp_path, to):
        report = export(held, tmp_path / "out", to=to, split="by-background", parts=["val"])
        said = document(tmp_path / "out")
        samples = held.split("by-background")["val"]
        assert said["format"] == to
        assert said["dataset"]["recipe"] == held.document["recipe"]
        assert (said["samples"], said["parts"]) == (len(samples), {"val": len(samples)})
        assert (said["height"], said["width"]) == (HEIGHT, WIDTH)
        assert said["fields"] == ["image", "mask", "depth"]
        assert (said["depth"]["quantity"], said["depth"]["unit"]) == ("inverse_depth", None)
        assert "fgbgpack" in said["software"]
        assert str(tmp_path) not in (tmp_path / "out" / "fgbgpack.json").read_text()
        files = tree(tmp_path / "out")
        assert (report.files, report.bytes) == (len(files), sum(map(len, files.values())))
        assert (report.samples, report.parts, report.to) == (len(samples), {"val": len(samples)}, to)
        assert names_in(tmp_path) == ["out"]
        compile("\n".join(report.opened_by), "how to open", "exec")

    def test_an_interrupt_leaves_nothing(self, held, tmp_path, monkeypatch, to):
        monkeypatch.setattr(export_job, "_RUN_BYTES", 9_000)

        def interrupt(event):
            if isinstance(event, Progress) and event.done > 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(held, tmp_path / "new" / "out", to=to, on_event=interrupt)
        assert names_in(tmp_path / "new") == []

    def test_progress(self, held, tmp_path, to):
        events: list[Progress] = []
        export(held, tmp_path / "out", to=to, samples=slice(3, 20), on_event=events.append)
        assert {event.stage for event in events} == {"export"}
        assert [events[0].done, events[-1].done, events[-1].total] == [0, 17, 17]


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("folder", "picture.size"),
        ("webdataset", 'sample["image.png"].size'),
        ("npz", 'arrays["image"].shape'),
    ],
)
def test_it_opens_as_it_says(held, tmp_path, to, found):
    report = export(held, tmp_path / "it's out", to=to, split="by-background", parts=["val"])
    program = "\n".join([*report.opened_by, f"print(tuple({found}))"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = (12, HEIGHT, WIDTH, 3) if to == "npz" else (WIDTH, HEIGHT)
    assert (done.stdout, done.returncode) == (f"{expected}\n", 0), done.stderr


class TestParts:
    def test_each_part_lies_apart(self, held, tmp_path):
        split = held.split("by-background")
        assert {name: len(samples) for name, samples in split.items()} == {"train": 24, "val": 12}
        for to in ("folder", "webdataset", "npz"):
            report = export(held, tmp_path / to, to=to, split="by-background")
            assert report.parts == {"train": 24, "val": 12}
        for name, samples in split.items():
            assert [int(row["sample"]) for row in rows(tmp_path / "folder" / name)] == samples.tolist()
            found = webdataset_samples(str(tmp_path / "webdataset" / f"{name}-000000.tar"))
            assert [int(sample["__key__"]) for sample in found] == samples.tolist()
            with np.load(tmp_path / "npz" / name / "part-00000.npz") as arrays:
                np.testing.assert_array_equal(arrays["sample"], samples)
                np.testing.assert_array_equal(arrays["image"], held.image[samples])
        # One mapping for both parts, with the extent of all depth.
        assert document(tmp_path / "folder")["depth"]["mapping"]["high"] == held.depth[:].max()

    def test_parts_that_are_given(self, held, tmp_path):
        split = {"a": [0, 1], "a-2": [2, 3, 4]}
        report = export(held, tmp_path / "tars", to="webdataset", split=split, shard_samples=1)
        assert "/a-{000000..000001}.tar'" in report.opened_by[1]
        split = {"a/b": [1, 0], "A_b": [2], "fgbgpack.json": held.placements.flip}
        export(held, tmp_path / "out", to="npz", split=split)
        found = {path.parent.name for path in (tmp_path / "out").glob("*/*.npz")}
        assert found == {"a_b", "A_b-2", "fgbgpack.json-2"}
        assert document(tmp_path / "out")["parts"] == {"a/b": 2, "A_b": 1, "fgbgpack.json": 18}

    @pytest.mark.parametrize(
        ("samples", "expected"),
        [
            (5, [5]),
            ([7, 3, 7, -1], [3, 7, 35]),
            (slice(30, None, 2), [30, 32, 34]),
            ([slice(0, 2), slice(1, 4), 9], [0, 1, 2, 3, 9]),
            (np.arange(36) % 17 == 1, [1, 18, 35]),
        ],
    )
    def test_samples(self, held, tmp_path, samples, expected):
        export(held, tmp_path / "out", to="npz", samples=samples, fields="mask")
        with np.load(tmp_path / "out" / "part-00000.npz") as arrays:
            assert arrays["sample"].tolist() == expected
            np.testing.assert_array_equal(arrays["mask"], held.mask[expected])
            assert "image" not in arrays


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"samples": [36, 3]}, "--samples: there is no sample 36, expected 0 to 35"),
            ({"samples": [slice(0, 99)]}, "--samples: there is no sample 98, expected 0 to 35"),
            ({"samples": [slice(40, 99)]}, "--samples: there is no sample 40, 98, expected 0 to 35"),
            ({"samples": slice(5, 5)}, "--samples: there are no samples in it"),
            ({"samples": [0.5]}, "--samples: found float64"),
            ({"split": "by-foreground"}, "no split 'by-foreground'; it has 'by-background'"),
            ({"split": "by-background", "parts": ["test"]}, "no part 'test', expected some of train, val"),
            ({"split": {"a": [0], "b": []}}, "part 'b': there are no samples in it"),
            ({"split": "by-background", "samples": 5}, "--samples: of no use with --split"),
            ({"parts": ["train"]}, "--part: of no use without --split"),
            (
                {"fields": ["image", "normals"]},
                "--fields: there is no 'normals', expected some of image, mask",
            ),
            ({"fields": []}, "--fields: found none"),
            ({"shard_bytes": 5}, "--shard-size: of no use with --to npz, only with webdataset and mds"),
            ({"shard_samples": 0}, "--shard-samples: found 0, expected 1 or more"),
            ({"to": "folder", "depth_bits": 12}, "--depth-bits: found 12, expected 8 or 16"),
            ({"to": "tiff"}, "found 'tiff', expected one of folder, webdataset, mds, coco, npz"),
            ({"workers": 0}, "--workers is 0"),
        ],
    )
    def test_options(self, held, tmp_path, options, expected):
        with pytest.raises(SpecError) as caught:
            export(held, tmp_path / "out", **({"to": "npz"} | options))
        assert expected in str(caught.value)
        assert names_in(tmp_path) == []

    def test_all_that_is_wrong_is_told_together(self, held, tmp_path):
        with pytest.raises(SpecError) as caught:
            export(held, tmp_path / "out", to="npz", samples=[99], parts=["a"], fields="x", category="person")
        assert len(caught.value.problems) == 4

    def test_depth_that_is_not_there(self, dataset, tmp_path):
        with pytest.raises(SpecError, match=r"there is no depth: fill it with fgbgpack depth"):
            export(dataset, tmp_path / "out", to="npz", fields=["image", "depth"])
        report = export(dataset, tmp_path / "out", to="folder")
        assert report.fields == ("image", "mask")
        assert document(tmp_path / "out")["depth"] is None

    def test_an_incomplete_dataset(self, dataset, depth_model, tmp_path):
        path = tmp_path / "ds.zarr"
        shutil.copytree(dataset, path)

        def stop(event):
            if isinstance(event, Progress) and event.stage == "depth":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fill_depth(path, depth_of(depth_model), on_event=stop)
        for given_dataset in (path, open_dataset(path, allow_incomplete=True)):
            with pytest.raises(IncompleteDatasetError, match="not complete"):
                export(given_dataset, tmp_path / "out", to="npz")
        assert names_in(tmp_path) == ["ds.zarr"]


class TestPlace:
    def test_an_export_is_replaced_when_asked(self, held, tmp_path):
        export(held, tmp_path / "out", to="npz", samples=[0])
        before = tree(tmp_path / "out")
        with pytest.raises(RecipeMismatchError, match=r"an export already: .* --overwrite"):
            export(held, tmp_path / "out", to="folder", samples=[1])
        assert tree(tmp_path / "out") == before
        export(held, tmp_path / "out", to="folder", samples=[1], overwrite=True)
        assert document(tmp_path / "out")["format"] == "folder"
        assert not (tmp_path / "out" / "part-00000.npz").exists()
        assert names_in(tmp_path) == ["out"]

    def test_nothing_is_lost_when_replacing_fails(self, held, tmp_path):
        export(held, tmp_path / "out", to="npz", samples=[0])
        before = tree(tmp_path / "out")

        def stop(event):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(held, tmp_path / "out", to="folder", overwrite=True, on_event=stop)
        assert tree(tmp_path) == {f"out/{name}": data for name, data in before.items()}

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_is_no_export_stays(self, held, tmp_path, overwrite):
        folder, file = tmp_path / "folder", tmp_path / "file"
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
        (folder / "fgbgpack.json").write_text('{"mine": 1}')
        file.write_text("mine")
        with pytest.raises(DatasetError, match=r"other things than an export \(fgbgpack.json, thesis.txt\)"):
            export(held, folder, to="npz", overwrite=overwrite)
        with pytest.raises(DatasetError, match="is a file"):
            export(held, file, to="npz", overwrite=overwrite)
        with pytest.raises(DatasetError, match="holds other things than an export"):
            export(held, held.path, to="npz", overwrite=overwrite)
        assert tree(tmp_path) == {
            "folder/thesis.txt": b"mine",
            "folder/fgbgpack.json": b'{"mine": 1}',
            "file": b"mine",
        }

    def test_a_dataset_is_not_replaced_with_the_export_it_lies_in(self, held, tmp_path):
        export(held, tmp_path / "out", to="npz", samples=[0])
        shutil.copytree(held.path, tmp_path / "out" / "inner.zarr")
        before = tree(tmp_path / "out")
        with pytest.raises(DatasetError, match="lies in"):
            export(tmp_path / "out" / "inner.zarr", tmp_path / "out", to="npz", overwrite=True)
        assert tree(tmp_path / "out") == before

    def test_a_place_in_the_dataset_or_around_it_is_refused(self, held, tmp_path, monkeypatch):
        before = tree(Path(held.path))
        with pytest.raises(DatasetError, match=r"lies in .*, the dataset"):
            export(held, Path(held.path) / "export", to="npz")
        assert tree(Path(held.path)) == before
        (tmp_path / "in").mkdir()
        monkeypatch.chdir(tmp_path / "in")
        for out in (".", ".."):
            with pytest.raises(DatasetError, match="is the current folder, or holds it"):
                export(held, out, to="npz", overwrite=True)
        assert [path.name for path in tmp_path.rglob("*")] == ["in"]

    def test_an_empty_folder_is_taken(self, held, tmp_path):
        (tmp_path / "out").mkdir()
        export(held, tmp_path / "out", to="npz", samples=[0])
        assert sorted(tree(tmp_path)) == ["out/fgbgpack.json", "out/part-00000.npz"]

    def test_a_link_to_a_folder_stays_one(self, held, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "disk")
        export(held, tmp_path / "out", to="npz", samples=[0])
        assert (tmp_path / "out").is_symlink()
        assert sorted(tree(tmp_path / "disk")) == ["fgbgpack.json", "part-00000.npz"]

    def test_what_a_killed_run_left_is_swept(self, held, tmp_path):
        code = (
            "import sys, signal, os\n"
            "from fgbgpack.export import export\n"
            "def kill(event):\n"
            "    if event.done: os.kill(os.getpid(), signal.SIGKILL)\n"
            "export(sys.argv[1], sys.argv[2], to='folder', on_event=kill)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, held.path, tmp_path / "out"], check=False)
        assert done.returncode == -signal.SIGKILL
        (left,) = names_in(tmp_path)
        assert left.startswith(".out.")
        assert not (tmp_path / "out").exists()
        events = []
        export(held, tmp_path / "out", to="folder", on_event=events.append)
        assert [event for event in events if isinstance(event, Notice) and left in event.message]
        assert names_in(tmp_path) == ["out"]
        export(held, tmp_path / "again", to="folder")
        assert tree(tmp_path / "out") == tree(tmp_path / "again")

    def test_what_was_there_comes_back_if_a_run_was_killed_while_it_replaced_it(self, held, tmp_path):
        export(held, tmp_path / "out", to="npz", samples=[0])
        before = tree(tmp_path / "out")
        (tmp_path / "out").rename(tmp_path / ".out.fgbgpack-replaced")
        with pytest.raises(RecipeMismatchError):
            export(held, tmp_path / "out", to="folder")
        assert tree(tmp_path) == {f"out/{name}": data for name, data in before.items()}

    def test_two_processes_do_not_write_the_same_place(self, held, tmp_path):
        code = (
            "import sys, time\n"
            "from fgbgpack.export import export\n"
            "def wait(event):\n"
            "    print('begun', flush=True)\n"
            "    sys.stdin.read()\n"
            "export(sys.argv[1], sys.argv[2], to='npz', on_event=wait)\n"
        )
        command = [sys.executable, "-c", code, held.path, tmp_path / "out"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout.readline() == b"begun\n"
            with pytest.raises(DatasetError, match="Another process is exporting"):
                export(held, tmp_path / "out", to="npz")
            other.communicate()
        assert other.returncode == 0
        assert names_in(tmp_path) == ["out"]

    def test_a_full_disk(self, held, tmp_path):
        def fill(event):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(DatasetError, match=r"The disk that holds .*out is full"):
            export(held, tmp_path / "out", to="npz", on_event=fill)
        assert names_in(tmp_path) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_place_that_cannot_be_written(self, held, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(DatasetError, match="cannot be written"):
            export(held, tmp_path / "out", to="npz")


# --- the command -----------------------------------------------------------------------------------


def run(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


class TestCommand:
    def test_it_says_what_it_wrote_and_how_to_open_it(self, held, tmp_path):
        out = tmp_path / "out"
        code, stdout, stderr = run(
            held.path, out, "--to", "npz", "--samples", "0:3, 7,30:", "--fields", "image, mask"
        )
        assert code == 0
        assert f"Exported 10 samples to {out}" in stdout
        assert "npz: image, mask" in stdout
        assert "Samples: 10 of 10" in stderr
        lines = [line.strip() for line in stdout.partition("In Python:\n")[2].splitlines()]
        namespace: dict = {}
        exec("\n".join(lines), namespace)
        np.testing.assert_array_equal(namespace["arrays"]["sample"], [0, 1, 2, 7, *range(30, 36)])
        namespace["arrays"].close()

    def test_json(self, held, tmp_path):
        code, stdout, _ = run(
            held.path, tmp_path / "out", "--to", "webdataset", "--split", "by-background", "--part", "val",
            "--shard-size", 1, "--shard-samples", 5, "--workers", 1, "--json", "--quiet",
        )  # fmt: skip
        said = json.loads(stdout)
        assert (code, said["samples"], said["parts"], said["files"]) == (0, 12, {"val": 12}, 5)

    def test_options_that_cannot_be_read(self, held, tmp_path):
        code, _, stderr = run(
            held.path,
            tmp_path / "out",
            "--to",
            "npz",
            "--samples",
            "0:x,-5,1:2:3,",
            "--shard-samples",
            "many",
        )
        assert code == 2
        for problem in ("'0:x'", "'-5'", "'1:2:3'", "''", "--shard-samples: 'many' is not a whole number"):
            assert problem in stderr
        assert names_in(tmp_path) == []

    def test_exit_codes(self, held, dataset, tmp_path):
        assert run(tmp_path / "none.zarr", tmp_path / "out", "--to", "npz")[0] == 4
        assert run(dataset, tmp_path / "out", "--to", "npz", "--fields", "depth")[0] == 2
        assert run(dataset, tmp_path / "out", "--to", "npz", "-q") == (0, "", "")
        assert run(dataset, tmp_path / "out", "--to", "npz", "-q")[0] == 4
        assert run(dataset, tmp_path / "out", "--to", "npz", "-q", "--overwrite")[0] == 0

    def test_ctrl_c(self, held, tmp_path):
        code = (
            "import os, signal, sys\n"
            "from fgbgpack.cli import main, progress\n"
            "show = progress.ProgressDisplay.__call__\n"
            "def interrupt(self, event):\n"
            "    show(self, event)\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "progress.ProgressDisplay.__call__ = interrupt\n"
            "main()\n"
        )
        command = [sys.executable, "-c", code, "export", held.path, tmp_path / "out", "--to", "folder"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 130
        assert "interrupted: Nothing was written." in done.stderr
        assert names_in(tmp_path) == []
