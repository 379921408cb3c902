"""Importing files: what the dataset then holds, what is refused, what is resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import Stop, tree
from picture_files import turned, write
from PIL import Image
from sample_folders import (
    HEIGHT,
    MILLIMETRES,
    TINY_SHARDS,
    WIDTH,
    Events,
    depth_of,
    image_of,
    killed_at,
    mask_of,
    metres_of,
    write_samples,
)
from typer.testing import CliRunner

from fgbgpack import create, open_dataset
from fgbgpack.cli import app
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SourceError, SpecError
from fgbgpack.pipeline import ImportSpec, Progress, import_folder, scan

NUMBERS = range(1, 13)


@pytest.fixture
def numbered(tmp_path) -> Path:
    """12 samples: numbered JPEG pictures, PNG masks, PNG depth of 16 bits."""
    root = tmp_path / "numbered"
    for i in NUMBERS:
        write(root / "images" / f"{i}.jpg", Image.fromarray(image_of(i)), quality=95)
        write(root / "masks" / f"{i}.png", mask_of(i))
        write(root / "depth" / f"{i}.png", depth_of(i))
    return root


def refusal(error, action, *arguments, **options):
    with pytest.raises(error) as caught:
        action(*arguments, **options)
    return caught.value


# --- what comes out --------------------------------------------------------------------------------


def test_samples_come_in_the_order_of_their_numbers(tmp_path, numbered):
    events = Events()
    spec = ImportSpec(str(numbered), **MILLIMETRES)
    done = import_folder(tmp_path / "out.zarr", spec, layout=TINY_SHARDS, on_event=events)
    assert (done.samples, done.written, done.depth_written) == (12, 12, 12)
    assert (done.height, done.width, done.complete, done.left_out) == (HEIGHT, WIDTH, True, 0)
    stages = [event.stage for event in events.seen if isinstance(event, Progress)]
    assert list(dict.fromkeys(stages)) == ["sources", "samples", "depth"]

    ds = open_dataset(tmp_path / "out.zarr")
    assert ds.names == [str(i) for i in NUMBERS]
    assert (len(ds), ds.height, ds.width, ds.fields) == (12, HEIGHT, WIDTH, ("image", "mask", "depth"))
    pictures = [np.asarray(Image.open(numbered / f"images/{i}.jpg")) for i in NUMBERS]
    np.testing.assert_array_equal(ds.image[:], pictures)
    np.testing.assert_array_equal(ds.mask[:], [mask_of(i) for i in NUMBERS])
    expected = metres_of(NUMBERS)
    np.testing.assert_array_equal(ds.depth[:], expected)
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(ds.whole("depth_min"), np.nanmin(expected, axis=(1, 2)))
    np.testing.assert_array_equal(ds.whole("depth_max"), np.nanmax(expected, axis=(1, 2)))
    attributes = ds.depth.attrs
    assert (attributes["quantity"], attributes["unit"]) == ("depth", "m")
    exact = np.stack([depth_of(i) for i in NUMBERS]) * 0.001
    known = exact > 0
    error = np.abs(expected[known].astype(np.float64) - exact[known]).max() / np.ptp(exact[known])
    assert error <= attributes["rounding"]["largest_error"] < 4 * error
    assert sum(key.startswith("image/c/") for key in tree(tmp_path / "out.zarr")) > 1


def test_folders_and_patterns_say_where_files_are(tmp_path, numbered):
    (numbered / "notes.txt").write_text("made in 2020")
    events = Events()
    spec = ImportSpec(str(numbered), images="images/{n}.jpg", masks="masks/{n}.png", depths="none")
    import_folder(tmp_path / "out.zarr", spec, on_event=events)
    ds = open_dataset(tmp_path / "out.zarr")
    assert not ds.has_depth
    assert ds.document.imported.patterns == {"images": spec.images, "masks": spec.masks, "depths": None}
    np.testing.assert_array_equal(ds.mask[:], [mask_of(i) for i in NUMBERS])
    assert "Ignored 13 files" in events.notices


def test_what_users_should_know_of_files(tmp_path):
    write(tmp_path / "in/images/a.png", np.dstack([image_of(3), mask_of(3)]))
    mask = write(tmp_path / "in/masks/a.jpg", mask_of(3))
    write(tmp_path / "in/depth/a.png", depth_of(3))
    events = Events()
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in"), depth_offset=-2.5), on_event=events)
    assert "masks that are JPEG: 1;" in events.notices
    assert "alpha channel, which is left out: 1." in events.notices
    assert "--depth-quantity" in events.notices
    assert "--depth-factor 0.001 --depth-unit m" in events.notices
    ds = open_dataset(tmp_path / "out.zarr")
    np.testing.assert_array_equal(ds.image[0], image_of(3))
    np.testing.assert_array_equal(ds.mask[0], np.asarray(Image.open(mask)))
    np.testing.assert_array_equal(ds.depth[0], (depth_of(3) - 2.5).astype(np.float16))
    assert ds.depth.attrs["quantity"] is None
    assert ds.document.to_dict()["depth"] == {
        "complete": True, "mode": "imported", "quantity": None, "unit": None, "factor": 1.0, "offset": -2.5,
        "invalid": None,
    }  # fmt: skip


@pytest.mark.parametrize("orientation", [6, 8, 3])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_turned_pictures_with_masks_on_stored_pixels(tmp_path, kind, orientation):
    """Masks of tools that pass over EXIF lie on the pixels as they are stored."""
    stored = np.kron(image_of(1, 8, 8), np.ones((4, 4, 1), np.uint8))
    mask = np.zeros((32, 32), np.uint8)
    mask[:8, :16] = 255
    upright = Image.fromarray(stored).transpose(
        {6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[
            orientation
        ]
    )
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    write(tmp_path / f"in/images/a.{kind.lower()}", turned(np.asarray(upright), orientation, kind, **options))
    write(tmp_path / "in/masks/a.png", mask)
    for exif, expected, notice in (
        ("apply", np.asarray(upright), "turns 1 picture in another way than the mask"),
        ("ignore", stored, "EXIF orientation is ignored, of 1 picture."),
    ):
        events, spec = Events(), ImportSpec(str(tmp_path / "in"), exif=exif)
        import_folder(tmp_path / f"{exif}.zarr", spec, on_event=events)
        assert notice in events.notices
        dataset = open_dataset(tmp_path / f"{exif}.zarr")
        np.testing.assert_array_equal(dataset.mask[0], mask)
        assert np.abs(dataset.image[0].astype(int) - expected).max() <= (30 if kind == "JPEG" else 0)


def test_files_that_turn_together_are_not_remarked_on(tmp_path):
    write(tmp_path / "in/images/a.png", turned(image_of(1, 32, 32), 6))
    write(tmp_path / "in/masks/a.png", turned(mask_of(1, 32, 32), 6))
    events = Events()
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in")), on_event=events)
    assert "EXIF" not in events.notices
    dataset = open_dataset(tmp_path / "out.zarr")
    np.testing.assert_array_equal(dataset.image[0], image_of(1, 32, 32))
    np.testing.assert_array_equal(dataset.mask[0], mask_of(1, 32, 32))


def test_sizes_that_differ_by_a_turn_say_what_fits(tmp_path):
    write(tmp_path / "in/images/a.png", turned(image_of(1, 20, 32), 6))
    write(tmp_path / "in/masks/a.png", mask_of(1, 32, 20))
    error = refusal(SourceError, import_folder, tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in")))
    assert error.code == "size-differs"
    assert "--exif ignore" in error.problems[0]
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in"), exif="ignore"))
    np.testing.assert_array_equal(open_dataset(tmp_path / "out.zarr").mask[0], mask_of(1, 32, 20))


@pytest.mark.parametrize(("fit", "box"), [("crop", (25, 0, 65, 40)), ("stretch", None)])
def test_files_are_resized(tmp_path, fit, box):
    write(tmp_path / "in/images/a.png", image_of(1, 40, 90))
    write(tmp_path / "in/masks/a.png", mask_of(1, 20, 45))
    import_folder(tmp_path / "out.zarr", ImportSpec(str(tmp_path / "in"), width=20, height=20, fit=fit))
    ds = open_dataset(tmp_path / "out.zarr")
    picture = Image.fromarray(image_of(1, 40, 90)).resize((20, 20), Image.Resampling.LANCZOS, box=box)
    np.testing.assert_array_equal(ds.image[0], np.asarray(picture))
    assert ds.document.imported.fit == fit


@pytest.mark.parametrize("alike", [True, False])
def test_chunks_are_large_only_where_neighbours_are_alike(tmp_path, alike):
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for i in range(50):
        image = ground.copy() if alike else rng.integers(0, 256, ground.shape).astype(np.uint8)
        image[mask_of(i) > 0] = 7
        write(tmp_path / f"in/images/{i}.png", image)
        write(tmp_path / f"in/masks/{i}.png", mask_of(i))
    assert scan(ImportSpec(str(tmp_path / "in"))).chunk == (40 if alike else 8)
    assert scan(ImportSpec(str(tmp_path / "in"), chunk=17)).chunk == 17


# --- what cannot be imported -----------------------------------------------------------------------


def test_files_of_other_sizes_are_named_together(tmp_path, numbered):
    write(numbered / "images/3.jpg", image_of(3, 20, 30))
    write(numbered / "masks/5.png", mask_of(5, 9, 13))
    write(numbered / "depth/6.png", depth_of(6, 36, 52))
    error = refusal(SourceError, scan, ImportSpec(str(numbered)))
    assert error.code == "size-differs"
    for line, expected in zip(
        error.problems, ("3.jpg: 30x20 pixels; expected 26x18", "5.png: 13x9", "6.png: 52x36"), strict=True
    ):
        assert expected in line
    # With a size the smaller mask and the larger depth are as good, for they show the same.
    write(numbered / "images/3.jpg", image_of(3))
    assert scan(ImportSpec(str(numbered), width=13, height=9)).samples == 12
    write(numbered / "masks/5.png", mask_of(5, 18, 18))
    error = refusal(SourceError, scan, ImportSpec(str(numbered), width=13, height=9))
    assert error.code == "size-differs"
    assert "5.png: 18x18 pixels; expected 26x18" in error.problems[0]


def test_everything_that_is_wrong_is_told_together(tmp_path, numbered):
    (numbered / "masks/2.png").unlink()
    (numbered / "depth/4.png").unlink()
    write(numbered / "images/6.png", image_of(6))
    write(numbered / "masks/7.png", b"not a picture at all")
    half = (numbered / "images/8.jpg").read_bytes()
    write(numbered / "images/8.jpg", half[: len(half) // 2])
    write(numbered / "masks/10.png", np.minimum(mask_of(10), 1))
    write(numbered / "depth/11.png", np.full((HEIGHT, WIDTH), 65535, np.uint16))
    write(numbered / "masks/12.png", mask_of(11, 5, 5))
    error = refusal(SourceError, import_folder, tmp_path / "out.zarr", ImportSpec(str(numbered)))
    assert not (tmp_path / "out.zarr").exists()
    assert error.code == "sources-unusable"
    names = ("images/6.jpg", "images/2.jpg", "images/4.jpg", "images/8.jpg", "masks/7.png", "masks/12.png",
             "masks/10.png", "depth/11.png")  # fmt: skip
    for name, line in zip(names, error.problems, strict=True):
        assert line.replace(f"{numbered}/", "").startswith(name)
    for group in ("pictures without a mask: 1, ", "pictures without a depth map: 1, ", "--skip-unmatched"):
        assert group in error.message


def test_files_without_partners_can_be_left_out(tmp_path, numbered):
    (numbered / "masks/2.png").unlink()
    (numbered / "depth/4.png").unlink()
    write(numbered / "images/6.png", image_of(6))
    events = Events()
    spec = ImportSpec(str(numbered), skip_unmatched=True)
    done = import_folder(tmp_path / "out.zarr", spec, on_event=events)
    # 2 of sample 2, 2 of sample 4, 4 of sample 6
    assert (done.samples, done.left_out) == (9, 8)
    assert open_dataset(tmp_path / "out.zarr").names == [str(i) for i in NUMBERS if i not in (2, 4, 6)]
    assert "Left out 8 files" in events.notices
    assert "images/2.jpg: there is no mask for it" in events.notices
    for i in NUMBERS:
        (numbered / f"masks/{i}.png").unlink(missing_ok=True)
    write(numbered / "masks/x.png", mask_of(0))
    assert refusal(SourceError, scan, spec).code == "names-differ"


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"images": "none"}, ["--images"]),
        ({"width": 5}, ["--size"]),
        ({"width": 1, "height": 9000}, ["--size", "--size"]),
        ({"depth_factor": 0, "chunk": 0, "fit": "fill"}, ["--fit", "--depth-factor", "--chunk"]),
        ({"depth_quantity": "metres"}, ["--depth-quantity"]),
        (
            {"depth_offset": float("inf"), "depth_invalid": float("nan")},
            ["--depth-offset", "--depth-invalid"],
        ),
        ({"depths": "none", "depth_unit": "m"}, ["--depths"]),
    ],
)
def test_options_that_are_not_valid_are_named_together(given, options):
    error = refusal(SpecError, ImportSpec, "in", **given)
    assert error.code == "spec-invalid"
    assert [line.partition(":")[0] for line in error.problems] == options


# --- resuming, replacing ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_a_stopped_import_is_resumed(tmp_path, numbered, workers):
    spec = ImportSpec(str(numbered), chunk=2)
    import_folder(tmp_path / "whole.zarr", spec, layout=TINY_SHARDS)
    options = {"workers": workers, "layout": TINY_SHARDS}
    with pytest.raises(KeyboardInterrupt):
        import_folder(tmp_path / "out.zarr", spec, on_event=Stop("depth", 0), **options)
    with pytest.raises(IncompleteDatasetError):
        open_dataset(tmp_path / "out.zarr")
    assert not open_dataset(tmp_path / "out.zarr", allow_incomplete=True).complete
    shards = sorted((tmp_path / "out.zarr/image/c").iterdir())
    assert len(shards) > 2
    shutil.rmtree(shards[1])
    events = Events()
    done = import_folder(tmp_path / "out.zarr", spec, on_event=events, **options)
    assert 0 < done.written < 12 == done.depth_written
    assert "Resuming" in events.notices
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "whole.zarr")
    again = import_folder(tmp_path / "out.zarr", ImportSpec(str(numbered)))
    assert (again.written, again.depth_written, again.complete) == (0, 0, True)


@pytest.mark.slow
def test_a_killed_import_is_resumed(tmp_path, numbered):
    out, spec = tmp_path / "out.zarr", ImportSpec(str(numbered), chunk=2)
    statements = f"""
from fgbgpack.pipeline import ImportSpec, import_folder
import_folder({str(out)!r}, {spec!r}, workers=1, layout=layout)
"""
    killed_at("mask/c/2/0/0", statements, TINY_SHARDS)
    with pytest.raises(IncompleteDatasetError):
        open_dataset(out)
    assert any(key.endswith(".partial") for key in tree(out))
    assert 0 < import_folder(out, spec, layout=TINY_SHARDS).written < 12
    import_folder(tmp_path / "whole.zarr", spec, layout=TINY_SHARDS)
    assert tree(out) == tree(tmp_path / "whole.zarr")


@pytest.mark.slow
def test_files_that_are_damaged_inside_are_named_at_the_end(tmp_path):
    root = write_samples(tmp_path / "in", range(64), depth=False)
    spec = ImportSpec(str(root), chunk=4)
    damaged = (11, 12, 50)  # where no sample is tried beforehand
    for i in damaged:
        path = root / f"images/{i}.png"
        write(path, path.read_bytes()[:-60])
    error = refusal(SourceError, import_folder, tmp_path / "out.zarr", spec, layout=TINY_SHARDS)
    assert error.code == "picture-not-decodable"
    assert sorted(Path(line.split(":")[0]).stem for line in error.problems) == ["11", "12", "50"]
    assert "--overwrite" in error.message
    half = open_dataset(tmp_path / "out.zarr", allow_incomplete=True)
    assert 0 < half.written_samples()["image"] < 64
    for i in damaged:
        write(root / f"images/{i}.png", image_of(i))
    assert "names or sizes" in str(refusal(RecipeMismatchError, import_folder, tmp_path / "out.zarr", spec))
    import_folder(tmp_path / "out.zarr", spec, overwrite=True)
    np.testing.assert_array_equal(open_dataset(tmp_path / "out.zarr").image[50], image_of(50))


@pytest.mark.slow
def test_another_import_at_the_same_place_is_refused(tmp_path, numbered, pictures, dataset):
    out, spec = tmp_path / "out.zarr", ImportSpec(str(numbered))
    import_folder(out, spec)
    for changed, difference in (
        ({"depth_factor": 0.5}, "depth factor: the dataset has 1.0, asked for 0.5"),
        ({"depth_offset": 3}, "depth offset: the dataset has 0.0, asked for 3"),
        ({"width": 13, "height": 9}, "--size: the dataset has 26x18, asked for 13x9"),
        ({"depths": "none"}, "--depths: the dataset has depth/, asked for none"),
        ({"mask_threshold": 9}, "--mask-threshold: the dataset has none, asked for 9"),
        ({"exif": "ignore"}, "--exif: the dataset has apply, asked for ignore"),
        ({"chunk": 3}, "--chunk: the dataset has 8, asked for 3"),
        ({"images": "images/{n}.jpg", "masks": "masks/{n}.png", "depths": "depth/{n}.png"}, "--images: "),
    ):
        error = refusal(RecipeMismatchError, import_folder, out, ImportSpec(str(numbered), **changed))
        assert error.code == "dataset-differs"
        assert any(line.startswith(difference) for line in error.problems)
    write(numbered / "masks/3.png", mask_of(100))
    with (numbered / "masks/3.png").open("ab") as file:
        file.write(b"\0")
    assert refusal(RecipeMismatchError, import_folder, out, spec).problems[0].startswith("files: ")
    import_folder(out, spec, overwrite=True)
    np.testing.assert_array_equal(open_dataset(out).mask[2], mask_of(100))
    # An import and a dataset with a recipe do not replace each other unless asked to.
    assert refusal(RecipeMismatchError, create, out, pictures.spec()).code == "dataset-differs"
    create(out, pictures.spec(), overwrite=True)
    assert refusal(RecipeMismatchError, import_folder, out, spec).code == "dataset-differs"
    assert tree(out) == tree(dataset)
    import_folder(out, spec, overwrite=True)
    assert sorted({key.partition("/")[0] for key in tree(out)}) == [
        "depth", "depth_max", "depth_min", "image", "manifest", "mask", "name", "zarr.json",
    ]  # fmt: skip


@pytest.mark.slow
def test_an_hdf5_file_is_as_good_a_place(tmp_path, numbered):
    pytest.importorskip("h5py")
    import_folder(tmp_path / "out.h5", ImportSpec(str(numbered)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["numbered", "out.h5"]
    ds = open_dataset(tmp_path / "out.h5")
    assert ds.names == [str(i) for i in NUMBERS]
    np.testing.assert_array_equal(ds.mask[:], [mask_of(i) for i in NUMBERS])
    assert import_folder(tmp_path / "out.h5", ImportSpec(str(numbered))).written == 0


def test_nothing_but_a_dataset_is_ever_replaced(tmp_path, numbered):
    thesis = write(tmp_path / "mine/thesis.tex", b"all of it")
    error = refusal(DatasetError, import_folder, thesis.parent, ImportSpec(str(numbered)), overwrite=True)
    assert error.code == "dataset-foreign"
    assert thesis.exists()


# --- the command -----------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.slow
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
    ("arguments", "status", "named"),
    [
        (["nowhere", "out.zarr"], 3, "nowhere"),
        (["in", "out.zarr", "--depth-factor", "much", "--chunk", "x", "--fit", "crop"], 2, "--depth-factor"),
        (["in", "out.zarr", "--depth-offset", "nan"], 2, "--depth-offset"),
        (["in", "out.zarr", "--size", "1x1"], 2, "--size"),
        (["in", "out.zarr", "--images", "images/{id}.jpg"], 2, "--masks"),
        (["in", "other", "--depths", "none"], 4, "other"),
    ],
)
def test_the_command_fails_with_the_right_status(tmp_path, monkeypatch, numbered, arguments, status, named):
    monkeypatch.chdir(tmp_path)
    numbered.rename("in")
    write(Path("other/file"), b"")
    result = run("import", *arguments)
    assert result.exit_code == status, result.output
    assert named in result.stderr


def test_pictures_without_masks(tmp_path, numbered):
    events = Events()
    spec = ImportSpec(str(numbered), masks="none", depths="none")
    import_folder(tmp_path / "out.zarr", spec, on_event=events)
    assert "No masks are imported" in events.notices
    dataset = open_dataset(tmp_path / "out.zarr")
    assert len(dataset) == len(NUMBERS)
    assert not dataset.mask[:].any()
    assert dataset.document.imported.patterns["masks"] is None
    assert np.abs(dataset.image[0].astype(int) - image_of(NUMBERS[0])).mean() < 12
    with_patterns = ImportSpec(str(numbered), images="images/{n}.jpg", masks="none", depths="depth/{n}.png")
    import_folder(tmp_path / "b.zarr", with_patterns)
    assert open_dataset(tmp_path / "b.zarr").depth[:].max() > 0


def test_depth_that_cannot_be_stored_is_found_before_the_work(tmp_path):
    root = write_samples(tmp_path / "in", [str(i) for i in range(160)])
    write(root / "depth/60.png", np.full((HEIGHT, WIDTH), 65535, np.uint16))  # in none of the probed runs
    write(root / "depth/61.png", np.full((HEIGHT, WIDTH), 65535, np.uint16))
    error = refusal(SourceError, scan, ImportSpec(str(root)))
    assert error.code == "depth-out-of-range"
    assert "--depth-factor" in error.problems[0]
