"""Numbers and truth values of Python, NumPy, torch and pandas, wherever options and indices take them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refused

from fgbgpack import DatasetSpec, SpecError, open_dataset
from fgbgpack.options import checked_flags, checked_numbers, truth, whole_number

pd = pytest.importorskip("pandas", reason="pandas is in the extra dev")
torch = pytest.importorskip("torch", reason="PyTorch is in the extra dev")

NUMBERS = [7, np.int64(7), np.uint8(7), np.array(7), torch.tensor(7), torch.tensor(7, dtype=torch.uint8)]
TRUE = [True, np.True_, np.array(True), torch.tensor(True)]
OTHERS = [None, 7.0, np.float32(1), "7", "yes", [7], [True], np.array([7]), torch.tensor([True]), (), {}]


@pytest.mark.parametrize("value", NUMBERS)
def test_whole_numbers(value: Any) -> None:
    number = whole_number(value)
    assert (number, type(number), truth(value)) == (7, int, None)


@pytest.mark.parametrize("value", TRUE)
def test_truth_values(value: Any) -> None:
    assert (truth(value), whole_number(value)) == (True, None)


@pytest.mark.parametrize("value", OTHERS)
def test_neither(value: Any) -> None:
    assert truth(value) is whole_number(value) is None


def test_all_that_is_wrong_is_named() -> None:
    assert checked_numbers({"a": (np.int8(3), 0, 9)}, "Wrong:") == [3]
    with refused(SpecError, "option-invalid") as caught:
        checked_numbers({"a": (9, 0, 9), "b": (True, 0, 9), "c": (3, 0, 9)}, "Wrong:")
    assert [problem.split(",")[0] for problem in caught.value.problems] == ["a: found 9", "b: found True"]
    assert checked_flags(a=np.False_, b=True) == [False, True]
    with refused(SpecError, "option-invalid") as caught:
        checked_flags(a="no", b=True, c=1)
    assert [problem.split(",")[0] for problem in caught.value.problems] == ["a: found 'no'", "c: found 1"]


# --- where they are taken --------------------------------------------------------------------------

MASK = np.isin(np.arange(36), [3, 5])
#: Samples 3 and 5 of 36.
NAMED = {
    "list": [3, 5],
    "numbers of NumPy": [np.int64(3), np.int8(5)],
    "tuple": (3, 5),
    "range": range(3, 7, 2),
    "array": np.array([3, 5], np.uint16),
    "from the end": np.array([-33, -31]),
    "tensor": torch.tensor([3, 5]),
    "Series": pd.Series([3, 5], index=["a", "b"]),
    "Series that may lack values": pd.Series([3, 5], dtype="Int64"),
    "Index": pd.Index([3, 5]),
    "truth values": MASK,
    "list of truth values": MASK.tolist(),
    "tensor of truth values": torch.tensor(MASK),
    "Series of truth values": pd.Series(MASK),
    "Series of truth values that may lack some": pd.Series(MASK, dtype="boolean"),
}
NOT_NAMED = {
    "truth values among numbers": [True, 5],
    "too few truth values": [True, False],
    "one truth value": True,
    "floats": [3.0, 5.0],
    "text": "3",
    "a set": {3, 5},
    "nothing": None,
}


@pytest.mark.parametrize("name", NAMED)
def test_what_names_samples_does_so_everywhere(dataset: Path, name: str) -> None:
    index, ds = NAMED[name], open_dataset(dataset)
    expected = ds.image[[3, 5]]
    np.testing.assert_array_equal(ds.read(index).image, expected)
    np.testing.assert_array_equal(ds[index].image, expected)
    np.testing.assert_array_equal(next(ds.batches(2, indices=index)).image, expected)
    from fgbgpack.torch import FgBgDataset

    assert FgBgDataset(ds, indices=index).indices.tolist() == [3, 5]
    if not isinstance(index, tuple):
        np.testing.assert_array_equal(ds.image[index], expected)


@pytest.mark.parametrize("name", NOT_NAMED)
def test_what_names_no_samples_does_so_nowhere(dataset: Path, name: str) -> None:
    index, ds = NOT_NAMED[name], open_dataset(dataset)
    for action in (lambda: ds.read(index), lambda: ds[index], lambda: ds.image[index]):
        with pytest.raises(IndexError):
            action()


@pytest.mark.parametrize(
    "value",
    [
        [0, 2],
        range(0, 3, 2),
        np.array([0, 2]),
        torch.tensor([0, 2]),
        pd.Series([0, 2]),
        [True, False, True],
        np.array([True, False, True]),
        torch.tensor([True, False, True]),
        pd.Series([True, False, True], dtype="boolean"),
        ["b0.png", np.int64(2)],
        ["b0", "b2"],
        "b[02].png",
        "b[!1]*",
    ],
)
def test_conditions_take_numbers_names_and_truth_values(dataset: Path, value: Any) -> None:
    ds = open_dataset(dataset)
    found = ds.where(background=value)
    np.testing.assert_array_equal(found, np.flatnonzero(ds.placements.background != 1))


@pytest.mark.parametrize("value", [[True] * 4, [True, 2], True, 1.0, "b9", "*.jpg", [[0]], np.ones(36, bool)])
def test_conditions_that_name_nothing_are_refused(dataset: Path, value: Any) -> None:
    for options in ({"background": value}, {"foreground": value}):
        with refused(SpecError, "sample-unknown"):
            open_dataset(dataset).where(**options)


@pytest.mark.parametrize("value", ["yes", "", 1, [True], np.array([True])])
def test_flip_is_true_or_false(dataset: Path, value: Any) -> None:
    ds = open_dataset(dataset)
    for flip in TRUE:
        np.testing.assert_array_equal(ds.where(flip=flip), np.flatnonzero(ds.placements.flip))
    with refused(SpecError, "sample-unknown"):
        ds.where(flip=value)


def test_numbers_of_numpy_and_torch_are_taken_as_such(dataset: Path) -> None:
    ds = open_dataset(dataset)
    expected = next(ds.batches(8, shuffle=True, seed=3, epoch=2, window=4)).foreground.tolist()
    for kind in (np.int64, torch.tensor):
        options = {"seed": kind(3), "epoch": kind(2), "window": kind(4)}
        assert next(ds.batches(kind(8), shuffle=True, **options)).foreground.tolist() == expected
        spec = DatasetSpec(backgrounds="a", foregrounds="b", width=kind(64), placements=kind(3))
        assert spec.to_dict()["width"] == 64
        assert type(spec.to_dict()["placements"]) is int
        for fraction in (np.float32(0.5), Fraction(1, 2)):
            parts = ds.split({"a": fraction, "b": 0.5}, by="sample", seed=kind(5))
            assert [len(samples) for samples in parts.values()] == [18, 18]
    for options in ({"size": 2.5}, {"size": True}, {"size": "8"}, {"seed": 1.0}, {"shuffle": "no"}):
        with refused(SpecError, "option-invalid"):
            ds.batches(**({"size": 8} | options))
    for parts in ({"a": True}, {"a": "0.5"}, {"a": 0}):
        with refused(SpecError, "split-invalid"):
            ds.split(parts)


def test_numbers_of_numpy_and_torch_in_loaders(dataset: Path) -> None:
    from fgbgpack.torch import make_loader

    whole = {"workers": 0, "prefetch": 2, "window": 4, "lanes": 2, "seed": 3, "rank": 0, "world_size": 1}
    expected = next(iter(make_loader(dataset, 8, **whole)))["index"].tolist()
    for kind in (np.int64, torch.tensor):
        loader = make_loader(dataset, kind(8), **{name: kind(value) for name, value in whole.items()})
        assert next(iter(loader))["index"].tolist() == expected
        loader.set_epoch(kind(4))
        assert {type(value) for value in loader.state_dict().values()} <= {int, str, bool, type(None)}
        assert loader.epoch == 4
    for options in (
        {"workers": -1},
        {"workers": "2"},
        {"prefetch": -1},
        {"prefetch": 0, "workers": 1},
        {"shuffle": "no"},
        {"placements": 1},
    ):
        with refused(SpecError, "option-invalid"):
            make_loader(dataset, 8, **({"workers": 0} | options))
