"""Several datasets in each batch, by proportion."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated_sets import Coco
from builders import Pictures
from hypothesis import given
from hypothesis import strategies as st
from tensors import SAMPLES, check

from fgbgpack import SpecError, create, open_dataset
from fgbgpack.augment import Augment
from fgbgpack.pipeline import ImportSpec, import_folder
from fgbgpack.torch import FgBgDataset, FgBgMixture, make_loader
from fgbgpack.torch.mixture import shares


@given(size=st.integers(1, 200), weights=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
def test_shares_are_in_proportion(size: int, weights: list[float]) -> None:
    if size < len(weights):
        with pytest.raises(SpecError):
            shares(size, weights)
        return
    counts = shares(size, weights)
    assert sum(counts) == size
    assert min(counts) >= 1
    exact = np.array(weights) / sum(weights) * size
    if exact.min() >= 1:
        assert np.abs(counts - exact).max() < 1


@pytest.mark.parametrize("weights", [[0.7, 0], [1, -1], [1, math.inf], [1, True], [1, "2"], [1], [1, 2, 3]])
def test_what_is_no_proportion_is_refused(path: Path, weights: Any) -> None:
    with pytest.raises(SpecError) as caught:
        make_loader([path, path], 10, workers=0, weights=weights)
    assert caught.value.code == "option-invalid"


def parts(path: Path) -> list[FgBgDataset]:
    return [FgBgDataset(path, indices=range(80)), FgBgDataset(path, indices=range(80, 120))]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_batch_has_samples_of_all(path: Path, truth: Any, workers: int) -> None:
    loader = make_loader(
        parts(path), 10, weights=[0.7, 0.3], workers=workers, seed=1, window=2, drop_last=True
    )
    assert isinstance(loader, FgBgMixture)
    assert len(loader) == SAMPLES // 10
    seen: list[list[int]] = [[], []]
    for epoch in range(3):
        assert loader.epoch == epoch
        batches = list(loader)
        assert len(batches) == len(loader)
        for batch in batches:
            check(batch, truth)
            assert batch["dataset"].tolist() == [0] * 7 + [1] * 3
            for number in (0, 1):
                seen[number] += batch["index"][batch["dataset"] == number].tolist()
    # All samples of a dataset come once before one comes again; a remainder is left out.
    assert len(set(seen[0][:77])) == 77
    assert len(set(seen[1][:39])) == 39
    assert set(seen[0]) == set(range(80))
    assert set(seen[1]) == set(range(80, 120))


def test_it_resumes_and_ranks_share(path: Path) -> None:
    options = {"weights": [0.5, 0.5], "workers": 0, "window": 2}
    whole = make_loader(parts(path), 8, **options)
    expected = [batch["index"].tolist() for batch in itertools.chain(whole, whole)]
    first = make_loader(parts(path), 8, **options)
    _ = list(itertools.islice(first, 4))
    second = make_loader(parts(path), 8, **options)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [batch["index"].tolist() for batch in itertools.chain(second, second)] == expected[4:]
    ranks = [make_loader(parts(path), 8, rank=rank, world_size=2, **options) for rank in range(2)]
    # In five batches of four samples each rank has its half of the smaller dataset.
    taken = [[i for batch in itertools.islice(rank, 5) for i in batch["index"].tolist()] for rank in ranks]
    assert len(taken[0]) == len(taken[1]) == 40
    assert not set(taken[0]) & set(taken[1])
    other = make_loader([path], 8, workers=0)
    with pytest.raises(SpecError) as caught:
        other.load_state_dict(first.state_dict())
    assert caught.value.code == "state-differs"


def test_samples_must_be_alike(path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        make_loader([FgBgDataset(path, fields="mask"), FgBgDataset(path, fields="image")], 8, workers=0)
    assert caught.value.code == "samples-differ"
    # Fields that nobody has named give way to those that somebody has.
    some = make_loader([FgBgDataset(path), FgBgDataset(path, fields="image")], 8, workers=0)
    assert some.fields == ("image",)
    with pytest.raises(SpecError) as caught:
        make_loader(path, 8, workers=0, weights=[1.0])
    assert caught.value.code == "options-conflict"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported set: a person and a dog in one picture, a group in the other; no depth."""
    root = tmp_path_factory.mktemp("real")
    import_folder(root / "real.zarr", ImportSpec(str(Coco().write(root / "coco"))))
    return root / "real.zarr"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 scenes of one to three chairs and persons, of the same size."""
    root = tmp_path_factory.mktemp("made")
    pictures = Pictures(root / "pictures")
    for name, category in (("f0.png", "chair"), ("f1.png", "person")):
        (pictures.foregrounds / category).mkdir()
        (pictures.foregrounds / name).rename(pictures.foregrounds / category / name)
    size = {"width": 30, "height": 20, "foreground_height": "6-10"}
    create(root / "made.zarr", pictures.spec(samples=12, objects="1-3", classes=True, **size))
    return root / "made.zarr"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_real_beside_made_has_one_set_of_fields(real: Path, made: Path, workers: int) -> None:
    options = {"weights": [1, 3], "workers": workers, "seed": 3, "steps_per_epoch": 3, "placements": True}
    loader = make_loader([real, made], 8, **options)
    assert loader.counts == (2, 6)
    assert loader.fields == ("image", "mask", "instance")
    assert loader.categories == ("dog", "person", "chair")
    datasets = open_dataset(real), open_dataset(made)
    seen = 0
    for batch in itertools.chain(loader, loader):
        pictures = {"image", "mask", "instance", "index", "dataset"}
        assert set(batch) == pictures | {"objects/category", "objects/box"}
        assert batch["dataset"].tolist() == [0] * 2 + [1] * 6
        assert batch["objects/category"].shape == (8, 3)
        assert batch["objects/box"].shape == (8, 3, 4)
        of_samples = zip(batch["dataset"].tolist(), batch["index"].tolist(), strict=True)
        for place, (number, index) in enumerate(of_samples):
            ds = datasets[number]
            np.testing.assert_array_equal(batch["instance"][place, 0].numpy(), ds.instance[index])
            stored, count = ds.objects.category[index], int(ds.objects.count[index])
            names = [loader.categories[k] for k in batch["objects/category"][place, :count].tolist()]
            assert names == [ds.categories[k] for k in stored[:count]]
            assert (batch["objects/category"][place, count:] == -1).all()
            box = batch["objects/box"][place].numpy()
            np.testing.assert_array_equal(box[:count], ds.objects.box[index, :count])
            assert (batch["objects/box"][place, count:] == -1).all()
            seen += 1
    assert seen == 2 * 3 * 8


@pytest.mark.slow
def test_real_beside_made_is_the_same_again_and_resumes(real: Path, made: Path) -> None:
    def loader(**more: Any) -> FgBgMixture:
        parts = [
            FgBgDataset(real, augment=Augment(size=(16, 16), seed=4), placements=True),
            FgBgDataset(made, augment=Augment(size=(16, 16), seed=4), placements=True, fresh=True),
        ]
        return make_loader(parts, 6, weights=[1, 2], workers=0, steps_per_epoch=4, seed=2, **more)

    def as_bytes(batches: Any) -> list[bytes]:
        return [b"".join(batch[name].numpy().tobytes() for name in sorted(batch)) for batch in batches]

    whole = loader()
    expected = as_bytes(itertools.chain(whole, whole))
    again = loader()
    assert as_bytes(itertools.chain(again, again)) == expected
    first = loader()
    _ = list(itertools.islice(first, 3))
    second = loader()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert as_bytes(itertools.chain(second, second)) == expected[3:]
    ranks = [loader(rank=rank, world_size=2) for rank in range(2)]
    for batch in itertools.chain(*ranks):
        assert torch.bincount(batch["dataset"]).tolist() == [2, 4]


def test_a_field_that_one_dataset_lacks(real: Path, made: Path, tmp_path: Path, path: Path) -> None:
    for fields in (["image", "depth"], ["image", "background_image"]):
        with pytest.raises(SpecError) as caught:
            make_loader([made, real], 4, workers=0, fields=fields)
        assert caught.value.code == "samples-invalid"
    with pytest.raises(SpecError, match="instance") as caught:
        make_loader([FgBgDataset(made, fields=["image", "instance"]), FgBgDataset(path)], 4, workers=0)
    assert caught.value.code == "samples-differ"
    with pytest.raises(SpecError) as caught:
        make_loader([FgBgDataset(made, placements=True), FgBgDataset(real)], 4, workers=0)
    assert caught.value.code == "samples-differ"


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("weights", [[1, 5], [7, 1]])
def test_every_batch_has_the_same_proportion(path: Path, ranks: int, weights: list[float]) -> None:
    """Also where a dataset has fewer samples than a batch has of it, or ends within an epoch."""
    datasets = [FgBgDataset(path, fields="mask", indices=range(5)), FgBgDataset(path, indices=range(20, 61))]
    options = {"weights": weights, "steps_per_epoch": 5, "world_size": ranks, "window": 1}
    options |= {"workers": 0, "prefetch": 0}
    loaders = [make_loader(datasets, 12, rank=rank, **options) for rank in range(ranks)]
    counts = shares(12, weights)
    taken: list[list[int]] = [[], []]
    for loader in loaders:
        assert loader.counts == tuple(counts)
        for batch in itertools.chain(loader, loader, loader):
            assert torch.bincount(batch["dataset"]).tolist() == counts
            for number in (0, 1):
                taken[number] += batch["index"][batch["dataset"] == number].tolist()
    often = np.bincount(taken[0], minlength=5)
    assert often.sum() == 15 * ranks * counts[0]
    assert often.min() > 0
    if counts[0] * ranks > 5:
        # In each pass they come equally often: only of the last one a part was gone through.
        assert np.ptp(often) <= counts[0] * ranks
    assert set(taken[1]) <= set(range(20, 61))
