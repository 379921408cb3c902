"""Importing what fgbgpack exported: its document says what the pixels of depth mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from picture_files import write
from sample_folders import HEIGHT, MILLIMETRES, WIDTH, Events, write_samples

from fgbgpack import open_dataset
from fgbgpack.errors import RecipeMismatchError, SourceError
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, import_folder, scan


@pytest.fixture(scope="module")
def exported(tmp_path_factory, depth_dataset) -> Path:
    """The dataset of 36 samples with depth, exported to a folder that is not to be changed."""
    folder = tmp_path_factory.mktemp("exported") / "exported"
    export(depth_dataset, folder, to="folder", depth_bits=8)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """12 samples with depth that is unknown in places, not to be changed."""
    return write_samples(tmp_path_factory.mktemp("files"), range(1, 13))


def assert_as_near_as_pixels_are(found, original, folder: Path):
    """Depth is within half a step of the exported pixels, and of float16, of what it was."""
    mapping = json.loads((folder / "fgbgpack.json").read_text(encoding="utf-8"))["depth"]["mapping"]
    step = (mapping["high"] - mapping["low"]) / (2 ** mapping["bits"] - 1 - (mapping["unknown"] is not None))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(original))
    known = ~np.isnan(original)
    found, original = found[known].astype(np.float64), original[known].astype(np.float64)
    spacing = np.spacing(np.maximum(np.abs(found), np.abs(original)).astype(np.float16)).astype(np.float64)
    assert (np.abs(found - original) <= 0.5001 * step + 0.5 * spacing).all()


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("source", ["created", "imported"])
def test_what_was_exported_comes_back(tmp_path, files, depth_dataset, source, bits):
    path = depth_dataset
    if source == "imported":
        path = tmp_path / "first.zarr"
        import_folder(path, ImportSpec(str(files), depth_offset=-1.25, **MILLIMETRES))
    first, folder = open_dataset(path), tmp_path / "exported"
    export(first, folder, to="folder", depth_bits=bits)
    events, again_path = Events(), tmp_path / "again.zarr"
    import_folder(again_path, ImportSpec(str(folder)), on_event=events)
    again = open_dataset(again_path)
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
    # The extremes of depth come back as they were.
    for name, extreme in (("depth_min", np.nanmin), ("depth_max", np.nanmax)):
        assert extreme(again.whole(name)) == extreme(first.whole(name))
    for name in ("quantity", "unit"):
        assert again.depth.attrs[name] == first.depth.attrs[name]
    depth = again.document.depth
    assert (depth.mode, depth.invalid) == ("imported", 0 if source == "imported" else None)
    assert f"{folder / 'fgbgpack.json'} says: --depth-quantity {depth.quantity}" in events.notices
    assert f"--depth-factor {depth.factor} --depth-offset {depth.offset}" in events.notices
    assert "is not known" not in events.notices
    # With what it states given as options, the document is needed no more.
    layout = {"layout": "folder"}
    assert import_folder(again_path, ImportSpec(str(folder))).depth_written == 0
    (folder / "fgbgpack.json").unlink()
    given = {
        f"depth_{name}": getattr(depth, name) for name in ("quantity", "unit", "factor", "offset", "invalid")
    }
    assert import_folder(again_path, ImportSpec(str(folder), **layout, **given)).depth_written == 0
    with pytest.raises(RecipeMismatchError, match="depth factor: "):
        import_folder(again_path, ImportSpec(str(folder), **layout, depth_factor=1e-4))


@pytest.mark.slow
def test_options_come_before_what_an_export_says(tmp_path, exported, depth_dataset):
    named_path, raw_path = tmp_path / "named.zarr", tmp_path / "raw.zarr"
    import_folder(named_path, ImportSpec(str(exported), depth_unit="shoes", depth_quantity="depth"))
    named = open_dataset(named_path)
    assert (named.depth.attrs["quantity"], named.depth.attrs["unit"]) == ("depth", "shoes")
    assert_as_near_as_pixels_are(named.depth[:], open_dataset(depth_dataset).depth[:], exported)
    # Half of a mapping with half of another would be nonsense.
    events = Events()
    import_folder(raw_path, ImportSpec(str(exported), depth_factor=1), on_event=events)
    raw = open_dataset(raw_path)
    assert (raw.depth[:].min(), raw.depth[:].max()) == (0, 255)
    assert "says: --depth-quantity inverse_depth\n" in events.notices + "\n"
    depth = raw.document.depth
    assert (depth.quantity, depth.factor, depth.offset) == ("inverse_depth", 1.0, 0.0)
    import_folder(named_path, ImportSpec(str(exported), depth_offset=3), overwrite=True)
    np.testing.assert_array_equal(open_dataset(named_path).depth[:], raw.depth[:] + 3)


@pytest.mark.slow
def test_an_export_tells_nothing_of_other_depth(tmp_path, exported):
    folder = Path(shutil.copytree(exported, tmp_path / "in"))
    for path in sorted((folder / "depth").rglob("*.png")):
        other = folder / "better" / path.relative_to(folder / "depth").with_suffix(".npy")
        other.parent.mkdir(parents=True, exist_ok=True)
        np.save(other, np.full((21, 33), 7, np.float32))
    events = Events()
    import_folder(tmp_path / "out.zarr", ImportSpec(str(folder), depths="better"), on_event=events)
    assert (open_dataset(tmp_path / "out.zarr").depth[:] == 7).all()
    shutil.rmtree(folder / "depth")
    (folder / "better").rename(folder / "depth")
    import_folder(tmp_path / "npy.zarr", ImportSpec(str(folder)), on_event=events)
    assert (open_dataset(tmp_path / "npy.zarr").depth[:] == 7).all()
    assert "fgbgpack.json" not in events.notices


@pytest.mark.slow
@pytest.mark.parametrize("value", [0, 4321])
def test_depth_of_one_value_or_none_comes_back(tmp_path, files, value):
    root = Path(shutil.copytree(files, tmp_path / "in"))
    for path in (root / "depth").iterdir():
        write(path, np.full((HEIGHT, WIDTH), value, np.uint16))
    import_folder(tmp_path / "first.zarr", ImportSpec(str(root), **MILLIMETRES))
    first = open_dataset(tmp_path / "first.zarr")
    assert np.isnan(first.depth[:]).all() == (value == 0)
    export(first, tmp_path / "exported", to="folder")
    import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "exported")))
    np.testing.assert_array_equal(open_dataset(tmp_path / "again.zarr").depth[:], first.depth[:])


@pytest.mark.slow
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
    ("change", "code"),
    [
        (lambda text: text[: len(text) // 2], "export-document-damaged"),
        (lambda text: text.replace("export/1.0", "export/2.0"), "schema-newer"),
        (lambda text: text.replace('"low"', '"bottom"'), "schema-violated"),
        (lambda text: "[]", "schema-mismatch"),
    ],
    ids=["damaged", "newer", "wrong", "something else"],
)
def test_a_document_of_an_export_that_cannot_be_understood(tmp_path, exported, change, code):
    folder = Path(shutil.copytree(exported, tmp_path / "in"))
    path = folder / "fgbgpack.json"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        scan(ImportSpec(str(folder)))
    assert caught.value.code == code
    assert caught.value.message.startswith(str(path))
    assert "--depth-factor" in caught.value.message
    # It matters to depth alone, and to what the folder is.
    assert scan(ImportSpec(str(folder), layout="files", depths="none")).samples == 36


def test_files_of_that_name_may_lie_above_other_folders(tmp_path, files):
    root = shutil.copytree(files, tmp_path / "in")
    for content in ('{"schema": "spec/1.0"}', '{"width": 128}', "[1]"):
        (tmp_path / "fgbgpack.json").write_text(content)
        assert scan(ImportSpec(str(root))).samples == 12
