"""Datasets of some pictures, merged, are the dataset that is made of all of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from builders import SMALL_SHARDS, Pictures, Stop, depth_of, names_in, tree, write_depth_model
from PIL import Image
from refusals import refused
from small_disks import needs_small_disk, small_disk

from fgbgpack import create, open_dataset
from fgbgpack.document import ATTRIBUTE, DIGEST, Document
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline import Notice, convert, merge, verify
from fgbgpack.storage.layout import DEFAULT_POLICY


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Five backgrounds and three foregrounds."""
    return Pictures(tmp_path_factory.mktemp("album"), backgrounds=5, foregrounds=3)


class Maker:
    """Makes datasets of some of the pictures of an album."""

    def __init__(self, album, folder, **fields):
        self.album, self.folder, self.fields = album, folder, fields

    def __call__(
        self,
        name,
        backgrounds=None,
        foregrounds=None,
        *,
        layout=SMALL_SHARDS,
        virtual=False,
        table=None,
        **fields,
    ):
        places = {}
        for kind, chosen in (("backgrounds", backgrounds), ("foregrounds", foregrounds)):
            source = getattr(self.album, kind)
            places[kind] = self.folder / "pictures of" / name / kind
            places[kind].mkdir(parents=True)
            for path in sorted(source.iterdir()):
                if chosen is None or int(path.stem[1:]) in chosen:
                    shutil.copy(path, places[kind])
        if table is not None:
            (places["foregrounds"] / "sources.csv").write_text(table)
        spec = self.album.spec(**self.fields | fields)
        spec = replace(spec, **{kind: str(path) for kind, path in places.items()})
        create(self.folder / name, spec, layout=layout, virtual=virtual)
        return self.folder / name


@pytest.fixture
def make(album, tmp_path):
    return lambda **fields: Maker(album, tmp_path, **fields)


def assert_merged(found, expected, parts):
    """All files are those of a dataset that was made at once; the document but for its folders, too."""
    here, there = tree(found), tree(expected)
    assert sorted(here) == sorted(there)
    assert [name for name in there if here[name] != there[name] and name != "zarr.json"] == []
    root, other = (json.loads(files["zarr.json"]) for files in (here, there))
    documents = [node["attributes"].pop(ATTRIBUTE) for node in (root, other)]
    for node in (root, other):
        node["attributes"].pop(DIGEST)
    assert root == other
    merged = documents[0].pop("merged")
    of_parts = [open_dataset(part).document for part in parts]
    assert merged == [
        {"recipe": one.recipe.sha256, "samples": one.samples, "generation": one.generation}
        for one in of_parts
    ]
    for document in documents:
        document["spec"].pop("backgrounds")
        document["spec"].pop("foregrounds")
    assert documents[0] == documents[1]
    verify(found, workers=1).check()
    Document.from_dict(open_dataset(found).document.to_dict(), where="it")


CUTS = {
    "in a row": [((0, 1), None), ((2, 3, 4), None)],
    "mixed": [((4, 1), None), ((0, 3), None), ((2,), None)],
    "overlapping": [((0, 1, 2), None), ((1, 2, 3, 4), None)],
    "foregrounds": [(None, (0,)), (None, (1, 2))],
    "a grid": [((0, 1), (0, 1)), ((0, 1), (2,)), ((2, 3, 4), (2,)), ((2, 3, 4), (0, 1))],
    "all twice": [(None, None), (None, None)],
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("depth", [None, "per-sample", "guided"])
def test_merged_they_are_the_dataset_of_all_pictures(make, tmp_path, depth_model, guide_model, cut, depth):
    fields = {"chunk": 5}
    if depth is not None:
        guide = {"guide": str(guide_model), "scale": 2} if depth == "guided" else {}
        fields["depth"] = depth_of(depth_model, **guide)
    maker = make(**fields)
    parts = [maker(f"{i}.zarr", *cut) for i, cut in enumerate(CUTS[cut])]
    before = [tree(part) for part in parts]
    whole = maker("whole.zarr")
    steps = {getattr(open_dataset(one).document.depth, "step", None) for one in (*parts, whole)}
    assert len(steps) == 1, "the test needs pictures of which all have the same step"
    done = merge(parts, tmp_path / "it.zarr", workers=2, layout=SMALL_SHARDS)
    assert (done.samples, done.datasets, done.depth_mode) == (len(open_dataset(whole)), len(parts), depth)
    assert_merged(tmp_path / "it.zarr", whole, parts)
    assert [tree(part) for part in parts] == before


@pytest.mark.slow
@pytest.mark.parametrize("layout", [DEFAULT_POLICY, replace(SMALL_SHARDS, pixel_chunk_bytes=6_000)])
def test_however_chunks_are_cut_they_are_the_same(make, tmp_path, depth_model, layout):
    maker = make(depth=depth_of(depth_model), placements=7)
    parts = [maker("a.zarr", (0, 2, 4)), maker("b.zarr", (1, 3), chunk=4, layout=layout)]
    merge(parts, tmp_path / "it.zarr", layout=layout)
    assert_merged(tmp_path / "it.zarr", maker("whole.zarr", layout=layout), parts)


def test_chunks_that_fit_are_copied_and_not_made_again(make, tmp_path, depth_model, guide_model, monkeypatch):
    maker = make(chunk=9, depth=depth_of(depth_model, guide=str(guide_model), scale=2))
    parts = [maker("a.zarr", (1, 3)), maker("b.zarr", (0, 2, 4))]
    monkeypatch.setattr("fgbgpack.pipeline.pixels.Pixels.encode", None)
    merge(parts, tmp_path / "it.zarr", layout=SMALL_SHARDS)
    monkeypatch.undo()
    assert_merged(tmp_path / "it.zarr", maker("whole.zarr"), parts)


@pytest.mark.parametrize("kinds", ["vv", "vs", "sv"])
def test_of_virtual_ones_it_is_virtual_and_else_stored(make, tmp_path, depth_model, kinds):
    maker = make(depth=depth_of(depth_model))
    virtual = [kind == "v" for kind in kinds]
    parts = [maker("a.zarr", (0, 1), virtual=virtual[0]), maker("b.zarr", (2, 3, 4), virtual=virtual[1])]
    assert merge(parts, tmp_path / "it.zarr", layout=SMALL_SHARDS).virtual is all(virtual)
    assert_merged(tmp_path / "it.zarr", maker("whole.zarr", virtual=all(virtual)), parts)


@pytest.mark.slow
@pytest.mark.parametrize("portable", [False, True])
def test_from_files_and_to_a_file(make, tmp_path, depth_model, portable):
    pytest.importorskip("h5py")
    maker = make(depth=depth_of(depth_model))
    parts = [maker("a.zarr", (0, 1)), maker("b.zarr", (2, 3, 4))]
    whole = maker("whole.zarr")
    files = [path.with_suffix(".h5") for path in parts]
    for part, file in zip(parts, files, strict=True):
        convert(part, file, portable=portable)
    merge(files, tmp_path / "it.zarr", layout=SMALL_SHARDS)
    assert_merged(tmp_path / "it.zarr", whole, parts)
    merge(parts, tmp_path / "it.h5", layout=SMALL_SHARDS)
    np.testing.assert_array_equal(open_dataset(tmp_path / "it.h5").image[:], open_dataset(whole).image[:])
    for file in files:
        with refused(SpecError, "target-is-source"):
            merge(files, file)


def test_credits_and_splits_go_along(make, tmp_path):
    maker = make()
    maker("b.zarr", (1, 2, 3, 4))
    for name, who in (("a.zarr", "Ann"), ("b.zarr", "Bob")):
        pictures = tmp_path / "pictures of" / name / "backgrounds"
        if not pictures.exists():
            maker(name, (0, 1))
        rows = [f"{path.name},CC0-1.0,{who}" for path in sorted(pictures.iterdir())]
        (pictures / "sources.csv").write_text("\n".join(["file,license,author", *rows]))
        document = open_dataset(tmp_path / name).document
        spec = document.spec
        create(tmp_path / name, spec, layout=SMALL_SHARDS)
    a, b = open_dataset(tmp_path / "a.zarr"), open_dataset(tmp_path / "b.zarr")
    a.save_split("same", {"train": 0.5, "test": 0.5})
    b.save_split("same", {"train": 0.5, "test": 0.5})
    a.save_split("other", {"train": 0.9, "test": 0.1})
    b.save_split("other", {"train": 0.5, "test": 0.5})
    b.save_split("mine", {"train": 0.5, "test": 0.5}, seed=3)
    events = []
    merge([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "it.zarr", on_event=events.append)
    ds = open_dataset(tmp_path / "it.zarr")
    assert [source.author for source in ds.document.sources.backgrounds] == [
        "Ann",
        "Ann",
        "Bob",
        "Bob",
        "Bob",
    ]
    assert ds.splits["same"] == a.splits["same"]
    assert ds.splits["other"] == a.splits["other"]
    assert ds.splits["mine"] == b.splits["mine"]
    assert any(isinstance(e, Notice) and "'other'" in e.message for e in events)
    assert len(ds.split("mine")["train"])


def test_a_picture_by_two_names_is_taken_once(make, tmp_path, album):
    maker = make()
    parts = [maker("a.zarr", (0, 1)), maker("b.zarr", (2, 3, 4))]
    folder = tmp_path / "pictures of" / "c" / "backgrounds"
    folder.mkdir(parents=True)
    shutil.copy(album.backgrounds / "b1.png", folder / "again.png")
    shutil.copy(album.backgrounds / "b3.png", folder / "b3.png")
    create(tmp_path / "c.zarr", replace(album.spec(), backgrounds=str(folder)), layout=SMALL_SHARDS)
    parts.append(tmp_path / "c.zarr")
    events = []
    merge(parts, tmp_path / "it.zarr", layout=SMALL_SHARDS, on_event=events.append)
    assert any(isinstance(e, Notice) and "again.png" in e.message for e in events)
    assert_merged(tmp_path / "it.zarr", maker("whole.zarr"), parts)


@pytest.mark.parametrize("vary", [False, True])
def test_copies_within_a_dataset_stay(make, tmp_path, album, vary):
    folder = tmp_path / "more" / "backgrounds"
    shutil.copytree(album.backgrounds, folder)
    shutil.copy(folder / "b0.png", folder / "b9.png")
    spec = album.spec(vary_copies=vary)
    create(tmp_path / "whole.zarr", replace(spec, backgrounds=str(folder)), layout=SMALL_SHARDS)
    parts = []
    for name, chosen in (("a", ("b0.png", "b9.png")), ("b", ("b1.png", "b2.png", "b3.png", "b4.png"))):
        some = tmp_path / name / "backgrounds"
        some.mkdir(parents=True)
        for file in chosen:
            shutil.copy(folder / file, some)
        create(tmp_path / f"{name}.zarr", replace(spec, backgrounds=str(some)), layout=SMALL_SHARDS)
        parts.append(tmp_path / f"{name}.zarr")
    merge(parts, tmp_path / "it.zarr", layout=SMALL_SHARDS)
    assert_merged(tmp_path / "it.zarr", tmp_path / "whole.zarr", parts)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["per-sample", "guided"])
def test_depth_of_another_step_is_inferred_again(tmp_path, depth_model, guide_model, mode):
    """The first background is as good as black, and so are foregrounds: depth has a small range."""
    guide = {"guide": str(guide_model), "scale": 2} if mode == "guided" else {}
    dull = Pictures(tmp_path / "dull", backgrounds=3)
    for path in (dull.backgrounds / "b0.png", *dull.foregrounds.iterdir()):
        picture = np.array(Image.open(path))
        picture[..., :3] //= 16
        Image.fromarray(picture).save(path)
    maker = Maker(dull, tmp_path, chunk=5, depth=depth_of(depth_model, **guide))
    whole = maker("whole.zarr")
    coarse = open_dataset(whole).document.depth.step
    parts = [maker(f"{i}.zarr", chosen) for i, chosen in enumerate([(0,), (1, 2)])]
    steps = [open_dataset(part).document.depth.step for part in parts]
    assert min(steps) < max(steps) == coarse, "the test needs pictures of different ranges"
    events = []
    merge(parts, tmp_path / "it.zarr", layout=SMALL_SHARDS, on_event=events.append)
    assert any(isinstance(e, Notice) and "inferred again" in e.message for e in events)
    assert_merged(tmp_path / "it.zarr", whole, parts)
    for stage in ("samples", "depth"):
        with pytest.raises(KeyboardInterrupt):
            merge(parts, tmp_path / "again.zarr", workers=1, layout=SMALL_SHARDS, on_event=Stop(stage, 1))
    merge(parts, tmp_path / "again.zarr", layout=SMALL_SHARDS)
    assert_merged(tmp_path / "again.zarr", whole, parts)


# --- refused ---------------------------------------------------------------------------------------


def test_what_cannot_be_merged_says_why(make, tmp_path, depth_model, kinds):
    maker, out = make(), tmp_path / "it.zarr"
    a, b = maker("a.zarr", (0, 1)), maker("b.zarr", (2, 3))
    with refused(RecipeMismatchError, "merge-differs") as caught:
        merge([a, maker("seed.zarr", (2,), seed=1, placements=2)], out)
    assert [line.partition(":")[0] for line in caught.value.problems] == ["placements", "seed"]
    with refused(DatasetError, "merge-pairs-missing") as caught:
        merge([a, maker("one.zarr", (2,), (0, 1))], out)
    assert caught.value.problems == ("f2.png on b2.png",)
    with refused(DatasetError, "recipe-missing"):
        merge([a, kinds["imported"]], out)
    with refused(SpecError, "merge-of-one"):
        merge([a], out)
    for one in (a, b):
        with refused(SpecError, "target-is-source"):
            merge([a, b], one, overwrite=True)
    with refused(DatasetError, "dataset-missing"):
        merge([a, tmp_path / "nothing.zarr"], out)
    unfinished = tmp_path / "unfinished.zarr"
    with pytest.raises(KeyboardInterrupt):
        create(unfinished, make().album.spec(), on_event=Stop("samples", 0))
    with refused(IncompleteDatasetError, "dataset-incomplete"):
        merge([a, unfinished], out)
    assert not out.exists()
    assert "it.zarr" not in names_in(tmp_path)


def test_pictures_of_one_name_that_differ_are_refused(make, tmp_path, album):
    maker = make()
    a = maker("a.zarr", (0, 1))
    folder = tmp_path / "other" / "backgrounds"
    folder.mkdir(parents=True)
    shutil.copy(album.backgrounds / "b3.png", folder / "b1.png")
    create(tmp_path / "b.zarr", replace(album.spec(), backgrounds=str(folder)))
    with refused(DatasetError, "merge-names-clash") as caught:
        merge([a, tmp_path / "b.zarr"], tmp_path / "it.zarr")
    assert "b1.png" in caught.value.problems[0]


def test_what_is_cut_goes_along_and_must_be_the_same(make, tmp_path):
    maker = make()
    parts = [
        maker("0.zarr", foregrounds=(0, 1)),
        maker("1.zarr", foregrounds=(2,), table="file,cut\nf2.png,bottom\n"),
    ]
    merge(parts, tmp_path / "it.zarr")
    assert open_dataset(tmp_path / "it.zarr").catalog().cut.tolist() == [0, 0, 4]
    assert verify(tmp_path / "it.zarr").sound
    other = maker("2.zarr", foregrounds=(0, 1), table="file,cut\nf0.png,top\n")
    with refused(DatasetError, "merge-impossible") as error:
        merge([*parts, other], tmp_path / "other.zarr")
    assert len(error.value.problems) == 1
    assert "cut" in error.value.problems[0]


def test_categories_go_along_and_must_be_the_same(make, tmp_path):
    maker = make()
    parts = [
        maker("0.zarr", foregrounds=(0, 1), table="file,category\nf0.png,dog\n"),
        maker("1.zarr", foregrounds=(2,), table="file,category\nf2.png,person\n"),
    ]
    merge(parts, tmp_path / "it.zarr")
    foregrounds = open_dataset(tmp_path / "it.zarr").document.sources.foregrounds
    assert [source.category for source in foregrounds] == ["dog", "", "person"]
    other = maker("2.zarr", foregrounds=(0, 1), table="file,category\nf0.png,cat\n")
    with refused(DatasetError, "merge-names-clash") as error:
        merge([*parts, other], tmp_path / "other.zarr")
    assert len(error.value.problems) == 1
    assert "f0.png is of another category" in error.value.problems[0]


def test_depth_must_be_the_same_or_be_left_out(make, tmp_path, depth_model):
    maker, out = make(), tmp_path / "it.zarr"
    other = write_depth_model(tmp_path / "models", name="other", seed=1)
    depths = {
        "a": depth_of(depth_model),
        "bits": depth_of(depth_model, bits=8),
        "other": depth_of(other),
        "none": None,
    }
    parts = {
        name: maker(f"{name}.zarr", (0, 1) if name == "a" else (2, 3, 4), depth=d)
        for name, d in depths.items()
    }
    for name, said in (("bits", "bits"), ("other", "model"), ("none", "none")):
        with refused(RecipeMismatchError, "merge-depth-differs") as caught:
            merge([parts["a"], parts[name]], out)
        assert any(said in line for line in caught.value.problems)
    assert not out.exists()
    merge([parts["a"], parts["other"]], out, with_depth=False, layout=SMALL_SHARDS)
    assert_merged(out, maker("whole.zarr"), [parts["a"], parts["other"]])


def test_damage_is_found_and_not_copied(make, tmp_path):
    maker = make()
    a, b = maker("a.zarr", (0, 1)), maker("b.zarr", (2, 3, 4))
    file = a / "image/c/0/0/0/0"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    with refused(DatasetError, "checksum-wrong"):
        merge([a, b], tmp_path / "it.zarr", layout=SMALL_SHARDS)


# --- stopped, again, in the place of another -------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "n"), [("samples", 1), ("backgrounds", 0), ("depth", 1)])
def test_one_that_was_stopped_is_resumed(make, tmp_path, depth_model, guide_model, stage, n):
    maker, out = make(depth=depth_of(depth_model, guide=str(guide_model), scale=2)), tmp_path / "it.zarr"
    parts = [maker("a.zarr", (0, 1)), maker("b.zarr", (2, 3, 4))]
    with pytest.raises(KeyboardInterrupt):
        merge(parts, out, workers=1, layout=SMALL_SHARDS, on_event=Stop(stage, n))
    with refused(IncompleteDatasetError, "dataset-incomplete"):
        open_dataset(out)
    with refused(RecipeMismatchError, "dataset-differs"):
        merge(parts[::-1], out, layout=SMALL_SHARDS)
    events = []
    merge(parts, out, layout=SMALL_SHARDS, on_event=events.append)
    assert Notice(f"Resuming {out}.") in events
    assert_merged(out, maker("whole.zarr"), parts)
    before = tree(out)
    assert merge(parts, out, layout=SMALL_SHARDS).written == 0
    assert tree(out) == before


@pytest.mark.slow
@needs_small_disk
def test_a_full_disk_is_said_so_and_the_merge_is_resumed(make, tmp_path):
    maker = make(placements=6)
    parts = [maker("a.zarr", (0, 1)), maker("b.zarr", (2, 3, 4))]
    with small_disk(tmp_path / "disk", "120k") as enlarge:
        path = tmp_path / "disk/it.zarr"
        with refused(DatasetError, "disk-full"):
            merge(parts, path, layout=SMALL_SHARDS)
        enlarge()
        merge(parts, path, layout=SMALL_SHARDS)
        assert_merged(path, maker("whole.zarr"), parts)


def test_another_dataset_is_replaced_only_if_asked_for(make, tmp_path, dataset):
    maker, out = make(), tmp_path / "it.zarr"
    parts = [maker("a.zarr", (0, 1)), maker("b.zarr", (2, 3, 4))]
    shutil.copytree(dataset, out)
    with refused(RecipeMismatchError, "dataset-differs"):
        merge(parts, out, layout=SMALL_SHARDS)
    with pytest.raises(KeyboardInterrupt):
        merge(parts, out, overwrite=True, layout=SMALL_SHARDS, on_event=Stop("samples", 0))
    assert tree(out) == tree(dataset)
    merge(parts, out, overwrite=True, layout=SMALL_SHARDS)
    assert_merged(out, maker("whole.zarr"), parts)


def test_merged_ones_are_merged_again(make, tmp_path, depth_model):
    maker = make(depth=depth_of(depth_model))
    one, two, three = (maker(f"{i}.zarr", chosen) for i, chosen in enumerate([(0,), (1, 2), (3, 4)]))
    merge([one, two], tmp_path / "some.zarr", layout=SMALL_SHARDS)
    merge([tmp_path / "some.zarr", three], tmp_path / "it.zarr", layout=SMALL_SHARDS)
    assert_merged(tmp_path / "it.zarr", maker("whole.zarr"), [tmp_path / "some.zarr", three])
