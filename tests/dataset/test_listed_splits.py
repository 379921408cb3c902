"""Splits whose parts are lists of samples: kept as they are, in documents of bounded size."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from builders import Pictures
from hypothesis import given
from hypothesis import strategies as st

from fgbgpack import DatasetError, SpecError, create, open_dataset
from fgbgpack.dataset import listed_split
from fgbgpack.dataset.listed_split import ListedSplit, read_list
from fgbgpack.document import DIGEST
from fgbgpack.pipeline import merge


@pytest.fixture
def own(kinds, tmp_path):
    """The path of a dataset that a test may change."""
    return shutil.copytree(kinds["depth"], tmp_path / "own.zarr")


@given(st.sets(st.integers(0, 299), min_size=1), st.sets(st.integers(0, 299)))
def test_lists_survive_documents(first, second):
    parts = {"first": sorted(first), **({"second": sorted(second - first)} if second - first else {})}
    split = ListedSplit.of(parts, 300)
    again = ListedSplit.from_dict(json.loads(json.dumps(split.to_dict())), 300, "it")
    assert {name: samples.tolist() for name, samples in again.parts.items()} == parts


def test_runs_are_short():
    text = ListedSplit.of({"a": [9, 3, 4, 5, 0, 7], "b": range(10, 40)}, 50).to_dict()["samples"]
    assert text == {"a": "0,3:6,7,9", "b": "10:40"}


def test_a_list_is_saved_and_used(own):
    ds = open_dataset(own)
    saved = ds.save_split("mine", {"good": np.array([7, 5, 5, -1]), "bad": [0]})
    assert {name: samples.tolist() for name, samples in saved.items()} == {"good": [5, 7, 35], "bad": [0]}
    again = open_dataset(own)
    assert {name: samples.tolist() for name, samples in again.split("mine").items()} == {
        "good": [5, 7, 35],
        "bad": [0],
    }
    assert again.splits["mine"]["parts"] == {"good": 3 / 36, "bad": 1 / 36}
    assert again.read(again.split("mine")["good"]).image.shape[0] == 3


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ({"a": [1, 2], "b": [2]}, {}),
        ({"a": []}, {}),
        ({"a": [36]}, {}),
        ({"a": [0.5]}, {}),
        ({"a": [1], "b": 0.5}, {}),
        ({"a": [1]}, {"by": "background"}),
        ({"a": [1]}, {"seed": 1}),
        ({"a\n": [1]}, {}),
    ],
)
def test_lists_that_cannot_be_are_refused(own, parts, options):
    before = open_dataset(own).splits
    with pytest.raises(SpecError) as refused:
        open_dataset(own).save_split("mine", parts, **options)
    assert refused.value.code == "split-invalid"
    assert open_dataset(own).splits == before


def test_long_lists_are_refused(monkeypatch):
    monkeypatch.setattr(listed_split, "_MOST_RUNS", 3)
    assert len(ListedSplit.of({"a": [1, 3, 5]}, 9).parts["a"]) == 3
    with pytest.raises(SpecError, match="expected at most 3"):
        ListedSplit.of({"a": [1, 3, 5], "b": [7]}, 9)


@pytest.mark.parametrize("text", ["37", "5,4", "5:4", "3:3", "0:99", "1,1", "9999999999"])
def test_damaged_lists_are_said(own, text):
    open_dataset(own).save_split("mine", {"a": [1]})
    path = own / "zarr.json"
    root = json.loads(path.read_text(encoding="utf-8"))
    root["attributes"]["fgbgpack"]["splits"]["mine"]["samples"]["a"] = text
    root["attributes"].pop(DIGEST)
    path.write_text(json.dumps(root), encoding="utf-8")
    with pytest.raises(DatasetError) as refused:
        open_dataset(own).split("mine")
    assert refused.value.code in ("document-damaged", "digest-mismatch")


def test_files_of_numbers(tmp_path):
    np.save(tmp_path / "a.npy", np.array([3, 1], np.int32))
    (tmp_path / "a.txt").write_text("3\n1 2\n")
    assert read_list(tmp_path / "a.npy").tolist() == [3, 1]
    assert read_list(tmp_path / "a.txt").tolist() == [3, 1, 2]
    np.save(tmp_path / "b.npy", np.array([0.5]))
    np.save(tmp_path / "c.npy", np.zeros((2, 2), int))
    (tmp_path / "d.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-3])
    (tmp_path / "e.npy").write_bytes(b"")
    np.save(tmp_path / "f.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "b.txt").write_text("1\n-2\n")
    for name in ("b.npy", "c.npy", "d.npy", "e.npy", "f.npy", "b.txt"):
        with pytest.raises(ValueError):
            read_list(tmp_path / name)
    with pytest.raises(OSError):
        read_list(tmp_path / "nowhere.npy")


def test_merging_leaves_lists_out(tmp_path, pictures):
    other = Pictures(tmp_path / "other", backgrounds=1)
    other.background("new.png", 40, 60, seed=9)
    paths = []
    for name, made in (("a", pictures), ("b", other)):
        create(tmp_path / f"{name}.zarr", made.spec())
        paths.append(tmp_path / f"{name}.zarr")
    open_dataset(paths[0]).save_split("mine", {"a": [1]})
    merge(paths, tmp_path / "both.zarr")
    assert "mine" not in open_dataset(tmp_path / "both.zarr").splits
