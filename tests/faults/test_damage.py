"""Any file of a dataset, damaged in every way that a seed comes upon: it is found, or does no harm.

What is damaged, how, and what then reads it is in ``any_damage.py``. A failure names the number of the
damage: ``python any_damage.py read SEED NUMBER 1`` makes it again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import any_damage
import pytest
from builders import SMALL_SHARDS, assert_same_arrays, assert_same_files, depth_of
from refusals import refused
from sealing import edit_document
from stored import open_stored

from fgbgpack import fill_depth, open_dataset
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline import convert, repair, verify

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of memory on Windows")

#: Kinds of datasets, with those of which they may get files.
ZARR = {
    "plain": ("plain-older",),
    "depth": ("depth-older", "plain"),
    "guided": ("guided-older", "depth"),
    "banded": ("banded-older", "depth"),
    "split": ("depth", "depth-older"),
    "imported": ("imported-plain", "depth"),
    "imported-plain": ("imported",),
    "plain-virtual": ("plain", "plain-older"),
    "guided-virtual": ("guided", "guided-older"),
}
#: The same of HDF5 files, with their form. A portable one is in the oldest format of HDF5, without checksums
#: of its own; the others are in that of 1.10.
HDF5 = {
    ("depth", "normal"): ("depth-older", "plain"),
    ("depth", "portable"): ("depth-older", "plain"),
    ("guided", "normal"): ("guided-older",),
    ("imported", "portable"): ("imported-plain",),
    ("plain-virtual", "normal"): ("plain",),
    ("split", "portable"): ("depth",),
}
#: Damages that are made in ``make test``, and in ``make faults``.
OF_ZARR, OF_HDF5, OF_REPAIR = (30, 3000), (24, 1000), (12, 600)


def damaged(what: str, datasets: list[tuple[Path, list[Path]]], seed: int, count: int) -> Counter[str]:
    """Damage datasets so often, in a process of its own; how often that ended how."""
    told = [{"path": str(path), "others": [str(other) for other in others]} for path, others in datasets]
    ran = subprocess.run(
        [sys.executable, any_damage.__file__, what, str(seed), "0", str(count)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        input=json.dumps(told),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-1500:]
    found = json.loads(ran.stdout)
    assert found["wrong"] == []
    assert sum(found["counts"].values()) == count
    return Counter(found["counts"])


def of_kinds(kinds) -> list[tuple[Path, list[Path]]]:
    return [(kinds[kind], [kinds[other] for other in others]) for kind, others in ZARR.items()]


@pytest.mark.slow
def test_damage_to_any_file_of_a_dataset_is_found_or_does_no_harm(kinds, all_faults, count_faults):
    found = damaged("read", of_kinds(kinds), 1, OF_ZARR[all_faults])
    count_faults("damages of any file of a dataset", found)
    assert sum(found[what] for what in found if what.startswith("detected")) > OF_ZARR[all_faults] // 2


@pytest.mark.slow
def test_damage_to_an_hdf5_file_is_found_or_does_no_harm(kinds, all_faults, count_faults):
    datasets = [
        (kinds.hdf5(kind, form), [kinds.hdf5(other, form) for other in others])
        for (kind, form), others in HDF5.items()
    ]
    found = damaged("read", datasets, 2, OF_HDF5[all_faults])
    count_faults("damages of HDF5 files", found)
    assert sum(found[what] for what in found if what.startswith("detected")) > OF_HDF5[all_faults] // 4


@pytest.mark.slow
def test_what_is_damaged_is_given_back_as_it_was_or_named(kinds, all_faults, count_faults):
    found = damaged("repair", of_kinds(kinds), 3, OF_REPAIR[all_faults])
    count_faults("repairs of damaged datasets", found)
    assert found["given back"] > OF_REPAIR[all_faults] // 3


def test_damage_that_nothing_finds_would_be_told(kinds, tmp_path):
    """What these tests count is what they see: other values, foreign errors, and what verify overlooks."""
    whole, older = kinds["depth"], kinds["depth-older"]
    known = any_damage.Known()
    assert any_damage.read_outcome(whole, whole, [], known) == "harmless"
    assert any_damage.read_outcome(older, whole, [older], known) == "harmless: it is another dataset, whole"
    assert any_damage.read_outcome(older, whole, [], known).startswith("SILENT: other document, ")
    known[whole].pop("mask")
    assert any_damage.read_outcome(whole, whole, [], known) == "SILENT: other mask"
    assert any_damage.read_outcome(tmp_path / "none.zarr", whole, [], known) == "detected as it is opened"


# --- what no manifest covers -----------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "filled"), [("plain", "depth"), ("imported-plain", "imported")])
def test_depth_of_which_the_document_knows_nothing_is_not_read(kinds, tmp_path, kind, filled):
    path = shutil.copytree(kinds[kind], tmp_path / "it.zarr")
    shutil.copytree(kinds[filled] / "depth/c", path / "depth/c")
    chunks = sorted(
        file.relative_to(path).as_posix() for file in (path / "depth/c").rglob("*") if file.is_file()
    )
    ds = open_dataset(path)
    assert_same_arrays(ds.to_numpy(), open_dataset(kinds[kind]).to_numpy())
    with refused(DatasetError, "chunk-unexpected", r"it\.zarr/depth/c/0/0/0"):
        ds.depth[0]
    with refused(DatasetError, "chunk-unexpected", r"it\.zarr/depth/c/0/0/0"):
        convert(path, tmp_path / "it.h5")
    found = verify(path, accept=True)
    assert not found.accepted
    assert [(fault.code, fault.key) for fault in found.faults] == [
        ("chunk-unexpected", key) for key in chunks
    ]
    left = repair(path).left
    assert [one.fault.key for one in left] == chunks
    assert all("Delete it" in one.advice for one in left)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, loop])
@pytest.mark.parametrize("key", ["depth/c/0/0/0", "depth/c"])
def test_what_cannot_be_read_of_depth_that_is_not_filled_is_found(kinds, tmp_path, make, key):
    path = shutil.copytree(kinds["plain"], tmp_path / "it.zarr")
    (path / key).parent.mkdir(parents=True, exist_ok=True)
    make(path / key)
    is_harmless = make is os.mkdir and key == "depth/c"
    if not is_harmless:
        with pytest.raises(DatasetError, match=r"it\.zarr/depth/c"):
            open_dataset(path).depth[0]
    found = verify(path)
    assert found.sound == is_harmless
    assert {fault.array for fault in found.faults} <= {"depth"}
    assert repair(path).left_count == found.fault_count


def test_filling_depth_replaces_that_of_which_the_document_knows_nothing(kinds, tmp_path, depth_model):
    path = shutil.copytree(kinds["plain"], tmp_path / "it.zarr")
    shutil.copytree(kinds["guided"] / "depth/c", path / "depth/c")
    fill_depth(path, depth_of(depth_model), layout=SMALL_SHARDS)
    verify(path).check()
    assert_same_arrays(open_stored(path).to_numpy(), open_dataset(kinds["depth"]).to_numpy())


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": {"quantity": "depth", "unit": "m"}},
        {"attributes": {}},
        {"shape": [35, 21, 33]},
        {"fill_value": 0.0},
    ],
)
def test_metadata_of_depth_that_is_not_filled_are_checked(kinds, tmp_path, change):
    path = shutil.copytree(kinds["plain"], tmp_path / "it.zarr")
    node = json.loads((path / "depth/zarr.json").read_text(encoding="utf-8"))
    (path / "depth/zarr.json").write_text(json.dumps({**node, **change}), encoding="utf-8")
    with refused(DatasetError, "array-foreign", r"/depth"):
        open_dataset(path)
    assert {fault.key for fault in verify(path).faults} == {"depth/zarr.json"}
    assert repair(path).left_count == 0
    assert_same_files(path, kinds["plain"])


@pytest.mark.parametrize("name", ["manifest/zarr.json", "sources/zarr.json", "image/zarr.json"])
def test_metadata_that_are_too_deep_are_named_and_given_back(kinds, tmp_path, name):
    path = shutil.copytree(kinds["plain"], tmp_path / "it.zarr")
    (path / name).write_text('{"a":' * 100_000, encoding="utf-8")
    assert {fault.key for fault in verify(path).faults} == {name}
    assert repair(path).left_count == 0
    assert_same_files(path, kinds["plain"])


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["parts"].clear(),
        lambda manifest: manifest["parts"].append("00000000"),
        lambda manifest: manifest["arrays"]["mask"].update(first=0),
        lambda manifest: manifest["arrays"]["mask"].update(first=10**9),
        lambda manifest: manifest["arrays"]["mask"].update(chunks=10**9),
    ],
)
def test_a_manifest_that_does_not_add_up_is_an_error_of_the_dataset(kinds, tmp_path, change):
    path = shutil.copytree(kinds["plain"], tmp_path / "it.zarr")
    edit_document(path, lambda document: change(document["manifest"]))
    with refused(DatasetError, "document-damaged", r"it\.zarr"):
        open_dataset(path)
    assert "document-damaged" in {fault.code for fault in verify(path).faults}
    assert repair(path).left_count > 0


def test_a_spec_that_cannot_be_is_an_error_of_the_dataset(kinds, tmp_path):
    path = shutil.copytree(kinds["plain"], tmp_path / "it.zarr")
    edit_document(path, lambda document: document["spec"].update(foreground_height=50))
    for read in (open_dataset, verify, repair):
        with refused(DatasetError, "document-damaged", r"(?s)it\.zarr .*foreground_height: 50"):
            read(path)


@pytest.mark.parametrize("key", ["manifest/*/c/0", "manifest/*/zarr.json", "zarr.json"])
def test_nothing_is_written_through_a_link_to_another_file(kinds, tmp_path, key):
    """Another dataset's, or one in a cache of versions, of which a link was made."""
    path = tmp_path / "it.zarr"
    shutil.copytree(kinds["imported"], path)
    (file,) = path.glob(key)
    content, other = file.read_bytes(), tmp_path / "elsewhere"
    other.write_bytes(content if key == "zarr.json" else b"something else")
    before = other.read_bytes()
    file.unlink()
    file.symlink_to(other)
    if key == "zarr.json":
        with open_dataset(path) as dataset:
            dataset.save_split("fair", {"train": 0.5, "test": 0.5})
    else:
        assert repair(path).left_count == 0
        assert file.read_bytes() == content
    assert not file.is_symlink()
    assert other.read_bytes() == before
    assert verify(path).sound
