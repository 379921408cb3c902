"""Any file of a dataset, damaged in every way that a seed comes upon: it is found, or does no harm.

What is damaged, how, and what then reads it is in ``any_damage.py``. A failure names the number of the
damage: ``python any_damage.py read SEED NUMBER 1`` makes it again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import any_damage
import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of memory on Windows"),
    pytest.mark.slow,
]

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
OF_ZARR, OF_HDF5, OF_REPAIR = (40, 3000), (30, 1000), (16, 600)


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
    assert ran.returncode == 0, ran.stderr[-5000:]
    found = json.loads(ran.stdout)
    assert found["wrong"] == []
    assert sum(found["counts"].values()) == count
    return Counter(found["counts"])


def of_kinds(kinds) -> list[tuple[Path, list[Path]]]:
    return [(kinds[kind], [kinds[other] for other in others]) for kind, others in ZARR.items()]


def test_damage_to_any_file_of_a_dataset_is_found_or_does_no_harm(kinds, all_faults, count_faults):
    found = damaged("read", of_kinds(kinds), 1, OF_ZARR[all_faults])
    count_faults("damages of any file of a dataset", found)
    assert sum(found[what] for what in found if what.startswith("detected")) > OF_ZARR[all_faults] // 2


def test_damage_to_an_hdf5_file_is_found_or_does_no_harm(kinds, all_faults, count_faults):
    datasets = [
        (kinds.hdf5(kind, form), [kinds.hdf5(other, form) for other in others])
        for (kind, form), others in HDF5.items()
    ]
    found = damaged("read", datasets, 2, OF_HDF5[all_faults])
    count_faults("damages of HDF5 files", found)
    assert sum(found[what] for what in found if what.startswith("detected")) > OF_HDF5[all_faults] // 4


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
