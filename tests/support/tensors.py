"""Batches of tensors compared with the arrays of their dataset, and a transform that workers can import."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

#: Of the dataset in tests/torch/conftest.py.
SAMPLES = 120
CHUNK = 5


def indices_of(batches: Any) -> list[int]:
    return [i for batch in batches for i in batch["index"].tolist()]


def bytes_of(batch: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in batch.items()}


def check(batch: dict[str, torch.Tensor], truth: dict[str, np.ndarray]) -> None:
    """A batch has the dataset's bytes."""
    index = batch["index"].numpy()
    image, mask, depth = (batch[name].numpy() for name in ("image", "mask", "depth"))
    np.testing.assert_array_equal(image.transpose(0, 2, 3, 1), truth["image"][index])
    np.testing.assert_array_equal(mask[:, 0], truth["mask"][index])
    np.testing.assert_array_equal(depth[:, 0], truth["depth"][index])


def crop_by_index(sample: dict[str, Any]) -> dict[str, Any]:
    """Cut another part out of each sample, and add where it was."""
    left = int(sample["index"]) % 7
    cut = {name: sample[name][:, 2:10, left : left + 12] for name in ("image", "mask", "depth")}
    return cut | {"index": sample["index"], "left": left, "name": f"sample {int(sample['index'])}"}


def check_cropped(batch: dict[str, Any], truth: dict[str, np.ndarray]) -> None:
    assert batch["image"].shape[1:] == (3, 8, 12)
    assert batch["left"].tolist() == [i % 7 for i in batch["index"].tolist()]
    assert batch["name"] == [f"sample {i}" for i in batch["index"].tolist()]
    for row, (i, left) in enumerate(zip(batch["index"].tolist(), batch["left"].tolist(), strict=True)):
        corner = np.s_[2:10, left : left + 12]
        np.testing.assert_array_equal(batch["image"][row].permute(1, 2, 0), truth["image"][i][corner])
        np.testing.assert_array_equal(batch["mask"][row, 0], truth["mask"][i][corner])
        np.testing.assert_array_equal(batch["depth"][row, 0], truth["depth"][i][corner])
