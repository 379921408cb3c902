"""Depth by networks for datasets that were imported: the network sees the samples as they are stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from builders import Stop, tree
from onnx import helper
from sample_folders import HEIGHT, MILLIMETRES, TINY_SHARDS, WIDTH, Events, killed_at, write_samples
from sealing import is_manifest
from typer.testing import CliRunner

from fgbgpack import fill_depth, open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.cli import app
from fgbgpack.depth import DepthSession, Execution, load_model
from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, import_folder
from fgbgpack.pipeline.events import silent
from fgbgpack.spec import DepthSpec
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import render_preview

SAMPLES = 30


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Pictures, masks and depth of 16 bits, with 0 for unknown depth."""
    return write_samples(tmp_path_factory.mktemp("files"), range(SAMPLES))


@pytest.fixture(scope="module")
def kept(tmp_path_factory, files) -> dict[str, Path]:
    """Datasets without depth and with, not to be changed."""
    root = tmp_path_factory.mktemp("kept")
    import_folder(root / "plain.zarr", ImportSpec(str(files), depths="none", chunk=3), layout=TINY_SHARDS)
    import_folder(root / "deep.zarr", ImportSpec(str(files), chunk=3, **MILLIMETRES), layout=TINY_SHARDS)
    return {path.stem: path for path in root.iterdir()}


@pytest.fixture
def plain(tmp_path, kept) -> Path:
    """A dataset without depth, to be changed."""
    return Path(shutil.copytree(kept["plain"], tmp_path / "plain.zarr"))


@pytest.fixture
def deep(tmp_path, kept) -> Path:
    """A dataset with imported depth, to be changed."""
    return Path(shutil.copytree(kept["deep"], tmp_path / "deep.zarr"))


@pytest.fixture(scope="module")
def mask_model(tmp_path_factory) -> Path:
    """A network that answers with the mean of the colours plus, where the mask is, a thousand."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["gray"], axes=[1], keepdims=1),
        helper.make_node("Add", ["gray", "mask"], ["output"]),
    ]
    guides = {"background_depth": ..., "mask": {"name": "mask", "range": [0, 1000]}}
    card = onnx_models.guided_card(guides=guides, output={"of": ...}, name="masked")
    path = tmp_path_factory.mktemp("masked") / "masked.onnx"
    return onnx_models.write_guided(path, nodes, inputs=("input", "mask"), card=card)


def fill(path, model=None, *, layout=TINY_SHARDS, overwrite=False, on_event=silent, workers=None, **fields):
    """Fills the depth of a dataset on the CPU."""
    spec = DepthSpec(**({} if model is None else {"model": str(model)}), **fields)
    return fill_depth(
        path, spec, device="cpu", workers=workers, overwrite=overwrite, layout=layout, on_event=on_event
    )


def by_hand(ds, model: Path, *, masked: bool = False) -> np.ndarray:
    """The depth that a session of the model gives for all stored pictures, on the dataset's grid."""
    session = DepthSession(load_model(str(model)), (HEIGHT, WIDTH), execution=Execution(device="cpu"))
    out = np.empty((SAMPLES, HEIGHT, WIDTH), np.float16)
    session.run(ds.image[:], out, step=ds.document.depth.step, mask=ds.mask[:] if masked else None)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_a_network_sees_the_stored_pictures(plain, kept, depth_model, workers):
    before = tree(plain)
    report = fill(plain, depth_model, workers=workers)
    assert (report.samples, report.created, report.depth_filled) == (SAMPLES, 0, SAMPLES)
    assert (report.depth_mode, report.depth_model, report.depth_guide) == ("per-sample", "tiny", None)
    assert report.complete
    ds = open_dataset(plain)
    expected = by_hand(ds, depth_model)
    np.testing.assert_array_equal(ds.depth[:], expected)
    np.testing.assert_array_equal(ds.whole("depth_min"), expected.min(axis=(1, 2)))
    np.testing.assert_array_equal(ds.whole("depth_max"), expected.max(axis=(1, 2)))
    assert ds.depth.shards[0] < SAMPLES
    assert (ds.depth.attrs["quantity"], ds.depth.attrs["unit"]) == ("inverse_depth", None)
    assert ds.depth.attrs["rounding"]["largest_error"] < 0.0011
    depth = ds.document.depth
    assert (depth.mode, depth.scale, depth.guide) == ("per-sample", 1, None)
    assert ds.names == open_dataset(kept["plain"]).names
    # Nothing but depth has changed.
    after = tree(plain)
    for key in before.keys() | after.keys():
        if not (key.startswith("depth") or key == "zarr.json" or is_manifest(key)):
            assert before[key] == after[key], key
    assert (fill(plain, depth_model).depth_filled, tree(plain)) == (0, after)


@pytest.mark.slow
def test_it_is_that_of_the_same_samples_composed_anew(tmp_path, depth_dataset, depth_model):
    export(depth_dataset, tmp_path / "exported", to="folder", fields=["image", "mask"])
    import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "exported")))
    fill(tmp_path / "again.zarr", depth_model)
    composed, stored = open_dataset(depth_dataset), open_dataset(tmp_path / "again.zarr")
    np.testing.assert_array_equal(stored.depth[:], composed.depth[:])
    assert stored.document.depth == composed.document.depth


@pytest.mark.slow
def test_a_network_that_needs_the_mask_gets_the_stored_one(plain, mask_model):
    fill(plain, mask_model, bits=10)
    ds = open_dataset(plain)
    expected = by_hand(ds, mask_model, masked=True)
    np.testing.assert_array_equal(ds.depth[:], expected)
    assert expected[ds.mask[:] > 200].min() > 700 > 256 > expected[ds.mask[:] == 0].max()


def test_by_default_the_scene_network_sees_each_sample(plain, tmp_path, monkeypatch):
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "no models here"))
    events = Events()
    report = fill_depth(plain, on_event=events)
    assert (report.depth_mode, report.depth_model, report.depth_guide) == (
        "per-sample", "fgbgpack-scene", None,
    )  # fmt: skip
    assert "no empty backgrounds" in events.notices
    ds = open_dataset(plain)
    assert np.isfinite(ds.depth[:]).all()
    assert ds.document.depth.scale == 1
    # The same, asked for explicitly, needs no notice.
    events = Events()
    fill_depth(plain, DepthSpec(mode="per-sample", scale=1), on_event=events)
    assert events.notices == f"The depth of {plain} is complete already."


@pytest.mark.slow
def test_imported_depth_is_replaced_when_that_is_asked_for(deep, plain, depth_model):
    before = tree(deep)
    with pytest.raises(RecipeMismatchError, match="per-sample depth by tiny"):
        fill(deep, depth_model)
    assert tree(deep) == before
    assert np.isnan(open_dataset(deep).depth[:]).any()
    fill(deep, depth_model, overwrite=True)
    ds = open_dataset(deep)
    np.testing.assert_array_equal(ds.depth[:], by_hand(ds, depth_model))
    # Nothing is left of what was there.
    fill(plain, depth_model)
    of_plain, of_deep = tree(plain), tree(deep)
    assert of_plain.keys() == of_deep.keys()
    assert {key for key in of_plain if of_plain[key] != of_deep[key]} == {"zarr.json"}
    with pytest.raises(RecipeMismatchError, match="depth bits: the dataset has 9, asked for 7"):
        fill(deep, depth_model, bits=7)
    fill(deep, depth_model, bits=7, overwrite=True)
    assert open_dataset(deep).document.depth.bits == 7


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same_to_the_last_byte(tmp_path, plain, deep, depth_model):
    whole = Path(shutil.copytree(deep, tmp_path / "whole.zarr"))
    fill(whole, depth_model, overwrite=True)
    statements = f"""
from fgbgpack.pipeline import fill_depth
from fgbgpack.spec import DepthSpec
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import render_preview
spec = DepthSpec({str(depth_model)!r})
fill_depth({str(deep)!r}, spec, device="cpu", workers=1, overwrite=True, layout=layout)
"""
    before = tree(deep)
    killed_at("depth/c/3/0/0", statements, TINY_SHARDS)
    # What is being replaced is whole until it is.
    assert tree(deep) == before
    half = open_dataset(deep.with_name(f".{deep.name}.new"), allow_incomplete=True)
    assert 0 < half.written_samples()["depth"] < SAMPLES
    assert np.isnan(half.depth[-1]).all()
    report = fill(deep, depth_model, overwrite=True)
    assert 0 < report.depth_filled < SAMPLES
    assert tree(deep) == tree(whole)


@pytest.mark.slow
def test_an_import_goes_on_after_a_network_or_says_why_not(plain, deep, files, depth_model):
    with pytest.raises(KeyboardInterrupt):
        fill(plain, depth_model, on_event=Stop("depth", 0))
    without, events = ImportSpec(str(files), depths="none", chunk=3), Events()
    done = import_folder(plain, without, on_event=events)
    assert (done.written, done.complete) == (0, False)
    assert "run fgbgpack depth to finish it" in events.notices
    fill(plain, depth_model)
    assert import_folder(plain, without).complete
    assert open_dataset(plain).document.depth.mode == "per-sample"

    before = tree(deep)
    with pytest.raises(KeyboardInterrupt):
        fill(deep, depth_model, overwrite=True, on_event=Stop("depth", 0))
    assert tree(deep) == before
    fill(deep, depth_model, overwrite=True)
    again = ImportSpec(str(files), chunk=3, depth_factor=0.001)
    with pytest.raises(RecipeMismatchError, match="depth: that of the files was replaced"):
        import_folder(deep, again)
    with pytest.raises(RecipeMismatchError, match="--depths: the dataset has depth/, asked for none"):
        import_folder(deep, without)
    import_folder(deep, again, overwrite=True)
    assert open_dataset(deep).document.depth.mode == "imported"


@pytest.mark.parametrize(
    ("spec", "folders", "options"),
    [
        (DepthSpec(mode="guided"), {}, ["--depth-mode"]),
        (DepthSpec(guide="fgbgpack-guided"), {}, ["--depth-guide"]),
        (DepthSpec(scale=2), {}, ["--depth-scale"]),
        (
            DepthSpec("no such network", mode="guided", scale=3),
            {"backgrounds": "bg", "masks": "m"},
            ["--depth-mode", "--depth-scale", "--backgrounds", "--masks"],
        ),
    ],
)
def test_what_needs_a_recipe_is_refused_together(plain, spec, folders, options):
    before = tree(plain)
    with pytest.raises(SpecError) as caught:
        fill_depth(plain, spec, **folders)
    assert caught.value.code == "depth-impossible"
    assert [line.partition(":")[0] for line in caught.value.problems] == options
    assert tree(plain) == before


def test_pictures_come_first(tmp_path, files):
    with pytest.raises(KeyboardInterrupt):
        import_folder(tmp_path / "out.zarr", ImportSpec(str(files), chunk=3), on_event=Stop("samples", 0))
    with pytest.raises(DatasetError, match="fgbgpack import again") as caught:
        fill_depth(tmp_path / "out.zarr")
    assert caught.value.code == "dataset-incomplete"


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_an_hdf5_file(tmp_path, kept, files, depth_model):
    pytest.importorskip("h5py")
    import_folder(tmp_path / "b.h5", ImportSpec(str(files), chunk=3))
    run("depth", tmp_path / "b.h5", "--depth-model", depth_model, "--overwrite", "--device", "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["b.h5"]
    ds = open_dataset(tmp_path / "b.h5")
    np.testing.assert_array_equal(ds.depth[:], by_hand(ds, depth_model))
    np.testing.assert_array_equal(ds.image[:], open_dataset(kept["deep"]).image[:])


@pytest.mark.slow
def test_everything_tells_of_it(tmp_path, plain, depth_model):
    output = run("depth", plain, "--depth-model", depth_model, "--device", "cpu")
    assert f"{plain}: {SAMPLES} samples" in output
    assert "tiny on CPUExecutionProvider" in output
    ds = open_dataset(plain)
    described = json.loads(json.dumps(describe(ds)))
    assert (described["depth"]["mode"], described["depth"]["model"]) == ("per-sample", "tiny")
    assert described["imported"]["samples"] == SAMPLES
    assert "tiny on CPUExecutionProvider in fp32, per-sample, scale 1" in run("info", plain)
    assert render_preview(ds, rows=2) == render_preview(ds, rows=2)
    cards = write_cards(plain)
    text = cards.datacard.read_text(encoding="utf-8")
    assert "The network tiny saw every sample as it is stored." in text
    assert "what made it is not recorded" not in text
    assert "tiny (licence not stated)" in cards.croissant.read_text(encoding="utf-8")
    # All depth is known, so no value of an exported pixel stands for unknown depth.
    export(ds, tmp_path / "folder", to="folder")
    mapping = json.loads((tmp_path / "folder/fgbgpack.json").read_text(encoding="utf-8"))["depth"]["mapping"]
    assert mapping["unknown"] is None
