"""``create`` killed with SIGKILL at random moments, again and again, and resumed each time.

Every run is a real process with everything a user's run has but the time it takes to import: they are forked
from a server process that has imported all and started nothing.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from builders import Pictures, depth_of, tree
from children import make_dataset, replace_depth
from killed_runs import Run
from PIL import Image
from sealing import is_manifest

from fgbgpack import open_dataset
from fgbgpack.errors import IncompleteDatasetError

#: How often runs are killed in each mode of depth; and when those of a dataset are, one after the other,
#: before one is left to finish it.
KILLS = {"per-sample": 20, "guided": 10, "scenes": 20, "standing": 20}
#: The same unless all faults are made.
FEW_KILLS = {"per-sample": 6, "guided": 6, "scenes": 3, "standing": 3}
STAGES = {
    "per-sample": ("samples", "start", "samples", "depth", "start", "depth"),
    "guided": ("samples", "backgrounds", "start", "backgrounds", "depth", "depth"),
    "scenes": ("samples", "start", "depth", "samples", "start", "depth"),
    "standing": ("samples", "start", "samples", "backgrounds", "depth", "depth"),
}
#: What scenes are made with, as many as of the other samples.
SCENES = {
    "samples": 768,
    "objects": "1-3",
    "empty": 0.1,
    "foreground_height": "12-50",
    "placement": "anchored",
    "blend": "soft,hard,feather",
    "overlap": 0.3,
    "light_match": True,
    "shadow": True,
}
#: The same of scenes whose whole figures stand on floors.
STANDING = {
    **SCENES,
    "samples": 384,
    "foreground_height": "10-60",
    "placement": "auto",
    "rotation": 8,
}
#: More runs than any machine should need.
RUNS = 150

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")


@pytest.fixture(scope="module")
def spec(tmp_path_factory, depth_model):
    pictures = Pictures(tmp_path_factory.mktemp("large"), 6, 4, size=(96, 128), patch=(60, 40))
    depth = depth_of(depth_model)
    return pictures.spec(width=96, height=64, foreground_height=40, placements=16, chunk=6, depth=depth)


@pytest.fixture(scope="module")
def guided_spec(spec, depth_model, guide_model):
    # At such a scale the backgrounds take a while too.
    return dataclasses.replace(spec, depth=depth_of(depth_model, guide=str(guide_model), scale=16))


@pytest.fixture
def standing_spec(spec, tmp_path):
    """Rooms with floors, seen by a network that takes what is bright for near."""
    pictures = Pictures(tmp_path / "rooms", 0, 3, size=(64, 96), patch=(60, 20))
    for i in range(6):
        brightness = 60 + np.maximum(0, np.arange(64) - 26 - i) * 4
        wall = np.broadcast_to(brightness[:, None, None], (64, 96, 3)).astype(np.uint8)
        Image.fromarray(wall).save(pictures.backgrounds / f"{i}.png")
    folders = {"backgrounds": str(pictures.backgrounds), "foregrounds": str(pictures.foregrounds)}
    network = onnx_models.gray(tmp_path / "gray.onnx")
    return dataclasses.replace(spec, **folders, **STANDING, depth=depth_of(network, mode="layered", scale=1))


def phase_of(path):
    """How far a killed run came: nothing, pixels, backgrounds or depth; and whether that is whole."""
    if not (path / "zarr.json").exists():
        return "nothing", False
    document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["fgbgpack"]
    depth = document["depth"]
    # The grid is measured once the backgrounds are through.
    is_of_backgrounds = depth and depth["mode"] in ("guided", "layered")
    phase = "backgrounds" if is_of_backgrounds and depth["step"] is None else "depth"
    return (phase if document["pixels"]["complete"] else "pixels"), document["complete"]


def check_killed(path, expected):
    """Whatever a kill leaves is right as far as it goes, and is not taken for whole."""
    phase, complete = phase_of(path)
    for name, content in tree(path).items() if path.exists() else ():
        # A shard that is there is complete. (A file that was being written has another name.)
        if "/c/" in name and not name.endswith(".partial") and not is_manifest(name):
            assert content == expected[name], name
    if phase != "nothing" and not complete:
        with pytest.raises(IncompleteDatasetError):
            open_dataset(path)
    return phase


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["per-sample", "guided", "scenes", "standing"])
def test_killed_at_random_and_resumed_it_is_the_same_to_the_last_byte(
    tmp_path, processes, spec, guided_spec, standing_spec, mode, all_faults, count_faults
):
    document = {"guided": guided_spec, "standing": standing_spec}.get(mode, spec).to_dict()
    document |= SCENES if mode == "scenes" else {}
    wanted = KILLS[mode] if all_faults else FEW_KILLS.get(mode, KILLS[mode])
    Run(
        processes, make_dataset, tmp_path / "whole.zarr", document, 2, False
    ).finish()  # It fills Numba's cache.
    expected = tree(tmp_path / "whole.zarr")
    with_backgrounds = mode in ("guided", "standing")
    phases = ("samples", "backgrounds", "depth") if with_backgrounds else ("samples", "depth")
    seconds = Run(processes, make_dataset, tmp_path / "again.zarr", document, 1, False).finish(*phases)
    check_whole(tmp_path / "again.zarr", expected)

    dice = random.Random(0)
    kills = Counter()
    made = 0
    stages = list(STAGES[mode][-wanted:])
    for _ in range(RUNS):
        path = tmp_path / f"{made}.zarr"
        # Floors are found by the network of the depth: without it the recipe is another one.
        depth_later = made % 2 == 1 and mode != "standing"
        one = Run(processes, make_dataset, path, document, dice.choice([1, 2, 3]), depth_later)
        stage = stages.pop(0) if stages else None
        if stage and (stage == "start" or one.reach(stage)):
            time.sleep(dice.uniform(0, 0.6) * seconds[stage])
            if one.kill():
                kills[check_killed(path, expected)] += 1
                continue
        else:
            one.process.join()
            assert one.kill() is False
        check_whole(path, expected)
        made += 1
        stages = list(STAGES[mode][-wanted:])
        if kills.total() >= wanted:
            break
    count_faults(f"kills of {mode} datasets, resumed to the same bytes, by what was there", kills)
    assert kills.total() >= wanted, kills
    if wanted == KILLS[mode]:
        assert kills["pixels"] > 0, kills
        assert kills["depth"] > 0, kills
        assert (kills["backgrounds"] > 0) == (mode == "guided") or mode == "standing", kills


def check_whole(path: Path, expected):
    found = tree(path)
    assert [name for name in found if name.endswith(".partial")] == []
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert open_dataset(path).complete


@pytest.mark.slow
def test_replacing_depth_killed_at_random_never_mixes_two_models(tmp_path, processes, spec, make_depth_model):
    path = tmp_path / "it.zarr"
    seconds = Run(processes, make_dataset, path, spec.to_dict(), 2, False).finish("samples", "depth")
    other = depth_of(make_depth_model(name="other", seed=1))
    fresh = {**spec.to_dict(), "depth": vars(other)}
    Run(processes, make_dataset, tmp_path / "fresh.zarr", fresh, 2, False).finish()
    expected = tree(tmp_path / "fresh.zarr")
    dice = random.Random(1)
    kills = 0
    for stage in ("start", "depth", "start", "depth", "depth"):
        one = Run(processes, replace_depth, path, other)
        if stage == "depth":
            one.reach(stage)
        time.sleep(dice.uniform(0, 0.6) * seconds[stage])
        kills += one.kill()
        document = open_dataset(path, allow_incomplete=True).document
        if document.depth is not None and document.depth.model["name"] == "other":
            for name, content in tree(path / "depth").items():
                if name.startswith("c/") and not name.endswith(".partial"):
                    assert content == expected[f"depth/{name}"], name
    one = Run(processes, replace_depth, path, other)
    one.process.join()
    assert one.kill() is False
    assert kills > 0
    check_whole(path, expected)
