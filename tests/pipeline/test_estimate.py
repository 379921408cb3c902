"""An estimate for many machines counts what a dataset has, whether or not there can be such a dataset."""

from __future__ import annotations

import json
import sys

import pytest
from builders import SMALL_SHARDS, Pictures, depth_of

from fgbgpack import create, estimate, open_dataset
from fgbgpack.pipeline.scale import Assumptions
from fgbgpack.spec import MOST_SAMPLES
from fgbgpack.storage.reading.threads import usable_cores


@pytest.mark.slow
@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("depth", ["none", "per sample", "guided", "layered"])
@pytest.mark.parametrize("is_scene", [False, True])
def test_objects_and_index_are_those_of_the_dataset(
    tmp_path, pictures, depth_model, guide_model, depth, is_scene, virtual
):
    modes = {"none": None, "per sample": depth_of(depth_model)}
    modes["layered"] = depth_of(depth_model, mode="layered", scale=2)
    modes["guided"] = depth_of(depth_model, guide=str(guide_model), scale=2)
    scene = {"samples": 60, "objects": "1-3", "placement": "anchored"} if is_scene else {}
    spec = pictures.spec(chunk=4, depth=modes[depth], **scene)
    found = estimate(spec, workers=2, layout=SMALL_SHARDS, virtual=virtual).scale
    create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS, virtual=virtual)
    files = [file for file in (tmp_path / "it.zarr").rglob("*") if file.is_file()]
    assert found.objects == len(files)
    manifest = open_dataset(tmp_path / "it.zarr").document.manifest
    assert manifest is not None
    assert found.manifest_bytes == 4 * sum(entry.chunks for entry in manifest.arrays.values())
    assert 0.7 < found.document_bytes / (tmp_path / "it.zarr/zarr.json").stat().st_size < 1.4
    names = [] if virtual else ["samples"]
    assert [stage.name for stage in found.stages] == names + (["depth"] if modes[depth] else [])


@pytest.mark.parametrize("most", [MOST_SAMPLES, 2**31 - 1])
def test_there_may_be_more_samples_than_a_dataset_can_hold(tmp_path, monkeypatch, most):
    for module in ("estimate", "scale"):
        monkeypatch.setattr(sys.modules[f"fgbgpack.pipeline.{module}"], "MOST_SAMPLES", most)
    pictures = Pictures(tmp_path / "many", backgrounds=36, foregrounds=30)
    few, many = pictures.spec(placements=20), pictures.spec(placements=1_000_000)
    found = estimate(many, workers=1000)
    assert found.samples == 36 * 30 * 2 * 1_000_000 > 2**31
    assert found.scale.stages[0].shards * found.scale.stages[0].samples_per_shard >= found.samples
    is_too_many = any("samples are more than the" in line for line in found.scale.limits)
    assert is_too_many == (found.samples > most)
    # Bytes are of all samples, as measured on those that can be.
    assert found.bytes["image"] / found.samples < 3 * estimate(few).bytes["image"] / estimate(few).samples
    assert found.to_dict() == json.loads(json.dumps(found.to_dict()))


def test_more_workers_than_cores_are_those_of_a_cluster(pictures):
    many = 50 * usable_cores()
    found = estimate(pictures.spec(), workers=many, out="s3://bucket/it.zarr")
    assert (found.scale.workers, found.scale.is_cluster) == (many, True)
    assert found.scale.puts > found.scale.objects
    assert found.scale.start_seconds > 5
    for out in ("it.zarr", "file:///folder/it.zarr"):
        here = estimate(pictures.spec(), workers=usable_cores(), out=out)
        assert (here.scale.is_cluster, here.scale.puts) == (False, 0)


def test_what_is_assumed_counts(pictures):
    slow = estimate(pictures.spec(), workers=1000, assume=Assumptions(start_seconds=1e4, core_speed=0.5))
    assert slow.seconds > 1e4
    assert slow.scale.money.cores is None
    paid = estimate(pictures.spec(), workers=1000, assume=Assumptions(price_core_hour=2.0))
    assert paid.scale.money.cores == pytest.approx(2.0 * paid.scale.core_hours)
