"""Several datasets in each batch, by proportion."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensors import SAMPLES, check

from fgbgpack import SpecError
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
        make_loader([FgBgDataset(path), FgBgDataset(path, fields="image")], 8, workers=0)
    assert caught.value.code == "samples-differ"
    with pytest.raises(SpecError) as caught:
        make_loader(path, 8, workers=0, weights=[1.0])
    assert caught.value.code == "options-conflict"
