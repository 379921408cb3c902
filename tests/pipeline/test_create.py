"""Making datasets: the same bytes whoever does it, resumed and replaced, and never at another's cost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import naive
import numpy as np
import onnx_models
import onnxruntime
import pytest
import zarr
from builders import SMALL_SHARDS, Pictures, depth_of, names_in, tree
from PIL import Image
from refusals import refused
from small_disks import needs_small_disk, small_disk
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from fgbgpack import create, estimate, fill_depth, open_dataset
from fgbgpack.errors import (
    DatasetError,
    DepthModelError,
    IncompleteDatasetError,
    RecipeMismatchError,
    SourceError,
    SpecError,
)
from fgbgpack.pipeline import Notice, Progress
from fgbgpack.sources.catalog import load_catalog
from fgbgpack.sources.listing import find_sources
from fgbgpack.spec import DatasetSpec

create_small = partial(create, layout=SMALL_SHARDS)
fill_depth_small = partial(fill_depth, layout=SMALL_SHARDS)


class Events:
    """A callback that remembers."""

    def __init__(self):
        self.seen = []

    def __len__(self):
        return len(self.seen)

    def __call__(self, event):
        self.seen.append(event)

    def progress(self, stage):
        return [event for event in self.seen if isinstance(event, Progress) and event.stage == stage]

    def notices(self):
        return "\n".join(event.message for event in self.seen if isinstance(event, Notice))


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def assert_same_tree(folder, expected):
    found = tree(folder)
    assert sorted(found) == sorted(expected)
    assert [path for path in expected if found[path] != expected[path]] == []


@pytest.fixture
def made(tmp_path, pictures, depth_model):
    """What one run gives: a dataset with depth in several shards, its spec, and every file of it."""
    spec = pictures.spec(chunk=5, depth=depth_of(depth_model))
    create_small(tmp_path / "made.zarr", spec)
    return spec, tree(tmp_path / "made.zarr")


# --- the same bytes --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers_gives_the_same_bytes(tmp_path, made, workers):
    spec, expected = made
    create_small(tmp_path / "again.zarr", spec, workers=workers)
    assert_same_tree(tmp_path / "again.zarr", expected)
    assert sum(path.startswith("image/c/") for path in expected) == 3
    assert sum(path.startswith("depth/c/") for path in expected) > 3


@pytest.mark.slow
def test_depth_filled_later_gives_the_same_bytes(tmp_path, made):
    spec, expected = made
    path = tmp_path / "again.zarr"
    create_small(path, DatasetSpec.from_dict({**spec.to_dict(), "depth": None}))
    assert open_dataset(path).complete
    report = fill_depth_small(path, spec.depth, workers=3)
    assert (report.created, report.depth_filled, report.complete) == (0, 36, True)
    assert_same_tree(path, expected)


def test_where_pictures_lie_and_how_they_are_called_does_not_matter(tmp_path, pictures, dataset):
    moved = tmp_path / "größer als 背景"
    shutil.copytree(pictures.root, moved)
    for i, path in enumerate(sorted((moved / "bg").iterdir())):
        path.rename(path.with_name(f"{i} neuer Name é.png"))
    folders = {"backgrounds": str(moved / "bg"), "foregrounds": str(moved / "fg")}
    spec = DatasetSpec.from_dict({**pictures.spec().to_dict(), **folders})
    create(tmp_path / "moved.zarr", spec)
    found, expected = tree(tmp_path / "moved.zarr"), tree(dataset)
    del found["zarr.json"], expected["zarr.json"]
    assert found == expected
    documents = [open_dataset(path).document for path in (dataset, tmp_path / "moved.zarr")]
    assert documents[0].recipe == documents[1].recipe


def test_a_pair_keeps_its_samples_when_pictures_are_added(tmp_path, pictures, dataset):
    more = tmp_path / "more"
    shutil.copytree(pictures.root, more)
    extra = Pictures(tmp_path / "extra", backgrounds=0, foregrounds=0)
    extra.background("a.png", 33, 44, seed=50)
    extra.background("b00.png", 33, 44, seed=51)
    extra.foreground("e.png", 30, 12, seed=52)
    shutil.copytree(extra.root, more, dirs_exist_ok=True)
    spec = pictures.spec(placements=4)
    spec = DatasetSpec.from_dict(
        {**spec.to_dict(), "backgrounds": str(more / "bg"), "foregrounds": str(more / "fg")}
    )
    create(tmp_path / "more.zarr", spec)

    def by_pair(path):
        ds = open_dataset(path)
        names = [[s.name for s in getattr(ds.document.sources, k)] for k in ("backgrounds", "foregrounds")]
        p, images = ds.placements, ds.image[:]
        return {
            (
                names[0][p.background[i]],
                names[1][p.foreground[i]],
                bool(p.flip[i]),
                int(p.replica[i]),
            ): images[i]
            for i in range(len(ds))
        }

    before, after = by_pair(dataset), by_pair(tmp_path / "more.zarr")
    assert len(before) == 36
    for key, image in before.items():
        np.testing.assert_array_equal(after[key], image)


@pytest.mark.slow
def test_the_digest_is_of_the_recipe_and_of_nothing_else(tmp_path, pictures, depth_model):
    def digest(name, **fields):
        create(tmp_path / name, pictures.spec(**fields), workers=len(name))
        return open_dataset(tmp_path / name).document.recipe.sha256

    base = digest("a")
    assert digest("bb") == digest("ccc", chunk=7) == digest("d", depth=depth_of(depth_model)) == base
    others = [
        digest(f"other{i}", **fields)
        for i, fields in enumerate(
            (
                {"seed": 1},
                {"placements": 2},
                {"flip": False},
                {"width": 34},
                {"height": 22},
                {"foreground_height": 9},
                {"fit": "stretch"},
            )
        )
    ]
    assert len({base, *others}) == 8


# --- events and reports ----------------------------------------------------------------------------


@pytest.mark.slow
def test_progress_goes_from_where_it_is_to_the_end(tmp_path, pictures, depth_model):
    events = Events()
    report = create_small(tmp_path / "it.zarr", pictures.spec(depth=depth_of(depth_model)), on_event=events)
    for stage, total in (("sources", 5), ("samples", 36), ("depth", 36)):
        progress = events.progress(stage)
        counts = [event.done for event in progress]
        assert {event.total for event in progress} == {total}
        assert counts == sorted(counts)
        assert counts[-1] == total
        assert counts[0] == (1 if stage == "sources" else 0)
    assert "tiny" in events.notices()
    assert report.to_dict() == json.loads(json.dumps(report.to_dict()))
    assert (report.samples, report.created, report.depth_filled, report.complete) == (36, 36, 36, True)
    assert (report.depth_model, report.provider) == ("tiny", "CPUExecutionProvider")
    on_disk = sum(p.stat().st_size for p in (tmp_path / "it.zarr").rglob("*") if p.is_file())
    assert sum(report.stored_bytes.values()) == on_disk


def test_without_a_model_it_says_how_to_fill_depth(tmp_path, pictures):
    events = Events()
    report = create(tmp_path / "it.zarr", pictures.spec(), on_event=events)
    assert "fgbgpack depth" in events.notices()
    assert report.complete
    assert report.depth_model is report.provider is None


@pytest.mark.slow
def test_an_estimate_writes_nothing_and_is_near_the_truth(tmp_path, made):
    spec, expected = made
    before = sorted(tmp_path.rglob("*"))
    found = estimate(spec, workers=2, layout=SMALL_SHARDS)
    assert sorted(tmp_path.rglob("*")) == before
    assert (found.backgrounds, found.foregrounds, found.samples, found.chunk) == (3, 2, 36, 5)
    shards = [p for p in expected if p.startswith(("image/c/", "mask/c/", "depth/c/"))]
    assert found.shards == len(shards)
    for name, size in found.bytes.items():
        real = sum(len(expected[path]) for path in shards if path.startswith(f"{name}/"))
        assert 0.5 < size / real < 2, name
    assert found.seconds > 0
    assert found.to_dict() == json.loads(json.dumps(found.to_dict()))


# --- again on what is there ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_options_on_a_complete_dataset_do_nothing(tmp_path, made):
    spec, expected = made
    path = tmp_path / "made.zarr"
    before = times(path)
    for overwrite in (False, True):
        events = Events()
        report = create_small(path, spec, overwrite=overwrite, on_event=events)
        assert (report.created, report.depth_filled, report.complete) == (0, 0, True)
        assert "complete already" in events.notices()
    report = fill_depth_small(path, spec.depth)
    assert (report.created, report.depth_filled, report.complete) == (0, 0, True)
    assert times(path) == before
    assert_same_tree(path, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seed": 1}, ["seed", "0", "1"]),
        ({"placements": 4, "flip": False}, ["placements", "flip"]),
        ({"width": 35, "height": 22}, ["width", "33", "35", "height"]),
        ({"foreground_height": 9}, ["foreground_height"]),
        ({"fit": "stretch"}, ["fit"]),
        ({"chunk": 7}, ["chunk"]),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_other_options_are_refused_by_name_and_overwrite_replaces(
    tmp_path, pictures, fields, words, complete
):
    path = tmp_path / "it.zarr"
    if complete:
        create(path, pictures.spec())
    else:
        with pytest.raises(KeyboardInterrupt):
            create(path, pictures.spec(), on_event=Interrupt("samples", 0))
    before = tree(path)
    with refused(RecipeMismatchError, "dataset-differs") as caught:
        create(path, pictures.spec(**fields))
    assert all(word in "\n".join(caught.value.problems) for word in words)
    assert_same_tree(path, before)

    create(path, pictures.spec(**fields), overwrite=True)
    create(tmp_path / "fresh.zarr", pictures.spec(**fields))
    assert_same_tree(path, tree(tmp_path / "fresh.zarr"))


def test_other_pictures_are_refused_by_name(tmp_path, own_pictures):
    path = tmp_path / "it.zarr"
    create(path, own_pictures.spec())
    before = tree(path)
    (own_pictures.backgrounds / "b2.png").unlink()
    own_pictures.background("b1.png", 40, 60, seed=77)
    own_pictures.foreground("new one.png", 24, 18, seed=78)
    with pytest.raises(RecipeMismatchError) as caught:
        create(path, own_pictures.spec())
    text = "\n".join(caught.value.problems)
    for words in ("1 are gone (b2.png)", "1 have changed (b1.png)", "1 are new (new one.png)"):
        assert words in text
    assert_same_tree(path, before)


def test_all_pairs_are_not_called_none(tmp_path, pictures):
    create(tmp_path / "it.zarr", pictures.spec(samples=6))
    with pytest.raises(RecipeMismatchError) as caught:
        create(tmp_path / "it.zarr", pictures.spec())
    assert "samples: the dataset has 6, asked for all pairs" in caught.value.problems


@pytest.mark.slow
def test_another_depth_is_refused_by_name(tmp_path, made, make_depth_model):
    spec, expected = made
    path = tmp_path / "made.zarr"
    other = make_depth_model(name="other", seed=1)
    changed = make_depth_model(name="tiny", seed=2)
    for depth, word in (
        (depth_of(other), "other"),
        (depth_of(changed), "file"),
        (depth_of(Path(spec.depth.model), scale=2), "scale"),
        (depth_of(Path(spec.depth.model), bits=8), "bits"),
        (depth_of(Path(spec.depth.model), precision="fp16"), "precision"),
    ):
        document = {**spec.to_dict(), "depth": vars(depth)}
        for action in (
            lambda document=document: create_small(path, DatasetSpec.from_dict(document)),
            lambda depth=depth: fill_depth_small(path, depth),
        ):
            with pytest.raises(RecipeMismatchError) as caught:
                action()
            assert word in "\n".join(caught.value.problems)
    assert_same_tree(path, expected)
    # Without depth in the spec, the depth that is there is no difference.
    assert create_small(path, DatasetSpec.from_dict({**spec.to_dict(), "depth": None})).complete
    assert_same_tree(path, expected)


# --- what is not ours ------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_but_a_dataset_is_ever_replaced(tmp_path, pictures, dataset, overwrite):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("mine")
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial/movie.partial").write_text("mine")
    zarr.create_array(tmp_path / "group.zarr", name="a", shape=(3,), dtype="i4")[:] = 1
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="i4")[:] = 1
    zarr.create_group(tmp_path / "two.zarr", zarr_format=2)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/zarr.json").write_text("{")
    newer = shutil.copytree(dataset, tmp_path / "newer.zarr")
    root = json.loads((newer / "zarr.json").read_text(encoding="utf-8"))
    root["attributes"]["fgbgpack"]["schema"] = "dataset/2.0"
    (newer / "zarr.json").write_text(json.dumps(root))
    before = tree(tmp_path)
    for name in ("folder", "partial", "group.zarr", "array.zarr", "two.zarr", "file", "broken", "newer.zarr"):
        with pytest.raises(DatasetError, match=name):
            create(tmp_path / name, pictures.spec(), overwrite=overwrite)
    with refused(DatasetError, "io-failed", "file"):
        create(tmp_path / "file" / "below.zarr", pictures.spec(), overwrite=overwrite)
    assert tree(tmp_path) == before


def test_files_of_others_in_a_dataset_stay(tmp_path, pictures):
    path = tmp_path / "it.zarr"
    create(path, pictures.spec())
    (path / "README.md").write_text("mine")
    (path / "movie.partial").write_text("mine")
    root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    root["attributes"]["licence"] = "CC0"
    (path / "zarr.json").write_text(json.dumps(root))
    create(path, pictures.spec(seed=4), overwrite=True)
    assert (path / "README.md").read_text() == (path / "movie.partial").read_text() == "mine"
    assert zarr.open_group(path, mode="r").attrs["licence"] == "CC0"


def test_what_killed_writers_left_is_swept_away(tmp_path, pictures):
    path = tmp_path / "it.zarr"
    create(path, pictures.spec())
    expected = tree(path)
    (path / "image/c/0/0/0").joinpath(f"0.{'0a' * 16}.partial").write_bytes(b"half")
    create(path, pictures.spec())
    assert_same_tree(path, expected)


def test_an_empty_folder_will_do(tmp_path, pictures, dataset):
    (tmp_path / "it.zarr").mkdir()
    create(tmp_path / "it.zarr", pictures.spec())
    assert_same_tree(tmp_path / "it.zarr", tree(dataset))


def test_bad_input_leaves_nothing(tmp_path, pictures, make_depth_model):
    path = tmp_path / "it.zarr"
    bad = onnx_models.not_a_number(tmp_path / "models/bad.onnx")
    for error, spec, options in (
        (SpecError, pictures.spec(), {"workers": 0}),
        (SpecError, pictures.spec(), {"workers": -1}),
        (SourceError, DatasetSpec(str(tmp_path / "none"), str(pictures.foregrounds)), {}),
        (SourceError, pictures.spec(width=8, height=40, foreground_height=40), {}),
        (DepthModelError, pictures.spec(depth=depth_of(tmp_path / "none.onnx")), {}),
        (DepthModelError, pictures.spec(depth=depth_of(bad)), {}),
    ):
        with pytest.raises(error):
            create(path, spec, **options)
        assert not path.exists()


# --- cut off and resumed ---------------------------------------------------------------------------


class Interrupt:
    """A callback that raises at the n-th progress event of a stage, as Ctrl-C does."""

    def __init__(self, stage, n, error=KeyboardInterrupt):
        self.stage, self.left, self.error = stage, n, error

    def __call__(self, event):
        if isinstance(event, Progress) and event.stage == self.stage:
            if self.left == 0:
                raise self.error
            self.left -= 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sources", "samples", "depth"])
@pytest.mark.parametrize("n", [0, 1])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(tmp_path, made, stage, n):
    spec, expected = made
    path = tmp_path / "again.zarr"
    with pytest.raises(KeyboardInterrupt):
        create_small(path, spec, on_event=Interrupt(stage, n))
    assert path.exists() == (stage != "sources")
    if path.exists():
        with refused(IncompleteDatasetError, "dataset-incomplete"):
            open_dataset(path)
    events = Events()
    report = create_small(path, spec, on_event=events)
    assert report.complete
    assert ("Resuming" in events.notices()) == (stage != "sources")
    first = events.progress("samples")[:1]
    assert report.created == 36 - (first[0].done if first else 36)
    assert_same_tree(path, expected)


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 1])
def test_interrupted_depth_is_resumed_to_the_same_bytes(tmp_path, made, n):
    spec, expected = made
    path = tmp_path / "again.zarr"
    create_small(path, DatasetSpec.from_dict({**spec.to_dict(), "depth": None}))
    with pytest.raises(KeyboardInterrupt):
        fill_depth_small(path, spec.depth, on_event=Interrupt("depth", n))
    with refused(IncompleteDatasetError, "dataset-incomplete"):
        open_dataset(path)
    assert open_dataset(path, allow_incomplete=True)[3].image.any()
    # Either command finishes it.
    report = create_small(path, spec) if n else fill_depth_small(path, spec.depth)
    assert report.complete
    assert_same_tree(path, expected)


@pytest.mark.slow
@pytest.mark.parametrize("error", [BrokenPipeError, RuntimeError])
def test_an_error_of_the_callback_is_the_callers_own_and_the_run_resumes(tmp_path, made, error):
    spec, expected = made
    with pytest.raises(error):
        create_small(tmp_path / "again.zarr", spec, on_event=Interrupt("samples", 1, error))
    create_small(tmp_path / "again.zarr", spec)
    assert_same_tree(tmp_path / "again.zarr", expected)


def edit(path, **fields):
    root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    root["attributes"]["fgbgpack"].update(fields)
    (path / "zarr.json").write_text(json.dumps(root), encoding="utf-8")


def shards(path, name):
    return sorted(p for p in (path / name / "c").rglob("*") if p.is_file())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        ("gone", "image"),
        ("gone", "mask"),
        ("gone", "depth"),
        ("empty", "image"),
        ("short", "mask"),
        ("short", "depth"),
        ("index", "image"),
        ("foreign", "depth"),
    ],
)
def test_missing_and_damaged_shards_of_an_unfinished_dataset_are_made_again(tmp_path, made, damage, name):
    spec, expected = made
    path = tmp_path / "made.zarr"
    document = open_dataset(path).document.to_dict()
    edit(
        path,
        complete=False,
        pixels={**document["pixels"], "complete": False},
        depth={**document["depth"], "complete": False},
    )
    shard = shards(path, name)[1]
    content = shard.read_bytes()
    if damage == "gone":
        shard.unlink()
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "short":
        shard.write_bytes(content[:-1])
    elif damage == "index":
        shard.write_bytes(content[:-10] + bytes([content[-10] ^ 4]) + content[-9:])
    else:
        shard.write_bytes(b"this is no shard" * 20)
    report = create_small(path, spec)
    assert 0 < (report.depth_filled if name == "depth" else report.created) < 36
    assert_same_tree(path, expected)


@pytest.mark.slow
def test_missing_metadata_placements_and_sources_of_an_unfinished_dataset_are_made_again(tmp_path, made):
    spec, expected = made
    path = tmp_path / "made.zarr"
    document = open_dataset(path).document.to_dict()
    edit(
        path,
        complete=False,
        pixels={**document["pixels"], "complete": False},
        depth={**document["depth"], "complete": False},
    )
    for name in ("image/zarr.json", "x/c/0", "flip/zarr.json", "sources/zarr.json", "depth/zarr.json"):
        (path / name).unlink()
    shutil.rmtree(path / "sources" / "foreground")
    report = create_small(path, spec)
    assert (report.created, report.depth_filled) == (0, 0)
    assert_same_tree(path, expected)


@pytest.mark.slow
def test_an_overwrite_that_is_cut_off_anywhere_leaves_something_that_resumes(tmp_path, made):
    spec, expected = made

    class Breaks(WrapperStore):
        """A store that cannot be reached any more after the n-th change of it."""

        left = 0

        def count(self):
            if self.left == 0:
                raise RuntimeError("gone")
            self.left -= 1

        async def set(self, key, value, byte_interval=None):
            self.count()
            await super().set(key, value)

        async def delete_dir(self, prefix):
            self.count()
            await super().delete_dir(prefix)

    other = DatasetSpec.from_dict({**spec.to_dict(), "seed": 5})
    create_small(tmp_path / "other.zarr", other)
    kept, asked_for = open_dataset(tmp_path / "other.zarr"), open_dataset(tmp_path / "made.zarr")
    for n in range(0, 60, 4):
        memory = MemoryStore()
        create_small(memory, other)
        store = Breaks(memory)
        store.left = n
        with refused(DatasetError, "io-failed", "gone"):
            create_small(store, spec, overwrite=True, workers=1)
        with open_dataset(memory) as dataset:
            # The old one stays until the new one takes its place.
            whole = dataset.document.spec == other
            compared = kept if whole else asked_for
            np.testing.assert_array_equal(dataset.image[:], compared.image[:])
            np.testing.assert_array_equal(dataset.mask[:], compared.mask[:])
        assert create_small(memory, spec, overwrite=True).complete
        found = {key: value.to_bytes() for key, value in memory._store_dict.items()}
        assert sorted(found) == sorted(expected)
        assert [key for key in found if found[key] != expected[key]] == []


# --- two at once, and no room ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_writer_is_refused(tmp_path, made):
    spec, expected = made
    path = tmp_path / "again.zarr"
    tried = []

    def second(event):
        if isinstance(event, Progress) and event.stage in ("samples", "depth"):
            for action in (
                lambda: create_small(path, spec),
                lambda: create_small(path, spec, overwrite=True),
            ):
                with refused(DatasetError, "dataset-locked"):
                    action()
                tried.append(event.stage)

    create_small(path, spec, on_event=second)
    assert {"samples", "depth"} <= set(tried)
    assert_same_tree(path, expected)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="folders of other systems have no such mode")
def test_a_dataset_in_a_folder_that_is_read_only_is_not_replaced(tmp_path, pictures):
    path = tmp_path / "it.zarr"
    create(path, pictures.spec())
    before = tree(path)
    path.chmod(0o500)
    if os.access(path, os.W_OK):
        pytest.skip("this user may write to all folders")
    with refused(DatasetError, "io-failed"):
        create(path, pictures.spec(seed=1), overwrite=True)
    assert_same_tree(path, before)
    assert [entry.name for entry in tmp_path.iterdir() if "it.zarr" in entry.name] == ["it.zarr"]
    path.chmod(0o700)
    assert create(path, pictures.spec(seed=1), overwrite=True).complete


@pytest.mark.skipif(os.name != "posix", reason="the lock is a POSIX one")
def test_a_writer_in_another_process_is_noticed_until_it_ends(tmp_path, pictures):
    path = tmp_path / "it.zarr"
    create(path, pictures.spec())
    before = tree(path)
    script = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        with refused(DatasetError, "dataset-locked"):
            create(path, pictures.spec(seed=1), overwrite=True)
        assert_same_tree(path, before)
        assert len(open_dataset(path)) == 36
        other.kill()
    assert create(path, pictures.spec(seed=1), overwrite=True).complete


@pytest.mark.skipif(os.name != "posix", reason="the lock is a POSIX one")
def test_where_the_file_system_has_no_locks_a_file_beside_the_dataset_is_one(tmp_path, pictures, monkeypatch):
    import fcntl

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def other(event):
        if isinstance(event, Progress) and event.stage == "samples":
            with refused(DatasetError, "dataset-locked", f"It is process {os.getpid()} on"):
                create(tmp_path / "it.zarr", pictures.spec())

    monkeypatch.setattr(fcntl, "flock", flock)
    create(tmp_path / "it.zarr", pictures.spec(), on_event=other)
    assert names_in(tmp_path) == ["it.zarr"]


class Full(WrapperStore):
    """A store with room for so many bytes."""

    room = 0

    async def set(self, key, value, byte_interval=None):
        if len(value) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(value)
        await super().set(key, value)


@pytest.mark.slow
def test_a_full_store_is_said_so_and_the_run_resumes(made):
    spec, expected = made
    total = sum(map(len, expected.values()))
    memory = MemoryStore()
    for room in (0, total // 4, total // 2):
        store = Full(memory)
        store.room = room
        with refused(DatasetError, "disk-full"):
            create_small(store, spec, workers=2)
    create_small(memory, spec)
    found = {key: value.to_bytes() for key, value in memory._store_dict.items()}
    assert sorted(found) == sorted(expected)
    assert [key for key in found if found[key] != expected[key]] == []


@pytest.mark.slow
@needs_small_disk
def test_a_full_disk_is_said_so_and_the_run_resumes(tmp_path, made):
    spec, expected = made
    with small_disk(tmp_path / "disk", "120k") as enlarge:
        path = tmp_path / "disk/it.zarr"
        with refused(DatasetError, "disk-full"):
            create_small(path, spec)
        assert not [p for p in tree(path) if p.endswith(".partial")]
        enlarge()
        create_small(path, spec)
        assert_same_tree(path, expected)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the limit is a POSIX one")
def test_files_that_may_not_grow_are_a_dataset_error(tmp_path, made):
    spec, expected = made
    script = (
        "import json, resource, signal, sys\n"
        "from fgbgpack import DatasetError, DatasetSpec, create\n"
        "from fgbgpack.storage.layout import LayoutPolicy\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))\n"
        "spec, layout = map(json.loads, sys.argv[2:])\n"
        "try: create(sys.argv[1], DatasetSpec.from_dict(spec), layout=LayoutPolicy(**layout))\n"
        "except DatasetError as error: print('DatasetError', error)\n"
    )
    path = tmp_path / "again.zarr"
    done = subprocess.run(
        [sys.executable, "-c", script, path, json.dumps(spec.to_dict()), json.dumps(asdict(SMALL_SHARDS))],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith("DatasetError"), done.stdout + done.stderr
    assert "File too large" in done.stdout
    assert path.exists()
    create_small(path, spec)
    assert_same_tree(path, expected)


def test_a_store_that_loses_shards_is_noticed(pictures):
    class Forgetful(WrapperStore):
        async def set(self, key, value, byte_interval=None):
            if not key.startswith("mask/c/"):
                await super().set(key, value)

    with refused(DatasetError, "shards-lost"):
        create(Forgetful(MemoryStore()), pictures.spec())


# --- depth -----------------------------------------------------------------------------------------


def unrounded(model, images):
    """What the network itself says of a batch (n, h, w, 3), by ONNX Runtime alone: (n, h, w) float32."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    return session.run(None, {"input": planes})[0][:, 0]


@pytest.mark.parametrize("bits", [4, 9, 10])
def test_stored_depth_is_what_the_network_says_up_to_the_declared_error(
    tmp_path, pictures, depth_model, bits
):
    path = tmp_path / "it.zarr"
    create(path, pictures.spec(depth=depth_of(depth_model, bits=bits)))
    ds = open_dataset(path)
    depth = ds.depth[:].astype(np.float64)
    expected = unrounded(depth_model, ds.image[:]).astype(np.float64)
    attributes = dict(ds.depth.attrs)
    assert attributes["quantity"] == "inverse_depth"
    assert attributes["unit"] is None
    rounding = attributes["rounding"]
    extent = depth.max() - depth.min()
    error = np.abs(depth - expected).max() / extent
    slack = 1e-5  # of the network's own arithmetic, in batches of another size
    assert error <= rounding["largest_error"] + slack
    assert error > rounding["largest_error"] / 2, "the declared error is near the real one"
    assert rounding["largest_error"] <= 2.0 ** -(bits + 1) * 1.1
    step = ds.document.depth.step
    assert step == rounding["step"]
    assert np.log2(step) % 1 == 0
    assert (depth / step % 1 == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_depth_is_rendered_from_the_originals_at_its_scale(tmp_path, pictures, scale):
    # A network that answers with the red channel shows what it was given.
    model = onnx_models.echo(tmp_path / "models/echo.onnx")
    spec = pictures.spec(depth=depth_of(model, scale=scale, bits=10))
    create(tmp_path / "it.zarr", spec)
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.document.depth.scale == scale
    large = load_catalog(
        find_sources(pictures.backgrounds, pictures.foregrounds),
        height=21,
        width=33,
        fit="crop",
        foreground_height=10,
        scale=scale,
    )
    depth = ds.depth[:].astype(np.float64)
    tolerance = ds.depth.attrs["rounding"]["largest_error"] * (depth.max() - depth.min()) + 1e-4
    for i, image, _ in naive.samples(
        ds.placements, large.background, large.foreground, large.foreground_size, scale
    ):
        red = image[..., 0].astype(np.float64).reshape(21, scale, 33, scale).mean(axis=(1, 3))
        assert np.abs(depth[i] - red).max() <= tolerance
    if scale > 1:
        small = ds.image[:][..., 0].astype(np.float64)
        assert np.abs(depth - small).max() > 10 * tolerance, "it is not the stored picture made larger"


@pytest.mark.slow
def test_depth_of_another_scale_later_wants_the_same_originals(tmp_path, own_pictures, depth_model):
    path = tmp_path / "it.zarr"
    create(path, own_pictures.spec())
    before = tree(path)
    spare = shutil.copytree(own_pictures.root, tmp_path / "spare")

    shutil.rmtree(own_pictures.backgrounds)
    with refused(SourceError, "originals-missing", "--backgrounds"):
        fill_depth(path, depth_of(depth_model, scale=2))
    own_pictures.backgrounds.mkdir()
    own_pictures.background("b0.png", 40, 60, seed=0)
    own_pictures.background("b1.png", 40, 60, seed=99)
    with pytest.raises(SourceError) as caught:
        fill_depth(path, depth_of(depth_model, scale=2))
    assert any("b1.png" in problem and "not the file" in problem for problem in caught.value.problems)
    assert any("b2.png" in problem and "not there" in problem for problem in caught.value.problems)
    assert len(caught.value.problems) == 2
    assert_same_tree(path, before)

    # More pictures beside the right ones do no harm, nor do the originals matter at scale 1.
    Pictures(tmp_path / "extra", 1, 1)
    shutil.copy(tmp_path / "extra/bg/b0.png", spare / "bg/a.png")
    fill_depth(path, depth_of(depth_model, scale=2), backgrounds=spare / "bg", foregrounds=spare / "fg")
    twice = open_dataset(path).depth[:]
    fill_depth(path, depth_of(depth_model, scale=1), overwrite=True)
    once = open_dataset(path).depth[:]
    assert not np.array_equal(once, twice)
    np.testing.assert_allclose(once, unrounded(depth_model, open_dataset(path).image[:]), atol=0.05)


@pytest.mark.slow
def test_the_depth_of_another_model_is_replaced_only_with_overwrite(tmp_path, made, make_depth_model):
    spec, expected = made
    path = tmp_path / "made.zarr"
    other = depth_of(make_depth_model(name="other", seed=1, quantity="depth", unit="m"))
    with refused(RecipeMismatchError, "dataset-differs"):
        fill_depth_small(path, other)
    assert_same_tree(path, expected)
    report = fill_depth_small(path, other, overwrite=True)
    assert (report.created, report.depth_filled, report.depth_model) == (0, 36, "other")
    create_small(tmp_path / "fresh.zarr", DatasetSpec.from_dict({**spec.to_dict(), "depth": vars(other)}))
    assert_same_tree(path, tree(tmp_path / "fresh.zarr"))
    ds = open_dataset(path)
    assert (ds.depth.attrs["quantity"], ds.depth.attrs["unit"]) == ("depth", "m")


@pytest.mark.slow
def test_replacing_depth_when_cut_off_never_mixes_two_models(tmp_path, made, make_depth_model):
    spec, expected = made
    path = tmp_path / "made.zarr"
    other = depth_of(make_depth_model(name="other", seed=1))
    with pytest.raises(KeyboardInterrupt):
        fill_depth_small(path, other, overwrite=True, on_event=Interrupt("depth", 1))
    # The old depth is whole until the new one is; that goes on where it was stopped.
    assert_same_tree(path, expected)
    shutil.copytree(path, tmp_path / "copy.zarr")
    assert 0 < fill_depth_small(path, other, overwrite=True).depth_filled < len(open_dataset(path))
    fill_depth_small(tmp_path / "copy.zarr", other, overwrite=True)
    assert_same_tree(path, tree(tmp_path / "copy.zarr"))
    with pytest.raises(KeyboardInterrupt):
        fill_depth_small(path, spec.depth, overwrite=True, on_event=Interrupt("depth", 1))
    # Who does not want it any more has what was there.
    assert fill_depth_small(path, other).depth_filled == 0
    assert_same_tree(path, tree(tmp_path / "copy.zarr"))
    assert not list(tmp_path.glob(".made.zarr*"))


@pytest.mark.slow
def test_a_model_that_gives_no_numbers_leaves_the_old_depth_alone(tmp_path, made):
    _, expected = made
    path = tmp_path / "made.zarr"
    bad = depth_of(onnx_models.not_a_number(tmp_path / "models/bad.onnx"))
    with pytest.raises(DepthModelError):
        fill_depth_small(path, bad, overwrite=True)
    assert_same_tree(path, expected)
    with pytest.raises(DepthModelError):
        fill_depth_small(path, depth_of(tmp_path / "models/none.onnx"), overwrite=True)
    assert_same_tree(path, expected)


@pytest.mark.slow
def test_a_model_that_fails_midway_is_an_error_and_another_one_can_follow(tmp_path, depth_model):
    pictures = Pictures(tmp_path / "pictures", backgrounds=80, foregrounds=1)
    for i in range(80):
        pixels = np.full((40, 60, 3), 255 if i == 40 else 90, np.uint8)
        pixels[i % 40, i % 60] = i
        Image.fromarray(pixels).save(pictures.backgrounds / f"b{i}.png")
    path = tmp_path / "it.zarr"
    afraid = depth_of(onnx_models.afraid_of_light(tmp_path / "models/afraid.onnx"))
    create_small(path, pictures.spec(placements=1, foreground_height=3))
    with refused(DepthModelError, "network-output-not-finite"):
        fill_depth_small(path, afraid)
    ds = open_dataset(path, allow_incomplete=True)
    assert ds.document.pixels.complete
    fill_depth_small(path, depth_of(depth_model), overwrite=True)
    assert np.isfinite(open_dataset(path).depth[:]).all()


def test_depth_wants_whole_images(tmp_path, pictures, depth_model):
    path = tmp_path / "it.zarr"
    with pytest.raises(DatasetError):
        fill_depth(path, depth_of(depth_model))
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt):
        create(path, pictures.spec(), on_event=Interrupt("samples", 0))
    before = tree(path)
    with refused(DatasetError, "dataset-incomplete", "fgbgpack create"):
        fill_depth(path, depth_of(depth_model))
    assert_same_tree(path, before)


def test_a_local_store_is_the_same_as_its_path(tmp_path, pictures, dataset):
    create(LocalStore(tmp_path / "it.zarr"), pictures.spec())
    assert_same_tree(tmp_path / "it.zarr", tree(dataset))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["samples", "depth"])
def test_shards_of_another_layout_are_refused_and_replaced(tmp_path, pictures, depth_model, stage):
    spec = pictures.spec(depth=depth_of(depth_model))
    whole = create(tmp_path / "whole.zarr", spec)

    def stop(event):
        if isinstance(event, Progress) and event.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_small(tmp_path / "it.zarr", spec, on_event=stop)
    with refused(RecipeMismatchError, "dataset-differs", "another version"):
        create(tmp_path / "it.zarr", spec)
    if stage == "depth":
        with refused(RecipeMismatchError, "dataset-differs", "another version"):
            fill_depth(tmp_path / "it.zarr", spec.depth)
    assert create(tmp_path / "it.zarr", spec, overwrite=True).created == whole.samples
    assert tree(tmp_path / "it.zarr") == tree(tmp_path / "whole.zarr")


def test_a_link_to_nothing_is_no_place_for_a_dataset(pictures, tmp_path):
    link = tmp_path / "link.zarr"
    link.symlink_to(tmp_path / "nowhere")
    for action in (lambda: create(link, pictures.spec()), lambda: open_dataset(link)):
        with pytest.raises(DatasetError, match="nowhere, which is not there") as caught:
            action()
        assert caught.value.code == "target-is-broken-link"
    (tmp_path / "nowhere").mkdir()
    create(link, pictures.spec())
    assert (tmp_path / "nowhere/zarr.json").is_file()
