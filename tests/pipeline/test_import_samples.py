"""Importing files: what pairs with what, what cannot be used, and what the dataset then holds."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from builders import tree
from PIL import Image
from typer.testing import CliRunner
from zarr.storage import MemoryStore

import fgbgpack
from fgbgpack import open_dataset
from fgbgpack.cli import app
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SourceError, SpecError
from fgbgpack.export import export
from fgbgpack.pipeline import (
    ImportSpec,
    Notice,
    Progress,
    create,
    import_folder,
    look,
    materialize,
    virtualize,
)
from fgbgpack.storage import layout as plan
from fgbgpack.storage.store import Keys, write_document
from fgbgpack.visual.comparison import compare
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import render_preview

HEIGHT, WIDTH = 18, 26
#: Sizes that cut a few small samples into many shards.
TINY = {
    "_PIXEL_SHARD_BYTES": 5000,
    "_DEPTH_CHUNK_BYTES": 2000,
    "_DEPTH_SHARD_BYTES": 3000,
    "_FEWEST_SHARDS": 1,
}


@pytest.fixture
def tiny_shards(monkeypatch):
    for name, size in TINY.items():
        monkeypatch.setattr(plan, name, size)


many_shards = pytest.mark.usefixtures("tiny_shards")


def image_of(seed: int, height=HEIGHT, width=WIDTH) -> np.ndarray:
    """A ramp with some noise and a square, all of which the seed tells."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 9, y * 13, (x + y) * 5], -1) + rng.integers(0, 9, (height, width, 3))
    image[mask_of(seed, height, width) > 127] = 10 * (seed % 20), 200, 90
    return np.clip(image, 0, 255).astype(np.uint8)


def mask_of(seed: int, height=HEIGHT, width=WIDTH) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    top, left = 2 + seed % 7, 3 + seed % 11
    mask[top : top + 6, left : left + 5] = 255
    mask[top + 6 : top + 7, left : left + 5] = 100 + seed % 50  # a soft edge
    return mask


def depth_of(seed: int, height=HEIGHT, width=WIDTH) -> np.ndarray:
    """(h, w) uint16 millimetres, 0 in a corner."""
    y, x = np.mgrid[:height, :width]
    depth = (1000 + 37 * y + 11 * x + seed).astype(np.uint16)
    depth[:2, :3] = 0
    return depth


def save(array: np.ndarray, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def numbered(tmp_path) -> Path:
    """12 samples: numbered JPEG pictures, PNG masks, PNG depth of 16 bits."""
    root = tmp_path / "numbered"
    for i in range(1, 13):
        save(image_of(i), root / "images" / f"{i}.jpg", quality=95)
        save(mask_of(i), root / "masks" / f"{i}.png")
        save(depth_of(i), root / "depth" / f"{i}.png")
    return root


class Events:
    """A callback that remembers."""

    def __init__(self):
        self.seen = []

    def __call__(self, event):
        self.seen.append(event)

    def notices(self):
        return "\n".join(event.message for event in self.seen if isinstance(event, Notice))


def decoded(folder: Path, pattern: str, numbers) -> np.ndarray:
    return np.stack([np.asarray(Image.open(folder / pattern.format(i))) for i in numbers])


# --- what comes out --------------------------------------------------------------------------------


@many_shards
def test_numbered_files_come_in_the_order_of_their_numbers(tmp_path, numbered):
    spec = ImportSpec(str(numbered), depth_quantity="depth", depth_unit="m", depth_factor=0.001)
    events = Events()
    done = import_folder(tmp_path / "out.zarr", spec, on_event=events)
    assert (done.samples, done.written, done.depth_written) == (12, 12, 12)
    assert (done.height, done.width, done.complete, done.left_out) == (HEIGHT, WIDTH, True, 0)
    assert {event.stage for event in events.seen if isinstance(event, Progress)} == {
        "sources",
        "samples",
        "depth",
    }

    ds = open_dataset(tmp_path / "out.zarr")
    assert ds.names == [str(i) for i in range(1, 13)]
    assert (len(ds), ds.height, ds.width, ds.fields) == (12, HEIGHT, WIDTH, ("image", "mask", "depth"))
    np.testing.assert_array_equal(ds.image[:], decoded(numbered, "images/{}.jpg", range(1, 13)))
    np.testing.assert_array_equal(ds.mask[:], [mask_of(i) for i in range(1, 13)])
    expected = (np.stack([depth_of(i) for i in range(1, 13)]) * 0.001).astype(np.float16)
    np.testing.assert_array_equal(ds.depth[:], expected)
    np.testing.assert_array_equal(ds.whole("depth_min"), expected.min(axis=(1, 2)))
    np.testing.assert_array_equal(ds.whole("depth_max"), expected.max(axis=(1, 2)))
    attributes = ds.depth.attrs
    assert (attributes["quantity"], attributes["unit"]) == ("depth", "m")
    exact = np.stack([depth_of(i) for i in range(1, 13)]) * 0.001
    error = np.abs(expected.astype(np.float64) - exact).max() / np.ptp(exact)
    assert error <= attributes["rounding"]["largest_error"] < 4 * error
    assert sum(key.startswith("image/c/") for key in tree(tmp_path / "out.zarr")) > 1


def test_nested_folders_pair_by_their_paths(tmp_path):
    root = tmp_path / "nested"
    number = 0
    for bg in (2, 10, 1):
        for fg in (7, 12):
            for n in range(2):
                save(image_of(number), root / f"fg_bg/bg{bg}/fg{fg}/{n:03}.png")
                save(mask_of(number), root / f"fg_bg_mask/bg{bg}/fg{fg}/{n:03}.png")
                number += 1
    for unused in ("bg/1.png", "fg/1.png", "fg_mask/1.png"):
        save(image_of(0), root / unused)
    (root / "notes.txt").write_text("made in 2020")
    (root / "fg_bg" / ".DS_Store").write_bytes(b"\0")
    events = Events()
    import_folder(tmp_path / "out.zarr", ImportSpec(str(root)), on_event=events)
    ds = open_dataset(tmp_path / "out.zarr")
    assert ds.names == [f"bg{bg}/fg{fg}/00{n}" for bg in (1, 2, 10) for fg in (7, 12) for n in (0, 1)]
    order = [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(ds.image[:], [image_of(i) for i in order])
    np.testing.assert_array_equal(ds.mask[:], [mask_of(i) for i in order])
    assert not ds.has_depth
    assert ds.document["imported"]["patterns"] == {"images": "fg_bg/", "masks": "fg_bg_mask/", "depths": None}
    assert "Ignored 4 files" in events.notices()


@pytest.mark.parametrize(
    ("image", "mask", "depth"),
    [
        ("images/{}.png", "masks/{}_mask.png", "depth/{}_depth.png"),
        ("fgbg/fgbg_{}.png", "mask/mask_{}.png", "depthmap/dm_{}.png"),
        ("composites/img{}.png", "masks/mask{}.png", "depths/{}.png"),
        ("RGB/fg_bg_{}.png", "Masks/fg_bg_mask_{}.png", "Depth_Maps/fg_bg-{}-depth.png"),
        ("images/bg3_fg{}.png", "masks/bg3_fg{}_mask.png", "depth/bg3_fg{}.png"),
    ],
)
def test_names_may_say_what_a_file_is(tmp_path, image, mask, depth):
    for i in range(9, 12):
        save(image_of(i), tmp_path / "in" / image.format(i))
        save(mask_of(i), tmp_path / "in" / mask.format(i))
        save(depth_of(i), tmp_path / "in" / depth.format(i))
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in")))
    ds = open_dataset(tmp_path / "out.zarr")
    np.testing.assert_array_equal(ds.image[:], [image_of(i) for i in range(9, 12)])
    np.testing.assert_array_equal(ds.mask[:], [mask_of(i) for i in range(9, 12)])
    np.testing.assert_array_equal(ds.depth[:], [depth_of(i).astype(np.float16) for i in range(9, 12)])


def test_patterns_say_what_files_share(tmp_path):
    root = tmp_path / "in"
    for bg, fg, n in ((1, 2, 3), (1, 10, 3), (11, 0, 4)):
        seed = 100 * bg + 10 * fg + n
        save(image_of(seed), root / f"all/{bg}_{fg}_{n}.png")
        save(mask_of(seed), root / f"all/{bg}_{fg}_{n}_m.png")
        save(depth_of(seed), root / f"deep/{bg}/{n}-of-{fg} v2.png")
    spec = ImportSpec(
        str(root),
        images="all/{bg}_{fg}_{n}.png",
        masks="all/{bg}_{fg}_{n}_m.png",
        depths="deep/{bg}/{n}-of-{fg} v*.png",
    )
    import_folder(tmp_path / "out.zarr", spec)
    ds = open_dataset(tmp_path / "out.zarr")
    assert ds.names == ["1_2_3", "1_10_3", "11_0_4"]
    for i, seed in enumerate((123, 203, 1104)):
        np.testing.assert_array_equal(ds.image[i], image_of(seed))
        np.testing.assert_array_equal(ds.mask[i], mask_of(seed))
        np.testing.assert_array_equal(ds.depth[i], depth_of(seed).astype(np.float16))


def test_folders_of_other_names_can_be_told(tmp_path, numbered):
    (numbered / "images").rename(numbered / "merged")
    (numbered / "masks").rename(numbered / "grey stuff")
    spec = ImportSpec(str(numbered), images="merged", masks="grey stuff/", depths="none")
    import_folder(tmp_path / "out.zarr", spec)
    ds = open_dataset(tmp_path / "out.zarr")
    assert len(ds) == 12
    assert not ds.has_depth
    np.testing.assert_array_equal(ds.mask[:], [mask_of(i) for i in range(1, 13)])


# --- masks -----------------------------------------------------------------------------------------


def as_palette(mask):
    picture = Image.fromarray(mask).quantize(256, dither=Image.Dither.NONE)
    assert picture.mode == "P"
    return picture


@pytest.mark.parametrize(
    "made",
    [
        Image.fromarray,
        lambda mask: Image.fromarray(mask).convert("RGB"),
        lambda mask: Image.fromarray(mask).convert("LA"),
        as_palette,
        lambda mask: Image.merge(
            "RGBA", [Image.new("L", (WIDTH, HEIGHT), 255)] * 3 + [Image.fromarray(mask)]
        ),
        lambda mask: Image.fromarray(mask.astype(np.uint16) * 257),
    ],
    ids=["gray", "rgb", "gray-and-alpha", "palette", "alpha", "16-bit"],
)
def test_masks_of_every_kind_keep_their_soft_edges(tmp_path, made):
    save(image_of(3), tmp_path / "in/images/a.png")
    (tmp_path / "in/masks").mkdir()
    made(mask_of(3)).save(tmp_path / "in/masks/a.png")
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in")))
    np.testing.assert_array_equal(open_dataset(tmp_path / "out.zarr").mask[0], mask_of(3))


def test_masks_of_one_bit_are_0_and_255(tmp_path):
    save(image_of(3), tmp_path / "in/images/a.png")
    save(mask_of(3) > 127, tmp_path / "in/masks/a.png")
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in")))
    np.testing.assert_array_equal(open_dataset(tmp_path / "out.zarr").mask[0], (mask_of(3) > 127) * 255)


def test_jpeg_masks_and_alpha_of_pictures_are_told_of(tmp_path):
    save(np.dstack([image_of(3), mask_of(3)]), tmp_path / "in/images/a.png")
    save(mask_of(3), tmp_path / "in/masks/a.jpg")
    events = Events()
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in")), on_event=events)
    assert "masks that are JPEG: 1;" in events.notices()
    assert "alpha channel, which is left out: 1." in events.notices()
    ds = open_dataset(tmp_path / "out.zarr")
    np.testing.assert_array_equal(ds.image[0], image_of(3))
    np.testing.assert_array_equal(ds.mask[0], np.asarray(Image.open(tmp_path / "in/masks/a.jpg")))


# --- depth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["8-bit", "16-bit", "rgb", "npy", "tiff"])
def test_depth_of_every_kind(tmp_path, kind):
    save(image_of(3), tmp_path / "in/images/a.png")
    save(mask_of(3), tmp_path / "in/masks/a.png")
    values = depth_of(3)
    (tmp_path / "in/depth").mkdir()
    if kind in ("8-bit", "rgb"):
        values = (values // 16).astype(np.uint8)
        picture = Image.fromarray(values).convert("RGB" if kind == "rgb" else "L")
        picture.save(tmp_path / "in/depth/a.png")
    elif kind == "16-bit":
        save(values, tmp_path / "in/depth/a.png")
    elif kind == "npy":
        np.save(tmp_path / "in/depth/a.npy", values[None].astype(np.float32) / 7)
        values = values.astype(np.float32) / 7
    else:
        values = values.astype(np.float32) / 7
        save(values, tmp_path / "in/depth/a.tiff")
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in"), depth_factor=0.5))
    ds = open_dataset(tmp_path / "out.zarr")
    np.testing.assert_array_equal(ds.depth[0], (values.astype(np.float64) * 0.5).astype(np.float16))
    assert ds.depth.attrs["quantity"] is None
    assert ds.document["depth"] == {
        "complete": True, "mode": "imported", "quantity": None, "unit": None, "factor": 0.5, "offset": 0.0,
        "invalid": None,
    }  # fmt: skip


def test_depth_gets_an_offset(tmp_path, numbered):
    spec = ImportSpec(str(numbered), depth_factor=0.001, depth_offset=-2.5, depth_invalid=0)
    import_folder(tmp_path / "out.zarr", spec)
    ds = open_dataset(tmp_path / "out.zarr")
    expected = np.where(depth_of(4) == 0, np.nan, depth_of(4) * 0.001 - 2.5).astype(np.float16)
    np.testing.assert_array_equal(ds.depth[3], expected)
    assert ds.document["depth"]["offset"] == -2.5
    with pytest.raises(RecipeMismatchError, match=r"depth offset: the dataset has -2\.5, asked for 0\.0"):
        import_folder(tmp_path / "out.zarr", ImportSpec(str(numbered), depth_factor=0.001, depth_invalid=0))


def test_unknown_depth_becomes_nan_where_that_is_said(tmp_path, numbered):
    import_folder(tmp_path / "out.zarr", ImportSpec(str(numbered), depth_invalid=0, depth_factor=0.001))
    ds = open_dataset(tmp_path / "out.zarr")
    expected = np.where(depth_of(1) == 0, np.nan, depth_of(1) * 0.001).astype(np.float16)
    np.testing.assert_array_equal(ds.depth[0], expected)
    assert ds.whole("depth_min")[0] == np.nanmin(expected) > 0


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8), "colour map"),
        (np.full((HEIGHT, WIDTH), 65535, np.uint16), "65535.*at most 65,504.*--depth-factor"),
    ],
)
def test_depth_that_cannot_be_stored_is_refused_before_anything_is_written(tmp_path, numbered, array, said):
    save(array, numbered / "depth/7.png")
    with pytest.raises(SourceError, match=rf"(?s)depth{os.sep}7\.png.*{said}"):
        import_folder(tmp_path / "out.zarr", ImportSpec(str(numbered)))
    assert not (tmp_path / "out.zarr").exists()


# --- what fgbgpack exported ------------------------------------------------------------------------


def assert_as_near_as_pixels_are(found, original, folder: Path):
    """Depth is within half a step of the exported pixels, and of float16, of what it was."""
    mapping = json.loads((folder / "fgbgpack.json").read_text(encoding="utf-8"))["depth"]["mapping"]
    step = (mapping["high"] - mapping["low"]) / (2 ** mapping["bits"] - 1 - (mapping["unknown"] is not None))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(original))
    known = ~np.isnan(original)
    found, original = found[known].astype(np.float64), original[known].astype(np.float64)
    spacing = np.spacing(np.maximum(np.abs(found), np.abs(original)).astype(np.float16)).astype(np.float64)
    assert (np.abs(found - original) <= 0.5001 * step + 0.5 * spacing).all()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("source", ["created", "imported"])
def test_what_was_exported_comes_back(tmp_path, numbered, depth_dataset, source, bits):
    path = depth_dataset
    if source == "imported":
        path = tmp_path / "first.zarr"
        means = {"depth_quantity": "depth", "depth_unit": "m", "depth_factor": 0.001, "depth_invalid": 0}
        import_folder(path, ImportSpec(str(numbered), depth_offset=-1.25, **means))
    first, folder = open_dataset(path), tmp_path / "exported"
    export(first, folder, to="folder", depth_bits=bits)
    events = Events()
    import_folder(tmp_path / "again.zarr", ImportSpec(str(folder)), on_event=events)
    again = open_dataset(tmp_path / "again.zarr")
    names = first.names
    if names is None:
        p = first.placements
        placed = zip(p.background, p.foreground, p.flip, p.replica, strict=True)
        names = [f"b{b}/f{f}/{int(flip)}-{replica}" for b, f, flip, replica in placed]
    assert again.names == names
    np.testing.assert_array_equal(again.image[:], first.image[:])
    np.testing.assert_array_equal(again.mask[:], first.mask[:])
    assert np.isnan(first.depth[:]).any() == (source == "imported")
    assert_as_near_as_pixels_are(again.depth[:], first.depth[:], folder)
    for name in ("quantity", "unit"):
        assert again.depth.attrs[name] == first.depth.attrs[name]
    section = again.document["depth"]
    assert (section["mode"], section["invalid"]) == ("imported", 0 if source == "imported" else None)
    said = f"Depth is taken as {folder / 'fgbgpack.json'} says: --depth-quantity {section['quantity']}"
    assert said in events.notices()
    assert f"--depth-factor {section['factor']} --depth-offset {section['offset']}" in events.notices()
    assert "What depth is, is not known" not in events.notices()
    # The extremes of depth come back as they were.
    for name, extreme in (("depth_min", np.nanmin), ("depth_max", np.nanmax)):
        assert extreme(again.whole(name)) == extreme(first.whole(name))
    # With what was taken said as options, the document is needed no more.
    assert import_folder(tmp_path / "again.zarr", ImportSpec(str(folder))).depth_written == 0
    (folder / "fgbgpack.json").unlink()
    told = {f"depth_{name}": section[name] for name in ("quantity", "unit", "factor", "offset", "invalid")}
    assert import_folder(tmp_path / "again.zarr", ImportSpec(str(folder), **told)).depth_written == 0
    with pytest.raises(RecipeMismatchError, match="depth factor: "):
        import_folder(tmp_path / "again.zarr", ImportSpec(str(folder), depth_factor=1e-4))


@pytest.fixture(scope="module")
def exported(tmp_path_factory, depth_dataset) -> Path:
    """The dataset of 36 samples with depth, exported to a folder that is not to be changed."""
    folder = tmp_path_factory.mktemp("exported") / "exported"
    export(depth_dataset, folder, to="folder", depth_bits=8)
    return folder


def test_options_come_before_what_an_export_says(tmp_path, exported, depth_dataset):
    whole = open_dataset(depth_dataset).depth[:]
    means = {"depth_unit": "shoes", "depth_quantity": "depth"}
    import_folder(tmp_path / "named.zarr", ImportSpec(str(exported), **means))
    named = open_dataset(tmp_path / "named.zarr")
    assert (named.depth.attrs["quantity"], named.depth.attrs["unit"]) == ("depth", "shoes")
    assert_as_near_as_pixels_are(named.depth[:], whole, exported)
    # Half of a mapping with half of another would be nonsense.
    events = Events()
    import_folder(tmp_path / "raw.zarr", ImportSpec(str(exported), depth_factor=1), on_event=events)
    raw = open_dataset(tmp_path / "raw.zarr")
    assert (raw.depth[:].min(), raw.depth[:].max()) == (0, 255)
    assert "says: --depth-quantity inverse_depth\n" in events.notices() + "\n"
    assert {name: raw.document["depth"][name] for name in ("quantity", "factor", "offset")} == {
        "quantity": "inverse_depth", "factor": 1.0, "offset": 0.0,
    }  # fmt: skip
    shifted = ImportSpec(str(exported), depth_offset=3, depth_quantity="depth")
    import_folder(tmp_path / "shifted.zarr", shifted, on_event=events)
    np.testing.assert_array_equal(open_dataset(tmp_path / "shifted.zarr").depth[:], raw.depth[:] + 3)


def test_an_export_tells_nothing_of_other_depth(tmp_path, exported):
    folder = Path(shutil.copytree(exported, tmp_path / "in"))
    for path in sorted((folder / "depth").rglob("*.png")):
        other = folder / "better" / path.relative_to(folder / "depth").with_suffix(".npy")
        other.parent.mkdir(parents=True, exist_ok=True)
        np.save(other, np.full((21, 33), 7, np.float32))
    events = Events()
    import_folder(tmp_path / "out.zarr", ImportSpec(str(folder), depths="better"), on_event=events)
    assert (open_dataset(tmp_path / "out.zarr").depth[:] == 7).all()
    assert "fgbgpack.json" not in events.notices()
    shutil.rmtree(folder / "depth")
    (folder / "better").rename(folder / "depth")
    import_folder(tmp_path / "npy.zarr", ImportSpec(str(folder)))
    assert (open_dataset(tmp_path / "npy.zarr").depth[:] == 7).all()


@pytest.mark.parametrize("value", [0, 4321])
def test_depth_of_one_value_or_none_comes_back(tmp_path, numbered, value):
    for i in range(1, 13):
        save(np.full((HEIGHT, WIDTH), value, np.uint16), numbered / "depth" / f"{i}.png")
    import_folder(tmp_path / "first.zarr", ImportSpec(str(numbered), depth_factor=0.001, depth_invalid=0))
    first = open_dataset(tmp_path / "first.zarr")
    assert np.isnan(first.depth[:]).all() == (value == 0)
    export(first, tmp_path / "exported", to="folder")
    import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "exported")))
    np.testing.assert_array_equal(open_dataset(tmp_path / "again.zarr").depth[:], first.depth[:])


def test_parts_of_an_export_come_back_alone_or_together(tmp_path, depth_dataset):
    first, folder = open_dataset(depth_dataset), tmp_path / "exported"
    parts = {"train": np.arange(24), "test": np.arange(24, 36)}
    export(first, folder, to="folder", split=parts)
    for part, samples in parts.items():
        import_folder(tmp_path / f"{part}.zarr", ImportSpec(str(folder / part)))
        ds = open_dataset(tmp_path / f"{part}.zarr")
        np.testing.assert_array_equal(ds.image[:], first.image[samples])
        assert_as_near_as_pixels_are(ds.depth[:], first.depth[samples], folder)
    patterns = {f"{kind}s": f"{{part}}/{kind}/{{bg}}/{{fg}}/{{n}}.png" for kind in ("image", "mask", "depth")}
    import_folder(tmp_path / "all.zarr", ImportSpec(str(folder), **patterns))
    order = [*parts["test"], *parts["train"]]
    assert_as_near_as_pixels_are(open_dataset(tmp_path / "all.zarr").depth[:], first.depth[order], folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "says what exported depth is, and cannot be read: "),
        (lambda text: text.replace("export/1.0", "export/2.0"), "export/2.0; .* reads up to export/1.0"),
        (lambda text: text.replace('"low"', '"bottom"'), "does not follow schema export/1.0. Or"),
        (lambda text: "[]", "is not an? export document"),
    ],
    ids=["damaged", "newer", "wrong", "something else"],
)  # fmt: skip
def test_a_document_of_an_export_that_cannot_be_understood(tmp_path, exported, change, said):
    folder = Path(shutil.copytree(exported, tmp_path / "in"))
    path = folder / "fgbgpack.json"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(SourceError, match=f"(?s){said}.*remove it and say what depth is") as error:
        import_folder(tmp_path / "out.zarr", ImportSpec(str(folder)))
    assert error.value.message.startswith(str(path))
    assert not (tmp_path / "out.zarr").exists()
    # It matters to depth alone.
    import_folder(tmp_path / "out.zarr", ImportSpec(str(folder), depths="none"))


def test_files_of_that_name_may_lie_above_other_folders(tmp_path, numbered):
    for said in ('{"schema": "spec/1.0"}', '{"width": 128}', "[1]"):
        (tmp_path / "fgbgpack.json").write_text(said)
        assert look(ImportSpec(str(numbered))).samples == 12


# --- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_everything_is_resized_alike(tmp_path, fit):
    height, width = 40, 90
    mask = np.zeros((height, width), np.uint8)
    mask[10:30, 40:50] = 255
    depth = np.full((height // 2, width // 2), 2000, np.uint16)
    depth[:, 20:25] = 1000
    depth[5:15, 22] = 0
    save(image_of(1, height, width), tmp_path / "in/images/a.png")
    save(mask, tmp_path / "in/masks/a.png")
    save(depth, tmp_path / "in/depth/a.png")
    spec = ImportSpec(str(tmp_path / "in"), width=20, height=20, fit=fit, depth_invalid=0)
    import_folder(tmp_path / "out.zarr", spec)
    ds = open_dataset(tmp_path / "out.zarr")
    box = (25, 0, 65, 40) if fit == "crop" else None
    lanczos = Image.Resampling.LANCZOS
    picture = Image.fromarray(image_of(1, height, width)).resize((20, 20), lanczos, box=box)
    np.testing.assert_array_equal(ds.image[0], np.asarray(picture))
    np.testing.assert_array_equal(
        ds.mask[0], np.asarray(Image.fromarray(mask).resize((20, 20), lanczos, box=box))
    )
    known = ds.depth[0][np.isfinite(ds.depth[0])]
    # Never beyond what is in the file, and 0 was not taken for a value.
    assert (known.min(), known.max()) == (1000, 2000)
    assert ds.document["imported"]["fit"] == fit
    assert np.isnan(ds.depth[0]).any() == (fit == "crop")


def test_files_of_other_sizes_are_named_together(tmp_path, numbered):
    save(image_of(3, 20, 30), numbered / "images/3.jpg")
    save(mask_of(5, 9, 13), numbered / "masks/5.png")
    save(depth_of(6, 36, 52), numbered / "depth/6.png")
    with pytest.raises(SourceError) as caught:
        look(ImportSpec(str(numbered)))
    assert len(caught.value.problems) == 3
    text = str(caught.value)
    assert "3.jpg: 30x20 pixels; expected 26x18, as the others: resize it, or all with --size" in text
    assert "5.png: 13x9 pixels" in text
    assert "6.png: 52x36 pixels" in text
    # With a size the smaller mask and the larger depth are as good, for they show the same.
    save(image_of(3), numbered / "images/3.jpg")
    assert look(ImportSpec(str(numbered), width=13, height=9)).samples == 12
    save(mask_of(5, 18, 18), numbered / "masks/5.png")
    with pytest.raises(SourceError, match=r"5\.png: 18x18 pixels; expected 26x18, or of that aspect"):
        look(ImportSpec(str(numbered), width=13, height=9))


# --- what does not fit -----------------------------------------------------------------------------


def test_everything_that_is_wrong_is_told_together(tmp_path, numbered):
    (numbered / "masks/2.png").unlink()
    (numbered / "depth/4.png").unlink()
    (numbered / "images/5.jpg").unlink()
    save(image_of(6), numbered / "images/6.png")
    (numbered / "masks/7.png").write_bytes(b"not a picture at all")
    half = (numbered / "images/8.jpg").read_bytes()
    (numbered / "images/8.jpg").write_bytes(half[: len(half) // 2])
    (numbered / "images/9.jpg").write_bytes(b"")
    save(np.minimum(mask_of(10), 1), numbered / "masks/10.png")
    save(mask_of(11, 5, 5), numbered / "masks/11.png")
    with pytest.raises(SourceError) as caught:
        import_folder(tmp_path / "out.zarr", ImportSpec(str(numbered)))
    assert not (tmp_path / "out.zarr").exists()
    text = str(caught.value)
    for said in (
        "images/2.jpg: there is no mask for it; expected masks/2.png",
        "images/4.jpg: there is no depth map for it; expected depth/4.png",
        "masks/5.png: there is no picture for it; expected images/5.jpg",
        "images/6.jpg, images/6.png: 2 pictures of the same name; expected one",
        "7.png: not the content of any picture format",
        "8.jpg: it cannot be decoded",
        "9.jpg: not the content of any picture format",
        "10.png: a mask with no value above 1; expected 0 (background) to 255 (foreground): multiply",
        "11.png: 5x5 pixels",
        "pictures without a mask: 1, ",
        "masks without a picture: 1, ",
        "--skip-unmatched",
    ):
        assert said in text, said


def test_only_the_first_of_many_are_named(tmp_path, numbered):
    for i in range(1, 11):
        (numbered / f"masks/{i}.png").unlink()
    with pytest.raises(SourceError) as caught:
        look(ImportSpec(str(numbered)))
    assert len(caught.value.problems) == 6
    assert caught.value.problems[-1] == "... and 5 more pictures without a mask, 10 in all"


def test_what_nothing_pairs_with_can_be_left_out(tmp_path, numbered):
    (numbered / "masks/2.png").unlink()
    (numbered / "depth/4.png").unlink()
    save(image_of(6), numbered / "images/6.png")
    events = Events()
    done = import_folder(
        tmp_path / "out.zarr", ImportSpec(str(numbered), skip_unmatched=True), on_event=events
    )
    # 2 of sample 2, 2 of sample 4, 4 of sample 6
    assert (done.samples, done.left_out) == (9, 8)
    assert open_dataset(tmp_path / "out.zarr").names == [str(i) for i in range(1, 13) if i not in (2, 4, 6)]
    assert "Left out 8 files" in events.notices()
    assert "images/2.jpg: there is no mask for it" in events.notices()


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"images": "images/{id}.jpg"}, SpecError, "--masks: not given, expected a pattern as well"),
        (
            {"images": "images/{a}.jpg", "masks": "masks/{b}.png"},
            SpecError,
            "fields b, expected those of .*: a",
        ),
        ({"images": "images/{a", "masks": "masks/{a}.png"}, SpecError, "cannot be read"),
        ({"images": "images/{a}*.jpg", "masks": "masks/{a}.png"}, SpecError, "nothing tells where {a} ends"),
        ({"images": "images/{a:3}.jpg", "masks": "masks/{a}.png"}, SpecError, "expected a plain name"),
        ({"images": "../{a}.jpg", "masks": "masks/{a}.png"}, SpecError, "leads out of the folder"),
        (
            {"images": "img/{a}.jpg", "masks": "masks/{a}.png"},
            SourceError,
            "no file fits; there are depth/1.png",
        ),
        ({"images": "nowhere"}, SourceError, "nowhere/: there are no pictures in it"),
        ({"images": "none"}, SpecError, "--images: found none"),
        ({"width": 5}, SpecError, "--size"),
        ({"depth_factor": 0, "chunk": 0, "fit": "fill"}, SpecError, "(?s)--fit.*--depth-factor.*--chunk"),
        ({"depth_quantity": "metres"}, SpecError, "expected depth or inverse_depth"),
        ({"depth_offset": float("inf")}, SpecError, "--depth-offset: found inf, expected a number"),
    ],
)
def test_options_that_make_no_sense_are_refused(numbered, given, error, said):
    with pytest.raises(error, match=said):
        look(ImportSpec(str(numbered), **given))


def test_folders_that_tell_nothing(tmp_path):
    with pytest.raises(SourceError, match="there is no such folder"):
        look(ImportSpec(str(tmp_path / "nowhere")))
    with pytest.raises(SourceError, match="there are no pictures in it"):
        look(ImportSpec(str(tmp_path)))
    save(image_of(1), tmp_path / "x.png")
    with pytest.raises(SourceError, match=r"there are only files, such as x\.png"):
        look(ImportSpec(str(tmp_path)))
    save(image_of(1), tmp_path / "a/1.png")
    save(image_of(1), tmp_path / "b/1.png")
    with pytest.raises(SourceError, match=r"(?s)no folder of pictures: there are a/, b/.*no folder of masks"):
        look(ImportSpec(str(tmp_path)))
    save(mask_of(1), tmp_path / "masks/1.png")
    save(image_of(1), tmp_path / "images/1.png")
    save(image_of(1), tmp_path / "fg_bg/1.png")
    with pytest.raises(SourceError, match=r"fg_bg, images: 2 folders.*--images fg_bg"):
        look(ImportSpec(str(tmp_path)))
    shutil.rmtree(tmp_path / "fg_bg")
    (tmp_path / "masks/1.png").rename(tmp_path / "masks/other.png")
    with pytest.raises(
        SourceError, match=r"No mask .* is named like a picture.*images/1.png and masks/other.png"
    ):
        look(ImportSpec(str(tmp_path)))


def test_links_that_lead_back_are_followed_once(tmp_path, numbered):
    (numbered / "images/loop").symlink_to(numbered)
    assert look(ImportSpec(str(numbered))).samples == 12


# --- resuming, replacing ---------------------------------------------------------------------------


@many_shards
@pytest.mark.parametrize("workers", [1, 3])
def test_a_stopped_import_is_resumed(tmp_path, numbered, workers):
    spec = ImportSpec(str(numbered), chunk=2)
    import_folder(tmp_path / "whole.zarr", spec)
    expected = tree(tmp_path / "whole.zarr")

    def stop(event):
        if isinstance(event, Progress) and event.stage == "depth":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_folder(tmp_path / "out.zarr", spec, workers=workers, on_event=stop)
    with pytest.raises(IncompleteDatasetError):
        open_dataset(tmp_path / "out.zarr")
    assert not open_dataset(tmp_path / "out.zarr", allow_incomplete=True).complete
    shards = sorted((tmp_path / "out.zarr/image/c").iterdir())
    assert len(shards) > 2
    shutil.rmtree(shards[1])
    events = Events()
    done = import_folder(tmp_path / "out.zarr", spec, workers=workers, on_event=events)
    assert 0 < done.written < 12 == done.depth_written
    assert "Resuming" in events.notices()
    assert tree(tmp_path / "out.zarr") == expected
    again = import_folder(tmp_path / "out.zarr", ImportSpec(str(numbered)))
    assert (again.written, again.depth_written, again.complete) == (0, 0, True)


def test_a_killed_import_is_resumed(tmp_path, numbered):
    """A process that dies between two shards, with half of one on disk."""
    script = f"""
import os, signal
from fgbgpack import plan
from fgbgpack.build import ImportSpec, import_folder
from fgbgpack.dataset import Keys
for name, size in {TINY}.items():
    setattr(plan, name, size)
put = Keys.put
def dying(self, key, value):
    if key == "mask/c/2/0/0":
        open({str(tmp_path / "out.zarr/mask/half")!r} + "." + "0" * 32 + ".partial", "wb").write(value[:9])
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, key, value)
Keys.put = dying
import_folder({str(tmp_path / "out.zarr")!r}, ImportSpec({str(numbered)!r}, chunk=2), workers=1)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    with pytest.raises(IncompleteDatasetError):
        open_dataset(tmp_path / "out.zarr")
    with pytest.MonkeyPatch.context() as patch:
        for name, size in TINY.items():
            patch.setattr(plan, name, size)
        spec = ImportSpec(str(numbered), chunk=2)
        done = import_folder(tmp_path / "out.zarr", spec)
        import_folder(tmp_path / "whole.zarr", spec)
    assert done.written < 12
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "whole.zarr")


@many_shards
def test_files_that_are_damaged_inside_are_told_at_the_end(tmp_path):
    root = tmp_path / "in"
    for i in range(400):
        save(image_of(i), root / f"images/{i}.png")
        save(mask_of(i), root / f"masks/{i}.png")
    for i in (61, 62, 290):  # where no sample is tried beforehand
        whole = (root / f"images/{i}.png").read_bytes()
        (root / f"images/{i}.png").write_bytes(whole[:-60])
    with pytest.raises(SourceError) as caught:
        import_folder(tmp_path / "out.zarr", ImportSpec(str(root), chunk=8))
    assert [line.split(":")[0].rpartition("/")[2] for line in sorted(caught.value.problems)] == [
        "290.png", "61.png", "62.png",
    ]  # fmt: skip
    assert "--overwrite" in caught.value.message
    with pytest.raises(IncompleteDatasetError):
        open_dataset(tmp_path / "out.zarr")
    for i in (61, 62, 290):
        save(image_of(i), root / f"images/{i}.png")
    with pytest.raises(RecipeMismatchError, match="names or sizes have changed"):
        import_folder(tmp_path / "out.zarr", ImportSpec(str(root), chunk=8))
    import_folder(tmp_path / "out.zarr", ImportSpec(str(root), chunk=8), overwrite=True)
    ds = open_dataset(tmp_path / "out.zarr")
    np.testing.assert_array_equal(ds.image[290], image_of(290))


def test_another_import_at_the_same_place_is_refused(tmp_path, numbered, pictures, dataset):
    out = tmp_path / "out.zarr"
    import_folder(out, ImportSpec(str(numbered)))
    for changed, said in (
        ({"depth_factor": 0.5}, "depth factor: the dataset has 1.0, asked for 0.5"),
        ({"width": 13, "height": 9}, "--size: the dataset has 26x18, asked for 13x9"),
        ({"depths": "none"}, "--depths: the dataset has depth/, asked for None"),
        ({"chunk": 3}, "--chunk: the dataset has 8, asked for 3"),
        ({"images": "images/{n}.jpg", "masks": "masks/{n}.png", "depths": "depth/{n}.png"}, "--images"),
    ):
        with pytest.raises(RecipeMismatchError, match=said):
            import_folder(out, ImportSpec(str(numbered), **changed))
    save(mask_of(100), numbered / "masks/3.png")
    with (numbered / "masks/3.png").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(RecipeMismatchError, match="names or sizes have changed"):
        import_folder(out, ImportSpec(str(numbered)))
    import_folder(out, ImportSpec(str(numbered)), overwrite=True)
    np.testing.assert_array_equal(open_dataset(out).mask[2], mask_of(100))
    # An import and a dataset with a recipe do not take each other's place unasked.
    with pytest.raises(RecipeMismatchError, match="imported from pictures"):
        create(out, pictures.spec())
    create(out, pictures.spec(), overwrite=True)
    with pytest.raises(RecipeMismatchError, match="made by fgbgpack create"):
        import_folder(out, ImportSpec(str(numbered)))
    assert tree(out) == tree(dataset)
    import_folder(out, ImportSpec(str(numbered)), overwrite=True)
    assert sorted({key.partition("/")[0] for key in tree(out)}) == [
        "depth", "depth_max", "depth_min", "image", "mask", "name", "zarr.json",
    ]  # fmt: skip


def test_an_hdf5_file_is_as_good_a_place(tmp_path, numbered):
    pytest.importorskip("h5py")
    import_folder(tmp_path / "out.h5", ImportSpec(str(numbered)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["numbered", "out.h5"]
    ds = open_dataset(tmp_path / "out.h5")
    assert ds.names == [str(i) for i in range(1, 13)]
    np.testing.assert_array_equal(ds.mask[:], [mask_of(i) for i in range(1, 13)])
    assert import_folder(tmp_path / "out.h5", ImportSpec(str(numbered))).written == 0


def test_nothing_but_a_dataset_is_ever_replaced(tmp_path, numbered):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("all of it")
    with pytest.raises(DatasetError, match="holds other things"):
        import_folder(tmp_path / "mine", ImportSpec(str(numbered)), overwrite=True)


# --- chunks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alike", [True, False])
def test_chunks_are_large_only_where_neighbours_are_alike(tmp_path, alike):
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for i in range(50):
        image = ground.copy() if alike else rng.integers(0, 256, ground.shape).astype(np.uint8)
        image[mask_of(i) > 0] = 7
        save(image, tmp_path / f"in/images/{i}.png")
        save(mask_of(i), tmp_path / f"in/masks/{i}.png")
    assert look(ImportSpec(str(tmp_path / "in"))).chunk == (40 if alike else 8)
    assert look(ImportSpec(str(tmp_path / "in"), chunk=17)).chunk == 17


# --- the dataset that users hold -------------------------------------------------------------------


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """60 imported samples with depth, not to be changed."""
    root = tmp_path_factory.mktemp("files")
    for i in range(60):
        save(image_of(i), root / f"images/{i // 20}/ä{i % 20}.png")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8) if i == 33 else mask_of(i)
        save(mask, root / f"masks/{i // 20}/ä{i % 20}.png")
        save(depth_of(i), root / f"depth/{i // 20}/ä{i % 20}.png")
    out = tmp_path_factory.mktemp("datasets") / "imported.zarr"
    import_folder(out, ImportSpec(str(root), chunk=7, depth_quantity="inverse_depth"))
    return out


def test_samples_are_read_in_every_way(imported):
    ds = open_dataset(imported)
    assert not ds.has_recipe
    batch = ds[[5, 3]]
    assert set(batch.arrays) == {"image", "mask", "depth"}
    np.testing.assert_array_equal(batch.image, [image_of(5), image_of(3)])
    np.testing.assert_array_equal(ds[-1].mask, mask_of(59))
    into = ds.read([8, 9], out=batch)
    np.testing.assert_array_equal(
        into.depth, [depth_of(8).astype(np.float16), depth_of(9).astype(np.float16)]
    )
    with pytest.raises(SpecError, match="y: there is no such array"):
        ds.read([1], out={"mask": np.empty((1, HEIGHT, WIDTH), np.uint8), "y": np.empty(1, np.int32)})
    for name in ("background", "foreground", "flip", "replica", "y", "x"):
        with pytest.raises(SpecError, match=f"no {name}: its dataset was imported"):
            getattr(batch, name)
    seen = np.concatenate([b.image for b in ds.batches(16, shuffle=True, seed=2, fields="image")])
    assert sorted(map(bytes, seen)) == sorted(bytes(image_of(i)) for i in range(60))
    arrays = ds.to_numpy("mask", indices=slice(0, 4))
    assert list(arrays) == ["mask"]
    assert len(list(ds)) == 60
    assert "60 samples of 26x18 with depth" in repr(ds)
    with pickle.loads(pickle.dumps(ds)) as copy:
        assert copy.names == ds.names
        np.testing.assert_array_equal(copy.image[7], image_of(7))


def test_samples_have_names(imported):
    ds = open_dataset(imported)
    assert ds.names == [f"{i // 20}/ä{i % 20}" for i in range(60)]
    assert ds.where(name="1/ä5").tolist() == [25]
    assert ds.where(name=["2/ä0", "0/ä1"]).tolist() == [1, 40]
    assert len(ds.where()) == 60
    with pytest.raises(SpecError, match=r"(?s)there is no '3/ä0', expected such as '0/ä0'"):
        ds.where(name=["3/ä0", "0/ä0"])


def test_what_needs_a_recipe_says_so(tmp_path, imported, dataset, depth_model):
    ds = open_dataset(imported)
    for wanted in (
        lambda: ds.placements,
        ds.catalog,
        lambda: ds.visible,
        lambda: ds.where(background=1, flip=True),
    ):
        with pytest.raises(DatasetError, match="was imported from pictures: it has no"):
            wanted()
    assert ds.background_depth is None
    with pytest.raises(DatasetError, match="no recipe to make pixels of"):
        open_dataset(imported, pixels="recomposed")
    for convert in (materialize, virtualize):
        with pytest.raises(DatasetError, match="was imported from pictures"):
            convert(imported, tmp_path / "other.zarr")
    with pytest.raises(DatasetError, match="was imported from pictures"):
        compare(ds, [], stored=True)
    with pytest.raises(SpecError, match="has no names"):
        open_dataset(dataset).where(name="b0")
    assert open_dataset(dataset).names is None
    assert open_dataset(dataset).has_recipe


def test_masks_are_measured(imported):
    ds = open_dataset(imported)
    for i in (0, 7, 33, 59):
        mask = ds.mask[i]
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        expected = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if len(rows) else [0] * 4
        assert ds.bbox[i].tolist() == expected
        assert ds.area[i] == (mask > 127).sum()
    assert (ds.bbox.dtype, ds.area.dtype) == (np.int32, np.int64)


def test_samples_are_split_by_their_names(tmp_path, imported):
    shutil.copytree(imported, tmp_path / "own.zarr")
    ds = open_dataset(tmp_path / "own.zarr")
    parts = ds.split({"train": 0.8, "test": 0.2}, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 48, "test": 12}
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(60))
    assert parts["test"].tolist() != ds.split({"train": 0.8, "test": 0.2}, seed=4)["test"].tolist()
    with pytest.raises(DatasetError, match="split it by='sample'"):
        ds.split({"train": 0.5}, by="background")
    saved = ds.save_split("mine", {"train": 0.8, "test": 0.2}, seed=3)
    again = open_dataset(tmp_path / "own.zarr")
    assert again.splits["mine"]["by"] == "sample"
    for name, part in parts.items():
        np.testing.assert_array_equal(saved[name], part)
        np.testing.assert_array_equal(again.split("mine")[name], part)


def test_pytorch_reads_them(imported):
    torch = pytest.importorskip("torch")
    from fgbgpack.torch import FgBgDataset, make_loader

    with pytest.raises(SpecError, match=r"placements: .* was imported and has none"):
        FgBgDataset(imported, placements=True)
    seen = []
    for batch in make_loader(imported, 16, workers=0):
        assert batch["image"].dtype == torch.uint8
        for index, mask in zip(batch["index"].tolist(), batch["mask"], strict=True):
            expected = np.zeros((HEIGHT, WIDTH), np.uint8) if index == 33 else mask_of(index)
            np.testing.assert_array_equal(mask[0].numpy(), expected)
            seen.append(index)
    assert sorted(seen) == list(range(60))


def test_zarr_and_xarray_open_them_without_a_warning(imported):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(imported, mode="r")
        assert sorted(group) == ["depth", "depth_max", "depth_min", "image", "mask", "name"]
        np.testing.assert_array_equal(group["image"][12], image_of(12))
        held = xarray.open_zarr(imported)
        assert dict(held.sizes) == {"sample": 60, "y": HEIGHT, "x": WIDTH, "channel": 3, "byte": 6}
        np.testing.assert_array_equal(held["mask"][12], mask_of(12))
        name = bytes(held["name"][25].values).rstrip(b"\0").decode()
        assert name == "1/ä5"
    assert set(group.metadata.consolidated_metadata.metadata) == set(group)
    assert fgbgpack.store(imported).read_only


def test_it_is_described_and_drawn(imported):
    ds = open_dataset(imported)
    described = json.loads(json.dumps(describe(ds)))
    assert described["imported"]["files"] == 180
    assert described["recipe"] is described["sources"] is described["backgrounds"] is None
    assert described["depth"]["mode"] == "imported"
    assert described["depth"]["quantity"] == "inverse_depth"
    assert described["arrays"]["image"]["filled"] == 60
    with_sources = 6
    figure = render_preview(ds, rows=2)
    assert figure == render_preview(ds, rows=2)
    assert figure.width < with_sources * 200
    assert len({colour for _, colour in figure.getcolors(1 << 20)}) > 1000


def test_a_document_is_of_a_recipe_or_of_an_import(imported):
    document = open_dataset(imported).document
    keys = Keys(MemoryStore(), "memory")
    for change in ({"recipe": {"sha256": "0" * 64, "samples": 60}}, {"imported": None}):
        changed = {**document, **change}
        with pytest.raises(DatasetError, match="does not follow schema"):
            write_document(keys, {name: value for name, value in changed.items() if value is not None})


# --- the command -----------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_imports_and_says_what_it_did(tmp_path, numbered):
    dry = run("import", numbered, tmp_path / "out.zarr", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "Would import 12 samples of 26x18" in dry.stdout
    assert "images/12.jpg  masks/12.png  depth/12.png" in dry.stdout
    assert not (tmp_path / "out.zarr").exists()
    assert json.loads(run("import", numbered, "x", "--dry-run", "--json", "-q").stdout)["samples"] == 12

    options = ("--size", "13x9", "--fit", "stretch", "--depth-quantity", "depth", "--depth-unit", "m",
               "--depth-factor", "1e-3", "--depth-offset", "-0.5", "--depth-invalid", "0",
               "--chunk", "4")  # fmt: skip
    made = run("import", numbered, tmp_path / "out.zarr", *options)
    assert made.exit_code == 0, made.output
    assert "Imported 12 samples of 13x9" in made.stdout
    assert "nothing to do" in run("import", numbered, tmp_path / "out.zarr", *options).stdout
    described = run("info", tmp_path / "out.zarr").stdout
    assert "36 files of images/, masks/, depth/, resized (stretch)" in described
    assert "imported, depth in m, 0.001 times the values in the files -0.5" in described
    drawn = run("preview", tmp_path / "out.zarr", "-o", tmp_path / "out.png", "--rows", "2")
    assert drawn.exit_code == 0, drawn.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere", "out.zarr"], 3, "there is no such folder"),
        (
            ["in", "out.zarr", "--depth-factor", "much", "--chunk", "x", "--fit", "crop"],
            2,
            "--depth-factor: 'much'",
        ),
        (["in", "out.zarr", "--depth-offset", "nan"], 2, "--depth-offset: 'nan' is not a number"),
        (["in", "out.zarr", "--size", "1x1"], 2, "--size"),
        (["in", "out.zarr", "--images", "images/{id}.jpg"], 2, "--masks: not given"),
        (["in", "other", "--depths", "none"], 4, "holds other things"),
    ],
)
def test_the_command_fails_with_the_right_code(tmp_path, monkeypatch, numbered, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    numbered.rename("in")
    Path("other").mkdir()
    Path("other/file").touch()
    result = run("import", *arguments)
    assert result.exit_code == code, result.output
    assert said in result.stderr
