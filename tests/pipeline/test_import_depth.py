"""Depth by networks for datasets that were imported: the network sees the samples as they are stored."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from builders import tree
from onnx import helper
from PIL import Image
from typer.testing import CliRunner

from fgbgpack import fill_depth, open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.cli import app
from fgbgpack.depth import DepthSession, load_model
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, Notice, Progress, import_folder
from fgbgpack.spec import DepthSpec
from fgbgpack.storage import layout as plan
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import render_preview

SAMPLES, HEIGHT, WIDTH = 30, 18, 26
#: Sizes that cut a few small samples into many shards: of image 2 samples, of depth 4.
TINY = {
    "_PIXEL_SHARD_BYTES": 5000,
    "_DEPTH_CHUNK_BYTES": 2000,
    "_DEPTH_SHARD_BYTES": 3000,
    "_FEWEST_SHARDS": 1,
}


@pytest.fixture(autouse=True)
def tiny_shards(monkeypatch):
    for name, size in TINY.items():
        monkeypatch.setattr(plan, name, size)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Pictures, masks and depth of 16 bits, with 0 for unknown depth."""
    root = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(4)
    for i in range(SAMPLES):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[2 + i % 5 : 9, 3:9] = 255 - i
        depth = rng.integers(500, 4000, (HEIGHT, WIDTH)).astype(np.uint16)
        depth[:2] = 0
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for kind, array in (("images", image), ("masks", mask), ("depth", depth)):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / kind / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def kept(tmp_path_factory, files) -> dict[str, Path]:
    """Datasets without depth and with, not to be changed."""
    root = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        for name, size in TINY.items():
            patch.setattr(plan, name, size)
        import_folder(root / "plain.zarr", ImportSpec(str(files), depths="none", chunk=3))
        means = {"depth_quantity": "depth", "depth_unit": "m", "depth_factor": 0.001, "depth_invalid": 0.0}
        import_folder(root / "deep.zarr", ImportSpec(str(files), chunk=3, **means))
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


def by_hand(ds, model: Path, *, masked: bool = False) -> np.ndarray:
    """The depth that a session of the model gives for all stored pictures, on the dataset's grid."""
    session = DepthSession(load_model(str(model)), height=HEIGHT, width=WIDTH, device="cpu")
    out = np.empty((SAMPLES, HEIGHT, WIDTH), np.float16)
    session.run(ds.image[:], out, step=ds.document["depth"]["step"], mask=ds.mask[:] if masked else None)
    return out


def notices(events) -> str:
    return "\n".join(event.message for event in events if isinstance(event, Notice))


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("workers", [1, 3])
def test_a_network_sees_the_stored_pictures(plain, kept, depth_model, workers):
    before = tree(plain)
    report = fill_depth(plain, DepthSpec(str(depth_model)), device="cpu", workers=workers)
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
    section = ds.document["depth"]
    assert (section["mode"], section["scale"], section["guide"]) == ("per-sample", 1, None)
    assert ds.names == open_dataset(kept["plain"]).names
    # Nothing but depth has changed.
    after = tree(plain)
    for key in before.keys() | after.keys():
        if not key.startswith("depth") and key != "zarr.json":
            assert before[key] == after[key], key
    again = fill_depth(plain, DepthSpec(str(depth_model)), device="cpu")
    assert (again.depth_filled, tree(plain)) == (0, after)


def test_its_section_is_that_of_any_depth_per_sample(plain, depth_dataset, depth_model):
    fill_depth(plain, DepthSpec(str(depth_model)), device="cpu")
    found, other = (open_dataset(path).document["depth"] for path in (plain, depth_dataset))
    assert {**found, "step": None} == {**other, "step": None}


def test_it_is_that_of_the_same_samples_drawn_anew(tmp_path, depth_dataset, depth_model):
    export(depth_dataset, tmp_path / "exported", to="folder", fields=["image", "mask"])
    import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "exported")))
    fill_depth(tmp_path / "again.zarr", DepthSpec(str(depth_model)), device="cpu")
    drawn, stored = open_dataset(depth_dataset), open_dataset(tmp_path / "again.zarr")
    np.testing.assert_array_equal(stored.depth[:], drawn.depth[:])


def test_a_network_that_wants_the_mask_is_given_the_stored_one(plain, mask_model):
    fill_depth(plain, DepthSpec(str(mask_model), bits=10), device="cpu")
    ds = open_dataset(plain)
    expected = by_hand(ds, mask_model, masked=True)
    np.testing.assert_array_equal(ds.depth[:], expected)
    assert expected[ds.mask[:] > 200].min() > 700 > 256 > expected[ds.mask[:] == 0].max()


def test_without_more_ado_the_scene_network_sees_each_sample(plain, tmp_path, monkeypatch):
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "no models here"))
    events = []
    report = fill_depth(plain, on_event=events.append)
    assert (report.depth_mode, report.depth_model, report.depth_guide) == (
        "per-sample", "fgbgpack-scene", None,
    )  # fmt: skip
    assert "no empty backgrounds" in notices(events)
    ds = open_dataset(plain)
    assert np.isfinite(ds.depth[:]).all()
    assert ds.document["depth"]["scale"] == 1
    # Who asks for it is not told.
    events.clear()
    fill_depth(plain, DepthSpec(mode="per-sample", scale=1), on_event=events.append)
    assert notices(events) == f"The depth of {plain} is complete already."


def test_imported_depth_is_replaced_when_that_is_asked_for(deep, plain, depth_model):
    before = tree(deep)
    with pytest.raises(RecipeMismatchError, match="that of files, asked for per-sample depth by tiny"):
        fill_depth(deep, DepthSpec(str(depth_model)), device="cpu")
    assert tree(deep) == before
    assert np.isnan(open_dataset(deep).depth[:]).any()
    fill_depth(deep, DepthSpec(str(depth_model)), device="cpu", overwrite=True)
    ds = open_dataset(deep)
    np.testing.assert_array_equal(ds.depth[:], by_hand(ds, depth_model))
    # Nothing is left of what was there.
    fill_depth(plain, DepthSpec(str(depth_model)), device="cpu")
    of_plain, of_deep = tree(plain), tree(deep)
    assert of_plain.keys() == of_deep.keys()
    assert {key for key in of_plain if of_plain[key] != of_deep[key]} == {"zarr.json"}
    with pytest.raises(RecipeMismatchError, match="depth bits: the dataset has 9, asked for 7"):
        fill_depth(deep, DepthSpec(str(depth_model), bits=7), device="cpu")
    fill_depth(deep, DepthSpec(str(depth_model), bits=7), device="cpu", overwrite=True)
    assert open_dataset(deep).document["depth"]["bits"] == 7


def test_stopped_and_resumed_it_is_the_same_to_the_last_byte(tmp_path, kept, depth_model):
    spec = DepthSpec(str(depth_model))
    for name in ("whole", "out"):
        shutil.copytree(kept["deep"], tmp_path / f"{name}.zarr")
    fill_depth(tmp_path / "whole.zarr", spec, device="cpu", overwrite=True)
    # A process that dies between two shards.
    script = f"""
import os, signal
from fgbgpack import fill_depth, plan
from fgbgpack.dataset import Keys
from fgbgpack.spec import DepthSpec
for name, size in {TINY}.items():
    setattr(plan, name, size)
put = Keys.put
def dying(self, key, value):
    if key == "depth/c/3/0/0":
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, key, value)
Keys.put = dying
spec = DepthSpec({str(depth_model)!r})
fill_depth({str(tmp_path / "out.zarr")!r}, spec, device="cpu", workers=1, overwrite=True)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    with pytest.raises(IncompleteDatasetError):
        open_dataset(tmp_path / "out.zarr")
    half = open_dataset(tmp_path / "out.zarr", allow_incomplete=True)
    assert 0 < half.written_samples()["depth"] < SAMPLES
    assert np.isnan(half.depth[-1]).all()
    events = []
    report = fill_depth(tmp_path / "out.zarr", spec, device="cpu", on_event=events.append)
    assert 0 < report.depth_filled < SAMPLES
    assert "Resuming the depth" in notices(events)
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "whole.zarr")


def test_an_import_goes_on_after_a_network_or_says_why_not(plain, deep, files, depth_model):
    spec = DepthSpec(str(depth_model))

    def stop(event):
        if isinstance(event, Progress) and event.stage == "depth":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_depth(plain, spec, device="cpu", on_event=stop)
    without = ImportSpec(str(files), depths="none", chunk=3)
    events = []
    done = import_folder(plain, without, on_event=events.append)
    assert (done.written, done.complete) == (0, False)
    assert f"The depth of {plain} is unfinished: run fgbgpack depth to finish it." in notices(events)
    fill_depth(plain, spec, device="cpu")
    events.clear()
    assert import_folder(plain, without, on_event=events.append).complete
    assert f"{plain} is complete already." in notices(events)
    assert open_dataset(plain).document["depth"]["mode"] == "per-sample"

    with pytest.raises(KeyboardInterrupt):
        fill_depth(deep, spec, device="cpu", overwrite=True, on_event=stop)
    again = ImportSpec(str(files), chunk=3, depth_factor=0.001)
    with pytest.raises(RecipeMismatchError, match="depth: that of the files was replaced"):
        import_folder(deep, again)
    with pytest.raises(RecipeMismatchError, match="--depths: the dataset has depth/, asked for None"):
        import_folder(deep, without)
    import_folder(deep, again, overwrite=True)
    assert open_dataset(deep).document["depth"]["mode"] == "imported"


@pytest.mark.parametrize(
    ("spec", "folders", "said"),
    [
        (DepthSpec(mode="guided"), {}, ["--depth-mode: guided depth begins with"]),
        (DepthSpec(guide="fgbgpack-guided"), {}, ["--depth-guide: guided depth begins with"]),
        (DepthSpec(scale=2), {}, ["--depth-scale: found 2, expected 1: there are no originals"]),
        (
            DepthSpec("no such network", mode="guided", scale=3),
            {"backgrounds": "bg", "masks": "m"},
            ["--depth-mode", "--depth-scale: found 3", "--backgrounds: of no use", "--masks: of no use"],
        ),
    ],
)
def test_what_needs_a_recipe_is_refused_together(plain, spec, folders, said):
    before = tree(plain)
    with pytest.raises(SpecError, match="was imported from pictures: its depth cannot be filled so") as error:
        fill_depth(plain, spec, **folders)
    for line, expected in zip(error.value.problems, said, strict=True):
        assert line.startswith(expected)
    assert tree(plain) == before


def test_pictures_come_first(tmp_path, files):
    def stop(event):
        if isinstance(event, Progress) and event.stage == "samples":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_folder(tmp_path / "out.zarr", ImportSpec(str(files), chunk=3), on_event=stop)
    with pytest.raises(DatasetError, match="not complete: run fgbgpack import again"):
        fill_depth(tmp_path / "out.zarr")


def test_an_hdf5_file(tmp_path, kept, files, depth_model):
    pytest.importorskip("h5py")
    import_folder(tmp_path / "b.h5", ImportSpec(str(files), chunk=3))
    done = run("depth", tmp_path / "b.h5", "--depth-model", depth_model, "--overwrite", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["b.h5"]
    ds = open_dataset(tmp_path / "b.h5")
    np.testing.assert_array_equal(ds.depth[:], by_hand(ds, depth_model))
    np.testing.assert_array_equal(ds.image[:], open_dataset(kept["deep"]).image[:])


def test_everything_tells_of_it(tmp_path, plain, depth_model):
    done = run("depth", plain, "--depth-model", depth_model, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert f"Filled {plain}: {SAMPLES} samples" in done.stdout
    assert "depth model   tiny on CPUExecutionProvider" in done.stdout
    ds = open_dataset(plain)
    described = json.loads(json.dumps(describe(ds)))
    assert (described["depth"]["mode"], described["depth"]["model"]) == ("per-sample", "tiny")
    assert described["imported"]["samples"] == SAMPLES
    assert "tiny on CPUExecutionProvider in fp32, per-sample, scale 1" in run("info", plain).stdout
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
