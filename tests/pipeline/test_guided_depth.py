"""Guided depth in whole datasets: what is stored of backgrounds and samples, whatever stops in between."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import onnx_models
import onnxruntime
import pytest
import zarr
from builders import SMALL_SHARDS, Pictures, depth_of, tree
from PIL import Image
from refusals import refused
from zarr.storage import MemoryStore

import fgbgpack
from fgbgpack import DatasetSpec, DepthSpec, estimate, open_dataset
from fgbgpack.depth import BackgroundDepth, DepthSession, Execution, load_model
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.strategies import Networks
from fgbgpack.errors import DepthModelError, RecipeMismatchError, SourceError, SpecError
from fgbgpack.pipeline import Notice, Progress
from fgbgpack.sources.catalog import load_background
from fgbgpack.sources.listing import find_sources
from fgbgpack.sources.resizing import Frame
from fgbgpack.visual.comparison import compare
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import render_preview

create = partial(fgbgpack.create, layout=SMALL_SHARDS)
fill_depth = partial(fgbgpack.fill_depth, layout=SMALL_SHARDS)


#: What samples are rounded to, then to float16 where that is coarser.
def rounding(ds):
    values = ds.depth[:].astype(np.float64)
    return ds.depth.attrs["rounding"]["largest_error"] * (values.max() - values.min()) * 1.001


def assert_same_tree(folder, expected):
    found = tree(folder)
    assert sorted(found) == sorted(expected)
    assert [path for path in expected if found[path] != expected[path]] == []


class Events:
    """A callback that remembers, and interrupts at the n-th progress event of a stage."""

    def __init__(self, stage=None, n=0):
        self.seen, self.stage, self.left = [], stage, n

    def __call__(self, event):
        self.seen.append(event)
        if isinstance(event, Progress) and event.stage == self.stage:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1

    def progress(self, stage):
        return [event for event in self.seen if isinstance(event, Progress) and event.stage == stage]

    def notices(self):
        return "\n".join(event.message for event in self.seen if isinstance(event, Notice))


@pytest.fixture
def guided(depth_model, guide_model) -> DepthSpec:
    return depth_of(depth_model, guide=str(guide_model), scale=3)


@pytest.fixture
def made(tmp_path, pictures, guided):
    """A dataset with guided depth, its spec, and every file of it."""
    spec = pictures.spec(chunk=5, depth=guided)
    create(tmp_path / "made.zarr", spec)
    return spec, tree(tmp_path / "made.zarr")


# --- what is stored --------------------------------------------------------------------------------


def answer_of(model: Path, picture):
    """What the network itself says of a picture (h, w, 3), by ONNX Runtime alone: (h, w) float64."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
    return session.run(None, {"input": planes})[0][0, 0].astype(np.float64)


def expected_background(model, source, spec, scale, metres):
    """The depth of a background, step by step."""
    answers = []
    for larger in (scale, scale + 1) if scale > 1 else (1,):
        height, width = spec.height * larger, spec.width * larger
        picture = load_background(source, Frame(height, width, spec.fit))[0]

        def small(answer, larger=larger):
            return answer.reshape(spec.height, larger, spec.width, larger).mean(axis=(1, 3))

        answers.append(small(answer_of(model, picture)))
        answers.append(small(answer_of(model, picture[:, ::-1]))[:, ::-1])
    if not metres:
        first = answers[0]
        spread = np.abs(first - np.median(first)).mean()
        for i, answer in enumerate(answers):
            centred = answer - np.median(answer)
            answers[i] = centred / np.abs(centred).mean() * spread + np.median(first)
    return np.mean(answers, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "scale", "metres"),
    [
        ({}, 3, False),
        ({}, 2, True),
        ({}, 1, True),
        ({"width": 20, "height": 48, "foreground_height": 20, "fit": "stretch"}, 5, True),
        ({"width": 9, "height": 8, "foreground_height": 6}, 16, False),
    ],
)
def test_the_depth_of_backgrounds_is_the_mean_over_two_sizes_and_mirroring(
    tmp_path, pictures, make_depth_model, guide_model, fields, scale, metres
):
    model = make_depth_model(**({"quantity": "depth", "unit": "m"} if metres else {}))
    spec = pictures.spec(depth=depth_of(model, guide=str(guide_model), scale=scale), **fields)
    create(tmp_path / "it.zarr", spec)
    ds = open_dataset(tmp_path / "it.zarr")
    size = (ds.height, ds.width)
    stored = ds.background_depth
    assert (stored.dtype, stored.shape) == (np.float32, (3, *size))
    meaning = {"quantity": "depth", "unit": "m"} if metres else {"quantity": "inverse_depth", "unit": None}
    assert dict(stored.attrs) == meaning
    assert {key: ds.depth.attrs[key] for key in meaning} == meaning
    for i, source in enumerate(find_sources(pictures.backgrounds, pictures.foregrounds).backgrounds):
        expected = expected_background(model, source, spec, scale, metres)
        # The network's answers are float16.
        np.testing.assert_allclose(stored[i], expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_a_background_keeps_its_depth_where_it_is_not_covered(guided_dataset):
    ds = open_dataset(guided_dataset)
    own = ds.background_depth[:][ds.placements.background].astype(np.float64)
    free = ds.mask[:] == 0
    error = np.abs(ds.depth[:].astype(np.float64) - own)
    assert error[free].max() <= rounding(ds)
    assert np.median(error[~free]) > 10 * rounding(ds)
    # To the last bit the same in all samples that show it.
    for background in range(3):
        samples = np.flatnonzero(ds.placements.background == background)
        depth, seen = ds.depth[samples[0] : samples[-1] + 1], free[samples]
        values = np.where(seen, depth.astype(np.float64), np.nan)
        assert (np.nanmax(values, axis=0) == np.nanmin(values, axis=0)).all()


def test_samples_have_what_the_guided_network_says(guided_dataset, guide_model):
    ds = open_dataset(guided_dataset)
    backgrounds = BackgroundDepth.of(ds.background_depth[:], Quantity("inverse_depth", None))
    execution = Execution(device="cpu")
    size = (ds.height, ds.width)
    session = DepthSession(load_model(guide_model), size, execution=execution, backgrounds=backgrounds)
    out = np.empty(ds.depth.shape, np.float16)
    session.run(ds.image[:], out, mask=ds.mask[:], background=ds.placements.background)
    np.testing.assert_allclose(ds.depth[:].astype(float), out.astype(float), atol=rounding(ds) * 1.5)


def test_the_document_names_both_networks(guided_dataset, depth_model, guide_model):
    ds = open_dataset(guided_dataset)
    section = ds.document.depth
    assert (section.mode, section.scale, section.provider) == ("guided", 2, "CPUExecutionProvider")
    for part, path in ((section, depth_model), (section.guide, guide_model)):
        model = load_model(path)
        assert (part.model, part.sha256) == (model.card.document, model.sha256)
    told = describe(ds)["depth"]
    assert (told["mode"], told["model"], told["guide"]["model"]) == ("guided", "tiny", "guided")
    assert render_preview(ds, [3]).width > 0


def test_other_readers_see_the_backgrounds_depth(guided_dataset):
    ds = open_dataset(guided_dataset)
    group = zarr.open_consolidated(guided_dataset)
    array = group["sources/background_depth"]
    assert array.metadata.dimension_names == ("backgrounds", "height", "width")
    np.testing.assert_array_equal(array[:], ds.background_depth[:])
    assert np.isfinite(array[:]).all()
    assert ds.stored_bytes()["sources/background_depth"] > 0


def test_there_is_none_where_depth_is_not_guided(dataset, depth_dataset):
    assert open_dataset(dataset).background_depth is None
    assert open_dataset(depth_dataset).background_depth is None
    assert not (depth_dataset / "sources/background_depth").exists()


@pytest.mark.parametrize("told", ["both", "background"])
def test_guides_that_are_told_more_or_less(tmp_path, pictures, depth_model, told):
    path = tmp_path / "models/guide.onnx"
    if told == "both":
        onnx_models.guided(path)
    else:
        card = onnx_models.guided_card(guides={"mask": ...}, output={"of": "picture"})
        onnx_models.guided(path, inputs=("input", "background"), card=card)
    create(tmp_path / "it.zarr", pictures.spec(depth=depth_of(depth_model, guide=str(path))))
    assert np.isfinite(open_dataset(tmp_path / "it.zarr").depth[:]).all()


@pytest.mark.slow
def test_by_default_the_scene_network_fills_depth(tmp_path, pictures, monkeypatch):
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "no models here"))
    fields = pictures.spec(width=48, height=32).to_dict()
    del fields["depth"]
    report = create(tmp_path / "it.zarr", DatasetSpec.from_dict(fields))
    assert (report.depth_mode, report.depth_model) == ("layered", "fgbgpack-scene")
    assert (report.depth_guide, report.depth_filled, report.complete) == (None, 36, True)
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.document.depth.scale == 12
    assert np.isfinite(ds.depth[:]).all()
    create(tmp_path / "later.zarr", pictures.spec(width=48, height=32))
    fill_depth(tmp_path / "later.zarr")
    assert_same_tree(tmp_path / "later.zarr", tree(tmp_path / "it.zarr"))


# --- the same bytes --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path, made, workers):
    spec, expected = made
    create(tmp_path / "again.zarr", spec, workers=workers)
    assert_same_tree(tmp_path / "again.zarr", expected)
    assert sum(path.startswith("sources/background_depth/c/") for path in expected) == 3


@pytest.mark.slow
def test_filled_later_and_again_it_is_the_same(tmp_path, made):
    spec, expected = made
    path = tmp_path / "again.zarr"
    create(path, DatasetSpec.from_dict({**spec.to_dict(), "depth": None}))
    report = fill_depth(path, spec.depth, workers=2)
    assert (report.depth_mode, report.depth_model, report.depth_guide) == ("guided", "tiny", "guided")
    assert_same_tree(path, expected)
    for action in (lambda: create(path, spec), lambda: fill_depth(path, spec.depth)):
        report = action()
        assert (report.created, report.depth_filled, report.complete) == (0, 0, True)
    assert_same_tree(path, expected)


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize(
    ("stage", "later"),
    [("samples", False), ("backgrounds", False), ("depth", False), ("backgrounds", True), ("depth", True)],
)
def test_an_interrupted_run_is_resumed_to_the_same_bytes(tmp_path, made, stage, n, later):
    spec, expected = made
    path = tmp_path / "again.zarr"
    action, asked = create, spec
    if later:
        create(path, DatasetSpec.from_dict({**spec.to_dict(), "depth": None}))
        action, asked = fill_depth, spec.depth
    with pytest.raises(KeyboardInterrupt):
        action(path, asked, workers=1, on_event=Events(stage, n))
    part = open_dataset(path, allow_incomplete=True)
    assert part.background_depth.shape == (3, 21, 33)
    events = Events()
    assert action(path, asked, on_event=events).complete
    assert_same_tree(path, expected)
    if stage == "depth":
        # All backgrounds were through: their network is not even opened again.
        assert events.progress("backgrounds") == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["backgrounds", "depth"])
def test_which_device_made_what_is_recorded(tmp_path, made, stage, monkeypatch):
    spec, _ = made
    path = tmp_path / "again.zarr"
    with pytest.raises(KeyboardInterrupt):
        create(path, spec, workers=1, on_event=Events(stage, 1))
    begun = open_dataset(path, allow_incomplete=True)
    first = begun.document.depth.devices[0].hardware
    array = "sources/background_depth" if stage == "backgrounds" else "depth"
    layout = begun.store.layout(array)
    there = [layout.samples_of(i) for i in sorted(begun.store.sound_shards(array, layout))]
    assert 0 < len(there) < layout.shards
    monkeypatch.setattr("fgbgpack.depth.session.processor_name", lambda: "Another")
    create(path, spec)
    depth = open_dataset(path).document.depth
    by_model, by_guide = (
        [(d.hardware, d.ranges) for d in devices] for devices in (depth.devices, depth.guide.devices)
    )
    shared = [(first, ((there[0].start, there[-1].stop),)), ("Another", None)]
    if stage == "backgrounds":
        assert (by_model, by_guide) == (shared, [("Another", None)])
    else:
        assert (by_model, by_guide) == ([(first, None)], shared)
    assert [one["hardware"] for one in describe(open_dataset(path))["depth"]["guide"]["devices"]][
        -1
    ] == "Another"


@pytest.mark.slow
def test_what_is_through_of_the_backgrounds_is_not_done_again(tmp_path, made):
    spec, expected = made
    path = tmp_path / "made.zarr"
    root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    document = root["attributes"]["fgbgpack"]
    document["complete"] = document["depth"]["complete"] = False
    (path / "zarr.json").write_text(json.dumps(root), encoding="utf-8")
    (path / "sources/background_depth/c/1/0/0").unlink()
    (path / "sources/background_depth/c/2/0/0").write_bytes(b"half of it")
    events = Events()
    create(path, spec, on_event=events)
    first = events.progress("backgrounds")[0]
    assert (first.done, first.total) == (1, 3)
    assert_same_tree(path, expected)


@pytest.mark.slow
def test_once_the_backgrounds_are_through_their_originals_may_go(tmp_path, own_pictures, guided):
    path = tmp_path / "it.zarr"
    create(path, own_pictures.spec())
    shutil.copytree(path, tmp_path / "whole.zarr")
    fill_depth(tmp_path / "whole.zarr", guided)
    with pytest.raises(KeyboardInterrupt):
        fill_depth(path, guided, on_event=Events("depth", 0))
    shutil.rmtree(own_pictures.root)
    fill_depth(path, guided)
    assert_same_tree(path, tree(tmp_path / "whole.zarr"))


@pytest.mark.slow
def test_only_the_original_backgrounds_are_wanted(tmp_path, own_pictures, guided):
    path = tmp_path / "it.zarr"
    create(path, own_pictures.spec())
    before = tree(path)
    moved = own_pictures.backgrounds.rename(tmp_path / "moved")
    shutil.rmtree(own_pictures.foregrounds)
    with refused(SourceError, "originals-missing", "--backgrounds"):
        fill_depth(path, guided)
    own_pictures.backgrounds.mkdir()
    own_pictures.background("b0.png", 40, 60, seed=0)
    own_pictures.background("b1.png", 40, 60, seed=99)
    with pytest.raises(SourceError) as caught:
        fill_depth(path, guided)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "background b2.png",
        "background b1.png",
    ]
    assert_same_tree(path, before)
    (moved / "notes.txt").write_text("beside them")
    assert fill_depth(path, guided, backgrounds=moved).complete


@pytest.mark.slow
def test_depth_of_backgrounds_that_is_damaged_in_mid_run_is_made_again(tmp_path, made):
    spec, expected = made
    path = tmp_path / "again.zarr"
    with pytest.raises(KeyboardInterrupt):
        create(path, spec, on_event=Events("depth", 0))
    shard = path / "sources/background_depth/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    create(path, spec)
    assert_same_tree(path, expected)


# --- other depth -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_mode_or_guide_is_refused_by_name(tmp_path, made, guided, depth_model):
    spec, expected = made
    path = tmp_path / "made.zarr"
    other = onnx_models.guided(tmp_path / "models/other.onnx", card=onnx_models.guided_card(name="other"))
    changed = onnx_models.constant_guided(tmp_path / "models/guide.onnx", 2.0)
    for depth, words in (
        (depth_of(depth_model, scale=3), ["depth mode: the dataset has guided, asked for per-sample"]),
        (depth_of(depth_model, guide=str(other), scale=3), ["depth guide: the dataset has guided", "other"]),
        (depth_of(depth_model, guide=str(changed), scale=3), ["depth guide's file"]),
        (depth_of(depth_model, guide=guided.guide, scale=2), ["depth scale"]),
        (DepthSpec(guide=guided.guide), ["depth model: the dataset has tiny, asked for fgbgpack-scene"]),
    ):
        document = {**spec.to_dict(), "depth": vars(depth)}
        for action in (
            lambda document=document: create(path, DatasetSpec.from_dict(document)),
            lambda depth=depth: fill_depth(path, depth),
        ):
            with pytest.raises(RecipeMismatchError) as caught:
                action()
            assert all(word in "\n".join(caught.value.problems) for word in words)
    assert_same_tree(path, expected)


@pytest.mark.slow
def test_a_card_that_tells_the_guide_otherwise_is_refused(tmp_path, pictures, depth_model):
    path = onnx_models.guided(tmp_path / "models/guide.onnx")
    spec = pictures.spec(depth=depth_of(depth_model, guide=str(path)))
    create(tmp_path / "it.zarr", spec)
    card = onnx_models.guided_card(guides={"mask": {"name": "mask", "range": [0, 1]}})
    path.with_suffix(".json").write_text(json.dumps(card))
    with refused(RecipeMismatchError, "dataset-differs", "guide's card"):
        create(tmp_path / "it.zarr", spec)
    card = onnx_models.guided_card(title="The same, with a title")
    path.with_suffix(".json").write_text(json.dumps(card))
    assert create(tmp_path / "it.zarr", spec).depth_filled == 0


@pytest.mark.slow
@pytest.mark.parametrize("back", [False, True])
def test_replacing_one_mode_by_the_other_leaves_nothing_of_it(tmp_path, pictures, guided, depth_model, back):
    first, second = guided, depth_of(depth_model)
    if back:
        first, second = second, first
    path = tmp_path / "it.zarr"
    create(path, pictures.spec(depth=first))
    fill_depth(path, second, overwrite=True)
    create(tmp_path / "fresh.zarr", pictures.spec(depth=second))
    assert_same_tree(path, tree(tmp_path / "fresh.zarr"))
    create(path, pictures.spec(depth=first), overwrite=True)
    create(tmp_path / "other.zarr", pictures.spec(depth=first))
    assert_same_tree(path, tree(tmp_path / "other.zarr"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["backgrounds", "depth"])
def test_an_overwrite_that_is_cut_off_never_mixes_the_backgrounds_of_two_models(
    tmp_path, made, guided, make_depth_model, stage
):
    spec, expected = made
    path = tmp_path / "made.zarr"
    other = depth_of(make_depth_model(name="other", seed=1), guide=guided.guide, scale=3)
    for n in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            fill_depth(path, other, overwrite=True, workers=1, on_event=Events(stage, n))
        # What is being replaced is whole until it is.
        assert_same_tree(path, expected)
    third = depth_of(make_depth_model(name="third", seed=2), guide=guided.guide, scale=3)
    fill_depth(path, third, overwrite=True)
    create(tmp_path / "fresh.zarr", spec)
    fill_depth(tmp_path / "fresh.zarr", third, overwrite=True)
    assert_same_tree(path, tree(tmp_path / "fresh.zarr"))
    assert {entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")} == set()


# --- what cannot be --------------------------------------------------------------------------------


def test_networks_of_the_wrong_kind_are_refused_before_anything_is_written(
    tmp_path, pictures, depth_model, guide_model
):
    bad = onnx_models.not_a_number(tmp_path / "models/bad.onnx")
    for depth, words in (
        (DepthSpec(str(guide_model)), "guided is a guided network.*--depth-guide"),
        (DepthSpec(str(guide_model), mode="guided"), "guided is a guided network"),
        (
            DepthSpec(str(depth_model), guide=str(depth_model)),
            "tiny is not a guided network.*fgbgpack-guided",
        ),
        (DepthSpec(str(bad), guide=str(guide_model), scale=1), "not a number"),
        (DepthSpec(str(depth_model), guide="nobody"), "nobody"),
    ):
        for action in (estimate, lambda spec: create(tmp_path / "it.zarr", spec)):
            with pytest.raises(DepthModelError, match=words):
                action(pictures.spec(depth=depth))
        assert not (tmp_path / "it.zarr").exists()


def test_a_spec_of_depth_that_cannot_be_is_refused_from_python_too(tmp_path, dataset):
    before = tree(dataset)
    with pytest.raises(SpecError) as caught:
        fill_depth(dataset, DepthSpec("m", mode="per-sample", guide="g", scale=9))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["depth.guide", "depth.scale"]
    assert_same_tree(dataset, before)


def test_a_scene_network_that_fails_on_a_background_says_on_which(tmp_path, guide_model):
    pictures = Pictures(tmp_path / "pictures", backgrounds=3, foregrounds=1)
    Image.new("RGB", (60, 40), "white").save(pictures.backgrounds / "b1.png")
    afraid = onnx_models.afraid_of_light(tmp_path / "models/afraid.onnx")
    store = MemoryStore()
    with refused(DepthModelError, "network-output-not-finite") as caught:
        create(store, pictures.spec(depth=depth_of(afraid, guide=str(guide_model))))
    assert "background b1.png" in "\n".join(caught.value.__notes__)


# --- events, estimates, comparisons ----------------------------------------------------------------


@pytest.mark.slow
def test_progress_and_notices(tmp_path, pictures, guided):
    events = Events()
    report = create(tmp_path / "it.zarr", pictures.spec(depth=guided), on_event=events)
    counts = [(event.done, event.total) for event in events.progress("backgrounds")]
    assert counts[0] == (0, 3)
    assert counts[-1] == (3, 3)
    assert "guided by that of the backgrounds by tiny at 3 times the size" in events.notices()
    lines = events.notices().splitlines()
    assert len(lines) == len(set(lines))
    assert report.to_dict() == json.loads(json.dumps(report.to_dict()))


@pytest.mark.slow
def test_an_estimate_counts_the_backgrounds_and_writes_nothing(tmp_path, made):
    spec, expected = made
    before = sorted(tmp_path.rglob("*"))
    found = estimate(spec, workers=2)
    assert sorted(tmp_path.rglob("*")) == before
    assert found.background_seconds > 0
    assert found.seconds > found.background_seconds
    real = sum(len(content) for path, content in expected.items() if path.startswith("depth/c/"))
    assert 0.5 < found.bytes["depth"] / real < 2
    assert found.to_dict() == json.loads(json.dumps(found.to_dict()))


def test_compare_gives_what_the_dataset_stores(guided_dataset, depth_model, guide_model):
    ds = open_dataset(guided_dataset)
    networks = Networks(load_model(depth_model), load_model(guide_model))
    models = [(networks, 2), (Networks(networks.model), 2)]
    comparison = compare(ds, models, stored=True, samples=9, device="cpu")
    stored, fresh, alone = comparison.models
    assert (stored.label, fresh.label, alone.label) == ("stored", "guided:tiny x2", "tiny x2")
    assert [m.guide for m in comparison.models] == ["guided", "guided", None]
    assert [m.mode for m in comparison.models] == ["guided", "guided", "per-sample"]
    kept, made, _ = comparison.maps.astype(float)
    assert np.abs(kept - made).max() <= rounding(ds) * 1.5
    assert comparison.agreement[0].rank.lower > 0.99


@pytest.mark.slow
def test_compare_wants_the_original_backgrounds_alone(tmp_path, own_pictures, depth_model, guide_model):
    create(tmp_path / "it.zarr", own_pictures.spec())
    ds = open_dataset(tmp_path / "it.zarr")
    shutil.rmtree(own_pictures.foregrounds)
    networks = Networks(load_model(depth_model), load_model(guide_model))
    assert compare(ds, [(networks, 16)], samples=3, device="cpu").models[0].scale == 16
    shutil.rmtree(own_pictures.backgrounds)
    with refused(SourceError, "originals-missing"):
        compare(ds, [(networks, 2)], samples=3, device="cpu")


@pytest.mark.slow
def test_sizes_cut_the_backgrounds_depth_into_few_files(tmp_path, depth_model, guide_model):
    pictures = Pictures(tmp_path / "many", backgrounds=130, foregrounds=1, size=(20, 20), patch=(8, 6))
    depth = depth_of(depth_model, guide=str(guide_model))
    create(tmp_path / "it.zarr", pictures.spec(placements=1, flip=False, depth=depth))
    ds = open_dataset(tmp_path / "it.zarr")
    assert (ds.background_depth.chunks, ds.background_depth.shards) == ((1, 21, 33), (3, 21, 33))
    assert np.isfinite(ds.background_depth[:]).all()
